//! What clients are put on: three brokers, and a gate before them unless the brokers themselves are asked.
//!
//! What always holds: one user, who may write to the topics that start with `events` and to the platform's own; at both
//! targets the same password, and a token that each takes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::messages::ApiKey;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, FailOver};
use crate::support::gate::{Gate, Setup};
use crate::support::kafka_clients::{Address, Login};
use crate::support::probe::Probe;
use crate::support::security::{PASSWORD, USER};
use crate::support::{DEADLINE, eventually, free_port, not_run};

use super::{DENIED_TOPIC, PARTITIONS, REPLAYED, TOPIC, Target};

/// What the user may write to.
const GRANTS: &str = "events*,frontend-events";

/// A user whose tier has a small quota, and the same grants and password.
pub const SLOW_USER: &str = "slow";

/// Events a second that the small quota lets through, and at once.
pub const SLOW_RATE: usize = 150;

const KEY: &str = "a key of the tests' own issuer, long enough to be one";

const CONFIG: &str = r#"
[limits.tiers.standard]
events_per_second = 1000000.0
burst = 1000000
kib_per_second = 1000000.0
kib_burst = 1000000

[limits.tiers.small]
events_per_second = 150.0
burst = 150
kib_per_second = 1000000.0
kib_burst = 1000000

[auth.issuers.test]
kind = "static"
issuer = "test"
audience = "sluicegate"
algorithm = "HS256"
topics_claim = "topics"

[[routes]]
topic = "*"
"#;

/// How a stage is built.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// The gate speaks without TLS too.
    pub plaintext: bool,
    /// Clients without TLS come to the gate through a probe, and are told to.
    pub probe: bool,
    /// The brokers are as narrow as Redpanda.
    pub narrow: bool,
    /// The gate has the deadlines that it is shipped with.
    pub shipped: bool,
    /// How soon a broker is taken for dead.
    pub fail_over: FailOver,
}

impl Default for Wish {
    fn default() -> Self {
        Self { plaintext: false, probe: false, narrow: false, shipped: false, fail_over: FailOver::Calm }
    }
}

/// The brokers, and what is before them.
pub struct Stage {
    pub gate: Option<Gate>, // Before the brokers: it is the one that would complain.
    pub probe: Option<Probe>,
    pub cluster: Cluster,
}

impl Stage {
    /// Brokers with their topics; before them a gate, where the clients connect to one.
    pub async fn new(wish: Wish) -> Self {
        let cluster = Cluster::start(wish.fail_over).await;
        for topic in [TOPIC, DENIED_TOPIC] {
            cluster.create_topic(topic, PARTITIONS, &[]).await;
        }
        match Target::chosen() {
            Target::Gate => Self::with_gate(cluster, wish).await,
            Target::Direct => Self { cluster, gate: None, probe: None },
        }
    }

    /// A stage with a gate, or a word that a test needs one.
    pub async fn gate_only(wish: Wish, why: &str) -> Option<Self> {
        if Target::chosen() == Target::Direct {
            not_run(1, why);
            return None;
        }
        Some(Self::new(wish).await)
    }

    async fn with_gate(cluster: Cluster, wish: Wish) -> Self {
        let port = free_port();
        let probe = if wish.probe { Some(Probe::start(port).await) } else { None };
        let brokers = if wish.narrow { cluster.narrow_brokers() } else { cluster.brokers() };
        let mut setup = Setup::new().env("REDPANDA_BROKERS", &brokers).config(CONFIG);
        let users = setup.path("users.toml").display().to_string();
        setup = setup
            .env("SLUICEGATE__AUTH__USERS_FILE", &users)
            .env("SLUICEGATE__AUTH__ISSUERS__TEST__KEY", KEY)
            // So that topics that a test makes later are soon known.
            .env("SLUICEGATE__SINK__CATALOG_REFRESH", "1s")
            .env("SLUICEGATE__LISTENERS__BIND", &format!("127.0.0.1:{port}"));
        if wish.shipped {
            setup = setup.shipped();
        }
        if wish.plaintext || wish.probe {
            setup = setup.env("SLUICEGATE__LISTENERS__PLAINTEXT", "true");
        }
        if let Some(probe) = &probe {
            setup = setup.env("PUBLIC_REDPANDA_HOST", "127.0.0.1").env("PUBLIC_REDPANDA_PORT", &probe.port().to_string());
        }
        add_user(&setup, USER, "standard").await;
        add_user(&setup, SLOW_USER, "small").await;
        let gate = setup.start().await;
        Self { cluster, gate: Some(gate), probe }
    }

