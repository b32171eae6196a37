//! Users with passwords: made by the command, let in by `Basic`, and gone when they are removed, while the gate runs.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::support::client::Answer;
use super::support::gate::{Gate, Ran, Setup};
use super::support::{DEADLINE, eventually, free_port};

const PASSWORD: &str = "canary-password of ada";
const WRONG: &str = "canary-password of eve";

fn setup() -> Setup {
    let setup = Setup::new();
    let file = setup.path("users.toml").display().to_string();
    setup.env("SLUICEGATE__AUTH__USERS_FILE", &file).env("SLUICEGATE__TELEMETRY__LEVEL", "trace")
}

async fn add(setup: &Setup, args: &[&str]) -> Ran {
    let secret = setup.path("secret.txt");
    std::fs::write(&secret, format!("{PASSWORD}\n")).expect("a file in a folder of ours");
    let ran = setup.run(&[&["user", "add"], args, &["--password-file", &secret.display().to_string()]].concat()).await;
    std::fs::remove_file(&secret).expect("removed");
    ran
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

async fn post(gate: &Gate, topic: &str, authorization: &str) -> Answer {
    let headers = [("authorization", authorization), ("content-type", "application/json")];
    gate.post_with(&format!("/v1/events/{topic}"), &headers, "{\"data\":1}").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_let_in_where_granted_and_refused_once_removed() {
    let setup = setup();
    let added = add(&setup, &["ada", "--topics", "events,tele-*"]).await;
    assert_eq!(added.status, 0, "{}", added.stderr);
    let file = setup.path("users.toml");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let mut gate = setup.start().await;
    assert!(!gate.lines().iter().any(|line| line.contains("Development token")), "who has users has no need of it");

    assert_eq!(post(&gate, "events", &basic("ada", PASSWORD)).await.status, 202);
    let denied = post(&gate, "orders", &basic("ada", PASSWORD)).await;
    assert!(!denied.json()["code"].is_null() && denied.status == 403, "{}", denied.text());
    let curl = curl(&gate, &format!("ada:{PASSWORD}"));
    assert_eq!(curl, "202");

    let refused = [
        post(&gate, "events", &basic("ada", WRONG)).await,
        post(&gate, "events", &basic("nobody", PASSWORD)).await,
        post(&gate, "events", "Basic !").await,
        post(&gate, "events", "Bearer e.y.J").await,
        gate.post_with("/v1/events/events", &[], "").await,
    ];
    for answer in &refused {
        assert_eq!((answer.status, answer.text()), (401, refused[0].text()));
        let asked: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(asked, ["Bearer", "Basic realm=\"sluicegate\", charset=\"UTF-8\""]);
    }

    let status = gate.admin_get("/status").await;
    assert_eq!(status.json()["auth"]["users"]["users"], 1, "{}", status.text());
    assert_eq!(setup.run(&["user", "remove", "ada"]).await.status, 0);
    eventually("a removed user is refused", DEADLINE, async || {
        (post(&gate, "events", &basic("ada", PASSWORD)).await.status == 401).then_some(())
    })
    .await;
    assert_eq!(add(&setup, &["ada", "--topics", "*"]).await.status, 0);
    eventually("one that is back is let in", DEADLINE, async || {
        (post(&gate, "events", &basic("ada", PASSWORD)).await.status == 202).then_some(())
    })
    .await;

    let (status, metrics) = (status.text(), gate.admin_get("/metrics").await.text());
    gate.sigterm();
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
    let answers = refused.map(|answer| format!("{:?}{}", answer.headers, answer.text())).concat();
    let texts =
        [gate.lines().join("\n"), std::fs::read_to_string(&file).expect("text"), status, metrics, answers, added.stdout, added.stderr];
    for text in texts {
        for secret in [PASSWORD, WRONG, "canary", basic("ada", PASSWORD).trim_start_matches("Basic ")] {
            assert!(!text.contains(secret), "{:?}", text.lines().find(|line| line.contains(secret)));
        }
    }
}

/// The status that a line of curl gets.
fn curl(gate: &Gate, user: &str) -> String {
    let ca = gate.ca().expect("a gate with a certificate");
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", user, "--cacert"]).arg(ca);
    command.args(["-H", "Content-Type: application/json", "-d", "{\"data\":1}", &gate.url("/v1/events/events")]);
    String::from_utf8(command.output().expect("there is curl").stdout).expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_said_once_and_the_users_stay() {
    let setup = setup();
    assert_eq!(add(&setup, &["ada", "--topics", "*"]).await.status, 0);
    let gate = setup.start().await;
    std::fs::write(setup.path("users.toml"), "version = 1\n[users.ada").expect("written");
    let said = || gate.lines().iter().filter(|line| line.contains("stay in use")).count();
    eventually("it is said", DEADLINE, async || (said() == 1).then_some(())).await;
    assert_eq!(post(&gate, "events", &basic("ada", PASSWORD)).await.status, 202);
    assert!(gate.admin_get("/status").await.json()["auth"]["users"]["last_error"].is_string());
    assert_eq!(setup.run(&["user", "list"]).await.status, 1);
    assert_eq!(setup.run(&["check"]).await.status, 2);
    assert_eq!(said(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_plain_text_is_taken_only_behind_a_proxy_that_had_tls() {
    // Not from loopback: another address of this machine, if it has one.
    let port = free_port();
    let setup = setup().without_env("SLUICEGATE__LISTENERS__BIND").env("PORT", &port.to_string());
    assert_eq!(setup.run(&["check"]).await.status, 2, "there is no file yet");
    assert_eq!(add(&setup, &["ada", "--topics", "*"]).await.status, 0);
    assert_eq!(setup.run(&["check"]).await.status, 0, "users alone will do beyond loopback");
    let hops = setup.env("SLUICEGATE__HTTP__TRUSTED_HOPS", "1");
    let mut gate = hops.start().await;
    let Some(address) = own_address() else {
        return super::support::not_run(1, "this machine has no address but loopback");
    };
    gate.https = (address, port).into();
    let asked = async |headers: &[(&str, &str)]| {
        let credentials = basic("ada", PASSWORD);
        let all = [&[("authorization", credentials.as_str()), ("content-type", "application/json")], headers].concat();
        let answer = gate.post_with("/v1/events/events", &all, "{\"data\":1}").await;
        (answer.status, answer.headers.get_all("www-authenticate").iter().count())
    };
    assert_eq!(asked(&[]).await, (401, 1), "nobody says that it was TLS, and no password is asked for");
    assert_eq!(asked(&[("x-forwarded-proto", "https")]).await, (202, 0));
    assert_eq!(asked(&[("x-forwarded-proto", "http")]).await.0, 400);
}

/// An address of this machine that is not loopback. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_listed_and_removed_by_commands() {
    let none = Setup::new().run(&["user", "list"]).await;
    assert!(none.status == 2 && none.stderr.contains("auth.users_file"), "{}", none.stderr);
    let setup = setup();
    let missing = setup.run(&["user", "list"]).await;
    assert!(missing.status == 1 && missing.stderr.contains("user add"), "{}", missing.stderr);
    let made = setup.run(&["user", "add", "bob", "--topics", "orders", "--tier", "gold", "--iterations", "4096", "--generate"]).await;
    assert_eq!((made.status, made.stdout.trim_end().len(), made.stdout.lines().count()), (0, 32, 1), "{}", made.stderr);
    assert_eq!(add(&setup, &["ada"]).await.status, 0);
    let twice = add(&setup, &["ada"]).await;
    assert!(twice.status == 1 && twice.stderr.contains("--replace"), "{}", twice.stderr);
    assert_eq!(add(&setup, &["ada", "--replace", "--topics", "a,b*"]).await.status, 0);
    let rows = setup.run(&["user", "list", "--json"]).await.stdout;
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        rows[0],
        serde_json::json!({ "name": "ada", "topics": ["a", "b*"], "tier": "standard", "admin": false, "iterations": 8192 })
    );
    assert_eq!((&rows[1]["name"], &rows[1]["iterations"], rows.len()), (&"bob".into(), &4096.into(), 2));
    let table = setup.run(&["user", "list"]).await.stdout;
    assert!(table.starts_with("NAME") && table.contains("ada   a,b*    standard"), "{table}");
    assert!(!setup.path("users.toml").with_extension("").exists());

    for (args, status) in [(["user", "remove", "eve"], 1), (["user", "add", "a:b"], 64), (["user", "remove", "bob"], 0)] {
        assert_eq!(setup.run(&args).await.status, status, "{args:?}");
    }
    assert_eq!(piped(&setup, "short\n"), 1, "a password has its length");
    assert_eq!(piped(&setup, "long enough\n"), 0);
    let token = setup.run(&["token", "--sub", "me"]).await;
    assert!(token.status == 1 && token.stderr.contains("no issuer"), "{}", token.stderr);
}

/// Adds a user whose password comes by standard input; the exit status.
fn piped(setup: &Setup, password: &str) -> i32 {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_sluicegate")));
    command.args(["user", "add", "cy"]).env_clear().env("SLUICEGATE__AUTH__USERS_FILE", setup.path("users.toml"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(password.as_bytes()).expect("written");
    child.wait().expect("ended").code().expect("no signal")
}

fn configured(setup: Setup) -> Setup {
    let secret = setup.path("kafka.secret");
    std::fs::write(&secret, format!("{PASSWORD}\n")).expect("written");
    setup.env("SLUICEGATE_KAFKA_USER", "ada").env("SLUICEGATE_KAFKA_PASSWORD_FILE", &secret.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_of_the_environment_is_let_in_without_a_file_and_beside_one() {
    let setup = configured(Setup::new()).env("SLUICEGATE__AUTH__KAFKA_TOPICS", "events,tele-*");
    let mut gate = setup.start().await;
    assert!(!gate.lines().iter().any(|line| line.contains("Development")), "who has a user has no need of it");
    assert_eq!(post(&gate, "events", &basic("ada", PASSWORD)).await.status, 202);
    assert_eq!(post(&gate, "orders", &basic("ada", PASSWORD)).await.status, 403);
    assert_eq!(post(&gate, "events", &basic("ada", WRONG)).await.status, 401);
    assert_eq!(gate.admin_get("/status").await.json()["auth"]["users"]["users"], 1);
    gate.sigterm();
    assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
    assert!(!gate.lines().join("\n").contains("canary"));

    let file = setup.path("users.toml").display().to_string();
    let both = setup.env("SLUICEGATE__AUTH__USERS_FILE", &file);
    assert_eq!(add(&both, &["bob", "--topics", "*"]).await.status, 0);
    let gate = both.start().await;
    for name in ["ada", "bob"] {
        assert_eq!(post(&gate, "events", &basic(name, PASSWORD)).await.status, 202, "{name}");
    }
    let twice = add(&both, &["ada"]).await;
    assert!(twice.status == 1 && twice.stderr.contains("SLUICEGATE_KAFKA_USER"), "{}", twice.stderr);
    // Somebody who does not know of the variable puts the name into the file.
    let apart = both.clone().without_env("SLUICEGATE_KAFKA_USER").without_env("SLUICEGATE_KAFKA_PASSWORD_FILE");
    assert_eq!(add(&apart, &["ada"]).await.status, 0);
    let refused = both.run(&["check"]).await;
    assert!(refused.status == 2 && refused.stderr.contains("auth.kafka_user is the same"), "{}", refused.stderr);
    assert_eq!(both.run(&[]).await.status, 2, "and it does not start");
    assert_eq!(post(&gate, "events", &basic("ada", PASSWORD)).await.status, 202, "one that runs keeps its users");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_prints_a_producers_configuration_beside_the_gates_and_no_password() {
    let setup = configured(Setup::new()).env("PUBLIC_REDPANDA_HOST", "kafka.example.org").env("PUBLIC_REDPANDA_PORT", "9094");
    let ran = setup.run(&["check"]).await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let config: toml::Table = ran.stdout.parse().expect("standard output is TOML and nothing else");
    assert_eq!((config["auth"]["kafka_user"].as_str(), config["auth"]["kafka_password"].as_str()), (Some("ada"), Some("***")));
    for word in
        ["kafkajs", "confluent-kafka-python", "Java 3.9 and 4.x", "kafka.example.org:9094", "username: 'ada'", "SLUICEGATE_KAFKA_PASSWORD"]
    {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("canary"));

    let upstream =
        [("REDPANDA_SECURITY_PROTOCOL", "SASL_SSL"), ("REDPANDA_SASL_MECHANISM", "SCRAM-SHA-256"), ("REDPANDA_BROKERS", "127.0.0.1:1")];
    let upstream = upstream.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).env("REDPANDA_SASL_PASSWORD", PASSWORD);
    assert_eq!(upstream.clone().env("REDPANDA_SASL_USERNAME", "gate").run(&["check"]).await.status, 0);
    let same = upstream.env("REDPANDA_SASL_USERNAME", "ada").run(&["check"]).await;
    assert!(same.status == 2 && same.stderr.contains("auth.kafka_password") && same.stderr.contains("same pair"), "{}", same.stderr);
    assert!(!same.stderr.contains("canary"), "{}", same.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developers_gate_has_a_user_whose_password_stays() {
    let setup = Setup::new();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut gate = setup.start().await;
        let password = eventually("the password is printed", DEADLINE, async || {
            let lines = gate.lines();
            let label = lines.iter().position(|line| line.starts_with("Development password of the user developer"))?;
            lines.get(label + 1).cloned()
        })
        .await;
        assert_eq!(post(&gate, "events", &basic("developer", &password)).await.status, 202);
        assert_eq!(post(&gate, "events", &basic("developer", WRONG)).await.status, 401);
        gate.sigterm();
        assert_eq!(gate.wait(DEADLINE).await.code(), Some(0));
        seen.push(password);
    }
    let file = setup.path("certs/dev/kafka.password");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    seen.push(std::fs::read_to_string(&file).expect("text").trim_end().to_owned());
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "after a restart it is the same");
}
