//! Which web pages may read the gate's answers: CORS.
//!
//! A listed origin is reflected; an unlisted one is served all the same, but without CORS headers, so that its browser keeps
//! the answer from the page. No answer allows credentials: the gate knows no cookies.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

/// What a page may read beside the body.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, ratelimit, ratelimit-policy, x-request-id");

/// How long browsers may remember a preflight: two hours, the most that Chromium takes.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

const VARY_ON_ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const VARY_ON_PREFLIGHT: HeaderValue = HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");

/// More header names than any client asks for.
const MAX_REQUESTED: usize = 2048;

/// The configured origins.
#[derive(Clone, Debug)]
pub struct Origins {
    any: bool,
    listed: Vec<String>,
}

impl Origins {
    /// Takes the configured list: exact origins, or `*`.
    pub fn new(listed: &[String]) -> Self {
        Self { any: listed.iter().any(|origin| origin == "*"), listed: listed.to_vec() }
    }

    /// What `Access-Control-Allow-Origin` says to this request; none: nothing.
    fn allow(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        self.listed.iter().any(|listed| listed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// Whether the request comes from no page, or from a page that may. A WebSocket has no answer that its browser would keep
    /// from a page.
    pub fn admit(&self, request: &HeaderMap) -> bool {
        !request.contains_key(ORIGIN) || self.allow(request).is_some()
    }

    /// Writes what any answer says to pages.
    pub fn write(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        if !self.any && !self.listed.is_empty() && !answer.contains_key(VARY) {
            answer.insert(VARY, VARY_ON_ORIGIN);
        }
        if let Some(origin) = self.allow(request) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// Writes what the answer to a preflight says beside that: the route's methods, and the headers that were asked for.
    pub fn write_preflight(&self, request: &HeaderMap, methods: &'static str, answer: &mut HeaderMap) {
        if !request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return;
        }
        answer.insert(VARY, VARY_ON_PREFLIGHT);
        if self.allow(request).is_none() {
            return;
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // An origin that is trusted with `authorization` is trusted with the rest; so Firebase's own headers need no list here.
        if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|names| are_header_names(names)) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
}

fn are_header_names(names: &HeaderValue) -> bool {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(*b, b'-' | b'_' | b',' | b' ');
    names.len() <= MAX_REQUESTED && names.as_bytes().iter().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example";

    fn asked(origin: &'static str) -> HeaderMap {
        let mut request = HeaderMap::new();
        request.insert(ORIGIN, HeaderValue::from_static(origin));
        request.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        let names = "authorization,content-type,firebase-instance-id-token,x-firebase-appcheck";
        request.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static(names));
        request
    }

    fn answers(origins: &[&str], request: &HeaderMap) -> HeaderMap {
        let origins = Origins::new(&origins.iter().map(|origin| (*origin).to_owned()).collect::<Vec<_>>());
        let mut answer = HeaderMap::new();
        origins.write_preflight(request, "POST, OPTIONS", &mut answer);
        origins.write(request, &mut answer);
        answer
    }

    #[test]
    fn a_listed_origin_is_reflected_with_the_headers_it_asks_for() {
        let request = asked(APP);
        let answer = answers(&["https://other.example", APP], &request);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], APP);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "POST, OPTIONS");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], request[ACCESS_CONTROL_REQUEST_HEADERS]);
        assert_eq!(answer[ACCESS_CONTROL_EXPOSE_HEADERS], EXPOSED);
        assert!(answer[VARY].to_str().expect("ASCII").starts_with("origin"));
        assert!(!answer.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn an_unlisted_origin_gets_no_cors_header() {
        for origin in ["https://app.example.evil.example", "https://APP.example", "null", "http://app.example"] {
            let answer = answers(&[APP], &asked(origin));
            assert_eq!(answer.keys().collect::<Vec<_>>(), [VARY.as_str()], "{origin}");
        }
        assert!(!answers(&[], &asked(APP)).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let listed = Origins::new(&[APP.to_owned()]);
        assert!(listed.admit(&asked(APP)) && listed.admit(&HeaderMap::new()) && !listed.admit(&asked("null")));
    }

    #[test]
    fn a_star_allows_every_origin_and_needs_no_vary() {
        let mut request = asked(APP);
        request.remove(ACCESS_CONTROL_REQUEST_METHOD);
        let answer = answers(&["*"], &request);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!answer.contains_key(VARY));
        assert!(!answer.contains_key(ACCESS_CONTROL_ALLOW_METHODS), "not a preflight");
    }
}
