//! The task that asks who leads which partition: when the plan wants it, and now and then.
//!
//! What always holds: one question at a time, at least [`MIN_BETWEEN`] apart; it has a connection of its own, because a
//! broker that works on a produce request does not look at the next one. A broker that does not answer is passed over
//! quickly, whatever it is stuck with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use crate::drain::{Phase, Signal};
use crate::event::Topic;
use crate::telemetry::metrics;

use super::Shared;
use super::cluster::{Address, Learned};
use super::connection::jitter;
use super::fault::Fault;
use super::session::Session;

const MIN_BETWEEN: Duration = Duration::from_millis(100);

/// Who leads is asked anew so often, while topics are in use.
const EVERY: Duration = Duration::from_secs(30);

/// An answer takes milliseconds; who is slower is passed over.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How long one address is tried before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(300);

/// The longest pause after attempts that failed.
const MAX_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>, mut signal: Signal) {
    let scout = Scout { shared, session: None, failures: 0 };
    tokio::select! {
        () = signal.reached(Phase::Storing) => {}
        () = scout.look_around() => {}
    }
}

struct Scout {
    shared: Arc<Shared>,
    session: Option<Session>,
    /// Attempts that failed, one behind the other.
    failures: u32,
}

impl Scout {
    async fn look_around(mut self) {
        loop {
            // A timeout is the regular refresh.
            let _ = timeout(EVERY, self.shared.refresh.notified()).await;
            let began = Instant::now();
            let (number, topics) = self.shared.act(|plan, now| plan.begin_refresh(now));
            if topics.is_empty() {
                self.session = None;
                continue;
            }
            let pause = match self.ask(&topics).await {
                Ok(learned) => {
                    self.succeeded();
                    self.shared.act(|plan, now| plan.learn(&topics, learned, now));
                    self.shared.refreshed.send_replace(number);
                    MIN_BETWEEN
                }
                Err(fault) => self.failed(&fault),
            };
            sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }

    fn succeeded(&mut self) {
        metrics().forward_refreshes.inc();
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("a broker tells again who leads which partition");
        }
    }

    /// The pause before the next attempt, which is wanted in any case.
    fn failed(&mut self, fault: &Fault) -> Duration {
        if self.failures == 0 {
            tracing::warn!(%fault, "no broker tells who leads which partition: raw batches wait, or go to the inbox");
        }
        self.failures = self.failures.saturating_add(1);
        self.shared.act(|plan, _| plan.want_refresh());
        (MIN_BETWEEN * 2_u32.pow(self.failures.min(5))).min(MAX_PAUSE).mul_f64(0.5 + jitter() / 2.0)
    }

    /// The connection that answered last, else the first that answers now.
    async fn ask(&mut self, topics: &[Topic]) -> Result<Learned, Fault> {
        if let Some(mut session) = self.session.take().filter(|session| session.retire_at.is_none_or(|at| at > Instant::now()))
            && let Ok(Ok(learned)) = timeout(ANSWER_LIMIT, session.metadata(topics)).await
        {
            self.session = Some(session);
            return Ok(learned);
        }
        let (session, learned) = self.ask_anyone(topics).await?;
        self.session = Some(session);
        Ok(learned)
    }

    /// Asks the addresses one after the other, each with a head start; the first answer counts.
    async fn ask_anyone(&self, topics: &[Topic]) -> Result<(Session, Learned), Fault> {
        let mut addresses = self.addresses().into_iter();
        let (mut attempts, mut fault) = (FuturesUnordered::new(), Fault::Name);
        attempts.extend(addresses.next().map(|address| self.ask_at(address, topics)));
        while !attempts.is_empty() {
            let ended = tokio::select! {
                Some(ended) = attempts.next() => Some(ended),
                () = sleep(HEAD_START), if addresses.len() > 0 => None,
            };
            match ended {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(why)) => fault = why,
                None => {}
            }
            attempts.extend(addresses.next().map(|address| self.ask_at(address, topics)));
        }
        Err(fault)
    }

    async fn ask_at(&self, address: Address, topics: &[Topic]) -> Result<(Session, Learned), Fault> {
        let mut session = self.shared.dialer.dial(&address).await?;
        let learned = timeout(ANSWER_LIMIT, session.metadata(topics)).await.unwrap_or(Err(Fault::Silence))?;
        Ok((session, learned))
    }

    /// What the brokers have said, then what is configured; begun elsewhere after each failure.
    fn addresses(&self) -> Vec<Address> {
        let mut addresses = self.shared.act(|plan, _| plan.addresses());
        addresses.extend(self.shared.bootstrap.iter().filter(|address| !addresses.contains(address)).cloned().collect::<Vec<_>>());
        let begin = self.failures as usize % addresses.len().max(1);
        addresses.rotate_left(begin);
        addresses
    }
}
