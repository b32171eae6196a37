//! Whole exchanges, with a client library that is not ours. Time is paused.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use rsasl::callback::{Context, Request, SessionCallback, SessionData};
use rsasl::mechanisms::oauthbearer::properties::OAuthBearerErrored;
use rsasl::prelude::*;
use rsasl::property::{AuthId, AuthzId, OAuthBearerKV, OAuthBearerToken, Password};

use super::super::config::{Config, IssuerConfig, Kind};
use super::super::key::Algorithm;
use super::super::mint::mint;
use super::super::scram::work;
use super::*;
use crate::event::Topic;
use crate::units::Secret;

const PASSWORD: &str = "correct horse";

fn issuer() -> IssuerConfig {
    IssuerConfig {
        kind: Kind::Static,
        issuer: Some("backend".into()),
        audience: Some("gate".into()),
        algorithm: Some(Algorithm::HS256),
        key: Secret::new("0123456789abcdef0123456789abcdef"),
        topics_claim: Some("topics".into()),
        ..IssuerConfig::default()
    }
}

fn config() -> Config {
    Config {
        kafka_user: Some("ada".into()),
        kafka_password: Secret::new(PASSWORD),
        kafka_topics: vec!["orders".parse().expect("a grant")],
        issuers: [("backend".to_owned(), issuer())].into(),
        ..Config::default()
    }
}

fn gate() -> Authenticator {
    Authenticator::new(&config()).expect("a good configuration")
}

fn token(seconds: u64) -> String {
    mint(&issuer(), "worker", &["events".parse().expect("a grant")], Duration::from_secs(seconds)).expect("minted")
}

/// What the client library is told.
#[derive(Clone, Default)]
struct Told {
    authzid: Option<&'static str>,
    name: &'static str,
    password: &'static str,
    token: String,
}

impl SessionCallback for Told {
    fn callback(&self, _: &SessionData, _: &Context<'_>, request: &mut Request<'_>) -> Result<(), SessionError> {
        request.satisfy::<AuthId>(self.name)?.satisfy::<Password>(self.password.as_bytes())?;
        request.satisfy::<OAuthBearerToken>(&self.token)?.satisfy::<OAuthBearerKV>(&[("logicalCluster", "lkc-1")])?;
        if let Some(authzid) = self.authzid {
            request.satisfy::<AuthzId>(authzid)?;
        }
        // That the token is refused is heard, and that is all.
        let _ = request.get_action::<OAuthBearerErrored>();
        Ok(())
    }
}

/// How an exchange went: the server's messages, and what it came to.
#[derive(Debug)]
struct Heard {
    messages: Vec<Bytes>,
    principal: Option<Principal>,
    finished: bool,
}

