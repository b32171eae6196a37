//! A connection's way from the socket to a door: who it is, TLS, and what it speaks.
//!
//! Each step has a deadline, and nothing was asked yet: the drain waits for a client's first word for a moment only. What has
//! no door behind this listener is closed without an answer, in no protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::config::{Config, DoorName, Place, TlsMode};
use super::http::serve::{Protocol, Server};
use super::sniff::{self, Spoken, TLS_HANDSHAKE};
use super::tls::Tls;
use super::{Peer, kafka, proxy};
use crate::drain::{FIRST_WORD, Signal};
use crate::limits::connections::Slot;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::ConnectionRefusal;

/// What is known of a connection when it comes to a door.
#[derive(Debug)]
pub struct Opening {
    /// Who is at the other end.
    pub peer: Peer,
    /// Where it connected to.
    pub local: SocketAddr,
    /// What was read of it already.
    pub read: BytesMut,
    /// By then it must have come to the point.
    pub deadline: Instant,
    /// Until then it has just come: a gate that stops waits for its first request.
    pub fresh_until: Instant,
}

/// The doors behind one listener; none: what speaks so is closed.
#[derive(Debug)]
pub(super) struct Doors {
    pub http: Option<Arc<Server>>,
    pub kafka: Option<Arc<kafka::Door>>,
}

/// How one listener takes connections in.
#[derive(Debug)]
pub(super) struct Rules {
    pub name: String,
    pub doors: Vec<DoorName>,
    pub tls: Option<Arc<Tls>>,
    plaintext: bool,
    proxies: Vec<IpNet>,
    /// Whether one address may have only so many connections. Behind a proxy that does not say whose they are, all come from one.
    counted: bool,
    head_timeout: Duration,
    handshake_timeout: Duration,
    /// Whether it was said that a trusted proxy sends no proper header.
    complained: AtomicBool,
}

/// A connection of which it is known what it speaks.
struct Arrived<S> {
    stream: S,
    spoken: Spoken,
    opening: Opening,
}

enum Begun {
    Tls(Box<Arrived<TlsStream<TcpStream>>>),
    Plain(Box<Arrived<TcpStream>>),
}

/// The two ends of a connection, as its client sees them.
struct Ends {
    client: SocketAddr,
    local: SocketAddr,
    fresh_until: Instant,
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, address: SocketAddr, mut slot: Slot, rules: &Rules, doors: &Doors, mut signal: Signal) {
    let fresh_until = Instant::now() + FIRST_WORD;
    // Each stage is boxed: a connection keeps the room of the stage that it is in, and of no other.
    let begun = tokio::select! {
        biased;
        begun = Box::pin(rules.begin(stream, address, fresh_until, &mut slot)) => begun,
        () = signal.closed_to_newcomers(fresh_until) => None,
    };
    match begun {
        Some(Begun::Tls(arrived)) => Box::pin(doors.open(*arrived)).await,
        Some(Begun::Plain(arrived)) => Box::pin(doors.open(*arrived)).await,
        None => {}
    }
}

impl Rules {
    pub(super) fn new(config: &Config, place: Place, tls: Option<Arc<Tls>>) -> Self {
        Self {
            name: place.name().to_owned(),
            counted: place.tls != TlsMode::Front || !place.proxy_protocol.is_empty(),
            doors: place.doors,
            plaintext: place.plaintext,
            proxies: place.proxy_protocol,
            tls,
            head_timeout: config.header_timeout.get(),
            handshake_timeout: config.handshake_timeout.get(),
            complained: AtomicBool::new(false),
        }
    }

