//! What holds for every request and every plan.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use proptest::prelude::*;
use prost::Message;

use super::build::{Dice, field};
use crate::otlp::wire::{Cursor, Wire};
use crate::otlp::{Cut, Depth, Keys, Plan, Signal, check, cut, keys};
use crate::partition;

/// The envelopes around something, from outside in, each with its field's number.
type Around = Vec<Vec<u8>>;

/// What an item's order is kept within.
type Within = (Around, Option<[u8; 16]>);

/// A request taken apart: the items by the envelopes around them, in order, and what holds no items.
#[derive(Debug, Default, PartialEq)]
struct Flat {
    /// By trace id too, where only the order within a trace must be kept.
    by_trace: bool,
    items: BTreeMap<Within, Vec<Vec<u8>>>,
    empty: BTreeMap<Around, usize>,
}

impl Flat {
    fn new(by_trace: bool) -> Self {
        Self { by_trace, ..Self::default() }
    }

    fn add(&mut self, signal: Signal, bytes: &[u8]) {
        let levels: &[&[u32]] = if signal == Signal::Metrics { &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]] } else { &[&[1], &[2], &[2]] };
        self.container(signal, bytes, 0, levels, &mut Vec::new());
    }

    fn container(&mut self, signal: Signal, bytes: &[u8], tag: u32, levels: &[&[u32]], around: &mut Around) {
        let (mut cursor, mut envelope, mut inside) = (Cursor::new(bytes), tag.to_le_bytes().to_vec(), Vec::new());
        while let Some(tag) = cursor.tag().expect("good") {
            let start = cursor.at();
            cursor.skip(tag.wire).expect("good");
            if tag.wire == Wire::Length && levels[0].contains(&tag.number) {
                let mut content = Cursor::of(bytes, start..bytes.len());
                inside.push((tag.number, tag.at..cursor.at(), content.content().expect("good")));
            } else {
                envelope.extend_from_slice(&bytes[tag.at..cursor.at()]);
            }
        }
        around.push(envelope);
        if inside.is_empty() {
            *self.empty.entry(around.clone()).or_default() += 1;
        }
        for (number, whole, content) in inside {
            match levels {
                [_] => {
                    let trace = match signal {
                        Signal::Traces => keys::trace_id(bytes, whole.clone(), 1),
                        Signal::Logs => keys::trace_id(bytes, whole.clone(), 9),
                        Signal::Metrics => None,
                    };
                    let key = (around.clone(), trace.filter(|_| self.by_trace));
                    self.items.entry(key).or_default().push(bytes[whole].to_vec());
                }
                [_, below @ ..] => self.container(signal, &bytes[content], number, below, around),
                [] => unreachable!("items are at the last level"),
            }
        }
        around.pop();
    }

    fn count(&self) -> u64 {
        self.items.values().map(|items| items.len() as u64).sum()
    }

    /// Takes out what is too large for a record by itself, and gives how many items that were.
    fn reject(&mut self, limit: usize) -> u64 {
        let before = self.count();
        for ((around, _), items) in &mut self.items {
            items.retain(|item| {
                let alone = around.iter().rev().fold(item.clone(), |inside, envelope| {
                    let content = [&envelope[4..], &inside].concat();
                    let tag = u32::from_le_bytes(envelope[..4].try_into().expect("a number"));
                    if tag == 0 { content } else { field(tag, &content) }
                });
                alone.len() <= limit
            });
        }
        self.items.retain(|_, items| !items.is_empty());
        before - self.count()
    }
}

/// The items as another decoder sees them, each with what is around it, in order.
fn decoded(signal: Signal, bytes: &[u8]) -> Vec<String> {
    match signal {
        Signal::Traces => {
            let request = ExportTraceServiceRequest::decode(bytes).expect("it decodes");
            let mut out = Vec::new();
            for mut entry in request.resource_spans {
                for mut scope in std::mem::take(&mut entry.scope_spans) {
                    let spans = std::mem::take(&mut scope.spans);
                    out.extend(spans.iter().map(|span| format!("{entry:?} {scope:?} {span:?}")));
                }
            }
            out
        }
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(bytes).expect("it decodes");
            let mut out = Vec::new();
            for mut entry in request.resource_logs {
                for mut scope in std::mem::take(&mut entry.scope_logs) {
                    let logs = std::mem::take(&mut scope.log_records);
                    out.extend(logs.iter().map(|log| format!("{entry:?} {scope:?} {log:?}")));
                }
            }
            out
        }
        Signal::Metrics => {
            let request = ExportMetricsServiceRequest::decode(bytes).expect("it decodes");
            let mut out = Vec::new();
            for mut entry in request.resource_metrics {
                for mut scope in std::mem::take(&mut entry.scope_metrics) {
                    for mut metric in std::mem::take(&mut scope.metrics) {
                        let points = metric.data.as_mut().map(points).unwrap_or_default();
                        out.extend(points.iter().map(|point| format!("{entry:?} {scope:?} {metric:?} {point}")));
                    }
                }
            }
            out
        }
    }
}

fn points(data: &mut Data) -> Vec<String> {
    fn taken<T: std::fmt::Debug>(points: &mut Vec<T>) -> Vec<String> {
        std::mem::take(points).iter().map(|point| format!("{point:?}")).collect()
    }
    match data {
        Data::Gauge(data) => taken(&mut data.data_points),
        Data::Sum(data) => taken(&mut data.data_points),
        Data::Histogram(data) => taken(&mut data.data_points),
        Data::ExponentialHistogram(data) => taken(&mut data.data_points),
        Data::Summary(data) => taken(&mut data.data_points),
    }
}

