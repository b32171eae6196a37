//! Bytes in flight: taken for work and not yet answered, over the whole gate.
//!
//! The guard grows while a request's body is read and decompressed, never by what was only announced, and gives all of it
//! back when it is dropped, which is after the answer is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::receipt::Refusal;

/// The bytes that may be in flight, and those that are.
#[derive(Debug)]
pub struct Meter {
    limit: u64,
    used: AtomicU64,
}

impl Meter {
    /// A meter for at most `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Takes bytes for a request, or says that the gate is full.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<InFlight, Refusal> {
        let mut guard = InFlight { meter: Arc::clone(self), bytes: 0 };
        guard.grow(bytes)?;
        Ok(guard)
    }

    /// Bytes in flight now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

/// Bytes taken from the [`Meter`]; given back on drop.
#[derive(Debug)]
pub struct InFlight {
    meter: Arc<Meter>,
    bytes: u64,
}

impl InFlight {
    /// Takes more bytes for the same request.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        let taken = self
            .meter
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.meter.limit));
        match taken {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => Err(Refusal::Overloaded { what: "bytes in flight", wait: Duration::from_secs(1) }),
        }
    }

    /// A guard of the same meter that holds nothing yet.
    pub fn nothing(&self) -> Self {
        Self { meter: Arc::clone(&self.meter), bytes: 0 }
    }

    /// Whether so much of the meter is taken that nothing should be held longer than it must.
    pub fn is_crowded(&self) -> bool {
        self.meter.used() > self.meter.limit / 2
    }

    /// Bytes held by this guard.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.meter.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_nothing_beyond_the_limit_is_taken() {
        let meter = Meter::new(100);
        let mut one = meter.reserve(60).expect("fits");
        assert!(meter.reserve(41).is_err());
        one.grow(40).expect("fits");
        assert!(one.grow(1).is_err());
        assert_eq!(meter.used(), 100);
        drop(one);
        assert_eq!(meter.used(), 0);
        assert!(meter.reserve(u64::MAX).is_err());
    }
}
