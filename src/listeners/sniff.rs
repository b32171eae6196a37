//! What a connection speaks, told by its first bytes where ALPN has not said it: Kafka, TLS, the preface of HTTP/2, or else
//! HTTP/1.
//!
//! The first byte of a Kafka frame is the highest of its length, and no length that we take reaches 2^24; no method and no
//! TLS record begins so. The look ends with the deadline of the first head: a client that sends one byte and stops holds
//! nothing for longer.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::http::frames::PREFACE;
use super::http::serve::Protocol;

/// The first byte of a TLS record with a handshake in it.
pub const TLS_HANDSHAKE: u8 = 0x16;

const KAFKA: u8 = 0;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP, and which.
    Http(Protocol),
    /// Kafka.
    Kafka,
    /// TLS, where none is spoken.
    Tls,
}

/// Reads until it is clear; gives what was read with it. None: the client said nothing.
pub async fn sniff(stream: &mut (impl AsyncRead + Unpin), deadline: Instant) -> Option<(Spoken, BytesMut)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        match timeout_at(deadline, stream.read_buf(&mut read)).await {
            Ok(Ok(n)) if n > 0 => {}
            // Late, gone or half-closed in the middle of a word: for HTTP/1 to answer.
            _ if !read.is_empty() => return Some((Spoken::Http(Protocol::Http1), read)),
            _ => return None,
        }
    }
    let spoken = match read.first() {
        Some(&KAFKA) => Spoken::Kafka,
        Some(&TLS_HANDSHAKE) => Spoken::Tls,
        _ if read.starts_with(PREFACE) => Spoken::Http(Protocol::Http2),
        _ => Spoken::Http(Protocol::Http1),
    };
    Some((spoken, read))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    const HTTP1: Spoken = Spoken::Http(Protocol::Http1);
    const HTTP2: Spoken = Spoken::Http(Protocol::Http2);

    async fn told(pieces: &[&[u8]]) -> Option<(Spoken, Vec<u8>)> {
        let (mut client, mut server) = tokio::io::duplex(64);
        let send = async {
            for piece in pieces {
                client.write_all(piece).await.expect("open");
                tokio::task::yield_now().await;
            }
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let (told, ()) = tokio::join!(sniff(&mut server, deadline), send);
        told.map(|(spoken, read)| (spoken, read.to_vec()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_preface_is_told_from_a_request_and_nothing_read_is_lost() {
        assert_eq!(told(&[PREFACE, b"more"]).await, Some((HTTP2, PREFACE.to_vec())));
        assert_eq!(told(&[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"]).await, Some((HTTP2, PREFACE.to_vec())));
        assert_eq!(told(&[b"POST / HTTP/1.1\r\n"]).await, Some((HTTP1, b"POST / HTTP/1.1\r\n".to_vec())));
        assert_eq!(told(&[b"P", b"UT"]).await.map(|told| told.0), Some(HTTP1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_byte_tells_kafka_and_tls() {
        assert_eq!(told(&[b"\0"]).await, Some((Spoken::Kafka, b"\0".to_vec())));
        assert_eq!(told(&[b"\0\0\0\x2a\0\x12\0\x03"]).await, Some((Spoken::Kafka, b"\0\0\0\x2a\0\x12\0\x03".to_vec())));
        assert_eq!(told(&[b"\x16\x03\x01"]).await.map(|told| told.0), Some(Spoken::Tls));
        assert_eq!(told(&[b"\r\n\r\n\0\r\nQUIT\n"]).await.map(|told| told.0), Some(HTTP1), "which refuses it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_is_waited_for_until_the_deadline_only() {
        let begun = Instant::now();
        assert_eq!(told(&[b"PRI"]).await, Some((HTTP1, b"PRI".to_vec())));
        assert_eq!(told(&[]).await, None);
        assert_eq!(begun.elapsed(), Duration::from_secs(20));
    }
}
