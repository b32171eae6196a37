//! By what name a request is followed: its request id, and the W3C trace that it belongs to.
//!
//! What a client sends is taken only when it is well formed; the rest is ignored, since a bad trace is no reason to refuse an event.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of the request id, in requests and in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: &str = "traceparent";
const CLOUD_TRACE: &str = "x-cloud-trace-context";
const MAX_REQUEST_ID_LENGTH: usize = 128;

/// A request's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The client's `X-Request-Id` (1–128 visible ASCII characters), or a new ULID.
    pub request_id: String,
    /// The trace that the request belongs to, in W3C form; none: it brought none.
    pub traceparent: Option<String>,
}

impl Context {
    /// Reads the names from a request's head.
    pub fn of(headers: &HeaderMap) -> Self {
        let request_id = only(headers, REQUEST_ID.as_str()).filter(|id| is_request_id(id));
        let traceparent = only(headers, TRACEPARENT).and_then(from_traceparent);
        Self {
            request_id: request_id.map_or_else(|| ulid::Ulid::generate().to_string(), str::to_owned),
            traceparent: traceparent.or_else(|| only(headers, CLOUD_TRACE).and_then(from_cloud_trace)),
        }
    }

    /// The request id for the answer's head.
    pub fn request_id_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).expect("a request id is visible ASCII")
    }
}

/// The header's value, unless it is missing, given twice or not ASCII.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_LENGTH).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// `00-<32 hex>-<16 hex>-<2 hex>`. A higher version may say more behind these; what we pass on is level 1.
fn from_traceparent(text: &str) -> Option<String> {
    let mut parts = text.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sound = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    let more = parts.next().is_some();
    if !sound || version == "ff" || (version == "00" && more) || is_zero(trace) || is_zero(span) {
        return None;
    }
    Some(format!("00-{trace}-{span}-{flags}"))
}

/// `TRACE/SPAN;o=OPTIONS`, the span in decimal: what Google's front ends add.
fn from_cloud_trace(text: &str) -> Option<String> {
    let (trace, rest) = text.split_once('/')?;
    let (span, options) = rest.split_once(';').unwrap_or((rest, ""));
    let trace = trace.to_ascii_lowercase();
    let span: u64 = span.parse().ok().filter(|span| *span != 0)?;
    if !is_hex(&trace, 32) || is_zero(&trace) {
        return None;
    }
    let sampled = u8::from(options.trim() == "o=1");
    Some(format!("00-{trace}-{span:016x}-{sampled:02x}"))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|b| b == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn context(headers: &[(&'static str, &str)]) -> Context {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a header"));
        }
        Context::of(&map)
    }

    #[test]
    fn a_well_formed_traceparent_is_continued_and_any_other_ignored() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(context(&[(TRACEPARENT, &good)]).traceparent.as_deref(), Some(&*good));
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-01-more");
        assert_eq!(context(&[(TRACEPARENT, &later)]).traceparent.as_deref(), Some(&*good));
        for bad in [
            String::new(),
            good.to_uppercase(),
            format!("{good}-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-1"),
        ] {
            assert_eq!(context(&[(TRACEPARENT, &bad)]).traceparent, None, "{bad}");
        }
        assert_eq!(context(&[(TRACEPARENT, &good), (TRACEPARENT, &good)]).traceparent, None);
    }

    #[test]
    fn the_trace_of_googles_front_end_is_translated() {
        let header = format!("{}/67667974448284343;o=1", TRACE.to_uppercase());
        assert_eq!(context(&[(CLOUD_TRACE, &header)]).traceparent, Some(format!("00-{TRACE}-00f067aa0ba902b7-01")));
        assert_eq!(context(&[(CLOUD_TRACE, &format!("{TRACE}/1"))]).traceparent, Some(format!("00-{TRACE}-0000000000000001-00")));
        for bad in [TRACE.to_owned(), format!("{TRACE}/0"), format!("{TRACE}/x;o=1"), "1/1;o=1".to_owned()] {
            assert_eq!(context(&[(CLOUD_TRACE, &bad)]).traceparent, None, "{bad}");
        }
    }

    #[test]
    fn a_request_id_is_taken_when_it_can_stand_in_a_log_and_made_otherwise() {
        assert_eq!(context(&[("x-request-id", "req-17")]).request_id, "req-17");
        let long = "x".repeat(129);
        for bad in ["", "a b", "a\tb", "é", &long] {
            assert_eq!(context(&[("x-request-id", bad)]).request_id.len(), 26, "{bad}");
        }
    }
}
