//! The messages that the door itself writes: `google.rpc.Status` with its details, the responses of exports, and health.
//!
//! Both encodings are written from the same values. Texts are short: they travel in header fields too.

use http::HeaderValue;
use prost::Message;
use serde_json::{Value, json};

use super::Encoding;
use crate::otlp::Signal;

/// The longest text in an answer, in bytes.
const MAX_TEXT: usize = 1_000;

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// INVALID_ARGUMENT
    InvalidArgument = 3,
    /// DEADLINE_EXCEEDED
    DeadlineExceeded = 4,
    /// NOT_FOUND
    NotFound = 5,
    /// PERMISSION_DENIED
    PermissionDenied = 7,
    /// RESOURCE_EXHAUSTED
    ResourceExhausted = 8,
    /// UNIMPLEMENTED
    Unimplemented = 12,
    /// INTERNAL
    Internal = 13,
    /// UNAVAILABLE
    Unavailable = 14,
    /// UNAUTHENTICATED
    Unauthenticated = 16,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// `Export…Response`: the three signals have the same numbers.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Why a request is refused, in no encoding yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The code of gRPC.
    pub code: Code,
    /// For a person.
    pub message: String,
    /// Where the request is wrong, if it is; empty: somewhere.
    pub field: Option<String>,
    /// After so many seconds it may be sent again; none: never as it is.
    pub retry: Option<u64>,
}

const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Said {
    /// A `google.rpc.Status` in the request's encoding.
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Protobuf => self.protobuf(),
            Encoding::Json => self.json().to_string().into_bytes(),
        }
    }

    fn protobuf(&self) -> Vec<u8> {
        let message = shortened(&self.message);
        let bad_request = self.field.as_ref().map(|field| {
            let violation = FieldViolation { field: field.clone(), description: message.to_owned() };
            Any { type_url: BAD_REQUEST.to_owned(), value: BadRequest { field_violations: vec![violation] }.encode_to_vec() }
        });
        let retry_info = self.retry_info().map(|value| Any { type_url: RETRY_INFO.to_owned(), value });
        let details = bad_request.into_iter().chain(retry_info).collect();
        Status { code: self.code as i32, message: message.to_owned(), details }.encode_to_vec()
    }

    fn json(&self) -> Value {
        let message = shortened(&self.message);
        let bad_request = self
            .field
            .as_ref()
            .map(|field| json!({ "@type": BAD_REQUEST, "fieldViolations": [{ "field": field, "description": message }] }));
        let retry_info = self.retry.map(|seconds| json!({ "@type": RETRY_INFO, "retryDelay": format!("{seconds}s") }));
        let details: Vec<Value> = bad_request.into_iter().chain(retry_info).collect();
        let mut status = json!({ "code": self.code as i32, "message": message });
        if !details.is_empty() {
            status["details"] = details.into();
        }
        status
    }

    /// A `google.rpc.RetryInfo` alone, where there is a time to wait.
    pub fn retry_info(&self) -> Option<Vec<u8>> {
        let delay = |seconds: u64| Delay { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
        self.retry.map(|seconds| RetryInfo { retry_delay: Some(delay(seconds)) }.encode_to_vec())
    }

    /// The message as the field `grpc-message` has it: percent-encoded.
    pub fn grpc_message(&self) -> HeaderValue {
        let mut text = String::new();
        for byte in shortened(&self.message).bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
        HeaderValue::try_from(text).expect("visible ASCII")
    }
}

/// What of an export was taken out for good.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partial {
    /// How many spans, data points or log records.
    pub rejected: u64,
    /// Which, and why.
    pub message: String,
}

/// An `Export…Response`: empty, unless something was taken out.
pub fn export_response(signal: Signal, partial: &Partial, encoding: Encoding) -> Vec<u8> {
    let message = shortened(&partial.message);
    let rejected = i64::try_from(partial.rejected).unwrap_or(i64::MAX);
    match encoding {
        Encoding::Json if partial.rejected == 0 => b"{}".to_vec(),
        Encoding::Json => {
            let name = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Metrics => "rejectedDataPoints",
                Signal::Logs => "rejectedLogRecords",
            };
            json!({ "partialSuccess": { name: rejected.to_string(), "errorMessage": message } }).to_string().into_bytes()
        }
        Encoding::Protobuf => {
            let partial = PartialSuccess { rejected, error_message: message.to_owned() };
            ExportResponse { partial_success: Some(partial).filter(|partial| partial.rejected > 0) }.encode_to_vec()
        }
    }
}

/// The service that a `HealthCheckRequest` asks about; none: it is not one.
pub fn asked_service(message: &[u8]) -> Option<String> {
    HealthCheckRequest::decode(message).ok().map(|request| request.service)
}

/// A `HealthCheckResponse`.
pub fn health(is_ready: bool) -> Vec<u8> {
    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;
    HealthCheckResponse { status: if is_ready { SERVING } else { NOT_SERVING } }.encode_to_vec()
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        Said { code: Code::Unavailable, message: "no, 100 % ü\n".into(), field: Some("byte 3".into()), retry: Some(2) }
    }

    #[test]
    fn both_encodings_say_the_same() {
        let status = Status::decode(&*said().encode(Encoding::Protobuf)).expect("a Status");
        assert_eq!((status.code, &*status.message, status.details.len()), (14, "no, 100 % ü\n", 2));
        let bad = BadRequest::decode(&*status.details[0].value).expect("a BadRequest");
        assert_eq!((&*bad.field_violations[0].field, &*bad.field_violations[0].description), ("byte 3", "no, 100 % ü\n"));
        let retry = RetryInfo::decode(&*status.details[1].value).expect("a RetryInfo").retry_delay.expect("a delay");
        assert_eq!((retry.seconds, retry.nanos), (2, 0));
        let json: Value = serde_json::from_slice(&said().encode(Encoding::Json)).expect("JSON");
        assert_eq!(
            json,
            json!({"code": 14, "message": "no, 100 % ü\n", "details": [
                {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "byte 3", "description": "no, 100 % ü\n"}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]})
        );
    }

    #[test]
    fn what_stands_in_a_field_is_percent_encoded_and_short() {
        assert_eq!(said().grpc_message(), "no, 100 %25 %C3%BC%0A");
        let long = Said { message: "ü".repeat(5_000), ..said() };
        assert_eq!(long.grpc_message().len(), 3_000);
        assert!(long.encode(Encoding::Protobuf).len() < 2_500);
    }

    #[test]
    fn a_success_has_no_partial_success_at_all() {
        let all = Partial::default();
        assert_eq!(export_response(Signal::Traces, &all, Encoding::Protobuf), b"");
        assert_eq!(export_response(Signal::Traces, &all, Encoding::Json), b"{}");
        let some = Partial { rejected: 3, message: "too large".into() };
        let response = ExportResponse::decode(&*export_response(Signal::Logs, &some, Encoding::Protobuf)).expect("a response");
        assert_eq!(response.partial_success, Some(PartialSuccess { rejected: 3, error_message: "too large".into() }));
        let json = export_response(Signal::Metrics, &some, Encoding::Json);
        assert_eq!(json, br#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too large"}}"#);
    }
}
