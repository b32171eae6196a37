//! A service account's key, which signs its own tokens: nobody has to be asked for one.
//!
//! What always holds: the key is in no error and in no `Debug`.

use std::fmt;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::super::config::is_project;
use super::Fetched;
use crate::units::Secret;

/// Whom the tokens are for.
const AUDIENCE: &str = "https://firestore.googleapis.com/";

/// How long a token lives: the most that Google takes.
const LIFE: Duration = Duration::from_secs(3600);

/// Tokens are dated back a little: a clock that is ahead would make them not yet valid.
const SKEW: Duration = Duration::from_secs(10);

/// A service account with its key.
pub(super) struct Account {
    email: String,
    key: EncodingKey,
    key_id: String,
    project: Option<String>,
}

/// What is read of Google's file. What else is in it does not matter to us.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: Secret,
    #[serde(default)]
    private_key_id: String,
    project_id: Option<String>,
    universe_domain: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'static str,
    iat: u64,
    exp: u64,
}

impl Account {
    /// Reads Google's JSON.
    pub(super) fn read(json: &Secret) -> Result<Self, String> {
        let expected = "expected a service account's key, as Google hands it out in JSON";
        // The library's words would quote the text.
        let written: Written = serde_json::from_str(json.expose()).map_err(|_| expected.to_owned())?;
        if written.kind != "service_account" {
            let kind: String = written.kind.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
            return Err(format!("{expected}; its `type` is `{kind}`, not `service_account`"));
        }
        if written.universe_domain.as_deref().is_some_and(|domain| domain != "googleapis.com") {
            return Err("expected an account of googleapis.com; its `universe_domain` is another".to_owned());
        }
        if written.client_email.is_empty() {
            return Err(format!("{expected}; it has no `client_email`"));
        }
        // In a variable the line ends are often written as `\n` twice over.
        let pem = Secret::new(written.private_key.expose().replace("\\n", "\n"));
        let key = EncodingKey::from_rsa_pem(pem.expose().as_bytes());
        let key = key.map_err(|_| format!("{expected}; its `private_key` is no PEM key for RSA"))?;
        let project = written.project_id.filter(|project| is_project(project));
        Ok(Self { email: written.client_email, key, key_id: written.private_key_id, project })
    }

    /// The project that it belongs to.
    pub(super) fn project(&self) -> Option<String> {
        self.project.clone()
    }

    /// Signs a token for Firestore.
    pub(super) fn token(&self) -> Result<Fetched, String> {
        self.token_at(SystemTime::now())
    }

    fn token_at(&self, now: SystemTime) -> Result<Fetched, String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| "the clock stands before 1970".to_owned())?;
        let since = now.saturating_sub(SKEW);
        let claims = Claims { iss: &self.email, sub: &self.email, aud: AUDIENCE, iat: since.as_secs(), exp: (since + LIFE).as_secs() };
        let header = Header { kid: Some(self.key_id.clone()).filter(|id| !id.is_empty()), ..Header::new(Algorithm::RS256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| "the service account's key cannot sign".to_owned())?;
        Ok(Fetched { token: Secret::new(token), life: LIFE - SKEW })
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("email", &self.email).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
