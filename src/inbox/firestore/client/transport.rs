//! The connection to Firestore: one HTTP/2 connection that is made when it is first needed, and made again when it is
//! lost or has fallen silent.
//!
//! What always holds: TLS is our one stack, with the system's authorities; plain text is spoken to the emulator and to
//! loopback only (`Config::mistakes`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::RootCertStore;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::super::fs::firestore_client::FirestoreClient;

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection is asked for a sign of life so often, and closed when there is none for so long.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(5));

/// Bytes of a message that are read: more than anything that Firestore sends.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Bytes of a message that are sent: Firestore's own limit.
const MAX_MESSAGE_BYTES: usize = 10 << 20;

/// Bytes that may be under way to us, for one call and for all.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);

/// After so many calls in a row without an answer the next one takes a new connection: the keep-alive needs 25 s to see that
/// the old one leads nowhere.
const SILENT_CALLS: u32 = 3;

/// At most one such change in this time.
const CHANGE_EVERY: Duration = Duration::from_secs(2);

/// Makes stubs, and connections below them.
#[derive(Debug)]
pub(super) struct Transport {
    endpoint: Endpoint,
    connector: HttpsConnector<HttpConnector>,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    channel: Channel,
    since: Instant,
    silent: u32,
}

impl Transport {
    /// A transport to a URL; nothing is connected yet. Must be called on a runtime.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        Self::with_roots(url, roots(url)?)
    }

    /// Whether there could be one.
    pub(super) fn check(url: &str) -> Result<(), String> {
        roots(url).map(drop)
    }

    fn with_roots(url: &str, roots: RootCertStore) -> Result<Self, String> {
        let agent = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));
        let endpoint = Endpoint::from_shared(url.to_owned())
            .and_then(|endpoint| endpoint.user_agent(agent))
            .map_err(|error| format!("inbox.firestore.endpoint: `{url}` is none: {error}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1);
        let connector = connector(roots)?;
        let channel = endpoint.connect_with_connector_lazy(connector.clone());
        let line = Mutex::new(Line { channel, since: Instant::now(), silent: 0 });
        Ok(Self { endpoint, connector, line })
    }

    /// A stub on the connection of the moment.
    pub(super) fn stub(&self) -> FirestoreClient<Channel> {
        let channel = self.line.lock().unwrap_or_else(PoisonError::into_inner).channel.clone();
        FirestoreClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// A call had an answer, or had none in time.
    pub(super) fn heard(&self, answered: bool) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.silent = if answered { 0 } else { line.silent.saturating_add(1) };
        if line.silent >= SILENT_CALLS && line.since.elapsed() >= CHANGE_EVERY {
            // Calls that are under way keep the old one until they end.
            let channel = self.endpoint.connect_with_connector_lazy(self.connector.clone());
            *line = Line { channel, since: Instant::now(), silent: 0 };
        }
    }
}

/// Whom a server must be certified by; for plain text nobody. Without anybody no event could ever be stored.
fn roots(url: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if url.starts_with("https:") {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(format!(
                "inbox.firestore.endpoint: `{url}` cannot be reached over TLS, because no root certificates were found: install them \
                 (ca-certificates), or set SSL_CERT_FILE"
            ));
        }
    }
    Ok(roots)
}

fn connector(roots: RootCertStore) -> Result<HttpsConnector<HttpConnector>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| fault.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http2().wrap_connector(http))
}

#[cfg(test)]
mod tests;
