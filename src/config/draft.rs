//! A configuration in the making: values from the file, then from the environment, and all that is wrong with them.
//!
//! What always holds: a value that does not fit is reported once and then taken out, so that the ones behind it are
//! reported too; every value knows the variable that it came from; a secret's value is in no message.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Mistake;
use super::environment::{self, Env};
use super::schema::{Child, FILE, Misfit, Node, Path, Schema, Shape, dotted, unknown};

/// Which variable a value came from, by the dotted path of the value.
pub(super) type Origins = BTreeMap<String, String>;

/// What has been read so far.
pub(super) struct Draft {
    schema: Schema,
    defaults: Value,
    values: Value,
    file: Option<String>,
    pub(super) origins: Origins,
    pub(super) mistakes: Vec<Mistake>,
}

impl Draft {
    /// An empty one for configurations of this type.
    pub(super) fn of<T: JsonSchema + Serialize + Default>() -> Self {
        let defaults = Table::try_from(T::default()).expect("the defaults can be written as TOML");
        Self {
            schema: Schema::of::<T>(),
            defaults: Value::Table(defaults),
            values: Value::Table(Table::new()),
            file: None,
            origins: Origins::new(),
            mistakes: Vec::new(),
        }
    }

    /// Takes the text of a configuration file in.
    pub(super) fn file(&mut self, name: &str, text: &str) {
        self.file = Some(name.to_owned());
        match text.parse::<Table>() {
            Ok(table) => self.values = Value::Table(table),
            // The parser's own words would repeat the line, and with it what somebody wrote where no secret belongs.
            Err(error) => return self.mistake(&position(name, text, error.span()), "", error.message()),
        }
        let found = self.schema.root().misfits(&self.values, true);
        self.report(found);
        let mut found = Vec::new();
        secret_files(self.schema.root(), &mut self.values, &mut Path::new(), &mut found);
        self.report(found);
    }

    /// Takes all `SLUICEGATE__SECTION__KEY` in.
    pub(super) fn overrides(&mut self, env: &Env) {
        for (name, raw) in env.iter().filter(|(name, _)| environment::is_override(name)) {
            self.set(&environment::segments(name), raw, name);
        }
        self.check();
    }

    /// Sets one value from a variable. Keys are found without regard to case.
    pub(super) fn set(&mut self, segments: &[String], raw: &str, variable: &str) {
        match self.place_of(segments) {
            Err((path, problem)) => self.mistake(&format!("environment {variable}"), &dotted(&path), &problem),
            Ok(target) if target.secret_file => self.set_from_file(target.path, raw, variable),
            Ok(target) => {
                let value = match self.node(&target.path) {
                    Some(node) if !target.verbatim => environment::value(node, raw),
                    _ => Value::String(raw.to_owned()),
                };
                self.origins.insert(dotted(&target.path), variable.to_owned());
                write(&mut self.values, &self.defaults, &target, value);
            }
        }
    }

    /// Whether a value was written already.
    pub(super) fn says(&self, path: &[String]) -> bool {
        lookup(&self.values, path).is_some()
    }

    fn set_from_file(&mut self, mut path: Path, file: &str, variable: &str) {
        let key = path.last_mut().expect("a path that was found has a last key");
        key.truncate(key.len() - FILE.len());
        let plain = variable.strip_suffix("_FILE").unwrap_or(variable);
        if self.origins.get(&dotted(&path)).is_some_and(|origin| origin == plain) {
            return self.mistake(
                &format!("environment {variable}"),
                &dotted(&path),
                &format!("{plain} is set as well: keep one of the two"),
            );
        }
        match environment::secret_file(file) {
            Ok(secret) => self.set(&path, &secret, variable),
            Err(problem) => self.mistake(&format!("environment {variable}"), &dotted(&path), &problem),
        }
    }

