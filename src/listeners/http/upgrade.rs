//! A request that turns its connection into a WebSocket (RFC 6455): what it must say, and what it is told.
//!
//! What always holds: only `GET /kafka` over HTTP/1.1 without a body can become one; everything that could be refused is
//! refused before the connection is anything else.

use std::pin::Pin;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use hyper::upgrade::Upgraded;

use super::fault::Fault;
use super::reply::{self, Answer};
use crate::auth::Principal;
use crate::listeners::Peer;

/// Where Kafka is spoken over WebSocket.
pub const PATH: &str = "/kafka";

/// What the handshake is called.
pub const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Its one version.
pub const VERSION: HeaderValue = HeaderValue::from_static("13");
/// What `Connection` says of it.
pub const UPGRADE_TOKEN: HeaderValue = HeaderValue::from_static("upgrade");

/// What the client's key is hashed with, so that the answer proves that it was understood (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Length of the client's key.
const KEY: usize = 16;

/// What is known of a connection that becomes a tunnel.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// Who is at the other end.
    pub peer: Peer,
    /// Who it is, where the request has shown it.
    pub principal: Option<Principal>,
}

/// An end of a connection that was HTTP, with the address that its client connected to.
pub type Opened = (Upgraded, Tunnel, std::net::SocketAddr);

/// Serves tunnels to their end.
#[derive(Clone)]
pub struct Tunnels(Arc<Serve>);

type Serve = dyn Fn(Opened) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

impl Tunnels {
    /// Serves each as `serve` does.
    pub fn new<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(Opened) -> F + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |opened| Box::pin(serve(opened))))
    }

    /// Serves one.
    pub async fn serve(&self, opened: Opened) {
        (self.0)(opened).await;
    }
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnels")
    }
}

/// Whether a request may ask for an upgrade at all.
pub fn is_asked(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11 && parts.method == Method::GET && parts.uri.path() == PATH
}

/// What the answer to a proper handshake says.
pub fn accept(parts: &Parts) -> Result<HeaderValue, Fault> {
    let headers = &parts.headers;
    let asks = is_asked(parts) && has_token(headers, &UPGRADE, "websocket") && has_token(headers, &CONNECTION, "upgrade");
    if !asks || only(headers, &SEC_WEBSOCKET_VERSION) != Some(VERSION.as_bytes()) {
        return Err(Fault::UpgradeRequired);
    }
    let empty = headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
    if !empty || headers.contains_key(TRANSFER_ENCODING) {
        return Err(Fault::BadRequest("a WebSocket's handshake has no body"));
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY));
    let key = key.ok_or(Fault::BadRequest("`Sec-WebSocket-Key` is not one key of 16 bytes in base64"))?;
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    Ok(HeaderValue::try_from(STANDARD.encode(hash)).expect("base64 is text"))
}

/// The answer behind which the connection is a tunnel.
pub fn switching(accept: HeaderValue, tunnel: Tunnel) -> Answer {
    let mut answer = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    answer.headers_mut().insert(UPGRADE, WEBSOCKET);
    answer.headers_mut().insert(CONNECTION, UPGRADE_TOKEN);
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer.extensions_mut().insert(tunnel);
    answer
}

/// The one value of a field.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().map(HeaderValue::as_bytes).filter(|_| values.next().is_none())
}

/// Whether a list has this word in it, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let words = headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or_default().split(','));
    words.into_iter().any(|found| found.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, 1.3, with changes.
    fn answered(version: Version, method: &str, changes: &[(&'static str, &'static str)]) -> Result<HeaderValue, Fault> {
        let own = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut request = http::Request::builder().version(version).method(method).uri("/kafka").body(()).expect("a request");
        for (name, value) in own.iter().chain(changes) {
            match value.strip_prefix('+') {
                Some(more) => drop(request.headers_mut().append(*name, HeaderValue::from_static(more))),
                None => drop(request.headers_mut().insert(*name, HeaderValue::from_static(value))),
            }
        }
        accept(&request.into_parts().0)
    }

    #[test]
    fn the_answer_proves_that_the_handshake_was_understood() {
        let expected = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answered(Version::HTTP_11, "GET", &[]), Ok(expected.clone()));
        assert_eq!(answered(Version::HTTP_11, "GET", &[("upgrade", "WebSocket"), ("content-length", "0")]), Ok(expected));
    }

    #[test]
    fn what_is_no_handshake_is_told_what_one_is() {
        for (version, method, changes) in [
            (Version::HTTP_10, "GET", &[][..]),
            (Version::HTTP_2, "GET", &[]),
            (Version::HTTP_11, "HEAD", &[]),
            (Version::HTTP_11, "GET", &[("upgrade", "h2c")]),
            (Version::HTTP_11, "GET", &[("connection", "close")]),
            (Version::HTTP_11, "GET", &[("sec-websocket-version", "8")]),
            (Version::HTTP_11, "GET", &[("sec-websocket-version", "+13")]),
        ] {
            assert_eq!(answered(version, method, changes), Err(Fault::UpgradeRequired), "{version:?} {method} {changes:?}");
        }
    }

    #[test]
    fn a_body_or_a_key_that_is_none_is_refused() {
        for change in [
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"),
            ("sec-websocket-key", "c2hvcnQ="),
            ("sec-websocket-key", "+dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            assert!(matches!(answered(Version::HTTP_11, "GET", &[change]), Err(Fault::BadRequest(_))), "{change:?}");
        }
    }
}
