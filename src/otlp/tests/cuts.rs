//! How requests are cut, by examples.

use bytes::Bytes;

use super::build::*;
use crate::otlp::{Cut, CutError, Keys, Plan, Signal, check, cut, fragment_id};
use crate::partition;

const PLAN: Plan = Plan { keys: Keys::None, partitions: 0, record_bytes: 1_000_000, max_fragments: 1000, max_bytes: 100_000_000 };

fn spans(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|place| field(2, &span(place as u8 % 5 + 1, &format!("span {place}")))).collect()
}

fn values(cut: &Cut) -> Vec<Bytes> {
    cut.fragments.iter().map(|fragment| fragment.value.clone()).collect()
}

#[test]
fn what_fits_is_one_fragment_of_the_same_bytes() {
    let bytes = request(&spans(10));
    let exactly = Plan { record_bytes: bytes.len() as u64, ..PLAN };
    for keys in [Keys::None, Keys::ByTrace] {
        let whole = cut(Signal::Traces, &bytes, &Plan { keys, ..exactly }).expect("it fits");
        assert_eq!(whole.fragments[0].value.as_ptr(), bytes.as_ptr());
        assert_eq!((whole.fragments.len(), whole.fragments[0].items, whole.rejected.len()), (1, 10, 0));
    }
    let less = cut(Signal::Traces, &bytes, &Plan { record_bytes: bytes.len() as u64 - 1, ..PLAN }).expect("it is cut");
    assert_eq!(less.fragments.len(), 2);
    assert_eq!(cut(Signal::Traces, &Bytes::new(), &PLAN), Ok(Cut::default()));
}

#[test]
fn a_fragment_has_the_envelopes_verbatim_and_is_full_to_the_byte() {
    let spans = spans(10);
    let bytes = request(&spans);
    let three = request(&spans[..3]);
    let plan = Plan { record_bytes: three.len() as u64, ..PLAN };
    let fragments = cut(Signal::Traces, &bytes, &plan).expect("it is cut");
    let expected: Vec<_> = spans.chunks(3).map(request).collect();
    assert_eq!(values(&fragments), expected);
    assert_eq!(fragments.fragments.iter().map(|fragment| fragment.items).collect::<Vec<_>>(), [3, 3, 3, 1]);
}

#[test]
fn an_envelope_behind_what_it_describes_is_in_each_fragment() {
    let point = |place: u64| field(1, &fixed64(3, place));
    let about = [number(2, 2), number(3, 1), number(77, 5)].concat();
    let data = [point(1), point(2), about.clone(), point(3)].concat();
    let metric = [field(7, &data), field(1, b"requests"), field(12, &attribute("k", &text("v")))].concat();
    let bytes = Bytes::from(field(1, &[field(2, &[field(2, &metric), field(3, b"url")].concat()), field(3, b"outer")].concat()));
    let one = |place: u64| {
        let data = field(7, &[about.clone(), point(place)].concat());
        let metric = [field(1, b"requests"), field(12, &attribute("k", &text("v"))), data].concat();
        Bytes::from(field(1, &[field(3, b"outer"), field(2, &[field(3, b"url"), field(2, &metric)].concat())].concat()))
    };
    let plan = Plan { record_bytes: one(1).len() as u64, ..PLAN };
    let fragments = cut(Signal::Metrics, &bytes, &plan).expect("it is cut");
    assert_eq!(values(&fragments), [one(1), one(2), one(3)]);
}

#[test]
fn what_has_no_items_goes_along_once_in_the_first_fragment() {
    let empty = field(1, &field(1, &field(1, &attribute("empty", &text("entry")))));
    let entry = |fields: &[Vec<u8>]| field(1, &fields.concat());
    let hollow = field(2, &field(1, &field(1, b"hollow scope")));
    let scope = |place: u8| field(2, &[field(1, &field(1, b"lib")), field(2, &span(place, "a"))].concat());
    let bytes = Bytes::from([entry(&[scope(1), hollow.clone(), scope(2)]), empty.clone(), empty.clone()].concat());
    let first = [empty.clone(), empty, entry(&[hollow, scope(1)])].concat();
    let plan = Plan { record_bytes: first.len() as u64, ..PLAN };
    assert_eq!(values(&cut(Signal::Traces, &bytes, &plan).expect("it is cut")), [first, entry(&[scope(2)])]);
}

