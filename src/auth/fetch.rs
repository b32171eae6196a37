//! One GET for an issuer's keys: the only request that authentication ever makes, and only to a URL that the operator
//! configured (or that the configured issuer's own discovery document names). Never to one out of a token.
//!
//! What always holds: `https`, or `http` on loopback; no redirect is followed; connect and body end within
//! [`MAX_FETCH_TIME`]; the body is at most [`MAX_BODY_BYTES`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The most time that one fetch takes, connect and body together.
pub const MAX_FETCH_TIME: Duration = Duration::from_secs(3);

/// The largest key set that is read.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// How long keys live when their answer does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);

/// The bounds of what an answer can say.
const LIFE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// An HTTP client for small documents.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

/// A document, and how long it may be used.
#[derive(Debug)]
pub(super) struct Fetched {
    pub body: Bytes,
    pub life: Duration,
}

impl Fetcher {
    /// A client that trusts the system's certificates.
    pub(super) fn new() -> Result<Self, String> {
        let mut roots = rustls::RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            tracing::warn!("no root certificates were found; keys can be fetched from loopback only (set SSL_CERT_FILE)");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        // A fetch an hour needs no idle connection.
        Ok(Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    /// Fetches a document. The fault is said in words for an operator.
    pub(super) async fn get(&self, url: &str) -> Result<Fetched, String> {
        let fetch = self.get_untimed(vet(url)?);
        tokio::time::timeout(MAX_FETCH_TIME, fetch)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", MAX_FETCH_TIME.as_secs())))
    }

    async fn get_untimed(&self, uri: Uri) -> Result<Fetched, String> {
        let request = Request::get(uri).header(header::ACCEPT, "application/json").body(Empty::new()).map_err(|fault| fault.to_string())?;
        let answer = self.0.request(request).await.map_err(|fault| causes(&fault))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("answered {}, expected 200 (redirects are not followed)", answer.status().as_u16()));
        }
        let life = life(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await.map_err(|fault| causes(fault.as_ref()))?;
        Ok(Fetched { body: body.to_bytes(), life })
    }
}

/// Whether a URL may be fetched: `https`, or `http` on loopback, without a user in it.
pub(super) fn vet(url: &str) -> Result<Uri, String> {
    // What has a user in it can have a password in it, and is not shown.
    let shown = if url.contains('@') || url.len() > 200 { "this".into() } else { format!("`{}`", url.escape_debug()) };
    let expected = || format!("{shown} is not a URL that keys can be fetched from: `https://…`, or `http://…` on loopback, without a user");
    let uri: Uri = url.parse().map_err(|_| expected())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(expected()) };
    let allowed = scheme == "https" || (scheme == "http" && is_loopback(authority.host()));
    if !allowed || authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(expected());
    }
    Ok(uri)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// `max-age` less the `Age` that it has already, within bounds.
fn life(headers: &HeaderMap) -> Duration {
    let directives =
        || headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let number = |text: &str| text.trim().trim_matches('"').parse::<u64>().ok();
    if directives().any(|one| matches!(one.trim().to_ascii_lowercase().as_str(), "no-store" | "no-cache")) {
        return LIFE.0;
    }
    let max_age = directives().find_map(|one| {
        let (name, value) = one.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("max-age") { number(value) } else { None }
    });
    let age = headers.get(header::AGE).and_then(|value| value.to_str().ok()).and_then(number).unwrap_or(0);
    let life = max_age.map_or(DEFAULT_LIFE, |max_age| Duration::from_secs(max_age.saturating_sub(age)));
    life.clamp(LIFE.0, LIFE.1)
}

/// An error and what it comes from, in one short line.
fn causes(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut line = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_by_https_or_from_loopback_and_nowhere_else() {
        for url in [
            "https://issuer.example.com/keys",
            "http://127.0.0.1:9099/",
            "http://[::1]:9099/x",
            "http://localhost:1/",
            "https://[2001:db8::1]/",
        ] {
            assert!(vet(url).is_ok(), "{url}");
        }
        for url in [
            "http://issuer.example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "https://user:secret@issuer.example.com/",
            "http://localhost@example.com/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "/etc/passwd",
            "127.0.0.1",
            "",
        ] {
            assert!(vet(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_life_of_keys_is_what_is_announced_within_a_minute_and_a_day() {
        let life_of = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect();
            life(&headers).as_secs()
        };
        assert_eq!(life_of(&[]), 900);
        assert_eq!(life_of(&[("cache-control", "public, max-age=21600, must-revalidate")]), 21_600);
        assert_eq!(life_of(&[("cache-control", "Max-Age=600"), ("age", "100")]), 500);
        assert_eq!(life_of(&[("cache-control", "max-age=0")]), 60);
        assert_eq!(life_of(&[("cache-control", "max-age=100"), ("age", "1000")]), 60);
        assert_eq!(life_of(&[("cache-control", "no-store, max-age=600")]), 60);
        assert_eq!(life_of(&[("cache-control", "max-age=99999999999")]), 86_400);
        assert_eq!(life_of(&[("cache-control", "max-age=99999999999999999999999")]), 900);
        assert_eq!(life_of(&[("cache-control", "s-maxage=5")]), 900);
    }
}
