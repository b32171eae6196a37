//! The rules of reading, on a small configuration of every shape; and the real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::environment::Env;
use super::schema::{Child, Schema};
use super::*;
use crate::auth::grants::Grant;
use crate::units::{ByteSize, Secret};

const CANARY: &str = "canary-4711";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Item {
    /// Its name, in small letters.
    name: String,
    /// Its size. Default 1 KiB.
    size: ByteSize,
    /// Its password.
    password: Secret,
    /// Where.
    address: SocketAddr,
}

impl Default for Item {
    fn default() -> Self {
        Self { name: "one".to_owned(), size: ByteSize::kib(1), password: Secret::default(), address: ([127, 0, 0, 1], 1).into() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Part {
    /// How many.
    count: u16,
    /// How long. Default 2s.
    wait: Span,
    /// Which form. Default `pretty`.
    form: Form,
    /// Which form, perhaps.
    other: Option<Form>,
    /// Words.
    words: Vec<String>,
    /// Grants.
    grants: Vec<Grant>,
    /// Perhaps.
    perhaps: Option<String>,
    /// A share.
    share: f64,
    /// A token.
    token: Secret,
    /// A key.
    key: Secret,
    /// The file that holds the key.
    key_file: Option<std::path::PathBuf>,
    /// Properties.
    properties: BTreeMap<String, String>,
    /// Items by name.
    named: BTreeMap<String, Item>,
    /// A part that may be absent.
    extra: Option<Item>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            count: 7,
            wait: Span::secs(2),
            form: Form::Pretty,
            other: None,
            words: vec!["a".to_owned()],
            grants: Vec::new(),
            perhaps: None,
            share: 0.5,
            token: Secret::default(),
            key: Secret::default(),
            key_file: None,
            properties: BTreeMap::new(),
            named: BTreeMap::from([("first".to_owned(), Item::default())]),
            extra: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Toy {
    /// A switch.
    on: bool,
    /// The part.
    part: Part,
    /// Items.
    items: Vec<Item>,
}

impl Default for Toy {
    fn default() -> Self {
        Self { on: false, part: Part::default(), items: vec![Item::default()] }
    }
}

fn env<const N: usize>(variables: [(&str, &str); N]) -> Env {
    variables.into_iter().collect()
}

fn toy(text: &str, env: &Env) -> (Toy, Vec<String>) {
    let mut draft = Draft::of::<Toy>();
    draft.file("toy.toml", text);
    draft.overrides(env);
    let toy = draft.read();
    (toy, draft.mistakes.iter().map(ToString::to_string).collect())
}

fn good(text: &str, env: &Env) -> Toy {
    let (toy, mistakes) = toy(text, env);
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    toy
}

#[test]
fn one_run_reports_every_mistake_with_its_place() {
    let text = r#"
        onn = true
        [part]
        count = 70000
        wait = "2 parsecs"
        form = "prety"
        words = "a"
        grants = ["ok-*", "a b"]
        share = "half"
        other = 3
        [part.named.x]
        size = "1 XB"
        [[items]]
        name = "fine"
        [[items]]
        nam = "one"
        address = "nowhere"
    "#;
    let env = env([("SLUICEGATE__PART__COUNTS", "1"), ("SLUICEGATE__PART__EXTRA__SIZE", "big"), ("SLUICEGATE__ITEMS__X__NAME", "a")]);
    let (_, mistakes) = toy(text, &env);
    let expected = [
        "toy.toml: items[1].nam: unknown key; did you mean `name`?",
        "toy.toml: onn: unknown key; did you mean `on`?",
        "toy.toml: part.count: expected a whole number from 0 to 65535, found a value of type integer",
        "toy.toml: part.form: expected one of `pretty`, `json`, found `prety`",
        "toy.toml: part.grants[1]: `a b` is not a grant: write a topic, or a prefix that ends in `*`",
        "toy.toml: part.named.x.size: `1 XB` is not a size: write a number of bytes or, for example, `64 KiB` or `8 MiB`",
        "toy.toml: part.other: expected one of `pretty`, `json`, found a value of type integer",
        "toy.toml: part.share: expected a number, found a value of type string",
        "toy.toml: part.wait: `2 parsecs` is not a span of time: write, for example, `750ms`, `2s`, `5m` or `1h`",
        "toy.toml: part.words: expected a list, each text in quotes, found a value of type string",
        "environment SLUICEGATE__ITEMS__X__NAME: items.x: expected the position of an entry, a whole number from 0",
        "environment SLUICEGATE__PART__COUNTS: part.counts: unknown key; did you mean `count`?",
        "environment SLUICEGATE__PART__EXTRA__SIZE: part.extra.size: `big` is not a size: write a number of bytes or, for example, `64 KiB` or `8 MiB`",
        "toy.toml: items[1].address: not an address: expected `address:port`, as in `127.0.0.1:8443`",
    ];
    assert_eq!(mistakes, expected, "{mistakes:#?}");
}

#[test]
fn a_text_that_is_not_toml_is_reported_by_line_and_column_without_being_repeated() {
    let (_, mistakes) = toy(&format!("on = true\npassword = \"{CANARY}\nx = 1"), &Env::default());
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert!(mistakes[0].starts_with("toy.toml:2:"), "{mistakes:#?}");
    assert!(!mistakes[0].contains(CANARY) && !mistakes[0].contains('\n'), "{mistakes:#?}");
}

#[test]
fn the_environment_overrules_the_file_and_the_file_the_defaults() {
    let toy =
        good("[part]\ncount = 8\nshare = 1\nwords = [\"x\"]", &env([("SLUICEGATE__PART__COUNT", "9"), ("sluicegate__part__form", "json")]));
    assert_eq!((toy.part.count, toy.part.share, toy.part.form), (9, 1.0, Form::Json));
    assert_eq!((toy.part.words, toy.part.wait), (vec!["x".to_owned()], Span::secs(2)));
}

#[test]
fn text_in_a_variable_needs_no_quotes_and_a_list_no_brackets() {
    let toy = good(
        "",
        &env([
            ("SLUICEGATE__ON", "true"),
            ("SLUICEGATE__PART__WORDS", "a, 17 ,c:1"),
            ("SLUICEGATE__PART__GRANTS", r#"["x", "y-*"]"#),
            ("SLUICEGATE__PART__PERHAPS", "17"),
            ("SLUICEGATE__PART__WAIT", "5m"),
            ("SLUICEGATE__PART__TOKEN", "\"0017\""),
        ]),
    );
    assert!(toy.on);
    assert_eq!(toy.part.words, ["a", "17", "c:1"]);
    assert_eq!(toy.part.grants.len(), 2);
    assert_eq!(toy.part.perhaps.as_deref(), Some("17"));
    assert_eq!(toy.part.wait, Span::secs(300));
    assert_eq!(toy.part.token.expose(), "\"0017\"", "a secret is taken as it is written");
}

#[test]
fn a_variable_reaches_into_lists_and_named_sections_and_leaves_the_others_as_they_are() {
    let toy = good(
        "[part.named.My-Item]\nname = \"old\"",
        &env([
            ("SLUICEGATE__ITEMS__0__SIZE", "2 KiB"),
            ("SLUICEGATE__ITEMS__1__NAME", "two"),
            ("SLUICEGATE__PART__NAMED__MY_ITEM__NAME", "new"),
            ("SLUICEGATE__PART__NAMED__FRESH__NAME", "fresh"),
        ]),
    );
    assert_eq!((toy.items[0].name.as_str(), toy.items[0].size), ("one", ByteSize::kib(2)));
    assert_eq!(toy.items[1].name, "two");
    assert_eq!(toy.part.named["My-Item"].name, "new");
    assert_eq!(toy.part.named["fresh"].name, "fresh");
    let kept = good("", &env([("SLUICEGATE__PART__NAMED__FRESH__NAME", "fresh")]));
    assert_eq!(kept.part.named.keys().collect::<Vec<_>>(), ["first", "fresh"], "default entries stay");
}

#[test]
fn a_secret_comes_from_a_variable_or_from_a_file_and_never_stands_in_the_configuration_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token").display().to_string();
    std::fs::write(&file, format!("{CANARY}\n")).expect("a file");

    let by_key = good(&format!("[part]\ntoken_file = \"{file}\""), &Env::default());
    assert_eq!(by_key.part.token.expose(), CANARY);
    let by_variable = good("", &env([("SLUICEGATE__PART__TOKEN_FILE", &file), ("SLUICEGATE__PART__NAMED__A__PASSWORD", "17")]));
    assert_eq!(by_variable.part.token.expose(), CANARY);
    assert_eq!(by_variable.part.named["a"].password.expose(), "17");
    let own = good("[part]\nkey_file = \"k\"\n[part.properties]\n\"a.b\" = \"1\"", &env([("SLUICEGATE__PART__PROPERTIES__A_B", "2")]));
    assert_eq!(own.part.key_file.as_deref(), Some(std::path::Path::new("k")), "an area may read the file itself");
    assert_eq!(own.part.properties["a.b"], "2");
    let overruled = good(&format!("[part]\ntoken_file = \"{file}\""), &env([("SLUICEGATE__PART__TOKEN", "other")]));
    assert_eq!(overruled.part.token.expose(), "other");

    let text = format!("[part]\ntoken = \"{CANARY}\"\n[[items]]\npassword = 17\npassword_file = \"/nowhere/at/all\"");
    let twice = env([("SLUICEGATE__PART__TOKEN", CANARY), ("SLUICEGATE__PART__TOKEN_FILE", &file)]);
    let (_, mistakes) = toy(&text, &twice);
    let all = mistakes.join("\n");
    assert!(
        all.contains(
            "part.token: a secret does not stand in a file like this: set SLUICEGATE__PART__TOKEN, or name its file with `token_file`"
        ),
        "{all}"
    );
    assert!(all.contains("items[0].password: a secret does not"), "{all}");
    assert!(all.contains("items[0].password_file: the file `/nowhere/at/all` cannot be read"), "{all}");
    assert!(all.contains("SLUICEGATE__PART__TOKEN_FILE: part.token: SLUICEGATE__PART__TOKEN is set as well"), "{all}");
    assert!(!all.contains(CANARY), "{all}");
    assert_eq!(mistakes.len(), 4, "{all}");
}

#[test]
fn no_secret_is_printed() {
    let mut draft = Draft::of::<Toy>();
    draft.overrides(&env([
        ("SLUICEGATE__PART__TOKEN", CANARY),
        ("SLUICEGATE__ITEMS__0__PASSWORD", CANARY),
        ("SLUICEGATE__PART__COUNT", "9"),
    ]));
    let toy: Toy = draft.read();
    let printed = print::effective(&toy, &draft.origins);
    assert!(printed.contains("token = \"***\"  # from SLUICEGATE__PART__TOKEN\n"), "{printed}");
    assert!(printed.contains("count = 9  # from SLUICEGATE__PART__COUNT\n"), "{printed}");
    assert!(printed.contains("\n[[items]]\n") && printed.contains("\n[part.named.first]\n"), "{printed}");
    assert!(!printed.contains(CANARY) && !format!("{toy:?}").contains(CANARY));
    assert!(!format!("{:?}", env([("X", CANARY)])).contains(CANARY));
    printed.parse::<toml::Table>().expect("what is printed is TOML");
}

#[test]
fn the_sample_shows_every_option_and_reads_as_the_defaults_when_taken_up() {
    let sample = print::sample::<Toy>();
    for line in [
        "#on = false",
        "[part]",
        "#count = 7",
        "#perhaps = <text in quotes>",
        "#[part.named.first]",
        "#[part.extra]",
        "#[[items]]",
        "#size = \"1 KiB\"",
    ] {
        assert!(sample.lines().any(|found| found == line), "{line} is not in\n{sample}");
    }
    assert_eq!(sample.matches("#key_file = ").count(), 1, "{sample}");
    assert_eq!(sample.matches("#token_file = ").count(), 1, "{sample}");
    assert_eq!(toml::Table::try_from(good(&sample, &Env::default())).expect("TOML"), toml::Table::try_from(Toy::default()).expect("TOML"));
    good(&taken_up(&sample), &Env::default());
}

/// The sample with every default taken up.
fn taken_up(sample: &str) -> String {
    let uncomment = |line: &str| {
        let option = line.strip_prefix('#').filter(|rest| rest.starts_with('[') || rest.starts_with(|c: char| c.is_ascii_lowercase()));
        option.filter(|rest| !rest.contains("<")).map(str::to_owned)
    };
    sample.lines().map(|line| uncomment(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

// The real one.

fn load(text: Option<&str>, env: &Env) -> Result<Loaded, Vec<Mistake>> {
    let mut draft = Draft::of::<Config>();
    text.into_iter().for_each(|text| draft.file("config/x.toml", text));
    Config::finish(draft, env)
}

fn loaded(text: &str, env: &Env) -> Loaded {
    load(Some(text), env).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

fn refused(text: &str, env: &Env) -> String {
    let mistakes = load(Some(text), env).expect_err("mistakes");
    mistakes.iter().map(|mistake| format!("{mistake}\n")).collect()
}

#[test]
fn with_no_configuration_the_gate_is_a_developers_own_on_loopback() {
    let loaded = load(None, &Env::default()).expect("no mistakes");
    assert!(loaded.config.is_development());
    assert_eq!(loaded.config.listeners.bind, SocketAddr::from(([127, 0, 0, 1], 8443)));
    assert_eq!(
        loaded.config.routes.iter().map(|route| route.topic.to_string()).collect::<Vec<_>>(),
        ["events", "otlp_spans", "otlp_metrics", "otlp_logs"]
    );
}

#[test]
fn every_variable_of_the_platform_sets_an_option_that_exists() {
    let schema = Schema::of::<Config>();
    for name in platform::NAMES {
        let found = name.option.split('.').try_fold(schema.root(), |node, key| match node.child(key)? {
            Child::Value(child) => Some(child),
            Child::SecretFile => None,
        });
        assert!(found.is_some(), "{} sets {}, which is no option: correct the table in config/platform.rs", name.variable, name.option);
    }
}

#[test]
fn port_means_every_address_with_tls_in_front() {
    let env = env([("PORT", "8080"), ("FIREBASE_PROJECT_ID", "demo")]);
    let loaded = loaded("[listeners]\nbind = \"127.0.0.1:9\"", &env);
    assert_eq!(loaded.config.listeners.bind, SocketAddr::from(([0, 0, 0, 0], 8080)));
    let effective = loaded.effective();
    assert!(
        effective.contains("bind = \"0.0.0.0:8080\"  # from PORT\n") && effective.contains("tls = \"front\"  # from PORT\n"),
        "{effective}"
    );
    assert!(!loaded.config.is_development());
    assert!(effective.contains("project = \"demo\"  # from FIREBASE_PROJECT_ID"), "{effective}");

    let mistakes = refused("", &self::env([("PORT", "http"), ("FIREBASE_PROJECT_ID", "demo")]));
    assert_eq!(mistakes, "environment PORT: listeners.bind: expected a port, a whole number from 0 to 65535\n");
}

#[test]
fn a_single_value_overrules_the_platforms_variable() {
    let env = env([("PORT", "8080"), ("SLUICEGATE__LISTENERS__BIND", "127.0.0.1:1"), ("STRUCTURED_LOGS", "false")]);
    assert_eq!(loaded("", &env).config.listeners.bind, SocketAddr::from(([127, 0, 0, 1], 1)));
}

#[test]
fn openness_beyond_loopback_must_be_meant() {
    let mistakes = refused("[listeners]\nbind = \"0.0.0.0:8443\"\ntls = \"off\"", &Env::default());
    assert!(mistakes.contains("config/x.toml: listeners.tls: TLS is off and 0.0.0.0:8443 is not loopback"), "{mistakes}");
    assert!(mistakes.contains("config/x.toml: auth.issuers: nobody could be let in"), "{mistakes}");
    loaded("insecure = true\n[listeners]\nbind = \"0.0.0.0:8443\"\ntls = \"off\"", &env([("FIREBASE_PROJECT_ID", "demo")]));
    let still = refused("insecure = true", &env([("PORT", "8080")]));
    assert!(still.contains("nobody could be let in"), "{still}");
}

#[test]
fn what_an_area_says_of_its_values_stands_beside_the_misspelled_keys() {
    let mistakes = refused("insecur = true\n[drain]\nlimit = \"1s\"", &env([("SLUICEGATE__DRAIN__LEAVING", "3s")]));
    assert_eq!(
        mistakes,
        "config/x.toml: insecur: unknown key; did you mean `insecure`?\nconfig/x.toml: drain.limit: expected more than drain.leaving (3s), found 1s\n"
    );
}

#[test]
fn a_password_of_the_platform_is_read_from_its_file_and_printed_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password").display().to_string();
    std::fs::write(&file, format!("{CANARY}\n")).expect("a file");
    let variables = [
        ("REDPANDA_BROKERS", "127.0.0.1:9093,127.0.0.2:9093"),
        ("REDPANDA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("REDPANDA_SASL_MECHANISM", "SCRAM-SHA-256"),
        ("REDPANDA_SASL_USERNAME", "gate"),
        ("REDPANDA_SASL_PASSWORD_FILE", &file),
    ];
    let loaded = loaded("", &env(variables));
    let (effective, debug) = (loaded.effective(), format!("{loaded:?}"));
    assert!(effective.contains("\"***\"  # from REDPANDA_SASL_PASSWORD_FILE\n"), "{effective}");
    assert!(effective.contains("brokers = [\"127.0.0.1:9093\", \"127.0.0.2:9093\"]  # from REDPANDA_BROKERS\n"), "{effective}");
    assert!(!effective.contains(CANARY) && !debug.contains(CANARY));
    let twice = refused("", &env([("REDPANDA_SASL_PASSWORD", CANARY), ("REDPANDA_SASL_PASSWORD_FILE", &file)]));
    assert!(twice.contains("keep one of the two") && !twice.contains(CANARY), "{twice}");
}

#[test]
fn a_redis_is_named_by_its_host_or_by_its_whole_address_which_is_shown_nowhere() {
    let url = |variables: &[(&str, &str)]| {
        let loaded = loaded("", &variables.iter().copied().collect::<Env>());
        assert!(!loaded.effective().contains("://:") && !format!("{loaded:?}").contains(CANARY));
        loaded.config.limits.shared.url.expose().to_owned()
    };
    for (host, expected) in [
        ("dragonfly", "redis://dragonfly"),
        ("10.0.0.9:6380", "redis://10.0.0.9:6380"),
        ("::1", "redis://[::1]"),
        ("[::1]:6380", "redis://[::1]:6380"),
        ("rediss://dragonfly", "rediss://dragonfly"),
    ] {
        assert_eq!(url(&[("DRAGONFLY_HOST", host)]), expected);
    }
    let whole = format!("rediss://:{CANARY}@redis.internal");
    assert_eq!(url(&[("DRAGONFLY_HOST", "dragonfly"), ("REDIS_URL", &whole)]), whole, "the whole address wins");
    let wrong = refused("", &env([("DRAGONFLY_HOST", "a b")]));
    assert!(wrong.starts_with("environment DRAGONFLY_HOST: limits.shared.url: expected `redis://"), "{wrong}");
}

#[test]
fn a_firebase_project_alone_lets_its_users_send_commands_and_the_file_may_say_otherwise() {
    let env = env([("FIREBASE_PROJECT_ID", "demo"), ("GOOGLE_CLOUD_PROJECT", "other")]);
    let alone = loaded("", &env).effective();
    assert!(
        alone.contains("topics = [\"frontend-events\"]  # from FIREBASE_PROJECT_ID")
            || alone.contains("topics = [\"frontend-events\"]  # from GOOGLE"),
        "{alone}"
    );
    assert!(alone.contains("[auth.issuers.firebase]") && alone.contains("project = \"demo\"  # from FIREBASE_PROJECT_ID"), "{alone}");
    let with_file = loaded("[auth.issuers.firebase]\ntopics = [\"app-*\"]", &env).effective();
    assert!(with_file.contains("topics = [\"app-*\"]\n"), "{with_file}");
}

#[test]
fn the_committed_sample_is_what_the_program_prints() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/sluicegate.toml")).unwrap_or_default();
    assert!(committed == Config::sample(), "run `sluicegate check --print-sample > config/sluicegate.toml`");
}

#[test]
fn the_sample_has_the_right_form_with_every_default_taken_up() {
    let mut draft = Draft::of::<Config>();
    draft.file("sample", &taken_up(&Config::sample()));
    draft.read::<Config>();
    assert_eq!(draft.mistakes, Vec::new());
}

#[test]
fn the_platforms_routes_are_without_mistakes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deml.toml");
    let loaded = Config::load(Some(std::path::Path::new(path)), &env([("FIREBASE_PROJECT_ID", "demo")]));
    let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let topics: Vec<String> = loaded.config.routes.iter().map(|route| route.topic.to_string()).collect();
    assert_eq!(topics, ["frontend-events", "app-events", "user-issues", "otlp_spans", "otlp_metrics", "otlp_logs", "telemetry-raw"]);
}
