//! OTLP over HTTP: `POST /v1/traces`, `/v1/metrics`, `/v1/logs`, in protobuf or JSON; answers and refusals are in the
//! encoding of the request.

use std::error::Error;

use ::http::header::{ACCEPT, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::export::Request;
use super::reply::{self, Refused};
use super::{Door, Encoding, status};
use crate::event;
use crate::listeners::http::body;
use crate::listeners::http::events::media_type;
use crate::listeners::http::fault::Fault;
use crate::listeners::http::lobby::Head;
use crate::listeners::http::reply::{Answer, holding};
use crate::otlp::Signal;

/// What the paths allow.
pub(super) const METHODS: &str = "POST, OPTIONS";

const READS: &str = "application/x-protobuf, application/json";

/// The signal of a path, with or without a slash at its end.
pub(super) fn signal(path: &str) -> Option<Signal> {
    match path.strip_suffix('/').unwrap_or(path) {
        "/v1/traces" => Some(Signal::Traces),
        "/v1/metrics" => Some(Signal::Metrics),
        "/v1/logs" => Some(Signal::Logs),
        _ => None,
    }
}

/// The encoding of a request.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    match media_type(headers)?.as_str() {
        "application/x-protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

/// The encoding of an answer to a request that may be in none of the two: what it looks like.
pub(super) fn guessed(headers: &HeaderMap) -> Encoding {
    let looks_like = |name| {
        let text = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default().to_ascii_lowercase();
        let has = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
        if has(b"proto") || has(b"octet-stream") { Some(Encoding::Protobuf) } else { has(b"json").then_some(Encoding::Json) }
    };
    // A person who tries it by hand says neither, and reads text.
    encoding(headers).or_else(|| looks_like(CONTENT_TYPE)).or_else(|| looks_like(ACCEPT)).unwrap_or(Encoding::Json)
}

impl Door {
    pub(super) async fn http<B>(&self, head: &Head<'_>, signal: Option<Signal>, body: B) -> Result<Answer, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let arrived = Instant::now();
        let signal = signal.ok_or(Fault::NotFound)?;
        if head.parts.method != Method::POST {
            return Err(Fault::MethodNotAllowed(METHODS).into());
        }
        // Never a redirect: some SDKs take one for a success.
        self.in_secret(head)?;
        let principal = self.parts.lobby.principal(head, self.config.token_grace.get()).await?;
        let encoding = encoding(&head.parts.headers).ok_or(Fault::UnsupportedMediaType(READS))?;
        let (bytes, guard) = body::read(head.parts, body, &self.limits, &self.parts.meter).await?;
        let deadline = arrived + self.config.answer_within.get();
        let request = Request { door: event::Door::Otlp, signal, encoding, bytes, guard, hold: None, deadline };
        let exported = self.export(head, &principal, request).await?;
        let body = status::export_response(signal, &exported.partial, encoding);
        Ok(holding(reply::http(StatusCode::OK, encoding, body), exported.guard))
    }

    /// Refuses what came to the outermost trusted proxy in plain text.
    pub(super) fn in_secret(&self, head: &Head<'_>) -> Result<(), Fault> {
        const EXPOSED: Fault = Fault::BadRequest("this came in plain text; send it over https, and treat its credentials as exposed");
        if self.parts.lobby.is_plain(head) { Err(EXPOSED) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_paths_are_otlp_and_nothing_below_them() {
        assert_eq!(signal("/v1/traces"), Some(Signal::Traces));
        assert_eq!(signal("/v1/metrics"), Some(Signal::Metrics));
        assert_eq!(signal("/v1/logs/"), Some(Signal::Logs));
        for path in ["/v1/traces/x", "/v1/tracesx", "/V1/traces", "//v1/traces", "/v1", "/v1/traces//"] {
            assert_eq!(signal(path), None, "{path}");
        }
    }

    #[test]
    fn an_answer_is_in_what_the_request_looks_like() {
        let guess = |fields: &[(&'static str, &'static str)]| {
            guessed(&fields.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect())
        };
        for (content_type, expected) in [
            ("application/x-protobuf", Encoding::Protobuf),
            ("Application/JSON; charset=utf-8", Encoding::Json),
            ("application/json; charset=latin1", Encoding::Json),
            ("application/protobuf", Encoding::Protobuf),
            ("application/octet-stream", Encoding::Protobuf),
            ("text/json", Encoding::Json),
            ("text/plain", Encoding::Json),
        ] {
            assert_eq!(guess(&[("content-type", content_type)]), expected, "{content_type}");
        }
        assert_eq!(guess(&[("accept", "application/x-protobuf")]), Encoding::Protobuf);
        assert_eq!(guess(&[]), Encoding::Json);
    }
}
