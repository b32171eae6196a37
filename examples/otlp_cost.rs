//! What the look through OTLP's requests costs, and the cutting: `cargo run --release --example otlp_cost`.
//!
//! What always holds: one thread, no I/O, the fastest of a fixed number of rounds on the same bytes; nanoseconds per span.
//! A span has about 530 bytes; in the second table 100 KB, most of which are one text that is not ASCII.

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate::otlp::{Cut, Depth, Keys, Plan, Signal, check, cut, fragment_id};

const PLAN: Plan = Plan { keys: Keys::None, partitions: 0, record_bytes: 1_000_000, max_fragments: 100_000, max_bytes: 1_000_000_000 };

/// The gate's own allocator: fragments are written into fresh memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many traces there are. Their spans come in turn, as those of many requests in one batch do.
const TRACES: u64 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    for (spans, text) in [(10_000u64, 80), (100, 100_000)] {
        let bytes = request(spans, text);
        let each = bytes.len() as u64 / spans;
        writeln!(out, "\n| {spans} spans of {each} bytes | ns per span | records |\n|---|---|---|")?;
        for (name, depth) in [("check: full", Depth::Full), ("check: structure", Depth::Structure), ("check: none (count)", Depth::None)] {
            let took = time(|| check(Signal::Traces, bytes.clone(), depth, false).is_ok_and(|checked| checked.items == spans));
            writeln!(out, "| {name} | {} | |", per(took, spans))?;
        }
        let by = |keys, partitions| Plan { keys, partitions, ..PLAN };
        let plans = [
            ("cut to 1 MB", by(Keys::None, 0)),
            ("cut by trace, 6 partitions", by(Keys::ByTrace, 6)),
            ("cut by trace, 64 partitions", by(Keys::ByTrace, 64)),
            ("cut by trace id", by(Keys::TraceId, 0)),
            ("cut by resource", by(Keys::Resource, 0)),
        ];
        for (name, plan) in plans {
            let records = cut(Signal::Traces, &bytes, &plan)?.fragments.len();
            let took = time(|| cut(Signal::Traces, black_box(&bytes), &plan).is_ok_and(|cut| whole(&cut, spans)));
            writeln!(out, "| {name} | {} | {records} |", per(took, spans))?;
        }
        let took = time(|| fragment_id(Signal::Traces, black_box(&bytes), &PLAN) != 0);
        writeln!(out, "| id of the fragments | {} | |", per(took, spans))?;
    }
    Ok(())
}

fn whole(cut: &Cut, spans: u64) -> bool {
    cut.rejected.is_empty() && cut.fragments.iter().map(|fragment| fragment.items).sum::<u64>() == spans
}

fn per(took: Duration, spans: u64) -> u128 {
    took.as_nanos() / u128::from(spans)
}

/// The fastest of so many rounds, each of which must succeed: on a busy machine the mean is the neighbours'.
fn time(mut round: impl FnMut() -> bool) -> Duration {
    let once = |_| {
        let start = Instant::now();
        assert!(black_box(round()), "what is measured does what it should");
        start.elapsed()
    };
    (0..40).map(once).min().unwrap_or_default()
}

/// A request of ten resources with some attributes each, and its spans in turn.
fn request(spans: u64, text: usize) -> Bytes {
    let mut request = Vec::new();
    for resource in 0..10 {
        let attributes: Vec<u8> =
            (0..8).flat_map(|key| field(1, &attribute(&format!("resource.attribute.{key}"), &format!("a value {key}")))).collect();
        let mut scope = field(1, &[field(1, b"the.scope.of.instrumentation"), field(2, b"1.2.3")].concat());
        for place in 0..spans / 10 {
            scope.extend_from_slice(&field(2, &span(resource * spans / 10 + place, text)));
        }
        request.extend_from_slice(&field(1, &[field(1, &attributes), field(2, &scope)].concat()));
    }
    request.into()
}

fn span(place: u64, text: usize) -> Vec<u8> {
    // Spread like hashes are: a trace's spans are not next to one another.
    let trace = (place % TRACES).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut span = field(1, &[trace.to_be_bytes(), (!trace).to_be_bytes()].concat());
    span.extend_from_slice(&field(2, &place.wrapping_add(1).to_be_bytes()));
    span.extend_from_slice(&field(4, &place.wrapping_add(2).to_be_bytes()));
    span.extend_from_slice(&field(5, b"GET /api/v1/orders/{id}"));
    span.extend_from_slice(&[6 << 3, 2]);
    for number in [7, 8] {
        span.push(number << 3 | 1);
        span.extend_from_slice(&(1_700_000_000_000_000_000 + place).to_le_bytes());
    }
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "https"),
        ("server.address", "orders.internal.example.com"),
        ("url.path", "/api/v1/orders/8421337/items"),
        ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("network.peer.address", "10.24.117.9"),
        ("http.route", "/api/v1/orders/{id}/items"),
    ] {
        span.extend_from_slice(&field(9, &attribute(key, value)));
    }
    span.extend_from_slice(&field(9, &attribute("db.query.text", &"SELECT id, 'é' FROM t ".repeat(text / 22 + 1))));
    let status = [field(1, b"http.response.status_code"), field(2, &[3 << 3, 200, 1])].concat();
    span.extend_from_slice(&field(9, &status));
    span.extend_from_slice(&[15 << 3 | 2, 2, 3 << 3, 1]);
    span
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let (mut out, mut length) = (vec![number << 3 | 2], content.len());
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}
