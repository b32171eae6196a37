//! Tokens of our own making, for issuers whose signing key we hold: `sluicegate token`.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value, json};

use super::claims::is_subject;
use super::config::{IssuerConfig, Kind};
use super::grants::Grant;
use super::jws::verify_signature;
use super::key::Algorithm;

/// The longest life of a minted token.
pub const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why a token cannot be minted, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotMint(String);

fn cannot<T>(what: impl Into<String>) -> Result<T, CannotMint> {
    Err(CannotMint(what.into()))
}

/// What a token says that its bearer may do.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    /// Send to these topics, beside what the issuer grants to everybody.
    pub topics: &'a [Grant],
    /// Administer.
    pub admin: bool,
}

/// A token for `subject`, from now for `ttl`, that may send to `topics` beside what the issuer grants to everybody. It
/// is verified by the issuer's configured key before it is handed out.
pub fn mint(issuer: &IssuerConfig, subject: &str, topics: &[Grant], ttl: Duration) -> Result<String, CannotMint> {
    mint_with(issuer, subject, Rights { topics, admin: false }, ttl)
}

/// The same, with all that it may say.
pub fn mint_with(issuer: &IssuerConfig, subject: &str, rights: Rights<'_>, ttl: Duration) -> Result<String, CannotMint> {
    mint_at(issuer, subject, rights, ttl, SystemTime::now())
}

fn mint_at(issuer: &IssuerConfig, subject: &str, rights: Rights<'_>, ttl: Duration, now: SystemTime) -> Result<String, CannotMint> {
    if issuer.kind != Kind::Static {
        return cannot("only a `static` issuer's tokens can be minted here; this one signs its own");
    }
    if !is_subject(subject) {
        return cannot("a subject is 1 to 128 characters without control characters");
    }
    if ttl.is_zero() || ttl > MAX_TTL {
        return cannot("a token lives from one second to 366 days");
    }
    let at_field = |(field, what): (&str, String)| CannotMint(format!("{field}: {what}"));
    let key = issuer.static_key().map_err(at_field)?;
    let algorithm = key.algorithm();
    let header = json!({ "alg": algorithm.as_str(), "typ": "JWT" });
    let header = match key.kid() {
        Some(kid) => with(header, "kid", kid.into()),
        None => header,
    };
    let claims = claims(issuer, subject, rights, ttl, now)?;
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &signing_key(issuer, algorithm)?, algorithm.library())
        .map_err(|fault| CannotMint(format!("the key cannot sign by {algorithm}: {fault}")))?;
    let token = format!("{signed}.{signature}");
    match verify_signature(&token, &key) {
        Ok(_) => Ok(token),
        Err(_) => cannot("`signing_key` does not belong to `key`"),
    }
}

fn claims(issuer: &IssuerConfig, subject: &str, rights: Rights<'_>, ttl: Duration, now: SystemTime) -> Result<Value, CannotMint> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| CannotMint("the clock stands before 1970".into()))?.as_secs();
    let claims = json!({
        "iss": issuer.iss().unwrap_or_default(),
        "aud": issuer.aud().unwrap_or_default(),
        "sub": subject,
        "iat": now,
        "exp": now + ttl.as_secs().max(1),
    });
    let claims = match (&issuer.admin_claim, rights.admin) {
        (_, false) => claims,
        (Some(name), true) => with(claims, name, true.into()),
        (None, true) => return cannot("this issuer's tokens cannot make administrators: set its `admin_claim`"),
    };
    match (&issuer.topics_claim, rights.topics) {
        (_, []) => Ok(claims),
        (Some(name), topics) => Ok(with(claims, name, topics.iter().map(ToString::to_string).collect())),
        (None, _) => cannot("this issuer's tokens cannot name topics: set its `topics_claim`"),
    }
}

