//! The broker behind SASL and TLS: every mechanism gets through, wrong credentials do not and are no secret's end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::support::gate::Setup;
use super::support::kafka::{Kafka, Options};
use super::support::security::{PASSWORD, USER};

/// A gate whose broker wants these credentials over TLS.
fn setup(kafka: &Kafka, mechanism: &str, password: &str) -> Setup {
    let ca = STANDARD.encode(std::fs::read(kafka.ca()).expect("the broker's authority"));
    Setup::new()
        .env("REDPANDA_BROKERS", &kafka.sasl_tls_brokers())
        .env("REDPANDA_SECURITY_PROTOCOL", "SASL_SSL")
        .env("REDPANDA_SASL_MECHANISM", mechanism)
        .env("REDPANDA_SASL_USERNAME", USER)
        .env("REDPANDA_SASL_PASSWORD", password)
        .env("REDPANDA_SSL_CA_B64", &ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_behind_sasl_and_tls_is_reached_by_every_mechanism() {
    let kafka = Kafka::start_with(Options { secure: true, ..Options::default() }).await;
    let made = setup(&kafka, "SCRAM-SHA-256", PASSWORD).run(&["topics", "--create"]).await;
    assert_eq!(made.status, 0, "{}", made.stderr);
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        let gate = setup(&kafka, mechanism, PASSWORD).start().await;
        let token = gate.token(&["--sub", "me"]).await;
        let answer = gate.post("/v1/events/events", &token, format!("{{\"data\":\"{mechanism}\"}}")).await;
        assert_eq!(answer.status, 200, "{mechanism}: {}", answer.text());
    }
    assert_eq!(kafka.consume_all("events").await.len(), 3);

    let in_the_clear = setup(&kafka, "SCRAM-SHA-256", PASSWORD)
        .env("REDPANDA_BROKERS", &kafka.sasl_brokers())
        .env("REDPANDA_SECURITY_PROTOCOL", "SASL_PLAINTEXT");
    let gate = in_the_clear.start().await;
    let token = gate.token(&["--sub", "me"]).await;
    assert_eq!(gate.post("/v1/events/events", &token, "{\"data\":1}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_our_credentials_is_a_broker_that_is_down_and_is_said_so_aloud() {
    let kafka = Kafka::start_with(Options { secure: true, ..Options::default() }).await;
    kafka.create_topic("events", 1, &[]).await;
    let wrong_authority = setup(&kafka, "PLAIN", PASSWORD).without_env("REDPANDA_SSL_CA_B64");
    for setup in [setup(&kafka, "SCRAM-SHA-256", "wrong-canary-1"), setup(&kafka, "PLAIN", "wrong-canary-1"), wrong_authority] {
        let gate = setup.shipped().start().await;
        let token = gate.token(&["--sub", "me"]).await;
        let answer = gate.post("/v1/events/events", &token, "{\"data\":1}").await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let status = gate.admin_get("/status").await.text();
        let fault = serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["sink"]["last_error"].clone();
        assert!(fault.as_str().is_some_and(|fault| !fault.is_empty()), "{status}");
        let lines = gate.lines();
        assert!(lines.iter().any(|line| line.contains("\"WARNING\"") || line.contains("\"ERROR\"")), "{lines:?}");
        assert!(!status.contains("canary") && !lines.iter().any(|line| line.contains("canary")), "{lines:?}");
    }
    assert_eq!(kafka.consume_all("events").await.len(), 0, "never in the clear");
}
