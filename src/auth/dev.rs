//! The development key and the development user's password: each a secret in a file, so that `sluicegate token` mints for a gate
//! that already runs beside it, and a producer's configuration holds over a restart.
//!
//! What always holds: a file is 0600 and whole, whoever makes it first; a file that others can read is not used.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::config::{IssuerConfig, Kind};
use super::key::Algorithm;
use crate::units::Secret;

/// The name of its issuer's section, and the start of its principals' names.
pub const DEV_ISSUER: &str = "dev";

/// The name of the key's file in `certs/dev`.
pub const KEY_FILE: &str = "token.key";

/// The name of the development user.
pub const DEV_USER: &str = "developer";

/// The name of their password's file in `certs/dev`.
pub const PASSWORD_FILE: &str = "kafka.password";

/// The key of a gate on loopback that has no issuer configured.
#[derive(Clone, Debug)]
pub struct DevKey(Secret);

impl DevKey {
    /// Reads the key in `folder` (as a rule `certs/dev`), or makes it.
    pub fn load_or_create(folder: &Path) -> io::Result<Self> {
        load_or_create(folder, KEY_FILE).map(Self)
    }

    /// The issuer that believes in it.
    pub fn issuer_config(&self) -> IssuerConfig {
        IssuerConfig {
            kind: Kind::Static,
            issuer: Some("sluicegate-dev".into()),
            audience: Some("sluicegate".into()),
            algorithm: Some(Algorithm::HS256),
            key: self.0.clone(),
            topics_claim: Some("topics".into()),
            tier_claim: Some("tier".into()),
            admin_claim: Some("admin".into()),
            ..IssuerConfig::default()
        }
    }
}

/// The development user's password in `folder` (as a rule `certs/dev`), read or made.
pub fn password(folder: &Path) -> io::Result<Secret> {
    load_or_create(folder, PASSWORD_FILE)
}

fn load_or_create(folder: &Path, name: &str) -> io::Result<Secret> {
    let path = folder.join(name);
    match fs::symlink_metadata(&path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => create(folder, name, &path)?,
        Err(fault) => return Err(fault),
        Ok(_) => {}
    }
    load(&path)
}

fn load(path: &Path) -> io::Result<Secret> {
    let unusable = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Err(unusable("expected a plain file; remove it and it is made anew"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(unusable("others can read it; `chmod 600` it, or remove it and it is made anew"));
    }
    let text = fs::read_to_string(path)?;
    if text.trim().len() < 32 {
        return Err(unusable("expected at least 32 characters; remove it and it is made anew"));
    }
    Ok(Secret::new(text.trim()))
}

/// Writes a new secret beside its place and links it in, so that of two gates that start at once both use the same one.
fn create(folder: &Path, name: &str, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!(".{name}.{}", ulid::Ulid::generate()));
    write(&draft)?;
    match fs::hard_link(&draft, path) {
        Ok(()) => fs::remove_file(&draft),
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&draft),
        // Some file systems know no links; there the last one wins.
        Err(_) => fs::rename(&draft, path),
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut secret = [0_u8; 32];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut secret).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(secret))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_for_its_owner_only() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("certs/dev");
        let made = DevKey::load_or_create(&folder).expect("made");
        let again = DevKey::load_or_create(&folder).expect("read");
        assert_eq!(made.0, again.0);
        assert_eq!(fs::metadata(folder.join(KEY_FILE)).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "no draft is left");
        let issuer = made.issuer_config();
        assert!(issuer.static_key().is_ok());
        let other = DevKey::load_or_create(&root.path().join("other")).expect("made");
        assert_ne!(made.0, other.0);
    }

    #[test]
    fn the_development_users_password_stays_and_is_one_that_every_client_takes() {
        let root = tempfile::tempdir().expect("a folder");
        let made = password(root.path()).expect("made");
        assert_eq!(password(root.path()).expect("read"), made);
        assert_eq!(crate::auth::scram::check_password(made.expose()), Ok(()));
        assert_ne!(DevKey::load_or_create(root.path()).expect("made").0, made);
        assert_eq!(fs::metadata(root.path().join(PASSWORD_FILE)).expect("there").mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_no_file_is_not_used() {
        let root = tempfile::tempdir().expect("a folder");
        DevKey::load_or_create(root.path()).expect("made");
        let path = root.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(DevKey::load_or_create(root.path()).expect_err("refused").to_string().contains("chmod 600"));
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/null", &path).expect("linked");
        assert!(DevKey::load_or_create(root.path()).is_err());
    }
}
