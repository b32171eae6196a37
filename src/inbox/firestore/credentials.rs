//! Who we are to Firestore: a token that is there before it is needed, and a new one well before it expires.
//!
//! What always holds:
//! - A token that expires soon is never waited for by a call: [`Credentials::keep`] fetches the next one minutes ahead.
//! - Fetching goes on for as long as it fails. Nothing that a source answers ends it.
//! - There is one fetch at a time, and none right after one that has failed.
//! - No token and no key is in `Debug` or in an error.
//!
//! A library of Google's does this too (`google-cloud-auth`). It brings a second HTTP client and sixty crates, wants a TLS
//! provider for the whole process, reads the environment behind the configuration's back, and its token can neither be
//! thrown away nor, after a final error, be had again.

mod account;
mod metadata;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};

use super::config::Config;
use crate::units::Secret;
use account::Account;
use metadata::Metadata;

/// A token is renewed so long before it expires. The metadata server hands out the same one until 5 minutes before.
const AHEAD: Duration = Duration::from_secs(6 * 60);

/// A token is not sent in its last moments: it would expire on the way.
const MARGIN: Duration = Duration::from_secs(10);

/// How long after a failed fetch the next one may begin: at first, and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// At most one token is thrown away in this time: what the service refuses may have nothing to do with the token.
const DISCARD_EVERY: Duration = Duration::from_secs(5);

/// A token of a source, and how long it lives from now.
#[derive(Debug)]
struct Fetched {
    token: Secret,
    life: Duration,
}

/// Where tokens come from, and the one of the moment.
#[derive(Debug)]
pub struct Credentials {
    source: Source,
    state: Mutex<State>,
    /// Held by the one who fetches.
    turn: tokio::sync::Mutex<()>,
    discarded: Notify,
}

#[derive(Debug)]
enum Source {
    Emulator,
    Account(Account),
    Metadata(Box<Metadata>),
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    fetched: u64,
    discarded: Option<Instant>,
    failed: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    words: String,
}

/// A token that can be sent.
#[derive(Clone)]
pub struct Token {
    header: MetadataValue<Ascii>,
    number: u64,
    renew_at: Instant,
    usable_until: Instant,
}

impl Token {
    fn new(fetched: &Fetched, number: u64) -> Result<Self, String> {
        let header = format!("Bearer {}", fetched.token.expose());
        let mut header = MetadataValue::try_from(header).map_err(|_| "a token that no header can carry".to_owned())?;
        header.set_sensitive(true);
        // Longer than a day is not believed.
        let life = fetched.life.min(Duration::from_secs(24 * 3600));
        let renew_in = life.saturating_sub(AHEAD).max(life / 4).max(BACKOFF.0);
        let now = Instant::now();
        Ok(Self { header, number, renew_at: now + renew_in, usable_until: now + life - MARGIN.min(life / 10) })
    }

    /// What stands in `authorization`.
    pub fn header(&self) -> MetadataValue<Ascii> {
        self.header.clone()
    }

