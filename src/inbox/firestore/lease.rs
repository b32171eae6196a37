//! Leases: which of the instances that share a collection replays a lane now.
//!
//! A lease is a document: who holds it, and until when. It is made if it is not there, taken over when its time is past,
//! renewed by its holder, and deleted when its lane is done.
//!
//! What always holds:
//! - A lease is ours from a write that Firestore has confirmed, for as long as that write said, counted by our own steady
//!   clock from before the write, less [`MARGIN`]. So what others see on their clocks may differ by that much.
//! - Every change of a document that is there is made on the condition that it is as we have seen it: of two who take a lease
//!   over, one does.
//! - What is not known to be ours is not: a fault means no, and the next try a second later.
//! - A lane that is in hand is renewed, however long its round takes; one that nobody has asked for is let go.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::client::{Client, Fault, Written};
use super::{Timestamp, fs, proto};
use crate::gate::TopicPartition;

/// How much earlier than its document says a lease is over for its holder.
const MARGIN: Duration = Duration::from_secs(2);

/// After a lease that is another's, or a fault, the lane is asked for again so much later.
const LATER: Duration = Duration::from_secs(1);

/// Hex digits of a lease's name.
const NAME_LENGTH: usize = 40;

/// So many leases are renewed at the same time.
const RENEWALS: usize = 16;

/// A batch of writes takes so many.
const MAX_WRITES: usize = 500;

/// See the module.
#[derive(Debug)]
pub struct Leases {
    client: Client,
    holder: String,
    length: Duration,
    lanes: Mutex<HashMap<TopicPartition, Standing>>,
    /// The lanes that somebody here replays now.
    in_hand: Mutex<HashSet<TopicPartition>>,
}

/// What is known of a lane's lease.
#[derive(Debug, Clone)]
enum Standing {
    Ours(Ours),
    /// Another's, or not known to be ours: not asked for before then.
    Elsewhere(Instant),
}

#[derive(Debug, Clone)]
struct Ours {
    /// Its full name.
    name: String,
    /// When it ends for us.
    until: Instant,
    /// When it was last asked for.
    used: Instant,
    /// The document as we have left it.
    updated: Timestamp,
    /// Somebody is renewing it.
    busy: bool,
}

/// What a look at the books says of a claim.
enum Known {
    Held,
    Ageing(Ours),
    NotNow,
    Nothing,
}

impl Leases {
    /// The leases of this instance, which `holder` names among all.
    pub fn new(client: Client, holder: String, length: Duration) -> Self {
        Self { client, holder, length, lanes: Mutex::default(), in_hand: Mutex::default() }
    }

    /// Whether a lane is ours to replay now, with enough time left to do something. Answered from memory as a rule.
    pub async fn claim(&self, collection: &str, lane: &TopicPartition) -> bool {
        match self.known(lane) {
            Known::Held => true,
            Known::NotNow => false,
            Known::Ageing(ours) => self.renew(lane, ours).await,
            Known::Nothing => self.take(collection, lane).await,
        }
    }

    /// Whether a lane is ours now.
    pub fn holds(&self, lane: &TopicPartition) -> bool {
        matches!(self.lock().get(lane), Some(Standing::Ours(ours)) if ours.until > Instant::now())
    }

    /// A lane is taken in hand here, or out of it.
    pub fn hand(&self, lane: &TopicPartition, takes: bool) {
        let mut in_hand = self.in_hand();
        if takes {
            in_hand.insert(lane.clone());
        } else {
            in_hand.remove(lane);
        }
    }

    /// Whether somebody here replays a lane now.
    pub fn is_in_hand(&self, lane: &TopicPartition) -> bool {
        self.in_hand().contains(lane)
    }

    /// Whether there is no use in asking for a lane now.
    pub fn is_elsewhere(&self, lane: &TopicPartition) -> bool {
        matches!(self.lock().get(lane), Some(Standing::Elsewhere(again)) if *again > Instant::now())
    }

    /// Gives a lane's lease back.
    pub async fn release(&self, lane: &TopicPartition) {
        self.give_back(lane, None).await;
    }

    /// The same, and leaves it to others for so long.
    pub async fn hand_over(&self, lane: &TopicPartition, wait: Duration) {
        self.give_back(lane, Some(Instant::now() + wait)).await;
    }

