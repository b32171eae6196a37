//! What proxies in front say about a request: who sent it, and whether it came to them in plain text.
//!
//! Only as many entries are believed as proxies are configured, counted from the nearest; with none configured, nothing is.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";

/// The sender's address: what the outermost configured proxy saw, else the socket's.
pub fn address(headers: &HeaderMap, peer: SocketAddr, hops: u8) -> IpAddr {
    let seen = entry(headers, FOR, hops).and_then(parse_address);
    seen.unwrap_or_else(|| peer.ip()).to_canonical()
}

/// Whether the outermost configured proxy took the request in plain text.
pub fn is_plain(headers: &HeaderMap, hops: u8) -> bool {
    scheme(headers, hops).is_some_and(|proto| proto.eq_ignore_ascii_case("http"))
}

/// Whether the outermost configured proxy took the request over TLS, and says so.
pub fn is_secure(headers: &HeaderMap, hops: u8) -> bool {
    scheme(headers, hops).is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

/// What the outermost configured proxy says that it was spoken to in.
fn scheme(headers: &HeaderMap, hops: u8) -> Option<&str> {
    // A proxy may replace the list instead of adding to it: a shorter list is read from its start.
    let count = entries(headers, PROTO).count();
    let hops = usize::from(hops).min(count);
    u8::try_from(hops).ok().and_then(|hops| entry(headers, PROTO, hops))
}

/// The entry that the outermost of so many proxies added; none: there are not so many, so it did not come through them.
fn entry<'a>(headers: &'a HeaderMap, name: &str, hops: u8) -> Option<&'a str> {
    let all: Vec<_> = entries(headers, name).collect();
    all.len().checked_sub(usize::from(hops)).and_then(|index| all.get(index).copied())
}

fn entries<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim)
}

/// An address, with or without a port, an IPv6 one with or without brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, HeaderValue::from_static(value));
        }
        map
    }

    fn seen(values: &[&'static str], hops: u8) -> String {
        address(&headers(FOR, values), "10.0.0.1:5".parse().expect("a peer"), hops).to_string()
    }

    #[test]
    fn only_the_entries_of_configured_proxies_are_believed() {
        assert_eq!(seen(&["1.1.1.1, 2.2.2.2"], 0), "10.0.0.1");
        assert_eq!(seen(&["6.6.6.6, 2.2.2.2"], 1), "2.2.2.2");
        assert_eq!(seen(&["6.6.6.6", "1.1.1.1,2.2.2.2"], 2), "1.1.1.1");
        assert_eq!(seen(&["2.2.2.2"], 2), "10.0.0.1");
        assert_eq!(seen(&[], 1), "10.0.0.1");
        assert_eq!(seen(&["nonsense\""], 1), "10.0.0.1");
        assert_eq!(seen(&["[2001:db8::1]:443"], 1), "2001:db8::1");
        assert_eq!(seen(&["[2001:db8::1]"], 1), "2001:db8::1");
        assert_eq!(seen(&["::ffff:3.3.3.3"], 1), "3.3.3.3");
    }

    #[test]
    fn plain_text_is_a_matter_of_the_outermost_configured_proxy() {
        assert!(!is_plain(&headers(PROTO, &["http"]), 0));
        assert!(is_plain(&headers(PROTO, &["http"]), 1));
        assert!(is_plain(&headers(PROTO, &["HTTP"]), 2));
        assert!(!is_plain(&headers(PROTO, &["http, https"]), 1));
        assert!(is_plain(&headers(PROTO, &["http, https"]), 2));
        assert!(!is_plain(&headers(PROTO, &["https"]), 1));
        assert!(!is_plain(&HeaderMap::new(), 1));
        for (said, hops, secure) in
            [("https", 1, true), ("https", 0, false), ("http, https", 2, false), ("https, http", 2, true), ("wss", 1, false)]
        {
            assert_eq!(is_secure(&headers(PROTO, &[said]), hops), secure, "{said} {hops}");
        }
        assert!(!is_secure(&HeaderMap::new(), 1));
    }
}
