//! The PROXY protocol, version 2: who is behind a trusted proxy, said before the first byte of the connection itself.
//!
//! What always holds: no byte behind the header is read; a header is at most [`MAX_HEADER`] bytes and has a deadline; what
//! is not exactly a header ends the connection, because the sender of the next byte would be unknown.
//! Format: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// How the header of version 1 begins, which is a line of text.
const VERSION_1: &[u8] = b"PROXY ";

/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// Room for the largest addresses (two Unix paths of 108 bytes) and 304 bytes of what else proxies say (TLVs).
const MAX_HEADER: usize = 536;

/// The two ends of a connection to the proxy: the client's, and the one that the client connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// What the bytes of a connection's start say.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// So many bytes in all are needed to say more.
    Needs(usize),
    /// A whole header. None: the proxy speaks for itself (a health check), or of something that has no IP address.
    Header(Option<Ends>),
    /// Not a header; why.
    Wrong(&'static str),
}

/// Reads a header. The text says why there is none.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), deadline: Instant) -> Result<Option<Ends>, &'static str> {
    let (mut bytes, mut filled) = ([0; MAX_HEADER], 0);
    loop {
        match parse(&bytes[..filled]) {
            Read::Header(ends) => return Ok(ends),
            Read::Wrong(why) => return Err(why),
            Read::Needs(needed) => match timeout_at(deadline, stream.read(&mut bytes[filled..needed])).await {
                Ok(Ok(n)) if n > 0 => filled += n,
                Ok(_) => return Err("the connection ended in its PROXY header"),
                Err(_) => return Err("the PROXY header did not come in time"),
            },
        }
    }
}

fn parse(bytes: &[u8]) -> Read {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Read::Wrong(match VERSION_1.starts_with(bytes) || bytes.starts_with(VERSION_1) {
            true if bytes.len() < VERSION_1.len() => return Read::Needs(VERSION_1.len()),
            true => "the PROXY header is of version 1; tell the proxy to send version 2",
            false => "there is no PROXY header before the connection's first byte",
        });
    }
    if bytes.len() < FIXED {
        return Read::Needs(FIXED);
    }
    let (command, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if command >> 4 != 2 || command & 0xf > 1 {
        return Read::Wrong("the PROXY header has a version or command that does not exist");
    }
    if FIXED + length > MAX_HEADER {
        return Read::Wrong("the PROXY header is longer than 536 bytes");
    }
    let Some(body) = bytes.get(FIXED..FIXED + length) else { return Read::Needs(FIXED + length) };
    match (command & 0xf, family) {
        (0, _) => Read::Header(None),
        (_, 0x11) => ends::<4>(body).map_or(SHORT, |(a, b, ports)| joined(Ipv4Addr::from(a), Ipv4Addr::from(b), ports)),
        (_, 0x21) => ends::<16>(body).map_or(SHORT, |(a, b, ports)| joined(Ipv6Addr::from(a), Ipv6Addr::from(b), ports)),
        // Unix sockets, and what the proxy itself does not know. (Datagrams do not come over a connection.)
        (_, 0x00 | 0x31) => Read::Header(None),
        _ => Read::Wrong("the PROXY header speaks of something that is not a connection"),
    }
}

const SHORT: Read = Read::Wrong("the PROXY header is too short for its addresses");

/// Two addresses and two ports; what follows them is not looked at.
fn ends<const N: usize>(body: &[u8]) -> Option<([u8; N], [u8; N], [u16; 2])> {
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let ports = rest.first_chunk::<4>()?;
    Some((*source, *destination, [u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])]))
}

fn joined(source: impl Into<IpAddr>, destination: impl Into<IpAddr>, ports: [u16; 2]) -> Read {
    let end = |ip: IpAddr, port| SocketAddr::new(ip.to_canonical(), port);
    Read::Header(Some(Ends { source: end(source.into(), ports[0]), destination: end(destination.into(), ports[1]) }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x20, 0xfb];

    fn ends_of(source: &str, destination: &str) -> Read {
        let end = |text: &str| text.parse().expect("an address");
        Read::Header(Some(Ends { source: end(source), destination: end(destination) }))
    }

    #[test]
    fn both_families_are_read_and_what_follows_the_addresses_is_not() {
        let expected = ends_of("203.0.113.7:8080", "10.0.0.1:8443");
        assert_eq!(parse(&header(0x21, 0x11, &V4)), expected);
        assert_eq!(parse(&header(0x21, 0x11, &[&V4[..], &[0x04, 0, 1, 0, 0xee, 0xff]].concat())), expected, "TLVs, true or not");
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[31], v6[33], v6[35]) = (0x20, 0x01, 1, 2, 3, 4);
        assert_eq!(parse(&header(0x21, 0x21, &v6)), ends_of("[2001::1]:3", "[::2]:4"));
    }

    #[test]
    fn who_speaks_for_himself_or_has_no_address_keeps_the_sockets_own() {
        for header in [header(0x20, 0x11, &V4), header(0x20, 0x00, &[]), header(0x21, 0x00, b"?"), header(0x21, 0x31, &[0; 216])] {
            assert_eq!(parse(&header), Read::Header(None), "{header:?}");
        }
    }

    #[test]
    fn a_header_is_waited_for_to_its_end_and_not_a_byte_further() {
        let whole = header(0x21, 0x11, &V4);
        for cut in 0..whole.len() {
            let needed = if cut < FIXED { FIXED } else { whole.len() };
            assert_eq!(parse(&whole[..cut]), Read::Needs(needed), "{cut}");
        }
    }

    #[test]
    fn what_is_no_header_is_told_at_the_first_byte_that_differs() {
        let why = |bytes: &[u8]| match parse(bytes) {
            Read::Wrong(why) => why,
            other => panic!("{bytes:?}: {other:?}"),
        };
        assert!(why(b"\x16").contains("no PROXY header"));
        assert!(why(b"POST ").contains("no PROXY header"));
        assert!(why(b"\r\n\r\n\0\r\nQUIX").contains("no PROXY header"));
        assert_eq!(parse(b"PRO"), Read::Needs(6));
        assert!(why(b"PROXY TCP4 1.2.3.4").contains("version 1"));
        assert!(why(&header(0x11, 0x11, &V4)).contains("does not exist"));
        assert!(why(&header(0x22, 0x11, &V4)).contains("does not exist"));
        assert!(why(&header(0x21, 0x12, &V4)).contains("not a connection"));
        assert!(why(&header(0x21, 0x11, &V4[..11])).contains("too short"));
        assert!(why(&header(0x21, 0x21, &V4)).contains("too short"));
        assert!(why(&header(0x21, 0x11, &[0; 521])).contains("longer than"));
        assert!(why(&[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat()).contains("longer than"), "before any of it is read");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_behind_the_header_stays_in_the_stream_and_a_slow_proxy_is_left() {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(&[&header(0x21, 0x11, &V4)[..], b"GET"].concat()).await.expect("open");
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(matches!(read(&mut server, deadline).await, Ok(Some(_))));
        let mut rest = [0; 3];
        server.read_exact(&mut rest).await.expect("there");
        assert_eq!(&rest, b"GET");
        client.write_all(b"\r\n\r\n").await.expect("open");
        assert_eq!(read(&mut server, deadline).await, Err("the PROXY header did not come in time"));
        assert_eq!(Instant::now(), deadline);
        drop(client);
        assert_eq!(read(&mut server, deadline).await, Err("the connection ended in its PROXY header"));
    }
}
