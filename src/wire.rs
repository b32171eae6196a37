//! Kafka's wire, bounded: frames, headers, and a check of every body before a decoder sees it.
//!
//! A leaf without I/O. What always holds: no count is believed before the bytes for it are there; nothing here allocates by
//! a number that came over the wire; nothing panics. `kafka-protocol`'s decoders do believe counts (five bytes of a Metadata
//! request ask them for 154 GB), and a tagged field's length they do not look at: so a body goes to them only after
//! [`check_request`] or [`check_response`], and what these take, they decode to the last byte.

mod cursor;
pub mod frame;
mod schema;
mod walk;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use cursor::Cursor;

/// The most elements (of lists, and tagged fields) in a request. They are larger in memory than on the wire, up to forty
/// times, so that the frame's limit alone does not bound what a decoder takes. A producer's request has some hundreds.
pub const MAX_REQUEST_ELEMENTS: usize = 100_000;

/// The most elements in a broker's answer: the metadata of a large cluster has some hundred thousands.
pub const MAX_RESPONSE_ELEMENTS: usize = 2_000_000;

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
    let mut cursor = Cursor::new(&frame);
    let (key, version, correlation) = (cursor.i16()?, cursor.i16()?, cursor.i32()?);
    // The client id is of the old kind in v2 too: a broker must be able to read it whatever the version is.
    let client_id = match cursor.length16()? {
        Some(length) => Some(cursor.take(length)?).filter(|id| std::str::from_utf8(id).is_ok()),
        None => None,
    };
    if flexible(key).is_some_and(|from| version >= from) {
        cursor.skip_tags()?;
    }
    let header = RequestHeader { key, version, correlation, client_id: client_id.map(|id| frame.slice_ref(id)) };
    let body = frame.slice(cursor.at()..);
    Ok((header, body))
}

/// Reads an answer's header (v0, or v1 with tagged fields) and gives its correlation id and the body behind it. The header of
/// an answer to ApiVersions is v0 at every version.
pub fn response_header(frame: Bytes, flexible: bool) -> Result<(i32, Bytes), BadWire> {
    let mut cursor = Cursor::new(&frame);
    let correlation = cursor.i32()?;
    if flexible {
        cursor.skip_tags()?;
    }
    let at = cursor.at();
    Ok((correlation, frame.slice(at..)))
}

/// From which version on a request that [`check_request`] knows is flexible, and so its header has tagged fields; `i16::MAX`:
/// at none. It fits [`request_header`].
pub fn flexible_from(key: i16) -> Option<i16> {
    schema::REQUESTS.iter().find(|api| api.key == key).map(|api| api.flexible)
}

/// Whether a request's body can be given to its decoder: every count and length in it fits its bytes, nothing is left over.
/// For the requests that the door serves; any other key or version is an error.
pub fn check_request(key: i16, version: i16, body: &[u8]) -> Result<(), BadWire> {
    walk::check(schema::REQUESTS, key, version, body, MAX_REQUEST_ELEMENTS)
}

/// The same for the answers of a broker that we ask: ApiVersions, SaslHandshake, SaslAuthenticate, Metadata, Produce,
/// DescribeConfigs, InitProducerId.
pub fn check_response(key: i16, version: i16, body: &[u8]) -> Result<(), BadWire> {
    walk::check(schema::RESPONSES, key, version, body, MAX_RESPONSE_ELEMENTS)
}
