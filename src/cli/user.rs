//! `sluicegate user`: the users of the verifier file.
//!
//! What always holds: nothing here prints; the file is changed by one command at a time, as a whole or not at all.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failure, password};
use crate::auth::DEFAULT_TIER;
use crate::auth::grants::Grant;
use crate::auth::scram::{MAX_ITERATIONS, MIN_ITERATIONS, check_password};
use crate::auth::users::{
    BAD_NAME, DEFAULT_ITERATIONS, Lock, Register, User, check_iterations, check_tier, generated_password, is_user_name,
};
use crate::config::Loaded;
use crate::units::Secret;

const ADD_HELP: &str = "\
The password comes from standard input (asked for at a terminal, twice, and not shown), from --password-file, or is made by \
--generate and printed once. It is never an argument, and it stands in no file: only what it can be checked by does, for \
SCRAM-SHA-256 and for SCRAM-SHA-512 a salt, the iterations, a stored key and a server key (RFC 5802).

The file is `auth.users_file` of the configuration, or SLUICEGATE__AUTH__USERS_FILE. It is made if there is none. A running gate \
takes the change up within seconds. Its users come in by SCRAM or PLAIN at the Kafka door and by Basic at the HTTPS door.

One user can do without a file: SLUICEGATE_KAFKA_USER and SLUICEGATE_KAFKA_PASSWORD.

Examples:
  sluicegate user add alice --topics 'orders,telemetry-*'            asks for the password
  sluicegate user add alice --topics orders --generate               makes one and prints it
  sluicegate user add alice --topics orders --replace < secret.txt   a new password and new topics
  sluicegate check                                                   how a producer is configured

  kcat -P -b HOST:8443 -t orders -X security.protocol=SASL_SSL \\
    -X sasl.mechanisms=SCRAM-SHA-512 -X sasl.username=alice -X sasl.password=\"$PASSWORD\"
  curl -u alice https://HOST:8443/v1/events/orders \\
    -H 'Content-Type: application/json' -d '{\"data\":1}'";

/// The subcommands.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Let somebody in by a name and a password
    #[command(after_help = ADD_HELP)]
    Add(AddArgs),
    /// Show who is let in, and where to
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Let somebody in no longer. A running gate refuses them within seconds
    Remove {
        /// Whom
        name: String,
    },
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// 1 to 64 letters, digits, `.`, `_`, `-`, `@` and `+`
    #[arg(value_parser = name)]
    name: String,
    /// The topics that they may send to: names, or prefixes that end in `*`, separated by commas. Without it: none
    #[arg(long, value_name = "TOPICS", value_delimiter = ',')]
    topics: Vec<Grant>,
    /// The quota tier
    #[arg(long, default_value = DEFAULT_TIER, value_parser = check_tier)]
    tier: String,
    /// They may have the inbox replayed too (POST /v1/admin/replay)
    #[arg(long)]
    admin: bool,
    /// How often the password is hashed: 4096 to 1000000. More is slower to guess, and slower for every login
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ITERATIONS, value_parser = clap::value_parser!(u32).range(i64::from(MIN_ITERATIONS)..=i64::from(MAX_ITERATIONS)))]
    iterations: u32,
    /// A file that holds the password
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    password_file: Option<PathBuf>,
    /// Make a password, and print it once
    #[arg(long)]
    generate: bool,
    /// Take the place of the user of this name, if there is one
    #[arg(long)]
    replace: bool,
}

fn name(text: &str) -> Result<String, &'static str> {
    if is_user_name(text) { Ok(text.to_owned()) } else { Err(BAD_NAME) }
}

/// What `add` has to say: a password that was made, and what was done.
pub(super) struct Added {
    pub password: Option<Secret>,
    pub said: String,
}

pub(super) fn add(loaded: &Loaded, args: &AddArgs) -> Result<Added, Failure> {
    let file = file(loaded)?;
    if loaded.config.auth.kafka_user.as_ref() == Some(&args.name) {
        return Err(format!("`{}` is the user of SLUICEGATE_KAFKA_USER (auth.kafka_user); take another name", args.name).into());
    }
    // Not with the lock in hand: a person may take their time.
    let password = if args.generate { generated_password() } else { password::given(args.password_file.as_deref())? };
    check_password(password.expose())?;
    let user = User::new(&password, check_iterations(args.iterations)?, args.topics.clone(), args.tier.clone());
    let user = User { admin: args.admin, ..user };
    let _lock = Lock::take(file)?;
    let mut register = if file.exists() { Register::read(file)?.0 } else { Register::empty() };
    if register.users.contains_key(&args.name) && !args.replace {
        return Err(format!("there is a user `{}`; --replace gives them this password and these topics", args.name).into());
    }
    register.users.insert(args.name.clone(), user);
    register.write(file)?;
    let topics = if args.topics.is_empty() { "no topic yet: --topics says which, with --replace".to_owned() } else { words(&args.topics) };
    let said = format!("user `{}` is in {} and may send to {topics}", args.name, file.display());
    Ok(Added { password: args.generate.then_some(password), said })
}

/// One object for each user, by name; for a table the topics are one text.
pub(super) fn list(loaded: &Loaded, table: bool) -> Result<Vec<Value>, Failure> {
    let (register, _) = Register::read(file(loaded)?)?;
    let row = |(name, user): (&String, &User)| {
        let topics = if table { json!(words(&user.topics)) } else { json!(user.topics) };
        json!({ "name": name, "topics": topics, "tier": user.tier, "admin": user.admin, "iterations": user.verifiers[0].iterations })
    };
    Ok(register.users.iter().map(row).collect())
}

pub(super) fn remove(loaded: &Loaded, name: &str) -> Result<String, Failure> {
    let file = file(loaded)?;
    let _lock = Lock::take(file)?;
    let (mut register, _) = Register::read(file)?;
    if register.users.remove(name).is_none() {
        return Err(format!("there is no user `{name}` in {}; `sluicegate user list` shows them", file.display()).into());
    }
    register.write(file)?;
    Ok(format!("user `{name}` is removed from {}", file.display()))
}

fn file(loaded: &Loaded) -> Result<&Path, Failure> {
    let none = || Failure::Refused("no file for users is configured: set auth.users_file, or SLUICEGATE__AUTH__USERS_FILE".to_owned());
    loaded.config.auth.users_file.as_deref().ok_or_else(none)
}

fn words(topics: &[Grant]) -> String {
    topics.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
