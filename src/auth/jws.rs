//! The compact JWS, read strictly: what is not exactly three parts of unpadded base64url with one JSON object in front
//! is refused before any key is looked at.
//!
//! What always holds: one parser reads a header, and nobody reads it again, so there is no second opinion to exploit.
//! `jku`, `x5u`, `x5c` and `jwk` are never read; `kid` is only ever compared.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::credentials::AuthFailure;
use super::key::Key;

/// The longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The longest `kid` that is compared.
const MAX_KID_BYTES: usize = 256;

/// Header members that change what a signature means, or that make it something other than a signature.
const FOREIGN: [&str; 4] = ["crit", "b64", "enc", "zip"];

/// What `typ` may say (RFC 8725 § 3.11), in lower case; absent is fine.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token taken apart and not yet believed.
#[derive(Debug)]
pub struct Compact<'a> {
    algorithm: String,
    kid: Option<String>,
    payload: Vec<u8>,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    pub fn parse(token: &'a str) -> Result<Self, AuthFailure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthFailure::TooLong);
        }
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let &[header, payload, signature] = parts.as_slice() else { return Err(AuthFailure::Malformed) };
        if decode(signature)?.is_empty() {
            return Err(AuthFailure::Malformed);
        }
        let header = Members::read(&decode(header)?)?;
        if FOREIGN.iter().any(|name| header.get(name).is_some()) {
            return Err(AuthFailure::Header);
        }
        check_type(header.get("typ"))?;
        let Some(Value::String(algorithm)) = header.get("alg") else { return Err(AuthFailure::Header) };
        Ok(Self {
            algorithm: algorithm.clone(),
            kid: read_kid(header.get("kid"))?,
            payload: decode(payload)?,
            signed: &token[..token.len() - signature.len() - 1],
            signature,
        })
    }

    /// Which of its issuer's keys it says it was signed with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The payload, signed by whoever it was.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether the key signed it, by the key's algorithm.
    pub fn verify(&self, key: &Key) -> Result<(), AuthFailure> {
        if self.algorithm != key.algorithm().as_str() {
            return Err(AuthFailure::Algorithm);
        }
        if matches!((self.kid(), key.kid()), (Some(named), Some(own)) if named != own) {
            return Err(AuthFailure::UnknownKey);
        }
        if !key.verifies(self.signature, self.signed.as_bytes()) {
            return Err(AuthFailure::Signature);
        }
        Ok(())
    }
}

/// The payload of a token that `key` signed. It says nothing about the claims: only
/// [`authenticate`](super::Authenticator::authenticate) makes a principal, and it goes through the same code.
pub fn verify_signature(token: &str, key: &Key) -> Result<Vec<u8>, AuthFailure> {
    let token = Compact::parse(token)?;
    token.verify(key)?;
    Ok(token.payload)
}

fn decode(part: &str) -> Result<Vec<u8>, AuthFailure> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthFailure::Malformed)
}

fn check_type(value: Option<&Value>) -> Result<(), AuthFailure> {
    match value {
        None => Ok(()),
        Some(Value::String(name)) => {
            let name = name.to_ascii_lowercase();
            let name = name.strip_prefix("application/").unwrap_or(&name);
            TYPES.contains(&name).then_some(()).ok_or(AuthFailure::Header)
        }
        Some(_) => Err(AuthFailure::Header),
    }
}

fn read_kid(value: Option<&Value>) -> Result<Option<String>, AuthFailure> {
    match value {
        None => Ok(None),
        Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Ok(Some(kid.clone())),
        Some(_) => Err(AuthFailure::Header),
    }
}

/// The members of a JSON object in which no name stands twice.
#[derive(Debug)]
pub(super) struct Members(BTreeMap<String, Value>);

impl Members {
    pub(super) fn read(json: &[u8]) -> Result<Self, AuthFailure> {
        serde_json::from_slice(json).map_err(|_| AuthFailure::Malformed)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EachOnce)
    }
}

struct EachOnce;

impl<'de> Visitor<'de> for EachOnce {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Algorithm;
    use super::*;

    fn key() -> Key {
        Key::configured(&"s".repeat(32), Algorithm::HS256, Some("k1")).expect("a key")
    }

    /// A token with this header, rightly signed whatever it says.
    fn signed(header: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode("{}"));
        let secret = jsonwebtoken::EncodingKey::from_secret("s".repeat(32).as_bytes());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &secret, jsonwebtoken::Algorithm::HS256).expect("signs");
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_well_signed_token_with_a_header_that_we_do_not_follow_is_refused() {
        for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"k1","typ":"JWT","jku":"http://127.0.0.1:9/","x5u":1,"jwk":{}}"#] {
            assert_eq!(verify_signature(&signed(header), &key()), Ok(b"{}".to_vec()), "{header}");
        }
        for (header, failure) in [
            (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","crit":[]}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","b64":false}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","b64":true}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","enc":"A256GCM"}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","zip":"DEF"}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","typ":"secevent+jwt"}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","typ":1}"#, AuthFailure::Header),
            (r#"{"alg":"HS256","kid":1}"#, AuthFailure::Header),
            (r#"{"alg":["HS256"]}"#, AuthFailure::Header),
            (r#"{"kid":"k1"}"#, AuthFailure::Header),
            (r#"{"alg":"none"}"#, AuthFailure::Algorithm),
            (r#"{"alg":"NONE"}"#, AuthFailure::Algorithm),
            (r#"{"alg":"hs256"}"#, AuthFailure::Algorithm),
            (r#"{"alg":"HS512"}"#, AuthFailure::Algorithm),
            (r#"{"alg":"RS256"}"#, AuthFailure::Algorithm),
            (r#"{"alg":"HS256","kid":"k2"}"#, AuthFailure::UnknownKey),
            (r#"{"alg":"none","alg":"HS256"}"#, AuthFailure::Malformed),
            (r#"{"alg":"HS256","alg":"HS256"}"#, AuthFailure::Malformed),
            (r#"{"alg":"HS256"}x"#, AuthFailure::Malformed),
            (r#"["HS256"]"#, AuthFailure::Malformed),
            ("", AuthFailure::Malformed),
        ] {
            assert_eq!(verify_signature(&signed(header), &key()), Err(failure), "{header}");
        }
    }

    #[test]
    fn what_is_not_three_strict_parts_is_refused() {
        let good = signed(r#"{"alg":"HS256"}"#);
        let (signed_part, signature) = good.rsplit_once('.').expect("three parts");
        for token in [
            String::new(),
            "..".into(),
            "a.b".into(),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{signature}.x"),
            format!("{good}="),
            format!("{good} "),
            format!("{signed_part}."),
            format!("{signed_part}.{}", signature.replace(['-', '_'], "+")).replace('.', " ."),
        ] {
            assert_eq!(verify_signature(&token, &key()), Err(AuthFailure::Malformed), "{token}");
        }
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        assert_eq!(verify_signature(&long, &key()), Err(AuthFailure::TooLong));
    }
}
