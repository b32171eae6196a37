//! Who is let in, at the door over real HTTP: forged tokens, keys that come and go, several issuers at once.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use sluicegate::listeners::http::Config;
use sluicegate::listeners::http::routes::{Handler, Path, Table};

use super::support::client::Answer;
use super::support::gate::{Gate, Setup};
use super::support::issuer::Issuer;
use super::support::{DEADLINE, eventually};

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("not that late")
}

/// A token of exactly this header and these claims.
fn signed(header: &Value, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).expect("the key signs");
    format!("{signed}.{signature}")
}

/// Sends a good event with this token.
async fn send(gate: &Gate, token: &str) -> Answer {
    gate.post("/v1/events/events", token, "{\"data\":1}").await
}

/// The one body of all 401.
async fn is_refused(gate: &Gate, token: &str, what: &str) {
    let answer = send(gate, token).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{what}: {}", answer.text());
    assert_eq!(answer.json()["code"], "unauthenticated");
    let nobody = gate.post_with("/v1/events/events", &[("content-type", "application/json")], "{\"data\":1}").await;
    assert_eq!(answer.body, nobody.body, "{what}: all of it says the same");
}

fn section(name: &str, lines: &str) -> String {
    format!("[auth.issuers.{name}]\ntopics = [\"*\"]\n{lines}\n")
}

fn oidc(name: &str, issuer: &Issuer) -> String {
    let (url, jwks) = (issuer.url(), issuer.jwks_url());
    section(name, &format!("kind = \"oidc\"\nissuer = \"{url}\"\naudience = \"test\"\njwks_url = \"{jwks}\""))
}

/// A static issuer `backend` with an RSA key, and what signs for it.
fn backend(setup: Setup) -> (Setup, EncodingKey, String) {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key");
    let public = setup.path("public.pem");
    std::fs::write(&public, pair.public_key_pem()).expect("a file in a folder of ours");
    let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("PKCS#8");
    let lines =
        format!("kind = \"static\"\nissuer = \"backend\"\naudience = \"gate\"\nalgorithm = \"RS256\"\nkey_file = \"{}\"", public.display());
    (setup.config(&section("backend", &lines)), private, pair.public_key_pem())
}

fn claims() -> Value {
    json!({"iss": "backend", "aud": "gate", "sub": "me", "iat": now(), "exp": now() + 600})
}

