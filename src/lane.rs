//! What is remembered of each lane: a producer id and a partition, where order and sequence live.
//!
//! No I/O. Each rule was an experiment with a real client or broker (`docs/design.md`, "Record batches, and their lanes"):
//! - After an answer that its client repeats, every later batch of the lane is answered the same, until the refused one has
//!   come back and landed, or a newer epoch begins. Else a client takes the success of a later batch for its own.
//! - The last five batches that landed are known again by sequence *and* CRC. The same sequence with another CRC is another
//!   batch, of a client that uses the number of a failed one again: it goes on without its number.
//! - Once a batch of an epoch had to lose its number, those behind it in that epoch lose theirs; and so does an older epoch
//!   behind a newer one.
//!
//! The table is bounded. A lane that is forgotten is judged by the broker alone, which may cost a duplicate, never a loss.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Topic;
use crate::receipt::Landed;
use crate::records::Producer;

/// Brokers know the last five batches of a producer in a partition, and so do we.
const REMEMBERED: usize = 5;

/// Lanes that are remembered at one time.
const MAX_LANES: usize = 65_536;

/// A lane that nobody has used for so long is the first to be forgotten.
const IDLE: Duration = Duration::from_secs(60);

/// How long a lane waits for its refused batch to come back. Longer than any client's own patience (librdkafka: 5 minutes);
/// then the broker judges what comes.
const COME_BACK: Duration = Duration::from_secs(330);

/// A producer and a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The producer's id.
    pub producer: i64,
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
}

/// What the memory says of a batch that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Nothing against it.
    Go,
    /// It goes on without its producer's numbers.
    Strip,
    /// It has landed before: this is where.
    Landed(Landed),
    /// An earlier batch of the lane was refused and has not come back.
    Refused,
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<Lane, Memory>>);

#[derive(Debug)]
struct Memory {
    newest: i16,
    stripped: Option<i16>,
    refused: Option<Refused>,
    /// Epoch and sequence of what comes behind a batch that was refused for good: its predecessor never comes.
    orphan: Option<(i16, i32)>,
    landed: VecDeque<(Producer, u32, Landed)>,
    used: Instant,
}

/// The batches that were refused and have not landed: from the first one to the last one, in a row.
#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: i16,
    first: i32,
    last: i32,
    /// The CRC of the first one, if it may be in the broker all the same.
    doubtful: Option<u32>,
    until: Instant,
}

impl Refused {
    /// What is still refused when a batch has landed: if it was the first of them, those behind it.
    fn behind(self, landed: &Producer) -> Option<Self> {
        if landed.epoch != self.epoch {
            return (landed.epoch < self.epoch).then_some(self);
        }
        if landed.first != self.first {
            return Some(self);
        }
        let next = landed.last.wrapping_add(1) & i32::MAX;
        (self.last != self.first).then_some(Self { first: next, doubtful: None, ..self })
    }
}

impl Lanes {
    /// Which course a batch takes. Nothing is changed but what a newer epoch or time has made void.
    pub fn course(&self, lane: &Lane, producer: &Producer, crc: u32, now: Instant) -> Course {
        let mut lanes = self.lock();
        let Some(memory) = lanes.get_mut(lane) else { return Course::Go };
        memory.used = now;
        if let Some((.., at)) = memory.landed.iter().find(|(known, known_crc, _)| known == producer && *known_crc == crc) {
            return Course::Landed(*at);
        }
        match memory.refused {
            Some(refused) if producer.epoch > refused.epoch || refused.until <= now => memory.refused = None,
            Some(refused) if producer.epoch == refused.epoch && is_before(refused.first, producer.first) => return Course::Refused,
            _ => {}
        }
        let other_than = |refused: Refused| refused.first == producer.first && refused.doubtful.is_some_and(|known| known != crc);
        let reused = memory.landed.iter().any(|(known, ..)| known.epoch == producer.epoch && known.first == producer.first)
            || memory.refused.is_some_and(|refused| refused.epoch == producer.epoch && other_than(refused));
        let overtaken = producer.epoch < memory.newest;
        let orphan = memory.orphan == Some((producer.epoch, producer.first));
        if reused || overtaken || orphan || memory.stripped == Some(producer.epoch) { Course::Strip } else { Course::Go }
    }

