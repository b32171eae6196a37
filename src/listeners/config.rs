//! `[listeners]`: where the doors are, who ends TLS, and every bound on a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::body::BodyLimits;
use crate::units::{ByteSize, Span};

/// Who ends TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// This gate, with a certificate that it makes itself for `localhost`. For development.
    Generated,
    /// This gate, with `cert_file` and `key_file`.
    Files,
    /// A trusted proxy in front of this gate; the gate speaks plain HTTP/1.1 and HTTP/2 to it.
    Front,
    /// Nobody. Beyond loopback this needs `insecure = true`.
    Off,
}

/// Where the doors are, who ends TLS, and every bound on a connection.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the HTTPS door. Port 0 takes a free one (the `ready` log line says which). Default
    /// `127.0.0.1:8443`; `PORT` in the environment means `0.0.0.0:$PORT` with `tls = "front"`.
    pub bind: SocketAddr,
    /// Who ends TLS: `generated` (this gate, with a development certificate), `files` (this gate, with `cert_file` and
    /// `key_file`), `front` (a trusted proxy in front), `off` (nobody; beyond loopback it needs `insecure = true`).
    /// Default `generated`.
    pub tls: TlsMode,
    /// PEM file with the certificate and the chain up to, not including, the root. For `tls = "files"`. A changed file is
    /// taken up within `certificate_poll` without dropping a connection. Default: none.
    pub cert_file: Option<PathBuf>,
    /// PEM file with the private key of the certificate. For `tls = "files"`. Default: none.
    pub key_file: Option<PathBuf>,
    /// Folder for the certificate of `tls = "generated"`: `ca.pem` (to be trusted by clients), `cert.pem`, `key.pem`. It is
    /// kept while it is valid and renewed 30 days before it ends. Default `certs/dev`.
    pub generated_dir: PathBuf,
    /// How often the certificate's files are looked at. Default 5s.
    pub certificate_poll: Span,
    /// Connections open at once. Further ones are closed at once. Lowered, with a warning, to what the process may have
    /// open files. Default 10000.
    pub max_connections: usize,
    /// Connections open at once from one address (an IPv6 network of /64 is one address). Further ones are closed at
    /// once. Without meaning for `tls = "front"`, where all come from the proxy. Default 1024.
    pub max_connections_per_address: usize,
    /// TLS handshakes at once. Further ones wait, within their own `handshake_timeout`. Default 256.
    pub max_handshakes: usize,
    /// Time for a TLS handshake; then the connection is closed. Default 5s.
    pub handshake_timeout: Span,
    /// Time for a request's head, from its first byte (for a connection's first request: from its start). Then 408 and
    /// closed. Default 10s.
    pub header_timeout: Span,
    /// Time that a connection may wait for its next request; then it is closed. Default 60s.
    pub idle_timeout: Span,
    /// Time for a whole request body, and for the client to take a whole answer. Then 408, or closed. Default 30s.
    pub body_timeout: Span,
    /// The slowest body that is waited for, in bytes a second as they come over the wire, after 5 s of grace. Slower: 408.
    /// Default 1 KiB.
    pub body_min_rate: ByteSize,
    /// Size of a request body as it comes over the wire. More: 413. Default 8 MiB.
    pub max_body_bytes: ByteSize,
    /// Size of a request body after decompression. More: 413. Default 16 MiB.
    pub max_decoded_body_bytes: ByteSize,
    /// Size of a request's head: request line and header fields. More: 431. Default 16 KiB.
    pub max_header_bytes: ByteSize,
    /// Header fields of a request. More: 431. Default 100.
    pub max_headers: usize,
    /// Length of a request's target. More: 414. Default 4 KiB.
    pub max_uri_bytes: ByteSize,
    /// Requests at once on one HTTP/2 connection. Further ones are refused by the protocol. Default 100.
    pub max_streams: u32,
    /// HTTP/2 control frames (PING, SETTINGS, WINDOW_UPDATE, PRIORITY, RST_STREAM, empty DATA) a second that a connection
    /// may send for nothing; ten seconds' worth may come at once, and every request brings a few more. More: GOAWAY and
    /// closed. Default 50.
    pub control_frames_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443),
            tls: TlsMode::Generated,
            cert_file: None,
            key_file: None,
            generated_dir: PathBuf::from("certs/dev"),
            certificate_poll: Span::secs(5),
            max_connections: 10_000,
            max_connections_per_address: 1_024,
            max_handshakes: 256,
            handshake_timeout: Span::secs(5),
            header_timeout: Span::secs(10),
            idle_timeout: Span::secs(60),
            body_timeout: Span::secs(30),
            body_min_rate: ByteSize::kib(1),
            max_body_bytes: ByteSize::mib(8),
            max_decoded_body_bytes: ByteSize::mib(16),
            max_header_bytes: ByteSize::kib(16),
            max_headers: 100,
            max_uri_bytes: ByteSize::kib(4),
            max_streams: 100,
            control_frames_per_second: 50,
        }
    }
}

