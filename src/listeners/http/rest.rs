//! What is left of a request's body when its answer is there already.
//!
//! Over HTTP/2 a body that nobody reads to its end resets its stream behind the answer, and clients that are still sending
//! then see the reset and not the answer (curl before 8, among others). So a short rest is read and thrown away first; a long or slow
//! one is not waited for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

/// Bytes that are read at most.
const MOST: usize = 256 << 10;

/// How long they are waited for.
const PATIENCE: Duration = Duration::from_millis(250);

/// Where a body is when its reader has let go of it.
type Place<B> = Arc<Mutex<Option<B>>>;

/// A body that comes back from whoever does not read it to its end.
#[derive(Debug)]
pub struct Lent<B = Incoming> {
    body: Option<B>,
    back: Place<B>,
}

/// What came back.
#[derive(Debug)]
pub struct Rest<B = Incoming>(Place<B>);

impl<B> Lent<B> {
    /// Lends a body.
    pub fn new(body: B) -> (Self, Rest<B>) {
        let back = Place::default();
        (Self { body: Some(body), back: Arc::clone(&back) }, Rest(back))
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Lent<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads what is left, if it is short and comes at once.
    pub async fn discard(self) {
        let Some(mut body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut left = MOST;
        let read = async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Buf::remaining);
                match left.checked_sub(length) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        // Neither a long nor a slow rest is worth more.
        let _ = timeout(PATIENCE, read).await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    fn body(pieces: usize, size: usize, pause: Duration) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(Box::pin(stream::unfold(0, move |n| async move {
            tokio::time::sleep(pause).await;
            (n < pieces).then(|| (Ok(Frame::data(Bytes::from(vec![0; size]))), n + 1))
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_is_read_and_a_long_or_slow_one_is_left() {
        for (pieces, size, pause, took) in [(3, 1_000, 10, 40), (1_000, 10_000, 1, 27), (100, 10, 100, 250)] {
            let begun = Instant::now();
            let (lent, rest) = Lent::new(body(pieces, size, Duration::from_millis(pause)));
            drop(lent);
            rest.discard().await;
            assert_eq!(begun.elapsed(), Duration::from_millis(took), "{pieces} pieces of {size}");
        }
    }
}
