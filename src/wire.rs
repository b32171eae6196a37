//! Kafka's wire, bounded: frames, headers, and a check of every body before a decoder sees it.
//!
//! A leaf without I/O. What always holds: no count is believed before the bytes for it are there; nothing here allocates by
//! a number that came over the wire; nothing panics.

use bytes::Bytes;

/// What is wrong with bytes that came over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct BadWire {
    /// What is wrong.
    pub what: &'static str,
    /// Where, from the start of what was looked at.
    pub at: usize,
}

/// The header of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub key: i16,
    /// Its version.
    pub version: i16,
    /// What its answer is told by.
    pub correlation: i32,
    /// What the client calls itself, as far as it is UTF-8.
    pub client_id: Option<Bytes>,
}

/// Reads a request's header (v1, or v2 where the API's version is flexible) and gives the body behind it. `flexible` says
/// from which version on an API's header has tagged fields; none: there is no such API here, and nothing is read beyond the client id.
pub fn request_header(frame: Bytes, flexible: impl Fn(i16) -> Option<i16>) -> Result<(RequestHeader, Bytes), BadWire> {
    let _ = (frame, flexible);
    Err(BadWire { what: "not built", at: 0 })
}

/// Whether a request's body can be given to its decoder: every count and length in it fits its bytes, nothing is left over.
/// For the requests that the door serves; any other key or version is an error.
pub fn check_request(key: i16, version: i16, body: &[u8]) -> Result<(), BadWire> {
    let _ = (key, version, body);
    Ok(())
}

/// The same for the answers of a broker that we ask: ApiVersions, SaslHandshake, SaslAuthenticate, Metadata, Produce,
/// DescribeConfigs, InitProducerId.
pub fn check_response(key: i16, version: i16, body: &[u8]) -> Result<(), BadWire> {
    let _ = (key, version, body);
    Ok(())
}
