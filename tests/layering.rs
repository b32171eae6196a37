//! Who may import whom. Reads the source and holds the table of `docs/design.md`; nothing else keeps the areas apart.
//!
//! What always holds: a file that no row of the table covers is a failure, so that a new area must be given its place;
//! a failure names the line and the rule. Test modules (`#[cfg(test)] mod …`) and comments are not looked at.

use std::fs;
use std::path::Path;

/// One area: the files it is made of, and the areas it may import besides itself and the leaves.
struct Area {
    /// The start of a module's path. The longest that fits a file is its area.
    module: &'static str,
    may: &'static [&'static str],
    why: &'static str,
}

/// Small areas that everything may use, and that use nothing but each other.
const LEAVES: &[&str] = &[
    "event",
    "receipt",
    "units",
    "telemetry",
    "drain",
    "limits::inflight",
    "records",
    "wire",
    "lane",
    "otlp",
    "partition",
    "document",
    "journal",
];

const fn area(module: &'static str, may: &'static [&'static str], why: &'static str) -> Area {
    Area { module, may, why }
}

const EVERYTHING: &[&str] = &["*"];

const AREAS: &[Area] = &[
    area("main", &["cli"], "main starts a command and nothing else"),
    area("lib", &[], "lib names the modules"),
    area("cli", EVERYTHING, "the commands call whatever they are about"),
    area("app", EVERYTHING, "the inventory knows everybody and nobody knows it"),
    area("config", EVERYTHING, "config is made of the areas' Config structs"),
    area("units", &[], "a leaf"),
    area("event", &[], "a leaf; a batch carries its guard"),
    area("receipt", &[], "a leaf; outcomes carry their guard"),
    area("lane", &[], "a leaf: what is remembered of each producer and partition"),
    area("records", &[], "a leaf: a producer's batch"),
    area("wire", &[], "a leaf: Kafka's wire, bounded"),
    area("journal", &[], "a leaf: what was refused, for a person who asks"),
    area("partition", &[], "a leaf: which partition a key belongs to"),
    area("document", &[], "a leaf: what a document of Firestore can hold, and nothing of how it gets there"),
    area("otlp", &[], "a leaf: the bytes of OTLP requests, and nothing of how they come"),
    area("telemetry", &[], "a leaf"),
    area("drain", &[], "a leaf"),
    area("gate", &[], "a leaf of the trunk: which partitions are closed to the broker"),
    area("auth", &[], "who is there, and what may they do: asked by doors and trunk, asks nobody"),
    area("limits", &["auth"], "quotas belong to a principal"),
    area("limits::inflight", &[], "a leaf: bytes in flight"),
    area("limits::connections", &[], "connection slots know no principal"),
    area("limits::shared", &["limits::quota"], "what gates tell each other of accounts: it knows no principal"),
    area("route", &["auth"], "a route consumes a permit"),
    area("sink", &["route", "gate", "auth::grants"], "the sink takes Routed and nothing else; the routes name topics by grants"),
    area("inbox", &["route", "gate"], "the inbox takes Routed and nothing else"),
    area("inbox::firestore", &["inbox", "route", "gate", "auth::grants"], "the routes name topics by grants, and their collections"),
    area("inbox::replay", &["route", "gate", "sink"], "replay alone leads from the inbox to the sink"),
    area("ingest", &["auth", "limits", "route", "sink", "inbox", "gate"], "the trunk: the only one that knows both ends"),
    area("listeners", &["limits::connections"], "the accept loop decides nothing about events"),
    area("listeners::websocket", &["listeners"], "from one door to the other: frames alone, no event and no principal is looked into"),
    area(
        "listeners::http",
        &["listeners", "ingest", "auth", "limits"],
        "a door asks the trunk; it knows no other door, no sink, no inbox, no route",
    ),
    area(
        "listeners::otlp",
        &[
            "listeners",
            "ingest",
            "auth",
            "limits",
            "listeners::http::body",
            "listeners::http::coding",
            "listeners::http::events::media_type",
            "listeners::http::fault",
            "listeners::http::guest",
            "listeners::http::lobby",
            "listeners::http::payload",
            "listeners::http::reply",
            "listeners::http::serve",
            "listeners::http::trace_context",
        ],
        "a door asks the trunk; it knows no other door: of HTTP it shares what reads heads and bodies and writes answers, not the door itself",
    ),
    area(
        "listeners::kafka",
        &["listeners", "ingest", "auth", "limits"],
        "a door asks the trunk; it knows no other door, no sink, no inbox, no route",
    ),
    area("admin", &["ingest"], "the status page reads snapshots of the trunk"),
];

/// Words that may stand only under some modules.
struct Fence {
    words: &'static [&'static str],
    only: &'static [&'static str],
    why: &'static str,
}

