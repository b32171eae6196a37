//! Each rule with a bug planted against it.

use std::time::Duration;

use super::super::log::{Attempt, History, Line, Outcome, sha256};
use super::{Found, Place, Verdict, check};

const DEADLINE: Duration = Duration::from_secs(3);

fn value(number: u64) -> String {
    sha256(format!("value {number}").as_bytes())
}

fn attempt(number: u64) -> Attempt {
    Attempt {
        door: "https".to_owned(),
        principal: Some("sender".to_owned()),
        topic: "t".to_owned(),
        key: Some("k".to_owned()),
        id: Some(format!("c{number}")),
        sequence: Some(number),
    }
}

fn ack(number: u64) -> Outcome {
    Outcome::Ack { id: format!("0123456789ab.c{number}"), inbox: number.is_multiple_of(2) }
}

/// Twenty attempts of one sender, one a second, each accepted after a millisecond, and the broker as it should be then.
fn honest() -> (History, Vec<Found>) {
    let (mut history, mut found) = (History::default(), Vec::new());
    for number in 0..20 {
        let at = number * 1_000_000;
        history.add(Line::Attempt { sha256: value(number), at, attempt: attempt(number) }).expect("a new value");
        answer(&mut history, number, at + 1_000, ack(number));
        history.add(Line::Replayed { at: at + 2_000 }).expect("no other line is needed");
        let place = Place::Broker { partition: 0, offset: i64::try_from(number).expect("small") };
        let id = format!("0123456789ab.c{number}");
        found.push(Found { topic: "t".to_owned(), place, id, key: Some("k".to_owned()), sha256: value(number) });
    }
    (history, found)
}

fn answer(history: &mut History, number: u64, at: u64, outcome: Outcome) {
    history.add(Line::Outcome { sha256: value(number), at, stalled: 0, outcome }).expect("its attempt is there");
}

fn window(history: &mut History, from: u64, to: u64) {
    history.add(Line::Broken { fault: "broker".to_owned(), at: from }).expect("well before");
    history.add(Line::Healed { fault: "broker".to_owned(), at: to }).expect("broken before");
}

/// The verdict when a bug was planted.
fn after(plant: impl FnOnce(&mut History, &mut Vec<Found>)) -> Verdict {
    let (mut history, mut found) = honest();
    plant(&mut history, &mut found);
    check(&history, &found, DEADLINE)
}

/// How many offenders each rule has, in their order.
fn offenders(plant: impl FnOnce(&mut History, &mut Vec<Found>)) -> [usize; 10] {
    after(plant).rules().map(|(_, offenders)| offenders.len())
}

fn again(found: &mut Vec<Found>, number: usize) {
    found.push(Found { place: Place::Broker { partition: 0, offset: 20 }, ..found[number].clone() });
}

#[test]
fn an_honest_broker_is_clean() {
    let verdict = after(|_, _| ());
    assert!(verdict.is_clean(), "{}", verdict.table());
    assert_eq!((verdict.acked, verdict.by_inbox, verdict.duplicates, verdict.unknown, verdict.records), (20, 10, 0, 0, 20));
}