    fn is_usable(&self) -> bool {
        Instant::now() < self.usable_until
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Credentials {
    /// What the configuration names: the emulator's, a service account's, or the machine's own. Reads the account's file.
    pub fn new(config: &Config) -> Result<Self, String> {
        let source = match (&config.emulator, &config.service_account) {
            (Some(_), _) => Source::Emulator,
            _ if !config.service_account_json.is_empty() => Source::Account(
                Account::read(&config.service_account_json).map_err(|fault| format!("inbox.firestore.service_account_json: {fault}"))?,
            ),
            (None, Some(path)) => {
                let at = |fault: &dyn fmt::Display| format!("inbox.firestore.service_account: `{}`: {fault}", path.display());
                let json = std::fs::read_to_string(path).map_err(|error| at(&error))?;
                Source::Account(Account::read(&Secret::new(json)).map_err(|fault| at(&fault))?)
            }
            (None, None) => Source::Metadata(Box::new(Metadata::new(&config.metadata_host))),
        };
        Ok(Self { source, state: Mutex::default(), turn: tokio::sync::Mutex::default(), discarded: Notify::new() })
    }

    /// Whether somebody else must be asked for the project.
    pub fn asks_for_project(&self) -> bool {
        matches!(self.source, Source::Metadata(_))
    }

    /// The project that the source belongs to.
    pub fn project(&self) -> Result<String, String> {
        let none = || "inbox.firestore.project: none is known; set it, or FIREBASE_PROJECT_ID".to_owned();
        match &self.source {
            Source::Emulator => Err(none()),
            Source::Account(account) => account.project().ok_or_else(none),
            Source::Metadata(metadata) => metadata.project_blocking().map_err(|fault| format!("{}; {fault}", none())),
        }
    }

    /// The token of the moment. Without one it is fetched now, unless that has only just failed.
    pub async fn token(&self) -> Option<Token> {
        if let Some(token) = self.usable() {
            return Some(token);
        }
        let _turn = self.turn.lock().await;
        if self.usable().is_none() && !self.has_just_failed() {
            self.fetch().await;
        }
        self.usable()
    }

    /// Whether there is a token that can be sent.
    pub fn has_token(&self) -> bool {
        self.usable().is_some()
    }

    /// Whether there is none, and the last fetch failed.
    pub fn is_without_token(&self) -> bool {
        self.usable().is_none() && self.state().failed.is_some()
    }

    /// Why the last fetch failed, if none has succeeded since.
    pub fn last_error(&self) -> Option<String> {
        self.state().failed.as_ref().map(|failure| failure.words.clone())
    }

    /// The service did not take this token: another one is fetched at once.
    pub fn discard(&self, token: &Token) {
        let mut state = self.state();
        let is_current = state.token.as_ref().is_some_and(|current| current.number == token.number);
        if is_current && state.discarded.is_none_or(|at| at.elapsed() >= DISCARD_EVERY) {
            state.token = None;
            state.discarded = Some(Instant::now());
            drop(state);
            self.discarded.notify_one();
        }
    }

    /// Fetches tokens ahead of time, for ever.
    pub async fn keep(&self) {
        let mut backoff = BACKOFF.0;
        loop {
            let renewed = self.renew().await;
            let wait = if renewed { self.until_renewal() } else { backoff };
            backoff = if renewed { BACKOFF.0 } else { (backoff * 2).min(BACKOFF.1) };
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                () = self.discarded.notified() => (),
            }
        }
    }

    /// Fetches a token if it is time; false when that failed.
    async fn renew(&self) -> bool {
        let _turn = self.turn.lock().await;
        self.until_renewal() > Duration::ZERO || self.fetch().await
    }

    fn until_renewal(&self) -> Duration {
        self.state().token.as_ref().map_or(Duration::ZERO, |token| token.renew_at.saturating_duration_since(Instant::now()))
    }

    /// Only for who has the turn.
    async fn fetch(&self) -> bool {
        let fetched = match &self.source {
            Source::Emulator => Ok(Fetched { token: Secret::new("owner"), life: Duration::from_secs(24 * 3600) }),
            Source::Account(account) => account.token(),
            Source::Metadata(metadata) => metadata.token().await,
        };
        let mut state = self.state();
        state.fetched += 1;
        match fetched.and_then(|fetched| Token::new(&fetched, state.fetched)) {
            Ok(token) => {
                state.token = Some(token);
                if state.failed.take().is_some() {
                    tracing::info!("there is a token for Firestore again");
                }
                true
            }
            Err(words) => {
                if state.failed.as_ref().is_none_or(|failure| failure.words != words) {
                    tracing::error!(problem = %words, "there is no new token for Firestore; it is tried again");
                }
                state.failed = Some(Failure { at: Instant::now(), words });
                false
            }
        }
    }

    fn usable(&self) -> Option<Token> {
        self.state().token.clone().filter(Token::is_usable)
    }

    fn has_just_failed(&self) -> bool {
        self.state().failed.as_ref().is_some_and(|failure| failure.at.elapsed() < BACKOFF.0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
