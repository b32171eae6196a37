//! The watch over the producer: ticks the breaker, asks the catalog when acknowledgements stay away, and replaces a
//! producer that is fatal or wedged.
//!
//! librdkafka can wedge for good while its broker is well (confluentinc/librdkafka#5301). It is taken for wedged when
//! the breaker has been open for `WEDGED_AFTER` although the catalog, over a connection of its own, came from the broker meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drain::{Phase, Signal};

use super::breaker::{Breaker, State};
use super::catalog::Catalog;
use super::producer::Producer;

const TICK: Duration = Duration::from_millis(25);

/// Without a sign of life for so long, the catalog is asked whether it is the topic that is gone.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(250);

const WEDGED_AFTER: Duration = Duration::from_secs(15);

/// Replacements are at least so far apart.
const MIN_BETWEEN_REBUILDS: Duration = Duration::from_secs(30);

pub(super) async fn watch(breaker: Arc<Breaker>, producer: Arc<Producer>, catalog: Arc<Catalog>, mut signal: Signal) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = Instant::now();
    let mut rebuilt: Option<Instant> = None;
    loop {
        tokio::select! {
            () = signal.reached(Phase::Storing) => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        if breaker.stalled_for(now) > SUSPICIOUS_AFTER && now.duration_since(asked) > SUSPICIOUS_AFTER {
            asked = now;
            catalog.want();
        }
        breaker.tick(now);
        let may_rebuild = rebuilt.is_none_or(|at| now.duration_since(at) > MIN_BETWEEN_REBUILDS);
        if may_rebuild && (producer.is_fatal() || is_wedged(&breaker, &catalog, now)) {
            rebuilt = Some(now);
            rebuild(&producer).await;
        }
    }
}

fn is_wedged(breaker: &Breaker, catalog: &Catalog, now: Instant) -> bool {
    let (_, since) = breaker.history();
    let open_for = now.saturating_duration_since(since);
    // The catalog was fetched in the last seconds, although the breaker has long been open: the broker lives.
    breaker.state() != State::Closed && open_for > WEDGED_AFTER && catalog.age().is_some_and(|age| age < Duration::from_secs(5))
}

async fn rebuild(producer: &Arc<Producer>) {
    tracing::warn!("the producer is stuck although the broker answers: it is replaced");
    let producer = Arc::clone(producer);
    let done = tokio::task::spawn_blocking(move || producer.rebuild());
    if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(5), done).await {
        tracing::error!(%error, "the producer could not be replaced");
    }
}