const FENCES: &[Fence] = &[
    Fence {
        words: &["http::", "http_body::", "http_body_util::", "hyper::", "hyper_util::", "axum::", "tonic::", "tower::"],
        only: &["listeners", "admin", "auth::jwks", "auth::fetch", "inbox::firestore", "app"],
        why: "core types know no protocol; keys are fetched by HTTP, and app starts the listeners",
    },
    Fence { words: &["kafka_protocol::"], only: &["listeners::kafka", "sink"], why: "Kafka's wire is the Kafka door's and the sink's" },
    Fence { words: &["rdkafka::"], only: &["sink"], why: "librdkafka stays behind the sink" },
    Fence { words: &["redis::"], only: &["limits::shared"], why: "Redis is where quotas are shared, and nothing else" },
    Fence { words: &["rusqlite::"], only: &["inbox"], why: "the database stays behind the inbox" },
    Fence {
        words: &["jsonwebtoken::"],
        only: &["auth", "inbox::firestore::credentials"],
        why: "tokens are verified and minted in one place; what a service account says to Google is signed beside it",
    },
    Fence {
        words: &["googleapis_tonic_google_firestore_v1::", "prost_types::"],
        only: &["inbox::firestore"],
        why: "Firestore's messages stay behind the inbox",
    },
    Fence {
        words: &["Routed::restore", "RoutedRecords::restore"],
        only: &["inbox"],
        why: "what was acknowledged is restored; everything else is authorized",
    },
    Fence { words: &["prometheus_client::"], only: &["telemetry", "admin"], why: "metrics are a vocabulary in one place" },
];

#[test]
fn everybody_imports_only_whom_the_table_allows() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 10, "the source was not found under {}", source.display());
    let mut faults = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).expect("below src").display().to_string();
        faults.extend(check(&relative, &fs::read_to_string(&file).expect("source is readable")));
    }
    assert!(
        faults.is_empty(),
        "\n{}\n\nThe table is in tests/layering.rs; it changes only together with docs/design.md.",
        faults.join("\n")
    );
}

#[test]
fn the_checker_finds_what_is_planted() {
    let faults = |file: &str, text: &str| check(file, text);
    for (file, text) in [
        ("listeners/http/events.rs", "use crate::sink::Sink;"),
        ("listeners/http/events.rs", "use crate::{event::Event, listeners::kafka::frame};"),
        ("listeners/http.rs", "fn f() -> crate::inbox::Inbox {}"),
        ("listeners.rs", "use crate::ingest::Ingest;"),
        ("listeners/websocket.rs", "use crate::ingest::Ingest;"),
        ("listeners/otlp/export.rs", "use crate::listeners::http::door::Door;"),
        ("listeners/http/door.rs", "use crate::listeners::otlp::Door;"),
        ("otlp/cut.rs", "use crate::auth::Principal;"),
        ("document/json.rs", "use crate::route::Routed;"),
        ("listeners/arrival.rs", "use crate::auth::Principal;"),
        ("sink/producer.rs", "use crate::{\n    event::{Event, Topic},\n    inbox::Inbox,\n};"),
        ("inbox/disk.rs", "use crate::sink::Sink;"),
        ("auth/jwt.rs", "use crate::config::Config;"),
        ("event.rs", "use crate::auth::Principal;"),
        ("ingest.rs", "use crate::listeners::http::fault::Fault;"),
        ("ingest.rs", "fn f(x: http::StatusCode) {}"),
        ("route.rs", "use hyper::Request;"),
        ("listeners/http/events.rs", "let r = Routed::restore(row);"),
        ("inbox.rs", "use rdkafka::producer::BaseProducer;"),
        ("sink/mod.rs", ""),
        ("helpers.rs", ""),
    ] {
        assert!(!faults(file, text).is_empty(), "{file} with `{text}` passes");
    }
    for (file, text) in [
        ("listeners/http/events.rs", "use crate::{event::Event, listeners::Peer, ingest::Ingest};\nuse http::StatusCode;"),
        ("inbox/replay.rs", "use crate::sink::Sink;"),
        ("listeners/otlp/http.rs", "use crate::listeners::http::body;\nuse crate::otlp::Signal;"),
        ("sink.rs", "//! [`Inbox`](crate::inbox::Inbox)\nuse crate::route::Routed; // not crate::inbox\n/* crate::inbox */"),
        ("sink.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n use crate::inbox::Inbox;\n}"),
        ("sink.rs", "const S: &str = \"https://x\"; use crate::gate::Gate;"),
        ("auth.rs", "pub(in crate::auth) fn f() {}"),
        ("ingest.rs", "use crate::{auth, inbox, sink};"),
    ] {
        assert_eq!(faults(file, text), Vec::<String>::new(), "{file}");
    }
    let said = faults("sink.rs", "\n\nuse crate::inbox::Inbox;").join("");
    assert!(said.starts_with("src/sink.rs:3: ") && said.contains("`sink` may not use `crate::inbox::Inbox`"), "{said}");
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of source").map(|entry| entry.expect("an entry").path()) {
        match entry.extension() {
            _ if entry.is_dir() => collect(&entry, files),
            Some(kind) if kind == "rs" => files.push(entry),
            _ => {}
        }
    }
}

