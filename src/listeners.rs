//! Bound sockets: an accept loop shared by all doors, connection slots, TLS, drain.
//!
//! A connection is a task that the drain waits for. It has a slot before its first byte is read, and a deadline for
//! everything that its client may take its time with. All listeners are bound before one of them is served.

mod arrival;
mod config;
pub mod http;
pub mod kafka;
pub mod otlp;
mod proxy;
mod sniff;
pub mod tls;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};

pub use arrival::Opening;
pub use config::{Config, DoorName, MAIN, Place, TlsMode};

use crate::drain::{Drain, Phase};
use crate::limits::connections::Slots;
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::ConnectionRefusal;
use arrival::Rules;
use http::serve::{Behind, Server};
use tls::Tls;

/// Connections that wait to be accepted; the kernel's own bound (`net.core.somaxconn`) may be lower.
const BACKLOG: u32 = 4_096;

/// Before accepting is tried again when it failed for want of something.
const BACK_OFF: Duration = Duration::from_millis(100);

/// File descriptors for the rest: the broker's connections, the inbox, the admin listener, logs.
const KEPT_DESCRIPTORS: u64 = 256;

/// A client that vanished without a word is asked for after so long without one.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's address, or the one that a trusted proxy has put before the connection.
    pub address: SocketAddr,
    /// Whether TLS ended here, or in front of us by the word of who is trusted there.
    pub tls: bool,
}

/// Every bound socket, and what their connections are bounded by together. Clones are the same sockets.
#[derive(Debug, Clone)]
pub struct Listeners {
    all: Arc<[Listener]>,
    slots: Arc<Slots>,
    config: Arc<Config>,
}

/// One bound socket.
#[derive(Debug)]
pub struct Listener {
    /// Taken by the one who serves it, so that it is closed when serving ends.
    socket: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    mode: TlsMode,
    rules: Arc<Rules>,
}

/// The doors that connections are handed to.
#[derive(Debug)]
pub struct Doors {
    /// HTTP, and Kafka over WebSocket in it.
    pub http: Arc<http::door::Door>,
    /// Kafka.
    pub kafka: Arc<kafka::Door>,
    /// OTLP; none: switched off.
    pub otlp: Option<Arc<otlp::Door>>,
}

impl Listeners {
    /// Binds every socket and reads every certificate. Fails when one of them cannot be had; the text says what to do.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let mut certificates = tls::Certificates::new(config);
        let all = config.places().into_iter().map(|place| Listener::bind(config, place, &mut certificates));
        let all = all.collect::<io::Result<Vec<_>>>()?;
        let slots = Slots::new(affordable(config.max_connections), config.max_connections_per_address);
        Ok(Self { all: all.into(), slots, config: Arc::new(config.clone()) })
    }

    /// The address of the first one, as it is bound.
    pub fn address(&self) -> SocketAddr {
        self.all[0].address
    }

    /// All of them; the one of the section itself is the first.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.all.iter()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.slots.open()
    }

    /// Connections that may be open at once.
    pub fn limit(&self) -> usize {
        self.slots.limit()
    }

    /// Serves until the drain finishes; then the sockets are closed. The connections that are open by then end as tasks of
    /// the drain.
    pub async fn serve(&self, doors: Doors, drain: &Drain) {
        let mut watched: Vec<&Arc<Tls>> = Vec::new();
        for tls in self.all.iter().filter_map(|listener| listener.rules.tls.as_ref()) {
            if !watched.iter().any(|seen| Arc::ptr_eq(seen, tls)) {
                tokio::spawn(Arc::clone(tls).watch(self.config.certificate_poll.get(), drain.signal()));
                watched.push(tls);
            }
        }
        join_all(self.all.iter().map(|listener| listener.serve(self, &doors, drain))).await;
    }
}

