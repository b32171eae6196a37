//! The disk inbox on a real disk: what is answered for is there, and what was delivered is gone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Collections, Inbox, not_before_ms};
use super::*;
use crate::event::EventId;
use crate::inbox::offline::Filter;
use crate::route::{Restored, Routed};
use crate::units::ByteSize;
use std::time::Duration;

fn topic() -> Topic {
    Topic::new("t").expect("a topic")
}

fn record(id: &str, value: &str) -> Arc<Routed> {
    Arc::new(Routed::restore(Restored {
        id: EventId::restore(id),
        topic: topic(),
        principal: "dev:me".into(),
        key: Some(Bytes::from_static(b"k")),
        headers: Vec::new(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        timestamp_ms: 1,
    }))
}

struct Store {
    inbox: Inbox,
    gates: Arc<Gates>,
}

impl Store {
    fn open(dir: &Path) -> Self {
        let gates = Arc::new(Gates::default());
        let config = Config { dir: dir.to_owned(), allow_volatile: true, ..Config::default() };
        Self { inbox: Inbox::open(&config, Collections::default(), &gates).expect("it opens"), gates }
    }

    fn parcel(&self, id: &str, arrival: u64, not_before_ms: i64) -> Parcel {
        let routed = record(id, "v");
        Parcel {
            name: routed.name(),
            content: row::Content::Event(routed),
            arrival,
            not_before_ms,
            maybe: not_before_ms > 0,
            owed: self.gates.owe(&topic(), 0),
        }
    }

    async fn store(&self, id: &str, arrival: u64, not_before_ms: i64) -> Result<Stored, StoreError> {
        self.inbox.store(self.parcel(id, arrival, not_before_ms)).expect("room").await.expect("an answer")
    }

    async fn ids(&self) -> Vec<String> {
        let rows = self.inbox.rows(&(topic(), 0), 100).await;
        rows.iter().map(|row| row.content.as_ref().expect("a record").id().to_string()).collect()
    }
}

#[tokio::test]
async fn rows_come_back_by_arrival_and_are_gone_when_they_are_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    for (id, arrival) in [("b", 2), ("a", 1), ("c", 3)] {
        store.store(id, arrival, 0).await.expect("stored");
    }
    assert_eq!(store.ids().await, ["a", "b", "c"]);
    assert!(!store.gates.is_open(&topic(), 0));
    let names = store.inbox.rows(&(topic(), 0), 2).await.iter().map(|row| row.place.clone()).collect();
    assert!(store.inbox.remove(names).await);
    assert_eq!(store.ids().await, ["c"]);
    assert_eq!(store.gates.owed(&topic(), 0), 1);
}

#[tokio::test]
async fn a_late_removal_does_not_touch_the_row_that_came_after_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    store.store("first", 1, 0).await.expect("stored");
    let first = store.inbox.rows(&(topic(), 0), 1).await[0].place.clone();
    assert_eq!(store.inbox.purge(None, false).await, 1);
    store.store("second", 2, 0).await.expect("stored");
    assert!(store.inbox.remove(vec![first]).await);
    assert_eq!((store.ids().await, store.gates.owed(&topic(), 0)), (vec!["second".to_owned()], 1));
}

#[tokio::test]
async fn the_same_event_again_is_success_and_one_row() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let first = store.store("a", 1, 0).await.expect("stored");
    let again = store.store("a", 2, 0).await.expect("stored");
    assert_eq!(first, again);
    assert_eq!((store.ids().await.len(), store.gates.total()), (1, 1));
}

#[tokio::test]
async fn a_late_success_deletes_the_row_and_a_late_failure_makes_it_ready() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let ahead = not_before_ms(Duration::from_secs(60));
    let late = store.parcel("late", 1, ahead);
    let name = late.name;
    let stored = store.inbox.store(late).expect("room");
    store.inbox.settle(name, Settlement::Delivered);
    stored.await.expect("an answer").expect("stored");
    store.store("lost", 2, ahead).await.expect("stored");
    assert_eq!(store.ids().await, ["lost"]);
    store.inbox.settle(record("lost", "v").name(), Settlement::NotDelivered { maybe: true });
    store.store("next", 3, 0).await.expect("stored");
    let rows = store.inbox.rows(&(topic(), 0), 10).await;
    assert_eq!((rows[0].not_before_ms, rows[0].maybe), (0, true));
}

