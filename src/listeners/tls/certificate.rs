//! A certificate and its key, read from PEM files and found to fit each other and this hour.
//!
//! Errors name the key of the configuration, the file, and what to do. No line of a key is in them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Files;

/// A certificate that can be used.
#[derive(Debug)]
pub struct Certificate {
    /// The chain and its key, as handshakes need them.
    pub key: Arc<CertifiedKey>,
    /// When it ends, in Unix seconds.
    pub not_after: i64,
    /// The files it was read from, as they were before.
    pub print: Print,
}

impl Certificate {
    /// Reads and checks.
    pub fn load(files: &Files, now: SystemTime) -> Result<Self, String> {
        let print = Print::of(files);
        let (cert, key) = (files.cert.display(), files.key.display());
        let chain = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| format!("`listeners.cert_file` = `{cert}` cannot be read as PEM: {error}"))?;
        let Some(leaf) = chain.first() else {
            return Err(format!(
                "`listeners.cert_file` = `{cert}` has no certificate in it; it needs the certificate, then its chain, as PEM"
            ));
        };
        let not_after = check_time(leaf, unix(now)).map_err(|what| format!("`listeners.cert_file` = `{cert}`: {what}"))?;
        let private = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| format!("`listeners.key_file` = `{key}` cannot be read as a PEM private key: {error}"))?;
        let key = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key `{key}` is not the key of the certificate `{cert}`; give the two that were issued together")
            }
            error => format!("the certificate `{cert}` with the key `{key}` is not usable: {error}"),
        })?;
        Ok(Self { key: Arc::new(key), not_after, print })
    }

    /// Whether it ends within this time.
    pub fn ends_within(&self, time: Duration, now: SystemTime) -> bool {
        self.not_after < unix(now).saturating_add_unsigned(time.as_secs())
    }

    /// When it ends, for people.
    pub fn expires(&self) -> String {
        date(self.not_after)
    }
}

/// When the certificate ends; else why it is of no use now.
fn check_time(leaf: &CertificateDer<'_>, now: i64) -> Result<i64, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| format!("not a certificate: {error}"))?;
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    if now >= to {
        return Err(format!("the certificate expired at {}; put a new one in its place", date(to)));
    }
    if now < from {
        return Err(format!("the certificate is not valid before {}; check the clock, or use the one before it", date(from)));
    }
    Ok(to)
}

fn date(unix: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp(unix).ok().and_then(|date| date.format(&Rfc3339).ok());
    date.unwrap_or_else(|| unix.to_string())
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What tells that one of the files has changed, through any symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print([Option<File>; 2]);

/// Device, inode, modified (seconds, nanoseconds), size.
type File = (u64, u64, i64, i64, u64);

impl Print {
    /// The files as they are now.
    pub fn of(files: &Files) -> Self {
        let one = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
        };
        Self([one(&files.cert), one(&files.key)])
    }
}
