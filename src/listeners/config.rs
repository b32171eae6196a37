//! `[listeners]`: where the doors are, who ends TLS, and every bound on a connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
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

/// A door: a protocol, and who answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DoorName {
    /// HTTP/1.1 and HTTP/2: events, the callable function, probes, Kafka over WebSocket.
    Http,
    /// Kafka.
    Kafka,
    /// OTLP, over HTTP and over gRPC.
    Otlp,
}

impl DoorName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http, Self::Kafka, Self::Otlp];

    /// Its name in settings and in `/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kafka => "kafka",
            Self::Otlp => "otlp",
        }
    }
}

/// The name of the listener that is not one of `extra`.
pub const MAIN: &str = "main";

/// Where the doors are, who ends TLS, and every bound on a connection.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the doors. Port 0 takes a free one (the `ready` log line says which). Default
    /// `127.0.0.1:8443`; `PORT` in the environment means `0.0.0.0:$PORT` with `tls = "front"`.
    pub bind: SocketAddr,
    /// Who ends TLS: `generated` (this gate, with a development certificate), `files` (this gate, with `cert_file` and
    /// `key_file`), `front` (a trusted proxy in front), `off` (nobody; beyond loopback it needs `insecure = true`).
    /// Default `generated`.
    pub tls: TlsMode,
    /// The doors behind this port: `http`, `kafka`, `otlp`. What a connection speaks is told by ALPN, else by its first byte, and
    /// OTLP in HTTP by its paths; what has no door here is closed, or has no such route. Default all.
    pub doors: Vec<DoorName>,
    /// Whether plain text is spoken too where this gate ends TLS: HTTP, and Kafka with SCRAM (other mechanisms need TLS).
    /// Beyond loopback it needs `insecure = true`. Default false: what does not begin with a TLS handshake is closed.
    pub plaintext: bool,
    /// Networks of proxies that put a PROXY protocol header (version 2) before each connection, as `10.0.0.0/8`. From them the
    /// header must come, and the address in it is the client's, for limits, logs and records; from others it is not taken.
    /// Default none.
    #[schemars(with = "Vec<String>")]
    pub proxy_protocol: Vec<IpNet>,
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
    /// Connections open at once, over all listeners. Further ones are closed at once. Lowered, with a warning, to what the process may have
    /// open files. Default 10000.
    pub max_connections: usize,
    /// Connections open at once from one address (an IPv6 network of /64 is one address). Further ones are closed at
    /// once. Without meaning for `tls = "front"` without `proxy_protocol`, where all come from the proxy. Default 1024.
    pub max_connections_per_address: usize,
    /// TLS handshakes at once. Further ones wait, within their own `handshake_timeout`. Default 256.
    pub max_handshakes: usize,
    /// Time for a TLS handshake; then the connection is closed. Default 5s.
    pub handshake_timeout: Span,
    /// Time for a request's head, from its first byte (for a connection's first request: from its start). Then 408 and
    /// closed. Also the time for a PROXY header, for the first byte that tells what is spoken, and for a Kafka client to
    /// authenticate. Default 10s.
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
    /// Further listeners, each a section `[listeners.extra.NAME]` with an address of its own. They share the bounds above.
    pub extra: BTreeMap<String, Extra>,
}

/// One more listener.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Extra {
    /// Its address and port. Port 0 takes a free one. Default `127.0.0.1:9092`.
    pub bind: SocketAddr,
    /// Who ends TLS here. Default: as `listeners.tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
    /// Its certificate, for `tls = "files"`. Default: that of `listeners`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The private key of its certificate, for `tls = "files"`. Default: that of `listeners`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The doors behind it. `["otlp"]` on the ports 4318 and 4317 is where OpenTelemetry's SDKs look by themselves; without a
    /// certificate that they trust they need `plaintext = true`. Default all.
    pub doors: Vec<DoorName>,
    /// Whether plain text is spoken too where this gate ends TLS. Default false.
    pub plaintext: bool,
    /// Networks of proxies that put a PROXY protocol header before each connection. Default none.
    #[schemars(with = "Vec<String>")]
    pub proxy_protocol: Vec<IpNet>,
}

impl Default for Extra {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9092),
            tls: None,
            cert_file: None,
            key_file: None,
            doors: DoorName::ALL.to_vec(),
            plaintext: false,
            proxy_protocol: Vec::new(),
        }
    }
}

/// One listener, with all that it takes over from the section.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its key below `[listeners]`, which ends in a dot; empty for the first one.
    pub key: String,
    /// Where it is.
    pub bind: SocketAddr,
    /// Who ends TLS.
    pub tls: TlsMode,
    /// The certificate of `files`.
    pub cert_file: Option<PathBuf>,
    /// The key of `files`.
    pub key_file: Option<PathBuf>,
    /// The doors behind it.
    pub doors: Vec<DoorName>,
    /// Whether plain text is spoken beside TLS.
    pub plaintext: bool,
    /// Whose PROXY headers are believed.
    pub proxy_protocol: Vec<IpNet>,
}

impl Place {
    /// Its name in logs: what the operator calls it.
    pub fn name(&self) -> &str {
        self.key.strip_prefix("extra.").map_or(MAIN, |name| name.trim_end_matches('.'))
    }

    /// Whether plain text would be spoken beyond this machine with nobody in front.
    fn is_exposed(&self) -> bool {
        !self.bind.ip().is_loopback() && (self.tls == TlsMode::Off || (self.plaintext && self.tls != TlsMode::Front))
    }