#[test]
fn an_item_that_fits_nowhere_is_rejected_alone_by_its_name_and_size() {
    let large = field(2, &span(9, &format!("GET /{}", "x".repeat(5_000))));
    let mut all = spans(4);
    all.insert(2, large);
    let cut = cut(Signal::Traces, &request(&all), &Plan { record_bytes: 1_000, ..PLAN }).expect("the rest is cut");
    assert_eq!(values(&cut), [request(&spans(4))]);
    let [rejected] = cut.rejected.as_slice() else { panic!("{:?}", cut.rejected) };
    let start = format!("span `GET /{}` takes 50", "x".repeat(95));
    assert!(
        rejected.what.starts_with(&start) && rejected.what.ends_with("with its envelope, the limit of a record is 1000"),
        "{rejected:?}"
    );
    assert_eq!(rejected.items, 1);
}

#[test]
fn an_envelope_that_fits_nowhere_rejects_all_its_items_and_nothing_else() {
    let good = request(&spans(2));
    let resource = field(1, &field(1, &attribute("k", &text(&"x".repeat(3_000)))));
    let bad = field(1, &[resource, field(2, &spans(40).concat())].concat());
    let cut =
        cut(Signal::Traces, &[good.to_vec(), bad, good.to_vec()].concat().into(), &Plan { record_bytes: 1_000, ..PLAN }).expect("cut");
    assert_eq!(values(&cut), [[good.clone(), good].concat()]);
    let [rejected] = cut.rejected.as_slice() else { panic!("{:?}", cut.rejected) };
    assert_eq!(rejected.items, 40);
    assert!(rejected.what.starts_with("the resource and scope of span `span 0` take 30"), "{rejected:?}");
}

#[test]
fn many_rejections_are_told_in_few_words() {
    let names: Vec<_> = (0..100).map(|place| field(2, &span(1, &format!("{place} {}", "x".repeat(2_000))))).collect();
    let cut = cut(Signal::Traces, &request(&names), &Plan { record_bytes: 1_000, ..PLAN }).expect("cut");
    assert_eq!((cut.fragments.len(), cut.rejected.len()), (0, 17));
    assert_eq!(cut.rejected.iter().map(|rejected| rejected.items).sum::<u64>(), 100);
}

#[test]
fn fragments_and_their_bytes_are_bounded() {
    let bytes = request(&spans(50));
    let plan = Plan { record_bytes: 200, max_fragments: 5, ..PLAN };
    let error = cut(Signal::Traces, &bytes, &plan).expect_err("too many");
    assert_eq!(error, CutError::TooManyFragments { most: 5, record_bytes: 200 });
    assert!(error.to_string().contains("more than 5 records of at most 200 bytes"));
    let plan = Plan { keys: Keys::TraceId, max_fragments: 4, ..PLAN };
    assert_eq!(cut(Signal::Traces, &bytes, &plan), Err(CutError::TooManyFragments { most: 4, record_bytes: 1_000_000 }));
    let plan = Plan { record_bytes: 200, max_bytes: 1_000, ..PLAN };
    let error = cut(Signal::Traces, &bytes, &plan).expect_err("too much");
    assert_eq!(error, CutError::TooManyBytes { bytes: bytes.len() as u64, most: 1_000 });
}

#[test]
fn a_request_of_crumbs_is_not_indexed_at_any_cost() {
    // Eight bytes for three containers and an item.
    let crumbs = field(1, &field(2, &field(2, &[]))).repeat(200_000);
    let plan = Plan { record_bytes: 1_000, max_fragments: usize::MAX, ..PLAN };
    assert!(matches!(cut(Signal::Traces, &crumbs.into(), &plan), Err(CutError::TooManyParts { .. })));
    let empties = Bytes::from(field(1, &[]).repeat(500_000));
    let fragments = cut(Signal::Traces, &empties, &Plan { record_bytes: 5_000, ..PLAN }).expect("runs of nothing are few");
    assert_eq!(values(&fragments).concat(), empties);
}

#[test]
fn traces_go_whole_to_the_partition_of_their_key() {
    let bytes = request(&spans(40));
    let plan = Plan { keys: Keys::ByTrace, partitions: 3, ..PLAN };
    let cut = cut(Signal::Traces, &bytes, &plan).expect("it is grouped");
    let partition = |trace: u8| partition::of_key(format!("{trace:02x}").repeat(16).as_bytes(), 3);
    for fragment in &cut.fragments {
        let own: Vec<_> = (0..40).filter(|place| Some(partition(place % 5 + 1)) == fragment.partition).collect();
        let own: Vec<_> = own.iter().map(|place| field(2, &span(place % 5 + 1, &format!("span {place}")))).collect();
        assert_eq!((&fragment.value, fragment.items, &fragment.key), (&request(&own), own.len() as u64, &None));
    }
    assert_eq!(cut.fragments.iter().map(|fragment| fragment.items).sum::<u64>(), 40);
    assert!(cut.fragments.len() <= 3);
}

