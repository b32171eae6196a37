//! The configuration as text: the documented sample, and what is in force.
//!
//! What always holds: every option of the schema is in the sample; a secret is printed as `***` and nothing else.

use schemars::JsonSchema;
use serde::Serialize;
use toml::{Table, Value};

use super::draft::Origins;
use super::environment;
use super::platform::NAMES;
use super::schema::{FILE, Node, Path, Schema, Shape, dotted};

const PREAMBLE: &str = "\
# Sluicegate: every option, its meaning and its default.
#
# A line `#key = value` shows an option with its default: take the `#` away to change it. Where an option has no default,
# what is expected stands in `<…>`. This file is printed by the program itself (`sluicegate check --print-sample`).
#
# Later ones win: the default, this file, the platform's own variables (`PORT`, `REDPANDA_BROKERS`, …, named below where
# they count), and `SLUICEGATE__SECTION__KEY` for any single value: SLUICEGATE__DRAIN__LIMIT=5s. In a variable, text needs
# no quotes and a list of words no brackets (`a,b`); an entry of a list is named by its position
# (SLUICEGATE__ROUTES__0__TOPIC), an entry of a section [a.NAME] by its name in capitals, `-` written as `_`.
#
# Secrets do not stand in this file. They come from their variable, or from a file that is named by KEY_file here or by
# the variable with _FILE at its end.
";

/// Every option with its documentation and its default.
pub(super) fn sample<T: JsonSchema + Serialize + Default>() -> String {
    let schema = Schema::of::<T>();
    let defaults = Table::try_from(T::default()).expect("the defaults can be written as TOML");
    let mut sample = Sample { out: PREAMBLE.to_owned(), path: Path::new(), aside: false };
    sample.table(schema.root(), Some(&Value::Table(defaults)));
    sample.out
}

struct Sample {
    out: String,
    /// Keys, with `NAME` for an entry that the operator names.
    path: Path,
    /// Whether the section's head is commented out, and all below it.
    aside: bool,
}

impl Sample {
    fn doc(&mut self, text: &str) {
        // Lines of a doc comment are one paragraph up to an empty one.
        for paragraph in text.split("\n\n") {
            let mut line = String::from("#");
            for word in paragraph.split_whitespace() {
                if line.chars().count() + 1 + word.chars().count() > 118 {
                    self.out.push_str(&line);
                    self.out.push('\n');
                    line = String::from("#");
                }
                line.push(' ');
                line.push_str(word);
            }
            self.out.push_str(&line);
            self.out.push('\n');
        }
    }

    fn below(&mut self, key: &str, then: impl FnOnce(&mut Self)) {
        self.path.push(key.to_owned());
        then(self);
        self.path.pop();
    }

    /// First the table's own values, then the sections below it.
    fn table(&mut self, node: Node<'_>, values: Option<&Value>) {
        let Shape::Table(fields) = node.shape() else { return };
        let of = |key: &str, node: Node<'_>| values.and_then(|values| values.get(key)).cloned().or_else(|| node.default());
        for (key, field) in fields.iter().filter(|(_, field)| !is_section(*field)) {
            let names_file = !fields.iter().any(|(other, _)| other.strip_suffix(FILE) == Some(key));
            self.below(key, |sample| sample.option(*field, of(key, *field), names_file));
        }
        for (key, field) in fields.iter().filter(|(_, field)| is_section(*field)) {
            self.below(key, |sample| sample.section(*field, of(key, *field)));
        }
    }

    /// `names_file`: a secret's `…_file` key has no documentation of its own, so it is shown here.
    fn option(&mut self, node: Node<'_>, default: Option<Value>, names_file: bool) {
        self.out.push('\n');
        self.doc(node.doc());
        let variables: Vec<&str> = NAMES.iter().filter(|name| dotted(&self.path) == name.option).map(|name| name.variable).collect();
        if !variables.is_empty() {
            self.doc(&format!("From the platform's variables: {}.", variables.join(", ")));
        }
        let key = self.path.last().cloned().unwrap_or_default();
        if node.is_secret() {
            self.doc(&format!("A secret: {}, or a file.", environment::name(&self.path)));
        }
        let line = match default {
            _ if node.is_secret() && !names_file => String::new(),
            _ if node.is_secret() => format!("#{key}{FILE} = \"<a file that holds it>\"\n"),
            Some(value) => format!("#{key} = {value}\n"),
            None => format!("#{key} = <{}>\n", node.expected()),
        };
        self.out.push_str(&line);
    }