    /// Makes a topic, and waits until a gate knows it too: until then it would be one that is not there.
    pub async fn create_topic(&self, name: &str, partitions: i32) {
        self.cluster.create_topic(name, partitions, &[]).await;
        let Some(gate) = &self.gate else { return };
        let known = async || gate.admin_get("/status").await.text().contains(&format!("\"{name}\"")).then_some(());
        eventually("the gate knows a new topic", DEADLINE, known).await;
    }

    /// Where clients connect to with TLS.
    pub fn secure(&self, login: Login) -> Address {
        match &self.gate {
            Some(gate) => Address { bootstrap: gate.https.to_string(), ca: gate.ca(), login },
            None => Address { bootstrap: self.cluster.secure_brokers(), ca: Some(self.cluster.ca().to_owned()), login },
        }
    }

    /// Where they connect to without, through the probe if there is one. (Brokers of a test take credentials over TLS alone.)
    pub fn plain(&self, login: Login) -> Address {
        let Some(gate) = &self.gate else { return self.secure(login) };
        let port = self.probe.as_ref().map_or(gate.https.port(), Probe::port);
        Address { bootstrap: format!("127.0.0.1:{port}"), ca: None, login }
    }

    /// Who the user is, by one of the four mechanisms.
    pub async fn login(&self, mechanism: &'static str) -> Login {
        if mechanism == "OAUTHBEARER" { Login::Token(self.token().await) } else { password(mechanism) }
    }

    /// A token that is taken here: of the gate's issuer, or an unsigned one.
    async fn token(&self) -> String {
        let Some(gate) = &self.gate else { return unsigned(&json!({"sub": USER, "iat": 1_700_000_000, "exp": 4_000_000_000_u64})) };
        gate.token(&["--sub", USER, "--topics", GRANTS, "--issuer", "test"]).await
    }

    /// Waits until everything is replayed; nothing was set aside.
    pub async fn replayed(&self) {
        let Some(gate) = &self.gate else { return };
        let status = async || gate.admin_get("/status").await.json();
        eventually("the inbox is empty", REPLAYED, async || (status().await["inbox"]["rows"] == 0).then_some(())).await;
        assert_eq!(status().await["inbox"]["poison"], 0);
    }

    /// The gate has not hung up on anybody, and clients did come through the probe.
    pub fn assert_nobody_was_hung_up_on(&self) {
        let Some(probe) = &self.probe else { return };
        assert!(probe.answers(ApiKey::Produce) > 0, "the clients came past the probe");
        assert_eq!(probe.hung_up(), 0, "of {} connections", probe.connections());
    }
}

/// The user's name and password, by a mechanism.
pub fn password(mechanism: &'static str) -> Login {
    Login::Password(mechanism, USER.to_owned(), PASSWORD.to_owned())
}

/// A token of nobody's.
pub fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none"})), part(claims))
}

async fn add_user(setup: &Setup, name: &str, tier: &str) {
    let file = setup.path("secret.txt");
    std::fs::write(&file, PASSWORD).expect("a file in a folder of ours");
    let file = file.display().to_string();
    let added = setup.run(&["user", "add", name, "--topics", GRANTS, "--tier", tier, "--password-file", &file]).await;
    assert_eq!(added.status, 0, "{}{}", added.stdout, added.stderr);
}
