//! Whole requests against a door whose trunk takes nothing: what is asked of it, and how it says no.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::*;
use crate::auth::dev::{DEV_ISSUER, DevKey};
use crate::auth::{self, Authenticator, mint};
use crate::drain::Drain;
use crate::listeners::http::lobby::Readiness;
use crate::units::{ByteSize, Span};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A request with one span of no name, in one resource and one scope.
const ONE_SPAN: &[u8] = &[0x0a, 0x04, 0x12, 0x02, 0x12, 0x00];

struct Gate {
    door: Door,
    token: String,
}

fn gate(topics: &[&str], ready: bool) -> Gate {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let issuer = DevKey::load_or_create(folder.path()).expect("a key").issuer_config();
    let all = ["*".parse().expect("a grant")];
    let token = mint::mint(&issuer, "tester", &all, Duration::from_secs(3_600)).expect("a token");
    let auth = auth::Config { issuers: [(DEV_ISSUER.to_owned(), issuer)].into(), ..auth::Config::default() };
    let limits = BodyLimits { wire: ByteSize::mib(8), decoded: ByteSize::mib(16), timeout: Span::secs(30), min_rate: ByteSize::kib(1) };
    let http = crate::listeners::http::Config { cors_allowed_origins: vec!["https://app.example".to_owned()], ..Default::default() };
    let authenticator = Arc::new(Authenticator::new(&auth).expect("a sound configuration"));
    let parts = DoorParts {
        ingest: Arc::new(Ingest::without_tiers(topics)),
        lobby: Lobby::new(authenticator, Drain::default().signal(), Readiness::new(move || ready), &http),
        meter: Meter::new(64 << 20),
    };
    let config =
        Config { max_body_bytes: ByteSize::kib(64), max_decoded_body_bytes: ByteSize::kib(64), hold: Span::secs(1), ..Config::default() };
    Gate { door: Door::new(parts, &limits, config).expect("a sound configuration"), token }
}

struct Said {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    trailers: HeaderMap,
}

impl Said {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Gate {
    async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Said {
        let version = if target.starts_with("/v1") { ::http::Version::HTTP_11 } else { ::http::Version::HTTP_2 };
        let mut request = Request::builder().version(version).method(method).uri(target).header("host", "gate.example");
        for (name, value) in fields {
            let token = format!("Bearer {}", self.token);
            request = request.header(*name, if *value == "good" { &token } else { *value });
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        let peer = Peer { address: "127.0.0.1:7".parse().expect("an address"), tls: true };
        let (parts, body) = self.door.handle(request, &peer, None).await.into_parts();
        let body = body.collect().await.expect("infallible");
        let trailers = body.trailers().cloned().unwrap_or_default();
        Said { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes(), trailers }
    }

    async fn post(&self, target: &str, content_type: &str, body: &[u8]) -> Said {
        self.ask("POST", target, &[("authorization", "good"), ("content-type", content_type)], body).await
    }

    /// Calls with one message, in no coding.
    async fn call(&self, path: &str, fields: &[(&str, &str)], message: &[u8]) -> Said {
        let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).expect("short")][..], message].concat();
        let fields = [&[("content-type", "application/grpc"), ("te", "trailers")], fields].concat();
        self.ask("POST", path, &fields, &framed).await
    }
}

#[tokio::test]
async fn every_refusal_is_a_status_in_the_encoding_of_the_request() {
    let gate = gate(&["otlp_spans"], true);
    for (content_type, answered) in [(PROTOBUF, PROTOBUF), (JSON, JSON), ("text/plain", JSON), ("application/protobuf", PROTOBUF)] {
        let said = gate.ask("POST", "/v1/traces", &[("content-type", content_type)], b"").await;
        assert_eq!(
            (said.status, said.header("content-type"), said.header("www-authenticate")),
            (401, answered, "Bearer"),
            "{content_type}"
        );
        assert!(!said.body.is_empty() && !said.headers.contains_key("retry-after"));
    }
    assert_eq!(gate.post("/v1/traces", "text/plain", b"").await.status, 415);
    assert_eq!(gate.post("/v1/traces/", JSON, b"{}").await.status, 404);
    let denied = gate.post("/v1/logs", JSON, b"{}").await;
    assert_eq!((denied.status, &denied.json()["code"]), (403, &7.into()));
    let malformed = gate.post("/v1/traces", PROTOBUF, b"\x0a\xff").await;
    assert_eq!((malformed.status, malformed.header("content-type")), (400, PROTOBUF));
    let large = gate.post("/v1/traces", PROTOBUF, &[0; 65 << 10]).await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn only_post_is_taken_and_nothing_is_ever_redirected() {
    let gate = gate(&["otlp_spans"], true);
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE"] {
        for target in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
            let said = gate.ask(method, target, &[("authorization", "good")], b"").await;
            assert_eq!((said.status, said.header("allow")), (405, "POST, OPTIONS"), "{method} {target}");
        }
    }
    let page = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let preflight = gate.ask("OPTIONS", "/v1/traces", &page, b"").await;
    assert_eq!((preflight.status, preflight.header("access-control-max-age")), (204, "7200"));
    let refused = gate.ask("POST", "/v1/traces", &[("origin", "https://app.example"), ("content-type", JSON)], b"").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "https://app.example"));
    assert!(refused.header("access-control-expose-headers").contains("retry-after"));
}

