//! Who is there: the one place that makes a [`Principal`].
//!
//! What always holds: a token is believed only after its issuer was found by its exact `iss`, its signature was checked
//! by a key of that issuer with that key's own algorithm, and its claims were read by that issuer's rules. Whatever is
//! missing (keys at start, an issuer, a claim) means no, never yes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::claims::{self, Rules};
use super::config::{Config, FIREBASE_JWKS_URL, IssuerConfig, Kind, Mistake};
use super::credentials::{AuthFailure, Credentials};
use super::fetch::Fetcher;
use super::grants::Grants;
use super::jwks::{Remote, Source};
use super::jws::{Compact, MAX_TOKEN_BYTES, Members};
use super::key::{Algorithm, Key};
use super::principal::Principal;
use super::tokens::{Now, Tokens};
use super::users::{USERS_ISSUER, Users, UsersStatus};
use crate::drain::Signal;
use crate::receipt::Refusal;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels;

/// Recognizes who sends, by the issuers and the users of the configuration.
#[derive(Debug)]
pub struct Authenticator {
    issuers: HashMap<String, Issuer>,
    tokens: Tokens,
    pub(super) users: Option<Arc<Users>>,
    /// Whether a client may say its half of a SCRAM nonce twice, where nobody listens.
    pub(super) repeated_nonce: bool,
}

#[derive(Debug)]
struct Issuer {
    name: String,
    rules: Rules,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    Fixed(Arc<Key>),
    Published(Arc<Remote>),
}

/// An `[auth]` that cannot be used: all of its mistakes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", .0.iter().map(|(key, what)| format!("auth.{key}: {what}")).collect::<Vec<_>>().join("\n"))]
pub struct BadConfig(pub Vec<Mistake>);

/// What is known of one issuer, for `/status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IssuerStatus {
    /// The name of its section.
    pub name: String,
    /// How many keys are known.
    pub keys: usize,
    /// Seconds since they were fetched; none for a configured key, and before the first fetch.
    pub age_seconds: Option<u64>,
    /// Whether they are past their announced life.
    pub stale: bool,
    /// Whether its tokens can be verified now.
    pub usable: bool,
    /// What went wrong with the last fetch, if it did.
    pub last_error: Option<String>,
}

