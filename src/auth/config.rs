//! `[auth]`: whose tokens are believed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claims::{Rules, is_tier};
use super::fetch;
use super::grants::Grant;
use super::key::{Algorithm, Key};
use super::scram::check_password;
use super::users::{BAD_NAME, Given, USERS_ISSUER, is_user_name};
use crate::units::{Secret, Span};

/// The quota tier of a token that names none.
pub const DEFAULT_TIER: &str = "standard";

/// Where Google publishes the keys of Firebase ID tokens.
pub const FIREBASE_JWKS_URL: &str = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com";

/// The most leeway that a clock's difference can justify.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// The longest name of an issuer's section.
const MAX_NAME_LENGTH: usize = 32;

/// A mistake in the configuration: the key below `auth`, and what is wrong and what is expected.
pub type Mistake = (String, String);

/// Whose tokens are believed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many verified tokens are remembered, so that a signature is checked once a minute and not for each request.
    /// A count, default 10000; beyond it the least used are verified again; 0 remembers none.
    pub cached_tokens: u64,
    /// The users that are let in by name and password (Kafka's SASL; HTTP `Basic`, over TLS): a file that `sluicegate user add` makes and
    /// a running gate reads again when it changes. Its mode is 600. Default: none, and then no password lets anybody in.
    pub users_file: Option<PathBuf>,
    /// One user without a file, let in like those of `users_file` and beside them: their name (letters, digits, `.`, `_`, `-`,
    /// `@`, `+`). Default: none.
    pub kafka_user: Option<String>,
    /// The password of `kafka_user`: 8 to 256 characters of printable ASCII, and another one than the gate's own at the broker.
    pub kafka_password: Secret,
    /// The topics that `kafka_user` may send to: names, prefixes that end in `*`, or `*` (those of all routes, the default).
    pub kafka_topics: Vec<Grant>,
    /// Whether librdkafka before 2.6.1 may log in by SCRAM over TLS: it says its half of the nonce twice (CVE-2024-56128).
    /// Default true: exactly this form is taken and counted, where nobody can listen; false: as Kafka 4, never.
    pub repeated_nonce: bool,
    /// The issuers, each a section `[auth.issuers.NAME]`. NAME (letters, digits, `-`, `_`) stands before the subject in
    /// the principal's name. Default: none, and then no token lets anybody in.
    pub issuers: BTreeMap<String, IssuerConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cached_tokens: 10_000,
            users_file: None,
            kafka_user: None,
            kafka_password: Secret::default(),
            kafka_topics: vec![Grant::Prefix(String::new())],
            repeated_nonce: true,
            issuers: BTreeMap::new(),
        }
    }
}

/// Where an issuer's keys come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Firebase ID tokens of `project`.
    Firebase,
    /// Any OpenID Connect issuer: keys from `jwks_url`, or found by its discovery document.
    #[default]
    Oidc,
    /// One key that stands in the configuration.
    Static,
}

