//! Bound sockets: an accept loop shared by all doors, connection slots, TLS, drain.

pub mod http;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's address, never a header's word.
    pub address: std::net::SocketAddr,
    /// Whether TLS ended here.
    pub tls: bool,
}
