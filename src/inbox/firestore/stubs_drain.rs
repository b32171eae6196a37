//! Until the drain side is there: nothing is replayed.

use super::Firestore;
use crate::event::Topic;
use crate::gate::TopicPartition;
use crate::inbox::row::{Place, Row};

impl Firestore {
    pub(in crate::inbox) fn lanes(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    pub(in crate::inbox) async fn look(&self) {}

    pub(in crate::inbox) async fn left(&self) -> u64 {
        0
    }

    pub(in crate::inbox) async fn claim(&self, _lane: &TopicPartition) -> bool {
        false
    }

    pub(in crate::inbox) async fn rows(&self, _lane: &TopicPartition, _limit: usize) -> Vec<Row> {
        Vec::new()
    }

    pub(in crate::inbox) async fn remove(&self, _rows: Vec<Place>) -> bool {
        false
    }

    pub(in crate::inbox) async fn refused(&self, _row: &Row, _aside: Option<&'static str>) {}

    pub(in crate::inbox) async fn assign(&self, _from: &TopicPartition, _rows: Vec<(Place, i32)>) -> bool {
        false
    }

    pub(in crate::inbox) async fn restore(&self, _topic: Option<Topic>) -> u64 {
        0
    }

    pub(in crate::inbox) async fn purge(&self, _topic: Option<Topic>, _only_poison: bool) -> u64 {
        0
    }
}
