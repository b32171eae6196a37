use super::*;
use crate::sink::forward::{Ticket, samples};

const LIMITS: Limits = Limits { links: 4, queue: 64 << 20, timeout: Duration::from_secs(2) };

const FINE: Answer = code(0);

const fn code(code: i16) -> Answer {
    Answer::Answered { code, base_offset: 0, log_append_time_ms: -1, log_start_offset: 0 }
}

/// A plan, its time, and what it wanted done.
struct Stage {
    plan: Plan,
    now: Instant,
    done: Vec<Action>,
}

impl Stage {
    /// A plan that knows brokers 1 and 2: partitions below 50 are led by 1, the others by 2.
    fn new(limits: Limits) -> Self {
        let mut stage = Self { plan: Plan::new(limits), now: Instant::now(), done: Vec::new() };
        stage.plan.want_refresh_of(&topic("t"), stage.now);
        stage.learn(1, 2);
        stage.done.clear();
        stage
    }

    fn learn(&mut self, low: Node, high: Node) {
        let leaders = (0..100).map(|partition| (partition, if partition < 50 { low } else { high })).collect();
        let brokers = vec![(1, address(9001)), (2, address(9002))];
        self.plan.begin_refresh(self.now);
        self.plan.learn(&[topic("t")], Learned { brokers, topics: vec![(topic("t"), leaders)] }, self.now);
        self.look();
    }

    fn look(&mut self) {
        self.done.extend(self.plan.take_actions());
    }

    fn later(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.plan.tick(self.now);
        self.look();
    }

    fn send(&mut self, partition: i32, bytes: usize) -> Ticket {
        self.send_batch(partition, samples::batch(bytes))
    }

    fn send_batch(&mut self, partition: i32, batch: RecordBatch) -> Ticket {
        let (parcel, told) = Parcel::new((topic("t"), partition), batch, self.now);
        self.plan.add(parcel, self.now);
        self.look();
        Ticket(told)
    }

    /// The connection that the plan wants opened.
    fn opening(&mut self) -> Link {
        let at = self.done.iter().position(|action| matches!(action, Action::Open { .. })).expect("a connection is wanted");
        let Action::Open { link, .. } = self.done.remove(at) else { unreachable!() };
        link
    }

    fn open(&mut self) -> Link {
        let link = self.opening();
        self.plan.opened(link, self.now);
        self.look();
        link
    }

    /// The request that the plan wants written: over which connection, and its partitions.
    fn request(&mut self) -> (Link, Vec<i32>) {
        let at = self.done.iter().position(|action| matches!(action, Action::Send { .. })).expect("a request is wanted");
        let Action::Send { link, pieces } = self.done.remove(at) else { unreachable!() };
        (link, pieces.iter().map(|piece| piece.partition).collect())
    }

    fn requests(&self) -> usize {
        self.done.iter().filter(|action| matches!(action, Action::Send { .. })).count()
    }

    fn answer(&mut self, link: Link, answers: &[Answer]) {
        self.plan.answered(link, answers.to_vec(), false, self.now);
        self.look();
    }

    fn gone(&mut self, link: Link, loss: Loss) -> Change {
        let change = self.plan.gone(link, &loss, 1.0, self.now);
        self.look();
        change
    }
}

impl Ticket {
    fn told(&mut self) -> Option<Answer> {
        self.0.try_recv().ok()
    }
}

fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a topic")
}

fn address(port: i32) -> Address {
    Address::new("127.0.0.1", port).expect("an address")
}

fn broken(written: bool) -> Loss {
    Loss::Broken { fault: Fault::Lost(std::io::ErrorKind::ConnectionReset), written }
}

