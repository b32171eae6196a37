//! The watch over the producer: ticks the breaker, asks the catalog when acknowledgements stay away, and replaces a
//! producer that is fatal or wedged.
//!
//! librdkafka can wedge for good while its broker is well (confluentinc/librdkafka#5301). It is taken for wedged when
//! the catalog, over a connection of its own, has come from the broker for `WEDGED_AFTER` while the breaker stayed open; or
//! when it holds records and reports none of them, neither as delivered nor as timed out, for longer than it may hold one.
//! The second happens without any fault of its own when the wall clock is set back: its threads wait by that clock
//! (`cnd_timedwait`), an hour longer if it goes back an hour, until something wakes them.

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

/// What a report may take longer than a record may be held.
const REPORT_WITHIN: Duration = Duration::from_secs(5);

/// While the breaker is open, the catalog is asked so often whether the broker is back.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Replacements are at least so far apart.
const MIN_BETWEEN_REBUILDS: Duration = Duration::from_secs(30);

/// The breakers that it ticks.
pub(super) struct Breakers {
    pub(super) producer: Arc<Breaker>,
    pub(super) raw: Option<Arc<Breaker>>,
}

/// How long a producer that holds records has reported none. A process that stood still meanwhile has heard nothing, whatever
/// was reported: so a look counts for no more than a few ticks.
#[derive(Debug)]
struct Silence {
    reports: u64,
    looked: Instant,
    lasts: Duration,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { reports: 0, looked: now, lasts: Duration::ZERO }
    }

    fn look(&mut self, queued: u64, reports: u64, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.looked).min(4 * TICK);
        self.lasts = if queued == 0 || reports != self.reports { Duration::ZERO } else { self.lasts + since };
        (self.reports, self.looked) = (reports, now);
        self.lasts
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
    let mut rebuilt: Option<Instant> = None;
    let mut alive: Option<Instant> = None;
    let mut silence = Silence::new(Instant::now());
    loop {
        tokio::select! {
            () = signal.reached(Phase::Storing) => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        let raw_open = raw.as_ref().is_some_and(|raw| raw.state() != State::Closed);
        let raw_stalled = raw.as_ref().is_some_and(|raw| raw.stalled_for(now) > SUSPICIOUS_AFTER);
        let open = breaker.state() != State::Closed;
        let patience = if open || raw_open { ASK_EVERY } else { SUSPICIOUS_AFTER };
        if (open || raw_open || raw_stalled || breaker.stalled_for(now) > SUSPICIOUS_AFTER) && now.duration_since(asked) > patience {
            asked = now;
            catalog.want();
        }
        breaker.tick(now);
        raw.iter().for_each(|raw| raw.tick(now));
        // Since when the broker has answered others while the breaker was open.
        alive = alive.filter(|_| open && answers(&catalog)).or_else(|| (open && answers(&catalog)).then_some(now));
        let may_rebuild = rebuilt.is_none_or(|at| now.duration_since(at) > MIN_BETWEEN_REBUILDS);
        let queued = producer.queued();
        let mute = silence.look(queued, producer.reports(), now) > message_timeout + REPORT_WITHIN;
        let wedged = mute || queued > 0 && alive.is_some_and(|since| now.duration_since(since) > WEDGED_AFTER);
        if may_rebuild && (producer.is_fatal() || wedged) {
            (rebuilt, alive, silence) = (Some(now), None, Silence::new(now));
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
    fn a_producer_is_silent_while_it_holds_something_and_reports_nothing() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let mut now = start;
        let mut look = |queued, reports, after: u32| {
            now += TICK * after;
            silence.look(queued, reports, now)
        };
        assert_eq!(look(0, 0, 9), Duration::ZERO);
        assert_eq!(look(3, 0, 1), TICK);
        assert_eq!(look(3, 0, 1), TICK * 2);
        assert_eq!(look(9, 1, 1), Duration::ZERO, "a report");
        assert_eq!(look(9, 1, 1), TICK);
        assert_eq!(look(9, 1, 100_000), TICK * 5, "the process stood still");
        assert_eq!(look(0, 1, 1), Duration::ZERO);
    }
}
