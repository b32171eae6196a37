//! What this gate tells the others of its accounts, and what it takes back: the arithmetic of sharing, without a store.
//!
//! What always holds: what was admitted here is reported once, or given back and reported later, and then never as more
//! than what of it is still in use; an account takes back what all gates together have used, plus what was admitted here
//! meanwhile, so that nothing is counted twice; the table is locked a shard at a time, for as long as it takes to count.
//!
//! Everything is said as time: an account's use is how far its arrival time is ahead of now. Clocks of two machines need
//! not agree, because nobody says when now is.

use std::mem;
use std::sync::PoisonError;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::nanos::Nanos;

use super::{Account, Limiter, Limits, Quotas, SHARDS, Shard, Slot};

/// Nanoseconds in the unit of reports: the store counts in microseconds, which its numbers hold exactly.
const MICRO: u64 = 1_000;

/// An account that others may be using is asked for so often, as long as it was charged here within the time that a whole burst takes.
pub const ASK_EVERY: Duration = Duration::from_secs(1);

/// One account, as the others are told of it.
#[derive(Debug)]
pub struct Report<I> {
    name: Box<str>,
    tier: usize,
    taken: I,
    used: [Used; 2],
}

/// One quota of it, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// All that this gate knows to be in use: the shared account is never behind it. A store that has lost its memory has it again.
    pub own: u64,
    /// What of it this gate has admitted since its last report.
    pub cost: u64,
    /// How far `cost` may bring the shared account ahead: a burst and a debt; after a time alone a burst, so that no debts come of that.
    pub cap: u64,
    /// How far it can be ahead in any case.
    pub most: u64,
}

/// Where the reports of the last turn ended.
#[derive(Debug)]
pub struct Rounds<I> {
    next: usize,
    looks: usize,
    back_since: Option<I>,
}

impl<I: Reference> Rounds<I> {
    /// Turns that follow each other at this interval.
    pub fn new(interval: Duration) -> Self {
        let shares = (SHARDS as f64 * 2.0 * interval.as_secs_f64() / ASK_EVERY.as_secs_f64()).ceil();
        // Within the bounds of the table before it is cut to a whole number.
        Self { next: 0, looks: shares.clamp(1.0, SHARDS as f64) as usize, back_since: None }
    }

    /// Nothing was told for a while until now.
    pub fn back(&mut self, now: I) {
        self.back_since = Some(now);
    }
}

/// Now, by the clocks of all limiters.
struct Moment<I> {
    at: I,
    of_tiers: Vec<[u64; 2]>,
    back_since: Option<I>,
}

impl<C: Clock + Clone> Quotas<C> {
    /// This moment by the clock of the quotas.
    pub fn now(&self) -> C::Instant {
        self.clock.now()
    }

    /// The name of a report's tier.
    pub fn tier_of(&self, report: &Report<C::Instant>) -> &str {
        self.names.iter().find(|(_, number)| **number == report.tier).map_or("", |(name, _)| name)
    }

    /// The accounts to speak of in this turn, at most `limit`: those that were charged, and now and then those that others
    /// may be using. What is left out is first the next time.
    pub fn reports(&self, rounds: &mut Rounds<C::Instant>, limit: usize) -> Vec<Report<C::Instant>> {
        let moment = self.moment(rounds.back_since);
        let (mut reports, first) = (Vec::new(), rounds.next);
        rounds.next = (first + rounds.looks) % SHARDS;
        for step in 0..SHARDS {
            let number = (first + step) % SHARDS;
            if reports.len() >= limit {
                rounds.next = number;
                break;
            }
            let mut shard = self.shards[number].lock().unwrap_or_else(PoisonError::into_inner);
            shard.report(&self.tiers, &moment, step < rounds.looks, limit, &mut reports);
        }
        reports
    }

    /// Takes back what all gates together have used, in microseconds ahead of now.
    pub fn settle(&self, report: &Report<C::Instant>, used: [u64; 2]) {
        let (now, limits) = (self.clock.now(), &self.tiers[report.tier]);
        let mut shard = self.shard(&report.name).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = shard.of_report(report) {
            account.settle(limits, report, used, now);
        }
    }

    /// The report did not arrive, as far as is known: what it says is to be told again.
    pub fn give_back(&self, report: &Report<C::Instant>) {
        let mut shard = self.shard(&report.name).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = shard.of_report(report) {
            account.events.spend(report.used[0].cost * MICRO);
            account.kib.spend(report.used[1].cost * MICRO);
            shard.charged = true;
        }
    }

    fn moment(&self, back_since: Option<C::Instant>) -> Moment<C::Instant> {
        let of_tiers = self.tiers.iter().map(|limits| [limits.events.now(), limits.kib.now()]).collect();
        Moment { at: self.clock.now(), of_tiers, back_since }
    }
}

