//! Quotas of each principal: events and KiB, by tier, each a rate with a burst.
//!
//! Two ways to take from them: [`Quotas::charge`] refuses what does not fit, [`Quotas::draw`] admits it and says how long the
//! principal owes.
//!
//! What always holds: a batch is charged to both quotas or to neither, so that a refusal costs its sender nothing; a debt
//! has a bound; the table of accounts is bounded; no account is ever waited for longer than it takes to count.
//!
//! The arithmetic is governor's (GCRA): an account is the two "theoretical arrival times" of its quotas. They stand in a
//! table of our own, because governor's keyed stores know one quota each and cannot take back what the other refused.
//!
//! Beside each arrival time stands what this gate has admitted since it last told the others ([`reports`]), where there are others.

pub mod reports;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota as Cells, RateLimiter};

use super::{Config, DEFAULT_TIER, Tier, Verdict};
use crate::auth::Principal;
use crate::receipt::Quota;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::QuotaUnit;

/// The slowest rate: one in 1,000 seconds.
pub const MIN_RATE: f64 = 0.001;
/// The fastest rate a second; beyond it a cell would be too short to be counted exactly.
pub const MAX_RATE: f64 = 1_000_000.0;
/// The largest burst. With the slowest rate it still fits the arithmetic (31 years in nanoseconds).
pub const MAX_BURST: u32 = 1_000_000;

/// Principals that have an account at one time; beyond it the one that was idle longest starts afresh.
pub const MAX_ACCOUNTS: usize = 131_072;
const SHARDS: usize = 64;

/// The longest that a principal can owe. What it would owe beyond that is forgiven.
pub const MAX_DEBT: Duration = Duration::from_secs(3_600);

/// All quotas of all principals.
#[derive(Debug)]
pub struct Quotas<C: Clock = MonotonicClock> {
    clock: C,
    names: BTreeMap<String, usize>,
    tiers: Vec<Limits<C>>,
    default_tier: usize,
    shards: Vec<Mutex<Shard<C::Instant>>>,
    hasher: RandomState,
}

type Accounts<I> = HashMap<Box<str>, Account<I>>;

/// A part of the table, under one lock.
#[derive(Debug)]
struct Shard<I> {
    accounts: Accounts<I>,
    /// Whether one of them was charged since this was last asked.
    charged: bool,
}

impl<I> Default for Shard<I> {
    fn default() -> Self {
        Self { accounts: HashMap::new(), charged: false }
    }
}

/// One tier's two limiters.
#[derive(Debug)]
struct Limits<C: Clock> {
    tier: usize,
    events: Limiter<C>,
    kib: Limiter<C>,
    /// After this long without a charge an account is as good as new.
    restored_after: Nanos,
}

#[derive(Debug)]
struct Limiter<C: Clock> {
    cells: RateLimiter<Slot, InSlot, C, NoOpMiddleware<C::Instant>>,
    quota: Quota,
    /// The time that one cell takes to come back.
    period: u64,
}

/// What one principal has used.
#[derive(Debug)]
struct Account<I> {
    /// The tier by which it was charged last.
    tier: usize,
    events: Slot,
    kib: Slot,
    charged: I,
    restored_after: Nanos,
    /// When the others were last told of it; before that, when it was opened.
    told: I,
}

impl Quotas {
    /// Quotas by the real clock.
    pub fn new(config: &Config) -> Self {
        Self::with_clock(config, MonotonicClock)
    }
}