fn with(object: Value, name: &str, value: Value) -> Value {
    let mut members = match object {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.insert(name.to_owned(), value);
    Value::Object(members)
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn signing_key(issuer: &IssuerConfig, algorithm: Algorithm) -> Result<EncodingKey, CannotMint> {
    let at_field = |(field, what): (&str, String)| CannotMint(format!("{field}: {what}"));
    if algorithm.is_shared() {
        let Some(secret) = issuer.shared_secret().map_err(at_field)? else { return cannot("the issuer has no `key`") };
        if secret.expose().trim_start().starts_with('{') {
            return shared_jwk(secret.expose());
        }
        return Ok(EncodingKey::from_secret(secret.expose().trim().as_bytes()));
    }
    let Some(pem) = issuer.private_key().map_err(at_field)? else {
        return cannot("set the issuer's `signing_key` or `signing_key_file` (a PEM private key, PKCS #8)");
    };
    let pem = pem.expose().as_bytes();
    let read = match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    read.map_err(|_| CannotMint(format!("`signing_key` is not a PEM private key (PKCS #8) for {algorithm}")))
}

fn shared_jwk(json: &str) -> Result<EncodingKey, CannotMint> {
    let jwk: Value = serde_json::from_str(json).map_err(|_| CannotMint("`key` is not a JWK".into()))?;
    let secret = jwk.get("k").and_then(Value::as_str).and_then(|k| URL_SAFE_NO_PAD.decode(k).ok());
    secret.map(|secret| EncodingKey::from_secret(&secret)).ok_or_else(|| CannotMint("`key` is not a JWK with a secret".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Secret;

    fn issuer(key: &str) -> IssuerConfig {
        IssuerConfig {
            kind: Kind::Static,
            issuer: Some("backend".into()),
            audience: Some("gate".into()),
            algorithm: Some(Algorithm::HS256),
            key: Secret::new(key),
            topics_claim: Some("topics".into()),
            ..IssuerConfig::default()
        }
    }

    #[test]
    fn a_minted_token_says_what_was_asked_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let topics = ["a".parse().expect("a grant"), "b-*".parse().expect("a grant")];
        let jwk = r#"{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY","kid":"k7"}"#;
        for issuer in [issuer("0123456789abcdef0123456789abcdef"), issuer(jwk)] {
            let rights = Rights { topics: &topics, admin: false };
            let token = mint_at(&issuer, "ada", rights, Duration::from_secs(60), now).expect("minted");
            let payload = verify_signature(&token, &issuer.static_key().expect("a key")).expect("verifies");
            let expected = json!({ "iss": "backend", "aud": "gate", "sub": "ada", "iat": 1000, "exp": 1060, "topics": ["a", "b-*"] });
            assert_eq!(serde_json::from_slice::<Value>(&payload).expect("claims"), expected);
        }
    }

    #[test]
    fn an_administrators_token_says_so_where_the_issuers_tokens_can() {
        let rights = Rights { topics: &[], admin: true };
        let secret = "0123456789abcdef0123456789abcdef";
        let refused = mint_with(&issuer(secret), "ada", rights, Duration::from_secs(60)).expect_err("no claim");
        assert!(refused.to_string().contains("admin_claim"));
        let issuer = IssuerConfig { admin_claim: Some("may_replay".into()), ..issuer(secret) };
        let token = mint_with(&issuer, "ada", rights, Duration::from_secs(60)).expect("minted");
        let payload = verify_signature(&token, &issuer.static_key().expect("a key")).expect("verifies");
        let claims: Value = serde_json::from_slice(&payload).expect("claims");
        assert_eq!((&claims["may_replay"], claims.get("topics")), (&json!(true), None));
    }

    #[test]
    fn what_cannot_be_minted_says_what_to_do() {
        let secret = "0123456789abcdef0123456789abcdef";
        let hour = Duration::from_secs(3600);
        let topic: [Grant; 1] = ["a".parse().expect("a grant")];
        let mute = IssuerConfig { topics_claim: None, ..issuer(secret) };
        assert!(mint(&mute, "ada", &topic, hour).expect_err("no claim").to_string().contains("topics_claim"));
        assert!(mint(&mute, "ada", &[], hour).is_ok());
        assert!(mint(&IssuerConfig::firebase("demo"), "ada", &[], hour).is_err());
        assert!(mint(&issuer(secret), "", &[], hour).is_err());
        assert!(mint(&issuer(secret), "ada", &[], Duration::ZERO).is_err());
        assert!(mint(&issuer("short"), "ada", &[], hour).is_err());
    }
}
