//! What a plaintext connection speaks, told by its first bytes: the preface of HTTP/2, or else HTTP/1.
//!
//! The look ends with the deadline of the first head: a client that sends one byte and stops holds nothing for longer.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::http::frames::PREFACE;
use super::http::serve::Protocol;

/// Reads until it is clear; gives what was read with it. None: the client said nothing.
pub async fn sniff(stream: &mut (impl AsyncRead + Unpin), deadline: Instant) -> Option<(Protocol, BytesMut)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        match timeout_at(deadline, stream.read_buf(&mut read)).await {
            Ok(Ok(n)) if n > 0 => {}
            // Late, gone or half-closed in the middle of a word: for HTTP/1 to answer.
            _ if !read.is_empty() => return Some((Protocol::Http1, read)),
            _ => return None,
        }
    }
    let protocol = if read.starts_with(PREFACE) { Protocol::Http2 } else { Protocol::Http1 };
    Some((protocol, read))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn told(pieces: &[&[u8]]) -> Option<(Protocol, Vec<u8>)> {
        let (mut client, mut server) = tokio::io::duplex(64);
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.expect("open");
                tokio::task::yield_now().await;
            }
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let (told, ()) = tokio::join!(sniff(&mut server, deadline), send);
        told.map(|(protocol, read)| (protocol, read.to_vec()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_preface_is_told_from_a_request_and_nothing_read_is_lost() {
        assert_eq!(told(&[PREFACE, b"more"]).await, Some((Protocol::Http2, PREFACE.to_vec())));
        assert_eq!(told(&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"]).await, Some((Protocol::Http2, PREFACE.to_vec())));
        assert_eq!(told(&[b"POST / HTTP/1.1\r\n"]).await, Some((Protocol::Http1, b"POST / HTTP/1.1\r\n".to_vec())));
        assert_eq!(told(&[b"P", b"UT"]).await.map(|told| told.0), Some(Protocol::Http1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_is_waited_for_until_the_deadline_only() {
        let begun = Instant::now();
        assert_eq!(told(&[b"PRI"]).await, Some((Protocol::Http1, b"PRI".to_vec())));
        assert_eq!(told(&[]).await, None);
        assert_eq!(begun.elapsed(), Duration::from_secs(20));
    }
}