    fn mistakes(&self) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut say = |key: &str, what: String| mistakes.push((format!("{}{key}", self.key), what));
        if self.doors.is_empty() {
            say("doors", "names no door: write one or more of `http`, `kafka`, `otlp`".to_owned());
        }
        if self.tls != TlsMode::Files {
            return mistakes;
        }
        for (key, file) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            let Some(file) = file else {
                say(key, "is missing: `tls = \"files\"` needs a PEM file here".to_owned());
                continue;
            };
            if let Err(error) = std::fs::File::open(file) {
                say(key, format!("`{}` cannot be read ({error}): expected a PEM file", file.display()));
            }
        }
        mistakes
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443),
            tls: TlsMode::Generated,
            doors: DoorName::ALL.to_vec(),
            plaintext: false,
            proxy_protocol: Vec::new(),
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
            extra: BTreeMap::new(),
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

    /// Every listener: the one of the section, and those of `extra`.
    pub fn places(&self) -> Vec<Place> {
        let main = Place {
            key: String::new(),
            bind: self.bind,
            tls: self.tls,
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            doors: self.doors.clone(),
            plaintext: self.plaintext,
            proxy_protocol: self.proxy_protocol.clone(),
        };
        let further = |(name, extra): (&String, &Extra)| Place {
            key: format!("extra.{name}."),
            bind: extra.bind,
            tls: extra.tls.unwrap_or(self.tls),
            cert_file: extra.cert_file.clone().or_else(|| self.cert_file.clone()),
            key_file: extra.key_file.clone().or_else(|| self.key_file.clone()),
            doors: extra.doors.clone(),
            plaintext: extra.plaintext,
            proxy_protocol: extra.proxy_protocol.clone(),
        };
        std::iter::once(main).chain(self.extra.iter().map(further)).collect()
    }

    /// Whether nobody beyond this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.places().iter().all(|place| place.bind.ip().is_loopback())
    }

    /// Where plain text would be spoken beyond this machine with nobody in front, which needs `insecure = true`: the key
    /// that makes it so, and the address.
    pub fn exposed(&self) -> Vec<(String, SocketAddr)> {
        let key = |place: &Place| if place.tls == TlsMode::Off { "tls" } else { "plaintext" };
        let exposed = self.places().into_iter().filter(Place::is_exposed);
        exposed.map(|place| (format!("{}{}", place.key, key(&place)), place.bind)).collect()
    }

    /// What is wrong, by key.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let places = self.places();
        let mut mistakes: Vec<_> = places.iter().flat_map(Place::mistakes).collect();
        for (index, place) in places.iter().enumerate() {
            let taken = place.bind.port() != 0 && places[..index].iter().any(|other| other.bind == place.bind);
            if taken {
                mistakes
                    .push((format!("{}bind", place.key), format!("{} is another listener's address; expected one of its own", place.bind)));
            }
        }
        let mut say = |key: &str, what: &str| mistakes.push((key.to_owned(), what.to_owned()));
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
        let exposed = |config: Config| config.exposed().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(exposed(Config { tls: TlsMode::Off, bind, ..Config::default() }), ["tls"]);
        assert_eq!(exposed(Config { plaintext: true, bind, ..Config::default() }), ["plaintext"]);
        assert!(exposed(Config { tls: TlsMode::Off, plaintext: true, ..Config::default() }).is_empty());
        assert!(exposed(Config { tls: TlsMode::Front, plaintext: true, bind, ..Config::default() }).is_empty());
        let mut config = Config::default();
        config.extra.insert("wide".to_owned(), extra("bind = \"0.0.0.0:81\"\ntls = \"off\""));
        assert!(!config.is_loopback());
        assert_eq!(exposed(config), ["extra.wide.tls"]);
    }

    fn extra(text: &str) -> Extra {
        toml::from_str(text).expect("a listener")
    }

    #[test]
    fn a_further_listener_takes_over_what_it_does_not_say() {
        let mut config = Config { tls: TlsMode::Front, cert_file: Some("a.pem".into()), ..Config::default() };
        config.extra.insert("near".to_owned(), extra("bind = \"127.0.0.1:0\""));
        config.extra.insert("own".to_owned(), extra("bind = \"127.0.0.1:0\"\ntls = \"off\"\ndoors = [\"kafka\"]\ncert_file = \"b.pem\""));
        let places = config.places();
        let told = |place: &Place| (place.name().to_owned(), place.tls, place.doors.len(), place.cert_file.clone().expect("one"));
        assert_eq!(told(&places[0]), ("main".to_owned(), TlsMode::Front, 3, "a.pem".into()));
        assert_eq!(told(&places[1]), ("near".to_owned(), TlsMode::Front, 3, "a.pem".into()));
        assert_eq!(told(&places[2]), ("own".to_owned(), TlsMode::Off, 1, "b.pem".into()));
        assert!(config.mistakes().is_empty());
    }

    #[test]
    fn a_further_listener_with_a_mistake_is_named() {
        let mut config = Config::default();
        config.extra.insert("a".to_owned(), extra("bind = \"127.0.0.1:8443\"\ndoors = []"));
        config.extra.insert("b".to_owned(), extra("bind = \"127.0.0.1:0\"\ntls = \"files\""));
        let keys: Vec<_> = config.mistakes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["extra.a.doors", "extra.b.cert_file", "extra.b.key_file", "extra.a.bind"]);
        assert!(toml::from_str::<Extra>("bind = \"127.0.0.1:1\"\nproxy_protocol = [\"10.0.0.0\"]").is_err());
    }
}
