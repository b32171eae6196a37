//! Tokens that were verified a moment ago, by the SHA-256 of the whole token.
//!
//! What always holds: an entry is at most [`MAX_REMEMBERED`] old, its token has not expired, and no key has changed
//! since it was verified. Only good tokens are remembered, so that nobody can push them out for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::principal::Principal;

/// How long a verified token is believed without looking at its signature again.
pub const MAX_REMEMBERED: Duration = Duration::from_secs(60);

/// The time, by both clocks: the wall's for what tokens say, the steady one for how long ago something was.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: SystemTime,
    /// The steady clock.
    pub steady: Instant,
    /// For so long after its end a token counts.
    pub grace: Duration,
}

impl Now {
    /// The time now.
    pub fn read() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now(), grace: Duration::ZERO }
    }

    /// The same time, for somebody whose token may have ended so long ago.
    pub fn lenient(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }
}

/// The remembered tokens.
#[derive(Debug)]
pub(in crate::auth) struct Tokens {
    cache: Cache<[u8; 32], Remembered>,
    generation: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Remembered {
    principal: Principal,
    verified: Instant,
    generation: u64,
}

/// A token's place, taken before it is verified, so that keys that change meanwhile are noticed.
#[derive(Debug)]
pub(in crate::auth) struct Place {
    digest: [u8; 32],
    generation: u64,
}

impl Tokens {
    pub(in crate::auth) fn new(capacity: u64, generation: Arc<AtomicU64>) -> Self {
        Self { cache: Cache::builder().max_capacity(capacity).time_to_live(MAX_REMEMBERED).build(), generation }
    }

    /// Whose token it is, or the place to remember it at.
    pub(in crate::auth) fn find(&self, token: &str, now: Now) -> Result<Principal, Place> {
        let place = Place { digest: Sha256::digest(token.as_bytes()).into(), generation: self.generation.load(Ordering::Acquire) };
        match self.cache.get(&place.digest) {
            Some(known) if known.holds(&place, now) => Ok(known.principal),
            _ => Err(place),
        }
    }

    pub(in crate::auth) fn remember(&self, place: Place, principal: &Principal, now: Now) {
        let remembered = Remembered { principal: principal.clone(), verified: now.steady, generation: place.generation };
        self.cache.insert(place.digest, remembered);
    }
}

impl Remembered {
    fn holds(&self, place: &Place, now: Now) -> bool {
        self.generation == place.generation
            && now.steady.saturating_duration_since(self.verified) < MAX_REMEMBERED
            && self.principal.expires().is_none_or(|expires| now.wall < expires)
    }
}

#[cfg(test)]
mod tests {
    use super::super::grants::Grants;
    use super::*;

    #[test]
    fn a_token_is_remembered_for_a_minute_or_until_it_expires_or_a_key_changes() {
        let generation = Arc::new(AtomicU64::new(0));
        let tokens = Tokens::new(10, Arc::clone(&generation));
        let start = Now::read();
        let after = |seconds| {
            let by = Duration::from_secs(seconds);
            Now { wall: start.wall + by, steady: start.steady + by, ..start }
        };
        let remember = |token: &str, life| {
            let principal = Principal::new("test", "ada", "standard", Grants::default(), Some(start.wall + Duration::from_secs(life)));
            let place = tokens.find(token, start).expect_err("not known yet");
            tokens.remember(place, &principal, start);
        };
        remember("long", 3600);
        remember("short", 10);
        assert!(tokens.find("long", after(59)).is_ok());
        assert!(tokens.find("long", after(60)).is_err());
        assert!(tokens.find("short", after(9)).is_ok());
        assert!(tokens.find("short", after(10)).is_err());
        assert!(tokens.find("longer", start).is_err());
        generation.fetch_add(1, Ordering::Release);
        assert!(tokens.find("long", start).is_err());
    }

    #[test]
    fn a_token_verified_while_keys_changed_is_not_remembered() {
        let generation = Arc::new(AtomicU64::new(0));
        let tokens = Tokens::new(10, Arc::clone(&generation));
        let now = Now::read();
        let place = tokens.find("token", now).expect_err("not known yet");
        generation.fetch_add(1, Ordering::Release);
        tokens.remember(place, &Principal::new("test", "ada", "standard", Grants::default(), None), now);
        assert!(tokens.find("token", now).is_err());
    }
}
