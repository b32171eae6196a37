//! What people's scripts depend on: commands, arguments, variables, what is printed, exit codes, ports.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::support::gate::{Gate, Setup};
use super::support::process::Process;
use super::support::stopwatch::Stopwatch;
use super::support::{DEADLINE, eventually, free_port};

/// The one line that says that the gate is ready.
#[expect(clippy::disallowed_methods, reason = "these tests run on a multi-threaded runtime")]
fn ready(process: &mut Process) -> Value {
    let line = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|line| line["message"] == "ready");
    tokio::task::block_in_place(|| process.wait_for_line("ready", DEADLINE, line))
}

/// Runs a line as it was printed, in a shell of that directory; the answer's body and status.
fn paste(line: &str, dir: &Path) -> (Value, String) {
    let script = format!("{line} -sS -w '\\n%{{http_code}}'");
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{line}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}: {text}")), status.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_without_any_configuration_prints_a_token_and_curl_lines_that_work_when_pasted() {
    let gate = Setup::new().start().await;
    let lines = eventually("the curl lines are printed", DEADLINE, async || {
        let lines = gate.lines();
        (lines.iter().filter(|line| line.starts_with("curl ")).count() == 2).then_some(lines)
    })
    .await;
    let label = lines.iter().position(|line| line == "Development token:").expect("a label");
    let token = &lines[label + 1];
    assert_eq!(token.split('.').count(), 3, "{token}");
    let dir = gate.setup.path("");
    let mut accepted = 0;
    for line in lines.iter().filter(|line| line.starts_with("curl ")) {
        let (body, status) = paste(line, &dir);
        assert_eq!(status, "202", "{body}");
        for result in body["results"].as_array().expect("results") {
            assert_eq!((result["status"].as_str(), result["tier"].as_str()), (Some("accepted"), Some("inbox")));
            accepted += 1;
        }
    }
    assert_eq!(accepted, 3);
    assert_eq!(gate.post("/v1/events/events", token, "{\"data\":1}").await.status, 202, "the token works by itself");
    assert!(gate.setup.path("data/inbox.db").is_file(), "the inbox is under ./data");
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_is_what_happens_without_a_command_and_one_ready_line_names_every_address() {
    let setup = Setup::new();
    for arguments in [&[][..], &["serve"]] {
        let mut process = setup.spawn(arguments);
        let line = ready(&mut process);
        for name in ["https", "admin"] {
            let address: std::net::SocketAddr = line[name].as_str().expect(name).parse().expect("an address");
            assert!(address.ip().is_loopback() && address.port() != 0, "{line}");
        }
        process.signal("TERM");
        assert_eq!(process.wait(DEADLINE).await.code(), Some(0));
        let said = process.lines().iter().filter(|line| line.contains("\"message\":\"ready\"")).count();
        assert_eq!(said, 1, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_are_8443_and_8444_on_loopback_unless_told_otherwise() {
    let setup = Setup::new().without_env("SLUICEGATE__LISTENERS__BIND").without_env("SLUICEGATE__ADMIN__BIND");
    let ran = setup.run(&["check"]).await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let config: toml::Table = ran.stdout.parse().expect("what check prints is TOML");
    assert_eq!(config["listeners"]["bind"].as_str(), Some("127.0.0.1:8443"));
    assert_eq!(config["listeners"]["tls"].as_str(), Some("generated"));
    assert_eq!(config["admin"]["bind"].as_str(), Some("127.0.0.1:8444"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_port_the_gate_speaks_plain_http_on_every_address_and_says_so() {
    let port = free_port().to_string();
    let setup = Setup::new().without_env("SLUICEGATE__LISTENERS__BIND").env("PORT", &port);
    let refused = setup.run(&["check"]).await;
    assert_eq!(refused.status, 2, "nobody could be let in: {}", refused.stdout);
    assert!(refused.stderr.contains("auth.issuers"), "{}", refused.stderr);

    let setup = setup.env("FIREBASE_PROJECT_ID", "demo");
    let mut process = setup.spawn(&[]);
    let line = ready(&mut process);
    assert_eq!(line["https"].as_str(), Some(format!("0.0.0.0:{port}").as_str()));
    let said = process.lines();
    assert!(said.iter().any(|line| line.contains("TLS ends in front")), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("curl ")), "there is no development token beyond loopback");
    let url = format!("http://127.0.0.1:{port}/livez");
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let form = "%{http_code} %{http_version} %{size_download}";
        let output = Command::new("curl").args(["-sS", protocol, "-o", "/dev/null", "-w", form, &url]).output().expect("there is curl");
        let said = String::from_utf8_lossy(&output.stdout);
        let expected = if protocol == "--http1.1" { "200 1.1 0" } else { "200 2 0" };
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_named_by_an_argument_or_a_variable_and_one_value_by_its_own() {
    let setup = Setup::new();
    let file = setup.path("other.toml");
    std::fs::write(&file, "[drain]\nlimit = \"7s\"\nleaving = \"10ms\"\n").expect("a file");
    let file = file.display().to_string();
    let by_argument = setup.run(&["check", "--config", &file]).await;
    let setup = setup.env("SLUICEGATE_CONFIG", &file);
    let by_variable = setup.run(&["check"]).await;
    for ran in [&by_argument, &by_variable] {
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let config: toml::Table = ran.stdout.parse().expect("TOML");
        assert_eq!((config["drain"]["limit"].as_str(), config["drain"]["leaving"].as_str()), (Some("7s"), Some("10ms")));
    }
    let ran = setup.env("SLUICEGATE__DRAIN__LIMIT", "5s").run(&["check"]).await;
    let config: toml::Table = ran.stdout.parse().expect("TOML");
    assert_eq!((config["drain"]["limit"].as_str(), config["drain"]["leaving"].as_str()), (Some("5s"), Some("10ms")), "one value alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_told_at_once_each_on_a_line_with_its_place_key_and_what_is_expected() {
    let setup = Setup::new().without_env("SLUICEGATE__LISTENERS__BIND").env("SLUICEGATE__DRAIN__LIMIT", "never").config(
        "[listeners]\nbind = \"nonsense\"\nwhat = 1\n[sink]\nlinger = \"2s\"\n[sink.properties]\n\"acks\" = \"1\"\n\
         [[routes]]\ntopic = \"__internal\"\n",
    );
    let file = setup.path("gate.toml").display().to_string();
    for command in [&["check"][..], &[], &["serve"], &["token", "--sub", "a"]] {
        let ran = setup.run(command).await;
        assert_eq!(ran.status, 2, "{command:?}: {}", ran.stdout);
        for start in [
            format!("{file}: listeners.bind: "),
            format!("{file}: listeners.what: "),
            format!("{file}: sink.linger: "),
            format!("{file}: sink.properties.acks: "),
            format!("{file}: routes[0].topic: "),
            "environment SLUICEGATE__DRAIN__LIMIT: drain.limit: ".to_owned(),
        ] {
            let found = ran.stderr.lines().find(|line| line.starts_with(&start));
            let rest = found.unwrap_or_else(|| panic!("no line {start} in {}", ran.stderr))[start.len()..].to_owned();
            assert!(rest.len() > 15, "{start} says too little: {rest}");
        }
        assert_eq!(ran.stderr.lines().count(), 6, "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_passes_is_a_gate_that_starts() {
    let broken = [
        ("[listeners]\ntls = \"files\"\ncert_file = \"no.pem\"\nkey_file = \"no.key\"\n", "cert_file"),
        ("[sink]\nbrokers = [\"127.0.0.1:1\"]\n[sink.properties]\n\"no.such.property\" = \"1\"\n", "no.such.property"),
        (
            "[auth.issuers.a]\nkind = \"static\"\nissuer = \"a\"\naudience = \"a\"\nalgorithm = \"RS256\"\nkey_file = \"no.pem\"\n",
            "key_file",
        ),
    ];
    let ran = Setup::new().env("K_SERVICE", "gate").run(&["check"]).await;
    assert!(ran.status == 2 && ran.stderr.contains("durable"), "files are memory there: {}", ran.stderr);
    for (config, named) in broken {
        let setup = Setup::new().config(config);
        let ran = setup.run(&["check"]).await;
        assert_eq!(ran.status, 2, "{config}: {}", ran.stdout);
        assert!(ran.stderr.contains(named), "{config}: {}", ran.stderr);
        let mut process = setup.spawn(&[]);
        assert!(process.wait(DEADLINE).await.code().is_some_and(|code| code != 0), "{config}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokens_topics_are_what_its_bearer_may_send_to_for_as_long_as_it_says() {
    let routes = ["a", "b", "bcd", "c"].map(|topic| format!("[[routes]]\ntopic = \"{topic}\"\n")).concat();
    let gate = Setup::new().config(&routes).start().await;
    let some = gate.token(&["--sub", "me", "--topics", "a,bc*"]).await;
    let all = gate.token(&["--sub", "me"]).await;
    for (token, allowed) in [(&some, &["a", "bcd"][..]), (&all, &["a", "b", "bcd", "c"])] {
        for topic in ["a", "b", "bcd", "c", "unknown"] {
            let answer = gate.post(&format!("/v1/events/{topic}"), token, "{\"data\":1}").await;
            assert_eq!(answer.status, if allowed.contains(&topic) { 202 } else { 403 }, "{topic}: {}", answer.text());
        }
    }
    let claims = |token: &str| {
        use base64::Engine;
        let part = token.split('.').nth(1).expect("three parts");
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice::<Value>(&bytes).expect("claims")
    };
    let life = |token: &str| claims(token)["exp"].as_u64().expect("a time") - claims(token)["iat"].as_u64().expect("a time");
    assert_eq!((life(&some), claims(&some)["sub"].as_str()), (3600, Some("me")));
    assert_eq!(life(&gate.token(&["--sub", "me", "--ttl", "5m"]).await), 300);
    for bad in
        [&["token"][..], &["token", "--sub", "me", "--ttl", "forever"], &["token", "--sub", "me", "--topics", "a b"], &["--nonsense"]]
    {
        assert_eq!(gate.setup.run(bad).await.status, 64, "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_signal_ends_the_gate_with_0_in_time() {
    let mut gate = Setup::new().start().await;
    let token = gate.token(&["--sub", "me"]).await;
    assert_eq!(gate.post("/v1/events/events", &token, "{\"data\":1}").await.status, 202);
    let watch = Stopwatch::start();
    gate.sigterm();
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
    let took = watch.read();
    assert!(took.own() < Duration::from_secs(8), "{took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gate_on_the_same_folder_ends_with_2_and_says_why() {
    let gate = Setup::new().start().await;
    let mut second = gate.setup.spawn(&[]);
    assert_eq!(second.wait(DEADLINE).await.code(), Some(2));
    let said = second.lines().join("\n");
    assert!(said.contains("another") && said.contains("data"), "{said}");
    let token = gate.token(&["--sub", "me"]).await;
    assert_eq!(gate.post("/v1/events/events", &token, "{\"data\":1}").await.status, 202, "the first goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_on_both_listeners_and_the_rest_of_the_operators_pages_on_one() {
    let gate = Setup::new().start().await;
    for path in ["/livez", "/readyz"] {
        let admin = gate.admin_get(path).await;
        assert_eq!(admin.status, 200, "{path}: {}", admin.text());
        let door = get(&gate, path).await;
        assert_eq!((door.status, door.body.len()), (200, 0), "{path}");
    }
    for path in ["/metrics", "/status", "/config", "/"] {
        let answer = get(&gate, path).await;
        assert_eq!(answer.status, 404, "{path} on the door");
        assert_eq!(answer.json()["code"], "not_found");
    }
    let metrics = gate.admin_get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().ends_with("# EOF\n"), "OpenMetrics");
    let status = gate.admin_get("/status").await.json();
    assert_eq!((status["phase"].as_str(), status["inbox"]["tier"].as_str()), (Some("serving"), Some("disk")));
    assert_eq!(status["listeners"][0]["address"].as_str(), Some(gate.https.to_string().as_str()));
}

async fn get(gate: &Gate, path: &str) -> super::support::client::Answer {
    gate.client.send(http::Method::GET, &gate.url(path), &[], "").await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_secret_stands_in_no_log_no_status_no_metric_and_no_answer() {
    let secrets = ["canary-password-1", "canary-key-0123456789abcdef0123456789", "canary-payload-3", "canary-bearer-4", "canary-header-5"];
    let [password, key, payload, bearer, header] = secrets;
    let setup = Setup::new()
        .config(
            "[telemetry]\nlevel = \"trace\"\n[auth.issuers.backend]\nkind = \"static\"\nissuer = \"b\"\naudience = \"b\"\n\
             algorithm = \"HS256\"\ntopics = [\"*\"]\n",
        )
        .env("SLUICEGATE__AUTH__ISSUERS__BACKEND__KEY", key)
        .env("REDPANDA_BROKERS", "127.0.0.1:9")
        .env("REDPANDA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
        .env("REDPANDA_SASL_USERNAME", "gate")
        .env("REDPANDA_SASL_PASSWORD", password)
        .shipped();
    let checked = setup.run(&["check"]).await;
    assert_eq!(checked.status, 0, "{}", checked.stderr);
    let mut gate = setup.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    let body = format!("{{\"key\":\"{payload}\",\"headers\":{{\"h\":\"{payload}\"}},\"data\":\"{payload}\"}}");
    let sent = gate.post("/v1/events/events", &token, body.clone()).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    let broken = gate.post("/v1/events/events", &token, format!("{body}{payload}")).await;
    assert_eq!(broken.status, 400);
    let stranger = gate.post("/v1/events/events", bearer, body.clone()).await;
    assert_eq!(stranger.status, 401);
    let query = gate.post(&format!("/v1/events?token={bearer}"), &token, body).await;
    assert_eq!(query.status, 400);
    let odd = [("authorization", header), ("cookie", header), ("x-api-key", header), ("content-type", header)];
    assert_eq!(gate.post_with("/v1/events/events", &odd, "").await.status, 401);
    let (status, metrics) = (gate.admin_get("/status").await.text(), gate.admin_get("/metrics").await.text());
    gate.sigterm();
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
    let answers = [sent, broken, stranger, query].map(|answer| format!("{:?}{}", answer.headers, answer.text())).concat();
    let lines = gate.lines().join("\n");
    for (place, text) in
        [("check", checked.stdout + &checked.stderr), ("status", status), ("metrics", metrics), ("answers", answers), ("log", lines)]
    {
        for secret in secrets.into_iter().chain([token.as_str(), token.rsplit('.').next().expect("a signature")]) {
            let hit = text.lines().find(|line| line.contains(secret));
            assert!(hit.is_none(), "{place} holds {secret}: {hit:?}");
        }
    }
}
