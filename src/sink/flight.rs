//! The parts of one send, from the producer's hands to their reports.
//!
//! What always holds: a part has exactly one report, and exactly one taker of it. Until its request gives up waiting,
//! that is the request; once the part was handed over to the inbox, it is the inbox, and the hand-over happens under
//! the same lock as the report, so that the inbox hears of a row's fate only after it heard of the row.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::report::Report;

/// What a late report is told to.
pub type Late = Box<dyn FnOnce(Report) + Send>;

/// The parts of one send.
#[derive(Debug)]
pub struct Flight {
    slots: Mutex<Slots>,
    done: Notify,
    sent: Instant,
}

#[derive(Debug)]
struct Slots {
    waiting: usize,
    slots: Vec<Slot>,
}

enum Slot {
    /// The producer has it.
    Sent,
    /// The producer has it, and it is stored: the report goes to the inbox.
    Late(Late),
    /// The producer has reported it.
    Reported(Report),
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sent => f.write_str("Sent"),
            Self::Late(_) => f.write_str("Late"),
            Self::Reported(report) => write!(f, "Reported({report:?})"),
        }
    }
}

/// What came of a hand-over.
#[derive(Debug)]
pub enum HandOver {
    /// Stored; a late report will reach the inbox.
    Taken,
    /// The store had no room; the part is still the request's.
    NoRoom,
    /// The report was there first, and there is nothing to hand over.
    Reported(Report),
}

impl Flight {
    /// A flight of `parts` parts, all of them to be sent.
    pub fn new(parts: usize) -> Arc<Self> {
        let slots = (0..parts).map(|_| Slot::Sent).collect();
        Arc::new(Self { slots: Mutex::new(Slots { waiting: parts, slots }), done: Notify::new(), sent: Instant::now() })
    }

    /// Takes a part's report. Called once for each part, from the producer's thread or, for a part it did not take, from the sender.
    /// True when somebody was still waiting for it (and it had not been handed over).
    pub fn report(&self, part: usize, report: Report) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.slots.get_mut(part) else { return false };
        let before = std::mem::replace(slot, Slot::Reported(report.clone()));
        if matches!(before, Slot::Reported(_)) {
            debug_assert!(false, "a part is reported once");
            return false;
        }
        slots.waiting -= 1;
        let last = slots.waiting == 0;
        drop(slots);
        if last {
            self.done.notify_waiters();
        }
        match before {
            Slot::Late(late) => {
                late(report);
                false
            }
            Slot::Sent | Slot::Reported(_) => true,
        }
    }

    /// How long ago it was sent.
    pub fn age(&self) -> Duration {
        self.sent.elapsed()
    }

    /// Waits until every part is reported. The caller sets the deadline.
    pub async fn all_reported(&self) {
        loop {
            let done = self.done.notified();
            if self.lock().waiting == 0 {
                return;
            }
            done.await;
        }
    }

    /// A part's report, if it is there.
    pub fn reported(&self, part: usize) -> Option<Report> {
        match self.lock().slots.get(part) {
            Some(Slot::Reported(report)) => Some(report.clone()),
            _ => None,
        }
    }

    /// Parts that the producer still has.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Gives a part that the producer still has to the inbox: `store` puts the row into the inbox's queue, `late` is told the report.
    pub fn hand_over(&self, part: usize, late: Late, store: impl FnOnce() -> bool) -> HandOver {
        let mut slots = self.lock();
        match slots.slots.get_mut(part) {
            Some(slot @ Slot::Sent) => {
                if !store() {
                    return HandOver::NoRoom;
                }
                *slot = Slot::Late(late);
                HandOver::Taken
            }
            Some(Slot::Reported(report)) => HandOver::Reported(report.clone()),
            Some(Slot::Late(_)) | None => {
                debug_assert!(false, "a part is handed over once");
                HandOver::NoRoom
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // What runs under this lock does not panic, and a slot is replaced whole.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part that the producer still has.
#[derive(Debug, Clone)]
pub struct Pending {
    flight: Arc<Flight>,
    part: usize,
}

impl Pending {
    /// The part of the flight.
    pub fn new(flight: &Arc<Flight>, part: usize) -> Self {
        Self { flight: Arc::clone(flight), part }
    }

    /// See [`Flight::hand_over`].
    pub fn hand_over(&self, late: Late, store: impl FnOnce() -> bool) -> HandOver {
        self.flight.hand_over(self.part, late, store)
    }

    /// Its report, if it is there by now.
    pub fn reported(&self) -> Option<Report> {
        self.flight.reported(self.part)
    }

    /// Waits for its whole flight's reports; the caller sets the deadline.
    pub async fn all_reported(&self) {
        self.flight.all_reported().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(offset: i64) -> Report {
        Report::Delivered { partition: 0, offset }
    }

    #[tokio::test]
    async fn a_flight_is_over_when_every_part_is_reported() {
        let flight = Flight::new(2);
        assert!(flight.report(1, delivered(7)));
        assert_eq!(flight.waiting(), 1);
        let waiting = tokio::spawn({
            let flight = Arc::clone(&flight);
            async move { flight.all_reported().await }
        });
        tokio::task::yield_now().await;
        flight.report(0, delivered(6));
        waiting.await.expect("woken");
        assert_eq!(flight.reported(1), Some(delivered(7)));
    }

    #[test]
    fn the_inbox_hears_of_the_report_after_it_heard_of_the_row() {
        let flight = Flight::new(1);
        let (told, heard) = std::sync::mpsc::sync_channel(8);
        let row = told.clone();
        let late: Late = Box::new(move |report| told.send(format!("{report:?}")).expect("listening"));
        let outcome = flight.hand_over(0, late, || {
            row.send("row".to_owned()).expect("listening");
            true
        });
        assert!(matches!(outcome, HandOver::Taken));
        assert!(!flight.report(0, delivered(1)));
        assert_eq!(heard.recv().expect("the row"), "row");
        assert!(heard.recv().expect("the report").starts_with("Delivered"));
    }

    #[test]
    fn a_report_that_is_there_is_not_handed_over() {
        let flight = Flight::new(1);
        flight.report(0, delivered(3));
        let outcome = flight.hand_over(0, Box::new(|_| ()), || panic!("nothing is stored"));
        assert!(matches!(outcome, HandOver::Reported(Report::Delivered { offset: 3, .. })));
    }

    #[test]
    fn a_store_without_room_leaves_the_part_with_its_request() {
        let flight = Flight::new(1);
        let outcome = flight.hand_over(0, Box::new(|_| panic!("not handed over")), || false);
        assert!(matches!(outcome, HandOver::NoRoom));
        assert!(flight.report(0, delivered(1)));
    }
}
