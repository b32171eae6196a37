//! A developer's own gate: it makes what others are given.

use std::path::PathBuf;
use std::time::Duration;

use super::StartError;
use crate::auth::dev::{self, DEV_ISSUER, DEV_USER, DevKey};
use crate::config::Config;
use crate::listeners::TlsMode;
use crate::units::Secret;

/// What a developer's own gate has beside.
#[derive(Debug, Clone)]
pub struct Development {
    /// A token for every topic.
    pub token: String,
    /// The password of the user [`DEV_USER`], who may send to every topic as well.
    pub password: Secret,
    /// The certificate authority to trust; none: the gate speaks in plain text.
    pub ca: Option<PathBuf>,
}

/// A developer's own gate issues its own tokens, and has one user.
pub(super) fn develop(config: &mut Config) -> Result<Development, StartError> {
    let dir = config.listeners.generated_dir.clone();
    let failed = |error: &dyn std::fmt::Display| StartError::Failed(format!("no development credentials in `{}`: {error}", dir.display()));
    let key = DevKey::load_or_create(&dir).map_err(|error| failed(&error))?;
    let issuer = key.issuer_config();
    let every = "*".parse().expect("a prefix of nothing is a grant");
    let token = crate::auth::mint::mint(&issuer, "developer", &[every], Duration::from_secs(86_400)).map_err(|error| failed(&error))?;
    config.auth.issuers.insert(DEV_ISSUER.to_owned(), issuer);
    let password = dev::password(&dir).map_err(|error| failed(&error))?;
    (config.auth.kafka_user, config.auth.kafka_password) = (Some(DEV_USER.to_owned()), password.clone());
    let ca = (config.listeners.tls == TlsMode::Generated).then(|| dir.join("ca.pem"));
    Ok(Development { token, password, ca })
}