impl<I: Reference> Shard<I> {
    /// The account may be gone, or its principal may have come with another tier meanwhile: then it is another account.
    fn of_report(&mut self, report: &Report<I>) -> Option<&mut Account<I>> {
        self.accounts.get_mut(&*report.name).filter(|account| account.tier == report.tier)
    }

    fn report<C: Clock<Instant = I>>(
        &mut self,
        tiers: &[Limits<C>],
        moment: &Moment<I>,
        look: bool,
        limit: usize,
        to: &mut Vec<Report<I>>,
    ) {
        if !mem::take(&mut self.charged) && !look {
            return;
        }
        let room = limit - to.len();
        let mut due: Vec<_> = self.accounts.iter_mut().filter(|(_, account)| account.is_due(tiers, moment, look)).collect();
        if due.len() > room {
            due.sort_unstable_by_key(|(_, account)| account.told);
            due.truncate(room);
            self.charged = true;
        }
        to.extend(due.into_iter().map(|(name, account)| account.report(name, &tiers[account.tier], moment)));
    }
}

impl<I: Reference> Account<I> {
    fn is_due<C: Clock<Instant = I>>(&self, tiers: &[Limits<C>], moment: &Moment<I>, look: bool) -> bool {
        let now = moment.of_tiers[self.tier];
        let ahead = [ahead(&self.events, now[0]), ahead(&self.kib, now[1])];
        let untold = [&self.events, &self.kib].into_iter().zip(ahead).any(|(slot, ahead)| slot.untold.get().min(ahead) >= MICRO);
        let asks = || {
            let recent = moment.at.duration_since(self.charged) < tiers[self.tier].restored_after;
            recent && ahead.iter().any(|ahead| *ahead > 0) && moment.at.duration_since(self.told) >= ASK_EVERY.into()
        };
        untold || (look && asks())
    }

    fn report<C: Clock<Instant = I>>(&mut self, name: &str, limits: &Limits<C>, moment: &Moment<I>) -> Report<I> {
        let late = moment.back_since.is_some_and(|since| self.told <= since);
        let now = moment.of_tiers[self.tier];
        self.told = moment.at;
        let used = [limits.events.used(&self.events, now[0], late), limits.kib.used(&self.kib, now[1], late)];
        Report { name: name.into(), tier: self.tier, taken: moment.at, used }
    }

    fn settle<C: Clock<Instant = I>>(&mut self, limits: &Limits<C>, report: &Report<I>, used: [u64; 2], now: I) {
        // The store's now was somewhere on the way: to be ahead of it would move all accounts on by the way, each time.
        let way = now.duration_since(report.taken);
        // A store that says less than what this gate knows of itself is not believed.
        let believed = |unit: usize| used[unit].max(report.used[unit].own).min(report.used[unit].most);
        let events = limits.events.settle(&self.events, believed(0), way);
        let kib = limits.kib.settle(&self.kib, believed(1), way);
        // Not to be forgotten before it is as good as new.
        let restored = now.duration_since(self.charged) + Nanos::from(events.max(kib)) + Duration::from_secs(1);
        self.restored_after = self.restored_after.max(restored);
    }
}

impl<C: Clock> Limiter<C> {
    /// Takes what is to be told out of the slot; less than a microsecond stays for the next time.
    fn used(&self, slot: &Slot, now: u64, late: bool) -> Used {
        let own = ahead(slot, now);
        let untold = slot.untold.get().min(own);
        slot.untold.set(untold % MICRO);
        let most = self.most() / MICRO;
        Used { own: own / MICRO, cost: untold / MICRO, cap: if late { self.burst() / MICRO } else { most }, most }
    }

    /// Gives how far the slot is ahead now.
    fn settle(&self, slot: &Slot, used: u64, way: Nanos) -> u64 {
        let ahead = used.saturating_mul(MICRO).saturating_sub(way.as_u64()).saturating_add(slot.untold.get());
        if ahead > 0 || slot.arrival.get().is_some() {
            slot.arrival.set(Some(Nanos::from(self.now().saturating_add(ahead))));
        }
        ahead
    }
}

impl<I> Report<I> {
    /// Whose account it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is told of its two quotas, events and KiB.
    pub fn used(&self) -> &[Used; 2] {
        &self.used
    }
}

impl Used {
    /// What a store makes of it: how far the shared account is ahead, from how far it was.
    pub fn added_to(self, ahead: u64) -> u64 {
        let ahead = ahead.min(self.most);
        ahead.max(self.own).max(ahead.saturating_add(self.cost).min(self.cap))
    }
}

fn ahead(slot: &Slot, now: u64) -> u64 {
    slot.arrival.get().map_or(0, Nanos::as_u64).saturating_sub(now)
}

#[cfg(test)]
mod tests;
