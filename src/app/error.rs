//! Why a gate does not start, and with which exit status.

use crate::inbox::OpenError;

/// Why the gate does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration asks for something that is not to be had: exit status 2.
    #[error("{0}")]
    Configuration(String),
    /// Another gate has the inbox: exit status 2.
    #[error("{0}")]
    InUse(String),
    /// Everything else: exit status 1.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for StartError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::InUse(_) => Self::InUse(error.to_string()),
            OpenError::Volatile { .. } | OpenError::Settings(_) => Self::Configuration(error.to_string()),
            OpenError::Untrusted { .. } | OpenError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}