    fn node(&self, path: &[String]) -> Option<Node<'_>> {
        path.iter().try_fold(self.schema.root(), |node, key| match node.child(key)? {
            Child::Value(child) => Some(child),
            Child::SecretFile => None,
        })
    }

    /// Finds the place that a variable's name means.
    fn place_of(&self, segments: &[String]) -> Result<Target, Misfit> {
        let mut target = Target::default();
        let mut node = self.schema.root();
        for segment in segments {
            let here = lookup(&self.values, &target.path).or_else(|| lookup(&self.defaults, &target.path));
            let key = match node.shape() {
                Shape::Map(_) | Shape::List(_) => {
                    target.kept.push(target.path.len());
                    existing(here, segment)
                }
                _ => node.keys().into_iter().find(|key| key.eq_ignore_ascii_case(segment)).unwrap_or_else(|| segment.clone()),
            };
            target.path.push(key);
            let key = target.path.last().expect("just pushed");
            match node.child(key) {
                Some(Child::Value(child)) => node = child,
                Some(Child::SecretFile) => target.secret_file = true,
                None if matches!(node.shape(), Shape::List(_)) => {
                    return Err((target.path.clone(), "expected the position of an entry, a whole number from 0".to_owned()));
                }
                None => return Err((target.path.clone(), unknown(key, &node.keys()))),
            }
        }
        target.verbatim = node.is_secret();
        Ok(target)
    }

    /// Reports what does not fit the schema, and takes it out.
    pub(super) fn check(&mut self) {
        let found = self.schema.root().misfits(&self.values, false);
        self.report(found);
    }

    fn report(&mut self, found: Vec<Misfit>) {
        // From the back, so that positions in lists stay true while things are taken out.
        for (path, problem) in found.iter().rev() {
            self.mistake(&self.origin(&dotted(path)), &dotted(path), problem);
            remove(&mut self.values, path);
        }
        let from = self.mistakes.len() - found.len();
        self.mistakes[from..].reverse();
    }

    /// Writes one mistake down.
    pub(super) fn mistake(&mut self, place: &str, key: &str, problem: &str) {
        self.mistakes.push(Mistake { place: place.to_owned(), key: key.to_owned(), problem: problem.trim().to_owned() });
    }

    /// Where the value at a key comes from: a variable, else the file, else nobody wrote it.
    pub(super) fn origin(&self, key: &str) -> String {
        let from = |touches: &dyn Fn(&str) -> bool| {
            self.origins.iter().find(|(path, _)| touches(path)).map(|(_, name)| format!("environment {name}"))
        };
        from(&|path| path == key || is_below(key, path))
            .or_else(|| self.file.clone())
            .or_else(|| from(&|path| is_below(path, key)))
            .unwrap_or_else(|| "configuration".to_owned())
    }

    /// The configuration itself. What its types refuse beyond the schema is reported here, value by value.
    pub(super) fn read<T: DeserializeOwned + Default>(&mut self) -> T {
        loop {
            let (keys, problem) = match typed::<T>(&self.values) {
                Ok(config) => return config,
                Err(refused) => refused,
            };
            let path = exact::<T>(&self.values, &keys);
            // A key that is missing because it was just taken out has been reported.
            let reported =
                problem.starts_with("missing field") && path.first().is_some_and(|section| self.sections_at_fault().contains(section));
            if !reported {
                self.mistake(&self.origin(&dotted(&path)), &dotted(&path), &problem);
            }
            if path.is_empty() || !remove(&mut self.values, &path) {
                return T::default();
            }
        }
    }

    /// The sections in which something has been found wrong.
    pub(super) fn sections_at_fault(&self) -> BTreeSet<String> {
        let section = |key: &str| key.split(['.', '[']).next().unwrap_or_default().to_owned();
        self.mistakes.iter().map(|mistake| section(&mistake.key)).collect()
    }

    /// Writes down what an area says of its own values, by the key below its section.
    pub(super) fn judged(&mut self, section: &str, key: &str, problem: &str) {
        let joint = if key.is_empty() || key.starts_with('[') { "" } else { "." };
        let key = format!("{section}{joint}{key}");
        self.mistake(&self.origin(&key), &key, problem);
    }
}

/// What a variable's name means.
#[derive(Default)]
struct Target {
    path: Path,
    /// The depths of lists and maps on the way: what they hold by default stays when one entry is set.
    kept: Vec<usize>,
    secret_file: bool,
    /// The value is taken as it is written, as credentials are.
    verbatim: bool,
}

/// Whether a key stands somewhere below another.
fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// The entry of a map that a variable means, which can say neither case nor hyphens; else a new one.
fn existing(here: Option<&Value>, segment: &str) -> String {
    let plain = |key: &str| key.replace(['-', '.'], "_").to_ascii_lowercase();
    let known = here.and_then(Value::as_table).and_then(|table| table.keys().find(|key| plain(key) == plain(segment)));
    known.cloned().unwrap_or_else(|| segment.to_ascii_lowercase())
}