#[tokio::test]
async fn an_empty_request_is_a_success_and_what_nobody_takes_is_to_be_sent_again() {
    let gate = gate(&["otlp_spans", "otlp_metrics", "otlp_logs"], true);
    for target in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        let said = gate.post(target, PROTOBUF, b"").await;
        assert_eq!((said.status, said.header("content-type"), said.body.len()), (200, PROTOBUF, 0), "{target}");
    }
    let outage = gate.post("/v1/traces", PROTOBUF, ONE_SPAN).await;
    assert_eq!((outage.status, outage.header("retry-after")), (503, "2"));
}

#[tokio::test]
async fn a_call_that_nobody_takes_is_held_and_then_refused_in_one_head() {
    let gate = gate(&["otlp_spans"], true);
    let begun = tokio::time::Instant::now();
    let said = gate.call(EXPORT, &[("authorization", "good"), ("grpc-timeout", "10S")], ONE_SPAN).await;
    assert_eq!((said.status, said.header("grpc-status"), said.body.len()), (200, "14", 0));
    assert!(said.headers.contains_key("google.rpc.retryinfo-bin") && said.headers.contains_key("grpc-status-details-bin"));
    assert!(said.trailers.is_empty(), "some clients read the status in the head alone");
    assert!(begun.elapsed() >= Duration::from_millis(750), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn calls_are_answered_in_the_words_of_grpc() {
    let gate = gate(&["otlp_spans"], true);
    let empty = gate.call(EXPORT, &[("authorization", "good")], b"").await;
    assert_eq!((empty.status, &empty.body[..]), (200, &b"\0\0\0\0\0"[..]));
    assert_eq!(empty.trailers["grpc-status"], "0");
    assert_eq!(empty.header("grpc-accept-encoding"), "identity,gzip,deflate,zstd");
    for (path, fields, message, code) in [
        (EXPORT, &[][..], b"".as_slice(), "16"),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", &[("authorization", "good")], b"", "7"),
        (EXPORT, &[("authorization", "good")], b"\x0a\xff", "3"),
        (EXPORT, &[("authorization", "good"), ("grpc-encoding", "snappy")], b"", "12"),
        (EXPORT, &[("authorization", "good"), ("grpc-timeout", "soon")], b"", "3"),
        ("/grpc.health.v1.Health/Watch", &[], b"", "12"),
        ("/nothing.Here/Export", &[("authorization", "good")], b"", "12"),
        ("/grpc.health.v1.Health/Check", &[], b"\x0a\x01x", "5"),
    ] {
        let said = gate.call(path, fields, message).await;
        assert_eq!((said.status, said.header("grpc-status")), (200, code), "{path} {fields:?}: {}", said.header("grpc-message"));
    }
    let framed = [b"\0\0\x02\0\0".as_slice(), b"begin"].concat();
    let large = gate.ask("POST", EXPORT, &[("authorization", "good"), ("content-type", "application/grpc+proto")], &framed).await;
    assert_eq!((large.header("grpc-status"), large.headers.contains_key("google.rpc.retryinfo-bin")), ("8", false));
}

#[tokio::test]
async fn health_is_readiness() {
    for (ready, status) in [(true, 1), (false, 2)] {
        let gate = gate(&[], ready);
        for asked in [b"".as_slice(), b"\x0a\x33opentelemetry.proto.collector.trace.v1.TraceService"] {
            let said = gate.call("/grpc.health.v1.Health/Check", &[], asked).await;
            assert_eq!(&said.body[..], [0, 0, 0, 0, 2, 8, status], "{}", said.header("grpc-message"));
        }
    }
}