fn with(mut claims: Value, name: &str, value: Value) -> String {
    claims[name] = value;
    claims.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_not_choose_its_algorithm_nor_its_rules() {
    let (setup, key, public) = backend(Setup::new());
    let gate = setup.start().await;
    let (good, rs256) = (claims().to_string(), Algorithm::RS256);
    let header = json!({"alg": "RS256", "typ": "JWT"});
    assert_eq!(send(&gate, &signed(&header, &good, &key, rs256)).await.status, 202);

    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let bare = format!("{}.{}.", URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string()), URL_SAFE_NO_PAD.encode(&good));
        is_refused(&gate, &bare, alg).await;
        is_refused(&gate, &signed(&json!({"alg": alg}), &good, &key, rs256), alg).await;
    }
    for secret in [public.as_bytes(), public.trim().as_bytes(), b"" as &[u8]] {
        let forged = signed(&json!({"alg": "HS256"}), &good, &EncodingKey::from_secret(secret), Algorithm::HS256);
        is_refused(&gate, &forged, "HS256 by our public key").await;
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("alg", json!("RS512")),
        ("alg", json!("PS256")),
    ] {
        let mut odd = header.clone();
        odd[name] = value.clone();
        is_refused(&gate, &signed(&odd, &good, &key, rs256), &format!("{name} {value}")).await;
    }
    let whole = signed(&header, &good, &key, rs256);
    let (head, signature) = whole.rsplit_once('.').expect("three parts");
    for (token, what) in [
        (format!("{head}."), "no signature"),
        (head.to_owned(), "two parts"),
        (format!("{whole}.x.y"), "five parts, as a JWE has"),
        (format!("{head}.{signature}="), "padding"),
        (format!("{head}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]), "another signature"),
        (format!("{whole}\u{20}"), "a blank, which HTTP takes away"),
    ] {
        if what.starts_with("a blank") {
            assert_eq!(send(&gate, &token).await.status, 202);
        } else {
            is_refused(&gate, &token, what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_claims_are_not_what_they_must_be_is_refused() {
    let (setup, key, _) = backend(Setup::new());
    let gate = setup.start().await;
    let sign = |claims: &str| signed(&json!({"alg": "RS256"}), claims, &key, Algorithm::RS256);
    let later = now() + 600;
    for (name, values) in [
        (
            "exp",
            vec![
                json!(later.to_string()),
                json!(later as f64 + 0.5),
                json!(-1),
                json!(null),
                json!(now() - 60),
                json!([later]),
                json!(1e300),
            ],
        ),
        ("nbf", vec![json!(now().to_string()), json!(0.5), json!(-1), json!(later)]),
        ("iat", vec![json!(now().to_string()), json!(1.5), json!(-1), json!(later)]),
        ("iss", vec![json!("Backend"), json!("backend/"), json!(["backend"]), json!(null), json!("")]),
        ("aud", vec![json!("other"), json!(["other"]), json!([]), json!(null), json!("GATE"), json!(1)]),
        ("sub", vec![json!(""), json!(null), json!(1), json!("x".repeat(129)), json!("a\nb")]),
    ] {
        for value in values {
            is_refused(&gate, &sign(&with(claims(), name, value.clone())), &format!("{name} = {value}")).await;
        }
    }
    for name in ["exp", "iss", "aud", "sub"] {
        let mut less = claims();
        less.as_object_mut().expect("an object").remove(name);
        is_refused(&gate, &sign(&less.to_string()), &format!("without {name}")).await;
    }
    for text in ["", "[]", "null", "{", "{\"iss\":\"backend\"}", "{\"iss\":\"backend\",\"iss\":\"backend\"}"] {
        is_refused(&gate, &sign(text), text).await;
    }
    for good in [claims().to_string(), with(claims(), "aud", json!(["other", "gate"])), with(claims(), "nbf", json!(now()))] {
        assert_eq!(send(&gate, &sign(&good)).await.status, 202, "{good}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sends_the_gate_nowhere_and_a_flood_of_unknown_keys_costs_one_request() {
    let (issuer, trap) = (Issuer::start(), Issuer::start());
    let gate = Setup::new().config(&oidc("outside", &issuer)).start().await;
    let good = issuer.token(&json!({}));
    eventually("the keys are there", DEADLINE, async || (send(&gate, &good).await.status == 202).then_some(())).await;
    let asked = issuer.requests();

    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key");
    let own = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("PKCS#8");
    let jwk = serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&own, Algorithm::RS256).expect("a key")).expect("JSON");
    let claims = json!({"iss": issuer.url(), "aud": "test", "sub": "me", "iat": now(), "exp": now() + 600}).to_string();
    let odd_kids =
        ["../../../../etc/passwd", "/dev/null", "' OR 1=1 --", "\r\nX: y", "k1\u{0}", "", &trap.jwks_url()].map(|kid| json!({"kid": kid}));
    let by_header = [
        json!({"kid": "k1", "jku": trap.jwks_url()}),
        json!({"kid": "k1", "x5u": trap.jwks_url()}),
        json!({"kid": "k1", "jwk": jwk}),
        json!({"jwk": jwk}),
        json!({"kid": "k1", "x5c": ["AAAA"]}),
        json!({"kid": 1}),
        json!({"kid": null}),
    ];
    for mut header in odd_kids.into_iter().chain(by_header) {
        header["alg"] = json!("RS256");
        is_refused(&gate, &signed(&header, &claims, &own, Algorithm::RS256), &header.to_string()).await;
    }
    for n in 0..40 {
        is_refused(&gate, &signed(&json!({"alg": "RS256", "kid": format!("u{n}")}), &claims, &own, Algorithm::RS256), "an unknown key")
            .await;
    }
    assert_eq!(trap.requests(), 0, "no address from a token is asked");
    assert!(issuer.requests() <= asked + 1, "{} requests for 47 unknown keys", issuer.requests() - asked);
    assert_eq!(send(&gate, &good).await.status, 202, "those who are known go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_every_route_of_the_table_says_401_in_one_body() {
    let (setup, key, _) = backend(Setup::new());
    let gate = setup.start().await;
    let expired = signed(&json!({"alg": "RS256"}), &with(claims(), "exp", json!(now() - 3600)), &key, Algorithm::RS256);
    let good = signed(&json!({"alg": "RS256"}), &claims().to_string(), &key, Algorithm::RS256);
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer a.b.c",
        "Basic YTpi",
        "Digest x",
        &good,
        &format!("Bearer {expired}"),
        &format!("Token {good}"),
    ];
    let mut asked = 0;
    for route in Table::new(&Config::default()).rows().iter().filter(|route| route.authenticated) {
        let path = match &route.path {
            Path::Exact(path) => path.clone(),
            Path::TopicBelow(prefix) => format!("{prefix}events"),
        };
        for method in route.methods.allow().split(", ").filter(|method| *method != "OPTIONS") {
            let ask = async |headers: &[(&str, &str)]| {
                let headers = [headers, &[("content-type", "application/json")]].concat();
                gate.client
                    .send(method.parse().expect("a method"), &gate.url(&path), &headers, "{\"data\":{\"action\":\"x\"}}")
                    .await
                    .expect("an answer")
            };
            let first = ask(&[]).await;
            assert_eq!((first.status, first.header("www-authenticate")), (401, Some("Bearer")), "{method} {path}");
            if method != "HEAD" && route.handler == Handler::Callable {
                assert_eq!(first.json()["error"]["status"], "UNAUTHENTICATED");
            }
            for credentials in wrong {
                let answer = ask(&[("authorization", credentials)]).await;
                assert_eq!((answer.status, &answer.body), (401, &first.body), "{method} {path}: {credentials}");
                asked += 1;
            }
            let bearer = format!("Bearer {good}");
            let twice = ask(&[("authorization", &bearer), ("authorization", &bearer)]).await;
            assert_eq!((twice.status, &twice.body), (401, &first.body), "{method} {path}: twice");
            assert_ne!(ask(&[("authorization", &bearer)]).await.status, 401, "{method} {path}: the right one");
        }
    }
    assert!(asked >= 40, "{asked}");
    assert_eq!(gate.admin_get("/status").await.json()["inbox"]["rows"], 1, "of the refused ones none was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_several_issuers_are_believed_side_by_side_and_none_for_another() {
    let (first, second) = (Issuer::start(), Issuer::start());
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("an EC key");
    let ec = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("PKCS#8");
    let setup = Setup::new();
    std::fs::write(setup.path("ec.pem"), pair.public_key_pem()).expect("a file in a folder of ours");
    let secret = "0123456789abcdef0123456789abcdef";
    let config = [
        oidc("first", &first),
        oidc("second", &second),
        section("people", &format!("kind = \"firebase\"\nproject = \"demo\"\njwks_url = \"{}\"", first.jwks_url())),
        section(
            "curve",
            &format!(
                "kind = \"static\"\nissuer = \"curve\"\naudience = \"gate\"\nalgorithm = \"ES256\"\nkey_file = \"{}\"",
                setup.path("ec.pem").display()
            ),
        ),
        section("shared", "kind = \"static\"\nissuer = \"shared\"\naudience = \"gate\"\nalgorithm = \"HS256\""),
    ];
    let gate = setup.config(&config.concat()).env("SLUICEGATE__AUTH__ISSUERS__SHARED__KEY", secret).start().await;
    eventually("all keys are there", DEADLINE, async || (gate.admin_get("/readyz").await.status == 200).then_some(())).await;
    let of = |iss: &str| json!({"iss": iss, "aud": "gate", "sub": "me", "iat": now(), "exp": now() + 600}).to_string();
    let by_secret = EncodingKey::from_secret(secret.as_bytes());
    for (token, principal) in [
        (first.token(&json!({"sub": "a"})), "first:a"),
        (second.token(&json!({"sub": "a"})), "second:a"),
        (first.firebase_token("demo", "uid"), "people:uid"),
        (signed(&json!({"alg": "ES256"}), &of("curve"), &ec, Algorithm::ES256), "curve:me"),
        (signed(&json!({"alg": "HS256"}), &of("shared"), &by_secret, Algorithm::HS256), "shared:me"),
    ] {
        let answer = send(&gate, &token).await;
        assert_eq!(answer.status, 202, "{principal}: {}", answer.text());
        let name = answer.json()["results"][0]["document"].as_str().expect("a document").to_owned();
        let shown = gate.setup.run(&["inbox", "show", &name]).await;
        assert!(shown.stdout.contains(&format!("\"principal\": \"{principal}\"")), "{}", shown.stdout);
    }
    for (token, what) in [
        (first.token(&json!({"iss": second.url()})), "the first's key for the second"),
        (second.firebase_token("demo", "uid"), "the second's key for the project"),
        (first.firebase_token("other", "uid"), "another project"),
        (first.token(&json!({"iss": "https://securetoken.google.com/demo", "aud": "demo", "auth_time": null})), "no auth_time"),
        (signed(&json!({"alg": "ES256"}), &of("shared"), &ec, Algorithm::ES256), "the curve's key for the shared"),
        (signed(&json!({"alg": "HS256"}), &of("curve"), &by_secret, Algorithm::HS256), "the secret for the curve"),
        (first.token(&json!({"iss": "nobody"})), "nobody's"),
    ] {
        is_refused(&gate, &token, what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_is_not_ready_and_lets_nobody_in_until_it_has_its_issuers_keys() {
    let issuer = Issuer::start();
    issuer.answer_with(503);
    let gate = Setup::new().config(&oidc("outside", &issuer)).start().await;
    let token = issuer.token(&json!({}));
    let probe = gate.admin_get("/readyz").await;
    assert!(probe.status == 503 && probe.text().contains("keys"), "{}", probe.text());
    let door = gate.client.send(http::Method::GET, &gate.url("/readyz"), &[], "").await.expect("an answer");
    assert_eq!((door.status, door.body.len()), (503, 0));
    assert_eq!(gate.admin_get("/livez").await.status, 200);
    is_refused(&gate, &token, "no keys yet").await;
    issuer.answer_with(200);
    eventually("the gate is ready", DEADLINE, async || (gate.admin_get("/readyz").await.status == 200).then_some(())).await;
    assert_eq!(send(&gate, &token).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_rotated_are_followed_and_those_that_are_gone_are_not_believed() {
    let issuer = Issuer::start();
    let gate = Setup::new().config(&oidc("outside", &issuer)).start().await;
    let old = issuer.token(&json!({}));
    eventually("the keys are there", DEADLINE, async || (send(&gate, &old).await.status == 202).then_some(())).await;
    issuer.rotate();
    let new = issuer.token(&json!({}));
    eventually("the new key is known", DEADLINE, async || (send(&gate, &new).await.status == 202).then_some(())).await;
    is_refused(&gate, &old, "the old key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_known_outlive_a_silence_of_their_issuer() {
    let issuer = Issuer::start();
    let gate = Setup::new().config(&oidc("outside", &issuer)).start().await;
    eventually("the keys are there", DEADLINE, async || (send(&gate, &issuer.token(&json!({}))).await.status == 202).then_some(())).await;
    let known = issuer.token(&json!({"sub": "another"}));
    issuer.answer_with(500);
    issuer.rotate();
    is_refused(&gate, &issuer.token(&json!({})), "a key that cannot be fetched").await;
    let fault = gate.admin_get("/status").await.json()["auth"]["issuers"][0]["last_error"].clone();
    assert!(fault.as_str().is_some_and(|fault| fault.contains("500")), "{fault}");
    assert_eq!(send(&gate, &known).await.status, 202, "what was known goes on");
    assert_eq!(gate.admin_get("/readyz").await.status, 200);
}
