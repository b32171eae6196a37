//! Keys: one algorithm each, chosen when the key is configured or published, and never by a token.
//!
//! What always holds: a [`Key`] was checked for its size and its use when it was made; a public key never serves as a
//! shared secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The signature algorithms that a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// The name as it stands in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Whether both sides hold the same secret.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    fn named(name: &str) -> Option<Self> {
        const ALL: [Algorithm; 12] = {
            use Algorithm::*;
            [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
        };
        ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    const fn family(self) -> Family {
        match self {
            Self::HS256 => Family::Shared { bytes: 32 },
            Self::HS384 => Family::Shared { bytes: 48 },
            Self::HS512 => Family::Shared { bytes: 64 },
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => Family::Rsa,
            Self::ES256 => Family::Curve { name: "P-256", bytes: 32 },
            Self::ES384 => Family::Curve { name: "P-384", bytes: 48 },
            Self::EdDSA => Family::Edwards,
        }
    }

    pub(super) const fn library(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Library;
        match self {
            Self::HS256 => Library::HS256,
            Self::HS384 => Library::HS384,
            Self::HS512 => Library::HS512,
            Self::RS256 => Library::RS256,
            Self::RS384 => Library::RS384,
            Self::RS512 => Library::RS512,
            Self::PS256 => Library::PS256,
            Self::PS384 => Library::PS384,
            Self::PS512 => Library::PS512,
            Self::ES256 => Library::ES256,
            Self::ES384 => Library::ES384,
            Self::EdDSA => Library::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a key of an algorithm is made of.
enum Family {
    Shared { bytes: usize },
    Rsa,
    Curve { name: &'static str, bytes: usize },
    Edwards,
}

/// A key that is not one, and what is expected instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadKey(pub(super) String);

fn bad<T>(what: impl Into<String>) -> Result<T, BadKey> {
    Err(BadKey(what.into()))
}

/// A key that signatures are checked with.
#[derive(Clone)]
pub struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    material: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {:?})", self.algorithm, self.kid)
    }
}

impl Key {
    /// A configured key: a JWK, a PEM public key, or (for HS256 and its kin) the shared secret as text.
    pub fn configured(text: &str, algorithm: Algorithm, kid: Option<&str>) -> Result<Self, BadKey> {
        let text = text.trim();
        let mut key = match text {
            _ if text.starts_with('{') => Self::from_jwk(text.as_bytes(), Some(algorithm))?,
            _ if text.starts_with("-----BEGIN") => Self::from_pem(text, algorithm)?,
            _ if algorithm.is_shared() => Self::from_secret(text.as_bytes(), algorithm)?,
            _ => return bad(format!("expected a public key for {algorithm}: a PEM block (`-----BEGIN PUBLIC KEY-----`) or a JWK")),
        };
        key.kid = kid.map(str::to_owned).or(key.kid);
        Ok(key)
    }

    /// A shared secret; at least as long as the hash (RFC 7518 § 3.2).
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, BadKey> {
        let Family::Shared { bytes } = algorithm.family() else {
            return bad(format!("{algorithm} has no shared secret"));
        };
        if secret.len() < bytes {
            return bad(format!("a secret for {algorithm} has at least {bytes} bytes, this one has {}", secret.len()));
        }
        Ok(Self { kid: None, algorithm, material: DecodingKey::from_secret(secret) })
    }

    fn from_pem(pem: &str, algorithm: Algorithm) -> Result<Self, BadKey> {
        if pem.contains("PRIVATE KEY") {
            return bad("this is a private key; tokens are verified with the public one");
        }
        if !pem.starts_with("-----BEGIN PUBLIC KEY-----") && !pem.starts_with("-----BEGIN RSA PUBLIC KEY-----") {
            return bad("expected a PEM block `-----BEGIN PUBLIC KEY-----` (from a certificate: `openssl x509 -pubkey -noout`)");
        }
        let (read, fits): (_, fn(&DecodingKey, usize) -> bool) = match algorithm.family() {
            // A public key as the secret of an HMAC is the oldest forgery there is.
            Family::Shared { .. } => return bad(format!("a public key is not a secret: {algorithm} needs a secret, or set `algorithm`")),
            Family::Rsa => (DecodingKey::from_rsa_pem(pem.as_bytes()), |key, _| key.try_get_as_bytes().is_ok_and(|der| der.len() >= 256)),
            Family::Curve { .. } => (DecodingKey::from_ec_pem(pem.as_bytes()), |key, bytes| has_length(key, 1 + 2 * bytes)),
            Family::Edwards => (DecodingKey::from_ed_pem(pem.as_bytes()), |key, _| has_length(key, 32)),
        };
        let size = if let Family::Curve { bytes, .. } = algorithm.family() { bytes } else { 0 };
        match read {
            Ok(material) if fits(&material, size) => Ok(Self { kid: None, algorithm, material }),
            _ => bad(format!("this is not a public key for {algorithm}")),
        }
    }

    /// A JWK. Its own `alg`, or else its kind, says the algorithm; where one is configured, both must agree.
    pub fn from_jwk(json: &[u8], configured: Option<Algorithm>) -> Result<Self, BadKey> {
        let jwk: Jwk = serde_json::from_slice(json).map_err(|fault| {
            // Not the fault's own words: they can quote the key.
            BadKey(format!("this is not a JWK (line {}, column {})", fault.line(), fault.column()))
        })?;
        jwk.into_key(configured)
    }

    /// Its name, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its one algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` (base64url) is this key's over `signed`.
    pub(super) fn verifies(&self, signature: &str, signed: &[u8]) -> bool {
        jsonwebtoken::crypto::verify(signature, signed, &self.material, self.algorithm.library()).unwrap_or(false)
    }
}

fn has_length(key: &DecodingKey, length: usize) -> bool {
    key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == length)
}

