//! The admin listener's sockets: bound early, served with deadlines, bounded in number.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Admin, Config, Ends};
use crate::telemetry::metrics;
use crate::telemetry::metrics::labels::{Bound, Door};

/// Connections at one time; one more is closed at once.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// For a request head, and for the pause between two requests.
    pub(super) head: Duration,
    /// A connection is asked to end after this,
    pub(super) age: Duration,
    /// and cut after so much more, so that a reader who has stopped holds no slot.
    pub(super) grace: Duration,
}

const DEADLINES: Deadlines = Deadlines { head: Duration::from_secs(10), age: Duration::from_secs(60), grace: Duration::from_secs(10) };
/// The pause after a failed accept (no descriptors left, for example).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the admin listener, if there is one.
pub async fn bind(config: &Config) -> Result<Option<TcpListener>, String> {
    if !config.enabled {
        return Ok(None);
    }
    let taken = |fault: io::Error| {
        format!("admin.bind: {} cannot be bound ({fault}); stop what listens there, or choose another address and port", config.bind)
    };
    TcpListener::bind(config.bind).await.map(Some).map_err(taken)
}

impl Admin {
    /// Serves until it is dropped: the owner ends it last of all, after the drain.
    pub async fn serve(self, listener: TcpListener) {
        self.serve_within(listener, DEADLINES).await;
    }

    pub(super) async fn serve_within(self, listener: TcpListener, deadlines: Deadlines) {
        let admin = Arc::new(self);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (socket, ends) = match accept(&listener).await {
                Ok(accepted) => accepted,
                Err(fault) => {
                    tracing::debug!(%fault, "the admin listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                metrics().bound_refusals.at(Bound::AdminConnections).inc();
                continue;
            };
            let admin = Arc::clone(&admin);
            connections.spawn(async move {
                admin.serve_connection(socket, ends, deadlines).await;
                drop(slot);
            });
        }
    }

    async fn serve_connection(self: Arc<Self>, socket: TcpStream, ends: Ends, deadlines: Deadlines) {
        let service = service_fn(|request| async {
            let begun = Instant::now();
            let answer = self.answer(request, ends).await;
            metrics().request(Door::Admin, answer.status().as_u16(), begun.elapsed());
            Ok::<_, Infallible>(answer)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(deadlines.head).max_buf_size(16 * 1024);
        let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service));
        // However a connection ends, nothing of the gate's depends on it.
        if tokio::time::timeout(deadlines.age, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(deadlines.grace, connection).await;
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Ends)> {
    let (socket, peer) = listener.accept().await?;
    let bound: SocketAddr = listener.local_addr()?;
    socket.set_nodelay(true)?;
    Ok((socket, Ends { peer, bound }))
}
