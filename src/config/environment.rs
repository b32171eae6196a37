//! Variables of the environment, as values of the configuration: `SLUICEGATE__SECTION__KEY`.
//!
//! What always holds: this file alone reads the process's environment; a value of a secret is taken as it is written.

use std::collections::BTreeMap;

use toml::Value;

use super::schema::{Node, Path, Shape};

/// Before the names of the variables that set one value each.
const PREFIX: &str = "SLUICEGATE__";

/// The variables that count, by name. Tests bring their own.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The environment of this process. What is not UTF-8 is not there.
    pub fn process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Whether a variable sets one value of the configuration.
pub(super) fn is_override(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The keys that such a variable names, in lower case.
pub(super) fn segments(name: &str) -> Path {
    name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect()
}

/// The variable that sets the value at a path.
pub(super) fn name(path: &[String]) -> String {
    let keys: Vec<String> = path.iter().map(|key| key.replace(['-', '.'], "_").to_ascii_uppercase()).collect();
    format!("{PREFIX}{}", keys.join("__"))
}

/// A variable's text as the value that the place asks for: as in the file, but that text needs no quotes and a list of
/// words no brackets (`a,b`).
pub(super) fn value(node: Node<'_>, raw: &str) -> Value {
    let text = || Value::String(raw.to_owned());
    let written = raw.trim().parse::<Value>().ok();
    match node.shape() {
        Shape::List(item) if !raw.trim_start().starts_with('[') => {
            Value::Array(raw.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| value(item, word)).collect())
        }
        _ if node.is_text() => written.filter(Value::is_str).unwrap_or_else(text),
        _ => written.unwrap_or_else(text),
    }
}

/// What a file with a secret holds, without the newline that editors put at its end.
pub(super) fn secret_file(name: &str) -> Result<String, String> {
    match std::fs::read_to_string(name) {
        Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) => Err(format!("the file `{name}` cannot be read: {error}")),
    }
}
