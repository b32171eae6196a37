//! The development certificate: an authority and a certificate for this machine, made when there is none.
//!
//! The authority's key is forgotten once it has signed: whoever trusts `ca.pem` trusts this one certificate. Both are
//! renewed together.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

use super::Files;
use super::certificate::Certificate;

/// How long it is good for; what browsers take at most is 398 days.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// Renewed so long before its end.
const RENEW_AHEAD: Duration = Duration::from_hours(30 * 24);

/// Clocks of clients may be behind.
const SLACK: Duration = Duration::from_hours(24);

/// The files in `dir`, made anew unless they are good for a while.
pub fn ensure(dir: &Path) -> io::Result<Files> {
    let files = Files { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if is_good(&files, &dir.join("ca.pem")) {
        return Ok(files);
    }
    let failed = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("`listeners.generated_dir` = `{}`: no certificate could be made: {error}", dir.display()))
    };
    let made = make(OffsetDateTime::now_utc()).map_err(|error| failed(&error))?;
    fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    // The key first: until the last file is there, the three do not fit and would be made again.
    for (name, text, mode) in [("key.pem", &made.key, 0o600), ("cert.pem", &made.cert, 0o644), ("ca.pem", &made.ca, 0o644)] {
        replace(&dir.join(name), text, mode).map_err(|error| failed(&error))?;
    }
    tracing::info!(ca = %dir.join("ca.pem").display(), "a development certificate was made; clients have to trust its authority");
    Ok(files)
}

/// Whether the certificate fits its key, is signed by the authority that clients trust, and stays good for a while.
fn is_good(files: &Files, ca: &Path) -> bool {
    let now = SystemTime::now();
    let Ok(certificate) = Certificate::load(files, now) else { return false };
    !certificate.ends_within(RENEW_AHEAD, now) && certificate.key.cert.first().is_some_and(|leaf| is_signed(leaf, ca))
}

fn is_signed(leaf: &CertificateDer<'_>, ca: &Path) -> bool {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(ca).is_ok_and(|ca| roots.add(ca).is_ok());
    if !trusted {
        return false;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else { return false };
    let names = ["localhost", "127.0.0.1", "::1"];
    names.into_iter().filter_map(|name| ServerName::try_from(name).ok()).all(|name| {
        use rustls::client::danger::ServerCertVerifier;
        verifier.verify_server_cert(leaf, &[], &name, &[], UnixTime::now()).is_ok()
    })
}

struct Made {
    ca: String,
    cert: String,
    key: String,
}

fn make(now: OffsetDateTime) -> Result<Made, rcgen::Error> {
    let (from, to) = (now - SLACK, now + LIFETIME);
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.not_before = from;
    ca.not_after = to;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, format!("Sluicegate development authority {}", now.unix_timestamp()));
    let ca_key = KeyPair::generate()?;
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    leaf.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    leaf.subject_alt_names.push(SanType::IpAddress(Ipv6Addr::LOCALHOST.into()));
    leaf.not_before = from;
    leaf.not_after = to;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    let key = KeyPair::generate()?;
    let cert = leaf.signed_by(&key, &issuer)?;
    Ok(Made { ca: ca_cert.pem(), cert: cert.pem(), key: key.serialize_pem() })
}

/// Puts a file in place whole, and never readable for longer than its mode says.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let draft = path.with_extension(format!("pem.{}", std::process::id()));
    // One that a crash left behind would keep its mode.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_kept_while_it_is_good() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("certs/dev");
        let files = ensure(&dir).expect("made");
        let read = |name: &str| fs::read_to_string(dir.join(name)).expect("a file");
        let first = (read("ca.pem"), read("cert.pem"), read("key.pem"));
        assert_eq!(fs::metadata(&files.key).expect("a file").permissions().mode() & 0o777, 0o600);
        ensure(&dir).expect("kept");
        assert_eq!(first, (read("ca.pem"), read("cert.pem"), read("key.pem")));
    }

    #[test]
    fn what_does_not_fit_or_ends_soon_is_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        let ca = dir.join("ca.pem");
        let files = ensure(dir).expect("made");
        let other = make(OffsetDateTime::now_utc()).expect("another");
        let old = make(OffsetDateTime::now_utc() - (LIFETIME - RENEW_AHEAD) - Duration::from_hours(1)).expect("an old one");
        for spoil in [&|| fs::write(&ca, &other.ca), &|| fs::write(&files.key, &other.key), &|| fs::remove_file(&ca), &|| {
            fs::write(&ca, &old.ca).and_then(|()| fs::write(&files.cert, &old.cert)).and_then(|()| fs::write(&files.key, &old.key))
        }] as [&dyn Fn() -> io::Result<()>; 4]
        {
            spoil().expect("spoilt");
            assert!(!is_good(&files, &ca));
            ensure(dir).expect("made anew");
            assert!(is_good(&files, &ca));
        }
    }
}
