//! Who is there. Only [`authenticate`](super::Authenticator::authenticate) makes a [`Principal`].

use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::grants::Grants;

/// Somebody whose credentials were verified. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Principal(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    issuer: String,
    subject: String,
    tier: String,
    grants: Grants,
    expires: Option<SystemTime>,
    key: Option<String>,
    name: String,
    hash: String,
}

impl Principal {
    /// Writes down who was verified. `issuer` is the name of the credentials' section in the configuration, so that the
    /// same subject of two issuers is two principals.
    pub(super) fn new(issuer: &str, subject: &str, tier: &str, grants: Grants, expires: Option<SystemTime>) -> Self {
        Self::vouched_for(issuer, subject, tier, grants, expires, None)
    }

    /// The same, by the key of this name.
    pub(super) fn vouched_for(
        issuer: &str,
        subject: &str,
        tier: &str,
        grants: Grants,
        expires: Option<SystemTime>,
        key: Option<&str>,
    ) -> Self {
        let name = format!("{issuer}:{subject}");
        let hash = hex::encode(&Sha256::digest(name.as_bytes())[..6]);
        Self(Arc::new(Verified {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            tier: tier.to_owned(),
            grants,
            expires,
            key: key.map(str::to_owned),
            name,
            hash,
        }))
    }

    /// A principal without credentials, for unit tests of what comes behind authentication.
    #[cfg(test)]
    pub(crate) fn for_tests(issuer: &str, subject: &str, grants: Grants) -> Self {
        Self::new(issuer, subject, "standard", grants, None)
    }

    /// The name of the key by which it was verified, if it has one.
    pub(super) fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Whether both come from the same reading of the same credentials.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// `<issuer>:<subject>`: one name for one somebody, over all doors.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of the issuer's section in the configuration.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The subject as its issuer calls it: a Firebase uid, a service's name.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The name of the quota tier.
    pub fn tier(&self) -> &str {
        &self.0.tier
    }

    /// 12 hex digits of the name's hash, before a client's keys.
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// When the credentials end, if they do.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.expires
    }

    /// What it may do.
    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }
}