fn signals() -> impl Strategy<Value = Signal> {
    prop_oneof![Just(Signal::Traces), Just(Signal::Metrics), Just(Signal::Logs)]
}

fn plans() -> impl Strategy<Value = Plan> {
    let keys = prop_oneof![Just(Keys::None), Just(Keys::ByTrace), Just(Keys::TraceId), Just(Keys::Resource)];
    let limit = prop_oneof![20u64..200, 100u64..1_500, 1_000u64..20_000];
    (keys, 0i32..8, limit).prop_map(|(keys, partitions, record_bytes)| Plan {
        keys,
        partitions,
        record_bytes,
        max_fragments: usize::MAX,
        max_bytes: u64::MAX,
    })
}

fn holds_its_keys(signal: Signal, plan: &Plan, cut: &Cut) {
    for fragment in &cut.fragments {
        let key = fragment.key.as_ref().map_or(0, Bytes::len);
        assert!((fragment.value.len() + key) as u64 <= plan.record_bytes);
        let mut flat = Flat::new(true);
        flat.add(signal, &fragment.value);
        assert_eq!(flat.count(), fragment.items);
        let by_trace = plan.keys == Keys::ByTrace && signal == Signal::Traces && plan.partitions > 0;
        assert!(by_trace || fragment.partition.is_none());
        for (_, trace) in flat.items.keys() {
            let hex = trace.map(keys::hex);
            if let Some(hex) = hex.filter(|_| by_trace) {
                assert_eq!(fragment.partition, Some(partition::of_key(&hex, plan.partitions)));
            }
            if plan.keys == Keys::TraceId && signal != Signal::Metrics {
                assert_eq!(fragment.key.as_deref(), hex.as_ref().map(|hex| &hex[..]));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_random_and_good_is_taken_as_it_is(seed: u64, signal in signals()) {
        let bytes = Dice(seed).request(signal);
        for depth in [Depth::Full, Depth::Structure, Depth::None] {
            let checked = check(signal, bytes.clone(), depth, true).expect("it is good");
            prop_assert_eq!(checked.bytes.as_ptr(), bytes.as_ptr());
            prop_assert_eq!(checked.items, decoded(signal, &bytes).len() as u64);
        }
    }

    #[test]
    fn after_grouping_by_equal_envelope_the_items_in_order_are_the_requests(seed: u64, signal in signals(), plan in plans()) {
        let bytes = Dice(seed).request(signal);
        let cut = cut(signal, &bytes, &plan).expect("nothing is bounded here");
        holds_its_keys(signal, &plan, &cut);
        let torn = matches!(plan.keys, Keys::ByTrace | Keys::TraceId);
        let (mut before, mut after) = (Flat::new(torn), Flat::new(torn));
        // Spans of no trace go where it is cheapest, and have no order among partitions.
        let settle = |flat: &mut Flat| {
            let loose = |(_, trace): &Within| torn && trace.is_none();
            flat.items.iter_mut().filter(|(key, _)| loose(key)).for_each(|(_, items)| items.sort());
        };
        before.add(signal, &bytes);
        for fragment in &cut.fragments {
            check(signal, fragment.value.clone(), Depth::Full, false).expect("a fragment is a request");
            after.add(signal, &fragment.value);
        }
        settle(&mut before);
        settle(&mut after);
        // The key takes of the limit; which one it is, depends on the item.
        let rejected: u64 = cut.rejected.iter().map(|rejected| rejected.items).sum();
        prop_assert_eq!(before.count(), after.count() + rejected);
        if matches!(plan.keys, Keys::None | Keys::ByTrace) {
            prop_assert_eq!(before.reject(plan.record_bytes as usize), rejected);
        }
        if rejected == 0 {
            if cut.rejected.is_empty() && !bytes.is_empty() && !(cut.fragments.is_empty() && before.items.is_empty()) {
                prop_assert_eq!(&before.empty, &after.empty);
            }
            if !torn {
                let parts: Vec<_> = cut.fragments.iter().flat_map(|fragment| decoded(signal, &fragment.value)).collect();
                prop_assert_eq!(decoded(signal, &bytes), parts);
            }
        }
        if rejected == 0 || matches!(plan.keys, Keys::None | Keys::ByTrace) {
            prop_assert_eq!(before.items, after.items);
        }
        prop_assert_eq!(&cut, &super::super::cut(signal, &bytes, &plan).expect("again"), "the same again");
    }

    #[test]
    fn what_is_damaged_is_refused_or_decodes(seed: u64, signal in signals(), damage in proptest::collection::vec((0usize..4_000, 0u8..), 1..4), repair: bool) {
        let mut bytes = Dice(seed).request(signal).to_vec();
        for (place, byte) in damage {
            let length = bytes.len().max(1);
            if let Some(at) = bytes.get_mut(place % length) {
                *at = byte;
            }
        }
        let bytes = Bytes::from(bytes);
        match check(signal, bytes.clone(), Depth::Full, repair) {
            Ok(checked) => {
                prop_assert_eq!(checked.items, decoded(signal, &checked.bytes).len() as u64);
                prop_assert_eq!(check(signal, checked.bytes.clone(), Depth::Full, false).map(|checked| checked.items), Ok(checked.items));
            }
            Err(fault) => prop_assert!(fault.offset <= bytes.len() as u64, "{}", fault),
        }
        let plan = Plan { keys: Keys::Resource, partitions: 3, record_bytes: 500, max_fragments: 100, max_bytes: 100_000 };
        let _ = cut(signal, &bytes, &plan);
    }
}
