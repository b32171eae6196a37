//! The whole path of a token against issuers of our own on loopback. Time is passed in.

use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::drain::{Drain, Phase};
use crate::event::Topic;
use crate::units::{Secret, Span};

/// A key pair of an issuer's, or of somebody who would like to be one.
struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    secret: EncodingKey,
    public_pem: String,
    jwk: Value,
}

impl Signer {
    fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let (kind, read): (_, fn(&[u8]) -> _) = match algorithm {
            Algorithm::RS256 => (&rcgen::PKCS_RSA_SHA256, EncodingKey::from_rsa_pem),
            Algorithm::ES256 => (&rcgen::PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem),
            _ => (&rcgen::PKCS_ED25519, EncodingKey::from_ed_pem),
        };
        let pair = rcgen::KeyPair::generate_for(kind).expect("a key pair");
        let secret = read(pair.serialize_pem().as_bytes()).expect("a private key");
        let mut jwk = match algorithm {
            Algorithm::EdDSA => json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw()) }),
            _ => serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&secret, algorithm.library()).expect("a JWK"))
                .expect("an object"),
        };
        (jwk["kid"], jwk["use"], jwk["alg"]) = (kid.into(), "sig".into(), algorithm.as_str().into());
        Self { kid, algorithm, secret, public_pem: pair.public_key_pem(), jwk }
    }

    /// Two RSA keys for all tests: making one takes a while.
    fn rsa(which: usize) -> &'static Self {
        static PAIRS: OnceLock<[Signer; 2]> = OnceLock::new();
        &PAIRS.get_or_init(|| [Self::new("rsa-0", Algorithm::RS256), Self::new("rsa-1", Algorithm::RS256)])[which]
    }

    fn header(&self) -> Value {
        json!({ "alg": self.algorithm.as_str(), "kid": self.kid, "typ": "JWT" })
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        sign(header, claims, &self.secret, self.algorithm.library())
    }
}

fn sign(header: &Value, claims: &Value, secret: &EncodingKey, algorithm: jsonwebtoken::Algorithm) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), secret, algorithm).expect("signs");
    format!("{signed}.{signature}")
}

/// A copy of an object with other members.
fn with(object: &Value, members: Value) -> Value {
    let mut object = object.clone();
    for (name, value) in members.as_object().expect("members") {
        object[name.as_str()] = value.clone();
    }
    object
}

fn seconds(wall: SystemTime) -> u64 {
    wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Good claims of a Firebase user of project `demo`.
fn claims(now: Now) -> Value {
    let now = seconds(now.wall);
    json!({
        "iss": "https://securetoken.google.com/demo", "aud": "demo", "sub": "ada",
        "iat": now, "auth_time": now - 100, "exp": now + 100_000, "tier": "pro",
    })
}

fn later(now: Now, by: u64) -> Now {
    Now { wall: now.wall + Duration::from_secs(by), steady: now.steady + Duration::from_secs(by), ..now }
}

/// What the fake issuer does with a request.
#[derive(Clone)]
enum Answer {
    Keys(Vec<Value>),
    Text(&'static str),
    Status(&'static str),
    Redirect(String),
    Flood,
    Close,
    Hang,
}

/// An issuer's web server: answers as told, and remembers what it was asked for.
struct FakeIssuer {
    origin: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeIssuer {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("bound"));
        let issuer = Self { origin: origin.clone(), answer: Arc::new(Mutex::new(answer)), asked: Arc::default() };
        let (answer, asked) = (Arc::clone(&issuer.answer), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, origin.clone(), Arc::clone(&answer), Arc::clone(&asked)));
            }
        });
        issuer
    }

    fn says(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }

    fn firebase(&self) -> IssuerConfig {
        IssuerConfig { jwks_url: Some(format!("{}/jwks", self.origin)), ..IssuerConfig::firebase("demo") }
    }
}

