//! What a request's head must be before a door sees it: one host that all of it agrees on, a method and a size that we
//! serve, nothing that would turn the connection into something else.
//!
//! How the bytes are framed was settled before, in `head.rs` for HTTP/1 and in the library for HTTP/2.

use http::header::{EXPECT, HOST, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Version};

use super::fault::Fault;
use super::head::HeadLimits;
use super::upgrade;

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Checks a head. After a fault an HTTP/1 connection is closed. `tunnels`: there is a place where one may be upgraded.
pub fn check(parts: &Parts, limits: &HeadLimits, tunnels: bool) -> Result<(), Fault> {
    size(parts, limits)?;
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Fault::MethodNotAllowed(METHODS));
    }
    if parts.headers.contains_key(UPGRADE) && !(tunnels && upgrade::is_asked(parts)) {
        return Err(Fault::BadRequest("this connection is not upgraded; leave `Upgrade` out"));
    }
    host(parts)?;
    target(parts)?;
    expectation(parts)
}

fn size(parts: &Parts, limits: &HeadLimits) -> Result<(), Fault> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.uri {
        return Err(Fault::UriTooLong);
    }
    let bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if parts.headers.len() > limits.fields || bytes > limits.bytes {
        return Err(Fault::HeadersTooLarge);
    }
    Ok(())
}

fn host(parts: &Parts) -> Result<(), Fault> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Fault::BadRequest("`Host` is there twice")),
        (Some(host), None) => Some(authority(host.as_bytes())?),
        (None, None) => None,
    };
    let named = parts.uri.authority().map(|named| authority(named.as_str().as_bytes())).transpose()?;
    match (host, named) {
        (Some(host), Some(named)) if !same(&host, &named, parts.uri.scheme()) => {
            Err(Fault::BadRequest("`Host` and the target name different hosts"))
        }
        (None, Some(_)) if parts.version < Version::HTTP_2 => Err(Fault::BadRequest("`Host` is missing")),
        (None, None) if parts.version != Version::HTTP_10 => Err(Fault::BadRequest("`Host` is missing")),
        _ => Ok(()),
    }
}

fn authority(bytes: &[u8]) -> Result<Authority, Fault> {
    let wrong = Fault::BadRequest("`Host` is not a host");
    let authority = Authority::try_from(bytes).map_err(|_| wrong.clone())?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(wrong);
    }
    Ok(authority)
}

fn same(one: &Authority, other: &Authority, scheme: Option<&Scheme>) -> bool {
    let usual = if scheme == Some(&Scheme::HTTP) { 80 } else { 443 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

fn target(parts: &Parts) -> Result<(), Fault> {
    let path = parts.uri.path();
    if path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS) {
        return Ok(());
    }
    Err(Fault::BadRequest("the target is not a path"))
}

fn expectation(parts: &Parts) -> Result<(), Fault> {
    let known = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if parts.headers.get_all(EXPECT).iter().all(known) { Ok(()) } else { Err(Fault::ExpectationFailed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 16 << 10, fields: 100, uri: 4 << 10 };

    fn request(version: Version, method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(), Fault> {
        let mut builder = http::Request::builder().version(version).method(method).uri(uri);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        check(&builder.body(()).expect("a request").into_parts().0, &LIMITS, true)
    }

    #[test]
    fn honest_heads_are_taken() {
        let one = Version::HTTP_11;
        assert_eq!(request(one, "POST", "/v1/events", &[("host", "gate.example:8443")]), Ok(()));
        assert_eq!(request(one, "POST", "http://gate.example/v1", &[("host", "GATE.example:80")]), Ok(()));
        assert_eq!(request(one, "OPTIONS", "*", &[("host", "[::1]:8443")]), Ok(()));
        assert_eq!(request(one, "POST", "/", &[("host", "a"), ("expect", "100-Continue")]), Ok(()));
        assert_eq!(request(Version::HTTP_10, "GET", "/livez", &[]), Ok(()));
        assert_eq!(request(Version::HTTP_2, "POST", "https://gate.example/v1", &[]), Ok(()));
        assert_eq!(request(Version::HTTP_2, "POST", "https://gate.example/v1", &[("host", "gate.example:443")]), Ok(()));
    }

    #[test]
    fn a_host_that_is_missing_double_or_disagrees_is_refused() {
        let one = Version::HTTP_11;
        for (version, uri, fields) in [
            (one, "/", &[][..]),
            (one, "/", &[("host", "a"), ("host", "a")][..]),
            (one, "/", &[("host", "")][..]),
            (one, "/", &[("host", "a b")][..]),
            (one, "/", &[("host", "user@a")][..]),
            (one, "http://a/", &[("host", "b")][..]),
            (one, "http://a/", &[("host", "a:81")][..]),
            (one, "http://a/", &[][..]),
            (Version::HTTP_10, "/", &[("host", "a"), ("host", "b")][..]),
            (Version::HTTP_2, "https://a/", &[("host", "b")][..]),
            (Version::HTTP_2, "/", &[][..]),
        ] {
            assert!(matches!(request(version, "GET", uri, fields), Err(Fault::BadRequest(_))), "{uri} {fields:?}");
        }
    }

    #[test]
    fn what_is_not_served_and_what_is_too_large_is_refused() {
        let one = Version::HTTP_11;
        let host = ("host", "a");
        assert!(matches!(request(one, "TRACE", "/", &[host]), Err(Fault::MethodNotAllowed(_))));
        assert!(matches!(request(one, "CONNECT", "a:443", &[host]), Err(Fault::MethodNotAllowed(_))));
        assert!(matches!(request(one, "GET", "/", &[host, ("upgrade", "websocket")]), Err(Fault::BadRequest(_))));
        assert_eq!(request(one, "GET", "/kafka", &[host, ("upgrade", "websocket")]), Ok(()));
        assert!(matches!(request(one, "POST", "/kafka", &[host, ("upgrade", "websocket")]), Err(Fault::BadRequest(_))));
        assert!(matches!(request(one, "GET", "*", &[host]), Err(Fault::BadRequest(_))));
        assert_eq!(request(one, "GET", "/", &[host, ("expect", "200-ok")]), Err(Fault::ExpectationFailed));
        assert_eq!(request(one, "GET", "/", &[("x", "y"); 101]), Err(Fault::HeadersTooLarge));
        assert_eq!(request(one, "GET", "/", &[("x", "y".repeat(17 << 10).as_str())]), Err(Fault::HeadersTooLarge));
        assert_eq!(request(one, "GET", &format!("/{}", "y".repeat(5 << 10)), &[host]), Err(Fault::UriTooLong));
    }
}
