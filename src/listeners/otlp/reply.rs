//! What senders of telemetry are told: the one mapping of refusals and faults to codes and statuses, and the answers over HTTP
//! and gRPC that say it.
//!
//! What always holds: what could be taken later is answered so that SDKs send it again (over HTTP those are 429, 502, 503
//! and 504 alone; on every other status they drop what they have), with a wait of whole seconds, never 0; what is wrong for good is
//! never answered so. A fault of ours is not the request's: it may be sent again.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Encoding;
use super::status::{Code, Said};
use crate::listeners::http::fault::Fault;
use crate::listeners::http::payload::Payload;
use crate::listeners::http::reply::{Answer, write_fault};
use crate::receipt::Refusal;

/// What a sender is told to wait. SDKs have 10 s in all: with 2 s they try five times, with 5 s twice.
const WAIT: u64 = 2;
/// The same after an answer that took long already.
const SHORT_WAIT: u64 = 1;
const LONG: Duration = Duration::from_secs(3);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Python's SDK looks for the wait here, and nowhere else.
const GRPC_RETRY: HeaderName = HeaderName::from_static("google.rpc.retryinfo-bin");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const CODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate,zstd");

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// A fault of the request's head or body, or the trunk's refusal.
    Fault(Fault),
    /// The outcome is not known in time.
    Late,
    /// What only gRPC has.
    Grpc(Code, &'static str),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Fault(refusal.into())
    }
}

/// A refusal as it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The status over HTTP.
    pub status: StatusCode,
    /// The code, the text and the details.
    pub said: Said,
}

/// How refusals are told here.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The status for who is over a quota.
    pub quota_status: StatusCode,
    /// How long the answer took.
    pub took: Duration,
}

impl Manner {
    /// What a sender is told of it.
    pub fn verdict(&self, refused: &Refused) -> Verdict {
        match refused {
            Refused::Fault(Fault::Refused(refusal)) => self.refusal(refusal),
            Refused::Fault(fault) => self.fault(fault),
            Refused::Late => self.later(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::DeadlineExceeded,
                "it is not known yet whether it was stored; send it again",
            ),
            Refused::Grpc(code, text) => never(StatusCode::BAD_REQUEST, *code, *text),
        }
    }

    fn refusal(&self, refusal: &Refusal) -> Verdict {
        let text = refusal.to_string();
        match refusal {
            Refusal::Unauthenticated => never(StatusCode::UNAUTHORIZED, Code::Unauthenticated, text),
            Refusal::Denied { .. } => never(StatusCode::FORBIDDEN, Code::PermissionDenied, text),
            Refusal::Malformed { position, .. } => {
                bad(StatusCode::BAD_REQUEST, text, position.map(|at| format!("byte {}", at.offset)).unwrap_or_default())
            }
            Refusal::Invalid { field, .. } => bad(StatusCode::BAD_REQUEST, text, field.clone().unwrap_or_default()),
            Refusal::TooLarge { .. } => never(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, text),
            Refusal::Throttled { .. } => self.later(self.quota_status, Code::ResourceExhausted, text),
            // Not UNAVAILABLE: Python's SDK opens a new connection on that.
            Refusal::Overloaded { .. } => self.later(StatusCode::SERVICE_UNAVAILABLE, Code::ResourceExhausted, text),
            Refusal::Unavailable { .. } | Refusal::Internal => self.later(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, text),
        }
    }

    fn fault(&self, fault: &Fault) -> Verdict {
        match fault {
            Fault::Refused(refusal) => self.refusal(refusal),
            // Of another route.
            Fault::NotAdmin | Fault::ReplayRuns => never(StatusCode::FORBIDDEN, Code::PermissionDenied, "this is for who administers"),
            Fault::BadRequest(what) => bad(StatusCode::BAD_REQUEST, (*what).to_owned(), String::new()),
            Fault::NotFound => never(
                StatusCode::NOT_FOUND,
                Code::Unimplemented,
                "no such path: OTLP is at /v1/traces, /v1/metrics and /v1/logs, without more",
            ),
            Fault::MethodNotAllowed(_) => never(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "OTLP is sent with POST"),
            Fault::UnsupportedMediaType(reads) => never(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
                format!("the header `Content-Type` must be one of: {reads}; in UTF-8"),
            ),
            Fault::UnsupportedEncoding => never(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::InvalidArgument,
                "the body is sent as it is, or in one layer of gzip, zstd, deflate or br, as the header says",
            ),
            // What came too slowly may come better the next time; on 408 it would be dropped.
            Fault::Timeout => self.later(StatusCode::SERVICE_UNAVAILABLE, Code::DeadlineExceeded, "the request did not come in time"),
            Fault::UriTooLong => never(StatusCode::URI_TOO_LONG, Code::InvalidArgument, "the request target is too long"),
            Fault::HeadersTooLarge => {
                never(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::InvalidArgument, "the header fields are too many or too large")
            }
            Fault::UpgradeRequired => bad(StatusCode::BAD_REQUEST, "this is not upgraded".to_owned(), String::new()),
            Fault::ForeignOrigin => never(StatusCode::FORBIDDEN, Code::PermissionDenied, "pages of this origin may not"),
            Fault::ExpectationFailed => never(StatusCode::EXPECTATION_FAILED, Code::InvalidArgument, "only `100-continue` can be expected"),
            // Nobody reads this one.
            Fault::Gone => self.later(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "the client went away"),
        }
    }