impl<C: Clock + Clone> Quotas<C> {
    /// Quotas by this clock.
    pub fn with_clock(config: &Config, clock: C) -> Self {
        let standard = (DEFAULT_TIER.to_owned(), Tier::default());
        let known: BTreeMap<_, _> = [standard].into_iter().chain(config.tiers.clone()).collect();
        let names: BTreeMap<_, _> = known.keys().cloned().zip(0..).collect();
        // An unknown default is a mistake that `check` reports; here it must not take a gate down.
        let default_tier = names.get(&config.default_tier).copied().unwrap_or_else(|| names[DEFAULT_TIER]);
        Self {
            tiers: known.values().enumerate().map(|(number, tier)| Limits::new(number, tier, &clock)).collect(),
            clock,
            names,
            default_tier,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Charges a batch to its principal: all of it, or nothing. An unknown tier counts as the default tier.
    pub fn charge(&self, principal: &Principal, events: u32, bytes: u64) -> Verdict {
        self.charge_named(principal.name(), principal.tier(), events, bytes)
    }

    /// Takes a batch from its principal's quotas, whether it fits or not; even one that never fits at once. Gives how long
    /// the principal owes: the time until both accounts are no longer overdrawn.
    pub fn draw(&self, principal: &Principal, events: u32, bytes: u64) -> Duration {
        self.draw_named(principal.name(), principal.tier(), events, bytes)
    }

    /// How long the principal owes now.
    pub fn owed(&self, principal: &Principal) -> Duration {
        self.owed_named(principal.name(), principal.tier())
    }

    fn charge_named(&self, name: &str, tier: &str, events: u32, bytes: u64) -> Verdict {
        self.of_account(name, tier, |account, limits, now| account.charge(limits, now, events, bytes))
    }

    fn draw_named(&self, name: &str, tier: &str, events: u32, bytes: u64) -> Duration {
        self.of_account(name, tier, |account, limits, now| account.draw(limits, now, events, bytes))
    }

    fn owed_named(&self, name: &str, tier: &str) -> Duration {
        let limits = self.limits(tier);
        let shard = self.shard(name).lock().unwrap_or_else(PoisonError::into_inner);
        shard.accounts.get(name).map_or(Duration::ZERO, |account| account.owed(limits))
    }

    fn limits(&self, tier: &str) -> &Limits<C> {
        &self.tiers[self.names.get(tier).copied().unwrap_or(self.default_tier)]
    }

    /// Does something with a principal's account, which is there from its first use.
    fn of_account<T>(&self, name: &str, tier: &str, then: impl FnOnce(&mut Account<C::Instant>, &Limits<C>, C::Instant) -> T) -> T {
        let limits = self.limits(tier);
        let now = self.clock.now();
        let mut shard = self.shard(name).lock().unwrap_or_else(PoisonError::into_inner);
        shard.charged = true;
        if !shard.accounts.contains_key(name) {
            make_room(&mut shard.accounts, now);
            shard.accounts.insert(name.into(), Account::new(limits, now));
        }
        then(shard.accounts.get_mut(name).expect("inserted above"), limits, now)
    }

    /// Forgets the accounts that are as good as new. Called from the background now and then; a full table does it by itself.
    pub fn tidy(&self) {
        let now = self.clock.now();
        for shard in &self.shards {
            forget_restored(&mut shard.lock().unwrap_or_else(PoisonError::into_inner).accounts, now);
        }
    }

    /// Principals that have an account now.
    pub fn accounts(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).accounts.len()).sum()
    }

    fn shard(&self, name: &str) -> &Mutex<Shard<C::Instant>> {
        let hash = self.hasher.hash_one(name);
        &self.shards[usize::try_from(hash % SHARDS as u64).expect("below the number of shards")]
    }
}

impl<I: Reference> Account<I> {
    fn new<C: Clock<Instant = I>>(limits: &Limits<C>, now: I) -> Self {
        let restored_after = limits.restored_after;
        Self { tier: limits.tier, events: Slot::default(), kib: Slot::default(), charged: now, restored_after, told: now }
    }

    fn charge<C: Clock<Instant = I>>(&mut self, limits: &Limits<C>, now: I, events: u32, bytes: u64) -> Verdict {
        let kib = whole_kib(bytes);
        // On copies: they are written back only when both have said yes.
        let (used_events, used_kib) = (self.events.clone(), self.kib.clone());
        let refused = limits
            .events
            .take(&used_events, events, now)
            .map_err(|fault| fault.verdict(&limits.events.quota, QuotaUnit::Events, events.into()))
            .and_then(|()| limits.kib.take(&used_kib, kib, now).map_err(|fault| fault.verdict(&limits.kib.quota, QuotaUnit::Kib, bytes)));
        if let Err(verdict) = refused {
            return verdict;
        }
        (self.events, self.kib) = (used_events, used_kib);
        self.remember(limits, now);
        Verdict::Admit
    }

    fn draw<C: Clock<Instant = I>>(&mut self, limits: &Limits<C>, now: I, events: u32, bytes: u64) -> Duration {
        let units = [(&limits.events, &self.events, events, QuotaUnit::Events), (&limits.kib, &self.kib, whole_kib(bytes), QuotaUnit::Kib)];
        for (limiter, slot, cells, unit) in units {
            if !limiter.draw(slot, cells).is_zero() {
                metrics().quota_overdrafts.at(unit).inc();
            }
        }
        self.remember(limits, now);
        self.owed(limits)
    }

    fn owed<C: Clock<Instant = I>>(&self, limits: &Limits<C>) -> Duration {
        limits.events.owed(&self.events).max(limits.kib.owed(&self.kib))
    }

    /// A debt keeps the account longer: forgetting it would forgive it.
    fn remember<C: Clock<Instant = I>>(&mut self, limits: &Limits<C>, now: I) {
        (self.charged, self.restored_after) = (now, limits.restored_after + Nanos::from(self.owed(limits)));
        self.tier = limits.tier;
    }
}

fn whole_kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

enum Short {
    Wait(Duration),
    Never,
}

