//! Whole requests against a door whose trunk takes nothing: what is asked of it is what is tested here.

use std::convert::Infallible;
use std::pin::Pin;
use std::task;
use std::time::Duration;

use super::*;
use crate::auth::dev::{DEV_ISSUER, DevKey};
use crate::auth::{self, mint};
use crate::drain::{Drain, Phase};
use crate::units::{ByteSize, Span};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, WWW_AUTHENTICATE};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

const ORIGIN: &str = "https://app.example";

struct Gate {
    door: Door,
    drain: Drain,
    meter: Arc<Meter>,
    token: String,
}

/// The one place that knows how a token is recognized and what the trunk is: one that has neither of its two ends.
fn gate() -> Gate {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let issuer = DevKey::load_or_create(folder.path()).expect("a key").issuer_config();
    let token = mint::mint(&issuer, "tester", &["*".parse().expect("a grant")], Duration::from_secs(3600)).expect("a token");
    let auth = auth::Config { issuers: [(DEV_ISSUER.to_owned(), issuer)].into(), ..auth::Config::default() };

    let config = Config { cors_allowed_origins: vec![ORIGIN.to_owned()], trusted_hops: 1, ..Config::default() };
    let limits = BodyLimits { wire: ByteSize::mib(8), decoded: ByteSize::mib(16), timeout: Span::secs(30), min_rate: ByteSize::kib(1) };
    let (drain, meter) = (Drain::default(), Meter::new(64 << 20));
    let parts = DoorParts {
        app_check: None,
        ingest: Arc::new(Ingest::without_tiers(&["orders", "frontend-events"])),
        authenticator: Arc::new(Authenticator::new(&auth).expect("a sound configuration")),
        meter: Arc::clone(&meter),
        signal: drain.signal(),
        readiness: Readiness::new(|| true),
    };
    let door = Door::new(parts, limits, config).expect("a sound configuration");
    Gate { door, drain, meter, token }
}

struct Said {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

impl Gate {
    /// One request; a header `authorization: good` stands for the token that is recognized.
    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Said {
        self.ask_with(method, target, headers, Full::new(Bytes::copy_from_slice(body.as_bytes()))).await
    }

