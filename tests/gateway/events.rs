//! Native events at the real door: bodies of every kind and coding, results in order, quotas in HTTP's words, and what
//! senders try.

use std::collections::BTreeSet;
use std::fmt::Write;

use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::support::DEADLINE;
use super::support::client::{Answer, Client};
use super::support::gate::{Gate, Setup};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A gate whose routes are these, with further lines of configuration before them.
fn setup(topics: &[&str], more: &str) -> Setup {
    let routes: String = topics.iter().map(|topic| format!("[[routes]]\ntopic = \"{topic}\"\n")).collect();
    Setup::new().config(&format!("{more}\n{routes}"))
}

/// Posts with a token and further headers.
async fn post(gate: &Gate, path: &str, token: &str, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
    let bearer = format!("Bearer {token}");
    gate.post_with(path, &[headers, &[("authorization", &bearer)]].concat(), body).await
}

fn codes(answer: &Answer) -> Vec<String> {
    let of = |result: &Value| result["code"].as_str().or(result["status"].as_str()).expect("a word").to_owned();
    answer.json()["results"].as_array().expect("results").iter().map(of).collect()
}

/// The one row behind an accepted result, as `inbox show` has it.
async fn row(gate: &Gate, result: &Value) -> Value {
    let ran = gate.setup.run(&["inbox", "show", result["document"].as_str().expect("a document")]).await;
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_json_are_refused_with_the_place_of_the_fault() {
    let gate = setup(&["events"], "").start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for (name, data) in [
        ("arrays 100,000 deep", deep("[", "]").into_bytes()),
        ("objects 100,000 deep", deep("{\"a\":", "}").into_bytes()),
        ("129 deep", format!("{}{}", "[".repeat(129), "]".repeat(129)).into_bytes()),
        ("invalid UTF-8", b"\"\xff\"".to_vec()),
        ("overlong UTF-8", b"\"\xc0\xaf\"".to_vec()),
        ("a surrogate in UTF-8", b"\"\xed\xa0\x80\"".to_vec()),
        ("a lone surrogate", b"\"\\ud800\"".to_vec()),
        ("surrogates in the wrong order", b"\"\\udc00\\ud800\"".to_vec()),
        ("NaN", b"NaN".to_vec()),
        ("Infinity", b"-Infinity".to_vec()),
        ("1e400", b"1e400".to_vec()),
        ("a raw newline", b"\"\n\"".to_vec()),
        ("a comment", b"1 // one".to_vec()),
        ("nothing", b"".to_vec()),
    ] {
        let answer = gate.post("/v1/events/events", &token, [b"{\"data\":", data.as_slice(), b"}"].concat()).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["code"]), (400, &json!("malformed")), "{name}: {}", answer.text());
        assert!(body["position"]["offset"].is_u64() && body["position"]["line"].is_u64(), "{name}: {body}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let marked = gate.post("/v1/events/events", &token, b"\xef\xbb\xbf{\"data\":1}".to_vec()).await;
    assert_eq!((marked.status, &marked.json()["position"]["offset"]), (400, &json!(0)), "a byte order mark");
    let million = gate.post("/v1/events/events", &token, format!("[{}0]", "0,".repeat(999_999))).await;
    assert!(million.status == 400 && million.json()["position"]["offset"].is_u64(), "a million elements: {}", million.text());
    let many = gate.post("/v1/events/events", &token, format!("[{}0]", "0,".repeat(19_999))).await;
    assert_eq!((many.status, &many.json()["code"], &many.json()["actual"]), (413, &json!("too_large"), &json!(20_000)));
    assert!(!many.json()["detail"].as_str().expect("a text").contains("bytes"), "events are not bytes: {}", many.text());
    let last_line = gate.post("/v1/events/events", &token, "{\"data\":[1,\n2,\n  x]}").await;
    assert_eq!(last_line.json()["position"], json!({"offset": 17, "line": 3, "column": 3}));
    let fine = format!("{{\"data\":{}{}}}", "[".repeat(126), "]".repeat(126));
    assert_eq!(gate.post("/v1/events/events", &token, fine).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_has_its_own_result_in_its_place() {
    let gate = setup(&["a", "b", "c"], "").start().await;
    let token = gate.token(&["--sub", "me", "--topics", "a,b"]).await;
    let large = "x".repeat(1 << 20);
    let batch = format!(
        r#"[{{"topic":"a","data":1}},{{"topic":"c","data":2}},{{"data":3}},{{"topic":"b","data":4,"extra":1}},
            {{"topic":"b","data":"{large}"}},5,{{"topic":"b","id":"","data":6}},{{"topic":"b","data":7}},{{"topic":"a","headers":{{"x-deml-event-id":"x"}},"data":8}}]"#
    );
    let answer = gate.post("/v1/events", &token, batch).await;
    assert_eq!(answer.status, 207, "a 2xx hides no refusal: 207 says that there are some");
    let expected = ["accepted", "denied", "invalid", "invalid", "too_large", "invalid", "invalid", "accepted", "invalid"];
    assert_eq!(codes(&answer), expected);
    assert_eq!((&answer.json()["accepted"], &answer.json()["rejected"]), (&json!(2), &json!(7)));
    assert_eq!(row(&gate, &answer.json()["results"][7]).await["value"], "7");

    let all_refused = gate.post("/v1/events/c", &token, "[{\"data\":1},{\"data\":2}]").await;
    assert_eq!((all_refused.status, codes(&all_refused)), (403, vec!["denied".to_owned(); 2]), "one code: its own status");
    let empty = gate.post("/v1/events/a", &token, "[]").await;
    assert_eq!((empty.status, &empty.json()["results"]), (200, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_are_events_and_a_bad_line_is_named() {
    let gate = setup(&["a"], "").start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let lines = ("content-type", "application/x-ndjson");
    let answer = post(&gate, "/v1/events/a", &token, &[lines], "{\"data\":1.50}\n\r\n{\"data\" : {\"b\":2} }\n{\"nothing\":1}\n").await;
    assert_eq!((answer.status, codes(&answer)), (207, ["accepted", "accepted", "invalid"].map(str::to_owned).to_vec()));
    assert_eq!(row(&gate, &answer.json()["results"][0]).await["value"], "1.50", "the bytes as they came");
    let broken = post(&gate, "/v1/events/a", &token, &[lines], "{\"data\":1}\n{\"data\":\n").await;
    assert_eq!((broken.status, &broken.json()["position"]["line"]), (400, &json!(2)));
    let other = post(&gate, "/v1/events/a", &token, &[("content-type", "text/plain")], "{\"data\":1}").await;
    assert_eq!(other.status, 415);
}

async fn coded(name: &str, plain: &[u8]) -> Vec<u8> {
    macro_rules! through {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(plain).await.expect("memory");
            encoder.shutdown().await.expect("memory");
            encoder.into_inner()
        }};
    }
    match name {
        "gzip" => through!(GzipEncoder),
        "zstd" => through!(ZstdEncoder),
        "br" => through!(BrotliEncoder),
        "deflate" => through!(ZlibEncoder),
        _ => through!(DeflateEncoder),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_be_coded_once_and_is_bounded_by_what_comes_out() {
    let gate = setup(&["a"], "").start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let plain = format!("[{}{{\"data\":\"last\"}}]", "{\"data\":\"some text\"},".repeat(500));
    let bomb = vec![b' '; 256 << 20];
    for (name, coding) in [("gzip", "gzip"), ("zstd", "zstd"), ("br", "br"), ("deflate", "deflate"), ("raw", "deflate"), ("gzip", "X-GZIP")]
    {
        let body = coded(name, plain.as_bytes()).await;
        assert!(body.len() < plain.len() / 4);
        let good = post(&gate, "/v1/events/a", &token, &[JSON, ("content-encoding", coding)], body.clone()).await;
        assert_eq!((good.status, &good.json()["accepted"]), (202, &json!(501)), "{name}");
        let cut = post(&gate, "/v1/events/a", &token, &[JSON, ("content-encoding", coding)], body[..body.len() / 2].to_vec()).await;
        assert_eq!((cut.status, &cut.json()["code"]), (400, &json!("malformed")), "{name}, cut off: {}", cut.text());
        if name != "raw" && coding != "X-GZIP" {
            let exploding = coded(name, &bomb).await;
            let answer = post(&gate, "/v1/events/a", &token, &[JSON, ("content-encoding", coding)], exploding).await;
            assert_eq!((answer.status, &answer.json()["limit"]), (413, &json!(16 << 20)), "{name}, a bomb: {}", answer.text());
        }
    }
    let zipped = coded("gzip", plain.as_bytes()).await;
    for headers in [
        &[("content-encoding", "gzip, gzip")][..],
        &[("content-encoding", "gzip"), ("content-encoding", "gzip")],
        &[("content-encoding", "lzma")],
        &[("content-encoding", "zstd")],
        &[("content-encoding", "br")],
    ] {
        let answer = post(&gate, "/v1/events/a", &token, &[headers, &[JSON]].concat(), zipped.clone()).await;
        assert_eq!(answer.status, 415, "{headers:?}: {}", answer.text());
        assert!(answer.header("accept-encoding").is_some_and(|list| list.contains("zstd")), "it says what it reads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senders_key_becomes_the_id_and_nobody_elses() {
    let gate = setup(&["a"], "").start().await;
    let (mine, theirs) = (gate.token(&["--sub", "me"]).await, gate.token(&["--sub", "they"]).await);
    let id = |answer: &Answer| answer.json()["results"][0]["id"].as_str().expect("an id").to_owned();
    let rows = async || gate.admin_get("/status").await.json()["inbox"]["rows"].as_u64().expect("a number");

    let first = gate.post("/v1/events/a", &mine, "{\"id\":\"order-1\",\"data\":1}").await;
    let again = gate.post("/v1/events/a", &mine, "{\"id\":\"order-1\",\"data\":1}").await;
    let by_header = post(&gate, "/v1/events/a", &mine, &[JSON, ("idempotency-key", "\"order-1\"")], "{\"data\":1}").await;
    assert!(id(&first).ends_with(".order-1"), "{}", first.text());
    assert_eq!((id(&again), id(&by_header), rows().await), (id(&first), id(&first), 1), "sent three times, stored once");
    let other = gate.post("/v1/events/a", &theirs, "{\"id\":\"order-1\",\"data\":2}").await;
    assert_eq!((other.status, rows().await), (202, 2), "somebody else's key is another key");
    assert_ne!(id(&other), id(&first));
    let forged = gate.post("/v1/events/a", &theirs, format!("{{\"id\":\"{}\",\"data\":3}}", id(&first))).await;
    assert_ne!((id(&forged), rows().await), (id(&first), 2), "nor can it be had by writing it out");
    assert_eq!(row(&gate, &first.json()["results"][0]).await["value"], "1");

    for (headers, body, status) in [
        (&[("idempotency-key", "k1")][..], "{\"id\":\"k2\",\"data\":1}", 422),
        (&[("idempotency-key", "k1")], "[{\"data\":1}]", 400),
        (&[("idempotency-key", "k1"), ("idempotency-key", "k1")], "{\"data\":1}", 400),
        (&[("idempotency-key", "")], "{\"data\":1}", 400),
        (&[], "{\"id\":\"a\\nb\",\"data\":1}", 422),
        (&[], "{\"id\":1,\"data\":1}", 422),
    ] {
        let answer = post(&gate, "/v1/events/a", &mine, &[headers, &[JSON]].concat(), body).await;
        assert_eq!(answer.status, status, "{headers:?} {body}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_quota_a_sender_is_told_when_to_come_again() {
    let tier = "[limits.tiers.standard]\nevents_per_second = 0.01\nburst = 3\n[http]\ncors_allowed_origins = [\"https://app.example\"]\n";
    let gate = setup(&["a"], tier).start().await;
    let (mine, theirs) = (gate.token(&["--sub", "me"]).await, gate.token(&["--sub", "they"]).await);
    assert_eq!(gate.post("/v1/events/a", &mine, "[{\"data\":1},{\"data\":2}]").await.status, 202);
    let refused = post(&gate, "/v1/events/a", &mine, &[JSON, ("origin", "https://app.example")], "[{\"data\":3},{\"data\":4}]").await;
    assert_eq!((refused.status, codes(&refused)), (429, vec!["throttled".to_owned(); 2]), "the whole batch, or nothing of it");
    let wait: u64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=100).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"events\";q=3;w=300"));
    assert_eq!(refused.header("ratelimit"), Some(format!("\"events\";r=0;t={wait}").as_str()));
    let exposed = refused.header("access-control-expose-headers").expect("a page may read them").to_ascii_lowercase();
    for name in ["retry-after", "ratelimit", "ratelimit-policy", "x-request-id"] {
        assert!(exposed.split(',').any(|one| one.trim() == name), "{exposed}");
    }
    let result = &refused.json()["results"][0];
    assert!(result["retryable"] == true && result["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{result}");
    assert_eq!(gate.post("/v1/events/a", &mine, "{\"data\":5}").await.status, 202, "a refusal costs nothing");
    let never = gate.post("/v1/events/a", &theirs, "[{\"data\":1},{\"data\":2},{\"data\":3},{\"data\":4}]").await;
    assert_eq!((never.status, &never.json()["limit"], never.header("retry-after")), (413, &json!(3), None), "more than ever fits");
    assert_eq!(gate.post("/v1/events/a", &theirs, "{\"data\":1}").await.status, 202, "another's quota is another's");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_topics_are_refused_wherever_they_stand() {
    let gate = setup(&["*"], "").start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let long = "x".repeat(250);
    for name in ["../x", "..", ".", "__consumer_offsets", "__transaction_state", "a b", "a/b", "a\u{0}", "ü", &long] {
        let encoded: String = name.bytes().fold(String::new(), |mut all, byte| {
            write!(all, "%{byte:02x}").expect("a string grows");
            all
        });
        let field = json!({"topic": name, "data": 1}).to_string();
        for (path, body) in [
            (format!("/v1/events/{encoded}"), "{\"data\":1}"),
            (format!("/v1/events?topic={encoded}"), "{\"data\":1}"),
            ("/v1/events".to_owned(), field.as_str()),
        ] {
            let answer = gate.post(&path, &token, body.to_owned()).await;
            assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("denied")), "{name} as {path}: {}", answer.text());
        }
    }
    assert_eq!(gate.admin_get("/status").await.json()["inbox"]["rows"], 0);
}

/// Every field that a sender fills with what ends a line or moves a cursor.
async fn taunt(client: &Client, url: &str, token: &str) {
    let evil = "\r\n\u{1b}[31mFORGED {\"severity\":\"ERROR\"}\u{1b}]0;x\u{7}\u{202e}\u{2028}\u{85}";
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        JSON,
        ("user-agent", "\u{a0}FORGED"),
        ("x-forwarded-for", "FORGED"),
        ("traceparent", "FORGED"),
    ];
    let bodies = [
        json!({"topic": evil, "data": 1}),
        json!({"topic": "a", "id": evil, "data": 1}),
        json!({"topic": "a", "key": evil, "data": evil}),
        json!({"topic": "a", "headers": {evil: evil}, "data": 1}),
        json!({"topic": "a", "headers": {"h": evil}, "data": 1}),
        json!({"topic": "a", "time": evil, "data": 1}),
        json!({evil: 1}),
        json!([evil]),
    ];
    for body in bodies {
        client.send(http::Method::POST, &format!("{url}/v1/events"), &headers, body.to_string()).await.expect("an answer");
    }
    for path in ["/%0d%0a%1b%5b31mFORGED", "/v1/events/%0d%0aFORGED", "/v1/events?topic=%0aFORGED", "/v1/events?x%0aFORGED=1"] {
        client.send(http::Method::POST, &format!("{url}{path}"), &headers, "{\"data\":1}").await.expect("an answer");
    }
    let forged = [("authorization", "Bearer \tFORGED")];
    client.send(http::Method::POST, &format!("{url}/v1/events"), &forged, "").await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_sender_writes_no_log_line_is_of_their_making() {
    let gate = setup(&["a"], "[telemetry]\nlevel = \"trace\"\n").start().await;
    let token = gate.token(&["--sub", "me"]).await;
    taunt(&gate.client, &gate.url(""), &token).await;
    let setup = gate.setup.clone();
    let password = std::fs::read_to_string(setup.path("certs/dev/kafka.password")).expect("a developer's gate has a user");
    let command = |line: &str| ["curl ", "kcat ", "export OTEL_"].iter().any(|word| line.starts_with(word));
    let secret = |line: &str| line.split('.').count() == 3 || line == password.trim_end();
    let welcome = |line: &String| line.is_empty() || command(line) || secret(line) || line.ends_with(':');
    for line in gate.lines().iter().filter(|line| !welcome(line)) {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "not a line of ours: {line:?}");
        assert!(!line.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{line:?}");
    }
    drop(gate);

    // The same for people: the process is the same, its lines are not JSON.
    let setup = setup.env("STRUCTURED_LOGS", "false");
    let mut process = setup.spawn(&[]);
    let address = process.line("ready", DEADLINE, |line| {
        let address = line.contains(" ready").then(|| line.split("https=").nth(1))??;
        Some(address.split(' ').next()?.trim_matches('"').to_owned())
    });
    let address = address.await;
    let client = Client::trusting(Some(&setup.path("certs/dev/ca.pem")));
    taunt(&client, &format!("https://{address}"), &token).await;
    for line in process.lines() {
        assert!(!line.starts_with("FORGED") && !line.contains("\u{1b}[31m"), "{line:?}");
        assert!(!line.chars().any(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{line:?}");
    }
}

/// The names and labels of all series, without their values.
async fn series(gate: &Gate) -> BTreeSet<String> {
    let text = gate.admin_get("/metrics").await.text();
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_names_and_paths_make_no_new_metrics() {
    let gate = setup(&["*"], "").start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let round = async |name: &str| {
        for path in [format!("/{name}"), format!("/v1/events/{name}"), format!("/v1/{name}"), format!("/v1/events?topic={name}&{name}=1")] {
            for method in ["POST", "GET", "BREW"] {
                let bearer = format!("Bearer {token}");
                let headers = [("authorization", bearer.as_str()), JSON, ("user-agent", name), ("x-request-id", name), ("host", name)];
                let body = format!("{{\"id\":\"{name}\",\"key\":\"{name}\",\"headers\":{{\"{name}\":\"{name}\"}},\"data\":1}}");
                let sent = gate.client.send(method.parse().expect("a method"), &gate.url(&path), &headers[..4], body).await;
                sent.expect("an answer");
            }
        }
    };
    round("first").await;
    let before = series(&gate).await;
    for n in 0..30 {
        round(&format!("random-{n}-{}", n * 7919)).await;
    }
    let after = series(&gate).await;
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(after.len() > 50 && !after.iter().any(|name| name.contains("random") || name.contains("first")), "{}", after.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_address_is_believed_from_nobody_but_the_configured_proxies() {
    let body = "{\"data\":{\"url\":\"https://x\",\"ip_address\":\"6.6.6.6\"}}";
    for (hops, forwarded, address) in [
        (0, "1.2.3.4", "127.0.0.1"),
        (1, "1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, 1.2.3.4", "1.2.3.4"),
        (1, "6.6.6.6, nonsense", "127.0.0.1"),
        (2, "6.6.6.6, 1.2.3.4, 5.6.7.8", "1.2.3.4"),
    ] {
        let config = format!("[http]\ntrusted_hops = {hops}\n[[routes]]\ntopic = \"telemetry-raw\"\nshape = \"telemetry\"\n");
        let gate = Setup::new().config(&config).start().await;
        let token = gate.token(&["--sub", "me"]).await;
        let headers = [JSON, ("x-forwarded-for", forwarded), ("x-real-ip", "6.6.6.6"), ("forwarded", "for=6.6.6.6")];
        let answer = post(&gate, "/v1/events/telemetry-raw", &token, &headers, body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let shown = row(&gate, &answer.json()["results"][0]).await;
        let headers = shown["headers"].as_array().expect("headers");
        let seen = headers.iter().find(|pair| pair[0] == "ip").expect("the address")[1].as_str().expect("text");
        assert_eq!(seen, address, "{hops} hops, {forwarded}");
    }
    let preamble = setup(&["a"], "").start().await;
    let mut wire = tokio::net::TcpStream::connect(preamble.https).await.expect("the door is open");
    wire.write_all(b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n").await.expect("open");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(DEADLINE, tokio::io::AsyncReadExt::read_to_end(&mut wire, &mut rest)).await;
    assert!(read.is_ok(), "a PROXY preamble is not a TLS handshake: closed");
}