    fn section(&mut self, node: Node<'_>, default: Option<Value>) {
        match node.shape() {
            Shape::Map(item) => {
                let first = default.as_ref().and_then(Value::as_table).and_then(|table| table.iter().next());
                let (name, value) = first.map_or(("NAME", None), |(name, value)| (name.as_str(), Some(value)));
                let doc = node.doc();
                self.below(name, |sample| sample.block(doc, "[", item, value, true));
                let rest = default.as_ref().and_then(Value::as_table).into_iter().flatten().skip(1);
                rest.for_each(|(name, value)| self.below(name, |sample| sample.bare(value)));
            }
            Shape::List(item) => self.block(node.doc(), "[[", item, default.as_ref().and_then(|list| list.get(0)), true),
            _ => self.block(node.doc(), "[", node, default.as_ref(), node.is_optional()),
        }
    }

    fn block(&mut self, doc: &str, open: &str, node: Node<'_>, values: Option<&Value>, aside: bool) {
        let outer = self.aside;
        self.aside = outer || aside;
        self.out.push('\n');
        self.doc(doc);
        let mark = if self.aside { "#" } else { "" };
        self.out.push_str(&format!("{mark}{open}{}{}\n", self.path.join("."), open.replace('[', "]")));
        match node.shape() {
            Shape::OneOf(several) => several.iter().for_each(|one| self.table(*one, values)),
            _ => self.table(node, values),
        }
        self.aside = outer;
    }

    /// Another default entry of a map, whose options are documented at the first.
    fn bare(&mut self, value: &Value) {
        self.out.push_str(&format!("\n#[{}]\n", self.path.join(".")));
        for (key, value) in value.as_table().into_iter().flatten() {
            self.out.push_str(&format!("#{key} = {value}\n"));
        }
    }
}

/// Whether a value is written as a section of its own.
fn is_section(node: Node<'_>) -> bool {
    let holds_tables = |item: Node<'_>| matches!(item.shape(), Shape::Table(_));
    match node.shape() {
        Shape::Table(_) => true,
        Shape::Map(item) | Shape::List(item) => is_section(item),
        Shape::OneOf(several) => several.into_iter().all(holds_tables),
        Shape::Choice(_) | Shape::Plain => false,
    }
}

/// The configuration in force.
pub(super) fn effective<T: Serialize>(config: &T, origins: &Origins) -> String {
    let mut out = String::new();
    let table = Table::try_from(config).expect("a configuration can be written as TOML");
    write_table(&mut out, &table, &mut Path::new(), origins);
    out
}

fn write_table(out: &mut String, table: &Table, path: &mut Path, origins: &Origins) {
    let is_tables = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_table));
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table() && !is_tables(value)) {
        path.push(key.clone());
        let origin = origins.get(&dotted(path)).map(|variable| format!("  # from {variable}")).unwrap_or_default();
        out.push_str(&format!("{} = {value}{origin}\n", toml_key(key)));
        path.pop();
    }
    for (key, value) in table {
        path.push(key.clone());
        let head: Vec<String> = path.iter().filter(|key| key.parse::<usize>().is_err()).map(|key| toml_key(key)).collect();
        match value {
            Value::Table(below) => {
                out.push_str(&format!("\n[{}]\n", head.join(".")));
                write_table(out, below, path, origins);
            }
            Value::Array(list) if is_tables(value) => {
                for (at, below) in list.iter().enumerate().filter_map(|(at, value)| Some((at, value.as_table()?))) {
                    path.push(at.to_string());
                    out.push_str(&format!("\n[[{}]]\n", head.join(".")));
                    write_table(out, below, path, origins);
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

/// A key, in quotes where it needs them.
fn toml_key(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}