    /// Gives back the leases of those of these lanes that nobody here has in hand.
    pub async fn release_idle(&self, lanes: Vec<TopicPartition>) {
        let mut ours = Vec::new();
        {
            let mut standings = self.lock();
            let in_hand = self.in_hand();
            for lane in lanes.into_iter().filter(|lane| !in_hand.contains(lane)) {
                if matches!(standings.get(&lane), Some(Standing::Ours(ours)) if !ours.busy) {
                    ours.extend(standings.remove(&lane).and_then(Standing::ours));
                }
            }
        }
        self.delete(ours).await;
    }

    async fn give_back(&self, lane: &TopicPartition, again: Option<Instant>) {
        let ours = {
            let mut lanes = self.lock();
            match lanes.get(lane) {
                // Who renews it would not know: it runs out, or is ours again.
                Some(Standing::Ours(ours)) if !ours.busy => {}
                _ => return,
            }
            let standing = match again {
                Some(again) => lanes.insert(lane.clone(), Standing::Elsewhere(again)),
                None => lanes.remove(lane),
            };
            standing.and_then(Standing::ours)
        };
        self.delete(ours.into_iter().collect()).await;
    }

    /// Gives all leases back; for the drain.
    pub async fn release_all(&self) {
        let all: Vec<Ours> = self.lock().drain().filter_map(|(_, standing)| standing.ours()).collect();
        self.delete(all).await;
    }

    /// Renews the leases that are used, and lets go of those that are not; called every second or so. A round of replay may
    /// take longer than what is left when it begins.
    pub async fn keep(&self) {
        let now = Instant::now();
        let (mut ageing, mut idle) = (Vec::new(), Vec::new());
        let in_hand = self.in_hand().clone();
        self.lock().retain(|lane, standing| match standing {
            Standing::Ours(ours) if ours.busy => true,
            Standing::Ours(ours) if now.duration_since(ours.used) > self.length && !in_hand.contains(lane) => {
                idle.push(ours.clone());
                false
            }
            Standing::Ours(ours) => {
                if self.is_ageing(ours, now) {
                    ours.busy = true;
                    ageing.push((lane.clone(), ours.clone()));
                }
                true
            }
            Standing::Elsewhere(again) => *again > now,
        });
        // Several at a time: one after the other they could be over before their turn.
        stream::iter(ageing)
            .for_each_concurrent(RENEWALS, |(lane, ours)| async move {
                self.renew(&lane, ours).await;
            })
            .await;
        self.delete(idle).await;
    }

    fn known(&self, lane: &TopicPartition) -> Known {
        let now = Instant::now();
        let mut lanes = self.lock();
        match lanes.get_mut(lane) {
            Some(Standing::Ours(ours)) if ours.until > now => {
                ours.used = now;
                if ours.busy || !self.is_ageing(ours, now) {
                    return if self.is_short(ours, now) { Known::NotNow } else { Known::Held };
                }
                ours.busy = true;
                Known::Ageing(ours.clone())
            }
            Some(Standing::Ours(ours)) if ours.busy => Known::NotNow,
            Some(Standing::Elsewhere(again)) if *again > now => Known::NotNow,
            _ => Known::Nothing,
        }
    }

    /// Half of its time is over.
    fn is_ageing(&self, ours: &Ours, now: Instant) -> bool {
        ours.until.saturating_duration_since(now) < self.length / 2
    }

    /// Two thirds are: nothing is begun any more.
    fn is_short(&self, ours: &Ours, now: Instant) -> bool {
        ours.until.saturating_duration_since(now) < self.length / 3
    }

    async fn take(&self, collection: &str, lane: &TopicPartition) -> bool {
        let (began, name) = (Instant::now(), self.client.name(collection, &id(lane)));
        let made = self.write(proto::create(name.clone(), self.fields(lane))).await;
        match made {
            Ok(Written::Ok(Some(updated))) => self.hold(lane, name, began, updated),
            Ok(Written::AlreadyExists | Written::Precondition) => self.take_over(lane, name).await,
            Ok(_) => self.not_now(lane, LATER),
            Err(fault) => self.failed(lane, &fault),
        }
    }

    /// Takes over a lease that is there: one whose time is past, or an earlier one of ours of which we have not heard.
    async fn take_over(&self, lane: &TopicPartition, name: String) -> bool {
        let seen = match self.client.get(vec![name.clone()]).await {
            Ok(found) => found.into_iter().next().flatten(),
            Err(fault) => return self.failed(lane, &fault),
        };
        // Deleted since: it is free, as a rule, when we come again.
        let Some(seen) = seen else { return self.not_now(lane, Duration::ZERO) };
        let until = proto::millis_of(&seen.fields, "until").unwrap_or(0);
        let left = Duration::from_millis(u64::try_from(until.saturating_sub(now_ms())).unwrap_or(0));
        let ours = proto::text_of(&seen.fields, "holder") == Some(self.holder.as_str());
        match seen.update_time {
            Some(updated) if ours || left.is_zero() => self.change(lane, name, updated).await,
            _ => self.not_now(lane, left.min(LATER)),
        }
    }

