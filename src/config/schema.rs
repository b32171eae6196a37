//! The schema of the configuration, and what does not fit it.
//!
//! Nothing here knows a single option: everything is read from the JSON schema that `schemars` derives from the areas'
//! `Config` structs. What always holds: one walk reports every misfit, and no text of a misfit contains a secret's value.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;
use toml::Value;

use crate::auth::grants::Grant;
use crate::units::{ByteSize, Span};

/// The ending of the key that names the file which holds a secret: `password_file` beside `password`.
pub(super) const FILE: &str = "_file";

/// Where a value stands: keys, and positions in lists.
pub(super) type Path = Vec<String>;

/// A value that does not fit: where it stands, and what is expected there.
pub(super) type Misfit = (Path, String);

/// The schema of a whole configuration.
pub(super) struct Schema(Json);

impl Schema {
    /// Derives it, with every part written out in place.
    pub(super) fn of<T: JsonSchema>() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        Self(settings.into_generator().into_root_schema_for::<T>().into())
    }

    /// Its outermost table.
    pub(super) fn root(&self) -> Node<'_> {
        Node(&self.0)
    }
}

/// One place of the schema.
#[derive(Clone, Copy)]
pub(super) struct Node<'a>(&'a Json);

/// What a place holds.
pub(super) enum Shape<'a> {
    /// A table with known keys, in the order in which they are written in the code.
    Table(Vec<(&'a str, Node<'a>)>),
    /// A table whose keys the operator chooses.
    Map(Node<'a>),
    /// A list.
    List(Node<'a>),
    /// One of these words.
    Choice(Vec<&'a str>),
    /// One of several shapes.
    OneOf(Vec<Node<'a>>),
    /// A single value.
    Plain,
}

impl<'a> Node<'a> {
    /// What the place holds. That a value may be absent (`Option`) is looked through.
    pub(super) fn shape(self) -> Shape<'a> {
        if let Some(branches) = self.branches() {
            return match branches.as_slice() {
                [only] => only.shape(),
                several => match several.iter().map(|branch| branch.words()).collect::<Option<Vec<_>>>() {
                    Some(words) => Shape::Choice(words.concat()),
                    None => Shape::OneOf(branches),
                },
            };
        }
        if let Some(words) = self.words() {
            return Shape::Choice(words);
        }
        if let Some(properties) = self.0["properties"].as_object() {
            return Shape::Table(properties.iter().map(|(key, schema)| (key.as_str(), Node(schema))).collect());
        }
        match (&self.0["additionalProperties"], &self.0["items"]) {
            (item @ Json::Object(_), _) => Shape::Map(Node(item)),
            (_, item @ Json::Object(_)) => Shape::List(Node(item)),
            _ if self.is("object") => Shape::Table(Vec::new()),
            _ => Shape::Plain,
        }
    }

    fn branches(self) -> Option<Vec<Node<'a>>> {
        let all = ["oneOf", "anyOf"].iter().find_map(|key| self.0[*key].as_array())?;
        Some(all.iter().filter(|branch| branch["type"] != "null").map(Node).collect())
    }

    /// The words that may stand here, where only words may.
    fn words(self) -> Option<Vec<&'a str>> {
        if let Some(word) = self.0["const"].as_str() {
            return Some(vec![word]);
        }
        Some(self.0["enum"].as_array()?.iter().filter_map(Json::as_str).collect())
    }

    fn is(self, kind: &str) -> bool {
        match &self.0["type"] {
            Json::String(only) => only == kind,
            Json::Array(several) => several.iter().any(|one| one == kind),
            _ => false,
        }
    }

    /// Whether the place may stay empty.
    pub(super) fn is_optional(self) -> bool {
        let branches = ["oneOf", "anyOf"].iter().find_map(|key| self.0[*key].as_array());
        self.is("null") || branches.is_some_and(|all| all.iter().any(|branch| branch["type"] == "null"))
    }

    /// Whether the place takes a credential.
    pub(super) fn is_secret(self) -> bool {
        self.0["format"] == "secret" || self.branches().is_some_and(|all| all.iter().any(|branch| branch.is_secret()))
    }

    /// Whether only text fits here, so that `17` means the text.
    pub(super) fn is_text(self) -> bool {
        let number = ["integer", "number", "boolean"].iter().any(|kind| self.is(kind));
        matches!(self.shape(), Shape::Choice(_)) || (self.is("string") && !number)
    }

    /// The documentation: the field's own, else its type's.
    pub(super) fn doc(self) -> &'a str {
        self.0["description"].as_str().unwrap_or_default()
    }

    /// The default that the schema names, where it names one.
    pub(super) fn default(self) -> Option<Value> {
        self.0.get("default").and_then(|json| Value::try_from(json).ok())
    }

    /// The place below, by its exact key. A secret's `…_file` key stands beside it and takes text.
    pub(super) fn child(self, key: &str) -> Option<Child<'a>> {
        match self.shape() {
            Shape::Table(fields) => {
                let find = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, node)| *node);
                let secret = || key.strip_suffix(FILE).and_then(find).filter(|node| node.is_secret());
                find(key).map(Child::Value).or_else(|| secret().map(|_| Child::SecretFile))
            }
            Shape::Map(item) => Some(Child::Value(item)),
            Shape::List(item) => key.parse::<usize>().ok().map(|_| Child::Value(item)),
            Shape::OneOf(several) => several.iter().find_map(|one| one.child(key)),
            Shape::Choice(_) | Shape::Plain => None,
        }
    }

    /// The keys that a table knows, its secrets' `…_file` keys among them.
    pub(super) fn keys(self) -> Vec<String> {
        match self.shape() {
            Shape::Table(fields) => {
                let known: Vec<String> = fields.iter().map(|(key, _)| (*key).to_owned()).collect();
                let files = fields.iter().filter(|(_, node)| node.is_secret()).map(|(key, _)| format!("{key}{FILE}"));
                let files: Vec<String> = files.filter(|key| !known.contains(key)).collect();
                [known, files].concat()
            }
            Shape::OneOf(several) => several.iter().flat_map(|one| one.keys()).collect(),
            _ => Vec::new(),
        }
    }

    /// What is expected here, in words.
    pub(super) fn expected(self) -> String {
        match self.shape() {
            Shape::Table(_) | Shape::Map(_) => "a table".to_owned(),
            Shape::List(item) => format!("a list, each {}", item.expected()),
            Shape::Choice(words) => format!("one of {}", quoted(&words)),
            Shape::OneOf(several) => several.iter().map(|one| one.expected()).collect::<Vec<_>>().join(", or "),
            Shape::Plain => match self.0["format"].as_str() {
                Some("size") => "a size such as `8 MiB`".to_owned(),
                Some("span") => "a span of time such as `750ms` or `5m`".to_owned(),
                _ if self.is("string") => "text in quotes".to_owned(),
                _ if self.is("boolean") => "`true` or `false`".to_owned(),
                _ if self.is("integer") => format!("a whole number{}", self.range()),
                _ => format!("a number{}", self.range()),
            },
        }
    }

    fn range(self) -> String {
        match (&self.0["minimum"], &self.0["maximum"]) {
            (Json::Null, Json::Null) => String::new(),
            (least, Json::Null) => format!(", at least {least}"),
            (Json::Null, most) => format!(", at most {most}"),
            (least, most) => format!(" from {least} to {most}"),
        }
    }

    /// Everything in `value` that does not fit. Where the value comes from a configuration file, secrets do not.
    pub(super) fn misfits(self, value: &Value, from_file: bool) -> Vec<Misfit> {
        let mut walk = Walk { from_file, path: Path::new(), found: Vec::new() };
        walk.value(self, value);
        walk.found
    }
}

