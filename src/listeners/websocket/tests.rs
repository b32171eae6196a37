//! The stream inside a WebSocket against the library's own client, and frames that no client should send.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::drain::Drain;

type Client = WebSocketStream<DuplexStream>;

fn pair(room: usize) -> (DuplexStream, Stream<DuplexStream>, oneshot::Receiver<Frames<DuplexStream>>, Drain) {
    let (client, server) = tokio::io::duplex(room);
    let (drain, (back, left)) = (Drain::default(), oneshot::channel());
    (client, Stream { frames: Some(Frames::new(server, drain.signal())), back: Some(back) }, left, drain)
}

async fn client(io: DuplexStream) -> Client {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// A frame as a client would send it; `mask` none: not masked.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..126 => bytes.push(bit | n as u8),
        n => bytes.extend([bit | 126, (n >> 8) as u8, n as u8]),
    }
    bytes.extend(mask.into_iter().flatten());
    let mut payload = payload.to_vec();
    unmask(&mut payload, mask.unwrap_or_default(), 0);
    bytes.extend(payload);
    bytes
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(0x82, Some([1, 2, 3, 4]), payload)
}

/// What the door reads of such bytes, and the code of the close that answers them.
async fn answered(bytes: &[u8]) -> (Vec<u8>, Option<u16>) {
    let (mut io, mut stream, left, _drain) = pair(1 << 20);
    io.write_all(bytes).await.expect("room");
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.expect("an orderly end");
    drop(stream);
    let server = tokio::spawn(left.await.expect("given back").close());
    let mut said = Vec::new();
    io.read_to_end(&mut said).await.expect("open");
    server.await.expect("no panic").expect("closed");
    let code = said.strip_prefix(&[0x88, 2]).map(|code| u16::from_be_bytes([code[0], code[1]]));
    (read, code)
}

#[tokio::test]
async fn what_is_written_on_one_side_is_read_on_the_other_whatever_the_frames() {
    let (io, mut stream, left, _drain) = pair(1 << 20);
    let mut client = client(io).await;
    let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let to_gate = sent.clone();
    let served = tokio::spawn(async move {
        let mut read = vec![0; to_gate.len()];
        stream.read_exact(&mut read).await.expect("all of it");
        assert!(read == to_gate);
        stream.write_all(&read).await.expect("open");
        stream.flush().await.expect("open");
    });
    for piece in sent.chunks(70_001) {
        client.send(Message::binary(piece.to_vec())).await.expect("open");
        client.send(Message::Ping("between".into())).await.expect("open");
    }
    let (mut back, mut pongs) = (Vec::new(), 0);
    while back.len() < sent.len() {
        match client.next().await.expect("open").expect("frames") {
            Message::Binary(bytes) => back.extend(bytes),
            Message::Pong(said) => pongs += usize::from(&said[..] == b"between"),
            other => panic!("{other:?}"),
        }
    }
    served.await.expect("no panic");
    assert!(back == sent);
    assert!(pongs > 0);
    let closing = tokio::spawn(left.await.expect("given back").close());
    let close = client.next().await.expect("open").expect("a frame");
    assert!(matches!(&close, Message::Close(Some(frame)) if frame.code == CloseCode::Normal), "{close:?}");
    assert!(client.next().await.is_none());
    closing.await.expect("no panic").expect("closed");
}

#[tokio::test]
async fn a_client_that_says_close_is_answered_with_its_own_code() {
    assert_eq!(answered(&[binary(b"abc"), frame(0x88, Some([9; 4]), &[0x03, 0xe9])].concat()).await, (b"abc".to_vec(), Some(1001)));
    assert_eq!(answered(&frame(0x88, Some([9; 4]), &[])).await, (Vec::new(), None));
    assert_eq!(answered(&frame(0x88, Some([9; 4]), &[0x03, 0xed])).await, (Vec::new(), None), "1005 is never sent");
}

#[tokio::test]
async fn a_message_in_pieces_with_control_frames_between_is_one_stream() {
    let mask = Some([7, 7, 7, 7]);
    let frames = [frame(0x02, mask, b"ab"), frame(0x8a, mask, b"pong"), frame(0x00, mask, b""), frame(0x80, mask, b"cd"), binary(b"ef")];
    let close = frame(0x88, mask, &[0x03, 0xe8]);
    assert_eq!(answered(&[frames.concat(), close].concat()).await, (b"abcdef".to_vec(), Some(1000)));
}

