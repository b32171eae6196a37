//! What an answer carries behind its head: bytes that are there already, and perhaps trailers.
//!
//! What always holds: an answer without trailers says its length; one with trailers is sent as a stream, which HTTP/2 ends
//! with them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// The body of an answer.
#[derive(Debug, Default)]
pub struct Payload {
    bytes: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// Its length is not said in the head, although it is known.
    streamed: bool,
}

impl Payload {
    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        Self { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), trailers: None, streamed: false }
    }

    /// These bytes, and trailers behind them.
    pub fn trailed(bytes: Bytes, trailers: HeaderMap) -> Self {
        Self { trailers: Some(trailers), streamed: true, ..Self::full(bytes) }
    }

    /// Nothing, and nothing is said of its length: the head is all.
    pub fn none() -> Self {
        Self { streamed: true, ..Self::default() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take().map(Frame::data);
        Poll::Ready(bytes.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.streamed { SizeHint::default() } else { SizeHint::with_exact(self.len()) }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn trailers_come_behind_the_bytes_and_take_the_length_away() {
        let plain = Payload::full(Bytes::from_static(b"abc"));
        assert_eq!((plain.size_hint().exact(), plain.is_end_stream()), (Some(3), false));
        assert!(Payload::full(Bytes::new()).is_end_stream() && Payload::none().is_end_stream());
        assert_eq!((Payload::full(Bytes::new()).size_hint().exact(), Payload::none().size_hint().exact()), (Some(0), None));

        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let trailed = Payload::trailed(Bytes::from_static(b"abc"), trailers.clone());
        assert_eq!(trailed.size_hint().exact(), None);
        let collected = trailed.collect().await.expect("infallible");
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(collected.to_bytes(), "abc");
    }
}