    async fn begin(&self, mut stream: TcpStream, address: SocketAddr, fresh_until: Instant, slot: &mut Slot) -> Option<Begun> {
        // An answer is one write; waiting for more of it would only delay it.
        let _ = stream.set_nodelay(true);
        let ends = self.introduce(&mut stream, address, fresh_until).await?;
        if self.counted && slot.claim(ends.client.ip()).is_err() {
            return refuse(ends.client, ConnectionRefusal::Address);
        }
        match &self.tls {
            Some(tls) if !self.plaintext || self.starts_with_tls(&stream).await? => {
                let stream = tls.accept(stream).await?;
                Some(Begun::Tls(Box::new(self.within_tls(stream, ends).await?)))
            }
            _ => {
                let opening = self.opening(ends, false);
                Some(Begun::Plain(Box::new(told(stream, opening).await?)))
            }
        }
    }

    /// Asks a trusted proxy whose connection this is.
    async fn introduce(&self, stream: &mut TcpStream, address: SocketAddr, fresh_until: Instant) -> Option<Ends> {
        let local = stream.local_addr().ok()?;
        let own = Ends { client: address, local, fresh_until };
        let from = address.ip().to_canonical();
        if !self.proxies.iter().any(|network| network.contains(&from)) {
            return Some(own);
        }
        match proxy::read(stream, Instant::now() + self.head_timeout).await {
            Ok(said) => {
                self.complained.store(false, Ordering::Relaxed);
                Some(said.map_or(own, |ends| Ends { client: ends.source, local: ends.destination, fresh_until }))
            }
            Err(why) => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%address, listener = self.name, "a connection of a trusted proxy was closed: {why}");
                }
                refuse(address, ConnectionRefusal::Protocol)
            }
        }
    }

    /// Whether the first byte is that of a handshake. It stays where it is.
    async fn starts_with_tls(&self, stream: &TcpStream) -> Option<bool> {
        let mut first = [0];
        let peeked = timeout_at(Instant::now() + self.handshake_timeout, stream.peek(&mut first)).await;
        peeked.ok()?.ok().filter(|n| *n > 0).map(|_| first[0] == TLS_HANDSHAKE)
    }

    async fn within_tls(&self, stream: TlsStream<TcpStream>, ends: Ends) -> Option<Arrived<TlsStream<TcpStream>>> {
        let opening = self.opening(ends, true);
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            Some(_) => Protocol::Http1,
            None => return told(stream, opening).await,
        };
        Some(Arrived { stream, spoken: Spoken::Http(protocol), opening })
    }

    fn opening(&self, ends: Ends, tls: bool) -> Opening {
        let peer = Peer { address: ends.client, tls };
        let deadline = Instant::now() + self.head_timeout;
        Opening { peer, local: ends.local, read: BytesMut::new(), deadline, fresh_until: ends.fresh_until }
    }
}

/// Looks at the first bytes.
async fn told<S: AsyncRead + Unpin>(mut stream: S, opening: Opening) -> Option<Arrived<S>> {
    let (spoken, read) = sniff::sniff(&mut stream, opening.deadline).await?;
    Some(Arrived { stream, spoken, opening: Opening { read, ..opening } })
}

impl Doors {
    async fn open<S>(&self, arrived: Arrived<S>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Arrived { stream, spoken, opening } = arrived;
        match (spoken, &self.http, &self.kafka) {
            (Spoken::Http(protocol), Some(server), _) => Arc::clone(server).serve(stream, protocol, opening).await,
            (Spoken::Kafka, _, Some(door)) => {
                let Opening { peer, local, read, deadline, .. } = opening;
                let arrival = kafka::Arrival { peer, local, principal: None, read, deadline };
                // Boxed: no connection pays for the room that the other protocol needs.
                Box::pin(Arc::clone(door).serve(stream, arrival)).await;
            }
            _ => drop(refuse::<()>(opening.peer.address, ConnectionRefusal::Protocol)),
        }
    }
}

/// Counts a connection that is closed before a door.
fn refuse<T>(address: SocketAddr, reason: ConnectionRefusal) -> Option<T> {
    metrics().connections_refused.at(reason).inc();
    tracing::debug!(%address, reason = reason.as_str(), "a connection was closed before a door");
    None
}