/// RFC 7517, as far as a verifier needs it. Everything else in it (private parts, certificates, URLs) is not read.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwk {
    fn into_key(self, configured: Option<Algorithm>) -> Result<Key, BadKey> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let may_verify = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures || !may_verify {
            return bad("the JWK is not for verifying signatures (`use` or `key_ops`)");
        }
        let algorithm = self.algorithm(configured)?;
        let material = self.material(algorithm)?;
        Ok(Key { kid: self.kid, algorithm, material })
    }

    fn algorithm(&self, configured: Option<Algorithm>) -> Result<Algorithm, BadKey> {
        let own = match (self.alg.as_deref(), self.kty.as_str(), self.crv.as_deref()) {
            (Some("Ed25519"), "OKP", _) => Some(Algorithm::EdDSA),
            (Some(name), _, _) => match Algorithm::named(name) {
                None => return bad("the JWK has an `alg` that is not supported"),
                known => known,
            },
            (None, "RSA", _) => configured.or(Some(Algorithm::RS256)),
            (None, "EC", Some("P-256")) => Some(Algorithm::ES256),
            (None, "EC", Some("P-384")) => Some(Algorithm::ES384),
            (None, "OKP", Some("Ed25519")) => Some(Algorithm::EdDSA),
            (None, "oct", _) => configured,
            _ => None,
        };
        match (own, configured) {
            (Some(own), Some(configured)) if own != configured => bad(format!("the JWK is for {own}, `algorithm` is {configured}")),
            (Some(own), _) => Ok(own),
            (None, _) => bad("the JWK is of no kind that is supported"),
        }
    }

    fn material(&self, algorithm: Algorithm) -> Result<DecodingKey, BadKey> {
        match (algorithm.family(), self.kty.as_str()) {
            (Family::Shared { .. }, "oct") => Key::from_secret(&part(&self.k)?, algorithm).map(|key| key.material),
            (Family::Rsa, "RSA") => {
                let (n, e) = (part(&self.n)?, part(&self.e)?);
                let n = &n[n.iter().take_while(|b| **b == 0).count()..];
                if !(256..=1024).contains(&n.len()) {
                    return bad("an RSA key has 2048 to 8192 bits");
                }
                Ok(DecodingKey::from_rsa_raw_components(n, &e))
            }
            (Family::Curve { name, bytes }, "EC") if self.crv.as_deref() == Some(name) => {
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                if x.len() != bytes || y.len() != bytes {
                    return bad(format!("a point on {name} has {bytes} bytes a coordinate"));
                }
                Ok(DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
            }
            (Family::Edwards, "OKP") if self.crv.as_deref() == Some("Ed25519") => {
                let x = part(&self.x)?;
                if x.len() != 32 {
                    return bad("an Ed25519 key has 32 bytes");
                }
                Ok(DecodingKey::from_ed_der(&x))
            }
            _ => bad(format!("the JWK is not a key for {algorithm}")),
        }
    }
}

fn part(text: &Option<String>) -> Result<Vec<u8>, BadKey> {
    let text = text.as_deref().ok_or_else(|| BadKey("the JWK lacks a part of its key".into()))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| BadKey("a part of the JWK is not base64url".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &str =
        r#""kty":"EC","crv":"P-256","x":"04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY","y":"UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw""#;

    fn jwk(more: &str, algorithm: Option<Algorithm>) -> Result<Key, BadKey> {
        Key::from_jwk(format!("{{{P256}{more}}}").as_bytes(), algorithm)
    }

    #[test]
    fn a_public_key_is_never_a_shared_secret() {
        let pem = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----";
        assert!(Key::configured(pem, Algorithm::HS256, None).is_err());
        assert!(jwk("", Some(Algorithm::HS256)).is_err());
        assert!(jwk(r#","alg":"HS256""#, None).is_err());
    }

    #[test]
    fn a_key_for_something_else_verifies_nothing() {
        assert_eq!(jwk("", None).expect("a key").algorithm(), Algorithm::ES256);
        for more in [r#","use":"enc""#, r#","key_ops":["encrypt"]"#, r#","alg":"ES384""#, r#","alg":"none""#, r#","alg":"RS256""#] {
            assert!(jwk(more, None).is_err(), "{more}");
        }
        assert!(jwk("", Some(Algorithm::ES384)).is_err());
    }

    #[test]
    fn weak_keys_are_refused_when_they_are_configured() {
        assert!(Key::configured("short", Algorithm::HS256, None).is_err());
        assert!(Key::configured(&"x".repeat(31), Algorithm::HS256, None).is_err());
        assert!(Key::configured(&"x".repeat(32), Algorithm::HS256, None).is_ok());
        assert!(Key::configured(&"x".repeat(32), Algorithm::RS256, None).is_err());
        let rsa = format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, URL_SAFE_NO_PAD.encode([0xff; 128]));
        assert!(Key::from_jwk(rsa.as_bytes(), None).is_err());
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let key = Key::configured(&"x".repeat(32), Algorithm::HS256, Some("k1")).expect("a key");
        assert_eq!(format!("{key:?}"), "Key(HS256, Some(\"k1\"))");
    }
}
