//! The raw leg: record batches go to the leaders of their partitions over connections of our own, byte for byte.
//!
//! What always holds: every batch that is sent has exactly one [`Answer`]; [`Answer::NotSent`] is said only when not one byte
//! of its request was written; a broker's own words are handed on as they are ([`Answer::Answered`]). Nothing is opened
//! before the first batch, and what waits, in bytes and in time, is bounded.
//!
//! The rules stand in [`plan`], without I/O; [`connection`] carries them out, [`scout`] asks who leads what, [`dial`] is the
//! way to a broker. All of them meet in one lock, which is never held over a wait.

mod cluster;
mod connection;
mod dial;
mod fault;
mod messages;
mod plan;
mod scout;
mod scram;
mod session;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::drain::{Drain, Phase, Signal};
use crate::event::Topic;
use crate::records::RecordBatch;

use super::Config;
use cluster::Address;
use dial::Dialer;
use plan::{Action, Limits, Link, Parcel, Piece, Plan};

/// How often what waits is looked at.
const TICK: Duration = Duration::from_millis(25);

/// The broker answers for a slow replica so long before we would give up: by partition, instead of silence for all.
const BEFORE_TIMEOUT: Duration = Duration::from_millis(250);

/// What became of a batch that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker's own words.
    Answered {
        /// Kafka's error code; 0: appended.
        code: i16,
        /// The offset of the first record.
        base_offset: i64,
        /// The broker's time, where the topic has it; else -1.
        log_append_time_ms: i64,
        /// The first offset that the partition still has; -1: unknown.
        log_start_offset: i64,
    },
    /// It was not written to any connection.
    NotSent(&'static str),
    /// It was, at least in part, and no answer came: nobody knows.
    Unknown(&'static str),
}

/// The connections to the brokers, and what is known of who leads which partition.
pub struct Upstream {
    shared: Arc<Shared>,
}

/// A batch on its way. Dropped, the batch may still arrive.
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Answer>);

/// One broker, for a person who looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Where it is.
    pub address: String,
    /// Connections that stand.
    pub connections: usize,
    /// Batches that wait for its answer.
    pub in_flight: usize,
    /// The last attempt to connect failed.
    pub down: bool,
    /// The last fault, also of a broker that is well again.
    pub last_error: Option<String>,
}

/// What the tasks have in common.
struct Shared {
    dialer: Dialer,
    bootstrap: Vec<Address>,
    timeout: Duration,
    broker_timeout_ms: i32,
    state: Mutex<State>,
    /// Something waits: the ticks begin.
    waiting: Notify,
    /// The scout is wanted.
    refresh: Notify,
    /// The number of the last refresh that succeeded.
    refreshed: watch::Sender<u64>,
}

struct State {
    plan: Plan,
    /// The way to each connection's task; each has room for the one request that a connection may have.
    links: HashMap<Link, mpsc::Sender<Vec<Piece>>>,
    runtime: Option<Handle>,
}

impl Upstream {
    /// The leg as it is configured. No runtime is needed yet, and no socket; an option that is not what it says is named.
    pub fn new(config: &Config) -> Result<Arc<Self>, (&'static str, String)> {
        let place = |text: &String| Address::parse(text).ok_or(("brokers", format!("`{text}` is not an address: write `host:port`")));
        let limits = Limits { links: config.raw_connections, queue: config.raw_queue.as_usize(), timeout: config.raw_timeout.get() };
        let broker_timeout = limits.timeout.saturating_sub(BEFORE_TIMEOUT).max(limits.timeout / 2);
        let shared = Shared {
            dialer: Dialer::new(config)?,
            bootstrap: config.brokers.iter().map(place).collect::<Result<_, _>>()?,
            timeout: limits.timeout,
            broker_timeout_ms: i32::try_from(broker_timeout.as_millis()).unwrap_or(i32::MAX),
            state: Mutex::new(State { plan: Plan::new(limits), links: HashMap::new(), runtime: None }),
            waiting: Notify::new(),
            refresh: Notify::new(),
            refreshed: watch::Sender::new(0),
        };
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }

