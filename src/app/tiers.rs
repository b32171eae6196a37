//! The two ends of the trunk, opened.

use std::sync::Arc;

use super::{StartError, settings};
use crate::config::Config;
use crate::drain::Drain;
use crate::event::Topic;
use crate::gate::Gates;
use crate::inbox::replay::Replay;
use crate::inbox::{Inbox, Kind};
use crate::ingest::TrunkTiers;
use crate::route::Table;
use crate::sink::Sink;
use crate::sink::catalog::Catalog;

/// The two ends of the trunk and what joins them: all that the commands need that serve nobody.
#[derive(Debug)]
pub struct Tiers {
    /// The order gates.
    pub gates: Arc<Gates>,
    /// The durable fallback.
    pub inbox: Arc<Inbox>,
    /// The broker.
    pub sink: Arc<Sink>,
    /// From the one to the other.
    pub replay: Arc<Replay>,
}

impl Tiers {
    /// Opens the inbox and makes the sink; nothing runs yet.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let gates = Arc::new(Gates::default());
        let inbox = Arc::new(Inbox::open(&config.inbox, settings::collections(config), &gates)?);
        let kept = (config.inbox.kind == Kind::Disk).then(|| config.inbox.dir.join("catalog.json"));
        let catalog = Catalog::open(kept, config.sink.catalog_refresh.get() * 3);
        let sink = Sink::new(settings::sink_settings(config), Arc::clone(&gates), catalog).map_err(StartError::Failed)?;
        let sink = Arc::new(sink.leaving(inbox.store_time()));
        let replay = Replay::new(Arc::clone(&inbox), Arc::clone(&sink));
        Ok(Self { gates, inbox, sink, replay })
    }

    /// What the trunk has of them.
    pub fn of_trunk(&self) -> TrunkTiers {
        TrunkTiers { sink: Arc::clone(&self.sink), inbox: Arc::clone(&self.inbox), replay: Arc::clone(&self.replay) }
    }

    /// Starts what runs in the background. Only topics that some route knows are looked at.
    pub fn start(&self, config: &Config, drain: &Drain) -> Result<(), StartError> {
        let table = Table::new(config.headers.clone(), config.routes.clone());
        let wanted = Arc::new(move |topic: &Topic| table.knows(topic));
        self.sink.start(drain, wanted).map_err(StartError::Failed)?;
        self.inbox.start(drain);
        if self.inbox.replays_by_itself() {
            drain.tasks().spawn(Arc::clone(&self.replay).run(drain.signal()));
        }
        Ok(())
    }
}
