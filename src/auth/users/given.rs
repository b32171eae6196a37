//! The one user whom the configuration itself names, beside those of the file or without one.
//!
//! What always holds: their verifiers are the same after a restart and in another instance; nobody can tell by asking whether
//! there is such a user.

use std::num::NonZeroU32;

use super::super::config::DEFAULT_TIER;
use super::super::grants::Grant;
use super::super::scram::{Mechanism, Verifier};
use super::{DEFAULT_ITERATIONS, Register, User, drawn, phantom_key};
use crate::units::Secret;

/// The phantom key of a gate without a file. Everybody may know it: there the salt of the one user is drawn by it as well, and each
/// name that is asked for has the salt that it would have. (Drawn by the password, it would be the same in each instance too; but a
/// salt is told to strangers, who could then try passwords against it at home.)
const NO_FILES_KEY: &[u8; 32] = b"sluicegate: no file has this key";

/// The user whom the configuration names.
#[derive(Clone, Debug)]
pub struct Given {
    /// Their name.
    pub name: String,
    /// By what they are recognized.
    pub password: Secret,
    /// The topics that they may send to.
    pub topics: Vec<Grant>,
}

impl Given {
    /// What they join where there is no file.
    pub fn alone() -> Register {
        Register { phantom_key: *NO_FILES_KEY, ..Register::empty() }
    }

    /// Adds them to the users of the file. Takes as long as the iterations.
    pub fn join(&self, register: &mut Register) -> Result<(), String> {
        self.is_not_in(register)?;
        register.users.insert(self.name.clone(), self.user(register));
        Ok(())
    }

    /// That the file has no user of the same name.
    pub fn is_not_in(&self, register: &Register) -> Result<(), String> {
        match register.users.contains_key(&self.name) {
            true => Err(format!("there is a user `{}` in the file, and auth.kafka_user is the same; keep one of the two", self.name)),
            false => Ok(()),
        }
    }

    /// With the salts that a phantom of this name would have.
    fn user(&self, register: &Register) -> User {
        let (_, salts) = drawn(&phantom_key(register), &self.name);
        let rounds = NonZeroU32::new(DEFAULT_ITERATIONS).expect("not zero");
        let verifier = |mechanism| Verifier::derive(mechanism, self.password.expose(), salts[mechanism as usize], rounds);
        User { topics: self.topics.clone(), tier: DEFAULT_TIER.to_owned(), admin: false, verifiers: Mechanism::ALL.map(verifier) }
    }
}