    /// Starts what it needs. At [`Phase::Storing`] what waits is told so; what was written is still waited for.
    pub fn start(&self, drain: &Drain) {
        self.shared.lock().runtime = Some(Handle::current());
        tokio::spawn(scout::run(Arc::clone(&self.shared), drain.signal()));
        tokio::spawn(keep_time(Arc::clone(&self.shared), drain.signal()));
    }

    /// Sends a batch to the leader of its partition. Batches of one partition are written in the order of these calls as long
    /// as one connection holds; who needs more than that waits for one answer before the next call.
    ///
    /// When a batch is refused or its outcome unknown, those of the same producer (or of nobody) that wait behind it in its
    /// partition are [`Answer::NotSent`] with the reason `behind`, so that they cannot overtake it when it is sent again.
    pub fn send(&self, topic: &Topic, partition: i32, batch: RecordBatch) -> Ticket {
        let (parcel, told) = Parcel::new((topic.clone(), partition), batch, Instant::now());
        if self.shared.lock().runtime.is_none() {
            parcel.tell(Answer::NotSent("not_started"));
        } else {
            self.shared.act(|plan, now| plan.add(parcel, now));
        }
        Ticket(told)
    }

    /// Waits until a broker was asked again who leads what, and says whether the partition has a leader then.
    pub async fn leader_changed(&self, topic: &Topic, partition: i32, limit: Duration) -> bool {
        let mut refreshed = self.shared.refreshed.subscribe();
        let number = self.shared.act(|plan, now| plan.want_refresh_of(topic, now));
        let came = timeout(limit, refreshed.wait_for(|last| *last >= number)).await;
        came.is_ok_and(|came| came.is_ok()) && self.shared.act(|plan, _| plan.leader(&(topic.clone(), partition))).is_some()
    }

    /// The brokers that batches went to, or should.
    pub fn status(&self) -> Vec<BrokerStatus> {
        let status = |broker: &plan::Broker| BrokerStatus {
            address: broker.address.to_string(),
            connections: broker.connections(),
            in_flight: broker.in_flight(),
            down: broker.is_down(),
            last_error: broker.last_fault().map(ToString::to_string),
        };
        self.shared.lock().plan.brokers().map(status).collect()
    }

    /// Bytes of batches that wait for their turn.
    pub fn waiting_bytes(&self) -> u64 {
        self.shared.lock().plan.waiting_bytes() as u64
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("brokers", &self.status()).finish_non_exhaustive()
    }
}

impl Ticket {
    /// Waits for the answer. May be awaited again after a timeout around it (`&mut`).
    pub async fn answer(&mut self) -> Answer {
        (&mut self.0).await.unwrap_or(Answer::Unknown("ended"))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the plan, and does what follows from it.
    fn act<T>(self: &Arc<Self>, change: impl FnOnce(&mut Plan, Instant) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state.plan, Instant::now());
        for action in state.plan.take_actions() {
            self.carry_out(&mut state, action);
        }
        if state.plan.has_waiting() {
            self.waiting.notify_one();
        }
        changed
    }

    fn carry_out(self: &Arc<Self>, state: &mut State, action: Action) {
        match action {
            Action::Open { link, address } => {
                let Some(runtime) = &state.runtime else { return };
                let (requests, taken) = mpsc::channel(1);
                runtime.spawn(connection::run(Arc::clone(self), link, address, taken));
                state.links.insert(link, requests);
            }
            Action::Send { link, pieces } => {
                if let Some(requests) = state.links.get(&link) {
                    // A task that takes nothing has ended, and is about to say that not a byte was written.
                    let _ = requests.try_send(pieces);
                }
            }
            Action::Close { link } => drop(state.links.remove(&link)),
            Action::Refresh => self.refresh.notify_one(),
        }
    }

    /// A connection's task has ended.
    fn forget(&self, link: Link) {
        self.lock().links.remove(&link);
    }
}

/// Ticks while something waits, and brings the end.
async fn keep_time(shared: Arc<Shared>, mut signal: Signal) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signal.reached(Phase::Storing) => return shared.act(|plan, _| plan.close()),
            () = shared.waiting.notified() => {}
        }
        ticks.tick().await;
        shared.act(|plan, now| plan.tick(now));
    }
}

#[cfg(test)]
mod samples;