impl Authenticator {
    /// Reads the configured keys, and the users' file. Nothing is fetched yet: see [`start`](Self::start).
    pub fn new(config: &Config) -> Result<Self, BadConfig> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(BadConfig(mistakes));
        }
        let generation = Arc::new(AtomicU64::new(0));
        let published = config.issuers.values().any(|issuer| issuer.kind != Kind::Static);
        let fetcher = if published { Some(Fetcher::new().map_err(|fault| bad("issuers", fault))?) } else { None };
        let mut issuers = HashMap::new();
        for (name, issuer) in &config.issuers {
            let keys = match &fetcher {
                Some(fetcher) if issuer.kind != Kind::Static => Keys::Published(remote(name, issuer, fetcher, &generation)),
                _ => {
                    let key = issuer.static_key().map_err(|(field, what)| bad(&format!("issuers.{name}.{field}"), what))?;
                    Keys::Fixed(Arc::new(key))
                }
            };
            issuers.insert(issuer.iss().unwrap_or_default(), Issuer { name: name.clone(), rules: issuer.rules(), keys });
        }
        let has_users = config.users_file.is_some() || config.given().is_some();
        let users = has_users.then(|| Users::open(config.users_file.as_deref(), config.given())).transpose();
        Ok(Self {
            issuers,
            tokens: Tokens::new(config.cached_tokens, generation),
            users: users.map_err(|fault| bad("users_file", fault))?.map(Arc::new),
            repeated_nonce: config.repeated_nonce,
        })
    }

    /// Fetches the published keys now, and ahead of need until the drain, and watches the users' file. Call it inside the runtime, once.
    pub fn start(&self, signal: &Signal) {
        for remote in self.published() {
            tokio::spawn(Arc::clone(remote).keep_fresh(signal.clone()));
        }
        if let Some(users) = &self.users {
            tokio::spawn(Arc::clone(users).watch(signal.clone()));
        }
    }

    /// Whether it can be told who is there: every issuer's keys were there once, and some issuer's may be used now, or there
    /// are users. (One
    /// issuer that is gone for a day must not take the others' senders down with it; a new instance must know them all.)
    pub fn ready(&self) -> bool {
        let now = Instant::now();
        let somebody = self.has_users() || self.issuers.values().any(|issuer| issuer.status(now).usable);
        somebody && self.published().all(|remote| remote.is_warm())
    }

    /// Whether a name and a password can be credentials.
    pub fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// Whether a token can be credentials.
    pub fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// What is known of the users; none: none are configured.
    pub fn users(&self) -> Option<UsersStatus> {
        self.users.as_ref().map(|users| users.status())
    }

    /// What is known of each issuer, by name.
    pub fn status(&self) -> Vec<IssuerStatus> {
        let now = Instant::now();
        let mut status: Vec<_> = self.issuers.values().map(|issuer| issuer.status(now)).collect();
        status.sort_by(|one, other| one.name.cmp(&other.name));
        status
    }

    /// Whether a long connection's principal still stands: a user until the file says otherwise, a token until it ends or its
    /// issuer publishes its key no more.
    pub fn stands(&self, principal: &Principal) -> bool {
        match (&self.users, principal.expires()) {
            (Some(users), None) if principal.issuer() == USERS_ISSUER => users.stands(principal),
            (_, Some(ends)) if ends <= std::time::SystemTime::now() => false,
            _ => self.issuers.values().filter(|issuer| issuer.name == principal.issuer()).all(|issuer| issuer.knows(principal.key())),
        }
    }

    /// Who is there? All of no says the same; the reason is counted, and in a debug line.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, Refusal> {
        self.authenticate_within(credentials, Duration::ZERO).await
    }

    /// The same for senders that cannot change their token in time: one that has ended counts for `grace` longer.
    pub async fn authenticate_within(&self, credentials: &Credentials, grace: Duration) -> Result<Principal, Refusal> {
        self.recognize(credentials, Now::read().lenient(grace)).await.map_err(|failure| {
            count(failure);
            match failure {
                AuthFailure::Busy => Refusal::Overloaded { what: "passwords to be checked", wait: Duration::from_secs(1) },
                _ => Refusal::Unauthenticated,
            }
        })
    }

    /// [`authenticate`](Self::authenticate) at a given time, with its reason.
    pub async fn recognize(&self, credentials: &Credentials, now: Now) -> Result<Principal, AuthFailure> {
        match credentials {
            Credentials::Bearer(token) => self.bearer(token.expose(), now).await,
            Credentials::Basic { name, password } => {
                let users = self.users.as_ref().ok_or(AuthFailure::Issuer)?;
                users.verify_password(name, password).await
            }
        }
    }

    async fn bearer(&self, token: &str, now: Now) -> Result<Principal, AuthFailure> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthFailure::TooLong);
        }
        let place = match self.tokens.find(token, now) {
            Ok(principal) => return Ok(principal),
            Err(place) => place,
        };
        let principal = self.verify(token, now).await?;
        self.tokens.remember(place, &principal, now);
        Ok(principal)
    }

    async fn verify(&self, token: &str, now: Now) -> Result<Principal, AuthFailure> {
        let token = Compact::parse(token)?;
        let members = Members::read(token.payload())?;
        let issuer = self.issuers.get(claims::issuer(&members)?).ok_or(AuthFailure::Issuer)?;
        let key = match &issuer.keys {
            Keys::Fixed(key) => Arc::clone(key),
            Keys::Published(_) if issuer.rules.firebase && token.kid().is_none() => return Err(AuthFailure::UnknownKey),
            Keys::Published(remote) => remote.key(token.kid(), now.steady).await?,
        };
        token.verify(&key)?;
        let claims = issuer.rules.read(&members, now)?;
        let (grants, expires) = (Grants::new(claims.grants).with_admin(claims.admin), Some(claims.expires));
        Ok(Principal::vouched_for(&issuer.name, &claims.subject, &claims.tier, grants, expires, token.kid()))
    }

    fn published(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.issuers.values().filter_map(|issuer| match &issuer.keys {
            Keys::Published(remote) => Some(remote),
            Keys::Fixed(_) => None,
        })
    }
}

impl Issuer {
    /// Whether a key of this name would be found now.
    fn knows(&self, kid: Option<&str>) -> bool {
        match &self.keys {
            Keys::Fixed(_) => true,
            Keys::Published(remote) => remote.knows(kid, Instant::now()),
        }
    }

    fn status(&self, now: Instant) -> IssuerStatus {
        let name = self.name.clone();
        match &self.keys {
            Keys::Fixed(_) => IssuerStatus { name, keys: 1, age_seconds: None, stale: false, usable: true, last_error: None },
            Keys::Published(remote) => {
                let known = remote.status(now);
                IssuerStatus {
                    name,
                    keys: known.keys,
                    age_seconds: known.age.map(|age: Duration| age.as_secs()),
                    stale: known.stale,
                    usable: known.usable,
                    last_error: known.error,
                }
            }
        }
    }
}

fn remote(name: &str, issuer: &IssuerConfig, fetcher: &Fetcher, generation: &Arc<AtomicU64>) -> Arc<Remote> {
    let firebase = issuer.kind == Kind::Firebase;
    let source = match (&issuer.jwks_url, firebase) {
        (Some(url), _) => Source::Url(url.clone()),
        (None, true) => Source::Url(FIREBASE_JWKS_URL.to_owned()),
        (None, false) => Source::Discovery { issuer: issuer.iss().unwrap_or_default() },
    };
    let algorithm = firebase.then_some(Algorithm::RS256);
    Remote::new(name, source, algorithm, issuer.max_stale.get(), fetcher.clone(), Arc::clone(generation))
}

/// Counts a failure, at whatever door it was.
pub(super) fn count(failure: AuthFailure) {
    metrics().auth_failures.at(labels::AuthFailure::named(failure.as_str())).inc();
    if failure == AuthFailure::Busy {
        metrics().bound_refusals.at(labels::Bound::Passwords).inc();
    }
    tracing::debug!(reason = failure.as_str(), "credentials refused");
}

fn bad(key: &str, what: String) -> BadConfig {
    BadConfig(vec![(key.to_owned(), what)])
}

#[cfg(test)]
mod tests;
