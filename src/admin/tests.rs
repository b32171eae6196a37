//! The admin listener over real sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::status::{Breaker, InboxStatus, LimitsStatus, SinkStatus};
use super::*;
use crate::units::Secret;

struct Gate {
    address: SocketAddr,
    commands: Arc<Mutex<Vec<Command>>>,
    ready: Arc<Mutex<Result<(), Vec<String>>>>,
    serving: JoinHandle<()>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn snapshot() -> Status {
    let secret = Secret::new("canary-77aa");
    Status {
        version: "1.2.3".to_owned(),
        phase: "serving".to_owned(),
        sink: SinkStatus { breaker: Breaker::HalfOpen, last_error: Some(format!("password {secret:?} refused")), ..SinkStatus::default() },
        inbox: InboxStatus { tier: "disk".to_owned(), rows: 17, ..InboxStatus::default() },
        limits: LimitsStatus { in_flight: 4096, ..LimitsStatus::default() },
        ..Status::default()
    }
}

async fn gate_with(status: impl Fn() -> Status + Send + Sync + 'static) -> Gate {
    gate_within(status, Duration::from_secs(60)).await
}

async fn gate_within(status: impl Fn() -> Status + Send + Sync + 'static, limit: Duration) -> Gate {
    let config = Config { bind: "127.0.0.1:0".parse().expect("an address"), ..Config::default() };
    let listener: TcpListener = bind(&config).await.expect("a free port").expect("enabled");
    let address = listener.local_addr().expect("bound");
    let commands = Arc::new(Mutex::new(Vec::new()));
    let ready = Arc::new(Mutex::new(Ok(())));
    let (seen, answer) = (Arc::clone(&commands), Arc::clone(&ready));
    let admin = Admin {
        status: Box::new(status),
        ready: Box::new(move || answer.lock().expect("not poisoned").clone()),
        command: Box::new(move |command| {
            seen.lock().expect("not poisoned").push(command.clone());
            Box::pin(async move {
                match command {
                    Command::Purge(Selection { topic: Some(topic), .. }) if topic == "busy" => Err("the inbox is busy".to_owned()),
                    Command::Purge(Selection { topic: Some(topic), .. }) if topic == "bug" => panic!("on purpose"),
                    _ => Ok(5),
                }
            })
        }),
    };
    Gate {
        address,
        commands,
        ready,
        serving: tokio::spawn(admin.serve_within(listener, serve::Deadlines { head: limit, age: limit, grace: limit })),
    }
}

async fn gate() -> Gate {
    gate_with(snapshot).await
}

/// Sends bytes, reads to the end.
async fn exchange(gate: &Gate, request: &str) -> String {
    let mut socket = TcpStream::connect(gate.address).await.expect("the listener is there");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("answered and closed");
    answer
}

async fn get(gate: &Gate, path: &str) -> (u16, String, String) {
    ask(gate, &format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gate.address)).await
}

async fn post(gate: &Gate, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    ask(gate, &format!("POST {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")).await
}

/// Status, head and body.
async fn ask(gate: &Gate, request: &str) -> (u16, String, String) {
    let answer = exchange(gate, request).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), head.to_ascii_lowercase(), body.to_owned())
}

const TRUSTED: &str = "host: localhost:8444\r\nx-sluicegate-admin: 1\r\n";

