//! Who the secure broker is and whom it knows: a certificate of a test authority, and one user.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// The user that a secure broker knows, by every mechanism.
pub const USER: &str = "alice";
/// Their password.
pub const PASSWORD: &str = "alice-secret";

/// An authority's certificate, and a broker's key and certificate signed by it, as files.
pub struct Certificates {
    /// What a client must trust.
    pub ca: PathBuf,
    /// Key and certificate in one file, as Kafka wants them.
    pub broker: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`, for localhost and 127.0.0.1.
    pub fn make(dir: &Path) -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).expect("an authority");
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).expect("two names").signed_by(&key, &issuer).expect("a certificate");

        let made = Self { ca: dir.join("ca.pem"), broker: dir.join("broker.pem") };
        std::fs::write(&made.ca, authority_certificate.pem()).expect("a file in a folder of ours");
        std::fs::write(&made.broker, key.serialize_pem() + &certificate.pem()).expect("a file in a folder of ours");
        made
    }
}

/// The lines of a broker that also listens with SASL in the clear and with SASL over TLS.
pub fn properties(certificates: &Certificates) -> String {
    let module = |name: &str| format!("org.apache.kafka.common.security.{name} required");
    let mut text = format!(
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\nssl.keystore.type=PEM\nssl.keystore.location={}\n",
        certificates.broker.display()
    );
    for listener in ["sasl", "saslssl"] {
        let plain = module("plain.PlainLoginModule");
        let scram = module("scram.ScramLoginModule");
        let prefix = format!("listener.name.{listener}");
        text += &format!("{prefix}.plain.sasl.jaas.config={plain} user_{USER}=\"{PASSWORD}\";\n");
        text += &format!("{prefix}.scram-sha-256.sasl.jaas.config={scram};\n");
        text += &format!("{prefix}.scram-sha-512.sasl.jaas.config={scram};\n");
    }
    text
}

/// What the formatting of a data folder needs to know of the user.
pub fn scram_arguments() -> Vec<String> {
    ["SCRAM-SHA-256", "SCRAM-SHA-512"]
        .iter()
        .flat_map(|mechanism| ["--add-scram".to_owned(), format!("{mechanism}=[name={USER},password={PASSWORD}]")])
        .collect()
}