impl Config {
    /// The bounds of a request body, for the doors.
    pub fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            wire: self.max_body_bytes,
            decoded: self.max_decoded_body_bytes,
            timeout: self.body_timeout,
            min_rate: self.body_min_rate,
        }
    }

    /// Whether plain text would be spoken beyond this machine with nobody in front: needs `insecure = true`.
    pub fn exposed(&self) -> bool {
        self.tls == TlsMode::Off && !self.bind.ip().is_loopback()
    }

    /// What is wrong, by key.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut say = |key: &str, what: &str| mistakes.push((key.to_owned(), what.to_owned()));
        if self.tls == TlsMode::Files {
            for (key, file) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
                let Some(file) = file else {
                    say(key, "is missing: `tls = \"files\"` needs a PEM file here");
                    continue;
                };
                if let Err(error) = std::fs::File::open(file) {
                    say(key, &format!("`{}` cannot be read ({error}): expected a PEM file", file.display()));
                }
            }
        }
        for (key, span) in self.spans() {
            if span.as_millis() == 0 {
                say(key, "must be more than 0: write, for example, `5s`");
            }
        }
        for (key, count) in self.counts() {
            if count == 0 {
                say(key, "must be at least 1");
            }
        }
        if self.max_header_bytes < ByteSize::kib(1) || self.max_header_bytes > ByteSize::kib(64) {
            say("max_header_bytes", "must be between 1 KiB and 64 KiB");
        }
        if self.max_uri_bytes >= self.max_header_bytes {
            say("max_uri_bytes", "must be less than `max_header_bytes`, which includes it");
        }
        if self.max_decoded_body_bytes < self.max_body_bytes {
            say("max_decoded_body_bytes", "must be at least `max_body_bytes`");
        }
        if self.max_decoded_body_bytes > ByteSize::mib(1024) {
            say("max_decoded_body_bytes", "must be at most 1 GiB: a body is held in memory");
        }
        mistakes
    }

    fn spans(&self) -> [(&'static str, Span); 5] {
        [
            ("certificate_poll", self.certificate_poll),
            ("handshake_timeout", self.handshake_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
            ("body_timeout", self.body_timeout),
        ]
    }

    fn counts(&self) -> [(&'static str, u64); 7] {
        let wide = |n: usize| n as u64;
        [
            ("max_connections", wide(self.max_connections)),
            ("max_connections_per_address", wide(self.max_connections_per_address)),
            ("max_handshakes", wide(self.max_handshakes)),
            ("max_headers", wide(self.max_headers)),
            ("max_streams", self.max_streams.into()),
            ("control_frames_per_second", self.control_frames_per_second.into()),
            ("body_min_rate", self.body_min_rate.get()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_without_a_mistake_and_mistakes_are_all_found() {
        assert!(Config::default().mistakes().is_empty());
        let config = Config {
            tls: TlsMode::Files,
            header_timeout: Span::secs(0),
            max_connections: 0,
            max_uri_bytes: ByteSize::kib(16),
            ..Config::default()
        };
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["cert_file", "key_file", "header_timeout", "max_connections", "max_uri_bytes"]);
    }

    #[test]
    fn only_plain_text_beyond_loopback_with_nobody_in_front_is_exposed() {
        let bind = "0.0.0.0:80".parse().expect("an address");
        assert!(Config { tls: TlsMode::Off, bind, ..Config::default() }.exposed());
        assert!(!Config { tls: TlsMode::Off, ..Config::default() }.exposed());
        assert!(!Config { tls: TlsMode::Front, bind, ..Config::default() }.exposed());
    }
}
