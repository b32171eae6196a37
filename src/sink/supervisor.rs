//! The watch over the producer: ticks the breaker, asks the catalog when acknowledgements stay away, and replaces a
//! producer that is fatal or wedged.
//!
//! librdkafka can wedge for good while its broker is well (confluentinc/librdkafka#5301). It is taken for wedged
//! - when the catalog, over a connection of its own, has come from the broker for `WEDGED_AFTER`, and meanwhile the breaker stayed
//!   open, or nothing at all was acknowledged for longer than the producer may hold a record, although it has some: replay,
//!   which the breaker does not count, may be the only one who sends;
//! - when it holds records and reports none of them, neither as delivered nor as timed out, for as long. That happens without
//!   any fault of its own when the wall clock is set back: its threads wait by that clock (`cnd_timedwait`), an hour longer if
//!   it goes back an hour, until something wakes them.
//!
//! What the broker itself refuses for long (a partition without a leader, with nobody else sending) looks like the first: so
//! one replacement that has brought no acknowledgement is followed by the next after twice the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drain::{Phase, Signal};

use super::breaker::{Breaker, State};
use super::catalog::Catalog;
use super::producer::Producer;

const TICK: Duration = Duration::from_millis(25);

/// Without a sign of life for so long, the catalog is asked whether it is the topic that is gone.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(250);

/// Longer than librdkafka takes to connect again after an outage.
const WEDGED_AFTER: Duration = Duration::from_secs(10);

/// Replay, which may be the only one who sends, rests for less between two tries.
const BETWEEN_TRIES: Duration = Duration::from_secs(3);

/// What a report may take longer than a record may be held.
const REPORT_WITHIN: Duration = Duration::from_secs(5);

/// While the breaker is open, the catalog is asked so often whether the broker is back.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Replacements are at least so far apart, and each that was for nothing doubles it, up to the second.
const MIN_BETWEEN_REBUILDS: Duration = Duration::from_secs(30);
const MAX_BETWEEN_REBUILDS: Duration = Duration::from_secs(600);

/// The breakers that it ticks.
pub(super) struct Breakers {
    pub(super) producer: Arc<Breaker>,
    pub(super) raw: Option<Arc<Breaker>>,
}

/// How long a producer that holds records has let nothing be heard: no report, or no acknowledgement. A process that stood still
/// meanwhile has heard nothing, whatever was said: so a look counts for no more than a few ticks.
#[derive(Debug)]
struct Silence {
    heard: u64,
    looked: Instant,
    lasts: Duration,
    /// For how long nothing was held, and after how long of that it is over.
    rests: Duration,
    rest: Duration,
}

impl Silence {
    fn new(now: Instant, rest: Duration) -> Self {
        Self { heard: 0, looked: now, lasts: Duration::ZERO, rests: Duration::ZERO, rest }
    }

    /// Of reports.
    fn of_reports(now: Instant) -> Self {
        Self::new(now, Duration::ZERO)
    }

    /// Of acknowledgements.
    fn of_acknowledgements(now: Instant) -> Self {
        Self::new(now, BETWEEN_TRIES)
    }

    fn look(&mut self, queued: u64, heard: u64, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.looked).min(4 * TICK);
        if queued == 0 {
            self.rests += since;
        } else {
            self.rests = Duration::ZERO;
            self.lasts += since;
        }
        if heard != self.heard || (queued == 0 && self.rests >= self.rest) {
            self.lasts = Duration::ZERO;
        }
        (self.heard, self.looked) = (heard, now);
        self.lasts
    }
}

/// When a producer was replaced last, and what came of it.
#[derive(Debug)]
struct Rebuilds {
    last: Option<Instant>,
    acknowledged: u64,
    pause: Duration,
}

impl Rebuilds {
    fn new() -> Self {
        Self { last: None, acknowledged: 0, pause: MIN_BETWEEN_REBUILDS }
    }

    /// `surely`: it is the producer, whatever the broker does.
    fn may(&self, surely: bool, acknowledged: u64, now: Instant) -> bool {
        let pause = if surely || acknowledged != self.acknowledged { MIN_BETWEEN_REBUILDS } else { self.pause };
        self.last.is_none_or(|at| now.duration_since(at) > pause)
    }

    fn done(&mut self, surely: bool, acknowledged: u64, now: Instant) {
        let in_vain = !surely && self.last.is_some() && acknowledged == self.acknowledged;
        self.pause = if in_vain { (self.pause * 2).min(MAX_BETWEEN_REBUILDS) } else { MIN_BETWEEN_REBUILDS };
        (self.last, self.acknowledged) = (Some(now), acknowledged);
    }
}