    /// A batch was answered with something that its client repeats: those behind it wait for it. `maybe`: it may be in the broker.
    pub fn refuse(&self, lane: &Lane, producer: &Producer, crc: u32, maybe: bool, now: Instant) {
        let new = Refused {
            epoch: producer.epoch,
            first: producer.first,
            last: producer.first,
            doubtful: maybe.then_some(crc),
            until: now + COME_BACK,
        };
        self.change(lane, now, |memory| {
            memory.refused = Some(match memory.refused {
                Some(old) if old.epoch > new.epoch => old,
                // Only the first is waited for, and only its coming back makes the wait begin anew.
                Some(old) if old.epoch == new.epoch && is_before(old.first, new.first) => {
                    Refused { last: if is_before(old.last, new.first) { new.first } else { old.last }, ..old }
                }
                Some(old) if old.epoch == new.epoch => Refused { last: old.last, ..new },
                _ => new,
            });
        });
    }

    /// A batch was refused for good. Its client may give its number to other records; if it goes on behind it instead, a broker
    /// would wait for what never comes.
    pub fn lost(&self, lane: &Lane, producer: &Producer, now: Instant) {
        let next = producer.last.wrapping_add(1) & i32::MAX;
        self.change(lane, now, |memory| {
            memory.refused = memory.refused.and_then(|refused| refused.behind(producer));
            memory.orphan = Some((producer.epoch, next));
        });
    }

    /// A batch is in the broker or in the inbox.
    pub fn landed(&self, lane: &Lane, producer: &Producer, crc: u32, at: Landed, now: Instant) {
        self.change(lane, now, |memory| {
            memory.refused = memory.refused.and_then(|refused| refused.behind(producer));
            // Whatever has landed with its numbers is a predecessor again.
            memory.orphan = memory.orphan.filter(|_| memory.stripped == Some(producer.epoch));
            memory.landed.push_back((*producer, crc, at));
            if memory.landed.len() > REMEMBERED {
                memory.landed.pop_front();
            }
        });
    }

    /// A batch with its producer's numbers goes upstream: older epochs that come behind it lose theirs.
    pub fn sent(&self, lane: &Lane, producer: &Producer, now: Instant) {
        self.change(lane, now, |memory| memory.newest = memory.newest.max(producer.epoch));
    }

    /// A batch had to lose its producer's numbers: those behind it in its epoch do too.
    pub fn stripped(&self, lane: &Lane, producer: &Producer, now: Instant) {
        self.change(lane, now, |memory| memory.stripped = memory.stripped.max(Some(producer.epoch)));
    }

    /// Whether a row of this producer, acknowledged before, still goes with its numbers.
    pub fn keeps_numbers(&self, lane: &Lane, producer: &Producer) -> bool {
        let lanes = self.lock();
        lanes.get(lane).is_none_or(|memory| producer.epoch >= memory.newest && memory.stripped != Some(producer.epoch))
    }

    /// Whether a later batch of the same epoch is in the broker with its numbers: what an earlier one comes to changes nothing for
    /// those behind.
    pub fn has_gone_on(&self, lane: &Lane, producer: &Producer) -> bool {
        let is_later = |known: &Producer| known.epoch == producer.epoch && is_before(producer.last, known.first);
        let lanes = self.lock();
        lanes.get(lane).is_some_and(|memory| {
            let mut landed = memory.landed.iter();
            memory.stripped != Some(producer.epoch) && landed.any(|(known, _, at)| is_later(known) && matches!(at, Landed::Broker { .. }))
        })
    }

