use std::sync::Arc;
use std::sync::atomic::Ordering;

use fs::value::ValueType;

use super::fake::{Bench, Step, plenty, routed};
use super::*;
use crate::auth::grants::Grants;
use crate::auth::{Principal, authorize};
use crate::event::{Door, Event, Origin, Topic};
use crate::inbox::Settlement;
use crate::inbox::firestore::Config;
use crate::inbox::firestore::client::Fault;
use crate::route::{self, Bounds, Documents, Holds, RouteConfig, Routed, Shape, Table};

const HELD: Option<Duration> = Some(Duration::from_secs(5));

fn exhausted() -> Fault {
    Fault::Exhausted("too much".to_owned())
}

fn unreachable() -> Fault {
    Fault::Unreachable("away".to_owned())
}

/// A command whose document is in the collection `commands`.
fn command(value: &'static str) -> Arc<Routed> {
    let row = RouteConfig { topic: "t".parse().expect("a grant"), shape: Shape::Command, ..RouteConfig::default() };
    let documents =
        Documents { source: "us".into(), command_collection: "commands".into(), collection: "inbox".into(), leases: "inbox_leases".into() };
    let table = Table::new(route::Config::default(), vec![row]).holding(Holds::Documents(documents));
    let principal = Principal::for_tests("firebase", "uid-1", Grants::new(["*".parse().expect("a grant")]));
    let topic = Topic::new("t").expect("a topic");
    let permit = authorize(&principal, &topic).expect("granted");
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    let origin = Origin { door: Door::Callable, arrived: std::time::SystemTime::now(), address, traceparent: None };
    let value = bytes::Bytes::from_static(value.as_bytes());
    let event = Event { topic, client_key: None, partition: None, items: 1, key: None, headers: Vec::new(), time: None, value };
    let routed = table.route(permit, &Bounds::default(), &origin, vec![event]).pop().expect("one result");
    Arc::new(routed.expect("routed"))
}