fn lookup<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Table(table) => table.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

fn lookup_mut<'v>(value: &'v mut Value, path: &[String]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Table(table) => table.get_mut(key),
        Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Puts a value in its place. A list or map on the way that is not there yet begins as its default.
fn write(values: &mut Value, defaults: &Value, target: &Target, value: Value) {
    let mut here = values;
    for (depth, key) in target.path.iter().enumerate() {
        let above = &target.path[..=depth];
        let begin = match target.kept.contains(&(depth + 1)) {
            true => lookup(defaults, above).cloned(),
            false => None,
        };
        let begin = begin.unwrap_or_else(|| Value::Table(Table::new()));
        here = match here {
            Value::Table(table) => table.entry(key.clone()).or_insert(begin),
            Value::Array(list) => {
                let at = key.parse::<usize>().unwrap_or(usize::MAX).min(list.len());
                if at == list.len() {
                    list.push(begin);
                }
                &mut list[at]
            }
            // What does not fit is reported by the walk over the whole.
            _ => return,
        };
    }
    *here = value;
}

/// Takes a value out; false when there is none.
fn remove(values: &mut Value, path: &[String]) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    match lookup_mut(values, above) {
        Some(Value::Table(table)) => table.remove(last).is_some(),
        Some(Value::Array(list)) => last.parse().is_ok_and(|at: usize| {
            at < list.len() && {
                list.remove(at);
                true
            }
        }),
        _ => false,
    }
}

/// Reads the files that hold secrets: `password_file` becomes `password`.
fn secret_files(node: Node<'_>, value: &mut Value, path: &mut Path, found: &mut Vec<Misfit>) {
    let keys: Vec<String> = match value {
        Value::Table(table) => table.keys().cloned().collect(),
        Value::Array(list) => (0..list.len()).map(|at| at.to_string()).collect(),
        _ => return,
    };
    for key in keys {
        path.push(key.clone());
        match node.child(&key) {
            Some(Child::Value(child)) => {
                if let Some(below) = lookup_mut(value, std::slice::from_ref(&key)) {
                    secret_files(child, below, path, found);
                }
            }
            Some(Child::SecretFile) => {
                let table = value.as_table_mut().expect("only tables have keys of files");
                match table.remove(&key).as_ref().and_then(Value::as_str).map_or(Ok(String::new()), environment::secret_file) {
                    Ok(secret) => drop(table.insert(key[..key.len() - FILE.len()].to_owned(), Value::String(secret))),
                    Err(problem) => found.push((path.clone(), problem)),
                }
            }
            None => {}
        }
        path.pop();
    }
}

/// The configuration, or the keys down to the value that its type refuses and why.
fn typed<T: DeserializeOwned>(values: &Value) -> Result<T, (Path, String)> {
    values.clone().try_into().map_err(|error: toml::de::Error| {
        // The library names the keys in its text only: `…\nin `a.b``.
        let text = error.to_string();
        let keys = text.lines().filter_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).next_back().unwrap_or_default();
        (keys.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect(), said(error.message()))
    })
}

/// What a library says of a text that it refuses, with what is expected where it leaves that out.
fn said(message: &str) -> String {
    match message {
        "invalid socket address syntax" => "not an address: expected `address:port`, as in `127.0.0.1:8443`".to_owned(),
        other => other.to_owned(),
    }
}

/// The library does not say which entry of a list it refused: each is tried alone.
fn exact<T: DeserializeOwned>(values: &Value, keys: &[String]) -> Path {
    let mut path = Path::new();
    for key in keys {
        while let Some(Value::Array(list)) = lookup(values, &path) {
            let alone = |at: &usize| {
                let mut one = values.clone();
                if let Some(place) = lookup_mut(&mut one, &path) {
                    *place = Value::Array(vec![list[*at].clone()]);
                }
                typed::<T>(&one).is_err_and(|(refused, _)| refused == keys)
            };
            path.push((0..list.len()).find(alone).unwrap_or(0).to_string());
        }
        path.push(key.clone());
        if lookup(values, &path).is_none() {
            // A key that is not there: what lacks it is at fault.
            path.pop();
            break;
        }
    }
    path
}

/// A place in the text, counted from one.
fn position(name: &str, text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("{name}:{line}:{column}")
}