#[test]
fn nothing_is_opened_before_the_first_batch_and_what_waits_meanwhile_leaves_as_one_request() {
    let mut stage = Stage::new(LIMITS);
    assert!(stage.done.is_empty());
    let mut tickets: Vec<_> = [0, 1, 0, 2].into_iter().map(|partition| stage.send(partition, 10)).collect();
    assert_eq!(stage.done.len(), 1, "one connection at a time");
    let link = stage.open();
    assert_eq!(stage.request(), (link, vec![0, 1, 2]), "each partition once");
    stage.answer(link, &[code(0), code(0), code(10)]);
    assert_eq!(stage.request(), (link, vec![0]), "and the second of a partition behind its first");
    stage.answer(link, &[FINE]);
    let told: Vec<_> = tickets.iter_mut().map(Ticket::told).collect();
    assert_eq!(told, [Some(FINE), Some(FINE), Some(FINE), Some(code(10))]);
    assert!(!stage.plan.has_waiting() && stage.plan.lines.is_empty(), "nothing is left");
}

#[test]
fn a_partition_has_one_batch_on_its_way_and_others_take_another_connection() {
    let mut stage = Stage::new(LIMITS);
    let _first = stage.send(0, 10);
    let one = stage.open();
    assert_eq!(stage.request().1, [0]);
    let (_second, _other) = (stage.send(0, 10), stage.send(1, 10));
    let two = stage.open();
    assert_eq!(stage.request(), (two, vec![1]));
    assert!(stage.done.is_empty(), "partition 0 waits for its answer, however many connections are free");
    stage.answer(two, &[FINE]);
    assert_eq!(stage.requests(), 0);
    stage.answer(one, &[FINE]);
    assert_eq!(stage.request().1, [0]);
}

#[test]
fn connections_are_opened_on_demand_up_to_their_number() {
    let mut stage = Stage::new(Limits { links: 2, ..LIMITS });
    let _tickets: Vec<_> = (0..2)
        .map(|partition| {
            let ticket = stage.send(partition, 10);
            stage.open();
            ticket
        })
        .collect();
    assert_eq!((stage.request().1, stage.request().1), (vec![0], vec![1]));
    let _waits = stage.send(2, 10);
    assert!(stage.done.is_empty(), "two are all");
    let _elsewhere = stage.send(50, 10);
    assert_eq!(stage.opening().node, 2, "another broker has its own");
}

#[test]
fn a_request_is_at_most_a_mebibyte_and_a_larger_batch_goes_alone() {
    let mut stage = Stage::new(LIMITS);
    let sizes = [600_000, 600_000, 10, 3_000_000, 10];
    let _tickets: Vec<_> = sizes.iter().zip(0..).map(|(bytes, partition)| stage.send(partition, *bytes)).collect();
    let link = stage.open();
    for expected in [vec![0], vec![1, 2], vec![3], vec![4]] {
        let (_, partitions) = stage.request();
        assert_eq!(partitions, expected);
        stage.answer(link, &vec![FINE; partitions.len()]);
    }
}

#[test]
fn what_was_not_written_goes_another_way_and_what_was_is_unknown() {
    let mut stage = Stage::new(LIMITS);
    let (mut first, mut second) = (stage.send(0, 10), stage.send(0, 10));
    let one = stage.open();
    stage.request();
    stage.gone(one, broken(false));
    assert_eq!(first.told(), None);
    stage.later(50);
    let two = stage.open();
    assert_eq!(stage.request(), (two, vec![0]));
    stage.gone(two, broken(true));
    assert_eq!(first.told(), Some(Answer::Unknown("connection")));
    assert_eq!(second.told(), Some(Answer::NotSent("behind")), "it must not overtake the one that will be sent again");
}

#[test]
fn batches_of_other_producers_need_not_wait_for_one_that_failed() {
    for answer in [Some(code(45)), None] {
        let mut stage = Stage::new(LIMITS);
        let _first = stage.send_batch(0, samples::batch_of(1, 10));
        let mut same = stage.send_batch(0, samples::batch_of(1, 10));
        let mut other = stage.send_batch(0, samples::batch_of(2, 10));
        let link = stage.open();
        stage.request();
        match answer {
            Some(answer) => stage.answer(link, &[answer]),
            None => drop(stage.gone(link, broken(true))),
        }
        assert_eq!((same.told(), other.told()), (Some(Answer::NotSent("behind")), None));
        stage.later(50);
        if answer.is_none() {
            stage.open();
        }
        assert_eq!(stage.request().1, [0]);
    }
}

