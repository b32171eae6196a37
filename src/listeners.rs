//! Bound sockets: an accept loop shared by all doors, connection slots, TLS, drain.
//!
//! A connection is a task that the drain waits for. It has a slot before its first byte is read, and a deadline for
//! everything that its client may take its time with.

mod config;
pub mod http;
pub mod kafka;
mod sniff;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

pub use config::{Config, TlsMode};

use crate::drain::{Drain, Phase};
use crate::limits::connections::{Full, Slots};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::ConnectionRefusal;
use http::door::Door;
use http::serve::{Protocol, Server};
use tls::Tls;

/// Connections that wait to be accepted; the kernel's own bound (`net.core.somaxconn`) may be lower.
const BACKLOG: u32 = 4_096;

/// Before accepting is tried again when it failed for want of something.
const BACK_OFF: Duration = Duration::from_millis(100);

/// File descriptors for the rest: the broker's connections, the inbox, the admin listener, logs.
const KEPT_DESCRIPTORS: u64 = 256;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's address, never a header's word.
    pub address: SocketAddr,
    /// Whether TLS ended here.
    pub tls: bool,
}

/// A bound socket, and what its connections are bounded by. Clones are the same listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Taken by the one who serves it, so that it is closed when serving ends.
    socket: Arc<Mutex<Option<TcpListener>>>,
    address: SocketAddr,
    slots: Arc<Slots>,
    tls: Option<Arc<Tls>>,
    config: Arc<Config>,
}

impl Listener {
    /// Binds the socket and reads the certificate. Fails when one of them cannot be had; the text says what to do.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let tls = Tls::new(config)?.map(Arc::new);
        let socket = listen(config.bind)
            .map_err(|error| io::Error::new(error.kind(), format!("`listeners.bind`: cannot listen on {}: {error}", config.bind)))?;
        let total = affordable(config.max_connections);
        // Behind a proxy all connections come from one address.
        let each = (config.tls != TlsMode::Front).then_some(config.max_connections_per_address);
        Ok(Self {
            address: socket.local_addr()?,
            socket: Arc::new(Mutex::new(Some(socket))),
            slots: Slots::new(total, each),
            tls,
            config: Arc::new(config.clone()),
        })
    }

    /// The address as it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.slots.open()
    }

    /// Connections that may be open at once.
    pub fn limit(&self) -> usize {
        self.slots.limit()
    }

    /// Serves until the drain finishes; then the socket is closed. The connections that are open by then end as tasks of
    /// the drain.
    pub async fn serve(&self, door: Arc<Door>, drain: &Drain) {
        let taken = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(socket) = taken else { return };
        let server = Arc::new(Server::new(door, &self.config, drain.clone()));
        if let Some(tls) = &self.tls {
            tokio::spawn(Arc::clone(tls).watch(self.config.certificate_poll.get(), drain.signal()));
        }
        let mut signal = drain.signal();
        let mut starved = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = signal.reached(Phase::Finishing) => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    starved = false;
                    self.take_in(stream, address, &server, drain);
                }
                Err(error) => hold_on(&error, &mut starved).await,
            }
        }
    }

    fn take_in(&self, stream: TcpStream, address: SocketAddr, server: &Arc<Server>, drain: &Drain) {
        metrics().connections_accepted.inc();
        let slot = match self.slots.take(address.ip()) {
            Ok(slot) => slot,
            Err(full) => {
                let reason = match full {
                    Full::Total => ConnectionRefusal::Limit,
                    Full::Address => ConnectionRefusal::Address,
                };
                metrics().connections_refused.at(reason).inc();
                return tracing::debug!(%address, reason = reason.as_str(), "no slot for a connection; it was closed");
            }
        };
        let (server, tls, config, mut signal) = (Arc::clone(server), self.tls.clone(), Arc::clone(&self.config), drain.signal());
        drain.tasks().spawn(async move {
            let _slot = slot;
            let begun = tokio::select! {
                begun = begin(stream, tls, &config) => begun,
                // Nothing was asked here yet: the drain does not wait for a client to find its first word.
                () = signal.reached(Phase::Finishing) => None,
            };
            match begun {
                Some(Begun::Tls(stream, protocol, deadline)) => {
                    let peer = Peer { address, tls: true };
                    server.serve(*stream, BytesMut::new(), protocol, peer, deadline).await;
                }
                Some(Begun::Plain(stream, read, protocol, deadline)) => {
                    server.serve(stream, read, protocol, Peer { address, tls: false }, deadline).await;
                }
                None => {}
            }
        });
    }
}

/// A connection of which it is known what it speaks, and when its first head must be there.
enum Begun {
    Tls(Box<TlsStream<TcpStream>>, Protocol, Instant),
    Plain(TcpStream, BytesMut, Protocol, Instant),
}

/// TLS, or a look at the first bytes.
async fn begin(mut stream: TcpStream, tls: Option<Arc<Tls>>, config: &Config) -> Option<Begun> {
    // An answer is one write; waiting for more of it would only delay it.
    let _ = stream.set_nodelay(true);
    if let Some(tls) = tls {
        let stream = tls.accept(stream).await?;
        let protocol = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        return Some(Begun::Tls(Box::new(stream), protocol, Instant::now() + config.header_timeout.get()));
    }
    let deadline = Instant::now() + config.header_timeout.get();
    let (protocol, read) = sniff::sniff(&mut stream, deadline).await?;
    Some(Begun::Plain(stream, read, protocol, deadline))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    // A restarted gate must not wait for its own last connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// An accept that failed: the client's fault is nothing; a want of ours passes, and is said once.
async fn hold_on(error: &io::Error, starved: &mut bool) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        return;
    }
    metrics().connections_refused.at(ConnectionRefusal::Descriptors).inc();
    if !*starved {
        tracing::error!(%error, "no connection can be accepted now; they wait. More open files (`ulimit -n`) may be needed");
    }
    *starved = true;
    tokio::time::sleep(BACK_OFF).await;
}

/// Connections that the process has file descriptors for, `wanted` at most. The limit is raised as far as it may be.
fn affordable(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = (wanted as u64).saturating_add(KEPT_DESCRIPTORS);
    let mut current = limit.current.unwrap_or(u64::MAX);
    let most = limit.maximum.unwrap_or(u64::MAX).min(needed);
    if current < most && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).is_ok() {
        current = most;
    }
    let total = within(wanted, current);
    if total < wanted {
        tracing::warn!(
            files = current,
            connections = total,
            wanted,
            "`listeners.max_connections` is lowered to what the process may have open; raise `ulimit -n` or lower it"
        );
    }
    total
}

fn within(wanted: usize, descriptors: u64) -> usize {
    let kept = KEPT_DESCRIPTORS.min(descriptors / 4);
    usize::try_from(descriptors - kept).unwrap_or(usize::MAX).min(wanted).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(within(10_000, 1_048_576), 10_000);
        assert_eq!(within(10_000, 1_024), 768);
        assert_eq!(within(10_000, 64), 48);
        assert_eq!(within(1, 0), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn want_of_descriptors_backs_off_and_a_client_that_left_does_not() {
        let (mut starved, begun) = (false, Instant::now());
        hold_on(&io::ErrorKind::ConnectionAborted.into(), &mut starved).await;
        assert!(!starved && begun.elapsed().is_zero());
        hold_on(&io::Error::from_raw_os_error(24), &mut starved).await;
        assert!(starved);
        assert_eq!(begun.elapsed(), BACK_OFF);
    }
}