impl Listener {
    fn bind(config: &Config, place: Place, certificates: &mut tls::Certificates) -> io::Result<Self> {
        let tls = certificates.tls(&place)?;
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("`listeners.{}bind`: cannot listen on {}: {error}", place.key, place.bind))
        };
        let socket = listen(place.bind).map_err(failed)?;
        Ok(Self {
            address: socket.local_addr()?,
            socket: Mutex::new(Some(socket)),
            mode: place.tls,
            rules: Arc::new(Rules::new(config, place, tls)),
        })
    }

    /// What the operator calls it.
    pub fn name(&self) -> &str {
        &self.rules.name
    }

    /// The address as it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who ends TLS here.
    pub fn tls(&self) -> TlsMode {
        self.mode
    }

    /// Whether this door is behind it.
    pub fn has(&self, door: DoorName) -> bool {
        self.rules.doors.contains(&door)
    }

    async fn serve(&self, all: &Listeners, doors: &Doors, drain: &Drain) {
        let taken = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(socket) = taken else { return };
        let doors = Arc::new(self.behind(all, doors, drain));
        let mut signal = drain.signal();
        let mut starved = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = signal.reached(Phase::Finishing) => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    starved = false;
                    self.take_in(stream, address, all, &doors, drain);
                }
                Err(error) => hold_on(&error, &mut starved).await,
            }
        }
        self.take_in_the_last(socket, all, &doors, drain);
    }

    /// Who is connected by the kernel's word when the socket closes may have sent a request.
    fn take_in_the_last(&self, socket: TcpListener, all: &Listeners, doors: &Arc<arrival::Doors>, drain: &Drain) {
        // Not by the runtime, which knows only what it has polled, and takes so many at a time. The socket still does not block.
        let Ok(socket) = socket.into_std() else { return };
        for _ in 0..BACKLOG {
            match socket.accept() {
                Ok((stream, address)) => {
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    if let Ok(stream) = stream {
                        self.take_in(stream, address, all, doors, drain);
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// The doors behind this listener. OTLP is spoken in HTTP: one server has both. The WebSocket leads from the HTTP door to
    /// the Kafka door, so it is where these two are.
    fn behind(&self, all: &Listeners, doors: &Doors, drain: &Drain) -> arrival::Doors {
        let kafka = self.has(DoorName::Kafka).then(|| Arc::clone(&doors.kafka));
        let behind = Behind {
            door: self.has(DoorName::Http).then(|| Arc::clone(&doors.http)),
            guest: doors.otlp.as_ref().filter(|_| self.has(DoorName::Otlp)).map(|door| otlp::guest(Arc::clone(door))),
        };
        let http = (behind.door.is_some() || behind.guest.is_some()).then(|| {
            let leads_on = kafka.as_ref().filter(|_| behind.door.is_some());
            let tunnels = leads_on.map(|door| websocket::tunnels(Arc::clone(door), drain.signal(), all.config.header_timeout.get()));
            Arc::new(Server::new(behind, &all.config, drain.clone(), tunnels))
        });
        arrival::Doors { http, kafka }
    }

    fn take_in(&self, stream: TcpStream, address: SocketAddr, all: &Listeners, doors: &Arc<arrival::Doors>, drain: &Drain) {
        metrics().connections_accepted.inc();
        let Ok(slot) = all.slots.take() else {
            metrics().connections_refused.at(ConnectionRefusal::Limit).inc();
            return tracing::debug!(%address, "no slot for a connection; it was closed");
        };
        let (rules, doors, signal) = (Arc::clone(&self.rules), Arc::clone(doors), drain.signal());
        drain.tasks().spawn(async move { arrival::serve(stream, address, slot, &rules, &doors, signal).await });
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    // A restarted gate must not wait for its own last connections to be forgotten.
    socket.set_reuseaddr(true)?;
    // Connections take this over from the socket that they were accepted by.
    set_socket_keepalive(&socket, true)?;
    set_tcp_keepidle(&socket, KEEP_ALIVE_AFTER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// An accept that failed: the client's fault is nothing; a want of ours passes, and is said once.
async fn hold_on(error: &io::Error, starved: &mut bool) {
    if is_the_clients(error) {
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
    use tokio::time::Instant;

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