    async fn ask_with<B>(&self, method: &str, target: &str, headers: &[(&str, &str)], body: B) -> Said
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut request = Request::builder().method(method).uri(target).header(HOST, "gate.example");
        for (name, value) in headers {
            let good = format!("Bearer {}", self.token);
            request = request.header(*name, if (*name, *value) == ("authorization", "good") { &good } else { *value });
        }
        let peer = Peer { address: "127.0.0.1:7".parse().expect("an address"), tls: true };
        let answer = self.door.handle(request.body(body).expect("a request"), &peer).await;
        let (parts, body) = answer.into_parts();
        let text = String::from_utf8(body.collect().await.expect("infallible").to_bytes().to_vec()).expect("UTF-8");
        Said { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn send(&self, target: &str, body: &str) -> Said {
        self.ask("POST", target, &[("authorization", "good"), ("content-type", "application/json")], body).await
    }
}

/// A path of each route, as a client would write it.
fn target(route: &super::super::routes::Route) -> String {
    match &route.path {
        super::super::routes::Path::Exact(path) => path.clone(),
        super::super::routes::Path::TopicBelow(prefix) => format!("{prefix}orders"),
    }
}

#[tokio::test]
async fn without_credentials_every_route_but_the_probes_says_401_and_nothing_else() {
    let gate = gate();
    let wrong = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic Z29vZDo=", "good-token", "bearer \u{1}", "Token good-token"];
    for route in gate.door.routes().rows().iter().filter(|route| route.authenticated) {
        let method = route.methods.allow().split(',').next().expect("a method");
        let first = gate.ask(method, &target(route), &[], "").await;
        assert_eq!((first.status, first.header("www-authenticate")), (401, "Bearer"), "{route:?}");
        for credentials in wrong.into_iter().filter(|text| HeaderValue::from_str(text).is_ok()) {
            let said = gate.ask(method, &target(route), &[("authorization", credentials)], "{\"data\":").await;
            assert_eq!((said.status, &said.text), (401, &first.text), "{route:?} {credentials}");
            assert!(said.headers.contains_key(WWW_AUTHENTICATE));
        }
        let twice = gate.ask(method, &target(route), &[("authorization", "good"), ("authorization", "good")], "").await;
        assert_eq!((twice.status, twice.text), (401, first.text), "{route:?}");
    }
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    let gate = gate();
    let credentials = format!("bEARER  {}", gate.token);
    let headers = [("authorization", credentials.as_str()), ("content-type", "application/json")];
    assert_eq!(gate.ask("POST", "/v1/events", &headers, "[]").await.status, 200);
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let gate = gate();
    for route in gate.door.routes().rows() {
        let allow = route.methods.allow();
        let options = gate.ask("OPTIONS", &target(route), &[], "").await;
        assert_eq!((options.status, options.header("allow"), options.text.as_str()), (204, allow, ""), "{route:?}");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"].into_iter().filter(|method| !allow.contains(method)) {
            let said = gate.ask(method, &target(route), &[("authorization", "good")], "").await;
            if route.handler == Handler::Callable {
                assert_eq!((said.status, &said.json()["error"]["status"]), (400, &"INVALID_ARGUMENT".into()));
            } else {
                assert_eq!((said.status, said.header("allow")), (405, allow), "{route:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_whoever_asks() {
    let gate = gate();
    for path in ["/", "/v2/events", "/v1/events/", "/v1/events/a/b", "/metrics", "/status", "/%2e%2e/etc/passwd"] {
        let stranger = gate.ask("GET", path, &[("x-request-id", "r")], "").await;
        let known = gate.ask("GET", path, &[("x-request-id", "r"), ("authorization", "good")], "").await;
        assert_eq!((stranger.status, stranger.json()["code"].as_str()), (404, Some("not_found")), "{path}");
        assert_eq!((stranger.status, stranger.text), (known.status, known.text));
    }
}

#[tokio::test]
async fn probes_have_no_body_and_follow_the_drain() {
    let gate = gate();
    for path in ["/livez", "/live", "/readyz", "/ready"] {
        for method in ["GET", "HEAD"] {
            let said = gate.ask(method, path, &[], "").await;
            assert_eq!((said.status, said.text.as_str()), (200, ""), "{path}");
        }
    }
    gate.drain.enter(Phase::Leaving);
    assert_eq!(gate.ask("GET", "/readyz", &[], "").await.status, 503);
    let live = gate.ask("GET", "/livez", &[], "").await;
    assert_eq!((live.status, live.header("connection")), (200, "close"));
}

#[tokio::test]
async fn every_answer_has_the_request_id() {
    let gate = gate();
    for path in ["/livez", "/nowhere", "/v1/events", "/ingestEvent"] {
        let taken = gate.ask("POST", path, &[("x-request-id", "mine-1")], "").await;
        assert_eq!(taken.header("x-request-id"), "mine-1");
        let made = gate.ask("POST", path, &[("x-request-id", "not mine")], "").await;
        assert_eq!(made.header("x-request-id").len(), 26);
    }
}

#[tokio::test]
async fn the_events_results_come_in_order_whoever_refused_them() {
    let gate = gate();
    let said = gate.send("/v1/events/orders", r#"[{"data":1},{"data":2,"topic":"other"},{"data":3}]"#).await;
    assert_eq!(said.status, 207);
    let codes: Vec<_> = said.json()["results"].as_array().expect("results").iter().map(|result| result["code"].clone()).collect();
    assert_eq!(codes, ["unavailable", "invalid", "unavailable"], "the trunk of this test can put nothing anywhere");
    assert_eq!(gate.send("/v1/events", "[]").await.json()["results"], serde_json::json!([]));
    let one = gate.send("/v1/events?topic=orders", r#"{"data":1}"#).await;
    assert_eq!((one.status, one.header("content-type")), (503, "application/problem+json"));
}

#[tokio::test]
async fn names_that_are_no_topics_are_refused_wherever_they_stand() {
    let gate = gate();
    let long = "x".repeat(250);
    for name in ["%2e%2e%2fx", "__consumer_offsets", "a%00b", "%ff", &long] {
        for target in [format!("/v1/events/{name}"), format!("/v1/events?topic={name}")] {
            let said = gate.send(&target, r#"{"data":1}"#).await;
            assert_eq!((said.status, said.json()["code"].as_str()), (403, Some("denied")), "{target}");
        }
    }
    let two = gate.send("/v1/events/a?topic=b", r#"{"data":1}"#).await;
    assert_eq!((two.status, two.json()["field"].as_str()), (422, Some("topic")));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_reason() {
    let gate = gate();
    let good = ("authorization", "good");
    let text = gate.ask("POST", "/v1/events", &[good, ("content-type", "text/plain")], "{}").await;
    assert_eq!((text.status, text.header("accept")), (415, "application/json, application/x-ndjson"));
    let malformed = gate.send("/v1/events", "[\n  nope]").await;
    assert_eq!((malformed.status, &malformed.json()["position"]["line"]), (400, &2.into()));
    let keyed = [good, ("content-type", "application/json"), ("idempotency-key", "k")];
    assert_eq!(gate.ask("POST", "/v1/events", &keyed, "[{\"data\":1}]").await.status, 400);
    let key = gate.send("/v1/events?token=abc", r#"{"data":1}"#).await;
    assert_eq!((key.status, key.json()["code"].as_str()), (400, Some("bad_request")));
    assert!(!key.text.contains("abc"));
}

#[tokio::test]
async fn a_call_is_answered_in_firebases_words() {
    let gate = gate();
    let good = ("authorization", "good");
    let json = ("content-type", "application/json; charset=utf-8");
    for (headers, body) in [
        (vec![good, ("content-type", "text/plain")], "{\"data\":{}}"),
        (vec![good], "{\"data\":{}}"),
        (vec![good, json], "{\"data\":{},\"more\":1}"),
        (vec![good, json], "[]"),
        (vec![good, json], ""),
    ] {
        let said = gate.ask("POST", "/ingestEvent", &headers, body).await;
        let error = &said.json()["error"];
        assert_eq!(
            (said.status, error["status"].as_str(), error["message"].as_str()),
            (400, Some("INVALID_ARGUMENT"), Some("Bad Request")),
            "{body}"
        );
    }
    let refused = gate.ask("POST", "/ingestEvent", &[good, json], "{\"data\":{\"action\":\"x\"}}").await;
    assert_eq!((refused.status, &refused.json()["error"]["status"]), (503, &"UNAVAILABLE".into()));
    let stranger = gate.ask("POST", "/ingestEvent", &[json], "{\"data\":{}}").await;
    assert_eq!((stranger.status, &stranger.json()["error"]["status"]), (401, &"UNAUTHENTICATED".into()));
    let stream = gate.ask("POST", "/ingestEvent", &[json, ("accept", "text/event-stream")], "{\"data\":{}}").await;
    assert_eq!((stream.status, stream.header("content-type")), (200, "text/event-stream"));
    assert!(stream.text.starts_with("data: {\"error\":") && stream.text.ends_with("\n\n"));
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_answers_and_ask_before() {
    let gate = gate();
    let preflight = |origin: &'static str| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-firebase-appcheck"),
        ]
    };
    let listed = gate.ask("OPTIONS", "/ingestEvent", &preflight(ORIGIN), "").await;
    assert_eq!((listed.status, listed.header("access-control-allow-origin")), (204, ORIGIN));
    assert_eq!(listed.header("access-control-allow-headers"), "authorization,content-type,x-firebase-appcheck");
    let unlisted = gate.ask("OPTIONS", "/ingestEvent", &preflight("https://evil.example"), "").await;
    assert_eq!(unlisted.status, 204);
    assert!(unlisted.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    for path in ["/v1/events", "/ingestEvent", "/nowhere", "/livez"] {
        let said = gate.ask("POST", path, &[("origin", ORIGIN)], "").await;
        assert_eq!(said.headers[ACCESS_CONTROL_ALLOW_ORIGIN], ORIGIN, "{path}");
        assert!(said.headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
        let other = gate.ask("POST", path, &[("origin", "https://evil.example")], "").await;
        assert_eq!((other.status, other.headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)), (said.status, false));
    }
}

#[tokio::test]
async fn plain_text_in_front_of_the_proxy_is_redirected_or_refused() {
    let gate = gate();
    let plain = ("x-forwarded-proto", "http");
    let page = gate.ask("GET", "/openapi.json?x=1", &[plain], "").await;
    assert_eq!((page.status, page.header("location")), (308, "https://gate.example/openapi.json?x=1"));
    let sent = gate.ask("POST", "/v1/events", &[plain, ("authorization", "good")], "[]").await;
    assert_eq!((sent.status, sent.json()["code"].as_str()), (400, Some("bad_request")));
    assert_eq!(gate.ask("GET", "/livez", &[plain], "").await.status, 200, "probes come from the host itself");
    let secure = [("x-forwarded-proto", "https"), ("authorization", "good"), ("content-type", "application/json")];
    assert_eq!(gate.ask("POST", "/v1/events", &secure, "[]").await.status, 200);
}

#[tokio::test]
async fn the_description_names_every_route_and_head_says_how_long_it_is() {
    let gate = gate();
    let full = gate.ask("GET", "/openapi.json", &[("authorization", "good")], "").await;
    let described = full.json();
    for route in gate.door.routes().rows() {
        let path = target(route).replace("/orders", "/{topic}");
        let method = route.methods.allow().split(',').next().expect("a method").to_ascii_lowercase();
        assert!(described["paths"][&path][&method].is_object(), "{method} {path}");
    }
    let head = gate.ask("HEAD", "/openapi.json", &[("authorization", "good")], "").await;
    assert_eq!((head.status, head.text.as_str(), head.header("content-length")), (200, "", full.text.len().to_string().as_str()));
    assert_eq!(head.headers[CONTENT_TYPE], full.headers[CONTENT_TYPE]);
}

#[tokio::test]
async fn bytes_are_in_flight_until_the_answer_is_gone() {
    let gate = gate();
    let body = r#"{"data":1}"#;
    let request = Request::post("/v1/events/orders").header(AUTHORIZATION, format!("Bearer {}", gate.token));
    let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request");
    let peer = Peer { address: "127.0.0.1:7".parse().expect("an address"), tls: true };
    let answer = gate.door.handle(request, &peer).await;
    assert!(gate.meter.used() >= body.len() as u64);
    drop(answer);
    assert_eq!(gate.meter.used(), 0);
    let full = gate.meter.reserve(gate.meter.limit()).expect("all of it");
    let refused = gate.send("/v1/events/orders", body).await;
    assert_eq!((refused.status, refused.header("retry-after"), refused.json()["code"].as_str()), (503, "1", Some("overloaded")));
    drop(full);
}

/// A body whose reading is a fault of ours.
struct Faulty;

impl Body for Faulty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("planted")
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_for_its_request_only() {
    let gate = gate();
    let headers = [("authorization", "good"), ("content-type", "application/json")];
    let said = gate.ask_with("POST", "/v1/events", &headers, Faulty).await;
    assert_eq!((said.status, said.json()["code"].as_str()), (500, Some("internal")));
    assert!(!said.text.contains("planted"));
    assert_eq!(gate.send("/v1/events", "[]").await.status, 200);
    assert_eq!(gate.meter.used(), 0);
}

#[test]
fn handling_a_request_can_move_between_threads() {
    fn movable<T: Send>(_: T) {}
    let gate = gate();
    let peer = Peer { address: "127.0.0.1:7".parse().expect("an address"), tls: true };
    movable(gate.door.handle(Request::new(Full::new(Bytes::new())), &peer));
}
