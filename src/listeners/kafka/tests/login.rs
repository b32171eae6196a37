//! Who is let in, how often, and for how long.

use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::metadata_request::MetadataRequest;

use super::*;
use crate::listeners::kafka::sasl::FAILED;

const ALL: [&str; 4] = ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"];

#[tokio::test(start_paused = true)]
async fn the_full_list_of_mechanisms_is_in_every_answer_to_a_handshake_and_an_unknown_one_ends_it() {
    let gate = Gate::new(Config::default());
    for version in 0..=1 {
        assert_eq!(gate.connect().handshake(version, "PLAIN").await, (0, ALL.map(str::to_owned).to_vec()));
        let mut client = gate.connect();
        assert_eq!(client.handshake(version, "GSSAPI").await, (33, ALL.map(str::to_owned).to_vec()));
        assert!(client.is_closed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn every_version_of_authentication_lets_the_right_one_in_and_says_for_how_long() {
    let gate = Gate::new(Config::default());
    for version in 0..=2 {
        let mut client = gate.connect();
        assert_eq!(client.handshake(1, "PLAIN").await.0, 0);
        let response = client.authenticate(version, &password(PASSWORD)).await;
        assert_eq!((response.error_code, response.error_message), (0, None));
        let day = 86_400_000;
        assert!(version == 0 || (day - 1_000..=day).contains(&response.session_lifetime_ms), "{}", response.session_lifetime_ms);
        assert_eq!(client.ask(1, &MetadataRequest::default().with_topics(None)).await.brokers.len(), 1);
    }
    let response = gate.connect().log_in("OAUTHBEARER", &token("worker", 600)).await;
    assert!(response.auth_bytes.is_empty());
    assert!((590_000..=600_000).contains(&response.session_lifetime_ms), "{}", response.session_lifetime_ms);
}

#[tokio::test(start_paused = true)]
async fn after_the_old_handshake_tokens_come_without_headers_and_a_failure_is_the_end_without_a_word() {
    let gate = Gate::new(Config::default());
    let mut client = gate.connect();
    assert_eq!(client.handshake(0, "PLAIN").await.0, 0);
    client.write(&framed(password(PASSWORD).as_bytes())).await;
    assert_eq!(client.frame().await, Some(Bytes::new()));
    assert_eq!(client.ask(0, &MetadataRequest::default()).await.brokers.len(), 1);
    let mut client = gate.connect();
    assert_eq!(client.handshake(0, "PLAIN").await.0, 0);
    client.write(&framed(password("wrong").as_bytes())).await;
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_one_code_and_one_text_late_and_then_the_end() {
    let gate = Gate::new(Config::default());
    for (mechanism, message) in [("PLAIN", password("wrong")), ("SCRAM-SHA-256", "p=x,,n=ada,r=abc".to_owned()), ("PLAIN", String::new())] {
        let (mut client, begun) = (gate.connect(), Instant::now());
        assert_eq!(client.handshake(1, mechanism).await.0, 0);
        let response = client.authenticate(1, &message).await;
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert_eq!((response.error_code, response.error_message.as_deref()), (58, Some(FAILED)), "{message}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_token_is_told_by_a_challenge_and_ends_when_that_was_heard() {
    let gate = Gate::new(Config::default());
    let bad = token("worker", 600).replace("Bearer ", "Bearer x");
    let refused = async |heard: &str| {
        let mut client = gate.connect();
        assert_eq!(client.handshake(1, "OAUTHBEARER").await.0, 0);
        let response = client.authenticate(1, &bad).await;
        assert_eq!((response.error_code, response.session_lifetime_ms), (0, 0));
        assert!(response.auth_bytes.starts_with(b"{\"status\""));
        let response = client.authenticate(1, heard).await;
        assert_eq!(response.error_code, 58);
        assert!(client.is_closed().await);
    };
    refused("\x01").await;
    refused(&token("worker", 600)).await;
    let mut client = gate.connect();
    client.handshake(1, "OAUTHBEARER").await;
    client.authenticate(1, &bad).await;
    assert_eq!(client.handshake(1, "OAUTHBEARER").await.0, 34, "out of place");
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn k4_nothing_but_authentication_is_served_before_authentication() {
    let gate = Gate::new(Config::default());
    for (key, header) in [(0, 1), (3, 1), (10, 1), (22, 1), (60, 2)] {
        let mut client = gate.connect();
        let bytes = client.head(key, 0, header, &[0; 8]);
        client.write(&bytes).await;
        assert!(client.is_closed().await, "{key}");
        let mut client = gate.connect();
        assert_eq!(client.handshake(1, "PLAIN").await.0, 0);
        let bytes = client.head(key, 0, header, &[0; 8]);
        client.write(&bytes).await;
        assert!(client.is_closed().await, "{key} in the midst of it");
    }
    let mut client = gate.connect();
    assert_eq!(client.authenticate(1, "x").await.error_code, 34, "without a handshake");
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn k4_what_is_pipelined_behind_a_failing_authentication_is_not_begun() {
    let gate = Gate::new(Config::default());
    let mut client = gate.connect();
    client.handshake(1, "PLAIN").await;
    let login = SaslAuthenticateRequest::default().with_auth_bytes(password("wrong").into_bytes().into());
    let bytes = [client.encode(1, &login), client.encode(1, &MetadataRequest::default())].concat();
    client.write(&bytes).await;
    assert_eq!(client.hear_back::<SaslAuthenticateRequest>(1, 1).await.error_code, 58);
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn k1_k4_who_does_not_say_in_time_who_they_are_or_talks_too_much_is_closed() {
    let gate = Gate::new(Config::default());
    let (mut silent, begun) = (gate.connect(), Instant::now());
    assert!(silent.is_closed().await);
    assert_eq!(begun.elapsed(), LOGIN_TIME);
    let (mut slow, begun) = (gate.connect(), Instant::now());
    slow.write(&[0, 0, 0, 40, 0, 18]).await;
    assert!(slow.is_closed().await);
    assert_eq!(begun.elapsed(), LOGIN_TIME);
    let mut talker = gate.connect();
    for _ in 0..16 {
        assert_eq!(talker.ask(0, &ApiVersionsRequest::default()).await.error_code, 0);
    }
    talker.send(0, &ApiVersionsRequest::default()).await;
    assert!(talker.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_by_the_same_principal_and_mechanism_and_counts_from_then() {
    let gate = Gate::new(Config::default());
    let mut client = gate.connect();
    client.log_in("OAUTHBEARER", &token("worker", 60)).await;
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(client.handshake(1, "OAUTHBEARER").await.0, 0);
    assert_eq!(client.ask(1, &MetadataRequest::default()).await.brokers.len(), 1, "the old one still counts");
    assert_eq!(client.authenticate(2, &token("worker", 600)).await.error_code, 0);
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(client.ask(1, &MetadataRequest::default()).await.brokers.len(), 1);
    // As somebody else.
    client.handshake(1, "OAUTHBEARER").await;
    assert_eq!(client.authenticate(2, &token("other", 600)).await.error_code, 58);
    assert!(client.is_closed().await);
    // By another mechanism.
    let mut client = gate.enter().await;
    client.handshake(1, "PLAIN").await;
    assert_eq!(client.authenticate(2, &password(PASSWORD)).await.error_code, 58);
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn k11_after_its_end_a_session_serves_nothing_but_its_renewal() {
    let gate = Gate::new(Config::default());
    let mut client = gate.connect();
    client.log_in("OAUTHBEARER", &token("worker", 60)).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    client.log_in("OAUTHBEARER", &token("worker", 60)).await;
    assert_eq!(client.ask(1, &MetadataRequest::default()).await.brokers.len(), 1);
    tokio::time::advance(Duration::from_secs(61)).await;
    client.send(1, &MetadataRequest::default()).await;
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn who_came_with_a_token_needs_no_login_and_may_log_in_as_the_same_only() {
    let gate = Gate::new(Config::default());
    let grants = auth::grants::Grants::new([TOPIC.parse().expect("a grant")]);
    let worker = Principal::for_tests("backend", "worker", grants);
    let mut client = gate.connect_as(Some(worker.clone()), 4096);
    assert_eq!(client.ask(1, &MetadataRequest::default()).await.brokers.len(), 1);
    client.log_in("OAUTHBEARER", &token("worker", 60)).await;
    let mut client = gate.connect_as(Some(worker), 4096);
    client.handshake(1, "PLAIN").await;
    assert_eq!(client.authenticate(1, &password(PASSWORD)).await.error_code, 58);
}