    fn later(&self, status: StatusCode, code: Code, text: impl Into<String>) -> Verdict {
        let wait = if self.took >= LONG { SHORT_WAIT } else { WAIT };
        Verdict { status, said: Said { code, message: text.into(), field: None, retry: Some(wait) } }
    }
}

fn never(status: StatusCode, code: Code, text: impl Into<String>) -> Verdict {
    Verdict { status, said: Said { code, message: text.into(), field: None, retry: None } }
}

fn bad(status: StatusCode, text: String, field: String) -> Verdict {
    Verdict { status, said: Said { code: Code::InvalidArgument, message: text, field: Some(field), retry: None } }
}

/// An answer over HTTP.
pub fn http(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Answer {
    let mut answer = Answer::new(Payload::full(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, encoding.media_type());
    answer
}

/// A refusal over HTTP.
pub fn http_refused(refused: &Refused, verdict: &Verdict, encoding: Encoding) -> Answer {
    let mut answer = http(verdict.status, encoding, verdict.said.encode(encoding));
    if let Refused::Fault(fault) = refused {
        write_fault(fault, answer.headers_mut());
    }
    answer.headers_mut().remove(RETRY_AFTER);
    if let Some(seconds) = verdict.said.retry {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

/// One message over gRPC, and that all is well.
pub fn grpc(message: &[u8]) -> Answer {
    let mut body = BytesMut::with_capacity(5 + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).expect("our own answers are short"));
    body.put_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    headed(Payload::trailed(body.freeze(), trailers))
}

/// A refusal over gRPC: the head is all there is of it, because some clients read the status only there.
pub fn grpc_refused(verdict: &Verdict) -> Answer {
    let mut answer = headed(Payload::none());
    let headers = answer.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(verdict.said.code as u16));
    headers.insert(GRPC_MESSAGE, verdict.said.grpc_message());
    headers.insert(GRPC_DETAILS, binary(&verdict.said.encode(Encoding::Protobuf)));
    if let Some(retry) = verdict.said.retry_info() {
        headers.insert(GRPC_RETRY, binary(&retry));
    }
    answer
}

fn headed(payload: Payload) -> Answer {
    let mut answer = Answer::new(payload);
    answer.headers_mut().insert(CONTENT_TYPE, GRPC);
    answer.headers_mut().insert(GRPC_ACCEPT, CODINGS);
    answer
}

fn binary(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(STANDARD_NO_PAD.encode(bytes))).expect("base64 is text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::{Doubt, Quota};

    fn told(refused: impl Into<Refused>, took: u64) -> (u16, i32, Option<u64>, bool) {
        let manner = Manner { quota_status: StatusCode::SERVICE_UNAVAILABLE, took: Duration::from_secs(took) };
        let Verdict { status, said } = manner.verdict(&refused.into());
        (status.as_u16(), said.code as i32, said.retry, said.field.is_some())
    }

    #[test]
    fn every_refusal_is_told_so_that_an_sdk_does_the_right_thing() {
        let wait = Duration::from_secs(30);
        let quota = Quota { unit: "events", per_second: 1.0, burst: 1 };
        for (refusal, told_as) in [
            (Refusal::Unauthenticated, (401, 16, None, false)),
            (Refusal::Denied { topic: "t".into() }, (403, 7, None, false)),
            (Refusal::malformed("x"), (400, 3, None, true)),
            (Refusal::invalid("f", "x"), (400, 3, None, true)),
            (Refusal::TooLarge { what: "x", actual: 2, limit: 1 }, (413, 8, None, false)),
            (Refusal::Throttled { wait, quota }, (503, 8, Some(2), false)),
            (Refusal::Overloaded { what: "x", wait }, (503, 8, Some(2), false)),
            (Refusal::Unavailable { wait, doubt: Doubt::NotStored }, (503, 14, Some(2), false)),
            (Refusal::Internal, (503, 14, Some(2), false)),
        ] {
            assert_eq!(told(refusal.clone(), 0), told_as, "{refusal:?}");
            let short = told_as.2.map(|_| 1);
            assert_eq!(told(refusal.clone(), 3).2, short, "{refusal:?} after three seconds");
        }
        assert_eq!(told(Refused::Late, 9), (503, 4, Some(1), false));
        assert_eq!(told(Fault::Timeout, 0), (503, 4, Some(2), false), "not 408, on which it would be dropped");
        assert_eq!(told(Fault::MethodNotAllowed("POST"), 0).0, 405);
    }

    #[test]
    fn a_wait_is_in_the_head_of_both_kinds_of_answers() {
        let refused = Refused::from(Refusal::Overloaded { what: "x", wait: Duration::from_secs(30) });
        let verdict = Manner { quota_status: StatusCode::TOO_MANY_REQUESTS, took: Duration::ZERO }.verdict(&refused);
        assert_eq!(http_refused(&refused, &verdict, Encoding::Json).headers()[RETRY_AFTER], "2");
        let answer = grpc_refused(&verdict);
        assert_eq!((answer.status(), &answer.headers()[GRPC_STATUS]), (StatusCode::OK, &HeaderValue::from_static("8")));
        assert_eq!(answer.headers()[GRPC_RETRY], "CgIIAg");
        let refused = Refused::from(Refusal::Unauthenticated);
        let verdict = Manner { quota_status: StatusCode::TOO_MANY_REQUESTS, took: Duration::ZERO }.verdict(&refused);
        let answer = http_refused(&refused, &verdict, Encoding::Protobuf);
        assert!(!answer.headers().contains_key(RETRY_AFTER) && answer.headers().contains_key("www-authenticate"));
    }
}