/// The client library against the gate, to the end.
async fn talk(gate: &Authenticator, mechanism: SaslMechanism, told: &Told) -> Heard {
    let config = SASLConfig::builder().with_default_mechanisms().with_callback(told.clone()).expect("a configuration");
    let name = Mechname::parse(mechanism.as_str().as_bytes()).expect("a name");
    let mut client = SASLClient::new(config).start_suggested(&[name]).expect("a mechanism of the library's");
    let mut exchange = gate.exchange(mechanism, true);
    let mut heard = Heard { messages: Vec::new(), principal: None, finished: false };
    let mut input: Option<Bytes> = None;
    loop {
        let mut out = Cursor::new(Vec::new());
        let Ok(state) = client.step(input.as_deref(), &mut out) else { return heard };
        heard.finished = !state.is_running();
        if heard.principal.is_some() {
            return heard;
        }
        let said = out.into_inner();
        let said = if said.is_empty() { b"\x01".to_vec() } else { said };
        match exchange.step(gate, &said).await {
            Step::Continue(message) => input = Some(message),
            Step::Done { message, principal } => {
                heard.principal = Some(principal);
                if message.is_empty() {
                    return heard;
                }
                input = Some(message);
            }
            Step::Refused | Step::Busy => return heard,
        }
        heard.messages.extend(input.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_the_password_is_who_it_says_by_each_mechanism() {
    let gate = gate();
    let ada = Told { name: "ada", password: PASSWORD, ..Told::default() };
    for mechanism in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512, SaslMechanism::Plain] {
        for authzid in [None, Some("ada")] {
            let begun = Instant::now();
            let heard = talk(&gate, mechanism, &Told { authzid, ..ada.clone() }).await;
            let principal = heard.principal.unwrap_or_else(|| panic!("{mechanism:?} {authzid:?}"));
            assert_eq!((principal.name(), principal.expires()), ("users:ada", None));
            assert!(principal.grants().cover(&Topic::new("orders").expect("a topic")));
            assert!(mechanism == SaslMechanism::Plain || heard.finished, "the client has verified the server");
            assert!(begun.elapsed() < FAILURE_DELAY, "who is right waits for nothing");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_another_name_and_nobody_hear_the_same_and_late() {
    let gate = gate();
    for mechanism in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512, SaslMechanism::Plain] {
        for (name, password, authzid) in
            [("ada", "wrong horse", None), ("eve", PASSWORD, None), ("eve", "wrong horse", None), ("ada", PASSWORD, Some("eve"))]
        {
            let begun = Instant::now();
            let heard = talk(&gate, mechanism, &Told { authzid, name, password, ..Told::default() }).await;
            assert!(heard.principal.is_none() && begun.elapsed() >= FAILURE_DELAY, "{mechanism:?} {name}");
            let scram = mechanism != SaslMechanism::Plain && authzid.is_none();
            assert_eq!(heard.messages.len(), usize::from(scram));
            let form = |message: &Bytes| {
                let text = String::from_utf8(message.to_vec()).expect("text");
                text.split(',')
                    .map(|part| (part[..2].to_owned(), if part.starts_with("i=") { part.to_owned() } else { part.len().to_string() }))
                    .collect::<Vec<_>>()
            };
            if let Some(first) = heard.messages.first() {
                let right = talk(&gate, mechanism, &Told { name: "ada", password: PASSWORD, ..Told::default() }).await;
                assert_eq!(form(first), form(&right.messages[0]), "the same form and the same iterations");
            }
        }
    }
}

#[test]
fn right_wrong_and_nobody_cost_the_same_over_the_whole_exchange() {
    let gate = gate();
    let cost = |name, password, mechanism| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let config = SASLConfig::builder().with_default_mechanisms().with_callback(Told { name, password, ..Told::default() });
        let wanted = Mechname::parse(SaslMechanism::as_str(mechanism).as_bytes()).expect("a name");
        let mut client = SASLClient::new(config.expect("a configuration")).start_suggested(&[wanted]).expect("a mechanism");
        let mut say = |input: Option<&[u8]>| {
            let mut out = Cursor::new(Vec::new());
            client.step(input, &mut out).expect("a message");
            out.into_inner()
        };
        let mut exchange = gate.exchange(mechanism, true);
        let (first, one) = work::of(|| runtime.block_on(exchange.step(&gate, &say(None))));
        let Step::Continue(first) = first else { panic!("{first:?}") };
        let (last, other) = work::of(|| runtime.block_on(exchange.step(&gate, &say(Some(&first)))));
        (matches!(last, Step::Done { .. }), one, other)
    };
    for mechanism in [SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let (right, one, other) = cost("ada", PASSWORD, mechanism);
        assert_eq!((right, one, other), (true, [0, 1, 0], [0, 2, 1]));
        assert_eq!(cost("ada", "wrong horse", mechanism), (false, one, other));
        assert_eq!(cost("bob", PASSWORD, mechanism), (false, one, other));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_verified_as_at_every_other_door_and_its_end_is_the_sessions() {
    let gate = gate();
    let heard = talk(&gate, SaslMechanism::OAuthBearer, &Told { token: token(60), ..Told::default() }).await;
    let principal = heard.principal.expect("recognized");
    assert_eq!(principal.name(), "backend:worker");
    assert!(principal.expires().is_some());
    let same = talk(&gate, SaslMechanism::OAuthBearer, &Told { token: token(60), authzid: Some("worker"), ..Told::default() }).await;
    assert!(same.principal.is_some());

    let good = token(60);
    let forged = format!("{}x", &good[..good.len() - 4]);
    for (token, authzid) in [(forged, None), ("e30.e30.e30".to_owned(), None), (good, Some("eve"))] {
        let begun = Instant::now();
        let heard = talk(&gate, SaslMechanism::OAuthBearer, &Told { token, authzid, ..Told::default() }).await;
        assert!(heard.principal.is_none() && begun.elapsed() >= FAILURE_DELAY);
        assert_eq!(heard.messages, [Bytes::from_static(b"{\"status\":\"invalid_token\"}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_challenge_every_answer_is_the_end_and_a_second_token_is_not_looked_at() {
    let gate = gate();
    let message = |token: &str| format!("n,,\x01auth=Bearer {token}\x01\x01").into_bytes();
    for answer in [b"\x01".to_vec(), Vec::new(), message(&token(60))] {
        let mut exchange = gate.exchange(SaslMechanism::OAuthBearer, true);
        assert!(matches!(exchange.step(&gate, &message("a.b.c")).await, Step::Continue(_)));
        assert!(matches!(exchange.step(&gate, &answer).await, Step::Refused));
        assert!(matches!(exchange.step(&gate, &message(&token(60))).await, Step::Refused), "it stays over");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_is_over_or_was_dropped_halfway_lets_nobody_in() {
    let gate = gate();
    let plain = format!("\0ada\0{PASSWORD}");
    let mut done = gate.exchange(SaslMechanism::Plain, true);
    assert!(matches!(done.step(&gate, plain.as_bytes()).await, Step::Done { .. }));
    assert!(matches!(done.step(&gate, plain.as_bytes()).await, Step::Refused));
    let mut dropped = gate.exchange(SaslMechanism::Plain, true);
    let wrong = b"\0ada\0wrong horse";
    let mut step = Box::pin(dropped.step(&gate, wrong));
    assert!(futures_util::poll!(step.as_mut()).is_pending());
    drop(step);
    assert!(matches!(dropped.step(&gate, plain.as_bytes()).await, Step::Refused));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_offered_is_refused_and_what_would_be_overheard_is_not_offered() {
    use SaslMechanism::{OAuthBearer, Plain, ScramSha256, ScramSha512};
    let all = gate();
    assert_eq!(all.mechanisms(true), SaslMechanism::ALL);
    assert_eq!(all.mechanisms(false), [ScramSha256, ScramSha512]);
    let users = Authenticator::new(&Config { issuers: Default::default(), ..config() }).expect("good");
    assert_eq!((users.mechanisms(true), users.mechanisms(false)), (vec![ScramSha256, ScramSha512, Plain], vec![ScramSha256, ScramSha512]));
    let nobody = Config { kafka_user: None, kafka_password: Secret::default(), ..config() };
    let tokens = Authenticator::new(&nobody).expect("good");
    assert_eq!((tokens.mechanisms(true), tokens.mechanisms(false)), (vec![OAuthBearer], vec![]));

    let plain = format!("\0ada\0{PASSWORD}");
    let bearer = format!("n,,\x01auth=Bearer {}\x01\x01", token(60));
    for (gate, mechanism, confidential, message) in [
        (&all, Plain, false, plain.as_str()),
        (&all, OAuthBearer, false, &bearer),
        (&tokens, Plain, true, &plain),
        (&tokens, ScramSha256, true, "n,,n=ada,r=x"),
        (&users, OAuthBearer, true, &bearer),
    ] {
        let step = gate.exchange(mechanism, confidential).step(gate, message.as_bytes()).await;
        assert!(matches!(step, Step::Refused), "{mechanism:?} {confidential}: {step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_nonce_is_taken_where_nobody_listens_and_counted() {
    let strict = Authenticator::new(&Config { repeated_nonce: false, ..config() }).expect("good");
    let lenient = gate();
    let before = metrics().sasl_repeated_nonces.get();
    for (gate, confidential, good) in [(&lenient, true, true), (&lenient, false, false), (&strict, true, false)] {
        let mut exchange = gate.exchange(SaslMechanism::ScramSha256, confidential);
        let Step::Continue(challenge) = exchange.step(gate, b"n,,n=ada,r=half").await else { panic!("no challenge") };
        let last = repeating(std::str::from_utf8(&challenge).expect("text"));
        assert_eq!(matches!(exchange.step(gate, last.as_bytes()).await, Step::Done { .. }), good, "{confidential}");
    }
    assert_eq!(metrics().sasl_repeated_nonces.get(), before + 1);
}

/// The last message of old librdkafka to this challenge.
fn repeating(challenge: &str) -> String {
    use aws_lc_rs::{digest, hmac, pbkdf2};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let parts: Vec<&str> = challenge.split(',').collect();
    let salt = STANDARD.decode(&parts[1][2..]).expect("base64");
    let rounds = parts[2][2..].parse().expect("a number that is not zero");
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, PASSWORD.as_bytes(), &mut salted);
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let client_key = sign(&salted, "Client Key");
    let without_proof = format!("c=biws,r=half{}", &parts[0][2..]);
    let said = format!("n=ada,r=half,{challenge},{without_proof}");
    let signature = sign(digest::digest(&digest::SHA256, &client_key).as_ref(), &said);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(one, other)| one ^ other).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_too_many_are_tried_hears_that_it_is_busy_and_not_that_they_are_wrong() {
    let gate = gate();
    // Each takes a place at its first poll; nothing of them has run when the last one comes.
    for n in 0..1_000 {
        let message = format!("\0ada\0wrong horse {n}");
        let mut exchange = gate.exchange(SaslMechanism::Plain, true);
        match futures_util::poll!(Box::pin(exchange.step(&gate, message.as_bytes())).as_mut()) {
            std::task::Poll::Pending => {}
            std::task::Poll::Ready(step) => return assert!(matches!(step, Step::Busy), "{step:?}"),
        }
    }
    panic!("there was room for all");
}

#[test]
fn a_mechanism_is_found_by_its_registered_name_alone() {
    for mechanism in SaslMechanism::ALL {
        assert_eq!(SaslMechanism::named(mechanism.as_str()), Some(mechanism));
    }
    for name in ["", "plain", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "PLAIN "] {
        assert_eq!(SaslMechanism::named(name), None, "{name}");
    }
}

proptest::proptest! {
    #[test]
    fn no_message_makes_it_panic(one in proptest::collection::vec(proptest::num::u8::ANY, 0..200), other in "[nypac=,rms0-9\u{1}\u{0}\u{e9}]{0,60}") {
        for mechanism in SaslMechanism::ALL {
            for messages in [[one.as_slice(), other.as_bytes()], [other.as_bytes(), one.as_slice()]] {
                proptest::prop_assert!(rehearse(mechanism, &messages) <= 2);
            }
        }
    }
}

#[test]
fn a_rehearsal_goes_as_far_as_the_messages_are_understood() {
    let rehearse = |mechanism, one: &str, other: &str| rehearse(mechanism, &[one.as_bytes(), other.as_bytes()]);
    assert_eq!(rehearse(SaslMechanism::ScramSha256, "n,,n=a,r=x", "c=biws,r=xserver,p=AAAA"), 2);
    assert_eq!(rehearse(SaslMechanism::ScramSha512, "n,,n=a,r=x", "c=biws,r=x,p=AAAA"), 1);
    assert_eq!(rehearse(SaslMechanism::ScramSha256, "n,,", ""), 0);
    assert_eq!(rehearse(SaslMechanism::Plain, "\0a\0b", ""), 1);
    assert_eq!(rehearse(SaslMechanism::OAuthBearer, "n,,\x01auth=Bearer x\x01\x01", ""), 1);
    assert_eq!(super::rehearse(SaslMechanism::Plain, &[]), 0);
}

#[test]
fn the_authenticator_can_be_shared_between_connections() {
    fn shared<T: Send + Sync>(_: &T) {}
    let gate = Arc::new(gate());
    shared(&gate);
    let mut exchange = gate.exchange(SaslMechanism::Plain, true);
    let step = exchange.step(&gate, b"");
    fn sent<T: Send>(_: &T) {}
    sent(&step);
}
