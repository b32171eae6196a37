//! Bound sockets: an accept loop shared by all doors, connection slots, TLS, drain. (STAND-IN until the listeners' branch.)
mod config;
pub mod http;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

pub use config::{Config, TlsMode};

use crate::drain::{Drain, Phase};
use crate::limits::connections::Slots;
use http::door::Door;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's address, never a header's word.
    pub address: std::net::SocketAddr,
    /// Whether TLS ended here.
    pub tls: bool,
}

/// Stand-in.
#[derive(Debug, Clone)]
pub struct Listener {
    socket: Arc<tokio::net::TcpListener>,
    address: SocketAddr,
    slots: Arc<Slots>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Binds.
    pub fn bind(config: &Config) -> std::io::Result<Self> {
        let socket = std::net::TcpListener::bind(config.bind)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let address = socket.local_addr()?;
        let tls = match config.tls {
            TlsMode::Generated => Some(tls::generated(&config.generated_dir)?),
            _ => None,
        };
        Ok(Self { socket: Arc::new(socket), address, slots: Slots::new(config.max_connections, None), tls })
    }
    /// Address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// Open.
    pub fn open(&self) -> usize {
        self.slots.open()
    }
    /// Limit.
    pub fn limit(&self) -> usize {
        self.slots.limit()
    }
    /// Serves.
    pub async fn serve(&self, door: Arc<Door>, drain: &Drain) {
        let mut signal = drain.signal();
        loop {
            let (socket, address) = tokio::select! {
                () = signal.reached(Phase::Finishing) => return,
                accepted = self.socket.accept() => match accepted { Ok(a) => a, Err(_) => continue },
            };
            let _ = socket.set_nodelay(true);
            let Ok(slot) = self.slots.take(address.ip()) else { continue };
            let (door, tls, mut signal) = (Arc::clone(&door), self.tls.clone(), drain.signal());
            drain.tasks().spawn(async move {
                let _slot = slot;
                let peer = Peer { address, tls: tls.is_some() };
                let service = service_fn(move |request: Request<Incoming>| {
                    let (door, peer) = (Arc::clone(&door), peer.clone());
                    async move { Ok::<_, std::convert::Infallible>(door.handle(request, &peer).await) }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let graceful = hyper_util::server::graceful::GracefulShutdown::new();
                macro_rules! go { ($io:expr) => {{
                    let connection = builder.serve_connection(TokioIo::new($io), service);
                    let watched = graceful.watch(connection);
                    tokio::select! { r = watched => { let _ = r; }, () = async { signal.reached(Phase::Finishing).await; graceful.shutdown().await } => {} }
                }}; }
                match tls {
                    Some(tls) => if let Ok(io) = tokio_rustls::TlsAcceptor::from(tls).accept(socket).await { go!(io) },
                    None => go!(socket),
                }
            });
        }
    }
}