    /// Lanes that are remembered now.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn change(&self, lane: &Lane, now: Instant, change: impl FnOnce(&mut Memory)) {
        let mut lanes = self.lock();
        if let Some(memory) = lanes.get_mut(lane) {
            memory.used = now;
            return change(memory);
        }
        make_room(&mut lanes, now);
        let mut memory = Memory { newest: -1, stripped: None, refused: None, orphan: None, landed: VecDeque::new(), used: now };
        change(&mut memory);
        lanes.insert(lane.clone(), memory);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lane, Memory>> {
        // Nothing panics under this lock, and a memory is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a sequence comes before another one. They have 31 bits and wrap; nobody is half of them behind.
pub const fn is_before(one: i32, other: i32) -> bool {
    one.wrapping_sub(other) & i32::MAX > i32::MAX / 2
}

/// Who is idle goes first. What is known of lanes where nothing is refused costs a duplicate at most; it goes before the rest.
fn make_room(lanes: &mut HashMap<Lane, Memory>, now: Instant) {
    if lanes.len() < MAX_LANES {
        return;
    }
    lanes.retain(|_, memory| memory.refused.is_some() || now.saturating_duration_since(memory.used) < IDLE);
    if lanes.len() > MAX_LANES / 2 {
        lanes.retain(|_, memory| memory.refused.is_some());
    }
    if lanes.len() > MAX_LANES / 2 {
        lanes.retain(|_, memory| memory.refused.is_some_and(|refused| refused.until > now + COME_BACK / 2));
    }
    if lanes.len() >= MAX_LANES {
        lanes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: Landed = Landed::Broker { base_offset: 7, log_append_time_ms: -1, log_start_offset: 0 };

    fn lane() -> Lane {
        Lane { producer: 9, topic: Topic::new("t").expect("a topic"), partition: 0 }
    }

    fn batch(epoch: i16, first: i32, last: i32) -> Producer {
        Producer { id: 9, epoch, first, last }
    }

    #[test]
    fn a_lane_has_gone_on_when_a_later_batch_is_in_the_broker_with_its_numbers() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        assert!(!lanes.has_gone_on(&lane(), &batch(0, 3, 4)));
        lanes.landed(&lane(), &batch(0, 5, 5), 1, Landed::Inbox, now);
        assert!(!lanes.has_gone_on(&lane(), &batch(0, 3, 4)), "the inbox keeps it behind");
        lanes.landed(&lane(), &batch(0, 6, 9), 2, BROKER, now);
        assert!(lanes.has_gone_on(&lane(), &batch(0, 3, 4)));
        assert!(!lanes.has_gone_on(&lane(), &batch(0, 10, 10)) && !lanes.has_gone_on(&lane(), &batch(1, 3, 4)));
        lanes.stripped(&lane(), &batch(0, 6, 9), now);
        assert!(!lanes.has_gone_on(&lane(), &batch(0, 3, 4)), "it went without");
    }

    #[test]
    fn behind_a_refused_batch_everything_is_refused_until_it_has_come_back_and_landed() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 5, 5), 2, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 6), 1, now), Course::Refused);
        lanes.refuse(&lane(), &batch(0, 6, 7), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 2, now), Course::Go, "it has come back");
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 6), 1, now), Course::Refused, "it has not landed yet");
        lanes.landed(&lane(), &batch(0, 5, 5), 2, BROKER, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 7), 1, now), Course::Go, "its turn");
        assert_eq!(lanes.course(&lane(), &batch(0, 8, 8), 1, now), Course::Refused, "6 was refused too, and has not come back");
        lanes.landed(&lane(), &batch(0, 6, 7), 1, BROKER, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 8, 8), 1, now), Course::Go);
    }

    #[test]
    fn what_comes_before_a_refused_batch_is_not_refused_for_it() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 6, 6), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 1, now), Course::Go);
        lanes.landed(&lane(), &batch(0, 5, 5), 1, BROKER, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 7, 7), 1, now), Course::Refused);
    }

    #[test]
    fn other_records_with_the_number_of_a_batch_that_may_be_there_lose_it() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, true, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 1, now), Course::Go);
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 2, now), Course::Strip, "else a broker takes them for the ones it has");
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 2, now), Course::Go, "nothing is there");
    }

    #[test]
    fn refusals_behind_the_first_do_not_make_its_wait_longer() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, false, now);
        lanes.refuse(&lane(), &batch(0, 6, 6), 1, false, now + COME_BACK / 2);
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 6), 1, now + COME_BACK), Course::Go);
    }

    #[test]
    fn a_newer_epoch_and_time_end_a_refusal() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(1, 0, 0), 1, now), Course::Go);
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 6), 1, now), Course::Go, "the refusal is over for good");
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 6), 1, now + COME_BACK), Course::Go);
    }

    #[test]
    fn the_earliest_refused_batch_is_the_one_that_is_waited_for_also_where_sequences_wrap() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 3, 3), 1, false, now);
        lanes.refuse(&lane(), &batch(0, i32::MAX, i32::MAX), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 3, 3), 1, now), Course::Refused);
        assert_eq!(lanes.course(&lane(), &batch(0, i32::MAX, i32::MAX), 1, now), Course::Go);
    }

    #[test]
    fn what_has_landed_is_known_again_by_sequence_and_crc() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        for first in 0..6 {
            lanes.landed(&lane(), &batch(0, first, first), 40, if first == 5 { Landed::Inbox } else { BROKER }, now);
        }
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 40, now), Course::Landed(Landed::Inbox));
        assert_eq!(lanes.course(&lane(), &batch(0, 1, 1), 40, now), Course::Landed(BROKER));
        assert_eq!(lanes.course(&lane(), &batch(0, 0, 0), 40, now), Course::Go, "the sixth-last is the broker's to judge");
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 41, now), Course::Strip, "the same number, other records");
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 8), 40, now), Course::Strip);
    }

    #[test]
    fn a_repeated_answer_is_given_even_while_a_later_batch_is_refused() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.landed(&lane(), &batch(0, 4, 4), 1, BROKER, now);
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, false, now);
        assert_eq!(lanes.course(&lane(), &batch(0, 4, 4), 1, now), Course::Landed(BROKER));
    }

    #[test]
    fn what_follows_a_stripped_batch_is_stripped_and_a_newer_epoch_is_not() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.stripped(&lane(), &batch(2, 5, 5), now);
        assert_eq!(lanes.course(&lane(), &batch(2, 6, 6), 1, now), Course::Strip);
        assert!(!lanes.keeps_numbers(&lane(), &batch(2, 6, 6)));
        assert_eq!(lanes.course(&lane(), &batch(3, 0, 0), 1, now), Course::Go);
        lanes.sent(&lane(), &batch(3, 0, 0), now);
        assert_eq!(lanes.course(&lane(), &batch(2, 7, 7), 1, now), Course::Strip, "behind a newer epoch");
        assert!(!lanes.keeps_numbers(&lane(), &batch(1, 0, 0)));
        assert!(lanes.keeps_numbers(&lane(), &batch(3, 0, 0)));
    }

    #[test]
    fn what_goes_on_behind_a_batch_that_was_refused_for_good_goes_without_numbers_at_once() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.lost(&lane(), &batch(0, 5, 7), now);
        assert_eq!(lanes.course(&lane(), &batch(0, 5, 5), 1, now), Course::Go, "other records in its place");
        assert_eq!(lanes.course(&lane(), &batch(0, 8, 8), 1, now), Course::Strip);
        assert_eq!(lanes.course(&lane(), &batch(1, 8, 8), 1, now), Course::Go);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_idle() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        for partition in 0..i32::try_from(MAX_LANES).expect("fits") + 10 {
            lanes.sent(&Lane { partition, ..lane() }, &batch(0, 0, 0), now);
        }
        assert!(lanes.len() <= MAX_LANES, "{}", lanes.len());
    }

    #[test]
    fn a_lane_that_waits_for_its_refused_batch_is_forgotten_last() {
        let (lanes, now) = (Lanes::default(), Instant::now());
        lanes.refuse(&lane(), &batch(0, 5, 5), 1, false, now);
        for partition in 1..i32::try_from(2 * MAX_LANES).expect("fits") {
            lanes.sent(&Lane { partition, ..lane() }, &batch(0, 0, 0), now);
        }
        assert_eq!(lanes.course(&lane(), &batch(0, 6, 6), 1, now), Course::Refused);
    }
}
