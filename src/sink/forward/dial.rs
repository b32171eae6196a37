//! The way to a broker: TCP, TLS, its versions, our credentials. What comes out is a [`Session`] that may be used.
//!
//! What always holds: no credential is sent before TLS stands, where TLS is configured; a broker that does not speak what
//! is needed is not used. The whole of it is given up after [`CONNECT_LIMIT`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::sink::config::{Config, Mechanism};
use crate::units::Secret;

use super::cluster::Address;
use super::fault::Fault;
use super::messages::{self, Api, Call};
use super::scram;
use super::session::{Session, Socket};

/// A connection that is not ready by then is none.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// What is used of the time for which a broker believes us.
const LIFETIME_USED: f64 = 0.8;

/// An option of `[sink]` that is not what it says, and what is wrong with it.
type Mistake = (&'static str, String);

/// Who we are towards a broker.
struct Login {
    mechanism: Mechanism,
    user: String,
    password: Secret,
}

/// See the module.
pub(super) struct Dialer {
    tls: Option<TlsConnector>,
    login: Option<Login>,
}

impl Dialer {
    /// By the same options as the producer's.
    pub(super) fn new(config: &Config) -> Result<Self, Mistake> {
        let tls = config.security_protocol.has_tls().then(|| tls(config)).transpose()?;
        let login = config.security_protocol.has_sasl().then(|| Login {
            mechanism: config.sasl_mechanism,
            user: config.sasl_username.clone(),
            password: config.sasl_password.clone(),
        });
        Ok(Self { tls: tls.map(|tls| TlsConnector::from(Arc::new(tls))), login })
    }

    /// A session at that address.
    pub(super) async fn dial(&self, address: &Address) -> Result<Session, Fault> {
        timeout(CONNECT_LIMIT, self.connect(address)).await.unwrap_or(Err(Fault::Silence))
    }

    async fn connect(&self, address: &Address) -> Result<Session, Fault> {
        let tcp = tcp(address).await?;
        let socket: Box<dyn Socket> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(address.host.to_string()).map_err(|_| Fault::Name)?;
                Box::new(tls.connect(name, tcp).await.map_err(|error| Fault::Tls(error.to_string()))?)
            }
        };
        let mut session = Session::new(socket);
        let question = messages::api_versions(session.begin());
        let answer = session.ask(Call { api: Api::ApiVersions, version: 0 }, question).await?;
        session.offered = messages::offered(answer)?;
        session.offered.call(Api::Produce)?;
        session.offered.call(Api::Metadata)?;
        if let Some(login) = &self.login {
            login.show(&mut session).await?;
        }
        Ok(session)
    }
}

impl Login {
    /// Shows who we are, and sees who the broker is.
    async fn show(&self, session: &mut Session) -> Result<(), Fault> {
        let call = session.offered.call(Api::SaslHandshake)?;
        let question = messages::sasl_handshake(call, session.begin(), self.mechanism.as_str());
        messages::handshaken(call, session.ask(call, question).await?)?;
        let lifetime_ms = match self.mechanism {
            Mechanism::Plain => {
                let message = zeroize::Zeroizing::new(format!("\0{}\0{}", self.user, self.password.expose()));
                authenticate(session, message.as_bytes()).await?.1
            }
            Mechanism::ScramSha256 => self.scram(session, scram::Hash::Sha256).await?,
            Mechanism::ScramSha512 => self.scram(session, scram::Hash::Sha512).await?,
        };
        let lifetime = Duration::from_millis(lifetime_ms);
        session.retire_at = (lifetime_ms > 0).then(|| Instant::now().checked_add(lifetime.mul_f64(LIFETIME_USED))).flatten();
        Ok(())
    }

    async fn scram(&self, session: &mut Session, hash: scram::Hash) -> Result<u64, Fault> {
        let exchange = scram::Exchange::new(hash, &self.user, &self.password)?;
        let (answer, _) = authenticate(session, exchange.first().as_bytes()).await?;
        let proven = tokio::task::spawn_blocking(move || exchange.prove(&answer)).await;
        let (proof, expected) = proven.map_err(|_| Fault::Ended)??;
        let (answer, lifetime_ms) = authenticate(session, proof.as_bytes()).await?;
        expected.verify(&answer)?;
        Ok(lifetime_ms)
    }
}

async fn authenticate(session: &mut Session, message: &[u8]) -> Result<(bytes::Bytes, u64), Fault> {
    let call = session.offered.call(Api::SaslAuthenticate)?;
    let question = messages::sasl_authenticate(call, session.begin(), message);
    messages::authenticated(call, session.ask(call, question).await?)
}

/// The first of the host's addresses that takes us.
async fn tcp(address: &Address) -> Result<TcpStream, Fault> {
    let found = lookup_host((&*address.host, address.port)).await.map_err(|_| Fault::Name)?;
    let mut fault = Fault::Name;
    for place in found {
        let socket = if place.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let connected = match socket {
            Ok(socket) => {
                // Without these two it works too, only later.
                let _ = (socket.set_keepalive(true), socket.set_nodelay(true));
                socket.connect(place).await
            }
            Err(error) => Err(error),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => fault = Fault::Connect(error.kind()),
        }
    }
    Err(fault)
}

/// Trust in the configured authorities, or in the system's; our own certificate where there is one.
fn tls(config: &Config) -> Result<ClientConfig, Mistake> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("security_protocol", error.to_string()))?
        .with_root_certificates(roots(&config.ssl_ca_b64)?);
    if config.ssl_cert_b64.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates("ssl_cert_b64", &config.ssl_cert_b64)?;
    let key = pem("ssl_key_b64", config.ssl_key_b64.expose())?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| ("ssl_key_b64", "holds no private key in PEM".to_owned()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| ("ssl_cert_b64", format!("cannot be used with its key: {error}")))
}

fn roots(text: &str) -> Result<RootCertStore, Mistake> {
    let mut roots = RootCertStore::empty();
    if text.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    }
    for certificate in certificates("ssl_ca_b64", text)? {
        roots.add(certificate).map_err(|error| ("ssl_ca_b64", format!("is no authority: {error}")))?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let pem = pem(key, text)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or((key, "holds no certificate in PEM".to_owned()))
}

fn pem(key: &'static str, text: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, Mistake> {
    let decoded = STANDARD.decode(text.split_whitespace().collect::<String>());
    decoded.map(zeroize::Zeroizing::new).map_err(|_| (key, "is not PEM in base64".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SecurityProtocol;

    fn with_ca(pem: &str) -> Config {
        Config { security_protocol: SecurityProtocol::Ssl, ssl_ca_b64: STANDARD.encode(pem), ..Config::default() }
    }

    #[test]
    fn trust_is_in_the_configured_authority_and_what_is_none_is_said() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let authority = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
        assert!(Dialer::new(&with_ca(&authority)).is_ok_and(|dialer| dialer.tls.is_some()));
        assert_eq!(Dialer::new(&with_ca("nothing")).err().map(|(key, _)| key), Some("ssl_ca_b64"));
        let own = Config { ssl_cert_b64: STANDARD.encode(&authority), ssl_key_b64: Secret::new("%"), ..with_ca(&authority) };
        assert_eq!(Dialer::new(&own).err().map(|(key, _)| key), Some("ssl_key_b64"));
        let own = Config { ssl_key_b64: Secret::new(STANDARD.encode(key.serialize_pem())), ..own };
        assert!(Dialer::new(&own).is_ok());
        assert!(Dialer::new(&Config::default()).is_ok_and(|dialer| dialer.tls.is_none() && dialer.login.is_none()));
    }
}