/// What stands at a key of a table.
pub(super) enum Child<'a> {
    /// A value of this schema.
    Value(Node<'a>),
    /// The name of the file that holds a secret.
    SecretFile,
}

struct Walk {
    from_file: bool,
    path: Path,
    found: Vec<Misfit>,
}

impl Walk {
    fn say(&mut self, problem: String) {
        self.found.push((self.path.clone(), problem));
    }

    fn wrong(&mut self, node: Node<'_>, value: &Value) {
        // A word that was written where a choice is asked for helps to see the slip; any other value is not repeated.
        let found = match (node.shape(), value) {
            (Shape::Choice(_), Value::String(word)) => format!("`{word}`"),
            _ => format!("a value of type {}", value.type_str()),
        };
        self.say(format!("expected {}, found {found}", node.expected()));
    }

    fn at(&mut self, key: &str, then: impl FnOnce(&mut Self)) {
        self.path.push(key.to_owned());
        then(self);
        self.path.pop();
    }

    fn value(&mut self, node: Node<'_>, value: &Value) {
        if self.from_file && node.is_secret() {
            let variable = super::environment::name(&self.path);
            return self
                .say(format!("a secret does not stand in a file like this: set {variable}, or name its file with `{}{FILE}`", self.key()));
        }
        match (node.shape(), value) {
            (Shape::Table(_), Value::Table(table)) => self.table(node, table),
            (Shape::Map(item), Value::Table(table)) => table.iter().for_each(|(key, value)| self.at(key, |walk| walk.value(item, value))),
            (Shape::List(item), Value::Array(list)) => {
                list.iter().enumerate().for_each(|(i, value)| self.at(&i.to_string(), |walk| walk.value(item, value)));
            }
            (Shape::Choice(words), Value::String(word)) if words.contains(&word.as_str()) => {}
            (Shape::OneOf(several), _) => self.one_of(&several, value),
            (Shape::Plain, _) => self.plain(node, value),
            _ => self.wrong(node, value),
        }
    }

    fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    fn table(&mut self, node: Node<'_>, table: &toml::Table) {
        for (key, value) in table {
            match node.child(key) {
                Some(Child::Value(child)) => self.at(key, |walk| walk.value(child, value)),
                Some(Child::SecretFile) if value.is_str() => {}
                Some(Child::SecretFile) => self.at(key, |walk| walk.say("expected the name of a file in quotes".to_owned())),
                None => self.at(key, |walk| walk.say(unknown(key, &node.keys()))),
            }
        }
        let required = node.0["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        for key in required.filter(|key| !table.contains_key(*key)) {
            self.at(key, |walk| {
                walk.say(format!("is missing: expected {}", node.child(key).map_or("a value".to_owned(), |c| c.expected())))
            });
        }
    }

    /// Of several shapes, the one that the value comes nearest to is the one that was meant.
    fn one_of(&mut self, several: &[Node<'_>], value: &Value) {
        let tries = several.iter().map(|node| {
            let mut walk = Walk { from_file: self.from_file, path: self.path.clone(), found: Vec::new() };
            walk.value(*node, value);
            // A wrong tag, or a value of another kind, is the farthest off.
            let distance: usize =
                walk.found.iter().map(|(path, problem)| if problem.contains("one of") || path == &self.path { 100 } else { 1 }).sum();
            (distance, walk.found)
        });
        match tries.min_by_key(|(distance, _)| *distance) {
            Some((distance, found)) if distance < 100 => self.found.extend(found),
            _ => {
                let expected = several.iter().map(|one| one.outline()).collect::<Vec<_>>().join(", or ");
                self.say(format!("expected {expected}"));
            }
        }
    }

    fn plain(&mut self, node: Node<'_>, value: &Value) {
        let fits = match value {
            Value::String(_) => node.is("string"),
            Value::Integer(_) => node.is("integer") || node.is("number"),
            Value::Float(_) => node.is("number"),
            Value::Boolean(_) => node.is("boolean"),
            _ => false,
        };
        let untyped = node.0["type"].is_null();
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        let within =
            |n: f64| node.0["minimum"].as_f64().is_none_or(|least| n >= least) && node.0["maximum"].as_f64().is_none_or(|most| n <= most);
        if !(fits || untyped) || !number.is_none_or(within) {
            return self.wrong(node, value);
        }
        if let (Some(text), Some(format)) = (value.as_str(), node.0["format"].as_str())
            && let Err(problem) = well_formed(format, text)
        {
            self.say(problem);
        }
    }
}

impl Child<'_> {
    fn expected(&self) -> String {
        match self {
            Self::Value(node) => node.expected(),
            Self::SecretFile => "the name of a file".to_owned(),
        }
    }
}

impl Node<'_> {
    /// A table told by the words that its keys must have, for messages: `a table with kind = "jwks"`.
    fn outline(self) -> String {
        let Shape::Table(fields) = self.shape() else { return self.expected() };
        let tags: Vec<String> =
            fields.iter().filter_map(|(key, node)| node.0["const"].as_str().map(|word| format!("{key} = \"{word}\""))).collect();
        if tags.is_empty() { self.expected() } else { format!("a table with {}", tags.join(", ")) }
    }
}

fn well_formed(format: &str, text: &str) -> Result<(), String> {
    match format {
        "size" => text.parse::<ByteSize>().map(drop),
        "span" => text.parse::<Span>().map(drop),
        "grant" => text.parse::<Grant>().map(drop),
        _ => Ok(()),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What to say of a key that nobody knows.
pub(super) fn unknown(key: &str, known: &[String]) -> String {
    let nearest = known.iter().map(|name| (distance(key, name), name)).min();
    match nearest {
        Some((steps, name)) if steps <= 1 + key.len() / 4 => format!("unknown key; did you mean `{name}`?"),
        _ => format!("unknown key; expected one of {}", quoted(&known.iter().map(String::as_str).collect::<Vec<_>>())),
    }
}

/// How many letters must be changed to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A path as operators write it: `routes[1].topic`.
pub(super) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if step.parse::<usize>().is_ok() && !text.is_empty() {
            text.push_str(&format!("[{step}]"));
        } else {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(step);
        }
    }
    text
}
