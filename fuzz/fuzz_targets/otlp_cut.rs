//! Cutting requests that were hardly looked at: bounds hold, no item is lost or doubled, and a fragment is as good as the
//! request was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::otlp::{Depth, Keys, Plan, Signal, check, cut};

fuzz_target!(|input: (u8, u8, u8, u16, &[u8])| {
    let (signal, keys, partitions, limit, bytes) = input;
    let signal = [Signal::Traces, Signal::Metrics, Signal::Logs][usize::from(signal % 3)];
    let bytes = Bytes::copy_from_slice(bytes);
    let plan = Plan {
        keys: [Keys::ByTrace, Keys::None, Keys::TraceId, Keys::Resource][usize::from(keys % 4)],
        partitions: i32::from(partitions) - 1,
        record_bytes: u64::from(limit),
        max_fragments: 500,
        max_bytes: 1 << 20,
    };
    let counted = check(signal, bytes.clone(), Depth::None, false);
    let Ok(done) = cut(signal, &bytes, &plan) else { return };
    // Field 1000 is moved or taken out by the check, and an envelope for the cut.
    let Some(counted) = counted.ok().filter(|counted| counted.bytes.as_ptr() == bytes.as_ptr()) else { return };
    let is_good = check(signal, bytes, Depth::Full, false).is_ok();
    let (mut items, mut taken) = (done.rejected.iter().map(|rejected| rejected.items).sum::<u64>(), 0);
    assert!(done.fragments.len() <= plan.max_fragments);
    for fragment in done.fragments {
        let key = fragment.key.as_ref().map_or(0, Bytes::len);
        assert!((fragment.value.len() + key) as u64 <= plan.record_bytes);
        assert!(fragment.partition.is_none_or(|partition| (0..plan.partitions).contains(&partition)));
        let depth = if is_good { Depth::Full } else { Depth::None };
        let again = check(signal, fragment.value.clone(), depth, false).expect("a fragment is as good as the request");
        assert_eq!(again.items, fragment.items);
        (items, taken) = (items + fragment.items, taken + fragment.value.len() as u64);
    }
    assert_eq!(items, counted.items);
    assert!(taken <= plan.max_bytes);
});