#[tokio::test]
async fn a_row_that_is_refused_too_often_is_set_aside_kept_and_can_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    store.store("bad", 1, 0).await.expect("stored");
    let row = &store.inbox.rows(&(topic(), 0), 1).await[0];
    store.inbox.refused(row, Some("too_large")).await;
    store.store("good", 2, 0).await.expect("stored");
    assert_eq!(store.ids().await, ["good"]);
    assert_eq!(store.gates.owed(&topic(), 0), 1);
    let aside = offline::list(dir.path(), &Filter { poison: true, ..Filter::default() }).expect("readable");
    assert_eq!((aside[0].id.as_str(), aside[0].reason.as_deref(), aside[0].attempts), ("bad", Some("too_large"), 1));
    assert_eq!(store.inbox.restore(None).await, 1);
    assert_eq!(store.ids().await, ["bad", "good"]);
    assert_eq!(store.gates.owed(&topic(), 0), 2);
    assert_eq!(store.inbox.purge(None, false).await, 2);
    assert!(store.gates.is_open(&topic(), 0));
}

#[tokio::test]
async fn the_next_process_finds_everything_ready_and_its_gates_closed() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = Store::open(dir.path());
    first.store("a", 7, not_before_ms(Duration::from_secs(60))).await.expect("stored");
    first.inbox.close().await;
    drop(first);
    let second = Store::open(dir.path());
    let rows = second.inbox.rows(&(topic(), 0), 10).await;
    assert_eq!((rows[0].place.arrival, rows[0].not_before_ms, rows[0].maybe), (7, 0, true));
    assert!(!second.gates.is_open(&topic(), 0));
    assert!(second.gates.arrivals(1) > 7);
}

#[tokio::test]
async fn rows_without_a_partition_find_it_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let parcel = Parcel { owed: store.gates.owe(&topic(), crate::gate::UNASSIGNED), ..store.parcel("a", 1, 0) };
    store.inbox.store(parcel).expect("room").await.expect("an answer").expect("stored");
    let rows = store.inbox.rows(&(topic(), crate::gate::UNASSIGNED), 10).await;
    assert!(store.inbox.assign(&(topic(), crate::gate::UNASSIGNED), vec![(rows[0].place.clone(), 4)]).await);
    assert!(store.gates.is_open(&topic(), 0));
    assert!(!store.gates.is_open(&topic(), 4));
}

#[tokio::test]
async fn beyond_its_budget_it_takes_nothing_and_the_gate_is_not_left_closed() {
    let dir = tempfile::tempdir().expect("a folder");
    let gates = Arc::new(Gates::default());
    let config = Config { dir: dir.path().to_owned(), allow_volatile: true, max_bytes: ByteSize::bytes(1), ..Config::default() };
    let store = Store { inbox: Inbox::open(&config, Collections::default(), &gates).expect("it opens"), gates };
    assert_eq!(store.store("a", 1, 0).await, Err(StoreError::Full));
    assert!(store.gates.is_open(&topic(), 0));
    assert!(!store.inbox.takes());
}

#[test]
fn a_folder_has_one_owner_and_nobody_else_may_write_in_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = Folder::lock(dir.path(), true).expect("ours");
    assert!(matches!(Folder::lock(dir.path(), true), Err(OpenError::InUse(_))));
    drop(first);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("our folder");
    assert!(matches!(Folder::lock(dir.path(), true), Err(OpenError::Untrusted { .. })));
}

#[test]
fn its_files_are_for_its_owner_alone_and_a_link_is_not_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(Store::open(dir.path()));
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!((mode("inbox.db"), mode("lock")), (0o600, 0o600));
    let other = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(dir.path().join("inbox.db"), other.path().join("inbox.db")).expect("a link");
    let folder = Folder::lock(other.path(), true).expect("ours");
    assert!(matches!(folder.open_writer(), Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn a_person_can_list_and_read_what_is_in_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path());
    let stored = store.store("a", 1, 0).await.expect("stored");
    store.store("held", 2, not_before_ms(Duration::from_secs(60))).await.expect("stored");
    let listed = offline::list(dir.path(), &Filter::default()).expect("readable");
    assert_eq!(listed.iter().map(|entry| entry.state).collect::<Vec<_>>(), ["ready", "held"]);
    for wanted in [stored.name.as_str(), "a"] {
        let shown = offline::show(dir.path(), wanted).expect("readable").expect("there");
        let record = shown.record.expect("an event");
        assert_eq!((shown.entry.id.as_str(), record.value.as_deref(), record.key.as_deref()), ("a", Some("v"), Some("k")));
    }
    assert!(offline::show(dir.path(), "nobody").expect("readable").is_none());
}