/// Everything in one file that breaks a rule.
fn check(file: &str, text: &str) -> Vec<String> {
    let module = file.trim_end_matches(".rs").replace('/', "::");
    let mut faults = Vec::new();
    if module == "mod" || module.ends_with("::mod") {
        faults.push(format!("src/{file}: a module is `name.rs` beside `name/`, not `mod.rs`"));
    }
    // A file of tests belongs to nobody.
    if module.ends_with("::tests") || module.contains("::tests::") {
        return faults;
    }
    let Some(area) = AREAS.iter().filter(|area| is_under(&module, area.module)).max_by_key(|area| area.module.len()) else {
        faults.push(format!("src/{file}: no area of the table covers this file: give it its place in tests/layering.rs"));
        return faults;
    };
    let code = without_tests_and_comments(text);
    for (line, path) in imports(&code) {
        let allowed = [LEAVES, area.may, &[area.module]].concat().iter().any(|may| *may == "*" || covers(may, &path));
        if !allowed {
            faults.push(format!("src/{file}:{line}: `{}` may not use `crate::{path}` ({})", area.module, area.why));
        }
    }
    for fence in FENCES.iter().filter(|fence| !fence.only.iter().any(|only| is_under(&module, only))) {
        for (number, line) in code.lines().enumerate() {
            if let Some(word) = fence.words.iter().find(|word| has_word(line, word)) {
                faults.push(format!("src/{file}:{}: `{word}` stands only under {} ({})", number + 1, fence.only.join(", "), fence.why));
            }
        }
    }
    faults
}

fn is_under(module: &str, area: &str) -> bool {
    module.strip_prefix(area).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether what may be used covers an import. The doors are areas of their own: `listeners` does not stand for them.
fn covers(may: &str, path: &str) -> bool {
    let owner = AREAS.iter().filter(|area| is_under(path, area.module)).max_by_key(|area| area.module.len());
    let is_door = owner.is_some_and(|owner| owner.module.starts_with("listeners::"));
    is_under(path, may) && (!is_door || may.starts_with("listeners::"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '"')))
}

/// The code alone, line by line as before: no comments, and nothing from the test module on.
fn without_tests_and_comments(text: &str) -> String {
    let text = text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at]);
    let mut code = String::new();
    let mut block = false;
    for line in text.lines() {
        let mut rest = line;
        loop {
            match (block, rest.find("/*"), rest.find("*/")) {
                (true, _, Some(end)) => (block, rest) = (false, &rest[end + 2..]),
                (true, ..) => break,
                (false, Some(start), _) if rest.find("//").is_none_or(|at| at > start) => {
                    code.push_str(&rest[..start]);
                    (block, rest) = (true, &rest[start + 2..]);
                }
                (false, ..) => {
                    // `https://` in a string is not a comment.
                    let comment = rest.match_indices("//").find(|(at, _)| !rest[..*at].ends_with(':'));
                    code.push_str(comment.map_or(rest, |(at, _)| &rest[..at]));
                    break;
                }
            }
        }
        code.push('\n');
    }
    code
}

/// Every path that starts at `crate::`, with its line; groups are written out.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        // `pub(in crate::area)` says who sees something, it imports nothing.
        if code[..at].ends_with("in ") || code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        found.extend(paths(&code[at + word.len()..]).into_iter().map(|path| (line, path)));
    }
    found
}

/// The paths of a use-tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        return members(group).into_iter().flat_map(paths).collect();
    }
    let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    match tree[name.len()..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '{')) => {
            paths(rest).into_iter().map(|below| format!("{name}::{below}")).collect()
        }
        _ => vec![name],
    }
}

/// What stands between the commas of a group, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}