/// One issuer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerConfig {
    /// Where its keys come from: `firebase` (ID tokens of `project`), `oidc` (keys by `jwks_url` or discovery) or
    /// `static` (one configured `key`). Default `oidc`.
    pub kind: Kind,
    /// Firebase: the project's id; gives `issuer` and `audience`. Default: none (`FIREBASE_PROJECT_ID` sets it).
    pub project: Option<String>,
    /// The exact `iss` of its tokens. Required but for `firebase`.
    pub issuer: Option<String>,
    /// What must stand in `aud`. Required but for `firebase`, where it is the project.
    pub audience: Option<String>,
    /// Where the keys are (JWKS). `https`, or `http` on loopback. Default: Google's for `firebase`; for `oidc` whatever
    /// `<issuer>/.well-known/openid-configuration` names.
    pub jwks_url: Option<String>,
    /// How long after their announced life keys are still used when they cannot be fetched anew. Default 24h; beyond it
    /// the issuer's tokens are refused.
    pub max_stale: Span,
    /// Static: the key's algorithm (HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA).
    /// A token's own word on it is never followed.
    pub algorithm: Option<Algorithm>,
    /// Static: the key: a shared secret for HS256 and its kin, else a PEM public key or a JWK.
    pub key: Secret,
    /// Static: a file that holds `key`.
    pub key_file: Option<PathBuf>,
    /// Static: the key's name; a token that names another is refused. Default: none, any name does.
    pub kid: Option<String>,
    /// Static: the private key (PEM, PKCS #8) by which `sluicegate token` mints; not needed for a shared secret, and not
    /// needed to verify.
    pub signing_key: Secret,
    /// Static: a file that holds `signing_key`.
    pub signing_key_file: Option<PathBuf>,
    /// Topics that every token of this issuer may send to: names, prefixes that end in `*`, or `*`. Default: none.
    pub topics: Vec<Grant>,
    /// The claim that names more topics (a list, or words in one text). Default: none is read. At most 256 are taken.
    pub topics_claim: Option<String>,
    /// The quota tier of tokens that name none. Default `standard`.
    pub tier: String,
    /// The claim that names the quota tier. Default: none is read.
    pub tier_claim: Option<String>,
    /// The subjects (exact `sub`) whose tokens administer: who may ask for a replay at `/v1/admin/replay`. Default: none.
    pub admins: Vec<String>,
    /// The claim that makes the bearer one of those, when it is `true` and nothing else. It is no grant of topics, and no grant
    /// of topics (`*`) stands for it. Default: none is read.
    pub admin_claim: Option<String>,
    /// How far its clock may differ from ours at `exp` and `nbf`. Default 5s, at most 5m.
    pub leeway: Span,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            project: None,
            issuer: None,
            audience: None,
            jwks_url: None,
            max_stale: Span::secs(24 * 3600),
            algorithm: None,
            key: Secret::default(),
            key_file: None,
            kid: None,
            signing_key: Secret::default(),
            signing_key_file: None,
            topics: Vec::new(),
            topics_claim: None,
            tier: DEFAULT_TIER.into(),
            tier_claim: None,
            admins: Vec::new(),
            admin_claim: None,
            leeway: Span::secs(5),
        }
    }
}

impl Config {
    /// The configuration that `FIREBASE_PROJECT_ID` alone stands for: one issuer `firebase`, whose users may send commands.
    pub fn firebase(project: &str) -> Self {
        Self { issuers: BTreeMap::from([("firebase".to_owned(), IssuerConfig::firebase(project))]), ..Self::default() }
    }

    /// Whether somebody is configured who could be let in.
    pub fn lets_somebody_in(&self) -> bool {
        !self.issuers.is_empty() || self.users_file.is_some() || self.given().is_some()
    }

    /// The user whom the configuration names.
    pub fn given(&self) -> Option<Given> {
        let given = |name| Given { name, password: self.kafka_password.clone(), topics: self.kafka_topics.clone() };
        filled(&self.kafka_user).map(given)
    }

