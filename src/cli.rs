//! The commands: arguments in, text and an exit code out.
//!
//! What always holds: this file alone prints (`password` asks); the exit code is 0 for done, 1 for a failure, 2 for mistakes in the
//! configuration, 3 for a broker that does not answer (`trace`) and 64 for arguments that are not understood.
// The one place that speaks to the person at the terminal.
#![allow(clippy::print_stderr)]

mod clients;
mod escaped;
mod password;
mod trace;
mod user;
mod welcome;
mod wiring;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::app::StartError;
use crate::auth::grants::Grant;
use crate::auth::mint::Rights;
use crate::config::{Config, Env, Loaded, Mistake};
use crate::units::Span;
use wiring::{Rows, Welcome};

const FAILED: u8 = 1;
const MISTAKES: u8 = 2;
const UNREACHABLE: u8 = 3;
const USAGE: u8 = 64;

/// What is over sooner shows no progress.
const QUICK: Duration = Duration::from_secs(1);

const LONG_ABOUT: &str = "\
Takes events over HTTPS and answers only when they are in the broker (acks=all) or durably in the inbox.

With no arguments and no configuration it serves on https://127.0.0.1:8443 with a generated certificate, prints a \
development token and two curl lines to try, and keeps the events in the inbox under ./data until it knows a broker.";

const AFTER_HELP: &str = "\
Examples:
  sluicegate                                              a developer's gate on loopback, no broker
  REDPANDA_BROKERS=127.0.0.1:9092 sluicegate              the same, with a broker
  sluicegate topics --create                              make the routes' topics that the broker lacks
  sluicegate --config config/deml.toml check              is the configuration right, and what is in force?
  sluicegate trace order-17                               where is this event now?
  sluicegate token --sub worker --topics 'orders,tele-*'  a token for a service
  sluicegate user add alice --topics orders --generate    a name and a password for somebody without tokens

Configuration, later ones win: defaults, the file, the variables below, SLUICEGATE__SECTION__KEY for any single value
(SLUICEGATE__DRAIN__LIMIT=5s). config/sluicegate.toml documents every option.

Variables of the platform:
  PORT                       serve on 0.0.0.0:$PORT in plain HTTP; TLS ends in front
  REDPANDA_BROKERS           host:port,host:port
  REDPANDA_SECURITY_PROTOCOL PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
  REDPANDA_SASL_MECHANISM, REDPANDA_SASL_USERNAME, REDPANDA_SASL_PASSWORD or REDPANDA_SASL_PASSWORD_FILE
  REDPANDA_SSL_CA_B64, REDPANDA_SSL_CERT_B64, REDPANDA_SSL_KEY_B64 or REDPANDA_SSL_KEY_B64_FILE
  SLUICEGATE_KAFKA_USER, SLUICEGATE_KAFKA_PASSWORD or SLUICEGATE_KAFKA_PASSWORD_FILE
                             let one user in, by a name and a password, without a file of users
  FIREBASE_PROJECT_ID        let the users of this project in (else GOOGLE_CLOUD_PROJECT)
  CORS_ALLOWED_ORIGINS       https://a.example,https://b.example
  STRUCTURED_LOGS, K_SERVICE JSON log lines

Exit status: 0 done, 1 failed, 2 mistakes in the configuration (one line each), 3 the broker does not answer (trace), \
64 arguments not understood.";

