//! STAND-IN.
use std::path::Path;
use std::sync::Arc;

/// Stand-in.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Stand-in.
pub fn generated(dir: &Path) -> std::io::Result<Arc<rustls::ServerConfig>> {
    let other = std::io::Error::other::<Box<dyn std::error::Error + Send + Sync>>;
    std::fs::create_dir_all(dir)?;
    let ca_key = rcgen::KeyPair::generate().map_err(|e| other(e.into()))?;
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new()).map_err(|e| other(e.into()))?;
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Sluicegate development CA");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).map_err(|e| other(e.into()))?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().map_err(|e| other(e.into()))?;
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).map_err(|e| other(e.into()))?;
    let cert = leaf.signed_by(&key, &issuer).map_err(|e| other(e.into()))?;
    std::fs::write(dir.join("ca.pem"), ca_cert.pem())?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| other(e.into()))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .map_err(|e| other(e.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