/// Lets the writer run until it waits for time or work.
async fn idle() {
    tokio::time::sleep(Duration::from_micros(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_writer_answers_one_event_after_one_round_trip() {
    let (bench, _) = Bench::at_work(&plenty());
    *bench.fake.delay.lock().expect("whole") = Duration::from_millis(10);
    let started = Instant::now();
    let (name, reply) = bench.event(1);
    assert_eq!(reply.await.expect("an answer").expect("stored").name, name.to_string());
    assert!(started.elapsed() < Duration::from_millis(12), "{:?}", started.elapsed());
    assert_eq!((bench.calls(), bench.gates.total(), bench.queue.bytes()), (vec![1], 1, 0));
    assert_eq!(bench.fake.field(&name, "instance"), Some(ValueType::StringValue("me".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_calls_are_under_way_goes_together_and_in_bounds() {
    let (bench, _) = Bench::at_work(&plenty());
    *bench.fake.delay.lock().expect("whole") = Duration::from_millis(20);
    let replies: Vec<_> = (0..5_000).map(|n| bench.event(n).1).collect();
    for reply in replies {
        reply.await.expect("an answer").expect("stored");
    }
    let calls = bench.calls();
    assert!(calls.len() < 50 && calls.iter().all(|writes| *writes <= 500), "{calls:?}");
    assert_eq!((bench.documents(), bench.gates.total(), bench.tally.stored()), (5_000, 5_000, 5_000));
}

#[tokio::test(start_paused = true)]
async fn large_events_share_a_call_only_up_to_its_bytes() {
    let (bench, _) = Bench::at_work(&plenty());
    let replies: Vec<_> = (0..7).map(|n| bench.put(&routed(n, 900 << 10), None)).collect();
    for reply in replies {
        reply.await.expect("an answer").expect("stored");
    }
    assert!(bench.fake.sizes.lock().expect("whole").iter().all(|bytes| *bytes <= MAX_CALL_BYTES));
    assert_eq!(bench.calls().iter().sum::<usize>(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_report_comes_after_its_row_and_opens_its_gate() {
    let (bench, _) = Bench::at_work(&plenty());
    *bench.fake.delay.lock().expect("whole") = Duration::from_millis(10);
    let event = routed(1, 10);
    let reply = bench.put(&event, HELD);
    bench.settle(event.name(), Settlement::Delivered);
    reply.await.expect("an answer").expect("stored");
    assert_eq!(bench.gates.total(), 1);
    tokio::time::sleep(Duration::from_millis(15)).await;
    let name = bench.fake.name("inbox", &event.name().to_string());
    assert_eq!(*bench.fake.calls.lock().expect("whole"), [vec![name.clone()], vec![format!("-{name}")]]);
    assert_eq!((bench.documents(), bench.gates.total(), bench.tally.held()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_its_producer_has_given_up_is_ready_and_what_may_be_delivered_stays_so() {
    let (bench, _) = Bench::at_work(&plenty());
    let (given_up, doubtful) = (routed(1, 10), routed(2, 10));
    for (event, maybe) in [(&given_up, false), (&doubtful, true)] {
        bench.put(event, HELD).await.expect("an answer").expect("stored");
        assert!(matches!(bench.fake.field(&event.name(), "not_before"), Some(ValueType::IntegerValue(at)) if at > 0));
        bench.settle(event.name(), Settlement::NotDelivered { maybe });
        idle().await;
        assert_eq!(bench.fake.field(&event.name(), "not_before"), Some(ValueType::IntegerValue(0)));
        assert_eq!(bench.fake.field(&event.name(), "maybe_delivered"), Some(ValueType::BooleanValue(maybe)));
    }
    assert_eq!(bench.gates.total(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_of_a_row_that_is_not_known_asks_nothing() {
    let (bench, _) = Bench::at_work(&plenty());
    bench.settle(routed(1, 10).name(), Settlement::Delivered);
    idle().await;
    assert!(bench.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_somebody_else_has_deleted_is_not_paid_for_by_its_report() {
    let (bench, _) = Bench::at_work(&plenty());
    let event = routed(1, 10);
    bench.put(&event, HELD).await.expect("an answer").expect("stored");
    bench.fake.documents.lock().expect("whole").clear();
    bench.settle(event.name(), Settlement::Delivered);
    idle().await;
    assert_eq!(bench.gates.total(), 1);
    bench.books.seen(&bench.lane(), bench.books.mark(&bench.lane()), None);
    assert_eq!(bench.gates.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_what_its_reader_knows_gates_nothing_and_goes_when_it_was_delivered_late() {
    let (bench, _) = Bench::at_work(&plenty());
    let (delivered, given_up) = (command(r#"{"action":"a","n":1}"#), command(r#"{"action":"b"}"#));
    for event in [&delivered, &given_up] {
        bench.put(event, HELD).await.expect("an answer").expect("stored");
    }
    assert_eq!((bench.documents(), bench.gates.total()), (2, 0));
    let name = bench.fake.name("commands", &delivered.name().to_string());
    let mut fields: Vec<_> = bench.fake.documents.lock().expect("whole")[&name].fields.keys().cloned().collect();
    fields.sort();
    let mut known: Vec<_> =
        serde_json::from_slice::<serde_json::Map<_, _>>(delivered.value()).expect("an object").into_iter().map(|(key, _)| key).collect();
    known.push("source".to_owned());
    known.sort();
    assert_eq!(fields, known);
    bench.settle(given_up.name(), Settlement::NotDelivered { maybe: true });
    bench.settle(delivered.name(), Settlement::Delivered);
    idle().await;
    assert_eq!(
        bench.fake.documents.lock().expect("whole").keys().collect::<Vec<_>>(),
        [&bench.fake.name("commands", &given_up.name().to_string())]
    );
    assert_eq!((bench.calls().len(), bench.gates.total()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_firestore_that_is_away_is_offered_nothing_more_and_is_asked_whether_it_is_back() {
    let (bench, _) = Bench::at_work(&plenty());
    *bench.fake.always.lock().expect("whole") = Some(unreachable());
    let (_, reply) = bench.event(1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!bench.pacer.takes());
    drop(reply);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!bench.pacer.takes());
    *bench.fake.always.lock().expect("whole") = None;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(bench.pacer.takes());
    assert_eq!((bench.documents(), bench.gates.total()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_event_again_is_stored_once_and_its_gate_is_closed_until_its_lane_is_empty() {
    let (bench, _) = Bench::at_work(&plenty());
    let event = routed(1, 10);
    let replies = [bench.put(&event, None), bench.put(&event, None), bench.put(&event, None)];
    for reply in replies {
        reply.await.expect("an answer").expect("stored");
    }
    assert_eq!((bench.documents(), bench.calls()), (1, vec![1, 1, 1]));
    bench.books.gone(&bench.lane(), [u64::MAX]);
    assert!(bench.gates.total() > 0);
    bench.books.seen(&bench.lane(), bench.books.mark(&bench.lane()), None);
    assert_eq!(bench.gates.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_its_client_has_given_up_and_sends_again_is_waited_for_though_it_is_there_already() {
    let (bench, _) = Bench::at_work(&plenty());
    // It is stored, and the answer comes too late.
    bench.fake.steps.lock().expect("whole").push_back(Step::MadeAndFails(Fault::Slow));
    let event = routed(1, 10);
    drop(bench.put(&event, None));
    let reply = bench.put(&event, None);
    idle().await;
    drop(reply);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((bench.documents(), bench.gates.total()), (1, 0));
    bench.put(&event, None).await.expect("an answer").expect("stored");
    assert_eq!(bench.gates.total(), 1, "what comes next does not overtake it");
    // So is what another instance has stored.
    let other = routed(2, 10);
    bench.put(&other, None).await.expect("an answer").expect("stored");
    bench.books.seen(&bench.lane(), bench.books.mark(&bench.lane()), None);
    bench.put(&other, HELD).await.expect("an answer").expect("stored");
    assert_eq!(bench.gates.total(), 1);
    bench.settle(other.name(), Settlement::Delivered);
    idle().await;
    assert_eq!(bench.gates.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_tried_again_and_then_is_ours() {
    let (bench, _) = Bench::at_work(&plenty());
    bench.fake.steps.lock().expect("whole").extend([Step::MadeAndFails(Fault::Slow), Step::Fails(unreachable())]);
    let started = Instant::now();
    let (_, reply) = bench.event(1);
    reply.await.expect("an answer").expect("stored");
    assert_eq!(started.elapsed().as_millis(), 150, "50 ms, then 100 ms");
    assert_eq!((bench.documents(), bench.gates.total()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_waits_for_is_not_tried_or_given_up() {
    let (bench, _) = Bench::at_work(&plenty());
    drop(bench.event(1));
    idle().await;
    assert_eq!((bench.calls().len(), bench.gates.total(), bench.queue.bytes()), (0, 0, 0));
    *bench.fake.always.lock().expect("whole") = Some(unreachable());
    let (_, reply) = bench.event(2);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(bench.calls().len() >= 2 && bench.gates.total() == 1);
    drop(reply);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = bench.calls().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((bench.calls().len(), bench.gates.total(), bench.queue.bytes()), (calls, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_tried_for_a_minute() {
    let (bench, _) = Bench::at_work(&plenty());
    let (event, other) = (routed(1, 10), routed(2, 10));
    for event in [&event, &other] {
        bench.put(event, Some(Duration::from_secs(300))).await.expect("an answer").expect("stored");
    }
    *bench.fake.always.lock().expect("whole") = Some(unreachable());
    bench.settle(event.name(), Settlement::Delivered);
    tokio::time::sleep(Duration::from_secs(50)).await;
    bench.settle(other.name(), Settlement::Delivered);
    tokio::time::sleep(Duration::from_secs(15)).await;
    *bench.fake.always.lock().expect("whole") = None;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((bench.documents(), bench.gates.total()), (1, 1), "the first row stays, the second is gone");
}

#[tokio::test(start_paused = true)]
async fn too_much_backs_off_and_a_long_pause_refuses_at_once() {
    let (bench, _) = Bench::at_work(&plenty());
    bench.fake.steps.lock().expect("whole").push_back(Step::Fails(exhausted()));
    let started = Instant::now();
    bench.event(1).1.await.expect("an answer").expect("stored after the pause");
    assert_eq!(started.elapsed().as_millis(), 100);
    *bench.fake.always.lock().expect("whole") = Some(exhausted());
    let refused = bench.event(2).1.await.expect("an answer");
    assert_eq!((refused, bench.pacer.takes(), bench.gates.total()), (Err(StoreError::Busy), false, 1));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let again = Instant::now();
    assert_eq!(bench.event(3).1.await.expect("an answer"), Err(StoreError::Busy));
    assert_eq!(again.elapsed(), Duration::ZERO);
    *bench.fake.always.lock().expect("whole") = None;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.event(4).1.await.expect("an answer").expect("stored");
    assert!(bench.pacer.takes());
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_refuses_at_once_and_is_asked_about() {
    let (bench, _) = Bench::at_work(&plenty());
    *bench.fake.always.lock().expect("whole") = Some(Fault::Denied("no".to_owned()));
    assert_eq!(bench.event(1).1.await.expect("an answer"), Err(StoreError::Denied));
    assert!(!bench.pacer.takes() && bench.gates.total() == 0);
    assert_eq!(bench.event(2).1.await.expect("an answer"), Err(StoreError::Denied));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let probes = bench.calls().len();
    assert!((3..=5).contains(&probes), "{probes}");
    *bench.fake.always.lock().expect("whole") = None;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(bench.pacer.takes());
    bench.event(3).1.await.expect("an answer").expect("stored");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_only_too_old_shuts_for_no_longer_than_a_new_one_takes() {
    let (bench, _) = Bench::at_work(&plenty());
    let refused = || Step::Fails(Fault::Denied("too old".to_owned()));
    bench.fake.steps.lock().expect("whole").extend([refused(), Step::Made, refused()]);
    assert_eq!(bench.event(1).1.await.expect("an answer"), Err(StoreError::Denied));
    idle().await;
    assert!(bench.pacer.takes());
    // A Firestore that lets us ask and not write is not asked all the time.
    assert_eq!(bench.event(2).1.await.expect("an answer"), Err(StoreError::Denied));
    idle().await;
    assert!(!bench.pacer.takes());
    tokio::time::sleep(PROBE_AGAIN).await;
    assert!(bench.pacer.takes());
    bench.event(3).1.await.expect("an answer").expect("stored");
}

#[tokio::test(start_paused = true)]
async fn what_replay_has_heard_is_asked_about_though_nothing_is_stored() {
    let (bench, _) = Bench::at_work(&plenty());
    idle().await;
    bench.pacer.denied(&"replay may not delete");
    tokio::time::sleep(PROBE_EVERY + Duration::from_millis(1)).await;
    assert!(bench.pacer.takes());
}

#[tokio::test(start_paused = true)]
async fn one_event_that_firestore_never_takes_is_found_and_all_others_are_stored() {
    let (bench, _) = Bench::at_work(&plenty());
    // Until the first call is answered the others gather.
    *bench.fake.delay.lock().expect("whole") = Duration::from_millis(1);
    let culprit = routed(77, 10).name();
    *bench.fake.poison.lock().expect("whole") = Some(bench.fake.name("inbox", &culprit.to_string()));
    let replies: Vec<_> = (0..100).map(|n| bench.event(n)).collect();
    for (name, reply) in replies {
        let answer = reply.await.expect("an answer");
        assert_eq!(answer.is_err(), name == culprit);
        assert!(answer.is_ok() || answer == Err(StoreError::Refused));
    }
    assert_eq!((bench.documents(), bench.gates.total()), (99, 99));
    assert!(bench.calls().len() <= 1 + 2 * 7, "{:?}", bench.calls());
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_not_there_is_unknown_and_has_every_write_read_back() {
    let (bench, _) = Bench::at_work(&Config { audit_one_in: 10, ..plenty() });
    for n in 0..20 {
        bench.event(n).1.await.expect("an answer").expect("stored");
    }
    assert_eq!(bench.fake.reads.lock().expect("whole").len(), 2);
    bench.fake.lies.store(true, Ordering::Relaxed);
    let lied = bench.event(20).1.await.expect("an answer");
    assert_eq!((lied, bench.gates.total(), bench.auditor.snapshot().missing), (Err(StoreError::Unknown), 20, 1));
    assert_eq!(bench.fake.reads.lock().expect("whole").len(), 2 + 2, "made and read back twice");
    bench.fake.lies.store(false, Ordering::Relaxed);
    for n in 100..105 {
        bench.event(n).1.await.expect("an answer").expect("stored");
    }
    assert_eq!(bench.fake.reads.lock().expect("whole").len(), 2 + 2 + 5);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_call_is_acknowledged_unread_when_one_of_it_is_missing() {
    let (bench, _) = Bench::at_work(&Config { audit_one_in: 1_000, ..plenty() });
    *bench.fake.delay.lock().expect("whole") = Duration::from_millis(10);
    bench.fake.lies.store(true, Ordering::Relaxed);
    let replies: Vec<_> = (0..50).map(|n| bench.event(n).1).collect();
    for reply in replies {
        assert_eq!(reply.await.expect("an answer"), Err(StoreError::Unknown));
    }
    assert_eq!((bench.documents(), bench.gates.total()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_before_firestore_lied_is_read_back_all_the_same() {
    let (bench, _) = Bench::at_work(&Config { audit_one_in: 1_000, ..plenty() });
    bench.event(0).1.await.expect("an answer").expect("stored");
    bench.fake.steps.lock().expect("whole").push_back(Step::Fails(Fault::Slow));
    let (_, reply) = bench.event(1);
    idle().await;
    let somebody = routed(999, 10).name();
    bench.auditor.judge(&somebody, false, true);
    bench.fake.lies.store(true, Ordering::Relaxed);
    assert_eq!(reply.await.expect("an answer"), Err(StoreError::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_document_that_its_reader_has_taken_at_once_is_made_again_and_is_no_alarm() {
    let (bench, _) = Bench::at_work(&Config { audit_one_in: 1, ..plenty() });
    bench.fake.taken.store(true, Ordering::Relaxed);
    bench.event(1).1.await.expect("an answer").expect("stored");
    assert_eq!((bench.documents(), bench.gates.total(), bench.calls()), (1, 1, vec![1, 1]));
    assert_eq!((bench.auditor.snapshot().missing, bench.auditor.is_on_probation()), (0, false));
}

#[tokio::test]
async fn who_waits_for_a_writer_that_has_ended_is_answered_and_owes_nothing() {
    let bench = Bench::new(&plenty());
    let replies: Vec<_> = (0..3).map(|n| bench.event(n).1).collect();
    assert!(!bench.queue.is_closed());
    bench.queue.abandon();
    for reply in replies {
        assert_eq!(reply.await.expect("an answer"), Err(StoreError::Unknown));
    }
    assert_eq!((bench.gates.total(), bench.queue.bytes(), bench.queue.is_closed()), (0, 0, true));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_read_back_is_not_acknowledged_before_it_was() {
    let (bench, _) = Bench::at_work(&Config { audit_one_in: 1, ..plenty() });
    bench.fake.read_fails.store(true, Ordering::Relaxed);
    let started = Instant::now();
    bench.event(1).1.await.expect("an answer").expect("stored");
    assert_eq!((started.elapsed().as_millis(), bench.gates.total()), (50, 1));
    assert_eq!(bench.fake.reads.lock().expect("whole").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_ramp_allows_in_a_second_is_refused_at_once() {
    let (bench, _) = Bench::at_work(&Config { ramp_from: 50, writes_per_second: 50, ..plenty() });
    let started = Instant::now();
    let replies: Vec<_> = (0..500).map(|n| bench.event(n).1).collect();
    let mut answers = Vec::new();
    for reply in replies {
        answers.push((reply.await.expect("an answer"), started.elapsed()));
    }
    let refused = answers.iter().filter(|(answer, _)| answer.is_err());
    assert!(refused.clone().all(|(answer, _)| *answer == Err(StoreError::Full)));
    let stored = 500 - refused.count();
    assert!((50..=100).contains(&stored) && answers.iter().all(|(_, took)| *took <= Duration::from_secs(1)), "{stored}");
    assert_eq!((bench.documents(), bench.gates.total()), (stored, stored as u64));
}

#[tokio::test(start_paused = true)]
async fn the_days_last_write_is_the_last() {
    let (bench, _) = Bench::at_work(&Config { writes_per_day: 2, ..plenty() });
    for n in 0..2 {
        bench.event(n).1.await.expect("an answer").expect("stored");
    }
    assert!(!bench.pacer.takes());
    assert_eq!(bench.event(3).1.await.expect("an answer"), Err(StoreError::Full));
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_at_the_close_is_still_written() {
    let (bench, writer) = Bench::at_work(&plenty());
    *bench.fake.delay.lock().expect("whole") = Duration::from_millis(100);
    let replies: Vec<_> = (0..2_000).map(|n| bench.event(n).1).collect();
    bench.queue.close();
    writer.await.expect("no panic");
    for reply in replies {
        reply.await.expect("an answer").expect("stored");
    }
}

#[tokio::test(start_paused = true)]
async fn the_close_does_not_wait_for_a_firestore_that_is_away() {
    let (bench, writer) = Bench::at_work(&plenty());
    *bench.fake.delay.lock().expect("whole") = Duration::from_secs(5);
    let replies: Vec<_> = (0..1_000).map(|n| bench.event(n).1).collect();
    idle().await;
    bench.queue.close();
    let started = Instant::now();
    writer.await.expect("no panic");
    assert_eq!(started.elapsed(), CLOSE_SHARE);
    let mut refused = 0;
    for reply in replies {
        match reply.await {
            // Under way: nobody knows.
            Err(_) => {}
            Ok(answer) => {
                assert_eq!(answer, Err(StoreError::Full));
                refused += 1;
            }
        }
    }
    assert_eq!((refused, bench.gates.total()), (600, 0));
}
