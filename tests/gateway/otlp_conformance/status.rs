//! What a refusal says: `google.rpc.Status`, out of protobuf or JSON, brought to one form.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message;
use serde_json::Value;

use crate::support::client::Answer;

use super::http::{JSON, PROTOBUF};

/// Base64 of gRPC's binary fields: with padding or without.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The codes that the rules name.
pub const INVALID_ARGUMENT: i32 = 3;
/// Known, and not allowed.
pub const PERMISSION_DENIED: i32 = 7;
/// Too large, or over a quota.
pub const RESOURCE_EXHAUSTED: i32 = 8;
/// No such service or method.
pub const UNIMPLEMENTED: i32 = 12;
/// Nothing can be taken now.
pub const UNAVAILABLE: i32 = 14;
/// Nobody we know.
pub const UNAUTHENTICATED: i32 = 16;

/// A refusal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The code of gRPC.
    pub code: i32,
    /// The words.
    pub message: String,
    /// The descriptions in `BadRequest`, each with its field.
    pub violations: Vec<(String, String)>,
    /// The delay in `RetryInfo`.
    pub retry: Option<Duration>,
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

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The refusal in an answer, read as its content type says, which must be one of the two.
pub fn said(answer: &Answer) -> Said {
    let kind = answer.header("content-type").unwrap_or("none").to_ascii_lowercase();
    assert!(!answer.body.is_empty(), "{} without a body; content type {kind}", answer.status);
    match kind.split(';').next().expect("at least one part").trim() {
        PROTOBUF => Said::of_protobuf(&answer.body),
        JSON => Said::of_json(&answer.json()),
        other => panic!("{} in {other}: {}", answer.status, answer.text()),
    }
}

/// What `google.rpc.retryinfo-bin` says.
pub fn retry_info(base64: &str) -> Option<Duration> {
    RetryInfo::decode(unbase64(base64).as_slice()).expect("a RetryInfo").delay()
}

/// A binary field's bytes.
pub fn unbase64(text: &str) -> Vec<u8> {
    LENIENT.decode(text).unwrap_or_else(|error| panic!("{text} is not base64: {error}"))
}

impl Said {
    /// Out of a body, or out of `grpc-status-details-bin`.
    pub fn of_protobuf(bytes: &[u8]) -> Self {
        let status = Status::decode(bytes).unwrap_or_else(|error| panic!("no google.rpc.Status ({error}): {bytes:?}"));
        let mut said = Self { code: status.code, message: status.message, ..Self::default() };
        for any in status.details {
            match any.type_url.as_str() {
                "type.googleapis.com/google.rpc.BadRequest" => {
                    let bad = BadRequest::decode(any.value.as_slice()).expect("a BadRequest");
                    said.violations.extend(bad.field_violations.into_iter().map(|one| (one.field, one.description)));
                }
                "type.googleapis.com/google.rpc.RetryInfo" => {
                    said.retry = RetryInfo::decode(any.value.as_slice()).expect("a RetryInfo").delay();
                }
                _ => {}
            }
        }
        said
    }

    fn of_json(status: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = i32::try_from(status["code"].as_i64().unwrap_or_else(|| panic!("no code: {status}"))).expect("a code");
        let mut said = Self { code, message: text(&status["message"]), ..Self::default() };
        for detail in status["details"].as_array().into_iter().flatten() {
            match detail["@type"].as_str() {
                Some("type.googleapis.com/google.rpc.BadRequest") => {
                    let violations = detail["fieldViolations"].as_array().into_iter().flatten();
                    said.violations.extend(violations.map(|one| (text(&one["field"]), text(&one["description"]))));
                }
                Some("type.googleapis.com/google.rpc.RetryInfo") => {
                    let delay = text(&detail["retryDelay"]);
                    let seconds = delay.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
                    said.retry = Some(Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("no duration: {detail}"))));
                }
                _ => {}
            }
        }
        said
    }
}

impl RetryInfo {
    fn delay(self) -> Option<Duration> {
        let delay = self.retry_delay?;
        Some(Duration::new(u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?))
    }
}
