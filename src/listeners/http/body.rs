//! A request's body, read whole within its bounds. (The bounds come with the listener.)

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http_body::Body;
use http_body_util::BodyExt;

use super::fault::Fault;
use crate::limits::inflight::{InFlight, Meter};
use crate::units::{ByteSize, Span};

/// The bounds of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes as they come over the wire.
    pub wire: ByteSize,
    /// Bytes after decompression.
    pub decoded: ByteSize,
    /// Time for the whole of it.
    pub timeout: Span,
    /// The least bytes a second on the wire.
    pub min_rate: ByteSize,
}

/// Reads and decompresses a body.
pub async fn read<B>(_: &Parts, body: B, _: &BodyLimits, meter: &Arc<Meter>) -> Result<(Bytes, InFlight), Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let bytes = body.collect().await.map_err(|_| Fault::Gone)?.to_bytes();
    let guard = meter.reserve(bytes.len() as u64)?;
    Ok((bytes, guard))
}