#[tokio::test]
async fn what_no_client_may_send_ends_the_connection_with_the_reason() {
    let mask = Some([1; 4]);
    for (what, bytes, code) in [
        ("text", frame(0x81, mask, b"text"), 1003),
        ("no mask", frame(0x82, None, b"x"), 1002),
        ("an extension's bit", frame(0xc2, mask, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, mask, b"x"), 1002),
        ("a message within a message", [frame(0x02, mask, b""), binary(b"")].concat(), 1002),
        ("a ping in pieces", frame(0x09, mask, b""), 1002),
        ("a ping too long", frame(0x89, mask, &[0; 126]), 1002),
        ("an unknown opcode", frame(0x83, mask, b""), 1002),
        ("a frame too large", [&[0x82, 0xff][..], &(MAX_FRAME_IN + 1).to_be_bytes(), &[0; 4]].concat(), 1009),
        ("a length that is none", [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(), 1009),
    ] {
        assert_eq!(answered(&[bytes, binary(b"never read")].concat()).await, (Vec::new(), Some(code)), "{what}");
    }
}

#[tokio::test]
async fn a_promised_frame_takes_no_memory_and_its_bytes_are_handed_on_as_they_come() {
    let (mut io, mut stream, _left, _drain) = pair(1 << 10);
    io.write_all(&[&[0x82, 0xff][..], &MAX_FRAME_IN.to_be_bytes(), &[0; 4], b"first"].concat()).await.expect("room");
    let mut read = [0; 64];
    assert_eq!(stream.read(&mut read).await.expect("open"), 5);
    io.write_all(b"second").await.expect("room");
    assert_eq!(stream.read(&mut read).await.expect("open"), 6);
    assert!(stream.frames().inbound.capacity() <= READ_PAYLOAD);
}

#[tokio::test]
async fn pings_without_end_from_a_client_that_does_not_read_are_not_kept() {
    let (mut io, mut stream, _left, _drain) = pair(256);
    let send = tokio::spawn(async move {
        let ping = frame(0x89, Some([1; 4]), &[0; 125]);
        for _ in 0..5_000 {
            io.write_all(&ping).await.expect("open");
        }
        io.write_all(&binary(b"x")).await.expect("open");
        io
    });
    let mut read = [0; 1];
    stream.read_exact(&mut read).await.expect("the byte behind them");
    assert!(stream.frames().outbound.len() <= MAX_OUTBOUND + 2 + 125);
    drop(send.await.expect("no panic"));
}

#[tokio::test]
async fn a_writer_that_waits_is_woken_although_a_reader_answers_a_ping_meanwhile() {
    let (io, stream, _left, _drain) = pair(64);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writes = tokio::spawn(async move {
        writer.write_all(&[5; 100_000]).await.expect("open");
        writer.flush().await.expect("open");
    });
    let reads = tokio::spawn(async move {
        let mut byte = [0; 1];
        while reader.read(&mut byte).await.is_ok_and(|n| n > 0) {}
    });
    let (mut from_gate, mut to_gate) = tokio::io::split(io);
    to_gate.write_all(&frame(0x89, Some([1; 4]), b"ping")).await.expect("open");
    tokio::task::yield_now().await;
    let mut taken = Vec::new();
    let mut chunk = [0; 4096];
    // Two frames, and the pong.
    while taken.len() < 100_000 + 10 + 4 + 6 {
        let n = timeout(Duration::from_secs(30), from_gate.read(&mut chunk)).await.expect("not stuck").expect("open");
        taken.extend_from_slice(&chunk[..n]);
    }
    writes.await.expect("no panic");
    reads.abort();
}

#[tokio::test]
async fn a_drain_says_that_the_gate_goes_away() {
    let (io, stream, left, drain) = pair(1 << 10);
    let mut client = client(io).await;
    drain.enter(Phase::Finishing);
    drop(stream);
    let closing = tokio::spawn(left.await.expect("given back").close());
    let close = client.next().await.expect("open").expect("a frame");
    assert!(matches!(&close, Message::Close(Some(frame)) if frame.code == CloseCode::Away), "{close:?}");
    assert!(client.next().await.is_none());
    closing.await.expect("no panic").expect("closed");
}

#[tokio::test]
async fn a_client_that_vanishes_is_the_end_of_the_stream() {
    let (io, mut stream, _left, _drain) = pair(1 << 10);
    drop(io);
    assert_eq!(stream.read(&mut [0; 8]).await.expect("an end"), 0);
}