#[test]
fn batches_of_one_partition_keep_their_order_when_they_are_put_back() {
    let mut stage = Stage::new(LIMITS);
    let _tickets: Vec<_> = [1, 2, 3].into_iter().map(|bytes| stage.send(0, bytes)).collect();
    let mut sizes = Vec::new();
    let link = stage.open();
    stage.request();
    stage.gone(link, broken(false));
    stage.later(50);
    let link = stage.open();
    for _ in 0..3 {
        let at = stage.done.iter().position(|action| matches!(action, Action::Send { .. })).expect("a request");
        let Action::Send { pieces, .. } = stage.done.remove(at) else { unreachable!() };
        sizes.push(pieces[0].batch.bytes().len());
        stage.answer(link, &[FINE]);
    }
    assert_eq!(sizes, [1, 2, 3].map(|value| samples::batch(value).bytes().len()));
}

#[test]
fn whoever_waits_too_long_is_told_what_for() {
    let mut stage = Stage::new(Limits { links: 1, ..LIMITS });
    let mut homeless = stage.send(1_000, 10);
    assert!(stage.done.contains(&Action::Refresh));
    let mut unreachable = stage.send(50, 10);
    let to_two = stage.opening();
    assert_eq!(stage.gone(to_two, Loss::Unreachable(Fault::Silence)), Change::Down);
    let mut in_flight = stage.send(0, 10);
    stage.open();
    let mut stalled = stage.send(1, 10);
    stage.later(1_999);
    assert_eq!([&mut homeless, &mut unreachable, &mut stalled].map(Ticket::told), [None; 3]);
    stage.later(1);
    assert_eq!(homeless.told(), Some(Answer::NotSent("no_leader")));
    assert_eq!(unreachable.told(), Some(Answer::NotSent("connection")));
    assert_eq!(stalled.told(), Some(Answer::NotSent("stalled")));
    assert_eq!(in_flight.told(), None, "it was written: its connection says when it is over");
    assert!(!stage.plan.has_waiting());
}

#[test]
fn a_broker_that_cannot_be_reached_is_tried_again_at_growing_intervals_and_said_once() {
    let mut stage = Stage::new(LIMITS);
    let mut attempts = 0;
    let (mut changes, mut tickets) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        tickets.push(stage.send(0, 10));
        stage.later(25);
        if stage.done.iter().any(|action| matches!(action, Action::Open { .. })) {
            attempts += 1;
            let link = stage.opening();
            changes.push(stage.gone(link, Loss::Unreachable(Fault::Silence)));
        }
    }
    assert!((8..=16).contains(&attempts), "{attempts} attempts in 10 s");
    assert_eq!(changes.iter().filter(|change| **change == Change::Down).count(), 1);
    stage.later(1_000);
    let link = stage.opening();
    assert_eq!(stage.plan.opened(link, stage.now), Change::Up);
}

#[test]
fn a_leader_that_is_none_is_asked_about_and_nobody_is_sent_there_meanwhile() {
    for code_of_a_move in [3, 5, 6] {
        let mut stage = Stage::new(LIMITS);
        let mut first = stage.send(0, 10);
        let link = stage.open();
        stage.request();
        stage.answer(link, &[code(code_of_a_move)]);
        assert_eq!(first.told(), Some(code(code_of_a_move)), "the broker's own words");
        assert_eq!(stage.done, [Action::Refresh]);
        let _second = stage.send(0, 10);
        assert_eq!(stage.requests(), 0);
        stage.learn(2, 2);
        let moved = stage.open();
        assert_eq!((stage.request(), moved.node), ((moved, vec![0]), 2));
    }
}