    async fn renew(&self, lane: &TopicPartition, ours: Ours) -> bool {
        if self.change(lane, ours.name.clone(), ours.updated).await {
            return true;
        }
        // It is ours still until its time is over, unless somebody has it who should not.
        match self.lock().get_mut(lane) {
            Some(Standing::Ours(ours)) => {
                ours.busy = false;
                !self.is_short(ours, Instant::now())
            }
            _ => false,
        }
    }

    /// Writes a lease anew, if it is as we have seen it.
    async fn change(&self, lane: &TopicPartition, name: String, seen: Timestamp) -> bool {
        let began = Instant::now();
        let condition = fs::Precondition { condition_type: Some(fs::precondition::ConditionType::UpdateTime(seen)) };
        let write = proto::update(name.clone(), self.fields(lane), &["lane", "holder", "until"]);
        match self.write(fs::Write { current_document: Some(condition), ..write }).await {
            Ok(Written::Ok(Some(updated))) => self.hold(lane, name, began, updated),
            // Somebody was quicker, or has deleted it.
            Ok(Written::Precondition | Written::NotFound | Written::AlreadyExists) => {
                self.lock().insert(lane.clone(), Standing::Elsewhere(Instant::now() + LATER));
                false
            }
            Ok(_) => self.not_now(lane, LATER),
            Err(fault) => self.failed(lane, &fault),
        }
    }

    fn hold(&self, lane: &TopicPartition, name: String, began: Instant, updated: Timestamp) -> bool {
        let until = began + self.length.saturating_sub(MARGIN);
        let ours = Ours { name, until, used: Instant::now(), updated, busy: false };
        let held = until > Instant::now();
        self.lock().insert(lane.clone(), Standing::Ours(ours));
        held
    }

    fn failed(&self, lane: &TopicPartition, fault: &Fault) -> bool {
        tracing::debug!(topic = %lane.0, partition = lane.1, %fault, "a lease could not be had; later");
        self.not_now(lane, LATER)
    }

    /// Not ours. A lease whose time is not over is left as it is: a renewal that failed takes nothing of it.
    fn not_now(&self, lane: &TopicPartition, wait: Duration) -> bool {
        let now = Instant::now();
        let mut lanes = self.lock();
        if !matches!(lanes.get(lane), Some(Standing::Ours(ours)) if ours.until > now) {
            lanes.insert(lane.clone(), Standing::Elsewhere(now + wait));
        }
        false
    }

    fn fields(&self, lane: &TopicPartition) -> proto::Fields {
        let until = now_ms().saturating_add(i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX));
        let fields = [("lane", proto::text(text(lane))), ("holder", proto::text(&self.holder)), ("until", proto::timestamp(until))];
        fields.map(|(name, value)| (name.to_owned(), value)).into()
    }

    async fn write(&self, write: fs::Write) -> Result<Written, Fault> {
        let written = self.client.write(vec![write]).await?;
        written.into_iter().next().ok_or_else(|| Fault::Other("a write without a result".to_owned()))
    }

    /// A lease that cannot be deleted runs out.
    async fn delete(&self, leases: Vec<Ours>) {
        let delete = |ours: &Ours| {
            let condition = fs::Precondition { condition_type: Some(fs::precondition::ConditionType::UpdateTime(ours.updated)) };
            fs::Write { current_document: Some(condition), ..proto::delete(ours.name.clone()) }
        };
        for some in leases.chunks(MAX_WRITES) {
            if let Err(fault) = self.client.write(some.iter().map(delete).collect()).await {
                tracing::debug!(%fault, "leases could not be given back; they run out");
            }
        }
    }

    fn in_hand(&self) -> MutexGuard<'_, HashSet<TopicPartition>> {
        // Nothing panics under this lock.
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Standing>> {
        // Nothing panics under this lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn ours(self) -> Option<Ours> {
        match self {
            Self::Ours(ours) => Some(ours),
            Self::Elsewhere(_) => None,
        }
    }
}

/// A lane as people read it.
fn text((topic, partition): &TopicPartition) -> String {
    format!("{topic}/{partition}")
}

/// The last part of a lease's name: a hash, so that leases lie apart.
fn id(lane: &TopicPartition) -> String {
    let mut id = hex::encode(Sha256::digest(text(lane)));
    id.truncate(NAME_LENGTH);
    id
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