/// The edge gateway for Kafka: events in, durably acknowledged.
#[derive(Parser)]
#[command(name = "sluicegate", version, about, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
struct Cli {
    /// The configuration file (TOML)
    #[arg(long, global = true, env = "SLUICEGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM (what happens when no command is named)
    Serve,
    /// Print the configuration in force with secrets masked, and on standard error a producer's for it; exit 0 only if the gate
    /// would start with it
    Check {
        /// Print every option with its documentation and default instead
        #[arg(long, hide = true)]
        print_sample: bool,
    },
    /// Print a token, signed by a configured key or by the development key of this directory
    Token(TokenArgs),
    /// Who is let in by name and password
    #[command(subcommand)]
    User(user::Command),
    /// Show the routes' topics as the broker has them
    Topics {
        /// Make those that the broker lacks. The gate itself never makes a topic
        #[arg(long)]
        create: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// What waits in the inbox
    #[command(subcommand)]
    Inbox(Inbox),
    /// Show where an event is: in the inbox, set aside, or in which topic, partition and offset of the broker
    #[command(after_help = trace::HELP)]
    Trace(trace::TraceArgs),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct TokenArgs {
    /// Whom the token names
    #[arg(long, value_name = "NAME")]
    sub: String,
    /// The topics that it may send to: names, or prefixes that end in `*`, separated by commas. Without it, and without --admin:
    /// every topic, where the issuer's tokens name topics at all
    #[arg(long, value_name = "TOPICS", value_delimiter = ',')]
    topics: Vec<Grant>,
    /// It may have the inbox replayed (POST /v1/admin/replay). It sends to no topic then but those of --topics
    #[arg(long)]
    admin: bool,
    /// How long it is good for
    #[arg(long, default_value = "1h")]
    ttl: Span,
    /// The issuer whose key signs, as its section [auth.issuers.NAME] is called; needed where several have one
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
}

#[derive(Subcommand)]
enum Inbox {
    /// List the rows, oldest first
    List(RowArgs),
    /// Show one row with its value
    Show {
        /// The row's name, as `list` and the answers (`inbox`) call it
        name: String,
    },
    /// Send what waits to the broker now, rows set aside included, and watch it go
    ///
    /// With the disk inbox a running gate does it, or this command while there is none. Rows in Firestore are sent by this command
    /// itself, gates or not: whoever holds a lane's lease sends its rows, so the two do not collide, and a lane that a gate is
    /// sending already is left to it. `--topic` says what is brought back of the rows set aside; what waits is sent all the same.
    Replay(SomeRows),
    /// Delete rows for good. They were acknowledged: nobody will send them again
    Purge {
        #[command(flatten)]
        rows: SomeRows,
        /// Only rows that were set aside
        #[arg(long)]
        poison: bool,
        /// Yes, delete them
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
struct RowArgs {
    /// Only rows of this topic
    #[arg(long)]
    topic: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u32,
    /// Only rows that were set aside
    #[arg(long)]
    poison: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SomeRows {
    /// Only rows of this topic
    #[arg(long)]
    topic: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was asked for.
enum Failure {
    Mistakes(Vec<Mistake>),
    /// The configuration is well formed, and still not to be had here.
    Refused(String),
    Usage(String),
    Failed(String),
    /// The broker does not answer.
    Unreachable(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// Runs the command that the arguments name. Returns when it is done.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to the parser, but they go to standard output. There is nobody to tell if that fails.
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match cli.dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

impl Failure {
    fn tell(self) -> ExitCode {
        match self {
            Self::Mistakes(mistakes) => {
                mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
                MISTAKES.into()
            }
            Self::Refused(text) => {
                eprintln!("sluicegate: {text}");
                MISTAKES.into()
            }
            Self::Usage(text) => {
                eprintln!("{text}");
                USAGE.into()
            }
            Self::Failed(text) => {
                eprintln!("sluicegate: {text}");
                FAILED.into()
            }
            Self::Unreachable(text) => {
                eprintln!("sluicegate: {text}");
                UNREACHABLE.into()
            }
        }
    }
}

impl Cli {
    fn dispatch(self) -> Result<(), Failure> {
        let file = self.config.as_deref().filter(|file| !file.as_os_str().is_empty());
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve(load(file)?),
            Command::Check { print_sample: true } => say(Config::sample().trim_end()),
            Command::Check { print_sample: false } => check(&load(file)?),
            Command::Token(args) => token(&load(file)?, &args),
            Command::User(user::Command::Add(args)) => add_user(&load(file)?, &args),
            Command::User(user::Command::List { json }) => show_rows(&user::list(&load(file)?, !json)?, json, "there are no users"),
            Command::User(user::Command::Remove { name }) => say(&user::remove(&load(file)?, &name)?),
            Command::Topics { create, json } => topics(&load(file)?, create, json),
            Command::Inbox(Inbox::List(args)) => list(&load(file)?, &args),
            Command::Inbox(Inbox::Show { name }) => show(&load(file)?, &name),
            Command::Inbox(Inbox::Replay(args)) => replay(&load(file)?, &args),
            Command::Inbox(Inbox::Purge { rows, poison, yes }) => purge(&load(file)?, &rows, poison, yes),
            Command::Trace(args) => trace(&load(file)?, &args),
            Command::Completions { shell } => completions(shell),
        }
    }
}

fn load(file: Option<&Path>) -> Result<Loaded, Failure> {
    Config::load(file, &Env::process()).map_err(Failure::Mistakes)
}

fn check(loaded: &Loaded) -> Result<(), Failure> {
    match wiring::preflight(loaded).as_slice() {
        [] => {
            say(loaded.effective().trim_end())?;
            // Beside the configuration, so that a program finds nothing but TOML.
            eprintln!("\n{}", clients::ready(&loaded.config).trim_end());
            Ok(())
        }
        wrong => Err(Failure::Refused(wrong.join("\nsluicegate: "))),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever read us has seen enough (`| head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::Failed(format!("cannot write to standard output: {error}"))),
    }
}

fn serve(loaded: Loaded) -> Result<(), Failure> {
    // A gate whose output nobody reads serves all the same.
    let greet = |shown: &Welcome| drop(say(&welcome::text(shown)));
    wiring::serve(loaded, greet).map_err(|error| match error {
        StartError::Configuration(text) | StartError::InUse(text) => Failure::Refused(text),
        StartError::Failed(text) => Failure::Failed(text),
    })
}

fn token(loaded: &Loaded, args: &TokenArgs) -> Result<(), Failure> {
    let rights = Rights { topics: &args.topics, admin: args.admin };
    say(&wiring::token(loaded, args.issuer.as_deref(), &args.sub, rights, args.ttl.get())?)
}

fn add_user(loaded: &Loaded, args: &user::AddArgs) -> Result<(), Failure> {
    let added = user::add(loaded, args)?;
    let Some(password) = added.password else { return say(&added.said) };
    // Alone on standard output: a script takes it from there.
    eprintln!("{}; this is the password, shown once:", added.said);
    say(password.expose())
}

fn topics(loaded: &Loaded, create: bool, json: bool) -> Result<(), Failure> {
    show_rows(&wiring::topics(loaded, create)?, json, "no route names a topic")
}

fn list(loaded: &Loaded, args: &RowArgs) -> Result<(), Failure> {
    let rows = Rows { topic: args.topic.clone(), poison: args.poison, limit: args.limit };
    show_rows(&wiring::inbox_list(loaded, &rows)?, args.json, "the inbox is empty")
}

fn show(loaded: &Loaded, name: &str) -> Result<(), Failure> {
    say(&escaped::json(&format!("{:#}", wiring::inbox_show(loaded, name)?)))
}

fn replay(loaded: &Loaded, args: &SomeRows) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} left").expect("the template is well formed");
    let bar = ProgressBar::new(0).with_style(style);
    let delivered = wiring::inbox_replay(loaded, &Rows { topic: args.topic.clone(), ..Rows::default() }, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if args.json { say(&serde_json::json!({ "delivered": delivered }).to_string()) } else { say(&format!("{delivered} rows delivered")) }
}

fn purge(loaded: &Loaded, args: &SomeRows, poison: bool, yes: bool) -> Result<(), Failure> {
    if !yes {
        let text =
            "purge deletes events that were acknowledged; nobody will send them again. Look with `sluicegate inbox list`, then say --yes";
        return Err(Failure::Usage(text.to_owned()));
    }
    let purged = wiring::inbox_purge(loaded, &Rows { topic: args.topic.clone(), poison, ..Rows::default() })?;
    if args.json { say(&serde_json::json!({ "purged": purged }).to_string()) } else { say(&format!("{purged} rows deleted")) }
}

fn trace(loaded: &Loaded, args: &trace::TraceArgs) -> Result<(), Failure> {
    let show = |places: &[trace::Place]| places.iter().try_for_each(|place| say(&place.told(args.json)));
    let kept = trace::inbox(loaded, args).map_err(|why| eprintln!("sluicegate: {why}")).ok();
    show(kept.as_deref().unwrap_or_default())?;
    // It may have been refused once, and sent again.
    let refused = trace::refused(loaded, args).map_err(|why| eprintln!("sluicegate: {why}")).unwrap_or_default();
    show(&refused)?;
    let before = kept.map(|places| places.len());
    if before.is_some_and(|places| places > 0) && !args.all_copies {
        return Ok(());
    }
    let (begun, bar) = (Instant::now(), ProgressBar::new_spinner());
    let shown = bar.clone();
    let (places, findings) = trace::broker(loaded, args, move |line| {
        if begun.elapsed() > QUICK {
            shown.set_message(line);
            shown.tick();
        }
    })?;
    bar.finish_and_clear();
    show(&places)?;
    match trace::verdict(args, before.map(|places| places + refused.len()), &findings)? {
        count if args.all_copies && !args.json => say(&count),
        _ => Ok(()),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    clap_complete::generate(shell, &mut Cli::command(), "sluicegate", &mut std::io::stdout());
    Ok(())
}

fn show_rows(rows: &[Value], json: bool, none: &str) -> Result<(), Failure> {
    match rows {
        _ if json => rows.iter().try_for_each(|row| say(&escaped::json(&row.to_string()))),
        [] => say(none),
        _ => say(table(rows).trim_end()),
    }
}

/// Rows of the same fields as columns for people.
fn table(rows: &[Value]) -> String {
    let fields: Vec<&String> = rows.iter().filter_map(Value::as_object).take(1).flat_map(|row| row.keys()).collect();
    let cell = |row: &Value, field: &str| match &row[field] {
        Value::String(text) => escaped::word(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut lines = vec![fields.iter().map(|field| field.to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| fields.iter().map(|field| cell(row, field)).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    let padded = |line: &Vec<String>| line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
    lines.iter().map(|line| padded(line).trim_end().to_owned() + "\n").collect()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_arguments_are_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_what_happens_when_nothing_is_named() {
        assert!(parse("sluicegate").expect("arguments").command.is_none());
        let cli = parse("sluicegate check --config x.toml").expect("arguments");
        assert_eq!(cli.config.as_deref(), Some(Path::new("x.toml")));
        assert!(matches!(cli.command, Some(Command::Check { print_sample: false })));
    }

    #[test]
    fn a_tokens_topics_are_grants_and_its_life_a_span() {
        let Some(Command::Token(args)) = parse("sluicegate token --sub me --topics a,b* --ttl 5m").expect("arguments").command else {
            panic!("another command");
        };
        assert_eq!((args.topics.len(), args.ttl), (2, Span::secs(300)));
        assert!(parse("sluicegate token --sub me --ttl forever").is_err());
        assert!(parse("sluicegate token").is_err());
    }

    #[test]
    fn a_user_is_added_by_a_sound_name_and_never_with_a_password_in_the_arguments() {
        assert!(parse("sluicegate user add ada@x.example --topics a,b* --tier gold --iterations 4096 --generate").is_ok());
        for line in ["add", "add a:b", "add ada secret", "add ada --password secret", "add ada --iterations 4095", "add ada --tier g/d"] {
            assert!(parse(&format!("sluicegate user {line}")).is_err(), "{line}");
        }
        assert!(parse("sluicegate user add ada --generate --password-file x").is_err());
    }

    #[test]
    fn arguments_that_are_not_understood_exit_with_64_and_help_with_0() {
        assert_eq!(run(["sluicegate", "--what"].map(OsString::from)), ExitCode::from(USAGE));
        assert_eq!(run(["sluicegate", "completions", "klingon"].map(OsString::from)), ExitCode::from(USAGE));
        assert_eq!(run(["sluicegate", "--version"].map(OsString::from)), ExitCode::SUCCESS);
    }

    #[test]
    fn a_purge_asks_first() {
        assert_eq!(run(["sluicegate", "inbox", "purge"].map(OsString::from)), ExitCode::from(USAGE));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_exits_with_2() {
        assert_eq!(run(["sluicegate", "check", "--config", "/nowhere/at/all.toml"].map(OsString::from)), ExitCode::from(MISTAKES));
    }

    #[test]
    fn rows_are_printed_in_columns() {
        let rows = [serde_json::json!({"topic": "events", "rows": 12}), serde_json::json!({"topic": "a", "rows": null})];
        assert_eq!(table(&rows), "TOPIC   ROWS\nevents  12\na       -\n");
        assert_eq!(table(&[serde_json::json!({"id": "a\u{1b}[2J"})]), "ID\na\\u{1b}[2J\n");
    }
}