#[test]
fn what_waits_for_an_old_leader_goes_to_the_new_one() {
    let mut stage = Stage::new(LIMITS);
    let _ticket = stage.send(0, 10);
    let old = stage.opening();
    stage.learn(2, 2);
    let new = stage.open();
    assert_eq!((new.node, stage.request().1), (2, vec![0]));
    stage.plan.opened(old, stage.now);
    stage.look();
    assert_eq!(stage.requests(), 0, "once");
}

#[test]
fn a_broker_that_moves_is_reached_at_its_new_place_only() {
    let mut stage = Stage::new(LIMITS);
    let _first = stage.send(0, 10);
    let old = stage.open();
    stage.request();
    let _waits = stage.send(0, 10);
    let brokers = vec![(1, address(9009))];
    stage.plan.learn(&[topic("t")], Learned { brokers, topics: vec![(topic("t"), vec![(0, 1)])] }, stage.now);
    stage.look();
    stage.answer(old, &[FINE]);
    assert!(stage.done.contains(&Action::Close { link: old }));
    let at = stage.done.iter().position(|action| matches!(action, Action::Open { .. })).expect("a new connection");
    assert!(matches!(&stage.done[at], Action::Open { address, .. } if address.port == 9009));
}

#[test]
fn who_was_not_answered_in_time_travels_alone_until_it_is() {
    let mut stage = Stage::new(LIMITS);
    let _tickets = [stage.send(0, 10), stage.send(1, 10)];
    let link = stage.open();
    assert_eq!(stage.request().1, [0, 1]);
    stage.gone(link, Loss::Broken { fault: Fault::Silence, written: true });
    let _tickets = [stage.send(0, 10), stage.send(2, 10), stage.send(1, 10), stage.send(3, 10)];
    stage.later(100);
    let link = stage.open();
    assert_eq!(stage.request().1, [0], "alone");
    stage.answer(link, &[FINE]);
    assert_eq!(stage.request().1, [2, 3], "those who were not there travel together");
    stage.answer(link, &[FINE, FINE]);
    assert_eq!(stage.request().1, [1]);
    stage.answer(link, &[FINE]);
    let _tickets = [stage.send(4, 10), stage.send(0, 10), stage.send(1, 10)];
    assert_eq!(stage.request().1, [4]);
    stage.answer(link, &[FINE]);
    assert_eq!(stage.request().1, [0, 1], "and together again");
}

#[test]
fn a_slow_partition_is_told_by_the_broker_and_leaves_connections_to_others() {
    let mut stage = Stage::new(Limits { links: 2, ..LIMITS });
    let _tickets: Vec<_> = (0..4).map(|partition| stage.send(partition, 10)).collect();
    let one = stage.open();
    stage.request();
    stage.now += Duration::from_millis(1_750);
    stage.answer(one, &[code(7), code(7), FINE, FINE]);
    let _tickets: Vec<_> = (0..4).map(|partition| stage.send(partition, 10)).collect();
    assert_eq!(stage.request(), (one, vec![0]));
    let two = stage.open();
    assert_eq!(stage.request(), (two, vec![2, 3]), "one of two connections is for the slow ones");
    stage.answer(two, &[FINE, FINE]);
    assert_eq!(stage.requests(), 0);
    stage.answer(one, &[code(7)]);
    assert_eq!(stage.request().1, [1]);
}

#[test]
fn a_full_queue_refuses_and_an_answer_makes_room() {
    let mut stage = Stage::new(Limits { queue: 200, ..LIMITS });
    let _first = stage.send(0, 60);
    assert_eq!(stage.send(1, 60).told(), Some(Answer::NotSent("queue_full")));
    stage.open();
    let mut third = stage.send(1, 60);
    assert_eq!(third.told(), None);
    assert_eq!(stage.plan.waiting_bytes(), samples::batch(60).bytes().len());
}

