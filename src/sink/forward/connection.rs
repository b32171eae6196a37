//! The task of one connection: it carries what the plan gives it, one request at a time, until it is idle for too long.
//!
//! What always holds: the plan hears of the connection's end exactly once, however it comes; bytes that may be on their
//! way are said so.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::telemetry::metrics;

use super::Shared;
use super::cluster::Address;
use super::fault::Fault;
use super::plan::{Change, Link, Loss, Piece};
use super::session::Session;

/// Brokers close idle connections after ten minutes; to be first avoids requests that nobody knows the outcome of.
const MAX_IDLE: Duration = Duration::from_mins(4);

/// The longest rest that a broker is granted at once.
const MAX_REST: Duration = Duration::from_secs(30);

/// Tells the plan of the end, also when the task is dropped in the middle of something.
struct Ending {
    shared: Arc<Shared>,
    link: Link,
    address: Address,
    stood: bool,
    loss: Loss,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.stood {
            metrics().forward_connections.dec();
        }
        self.shared.forget(self.link);
        let change = self.shared.act(|plan, now| plan.gone(self.link, &self.loss, jitter(), now));
        if let (Change::Down, Loss::Unreachable(fault)) = (change, &self.loss) {
            tracing::warn!(broker = %self.address, %fault, "a broker cannot be reached: raw batches for it wait, or go to the inbox");
        }
    }
}

/// From 0 to 1, another each time.
pub(super) fn jitter() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

pub(super) async fn run(shared: Arc<Shared>, link: Link, address: Address, mut requests: mpsc::Receiver<Vec<Piece>>) {
    // Dropped before it is open, it was not there.
    let loss = Loss::Unreachable(Fault::Ended);
    let mut ending = Ending { shared: Arc::clone(&shared), link, address: address.clone(), stood: false, loss };
    let session = match shared.dialer.dial(&address).await {
        Ok(session) => session,
        Err(fault) => {
            metrics().forward_connect_failures.inc();
            ending.loss = Loss::Unreachable(fault);
            return;
        }
    };
    (ending.stood, ending.loss) = (true, Loss::Broken { fault: Fault::Ended, written: true });
    metrics().forward_connections.inc();
    metrics().forward_connections_opened.inc();
    if shared.act(|plan, now| plan.opened(link, now)) == Change::Up {
        tracing::info!(broker = %address, "the broker can be reached again");
    }
    ending.loss = serve(&shared, link, session, &mut requests).await;
}

/// Until the end, which is said.
async fn serve(shared: &Arc<Shared>, link: Link, mut session: Session, requests: &mut mpsc::Receiver<Vec<Piece>>) -> Loss {
    loop {
        let retire = session.retire_at.map_or(MAX_IDLE, |at| at.saturating_duration_since(Instant::now()).min(MAX_IDLE));
        let pieces = tokio::select! {
            biased;
            fault = session.broken() => return Loss::Broken { fault, written: false },
            () = sleep(retire) => return Loss::Quiet,
            next = requests.recv() => match next {
                Some(pieces) => pieces,
                None => return Loss::Quiet,
            },
        };
        let rest = match carry(shared, link, &mut session, &pieces).await {
            Ok(rest) => rest,
            Err(fault) => return Loss::Broken { fault, written: session.has_written() },
        };
        if !rest.is_zero() {
            tokio::select! {
                fault = session.broken() => return Loss::Broken { fault, written: false },
                () = sleep(rest.min(MAX_REST)) => shared.act(|plan, now| plan.rested(link, now)),
            }
        }
    }
}

/// One request, and for how long the broker wants to be left alone then.
async fn carry(shared: &Arc<Shared>, link: Link, session: &mut Session, pieces: &[Piece]) -> Result<Duration, Fault> {
    metrics().forward_requests.inc();
    metrics().forward_batches.inc_by(pieces.len() as u64);
    let answered = timeout(shared.timeout, session.produce(pieces, shared.broker_timeout_ms)).await;
    let (answers, throttle_ms) = answered.unwrap_or(Err(Fault::Silence))?;
    shared.act(|plan, now| plan.answered(link, answers, throttle_ms > 0, now));
    Ok(Duration::from_millis(throttle_ms))
}
