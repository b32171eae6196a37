//! A link between a gate and one broker whose state is a test's to choose: well, slow, cut, a black hole, or deaf.
//!
//! What always holds: one port for its whole life; bytes pass as they are and in order, or not at all, and a connection
//! of which bytes were swallowed is cut before anything else passes. A broker behind it must call itself by its port
//! (`advertised`), else clients go past it after their first question.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What a link does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything passes.
    Well,
    /// Everything passes, so much later, each way.
    Slow(Duration),
    /// Connections are taken and held, and nothing passes either way.
    BlackHole,
    /// What clients say passes; what they are answered does not.
    Deaf,
    /// Whoever is connected or connects is cut off.
    Cut,
}

/// A link, until it is dropped.
pub struct Cable {
    port: u16,
    server: watch::Sender<u16>,
    state: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Cable {
    /// One that leads nowhere yet: where to is known later than its own port.
    pub async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let (server, led) = watch::channel(0);
        let (state, seen) = watch::channel(Link::Well);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, state) = (*led.borrow(), seen.clone());
                tokio::spawn(serve(client, server, state));
            }
        });
        Self { port, server, state, accepting }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The property by which the broker behind it calls itself by its name.
    pub fn advertised(&self) -> (&'static str, String) {
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{}", self.port))
    }

    /// Where it leads.
    pub fn lead_to(&self, port: u16) {
        self.server.send_replace(port);
    }

    /// From now on it does this.
    pub fn turn(&self, link: Link) {
        self.state.send_replace(link);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.accepting.abort();
        self.state.send_replace(Link::Cut);
    }
}

/// One direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Asked,
    Told,
}

async fn serve(client: TcpStream, server: u16, mut state: watch::Receiver<Link>) {
    if state.wait_for(|link| *link != Link::BlackHole).await.is_err() || *state.borrow() == Link::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cut = async {
        let mut state = state.clone();
        // The end of the link itself ends its connections too.
        let _ = state.wait_for(|link| *link == Link::Cut).await;
    };
    tokio::select! {
        () = pass(from_client, to_server, Way::Asked, state.clone()) => {}
        () = pass(from_server, to_client, Way::Told, state.clone()) => {}
        () = cut => {}
    }
}

/// Pieces of at most 64 KiB that are on their way; a sender of more waits, as it would on a real one.
const WAITING: usize = 4_096;

/// Passes on what comes, when it is due.
async fn pass(mut from: OwnedReadHalf, to: OwnedWriteHalf, way: Way, mut state: watch::Receiver<Link>) {
    let (sent, due) = mpsc::channel(WAITING);
    let reading = async {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            let link = *state.borrow_and_update();
            match link {
                Link::BlackHole => return swallow(from, &mut state).await,
                Link::Deaf if way == Way::Told => return swallow(from, &mut state).await,
                Link::Cut => return,
                Link::Well | Link::Slow(_) | Link::Deaf => {}
            }
            let later = if let Link::Slow(delay) = link { delay } else { Duration::ZERO };
            if sent.send((Instant::now() + later, Bytes::copy_from_slice(&chunk[..n]))).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = deliver(to, due) => {}
    }
}

async fn deliver(mut to: OwnedWriteHalf, mut due: mpsc::Receiver<(Instant, Bytes)>) {
    while let Some((at, bytes)) = due.recv().await {
        tokio::time::sleep_until(at).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Takes what comes and passes nothing on, until the link is another one; then the connection has a hole, and ends.
async fn swallow(mut from: OwnedReadHalf, state: &mut watch::Receiver<Link>) {
    let mut chunk = vec![0; 64 << 10];
    loop {
        tokio::select! {
            _ = state.changed() => return,
            read = from.read(&mut chunk) => if !matches!(read, Ok(1..)) { return },
        }
    }
}