#[test]
fn a_throttled_connection_rests() {
    let mut stage = Stage::new(Limits { links: 1, ..LIMITS });
    let _first = stage.send(0, 10);
    let link = stage.open();
    stage.request();
    let _second = stage.send(0, 10);
    stage.plan.answered(link, vec![FINE], true, stage.now);
    stage.look();
    assert_eq!(stage.requests(), 0);
    stage.plan.rested(link, stage.now);
    stage.look();
    assert_eq!(stage.request(), (link, vec![0]));
}

#[test]
fn at_the_end_what_waits_is_told_and_what_was_written_is_waited_for() {
    let mut stage = Stage::new(Limits { links: 1, ..LIMITS });
    let mut written = stage.send(0, 10);
    let link = stage.open();
    stage.request();
    let mut waits = stage.send(0, 10);
    stage.plan.close();
    stage.look();
    assert_eq!(waits.told(), Some(Answer::NotSent("draining")));
    assert_eq!(stage.send(1, 10).told(), Some(Answer::NotSent("draining")));
    stage.answer(link, &[FINE]);
    assert_eq!(written.told(), Some(FINE));
    assert!(stage.done.contains(&Action::Close { link }) && !stage.plan.has_waiting());
}

#[test]
fn whatever_happens_every_batch_is_told_exactly_once() {
    let mut random = 1_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for _ in 0..50 {
        let mut stage = Stage::new(Limits { links: 3, queue: 5_000, ..LIMITS });
        let (mut tickets, mut opening, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..600 {
            for action in std::mem::take(&mut stage.done) {
                match action {
                    Action::Open { link, .. } => opening.push(link),
                    Action::Send { link, pieces } => {
                        assert!(busy.iter().all(|(other, _)| *other != link), "one request at a time");
                        let on_the_way = busy.iter().flat_map(|(_, pieces): &(Link, Vec<Piece>)| pieces);
                        let all: Vec<i32> = on_the_way.chain(&pieces).map(|piece| piece.partition).collect();
                        let mut distinct = all.clone();
                        distinct.sort_unstable();
                        distinct.dedup();
                        assert_eq!(distinct.len(), all.len(), "one batch of a partition at a time");
                        busy.push((link, pieces));
                    }
                    Action::Close { .. } | Action::Refresh => {}
                }
            }
            match next(8) {
                0..=3 => tickets.push(stage.send(next(8) as i32 * 13, 1 + next(400) as usize)),
                4 if !opening.is_empty() => {
                    let link = opening.swap_remove(next(opening.len() as u64) as usize);
                    if next(4) == 0 {
                        stage.gone(link, Loss::Unreachable(Fault::Silence));
                    } else {
                        stage.plan.opened(link, stage.now);
                        stage.look();
                    }
                }
                5 | 6 if !busy.is_empty() => {
                    let (link, pieces) = busy.swap_remove(next(busy.len() as u64) as usize);
                    match next(6) {
                        0 => drop(stage.gone(link, broken(true))),
                        1 => drop(stage.gone(link, broken(false))),
                        2 => stage.answer(link, &vec![code(next(8) as i16); pieces.len()]),
                        _ => stage.answer(link, &vec![FINE; pieces.len()]),
                    }
                }
                7 => stage.later(next(120)),
                _ => stage.learn(1 + next(2) as i32, 1 + next(2) as i32),
            }
        }
        stage.plan.close();
        let last = std::mem::take(&mut stage.done)
            .into_iter()
            .filter_map(|action| if let Action::Send { link, .. } = action { Some(link) } else { None });
        for link in busy.into_iter().map(|(link, _)| link).chain(last) {
            stage.gone(link, broken(true));
        }
        for (at, ticket) in tickets.iter_mut().enumerate() {
            // A second answer cannot be: the parcel is used up by the first.
            assert!(ticket.told().is_some(), "batch {at} was told nothing");
        }
        assert_eq!((stage.plan.waiting, stage.plan.waiting_bytes), (0, 0));
    }
}