async fn serve(mut socket: TcpStream, origin: String, answer: Arc<Mutex<Answer>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let discovery = line.contains("/.well-known/openid-configuration");
    asked.lock().expect("not poisoned").push(line);
    let answer = answer.lock().expect("not poisoned").clone();
    let (status, more, body) = match answer {
        Answer::Keys(_) if discovery => {
            ("200 OK", String::new(), json!({ "issuer": origin, "jwks_uri": format!("{origin}/keys") }).to_string())
        }
        Answer::Keys(keys) => ("200 OK", "cache-control: max-age=600\r\n".into(), json!({ "keys": keys }).to_string()),
        Answer::Text(body) => ("200 OK", String::new(), body.to_owned()),
        Answer::Status(status) => (status, String::new(), String::new()),
        Answer::Redirect(to) => ("302 Found", format!("location: {to}\r\n"), String::new()),
        Answer::Flood => ("200 OK", String::new(), format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300 * 1024))),
        Answer::Close => return,
        Answer::Hang => std::future::pending().await,
    };
    let answer = format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    // A client that has gone has seen enough.
    let _ = socket.write_all(answer.as_bytes()).await;
}

fn authenticator(issuers: impl IntoIterator<Item = (&'static str, IssuerConfig)>) -> Authenticator {
    let issuers = issuers.into_iter().map(|(name, issuer)| (name.to_owned(), issuer)).collect();
    Authenticator::new(&Config { issuers, ..Config::default() }).expect("a good configuration")
}

impl Authenticator {
    async fn fetch(&self, now: Now) {
        for remote in self.published() {
            remote.refresh(now.steady).changed().await.expect("landed");
        }
    }

    async fn told(&self, token: &str, now: Now) -> Result<Principal, AuthFailure> {
        self.recognize(&Credentials::Bearer(Secret::new(token)), now).await
    }
}

/// A gate that knows the Firebase issuer with key `rsa-0`.
async fn firebase(now: Now) -> (FakeIssuer, Authenticator) {
    let issuer = FakeIssuer::start(Answer::Keys(vec![Signer::rsa(0).jwk.clone()])).await;
    let gate = authenticator([("firebase", issuer.firebase())]);
    gate.fetch(now).await;
    (issuer, gate)
}

#[tokio::test]
async fn a_firebase_user_is_recognized_and_may_send_commands_only() {
    let now = Now::read();
    let (_issuer, gate) = firebase(now).await;
    let token = Signer::rsa(0).token(&claims(now));
    let principal = gate.authenticate(&Credentials::Bearer(Secret::new(token))).await.expect("recognized");
    assert_eq!((principal.name(), principal.subject(), principal.tier()), ("firebase:ada", "ada", "pro"));
    assert!(principal.grants().cover(&Topic::new("frontend-events").expect("a topic")));
    assert!(!principal.grants().cover(&Topic::new("telemetry-raw").expect("a topic")));
    assert_eq!(principal.expires().map(seconds), Some(seconds(now.wall) + 100_000));
}

#[tokio::test]
async fn a1_forged_algorithms_and_foreign_headers_are_refused_alike() {
    let now = Now::read();
    let (issuer, gate) = firebase(now).await;
    let (own, claims) = (Signer::rsa(0), claims(now));
    let unsigned = |alg: &str| {
        format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": own.kid}).to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    };
    let by_public_key = |secret: &[u8]| {
        let header = json!({ "alg": "HS256", "kid": own.kid });
        sign(&header, &claims, &EncodingKey::from_secret(secret), jsonwebtoken::Algorithm::HS256)
    };
    let good = own.token(&claims);
    let (message, _) = good.rsplit_once('.').expect("three parts");
    let tokens = [
        unsigned("none"),
        unsigned("None"),
        format!("{}c2ln", unsigned("none")),
        by_public_key(own.public_pem.as_bytes()),
        by_public_key(own.public_pem.trim().as_bytes()),
        by_public_key(own.jwk.to_string().as_bytes()),
        by_public_key(own.jwk["n"].as_str().expect("a modulus").as_bytes()),
        own.sign(&with(&own.header(), json!({ "crit": ["exp"] })), &claims),
        own.sign(&with(&own.header(), json!({ "crit": ["b64"], "b64": false })), &claims),
        own.sign(&with(&own.header(), json!({ "b64": false })), &claims),
        own.sign(&with(&own.header(), json!({ "alg": "RS512" })), &claims),
        own.sign(&with(&own.header(), json!({ "alg": "PS256" })), &claims),
        own.sign(&with(&own.header(), json!({ "enc": "A256GCM" })), &claims),
        "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ".into(),
        format!("{message}."),
        message.to_owned(),
        format!("{good}.{good}"),
        String::new(),
    ];
    assert!(gate.told(&good, now).await.is_ok());
    for token in &tokens {
        let refusal = gate.authenticate(&Credentials::Bearer(Secret::new(token.clone()))).await.expect_err(token);
        assert_eq!(refusal, Refusal::Unauthenticated);
    }
    assert_eq!(issuer.asked().len(), 1, "no forged token causes a request");
}

#[tokio::test]
async fn a2_nothing_that_a_token_names_is_fetched() {
    let now = Now::read();
    let (issuer, gate) = firebase(now).await;
    let trap = FakeIssuer::start(Answer::Keys(vec![Signer::rsa(1).jwk.clone()])).await;
    let (thief, claims) = (Signer::rsa(1), claims(now));
    let url = format!("{}/keys", trap.origin);
    for more in
        [json!({ "jku": url }), json!({ "x5u": url }), json!({ "jwk": thief.jwk }), json!({ "jku": url, "jwk": thief.jwk, "x5c": [url] })]
    {
        let header = with(&with(&thief.header(), json!({ "kid": "rsa-0" })), more);
        assert_eq!(gate.told(&thief.sign(&header, &claims), now).await.err(), Some(AuthFailure::Signature), "{header}");
    }
    for kid in [url.as_str(), "../../../etc/passwd", "/dev/null", "' OR 1=1 --", "rsa-0\u{0}", "RSA-0", ""] {
        let header = with(&thief.header(), json!({ "kid": kid }));
        assert_eq!(gate.told(&thief.sign(&header, &claims), now).await.err(), Some(AuthFailure::UnknownKey), "{kid}");
    }
    for iss in [trap.origin.as_str(), "https://securetoken.google.com/demo/", "https://securetoken.google.com/other", ""] {
        let claims = with(&claims, json!({ "iss": iss }));
        assert_eq!(gate.told(&thief.token(&claims), now).await.err(), Some(AuthFailure::Issuer), "{iss}");
    }
    assert!(trap.asked().is_empty());
    assert!(issuer.asked().iter().all(|line| line == "GET /jwks HTTP/1.1"));
}

#[tokio::test]
async fn a3_a_flood_of_unknown_kids_causes_one_fetch_a_minute() {
    let now = Now::read();
    let (issuer, gate) = firebase(now).await;
    let (own, claims) = (Signer::rsa(0), claims(now));
    let flood = async |now: Now| {
        let tokens: Vec<_> = (0..50).map(|n| own.sign(&with(&own.header(), json!({ "kid": format!("k{n}") })), &claims)).collect();
        let told = futures_util::future::join_all(tokens.iter().map(|token| gate.told(token, now))).await;
        assert!(told.into_iter().all(|told| told.err() == Some(AuthFailure::UnknownKey)));
        issuer.asked().len()
    };
    assert_eq!(flood(now).await, 2, "one at the start, one for the flood");
    assert_eq!(flood(later(now, 59)).await, 2);
    assert_eq!(flood(later(now, 60)).await, 3);
    assert_eq!(flood(later(now, 61)).await, 3);
    assert!(gate.told(&own.token(&claims), later(now, 61)).await.is_ok(), "known ones are not disturbed");
}

#[tokio::test]
async fn a4_claims_of_another_form_or_for_others_are_refused() {
    let now = Now::read();
    let (_issuer, gate) = firebase(now).await;
    let (own, good, clock) = (Signer::rsa(0), claims(now), seconds(now.wall));
    let mut wrong = vec![
        json!({ "exp": clock - 6 }),
        json!({ "nbf": clock + 6 }),
        json!({ "iat": clock + 62 }),
        json!({ "auth_time": clock + 62 }),
        json!({ "aud": "other" }),
        json!({ "aud": ["demo"] }),
        json!({ "iss": ["https://securetoken.google.com/demo"] }),
        json!({ "iss": "https://securetoken.google.com/other" }),
        json!({ "sub": "" }),
        json!({ "sub": "x".repeat(129) }),
    ];
    for name in ["exp", "nbf", "iat", "auth_time"] {
        wrong.extend(
            [json!(clock.to_string()), json!(clock as f64 + 0.5), json!(-1), json!(null), json!([clock])]
                .map(|value| json!({ name: value })),
        );
    }
    for members in &wrong {
        assert!(gate.told(&own.token(&with(&good, members.clone())), now).await.is_err(), "{members}");
    }
    for name in ["exp", "iat", "auth_time", "aud", "iss", "sub"] {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        assert!(gate.told(&own.token(&claims), now).await.is_err(), "{name} missing");
    }
    assert!(gate.told(&own.token(&good), now).await.is_ok());
}

#[tokio::test]
async fn several_issuers_stand_side_by_side_and_none_speaks_for_another() {
    let now = Now::read();
    let issuer = FakeIssuer::start(Answer::Keys(vec![Signer::rsa(0).jwk.clone()])).await;
    let (curve, edwards) = (Signer::new("ec-0", Algorithm::ES256), Signer::new("ed-0", Algorithm::EdDSA));
    let oidc = FakeIssuer::start(Answer::Keys(vec![curve.jwk.clone(), edwards.jwk.clone()])).await;
    let backend = Signer::new("ed-1", Algorithm::EdDSA);
    let gate = authenticator([
        ("firebase", issuer.firebase()),
        ("oidc", IssuerConfig { issuer: Some(oidc.origin.clone()), audience: Some("gate".into()), ..IssuerConfig::default() }),
        (
            "backend",
            IssuerConfig {
                kind: Kind::Static,
                issuer: Some("backend".into()),
                audience: Some("gate".into()),
                algorithm: Some(Algorithm::EdDSA),
                key: Secret::new(backend.public_pem.clone()),
                ..IssuerConfig::default()
            },
        ),
    ]);
    assert!(!gate.ready(), "keys are missing");
    gate.fetch(now).await;
    assert!(gate.ready());
    assert_eq!(oidc.asked(), ["GET /.well-known/openid-configuration HTTP/1.1", "GET /keys HTTP/1.1"]);
    let of = |iss: &str| with(&claims(now), json!({ "iss": iss, "aud": "gate" }));
    for (signer, iss, name) in
        [(&curve, oidc.origin.as_str(), "oidc:ada"), (&edwards, &oidc.origin, "oidc:ada"), (&backend, "backend", "backend:ada")]
    {
        assert_eq!(gate.told(&signer.token(&of(iss)), now).await.map(|who| who.name().to_owned()), Ok(name.to_owned()));
    }
    assert!(gate.told(&curve.token(&of("backend")), now).await.is_err());
    assert!(gate.told(&backend.token(&of(&oidc.origin)), now).await.is_err());
    assert!(gate.told(&edwards.token(&claims(now)), now).await.is_err());
}

#[tokio::test]
async fn rotated_keys_are_taken_up_at_once_and_the_old_ones_end() {
    let now = Now::read();
    let (issuer, gate) = firebase(now).await;
    let (old, new) = (Signer::rsa(0).token(&claims(now)), Signer::rsa(1).token(&claims(now)));
    assert!(gate.told(&old, now).await.is_ok());
    issuer.says(Answer::Keys(vec![Signer::rsa(1).jwk.clone()]));
    assert!(gate.told(&old, now).await.is_ok(), "nobody has noticed yet");
    assert!(gate.told(&new, now).await.is_ok());
    assert_eq!(gate.told(&old, now).await.err(), Some(AuthFailure::UnknownKey), "not even from memory");
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_anew_serve_stale_up_to_the_bound() {
    let now = Now::read();
    let issuer = FakeIssuer::start(Answer::Keys(vec![Signer::rsa(0).jwk.clone()])).await;
    let gate = authenticator([("firebase", IssuerConfig { max_stale: Span::secs(3600), ..issuer.firebase() })]);
    gate.fetch(now).await;
    let token = Signer::rsa(0).token(&claims(now));
    let lies = [
        Answer::Close,
        Answer::Status("503 Service Unavailable"),
        Answer::Redirect(format!("{}/jwks", issuer.origin)),
        Answer::Flood,
        Answer::Text("{\"keys\":[]}"),
        Answer::Text(
            "{\"keys\":[{\"kty\":\"oct\",\"alg\":\"HS256\",\"kid\":\"rsa-0\",\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}",
        ),
        Answer::Text("<html>"),
        Answer::Text(""),
    ];
    for lie in lies {
        issuer.says(lie);
        gate.fetch(later(now, 100)).await;
        let status = &gate.status()[0];
        assert!(status.last_error.is_some() && status.keys == 1 && status.usable, "{status:?}");
        assert!(gate.told(&token, later(now, 600 + 3600)).await.is_ok());
    }
    assert_eq!(gate.told(&token, later(now, 600 + 3600 + 61)).await.err(), Some(AuthFailure::NoKeys));
    issuer.says(Answer::Keys(vec![Signer::rsa(0).jwk.clone()]));
    gate.fetch(later(now, 5_000)).await;
    assert_eq!(gate.status()[0].last_error, None);
    assert!(gate.told(&token, later(now, 5_000)).await.is_ok());
}

#[tokio::test]
async fn without_keys_at_the_start_nobody_is_let_in_and_the_gate_is_not_ready() {
    let now = Now::read();
    let issuer = FakeIssuer::start(Answer::Close).await;
    let gate = authenticator([("firebase", issuer.firebase())]);
    gate.fetch(now).await;
    let token = Signer::rsa(0).token(&claims(now));
    assert!(!gate.ready());
    assert_eq!(gate.told(&token, now).await.err(), Some(AuthFailure::NoKeys));
    issuer.says(Answer::Keys(vec![Signer::rsa(0).jwk.clone()]));
    gate.fetch(now).await;
    assert!(gate.ready());
    assert!(gate.told(&token, now).await.is_ok());
    assert!(!authenticator([]).ready(), "nobody to believe");
}

#[tokio::test]
async fn a_slow_issuer_holds_a_token_for_a_second_and_known_keys_not_at_all() {
    let now = Now::read();
    let (issuer, gate) = firebase(now).await;
    issuer.says(Answer::Hang);
    let unknown = Signer::rsa(1).token(&claims(now));
    let known = Signer::rsa(0).token(&claims(now));
    let before = Instant::now();
    let (refused, recognized) = tokio::join!(gate.told(&unknown, now), async {
        let recognized = gate.told(&known, now).await;
        (recognized, before.elapsed())
    });
    assert_eq!(refused.err(), Some(AuthFailure::UnknownKey));
    assert!(before.elapsed() < Duration::from_millis(2_500));
    assert!(recognized.0.is_ok() && recognized.1 < Duration::from_millis(900));
}

#[tokio::test]
async fn started_it_fetches_by_itself_until_the_drain() {
    let issuer = FakeIssuer::start(Answer::Keys(vec![Signer::rsa(0).jwk.clone()])).await;
    let gate = authenticator([("firebase", issuer.firebase())]);
    let drain = Drain::default();
    let keeper = tokio::spawn(Arc::clone(gate.published().next().expect("one")).keep_fresh(drain.signal()));
    let becomes_ready = async {
        while !gate.ready() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), becomes_ready).await.expect("ready");
    drain.enter(Phase::Finishing);
    tokio::time::timeout(Duration::from_secs(10), keeper).await.expect("ended").expect("no panic");
    assert_eq!(issuer.asked().len(), 1);
}

#[tokio::test]
async fn a9_who_came_by_a_key_stands_until_the_issuer_publishes_it_no_more() {
    let now = Now::read();
    let (issuer, gate) = firebase(now).await;
    let principal = gate.told(&Signer::rsa(0).token(&claims(now)), now).await.expect("recognized");
    assert!(gate.stands(&principal));
    issuer.says(Answer::Keys(vec![Signer::rsa(1).jwk.clone()]));
    let newer = gate.told(&Signer::rsa(1).token(&claims(now)), later(now, 61)).await.expect("its unknown key has the keys fetched");
    assert!(gate.stands(&newer) && !gate.stands(&principal));
}

#[tokio::test]
async fn a_configuration_with_mistakes_makes_no_authenticator() {
    let config = Config { issuers: [("x".to_owned(), IssuerConfig::default())].into(), ..Config::default() };
    let fault = Authenticator::new(&config).expect_err("refused").to_string();
    assert_eq!(fault.lines().count(), 2);
    assert!(fault.contains("auth.issuers.x.issuer: required"));
}

#[tokio::test]
async fn the_development_key_mints_what_its_issuer_believes() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = crate::auth::dev::DevKey::load_or_create(folder.path()).expect("a key").issuer_config();
    let gate = authenticator([("dev", issuer.clone())]);
    assert!(gate.ready());
    let topics = ["orders".parse().expect("a grant"), "tele-*".parse().expect("a grant")];
    let token = crate::auth::mint::mint(&issuer, "me", &topics, Duration::from_secs(60)).expect("minted");
    let principal = gate.told(&token, Now::read()).await.expect("recognized");
    assert_eq!(principal.name(), "dev:me");
    for (topic, granted) in [("orders", true), ("tele-raw", true), ("frontend-events", false)] {
        assert_eq!(principal.grants().cover(&Topic::new(topic).expect("a topic")), granted, "{topic}");
    }
}
