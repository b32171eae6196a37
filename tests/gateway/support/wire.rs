//! Bytes over a socket, for what no well-behaved client would send.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::DEADLINE;
use super::gate::Gate;

/// Any stream that bytes go over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection to a gate's HTTPS door, TLS where the gate speaks it.
pub struct Wire {
    stream: Box<dyn Stream>,
}

impl Wire {
    /// Connects; `protocol` is what ALPN offers: `http/1.1` or `h2`.
    pub async fn connect(gate: &Gate, protocol: &str) -> Self {
        let plain = Self::plain(gate.https).await;
        let Some(ca) = gate.ca() else { return plain };
        plain.secured(&ca, Some(protocol)).await
    }

    /// Connects to an address, in plain text.
    pub async fn plain(address: SocketAddr) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.expect("the door is open")) }
    }

    /// TLS on what is connected already. Without a protocol, ALPN is not offered, as Kafka's clients do.
    pub async fn secured(self, ca: &Path, protocol: Option<&str>) -> Self {
        let mut tls = tls_config(Some(ca));
        tls.alpn_protocols = protocol.map(|protocol| protocol.as_bytes().to_vec()).into_iter().collect();
        let name = "localhost".try_into().expect("a name");
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, self.stream).await.expect("the door speaks TLS");
        Self { stream: Box::new(stream) }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the connection is open");
        self.stream.flush().await.expect("the connection is open");
    }

    /// Reads until `end` is in what came, or the connection is closed, and gives all of it.
    pub async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            match tokio::time::timeout(DEADLINE, self.stream.read(&mut chunk)).await {
                // A close without close_notify, or a reset, is a close to this test.
                Ok(Ok(0) | Err(_)) => return all,
                Ok(Ok(n)) => all.extend_from_slice(&chunk[..n]),
                Err(_) => panic!("silence for {DEADLINE:?} after: {}", String::from_utf8_lossy(&all)),
            }
            if !end.is_empty() && all.windows(end.len()).any(|window| window == end) {
                return all;
            }
        }
    }

    /// Reads until the gate closes the connection, and gives all that came before.
    pub async fn read_to_close(&mut self) -> Vec<u8> {
        self.read_until(b"").await
    }

    /// The stream itself, for a client that wants one (hyper's `http2::handshake`).
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }
}

/// A client's TLS: TLS 1.2 and 1.3, and no authority but those in `ca`.
pub fn tls_config(ca: Option<&Path>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in ca.into_iter().flat_map(|ca| CertificateDer::pem_file_iter(ca).expect("a PEM file")) {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
