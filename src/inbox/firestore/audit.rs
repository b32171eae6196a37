//! The audit: of so many writes that Firestore has said are there, one is read back before it is acknowledged.
//!
//! What always holds: which ones is counted, so that no run of writes goes by without one; a document that is not there is
//! made again and read back once more, because somebody else may have taken it in between (a command's reader; another
//! instance's replay): then that is a duplicate. One that is missing both times makes the write's outcome unknown, and from
//! then on every write is read back until 1,000 in a row were there. A row that this process has itself removed meanwhile
//! ([`Auditor::removed`]) is not missing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::route::DocumentName;
use crate::telemetry::metrics;

/// After one was missing, so many in a row must be there.
const PROBATION: u32 = 1_000;

/// See the module.
#[derive(Debug)]
pub struct Auditor {
    one_in: u32,
    writes: AtomicU32,
    /// How many more must be read back one after the other.
    probation: AtomicU32,
    missing: AtomicU64,
    /// Those that are being written and may be read back, and whether they were removed meanwhile.
    watched: Mutex<HashMap<DocumentName, bool>>,
}

/// What was found of a document that was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is there; or was, until we have removed it.
    There,
    /// It is not: somebody may have taken it, or it never was.
    Suspect,
    /// It is not there for the second time.
    Missing,
}

/// Numbers of a moment.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Audit {
    /// Documents that were not there though Firestore had said so.
    pub missing: u64,
    /// Writes that are still read back, every one, because one was missing.
    pub probation: u32,
}

impl Auditor {
    /// Reads back one in so many; 0: none.
    pub fn new(one_in: u32) -> Self {
        Self { one_in, writes: AtomicU32::new(0), probation: AtomicU32::new(0), missing: AtomicU64::new(0), watched: Mutex::default() }
    }

    /// Whether the next write is read back.
    pub(super) fn picks(&self) -> bool {
        let nth = self.writes.fetch_add(1, Ordering::Relaxed);
        self.one_in > 0 && (self.probation.load(Ordering::Relaxed) > 0 || nth.is_multiple_of(self.one_in))
    }

    /// These may be read back.
    pub(super) fn watch(&self, names: impl Iterator<Item = DocumentName>) {
        if self.one_in == 0 {
            return;
        }
        let mut watched = self.lock();
        watched.extend(names.map(|name| (name, false)));
    }

    /// Rows that this process deletes, or sets aside, or moves: told before that is asked of Firestore.
    pub fn removed<'a>(&self, names: impl Iterator<Item = &'a DocumentName>) {
        let mut watched = self.lock();
        if watched.is_empty() {
            return;
        }
        for name in names {
            if let Some(removed) = watched.get_mut(name) {
                *removed = true;
            }
        }
    }

    /// It is not looked for any more.
    pub(super) fn forget(&self, name: &DocumentName) {
        self.lock().remove(name);
    }

    /// Whether Firestore's word is not enough now.
    pub(super) fn is_on_probation(&self) -> bool {
        self.probation.load(Ordering::Relaxed) > 0
    }

    /// What is to be thought of one that was watched; `missed`: it was not there before.
    pub(super) fn judge(&self, name: &DocumentName, found: bool, missed: bool) -> Finding {
        let removed = self.lock().remove(name).unwrap_or(false);
        if found || removed {
            let less = |left: u32| left.checked_sub(1);
            if self.probation.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) == Ok(1) {
                tracing::info!("the last {PROBATION} documents were all there: the inbox trusts Firestore's word again");
            }
            return Finding::There;
        }
        if !missed {
            tracing::debug!(document = %name, "a document is not there right after it was stored: it is made again");
            return Finding::Suspect;
        }
        self.missing.fetch_add(1, Ordering::Relaxed);
        metrics().inbox_audit_missing.inc();
        self.probation.store(PROBATION, Ordering::Relaxed);
        tracing::error!(document = %name, "Firestore has said twice that this document is stored, and does not have it: every write is read back from here on");
        Finding::Missing
    }

    /// Numbers of this moment.
    pub fn snapshot(&self) -> Audit {
        Audit { missing: self.missing.load(Ordering::Relaxed), probation: self.probation.load(Ordering::Relaxed) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DocumentName, bool>> {
        // Nothing panics under this lock.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: DocumentName = DocumentName([1; 20]);

    #[test]
    fn one_in_so_many_is_picked_and_none_when_it_is_off() {
        let picked = |one_in: u32| {
            let auditor = Auditor::new(one_in);
            (0..100).filter(|_| auditor.picks()).count()
        };
        assert_eq!([picked(10), picked(1), picked(0)], [10, 100, 0]);
    }

    #[test]
    fn a_missing_document_has_every_write_read_back_until_a_thousand_in_a_row_were_there() {
        let auditor = Auditor::new(1_000_000);
        assert!(auditor.picks() && !auditor.picks());
        assert_eq!(auditor.judge(&NAME, false, true), Finding::Missing);
        for _ in 0..500 {
            assert!(auditor.picks() && auditor.judge(&NAME, true, false) == Finding::There);
        }
        assert_eq!(auditor.judge(&NAME, false, true), Finding::Missing);
        for _ in 0..PROBATION {
            assert!(auditor.picks() && auditor.judge(&NAME, true, false) == Finding::There);
        }
        assert!(!auditor.picks());
        assert_eq!(auditor.snapshot().missing, 2);
    }

    #[test]
    fn what_we_have_removed_ourselves_is_not_missing() {
        let auditor = Auditor::new(1);
        auditor.watch(std::iter::once(NAME));
        auditor.removed([NAME, DocumentName([2; 20])].iter());
        assert_eq!(auditor.judge(&NAME, false, true), Finding::There);
        assert_eq!(auditor.judge(&NAME, false, true), Finding::Missing);
    }

    #[test]
    fn one_that_somebody_may_have_taken_is_no_alarm_before_it_is_missing_again() {
        let auditor = Auditor::new(1_000);
        assert_eq!(auditor.judge(&NAME, false, false), Finding::Suspect);
        assert_eq!((auditor.snapshot().missing, auditor.is_on_probation()), (0, false));
        assert_eq!(auditor.judge(&NAME, false, true), Finding::Missing);
        assert_eq!((auditor.snapshot().missing, auditor.is_on_probation()), (1, true));
    }
}