/// Ticks until the drain's last phase; `message_timeout`: a record is reported within it.
pub(super) async fn watch(
    breakers: Breakers,
    producer: Arc<Producer>,
    catalog: Arc<Catalog>,
    message_timeout: Duration,
    mut signal: Signal,
) {
    let Breakers { producer: breaker, raw } = breakers;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = Instant::now();
    let mut rebuilds = Rebuilds::new();
    let mut alive: Option<Instant> = None;
    let fresh = |now| (Silence::of_reports(now), Silence::of_acknowledgements(now));
    let (mut reports, mut acknowledgements) = fresh(Instant::now());
    let longest = message_timeout + REPORT_WITHIN;
    loop {
        tokio::select! {
            () = signal.reached(Phase::Storing) => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        let raw_open = raw.as_ref().is_some_and(|raw| raw.state() != State::Closed);
        let raw_stalled = raw.as_ref().is_some_and(|raw| raw.stalled_for(now) > SUSPICIOUS_AFTER);
        let open = breaker.state() != State::Closed;
        let queued = producer.queued();
        let mute = reports.look(queued, producer.reports(), now);
        let unheard = acknowledgements.look(queued, producer.acknowledgements(), now);
        let suspicious = open || unheard > ASK_EVERY;
        let patience = if suspicious || raw_open { ASK_EVERY } else { SUSPICIOUS_AFTER };
        if (suspicious || raw_open || raw_stalled || breaker.stalled_for(now) > SUSPICIOUS_AFTER) && now.duration_since(asked) > patience {
            asked = now;
            catalog.want();
        }
        breaker.tick(now);
        raw.iter().for_each(|raw| raw.tick(now));
        // Since when the broker has answered others while it has acknowledged nothing here.
        alive = alive.filter(|_| suspicious && answers(&catalog)).or_else(|| (suspicious && answers(&catalog)).then_some(now));
        let is_alive = alive.is_some_and(|since| now.duration_since(since) > WEDGED_AFTER);
        let is_wedged = is_alive && (open && queued > 0 || unheard > longest);
        let surely = producer.is_fatal() || mute > longest;
        let acknowledged = producer.acknowledgements();
        if (surely || is_wedged) && rebuilds.may(surely, acknowledged, now) {
            rebuilds.done(surely, acknowledged, now);
            alive = None;
            (reports, acknowledgements) = fresh(now);
            rebuild(&producer).await;
        }
    }
}

fn answers(catalog: &Catalog) -> bool {
    catalog.age().is_some_and(|age| age < 2 * ASK_EVERY)
}

async fn rebuild(producer: &Arc<Producer>) {
    tracing::warn!("the producer is stuck: it is replaced");
    let producer = Arc::clone(producer);
    let done = tokio::task::spawn_blocking(move || producer.rebuild());
    if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(5), done).await {
        tracing::error!(%error, "the producer could not be replaced");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_silent_while_it_holds_something_and_nothing_is_heard() {
        let start = Instant::now();
        let mut silences = [Silence::of_reports(start), Silence::of_acknowledgements(start)];
        let mut now = start;
        let mut look = |queued, heard, after: u32| {
            now += TICK * after;
            silences.each_mut().map(|silence| silence.look(queued, heard, now))
        };
        assert_eq!(look(0, 0, 9), [Duration::ZERO; 2]);
        assert_eq!(look(3, 0, 1), [TICK; 2]);
        assert_eq!(look(3, 0, 1), [TICK * 2; 2]);
        assert_eq!(look(9, 1, 1), [Duration::ZERO; 2], "something is heard");
        assert_eq!(look(9, 1, 1), [TICK; 2]);
        assert_eq!(look(9, 1, 100_000), [TICK * 5; 2], "the process stood still");
        assert_eq!(look(0, 1, 1), [Duration::ZERO, TICK * 5], "between two tries");
        assert_eq!(look(2, 1, 1), [TICK, TICK * 6]);
        assert_eq!(look(2, 2, 1), [Duration::ZERO; 2]);
        assert_eq!(look(2, 2, 1), [TICK; 2]);
        (0..40).for_each(|_| {
            look(0, 2, 4);
        });
        assert_eq!(look(2, 2, 1), [TICK; 2], "long at rest");
    }

    #[test]
    fn a_replacement_that_brought_nothing_is_followed_by_the_next_after_twice_the_time() {
        let (mut rebuilds, start) = (Rebuilds::new(), Instant::now());
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(rebuilds.may(false, 7, start));
        rebuilds.done(false, 7, start);
        assert!(!rebuilds.may(false, 7, after(30)) && rebuilds.may(false, 7, after(31)));
        rebuilds.done(false, 7, after(31));
        assert!(!rebuilds.may(false, 7, after(91)) && rebuilds.may(false, 7, after(92)));
        assert!(rebuilds.may(true, 7, after(62)), "a fatal one does not wait");
        assert!(rebuilds.may(false, 8, after(62)), "something was acknowledged");
        (0..20).for_each(|_| rebuilds.done(false, 7, after(92)));
        assert_eq!(rebuilds.pause, MAX_BETWEEN_REBUILDS);
        rebuilds.done(true, 7, after(92));
        assert_eq!(rebuilds.pause, MIN_BETWEEN_REBUILDS);
    }
}