    /// All that is wrong, each with its key below `auth`. The users' file is not looked at: `sluicegate user add` makes it.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes_of_given();
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (name, issuer) in &self.issuers {
            let at = |field: &str| format!("issuers.{name}.{field}");
            if !is_name(name) {
                mistakes.push((format!("issuers.{name}"), "an issuer's name is 1 to 32 letters, digits, `-` and `_`".into()));
            }
            if name == USERS_ISSUER {
                mistakes.push((format!("issuers.{name}"), "the name belongs to the users of `users_file`; take another".into()));
            }
            mistakes.extend(issuer.mistakes().into_iter().map(|(field, what)| (at(field), what)));
            if let Some(other) = issuer.iss().and_then(|iss| seen.insert(iss, name)) {
                mistakes.push((at("issuer"), format!("`issuers.{other}` has the same; one section for each `iss`")));
            }
        }
        mistakes
    }

    fn mistakes_of_given(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut wrong = |key: &str, what: &str| mistakes.push((key.to_owned(), what.to_owned()));
        match filled(&self.kafka_user) {
            None if self.kafka_password.is_empty() => {}
            None => wrong("kafka_user", "required beside `kafka_password`: whose password it is (SLUICEGATE_KAFKA_USER)"),
            Some(name) => {
                if !is_user_name(&name) {
                    wrong("kafka_user", BAD_NAME);
                }
                if self.kafka_password.is_empty() {
                    wrong("kafka_password", "required beside `kafka_user`: SLUICEGATE_KAFKA_PASSWORD or SLUICEGATE_KAFKA_PASSWORD_FILE");
                } else if let Err(what) = check_password(self.kafka_password.expose()) {
                    wrong("kafka_password", &what);
                }
            }
        }
        mistakes
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

type FieldMistake = (&'static str, String);

/// Claims that say something else: the registered ones, and those of Firebase's and Google's tokens.
const TAKEN_CLAIMS: &[&str] =
    &["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "email", "email_verified", "azp", "firebase", "user_id", "auth_time", "topics"];

impl IssuerConfig {
    /// Whether `sluicegate token` could sign for it: a shared secret, or a private key beside the public one.
    pub fn can_sign(&self) -> bool {
        let shared = self.algorithm.is_some_and(Algorithm::is_shared);
        self.kind == Kind::Static && (shared || !self.signing_key.is_empty() || self.signing_key_file.is_some())
    }

    /// Firebase ID tokens of a project. Its users may send to `frontend-events`, the platform's command topic.
    pub fn firebase(project: &str) -> Self {
        Self {
            kind: Kind::Firebase,
            project: Some(project.to_owned()),
            topics: vec![Grant::Exact("frontend-events".into())],
            tier_claim: Some("tier".into()),
            ..Self::default()
        }
    }

    /// The exact `iss` of its tokens.
    pub(super) fn iss(&self) -> Option<String> {
        filled(&self.issuer).or_else(|| self.firebase_project().map(|project| format!("https://securetoken.google.com/{project}")))
    }

    /// What its tokens' `aud` must say.
    pub(super) fn aud(&self) -> Option<String> {
        filled(&self.audience).or_else(|| self.firebase_project())
    }

    fn firebase_project(&self) -> Option<String> {
        if self.kind == Kind::Firebase { filled(&self.project) } else { None }
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            audience: self.aud().unwrap_or_default(),
            leeway: self.leeway.get(),
            firebase: self.kind == Kind::Firebase,
            topics: self.topics.clone(),
            topics_claim: self.topics_claim.clone(),
            tier: self.tier.clone(),
            tier_claim: self.tier_claim.clone(),
            admins: self.admins.clone(),
            admin_claim: self.admin_claim.clone(),
        }
    }

    /// The configured key of a static issuer.
    pub(super) fn static_key(&self) -> Result<Key, FieldMistake> {
        let algorithm = self.algorithm.ok_or_else(|| ("algorithm", "required for `static`: HS256, RS256, ES256, EdDSA, …".to_owned()))?;
        let (field, text) = configured(("key", &self.key), ("key_file", self.key_file.as_ref()))?.ok_or_else(|| {
            ("key", "required for `static`: the secret, a PEM public key or a JWK; or name a file by `key_file`".to_owned())
        })?;
        Key::configured(text.expose(), algorithm, self.kid.as_deref()).map_err(|fault| (field, fault.to_string()))
    }

    /// The private key that mints, if one is configured.
    pub(super) fn private_key(&self) -> Result<Option<Secret>, FieldMistake> {
        let file = self.signing_key_file.as_ref();
        Ok(configured(("signing_key", &self.signing_key), ("signing_key_file", file))?.map(|(_, text)| text))
    }

    /// The shared secret of a static issuer, as it is configured.
    pub(super) fn shared_secret(&self) -> Result<Option<Secret>, FieldMistake> {
        Ok(configured(("key", &self.key), ("key_file", self.key_file.as_ref()))?.map(|(_, text)| text))
    }

    fn mistakes(&self) -> Vec<FieldMistake> {
        let mut mistakes = Vec::new();
        let missing = |value: &Option<String>| filled(value).is_none();
        if self.kind == Kind::Firebase && missing(&self.project) {
            mistakes.push(("project", "required for `firebase`: the id of the Firebase project".into()));
        }
        if self.kind != Kind::Firebase && missing(&self.issuer) {
            mistakes.push(("issuer", "required: the exact `iss` of its tokens".into()));
        }
        if self.kind != Kind::Firebase && missing(&self.audience) {
            mistakes.push(("audience", "required: what stands in its tokens' `aud`".into()));
        }
        if !is_tier(&self.tier) {
            mistakes.push(("tier", "a tier is 1 to 64 letters, digits, `-` and `_`".into()));
        }
        if self.leeway.get() > MAX_LEEWAY {
            mistakes.push(("leeway", "at most 5m".into()));
        }
        mistakes.extend(self.admin_mistakes());
        mistakes.extend(self.key_mistakes());
        mistakes
    }

    /// A claim that tokens have for another reason must not make administrators of their holders.
    fn admin_mistakes(&self) -> Vec<FieldMistake> {
        let mut mistakes = Vec::new();
        let claim = self.admin_claim.as_deref();
        if claim.is_some_and(|claim| claim.is_empty() || TAKEN_CLAIMS.contains(&claim) || self.tier_claim.as_deref() == Some(claim)) {
            mistakes.push((
                "admin_claim",
                format!("expected a claim of its own, such as `admin`: not empty, and none of {}", TAKEN_CLAIMS.join(", ")),
            ));
        }
        let doubled = |i: usize| self.admins[..i].contains(&self.admins[i]);
        if (0..self.admins.len()).any(|i| self.admins[i].is_empty() || doubled(i)) {
            mistakes.push(("admins", "expected subjects that are not empty, each once".into()));
        }
        mistakes
    }

    fn key_mistakes(&self) -> Vec<FieldMistake> {
        if self.kind == Kind::Static {
            let misplaced =
                self.jwks_url.is_some().then(|| ("jwks_url", "a `static` issuer has no JWKS; set `kind = \"oidc\"`".to_owned()));
            let minting = self.private_key().err();
            return self.static_key().err().into_iter().chain(minting).chain(misplaced).collect();
        }
        let mut mistakes = Vec::new();
        if !self.key.is_empty() || self.key_file.is_some() {
            mistakes.push(("key", "only a `static` issuer has a configured key".into()));
        }
        match (&self.jwks_url, &self.issuer) {
            (Some(url), _) => mistakes.extend(fetch::vet(url).err().map(|what| ("jwks_url", what))),
            (None, Some(issuer)) if self.kind == Kind::Oidc => {
                mistakes.extend(fetch::vet(issuer).err().map(|what| ("issuer", format!("{what}; or set `jwks_url`"))));
            }
            (None, _) => {}
        }
        mistakes
    }
}

/// An empty text is none: it must never be what a token has to say.
fn filled(value: &Option<String>) -> Option<String> {
    value.clone().filter(|text| !text.is_empty())
}

/// A credential that stands in the configuration or in a file, and which of the two keys said so.
fn configured(
    (name, text): (&'static str, &Secret),
    (file_name, file): (&'static str, Option<&PathBuf>),
) -> Result<Option<(&'static str, Secret)>, FieldMistake> {
    match (text.is_empty(), file) {
        (true, None) => Ok(None),
        (false, None) => Ok(Some((name, text.clone()))),
        (false, Some(_)) => Err((file_name, format!("set `{name}` or `{file_name}`, not both"))),
        (true, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some((file_name, Secret::new(text.trim())))),
            Err(fault) => Err((file_name, format!("cannot read {}: {fault}", path.display()))),
        },
    }
}

#[cfg(test)]
mod tests;
