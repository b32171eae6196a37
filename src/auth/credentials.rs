//! What a door was shown. (Verification comes with the authenticator.)

use super::Principal;
use super::grants::Grants;
use crate::receipt::Refusal;
use crate::units::Secret;

/// What somebody shows to be recognized.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A JWT, as it stands after `Bearer `.
    Bearer(Secret),
}

/// Recognizes principals.
#[derive(Debug, Default)]
pub struct Authenticator {
    known: Vec<(Secret, Principal)>,
}

impl Authenticator {
    /// Knows one token.
    pub fn knowing(token: &str, grants: Grants) -> Self {
        Self { known: vec![(Secret::new(token), Principal::new("dev", "tester", "standard", grants, None))] }
    }

    /// Who is there?
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Principal, Refusal> {
        let Credentials::Bearer(token) = credentials;
        let found = self.known.iter().find(|(known, _)| known == token);
        found.map(|(_, principal)| principal.clone()).ok_or(Refusal::Unauthenticated)
    }
}