impl Short {
    fn verdict(self, quota: &Quota, unit: QuotaUnit, actual: u64) -> Verdict {
        metrics().quota_refusals.at(unit).inc();
        match (self, unit) {
            (Self::Wait(wait), _) => Verdict::Throttle { wait, quota: *quota },
            (Self::Never, QuotaUnit::Events) => {
                Verdict::TooLarge { what: "the number of events in one batch, by the quota,", limit: quota.burst.into(), actual }
            }
            (Self::Never, QuotaUnit::Kib) => {
                Verdict::TooLarge { what: "the size of one batch in bytes, by the quota,", limit: u64::from(quota.burst) * 1024, actual }
            }
        }
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn new(number: usize, tier: &Tier, clock: &C) -> Self {
        let events = Limiter::new("events", tier.events_per_second, tier.burst, clock);
        let kib = Limiter::new("kib", tier.kib_per_second, tier.kib_burst, clock);
        let restored = |limiter: &Limiter<C>| Duration::from_secs_f64(f64::from(limiter.quota.burst) / limiter.quota.per_second + 1.0);
        Self { tier: number, restored_after: restored(&events).max(restored(&kib)).into(), events, kib }
    }
}

impl<C: Clock> Limiter<C> {
    fn new(unit: &'static str, per_second: f64, burst: u32, clock: &C) -> Self
    where
        C: Clone,
    {
        // Settings out of bounds are mistakes that `check` reports; the arithmetic stays sound all the same.
        let per_second = if per_second.is_nan() { MIN_RATE } else { per_second.clamp(MIN_RATE, MAX_RATE) };
        let burst = NonZeroU32::new(burst.min(MAX_BURST)).unwrap_or(NonZeroU32::MIN);
        let period = Duration::from_secs_f64(1.0 / per_second);
        let cells = Cells::with_period(period).expect("at most MAX_RATE, so not zero").allow_burst(burst);
        let quota = Quota { unit, per_second, burst: burst.get() };
        Self { cells: RateLimiter::new(cells, InSlot, clock.clone()), quota, period: Nanos::from(period).as_u64() }
    }

    /// Takes cells that need not be there: the arrival time moves on by all of them. Gives the debt.
    fn draw(&self, slot: &Slot, cells: u32) -> Duration {
        let now = self.now();
        let used = slot.arrival.get().map_or(now, Nanos::as_u64).max(now);
        let next = used.saturating_add(self.period.saturating_mul(cells.into())).min(now.saturating_add(self.most()).max(used));
        slot.arrival.set(Some(Nanos::from(next)));
        slot.spend(next - used);
        self.owed(slot)
    }

    /// How far the arrival time is ahead of what fits at once.
    fn owed(&self, slot: &Slot) -> Duration {
        let used = slot.arrival.get().map_or(0, Nanos::as_u64);
        Duration::from_nanos(used.saturating_sub(self.now().saturating_add(self.burst())))
    }

    /// The time that a whole burst takes to come back.
    fn burst(&self) -> u64 {
        self.period.saturating_mul(self.quota.burst.into())
    }

    /// The farthest that a draw puts an arrival time ahead: a burst, and a debt.
    fn most(&self) -> u64 {
        self.burst().saturating_add(Nanos::from(MAX_DEBT).as_u64())
    }

    /// The limiter's own time, which governor does not say: one cell of a new account arrives one period behind it.
    fn now(&self) -> u64 {
        let fresh = Slot::default();
        let _ = self.cells.check_key(&fresh);
        fresh.arrival.get().map_or(0, Nanos::as_u64).saturating_sub(self.period)
    }

    fn take(&self, slot: &Slot, cells: u32, now: C::Instant) -> Result<(), Short> {
        let Some(cells) = NonZeroU32::new(cells) else { return Ok(()) };
        match self.cells.check_key_n(slot, cells) {
            Ok(Ok(())) => {
                slot.spend(self.period.saturating_mul(u64::from(cells.get())));
                Ok(())
            }
            Ok(Err(not_yet)) => Err(Short::Wait(not_yet.wait_time_from(now))),
            Err(_) => Err(Short::Never),
        }
    }
}

/// Where governor keeps one quota's state: in the account that the caller holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Slot {
    arrival: Cell<Option<Nanos>>,
    /// How far this gate has moved it on since the others were last told, in nanoseconds.
    untold: Cell<u64>,
}

impl Slot {
    fn spend(&self, nanos: u64) {
        self.untold.set(self.untold.get().saturating_add(nanos));
    }
}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, _: &mut H) {
        // governor wants its keys hashable; this one is the place itself and never looked up.
    }
}

#[derive(Debug)]
struct InSlot;

impl StateStore for InSlot {
    type Key = Slot;

    fn measure_and_replace<T, F, E>(&self, slot: &Slot, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (value, next) = decide(slot.arrival.get())?;
        slot.arrival.set(Some(next));
        Ok(value)
    }
}

fn forget_restored<I: Reference>(shard: &mut Accounts<I>, now: I) {
    shard.retain(|_, account| now.duration_since(account.charged) < account.restored_after);
}

/// Keeps a shard within its share of [`MAX_ACCOUNTS`]. Who was idle longest has most of its quota back anyway.
fn make_room<I: Reference>(shard: &mut Accounts<I>, now: I) {
    if shard.len() < MAX_ACCOUNTS / SHARDS {
        return;
    }
    forget_restored(shard, now);
    if shard.len() >= MAX_ACCOUNTS / SHARDS
        && let Some(idle) = shard.iter().min_by_key(|(_, account)| account.charged).map(|(name, _)| name.clone())
    {
        shard.remove(&idle);
    }
}

#[cfg(test)]
mod tests;
