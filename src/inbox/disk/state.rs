//! What the writer lets others see: numbers for `/status`, and whether the store takes rows.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    latched: AtomicBool,
    full: AtomicBool,
    used: AtomicU64,
    oldest_ms: AtomicI64,
    aside: AtomicI64,
    held: AtomicI64,
    stored: AtomicU64,
    commits: AtomicU64,
}

impl State {
    pub(super) fn latch(&self) {
        self.latched.store(true, Ordering::Release);
    }

    pub(super) fn is_latched(&self) -> bool {
        self.latched.load(Ordering::Acquire)
    }

    /// One line for each change, not for each event.
    pub(super) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::AcqRel) != full {
            if full {
                tracing::warn!("the inbox has no room: it takes nothing until there is some");
            } else {
                tracing::info!("the inbox has room again");
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn set_used(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn set_oldest(&self, at_ms: Option<i64>) {
        self.oldest_ms.store(at_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// When the oldest row was stored, in milliseconds since 1970.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        Some(self.oldest_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    pub(super) fn set_aside(&self, rows: i64) {
        self.aside.store(rows, Ordering::Relaxed);
    }

    pub(super) fn set_held(&self, rows: i64) {
        self.held.store(rows, Ordering::Relaxed);
    }

    pub(super) fn held(&self) -> u64 {
        u64::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn aside(&self) -> u64 {
        u64::try_from(self.aside.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn committed(&self, stored: u64) {
        self.stored.fetch_add(stored, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether anything was committed since the start: an idle store writes nothing.
    pub(super) fn has_written(&self) -> bool {
        self.commits.load(Ordering::Relaxed) > 0
    }

    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }
}
