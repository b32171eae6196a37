//! A switch on the way to a server: closed, nobody gets through and who was connected is cut off; opened, it is as before.
//!
//! What always holds: one port for its whole life; bytes pass as they are. A server that is told to call itself by the
//! switch's port is away and back at once, where a process takes seconds to start.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::{START_DEADLINE, eventually, free_port};

/// The switch, until it is dropped.
pub struct Switch {
    port: u16,
    server: u16,
    /// Dropped, it ends all that goes through.
    open: Option<watch::Sender<()>>,
}

impl Switch {
    /// One that nobody gets through yet: where it leads to is known later than its own port.
    pub fn new() -> Self {
        Self { port: free_port(), server: 0, open: None }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets everybody through to a port of loopback.
    pub async fn lead_to(&mut self, server: u16) {
        self.server = server;
        self.open().await;
    }

    /// Lets everybody through again.
    pub async fn open(&mut self) {
        let listener = eventually("the switch has its port again", START_DEADLINE, async || listen(self.port)).await;
        let (open, closed) = watch::channel(());
        self.open = Some(open);
        tokio::spawn(accept(listener, self.server, closed));
    }

    /// Cuts everybody off.
    pub fn close(&mut self) {
        self.open = None;
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    let socket = TcpSocket::new_v4().expect("a socket");
    // What was cut off may still linger on the port.
    socket.set_reuseaddr(true).expect("a socket of ours");
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).ok()?;
    socket.listen(1024).ok()
}

async fn accept(listener: TcpListener, server: u16, mut closed: watch::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => return,
        };
        let Ok((client, _)) = accepted else { continue };
        tokio::spawn(relay(client, server, closed.clone()));
    }
}

async fn relay(mut client: TcpStream, server: u16, mut closed: watch::Receiver<()>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = closed.changed() => {}
    }
}
