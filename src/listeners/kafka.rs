//! The Kafka door: any producer, one address. It decodes, asks the trunk, and answers; it decides nothing.
//!
//! To a client it is a whole cluster of one broker: it finds here [what is spoken](api), [who may](sasl), [where topics
//! are](metadata) (always here), a [producer id](init_producer_id), and a place for its [batches](produce). What always
//! holds: before authentication nothing but authentication is served; requests are begun and answered in the order in which
//! they came; every count is checked before it is believed, and nothing is allocated by one; every wait has an end.
//!
//! `docs/kafka.md` says what each client is told.

mod answer;
mod api;
mod api_versions;
mod body;
mod cluster;
mod config;
mod connection;
mod consumers;
mod frames;
mod init_producer_id;
mod metadata;
mod produce;
mod replies;
mod reply;
mod room;
mod sasl;
mod session;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

pub use config::Config;

use super::Peer;
use crate::auth::{Authenticator, Principal};
use crate::drain::Drain;
use crate::ingest::Ingest;
use crate::limits::inflight::Meter;
use room::Room;

/// What stands behind the door.
#[derive(Debug)]
pub struct DoorParts {
    /// The trunk.
    pub ingest: Arc<Ingest>,
    /// Says who is there.
    pub authenticator: Arc<Authenticator>,
    /// Room for requests.
    pub meter: Arc<Meter>,
    /// The orderly stop.
    pub drain: Drain,
}

/// A connection that speaks Kafka, as the listener hands it over.
#[derive(Debug)]
pub struct Arrival {
    /// Who is at the other end.
    pub peer: Peer,
    /// Our own end: what is advertised unless something else is configured.
    pub local: SocketAddr,
    /// Who it is, where that is known already (a token on a WebSocket's upgrade).
    pub principal: Option<Principal>,
    /// What was read of it already.
    pub read: BytesMut,
    /// By then it must be authenticated.
    pub deadline: Instant,
}

/// The door. One for all connections.
#[derive(Debug)]
pub struct Door {
    parts: DoorParts,
    config: Config,
    room: Room,
    connections: AtomicU64,
}

impl Door {
    /// A door to these parts that is configured so.
    pub fn new(parts: DoorParts, config: Config) -> Self {
        let room = Room::new(&parts.meter);
        Self { parts, config, room, connections: AtomicU64::new(0) }
    }

    /// Serves one connection to its end. The drain is watched here: what is in flight is answered, then it is closed.
    pub async fn serve<S>(self: Arc<Self>, stream: S, arrival: Arrival)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        connection::serve(self, stream, arrival).await;
    }

    /// A number of its own for each connection.
    fn number(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a client whose connection ends at `local` is told to connect to.
    fn advertised(&self, local: SocketAddr) -> (String, u16) {
        let host = match self.config.advertised_host.as_str() {
            "" => local.ip().to_canonical().to_string(),
            host => host.to_owned(),
        };
        let port = if self.config.advertised_port == 0 { local.port() } else { self.config.advertised_port };
        (host, port)
    }
}