#[tokio::test]
async fn probes_say_whether_and_why_not() {
    let gate = gate().await;
    assert_eq!(get(&gate, "/livez").await.0, 200);
    assert_eq!(get(&gate, "/readyz").await.2, "ready\n");
    *gate.ready.lock().expect("not poisoned") = Err(vec!["the gate drains".to_owned(), "no keys of issuer `deml`".to_owned()]);
    let (status, _, body) = get(&gate, "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "not ready\nthe gate drains\nno keys of issuer `deml`\n"));
    assert_eq!(get(&gate, "/livez").await.0, 200, "alive all the same");
    let head = exchange(&gate, "HEAD /livez HTTP/1.1\r\nhost: probe.internal\r\nconnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn status_and_metrics_show_the_same_snapshot_and_no_secret() {
    let gate = gate().await;
    let (status, head, body) = get(&gate, "/status").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"), "{head}");
    let shown: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&shown["sink"]["breaker"], &shown["inbox"]["rows"], &shown["ready"]), (&"half_open".into(), &17.into(), &true.into()));
    assert_eq!(serde_json::from_value::<Status>(shown).expect("a status again"), snapshot());

    let (_, head, metrics) = get(&gate, "/metrics").await;
    assert!(head.contains("application/openmetrics-text"), "{head}");
    for line in ["sluicegate_breaker_state 1.0", "sluicegate_inbox_rows 17.0", "sluicegate_in_flight_bytes 4096.0"] {
        assert!(metrics.contains(&format!("{line}\n")), "{line} in {metrics}");
    }
    assert!(!(body + &metrics).contains("canary"));
}

#[tokio::test]
async fn the_page_brings_all_that_it_needs_and_may_load_nothing_else() {
    let gate = gate().await;
    let (status, head, page) = get(&gate, "/").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    let (_, _, style) = get(&gate, "/page.css").await;
    let (_, _, script) = get(&gate, "/page.js").await;
    for text in [&page, &style, &script] {
        let outside = text.replace("http://www.w3.org/", "");
        assert!(!outside.contains("http://") && !outside.contains("https://") && !outside.contains("innerHTML"));
    }
    for own in ["/page.css", "/page.js"] {
        assert!(page.contains(&format!("\"{own}\"")), "{own}");
    }
}