#[test]
fn a_request_of_one_trace_is_sent_as_it_came() {
    let bytes = request(&[field(2, &span(0, "no trace")), field(2, &span(4, "a")), field(2, &span(4, "b")), field(2, &span(0, "none"))]);
    let whole = cut(Signal::Traces, &bytes, &Plan { keys: Keys::ByTrace, partitions: 64, ..PLAN }).expect("one trace");
    assert_eq!((whole.fragments[0].value.as_ptr(), whole.fragments.len()), (bytes.as_ptr(), 1));
    assert_eq!(whole.fragments[0].partition, Some(partition::of_key("04".repeat(16).as_bytes(), 64)));
    let none = request(&[field(2, &span(0, "no trace"))]);
    let whole = cut(Signal::Traces, &none, &Plan { keys: Keys::ByTrace, partitions: 64, ..PLAN }).expect("no trace");
    assert_eq!((whole.fragments[0].value.as_ptr(), whole.fragments[0].partition), (none.as_ptr(), None));
}

#[test]
fn with_trace_keys_each_trace_is_a_record() {
    let plan = Plan { keys: Keys::TraceId, ..PLAN };
    let all = [(1, "a"), (2, "b"), (0, "c"), (1, "d")].map(|(trace, name)| field(2, &span(trace, name)));
    let cut = cut(Signal::Traces, &request(&all), &plan).expect("grouped");
    let key = |trace: &str| Some(Bytes::from(trace.repeat(16)));
    let keys: Vec<_> = cut.fragments.iter().map(|fragment| (fragment.key.clone(), fragment.items, fragment.partition)).collect();
    assert_eq!(keys, [(key("01"), 2, None), (key("02"), 1, None), (None, 1, None)]);
    assert_eq!(cut.fragments[0].value, request(&[all[0].clone(), all[3].clone()]));
    // A log record has its trace id elsewhere; metrics have none.
    let log = |trace: u8| field(2, &field(9, &[trace; 16]));
    let logs = super::super::cut(Signal::Logs, &request(&[log(1), log(2)]), &plan).expect("grouped");
    assert_eq!(logs.fragments.iter().map(|fragment| fragment.key.clone()).collect::<Vec<_>>(), [key("01"), key("02")]);
}

#[test]
fn with_resource_keys_each_entry_is_a_record_and_the_key_counts_in_its_limit() {
    let entry = |name: &str| {
        let resource = field(1, &[field(1, &attribute("service.name", &text("svc"))), field(1, &attribute("a", &number(3, 5)))].concat());
        field(1, &[resource, field(2, &field(2, &span(1, name)))].concat())
    };
    let bytes = Bytes::from([entry("a"), entry("b")].concat());
    let plan = Plan { keys: Keys::Resource, record_bytes: entry("a").len() as u64 + 16, ..PLAN };
    let grouped = cut(Signal::Traces, &bytes, &plan).expect("grouped");
    let key = hex::decode("60719756c71b0e24cbad0e92d00a366b").expect("hex");
    assert_eq!(values(&grouped), [entry("a"), entry("b")]);
    assert!(grouped.fragments.iter().all(|fragment| fragment.key.as_deref() == Some(&key[..])));
    let less = cut(Signal::Traces, &bytes, &Plan { record_bytes: plan.record_bytes - 1, ..plan }).expect("rejected");
    assert_eq!((less.fragments.len(), less.rejected.len()), (0, 2));
}

#[test]
fn what_nobody_checked_is_refused_or_cut_and_never_panics() {
    let broken = Bytes::from(vec![0x0a, 100, 1]);
    assert!(matches!(cut(Signal::Traces, &broken, &PLAN), Err(CutError::Malformed(_))));
    let broken = request(&[field(2, &[0x0a, 0x7f])]);
    cut(Signal::Traces, &broken, &Plan { keys: Keys::ByTrace, partitions: 8, ..PLAN }).expect("an item is not looked into");
    assert!(check(Signal::Traces, broken, crate::otlp::Depth::Full, true).is_err());
}

#[test]
fn the_id_of_fragments_depends_on_request_limit_and_keys() {
    let plans = [PLAN, Plan { record_bytes: 5, ..PLAN }, Plan { keys: Keys::Resource, ..PLAN }, Plan { partitions: 7, ..PLAN }];
    let ids: std::collections::HashSet<_> = plans.iter().flat_map(|plan| [fragment_id(b"a", plan), fragment_id(b"b", plan)]).collect();
    assert_eq!(ids.len(), 8);
    assert_eq!(fragment_id(b"a", &Plan { max_fragments: 1, max_bytes: 1, ..PLAN }), fragment_id(b"a", &PLAN));
}
