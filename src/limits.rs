//! How much: which limits apply to a principal, and the verdict.
//!
//! Two kinds: bytes in flight over the whole gate ([`inflight`]), and quotas for each principal ([`quota`]), which several
//! gates can share ([`shared`]).

pub mod connections;
pub mod inflight;
pub mod quota;
pub mod shared;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::receipt::{Quota, Refusal};
use crate::units::ByteSize;

/// The tier that exists without being configured.
pub const DEFAULT_TIER: &str = "standard";

/// How much the gate takes in all, and from each principal.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes in flight in all: taken for work and not yet answered. What does not fit is refused at once with 503 and a time
    /// to try again. Default: 128 MiB.
    pub in_flight: ByteSize,
    /// The tier of a principal whose token names none, or one that is not configured. Default: standard.
    pub default_tier: String,
    /// Quotas by tier, as `[limits.tiers.NAME]`; a token's tier claim picks one. They count for each principal by itself, and
    /// for each instance of the gate unless they are shared (below). Over them: 429 with Retry-After. `standard` exists with
    /// the defaults below unless it is written here.
    pub tiers: BTreeMap<String, Tier>,
    /// Quotas that all gates count together, in Redis or Dragonfly. Without an address each gate counts by itself.
    pub shared: shared::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            in_flight: ByteSize::mib(128),
            default_tier: DEFAULT_TIER.to_owned(),
            tiers: BTreeMap::from([(DEFAULT_TIER.to_owned(), Tier::default())]),
            shared: shared::Config::default(),
        }
    }
}

/// The quotas of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tier {
    /// Events a second, on the long run; fractions are fine: 60 a minute is 1.0, with a burst of 60. Default: 1000.
    pub events_per_second: f64,
    /// Events at once, after a pause. A batch of more is refused for good (413). Default: 20000.
    pub burst: u32,
    /// KiB a second, on the long run, of keys, headers and values. Default: 16384 (16 MiB).
    pub kib_per_second: f64,
    /// KiB at once, after a pause. A batch of more is refused for good (413). Default: 65536 (64 MiB).
    pub kib_burst: u32,
}

impl Default for Tier {
    fn default() -> Self {
        Self { events_per_second: 1_000.0, burst: 20_000, kib_per_second: 16_384.0, kib_burst: 65_536 }
    }
}

impl Config {
    /// Every mistake in these settings: the key below `[limits]`, and what is expected.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        if self.in_flight < ByteSize::mib(1) {
            mistakes
                .push(("in_flight".to_owned(), format!("{} is too little to take one request: expected 1 MiB or more", self.in_flight)));
        }
        if self.default_tier != DEFAULT_TIER && !self.tiers.contains_key(&self.default_tier) {
            let known: Vec<_> = self.tiers.keys().map(String::as_str).collect();
            mistakes
                .push(("default_tier".to_owned(), format!("`{}` is not a tier: expected one of {}", self.default_tier, known.join(", "))));
        }
        for (name, tier) in &self.tiers {
            let rates = [("events_per_second", tier.events_per_second), ("kib_per_second", tier.kib_per_second)];
            let bursts = [("burst", tier.burst), ("kib_burst", tier.kib_burst)];
            for ((rate_key, rate), (burst_key, burst)) in rates.into_iter().zip(bursts) {
                let key = |key| format!("tiers.{name}.{key}");
                if !(quota::MIN_RATE..=quota::MAX_RATE).contains(&rate) {
                    mistakes.push((key(rate_key), format!("{rate}: expected {} to {} a second", quota::MIN_RATE, quota::MAX_RATE)));
                }
                if burst == 0 || burst > quota::MAX_BURST {
                    mistakes.push((key(burst_key), format!("{burst}: expected 1 to {}", quota::MAX_BURST)));
                }
            }
        }
        mistakes.extend(self.shared.mistakes().into_iter().map(|(key, problem)| (format!("shared.{key}"), problem)));
        mistakes
    }
}

/// May a batch pass the principal's quotas?
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a verdict that is not looked at limits nobody"]
pub enum Verdict {
    /// Yes; it is charged.
    Admit,
    /// Not now; nothing is charged.
    Throttle {
        /// When it would fit, if nothing else is sent before.
        wait: Duration,
        /// Which quota was used up.
        quota: Quota,
    },
    /// Never: the batch is larger than what fits at once. Nothing is charged.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, in events or in bytes.
        limit: u64,
        /// The batch's size in the same unit.
        actual: u64,
    },
}

impl Verdict {
    /// The verdict as the trunk says it.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Admit => None,
            Self::Throttle { wait, quota } => Some(Refusal::Throttled { wait, quota }),
            Self::TooLarge { what, limit, actual } => Some(Refusal::TooLarge { what, actual, limit }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_found_in_one_run() {
        assert!(Config::default().mistakes().is_empty());
        let tier = Tier { events_per_second: 0.0, burst: 0, kib_per_second: f64::NAN, ..Tier::default() };
        let config = Config {
            in_flight: ByteSize::bytes(5),
            default_tier: "gold".to_owned(),
            tiers: BTreeMap::from([("slow".to_owned(), tier)]),
            ..Config::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["in_flight", "default_tier", "tiers.slow.events_per_second", "tiers.slow.burst", "tiers.slow.kib_per_second"]);
    }

    #[test]
    fn a_verdict_keeps_its_facts_as_a_refusal() {
        assert_eq!(Verdict::Admit.refusal(), None);
        let refusal = Verdict::TooLarge { what: "the batch", limit: 1, actual: 2 }.refusal();
        assert_eq!(refusal, Some(Refusal::TooLarge { what: "the batch", actual: 2, limit: 1 }));
    }
}