#[tokio::test]
async fn a_command_reaches_the_inbox_and_its_end_is_told() {
    let gate = gate().await;
    assert_eq!(post(&gate, "/inbox/replay", TRUSTED, "").await.2, r#"{"rows":5}"#);
    assert_eq!(post(&gate, "/inbox/purge", TRUSTED, r#"{"poison":true}"#).await.0, 200);
    let (status, _, body) = post(&gate, "/inbox/purge", TRUSTED, r#"{"topic":"busy"}"#).await;
    assert_eq!((status, body.as_str()), (503, r#"{"error":"the inbox is busy"}"#));
    let seen = gate.commands.lock().expect("not poisoned").clone();
    assert_eq!(seen[..2], [Command::Replay(Selection::default()), Command::Purge(Selection { poison: true, ..Selection::default() })]);
}

#[tokio::test]
async fn the_command_line_asks_the_gate_beside_it() {
    let gate = gate().await;
    let selection = Selection { topic: Some("orders".to_owned()), ..Selection::default() };
    assert_eq!(send(gate.address, &Command::Purge(selection.clone())).await, Ok(5));
    assert_eq!(gate.commands.lock().expect("not poisoned").clone(), [Command::Purge(selection)]);
    assert_eq!(ask_status(gate.address).await, Ok(snapshot()));
    let busy = Selection { topic: Some("busy".to_owned()), ..Selection::default() };
    assert_eq!(send(gate.address, &Command::Purge(busy)).await, Err("the inbox is busy".to_owned()));
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    assert!(send(free, &Command::Replay(Selection::default())).await.expect_err("nobody there").contains("is it running"));
}

#[tokio::test]
async fn a_command_from_a_web_page_or_without_its_mark_is_refused() {
    let gate = gate().await;
    for headers in [
        "host: localhost:8444\r\n",
        "host: localhost:8444\r\nx-sluicegate-admin: yes\r\n",
        "host: evil.example\r\nx-sluicegate-admin: 1\r\n",
        "host: localhost.evil.example\r\nx-sluicegate-admin: 1\r\n",
        "host: 10.0.0.1\r\nx-sluicegate-admin: 1\r\n",
    ] {
        assert_eq!(post(&gate, "/inbox/purge", headers, r#"{"all":true}"#).await.0, 403, "{headers}");
    }
    for host in ["127.0.0.1", "[::1]:8444", "LOCALHOST"] {
        let headers = format!("host: {host}\r\nx-sluicegate-admin: 1\r\n");
        assert_eq!(post(&gate, "/inbox/replay", &headers, "").await.0, 200, "{host}");
    }
    assert_eq!(gate.commands.lock().expect("not poisoned").len(), 3);
    // The name of somebody's page that points at this machine reads nothing either.
    for (path, status) in [("/status", 403), ("/metrics", 403), ("/", 403), ("/readyz", 200)] {
        assert_eq!(
            ask(&gate, &format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")).await.0,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_purge_of_everything_must_be_meant() {
    let gate = gate().await;
    for body in ["", "{}", r#"{"all":false}"#, r#"{"topics":"x"}"#, "[", &"x".repeat(MAX_COMMAND_BYTES + 1)] {
        assert_eq!(post(&gate, "/inbox/purge", TRUSTED, body).await.0, 400, "{}", body.len());
    }
    assert!(gate.commands.lock().expect("not poisoned").is_empty());
    assert_eq!(post(&gate, "/inbox/purge", TRUSTED, r#"{"all":true}"#).await.0, 200);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_a_wrong_method_names_the_right_one() {
    let gate = gate().await;
    assert_eq!(get(&gate, "/config").await.0, 404);
    let (status, head, _) = post(&gate, "/status", TRUSTED, "").await;
    assert!(status == 405 && head.contains("allow: get, head"), "{head}");
    let (status, head, _) = get(&gate, "/inbox/purge").await;
    assert!(status == 405 && head.contains("allow: post"), "{head}");
}

#[tokio::test]
async fn a_panic_is_the_500_of_one_request_and_counted() {
    crate::telemetry::count_panics();
    let gate = gate_with(|| panic!("on purpose")).await;
    let before = metrics().panics.get();
    assert_eq!(get(&gate, "/status").await.0, 500);
    assert_eq!(post(&gate, "/inbox/purge", TRUSTED, r#"{"topic":"bug"}"#).await.0, 500);
    assert!(metrics().panics.get() >= before + 2);
    assert_eq!(get(&gate, "/livez").await.0, 200);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_a_slot_comes_back() {
    let gate = gate().await;
    let request = format!("GET /livez HTTP/1.1\r\nhost: {}\r\n\r\n", gate.address);
    let mut held = Vec::new();
    for _ in 0..serve::MAX_CONNECTIONS {
        let mut socket = TcpStream::connect(gate.address).await.expect("connects");
        socket.write_all(request.as_bytes()).await.expect("sent");
        assert!(socket.read(&mut [0; 1024]).await.expect("answered") > 0);
        held.push(socket);
    }
    let mut extra = TcpStream::connect(gate.address).await.expect("the backlog takes it");
    assert_eq!(extra.read(&mut [0; 16]).await.unwrap_or(0), 0, "closed without a word");
    held.clear();
    // The slots come back when their tasks have seen the end; ask until one is free.
    while exchange_or_nothing(&gate, &request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await.is_empty() {}
}

async fn exchange_or_nothing(gate: &Gate, request: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut socket) = TcpStream::connect(gate.address).await {
        let _ = socket.write_all(request.as_bytes()).await;
        let _ = socket.read_to_string(&mut answer).await;
    }
    answer
}

#[tokio::test]
async fn a_slow_an_idle_and_an_unread_connection_are_ended() {
    let gate = gate_within(snapshot, Duration::from_millis(50)).await;
    for begun in
        ["", "GET /livez HTT", "POST /inbox/replay HTTP/1.1\r\nhost: localhost\r\nx-sluicegate-admin: 1\r\ncontent-length: 5\r\n\r\n{"]
    {
        let mut slow = TcpStream::connect(gate.address).await.expect("connects");
        slow.write_all(begun.as_bytes()).await.expect("sent");
        let ended = tokio::time::timeout(Duration::from_secs(30), slow.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{begun:?} is still open");
    }
}

#[tokio::test]
async fn a_taken_port_is_said_with_its_key() {
    let gate = gate().await;
    let refused = bind(&Config { bind: gate.address, ..Config::default() }).await.expect_err("taken");
    assert!(refused.starts_with(&format!("admin.bind: {}", gate.address)), "{refused}");
    assert!(bind(&Config { enabled: false, ..Config::default() }).await.expect("nothing to bind").is_none());
}
