//! STUBS of the areas' `Config` structs: only so that this branch compiles on its own. The trunk replaces them by the areas'.
#![allow(missing_docs, clippy::missing_errors_doc)]

type Mistakes = Vec<(String, String)>;

macro_rules! stub {
    ($area:ident { $($(#[$doc:meta])* $field:ident : $type:ty = $default:expr),* $(,)? }) => {
        pub mod $area {
            use super::*;
            #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
            #[serde(default, deny_unknown_fields)]
            pub struct Config { $($(#[$doc])* pub $field: $type),* }
            impl Default for Config {
                fn default() -> Self { Self { $($field: $default),* } }
            }
            impl Config {
                pub fn mistakes(&self) -> Mistakes { Vec::new() }
            }
        }
    };
}

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Secret};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// This gate, with a development certificate.
    Generated,
    /// This gate, with certificates from files.
    Files,
    /// A trusted proxy in front.
    Front,
    /// Nobody.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Firebase,
    Oidc,
    Static,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerConfig {
    /// Where its keys come from.
    pub kind: Kind,
    /// Firebase: the project's id.
    pub project: Option<String>,
    /// Static: the key.
    pub key: Secret,
    /// Topics of all tokens.
    pub topics: Vec<crate::auth::grants::Grant>,
    /// The claim that names the tier.
    pub tier_claim: Option<String>,
}
impl Default for IssuerConfig {
    fn default() -> Self {
        Self { kind: Kind::Oidc, project: None, key: Secret::default(), topics: Vec::new(), tier_claim: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Callable {
    /// Name of the function, which is its path. Default `ingestEvent`.
    pub name: String,
    /// Topic of its events. Default `frontend-events`.
    pub topic: String,
}
impl Default for Callable {
    fn default() -> Self {
        Self { name: "ingestEvent".into(), topic: "frontend-events".into() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tier {
    /// Events a second.
    pub events_per_second: f64,
    /// Events at once.
    pub burst: u32,
    /// KiB a second.
    pub kib_per_second: f64,
    /// KiB at once.
    pub kib_burst: u32,
}
impl Default for Tier {
    fn default() -> Self {
        Self { events_per_second: 1_000.0, burst: 20_000, kib_per_second: 16_384.0, kib_burst: 65_536 }
    }
}

stub!(listeners {
    /// Address and port of the HTTPS door. Default `127.0.0.1:8443`.
    bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8443)),
    /// Who ends TLS. Default `generated`.
    tls: TlsMode = TlsMode::Generated,
});
stub!(door {
    /// Origins.
    cors_allowed_origins: Vec<String> = Vec::new(),
    /// Topic of native events that name none.
    default_topic: String = String::new(),
    /// Topics for which a native event without `data` is itself the data.
    bare_topics: Vec<String> = Vec::new(),
    /// Proxies in front.
    trusted_hops: u8 = 0,
    /// The callable function.
    callable: Callable = Callable::default(),
});
stub!(auth {
    /// The issuers.
    issuers: BTreeMap<String, IssuerConfig> = BTreeMap::new(),
});
stub!(limits {
    /// Bytes in flight. Default 128 MiB.
    in_flight: ByteSize = ByteSize::mib(128),
    /// The tier of those whose token names none.
    default_tier: String = "standard".to_owned(),
    /// Quotas by tier.
    tiers: BTreeMap<String, Tier> = BTreeMap::from([("standard".to_owned(), Tier::default())]),
});
stub!(sink {
    /// The brokers, each `host:port`. Default: none, and then everything goes to the inbox.
    brokers: Vec<String> = Vec::new(),
    /// The protocol.
    security_protocol: String = "PLAINTEXT".to_owned(),
    /// The SASL mechanism.
    sasl_mechanism: String = String::new(),
    /// The SASL user.
    sasl_username: String = String::new(),
    /// The SASL password.
    sasl_password: Secret = Secret::default(),
    /// PEM.
    ssl_ca_b64: String = String::new(),
    /// PEM.
    ssl_cert_b64: String = String::new(),
    /// PEM.
    ssl_key_b64: Secret = Secret::default(),
});
stub!(inbox {
    /// The folder. Default `data`.
    path: String = "data".to_owned(),
});
stub!(admin {
    /// Address and port. Default `127.0.0.1:8444`.
    bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8444)),
});
stub!(telemetry {
    /// Form.
    format: String = "auto".to_owned(),
    /// Project.
    project: String = String::new(),
});

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    Raw,
    Command,
    Telemetry,
}

pub mod route {
    use super::*;
    use crate::auth::grants::Grant;

    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct Config {
        /// The event's id: what consumers de-duplicate by.
        pub id: String,
        /// Who sent it: `<issuer>:<subject>`. Empty: not written.
        pub principal: String,
        /// Which door it came in by. Empty: not written.
        pub source: String,
    }
    impl Default for Config {
        fn default() -> Self {
            Self { id: "x-deml-event-id".into(), principal: "x-deml-principal".into(), source: "x-deml-source".into() }
        }
    }
    impl Config {
        pub fn mistakes(&self) -> Mistakes {
            Vec::new()
        }
    }

    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct RouteConfig {
        /// The topic, or a prefix that ends in `*`.
        pub topic: Grant,
        /// The shape of the record's value.
        pub shape: Shape,
        /// The largest event. Default 960 KiB.
        pub max_event_bytes: ByteSize,
        /// Whether events of this route go to the inbox.
        pub inbox: bool,
        /// Partitions for `sluicegate topics --create`.
        pub partitions: i32,
        /// Copies for `sluicegate topics --create`.
        pub replication: i32,
    }
    impl Default for RouteConfig {
        fn default() -> Self {
            Self {
                topic: Grant::Exact("events".into()),
                shape: Shape::Raw,
                max_event_bytes: ByteSize::kib(960),
                inbox: true,
                partitions: 3,
                replication: -1,
            }
        }
    }
    pub fn mistakes(routes: &[RouteConfig]) -> Mistakes {
        let _ = routes;
        Vec::new()
    }
}
