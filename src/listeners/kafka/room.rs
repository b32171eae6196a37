//! Room for requests: how much of the gate's memory the door's connections may fill, and how they wait for it.
//!
//! Bytes are taken from the gate's [`Meter`] as they arrive, and reading waits while it is full; nothing is refused for want
//! of room. So that two half-read requests never wait for each other, the right to arrive in whole is had first (a
//! [`Claim`]): all claims together are less than the meter, and other doors do not wait but refuse. Large requests have a
//! share of their own: one that trickles in keeps no ordinary one waiting. Strangers have another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::inflight::{InFlight, Meter};

/// The unit of claims.
const UNIT: usize = 1 << 10;

/// A request as small as that needs no claim: it takes its bytes from the meter, and that is all.
const SMALL: usize = 4 << 10;

/// A request larger than that is large.
const LARGE: usize = 1 << 20;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The door's room.
#[derive(Debug)]
pub struct Room {
    meter: Arc<Meter>,
    ordinary: Share,
    large: Share,
    strangers: Share,
}

/// So many units that can be claimed.
#[derive(Clone, Debug)]
pub struct Share {
    free: Arc<Semaphore>,
    units: u32,
}

/// The right of a request to arrive in whole and to stay until it is answered; given back on drop.
#[derive(Debug, Default)]
pub struct Claim(#[expect(dead_code, reason = "it is held, not looked at")] [Option<OwnedSemaphorePermit>; 3]);

impl Share {
    /// A share of so many bytes, and at least one unit.
    pub fn of(bytes: usize) -> Self {
        let units = units(bytes);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    fn bytes(&self) -> usize {
        self.units as usize * UNIT
    }

    /// Waits for a claim to so many bytes, or to all there are.
    async fn claim(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = units(bytes).min(self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.ok()
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX / 2).clamp(1, u32::MAX / 2)
}

impl Room {
    /// Room within the gate's own.
    pub fn new(meter: &Arc<Meter>) -> Self {
        let all = usize::try_from(meter.limit() / 5 * 4).unwrap_or(usize::MAX);
        let large = Share::of(all / 2);
        let ordinary = Share::of(all.saturating_sub(large.bytes()));
        Self { meter: Arc::clone(meter), ordinary, large, strangers: Share::of(all / 16) }
    }

    /// The largest request that can ever be taken in.
    pub fn largest(&self) -> usize {
        self.ordinary.bytes() + self.large.bytes()
    }

    /// Waits until a request of so many bytes may arrive: within its connection's own share, and within the door's.
    pub async fn claim(&self, own: &Share, bytes: usize, stranger: bool) -> Claim {
        let own = own.claim(bytes).await;
        let large_from = LARGE.min(self.ordinary.bytes());
        // Always in this order, so that nobody waits in a circle.
        match bytes {
            _ if bytes <= SMALL => Claim([own, None, None]),
            _ if stranger => Claim([own, self.strangers.claim(bytes).await, None]),
            _ if bytes <= large_from => Claim([own, None, self.ordinary.claim(bytes).await]),
            _ => {
                let large = self.large.claim(bytes).await;
                let rest = bytes.saturating_sub(self.large.bytes());
                let rest = if rest > 0 { self.ordinary.claim(rest).await } else { None };
                Claim([own, large, rest])
            }
        }
    }

    /// A guard over nothing yet.
    pub fn guard(&self) -> InFlight {
        self.meter.reserve(0).expect("nothing always fits")
    }

    /// Takes bytes that are about to be read; waits while the gate is full.
    pub async fn grow(&self, guard: &mut InFlight, bytes: usize) {
        let mut pause = FIRST_PAUSE;
        while guard.grow(bytes as u64).is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(claim: impl Future<Output = Claim>) -> bool {
        tokio::time::timeout(Duration::from_secs(5), claim).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_request_that_trickles_in_keeps_no_ordinary_one_waiting_and_all_fit_the_meter() {
        let room = Room::new(&Meter::new(128 << 20));
        assert!(room.largest() >= 100 << 20);
        assert!(room.largest() < 128 << 20);
        let own = || Share::of(200 << 20);
        let large = room.claim(&own(), 50 << 20, false).await;
        assert!(waits(room.claim(&own(), 2 << 20, false)).await, "the large share is taken");
        let mut ordinary = Vec::new();
        for _ in 0..51 {
            ordinary.push(room.claim(&own(), 1 << 20, false).await);
        }
        assert!(waits(room.claim(&own(), 1 << 20, false)).await, "the ordinary share is taken");
        let small = room.claim(&own(), SMALL, false).await;
        let stranger = room.claim(&own(), 64 << 10, true).await;
        drop((large, ordinary, small, stranger));
        let all = room.claim(&own(), 100 << 20, false).await;
        assert!(waits(room.claim(&own(), 4 << 20, false)).await);
        drop(all);
        assert!(!waits(room.claim(&own(), 4 << 20, false)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tiny_gate_still_takes_what_fits_it() {
        let room = Room::new(&Meter::new(1 << 20));
        let own = Share::of(1 << 20);
        assert!(!waits(room.claim(&own, room.largest(), false)).await);
        assert!(!waits(room.claim(&own, 500 << 10, false)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_its_own_share_and_a_larger_request_passes_alone() {
        let room = Room::new(&Meter::new(128 << 20));
        let own = Share::of(64 << 10);
        let first = room.claim(&own, 40 << 10, false).await;
        assert!(waits(room.claim(&own, 40 << 10, false)).await);
        drop(first);
        let alone = room.claim(&own, 400 << 10, false).await;
        assert!(waits(room.claim(&own, 1, false)).await);
        drop(alone);
        assert!(!waits(room.claim(&own, 1, false)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn reading_waits_while_the_gate_is_full_and_goes_on_when_it_is_not() {
        let meter = Meter::new(10 << 20);
        let room = Room::new(&meter);
        let others = meter.reserve(10 << 20).expect("room");
        let mut guard = room.guard();
        assert!(tokio::time::timeout(Duration::from_secs(1), room.grow(&mut guard, 1)).await.is_err());
        drop(others);
        room.grow(&mut guard, 1).await;
        assert_eq!(meter.used(), 1);
    }
}
