//! Until the writer is there: nothing is taken.

use tokio::sync::oneshot;

use super::Firestore;
use crate::drain::Drain;
use crate::inbox::row::Parcel;
use crate::inbox::{Settlement, Snapshot, StoreError, Stored};
use crate::route::DocumentName;

impl Firestore {
    pub(in crate::inbox) fn start(&self, drain: &Drain) {
        let (client, signal) = (self.shared.client.clone(), drain.signal());
        tokio::spawn(async move { client.start(signal).await });
    }

    pub(in crate::inbox) fn takes(&self) -> bool {
        false
    }

    pub(in crate::inbox) fn store(&self, _parcel: Parcel) -> Result<oneshot::Receiver<Result<Stored, StoreError>>, StoreError> {
        Err(StoreError::Full)
    }

    pub(in crate::inbox) fn settle(&self, _name: DocumentName, _settlement: Settlement) {}

    pub(in crate::inbox) fn snapshot(&self) -> Snapshot {
        Snapshot { kind: "firestore", ..Snapshot::default() }
    }

    pub(in crate::inbox) async fn close(&self) {}
}