#[test]
fn one_dropped_event_is_lost_unless_the_inbox_or_the_poison_table_has_it() {
    assert_eq!(offenders(|_, found| drop(found.remove(7))), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(offenders(|_, found| found[7].place = Place::Inbox), [0; 10]);
    assert_eq!(offenders(|_, found| found[7].place = Place::Poison), [0; 10]);
}

#[test]
fn a_flipped_bit_is_a_mismatch_and_a_loss_and_with_another_id_a_stranger() {
    assert_eq!(offenders(|_, found| found[4].sha256 = value(99)), [1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    let both = |_: &mut History, found: &mut Vec<Found>| (found[4].sha256, found[4].id) = (value(99), "another".to_owned());
    assert_eq!(offenders(both), [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_swapped_topic_key_or_id_is_a_mismatch() {
    let planted: [fn(&mut Found); 4] = [
        |found| "other".clone_into(&mut found.topic),
        |found| found.key = Some("other".to_owned()),
        |found| found.key = None,
        |found| "0123456789ab.c9".clone_into(&mut found.id),
    ];
    for (number, plant) in planted.into_iter().enumerate() {
        assert!(!after(|_, found| plant(&mut found[19])).mismatched.is_empty(), "bug {number}");
    }
    let one_id = |history: &mut History, _: &mut Vec<Found>| answer(history, 0, 1_000, ack(1));
    assert!(!after(one_id).mismatched.is_empty());
}

/// Kafka and OTLP acknowledge without naming what they have taken: the value alone tells one from another.
#[test]
fn a_door_that_gives_no_ids_is_held_to_its_values() {
    let nameless = |history: &mut History, found: &mut Vec<Found>| {
        for (number, found) in (0..).zip(found) {
            let story = history.stories.get_mut(&value(number)).expect("an attempt");
            story.attempt.id = None;
            let answer = story.answer.as_mut().expect("an answer");
            answer.outcome = Outcome::Ack { id: String::new(), inbox: false };
            found.id = if number % 2 == 0 { String::new() } else { format!("made-by-the-gate-{number}") };
        }
    };
    assert_eq!(offenders(nameless), [0; 10]);
    let lost_one = |history: &mut History, found: &mut Vec<Found>| {
        nameless(history, found);
        found.remove(7);
    };
    assert_eq!(offenders(lost_one), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let flipped = |history: &mut History, found: &mut Vec<Found>| {
        nameless(history, found);
        found[4].sha256 = value(99);
    };
    assert_eq!(offenders(flipped), [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], "without a name it is a stranger");
}

#[test]
fn a_copy_is_explained_by_what_was_broken_while_the_event_was_on_its_way_and_by_nothing_else() {
    assert_eq!(offenders(|_, found| again(found, 3)), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let broken = |from, to, number| {
        move |history: &mut History, found: &mut Vec<Found>| {
            window(history, from, to);
            again(found, number);
        }
    };
    let verdict = after(broken(2_500_000, 3_000_500, 3));
    assert!(verdict.is_clean(), "{}", verdict.table());
    assert_eq!((verdict.duplicates, verdict.most_copies, verdict.records), (1, 2, 21));
    assert_eq!(offenders(broken(5_000_000, 6_000_000, 3))[5], 1, "long after the broker had it");
    assert_eq!(offenders(broken(2_001_500, 2_001_600, 2))[5], 0, "the inbox had it still");
    assert_eq!(offenders(broken(2_900_000, 2_950_000, 2))[5], 1, "the inbox had it no more");
}

#[test]
fn a_record_before_one_that_was_acknowledged_earlier_is_out_of_order() {
    let swap = |_: &mut History, found: &mut Vec<Found>| {
        (found[10].place, found[11].place) = (found[11].place.clone(), found[10].place.clone());
    };
    assert_eq!(offenders(swap)[6], 1);
    let elsewhere = |_: &mut History, found: &mut Vec<Found>| found[19].place = Place::Broker { partition: 1, offset: 19 };
    assert_eq!(offenders(elsewhere)[6], 1);
}

#[test]
fn what_was_refused_for_good_must_not_be_found_and_what_may_come_again_may() {
    let refused = |code: &'static str| {
        move |history: &mut History, _: &mut Vec<Found>| answer(history, 2, 2_001_000, Outcome::Reject { code: code.to_owned() })
    };
    assert_eq!(offenders(refused("denied")), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(offenders(refused("unavailable")), [0; 10]);
    assert_eq!(offenders(refused("internal")), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn what_came_with_a_refused_credential_must_be_neither_found_nor_accepted() {
    let outsider = |found: bool, outcome: Outcome| {
        move |history: &mut History, all: &mut Vec<Found>| {
            history.stories.get_mut(&value(5)).expect("it was attempted").attempt.principal = None;
            answer(history, 5, 5_001_000, outcome);
            if !found {
                all.remove(5);
            }
        }
    };
    let refused = || Outcome::Reject { code: "unauthenticated".to_owned() };
    assert_eq!(offenders(outsider(false, refused())), [0; 10]);
    assert_eq!(after(outsider(true, refused())).outsiders.len(), 1);
    assert_eq!(after(outsider(false, ack(5))).outsiders.len(), 1);
}

#[test]
fn an_answer_that_is_late_or_missing_is_one_unless_the_machine_or_a_fault_held_it_up() {
    let late = |stalled| {
        move |history: &mut History, _: &mut Vec<Found>| {
            history.add(Line::Outcome { sha256: value(3), at: 7_000_000, stalled, outcome: ack(3) }).expect("attempted");
        }
    };
    assert_eq!(offenders(late(0)), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(offenders(late(1_500_000)), [0; 10]);
    let cut_off = |history: &mut History| answer(history, 3, 3_001_000, Outcome::Unknown { why: "reset".to_owned() });
    assert_eq!(offenders(|history, _| cut_off(history)), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let killed = |history: &mut History, _: &mut Vec<Found>| {
        cut_off(history);
        window(history, 3_000_500, 4_000_000);
    };
    assert_eq!(offenders(killed), [0; 10]);
    let hung = |history: &mut History, _: &mut Vec<Found>| {
        history.stories.get_mut(&value(3)).expect("it was attempted").answer = None;
        window(history, 3_000_500, 4_000_000);
    };
    assert_eq!(offenders(hung), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_log_is_read_back_as_it_was_written_and_what_makes_no_sense_is_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("attempts.jsonl");
    let log = super::super::log::Log::create(&path);
    log.write(&Line::Attempt { sha256: value(1), at: log.now(), attempt: attempt(1) });
    log.write(&Line::Broken { fault: "broker".to_owned(), at: 5 });
    log.write(&Line::Outcome { sha256: value(1), at: 7, stalled: 2, outcome: ack(1) });
    let history = History::read(&path).expect("a log");
    let story = &history.stories[&value(1)];
    assert_eq!((&story.attempt, history.windows.as_slice()), (&attempt(1), &[(5, u64::MAX)][..]));
    assert_eq!(story.answer.as_ref().map(|answer| (answer.at, answer.stalled, answer.outcome.clone())), Some((7, 2, ack(1))));
    log.write(&Line::Healed { fault: "disk".to_owned(), at: 9 });
    assert!(History::read(&path).expect_err("nothing was broken").contains("attempts.jsonl:4: healed and never broken"));
}
