//! What the gate says about itself: log lines and metrics.
//!
//! No payload, no credential and no name of a principal in either. [`init`] is called once, first of all.

pub mod logs;
pub mod metrics;

use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

pub use metrics::metrics;

/// What the gate logs, and how.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The form of log lines on standard output: `pretty` for people, `json` with one object a line for Cloud Logging and
    /// its like, or `auto`: `json` where STRUCTURED_LOGS or K_SERVICE (Cloud Run) is set in the environment. Default: auto.
    pub format: Format,
    /// The least severe level that is logged: error, warn, info, debug or trace; or directives by module, such as
    /// `info,sluicegate::sink=debug`. Default: info.
    pub level: String,
    /// The Google Cloud project that traces belong to, so that Cloud Logging links a line to its trace. Default: empty, the
    /// bare trace id.
    pub project: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".to_owned(), project: String::new() }
    }
}

impl Config {
    /// Every mistake in these settings: the key below `[telemetry]`, and what is expected.
    pub fn mistakes(&self) -> Vec<(String, String)> {
        match EnvFilter::try_new(&self.level) {
            Ok(_) => Vec::new(),
            Err(fault) => vec![(
                "level".to_owned(),
                format!("{fault}: expected error, warn, info, debug or trace, or directives such as `info,sluicegate::sink=debug`"),
            )],
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the environment.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

impl Format {
    /// Settles `auto`.
    fn settled(self) -> Self {
        let set = |name| std::env::var(name).is_ok_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no"));
        match self {
            Self::Auto if set("STRUCTURED_LOGS") || set("K_SERVICE") => Self::Json,
            Self::Auto => Self::Pretty,
            other => other,
        }
    }
}

/// Starts logging and counts panics. A second call in the same process keeps the first one's logs. The last thing the
/// process does is to drop what this returns (or to call [`logs::Logs::flush`]), so that no final line is lost.
pub fn init(config: &Config) -> Result<logs::Logs, String> {
    let logs = logs::init(config)?;
    count_panics();
    LOG_PANICS.store(true, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    metrics().start_time_seconds.set(now.as_secs_f64());
    Ok(logs)
}

static LOG_PANICS: AtomicBool = AtomicBool::new(false);

/// Counts every panic, of any task. Without [`init`] (in tests) it is printed as ever; with it, it is one log line that says
/// where it was and, only if that is a literal of the program, what it said: a formatted message could hold a sender's bytes.
pub fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            metrics().panics.inc();
            if LOG_PANICS.load(Ordering::Relaxed) { log_panic(panic) } else { previous(panic) }
        }));
    });
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(a formatted message, withheld)");
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    tracing::error!(place, said, thread, "a task panicked; this is a bug");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_cannot_be_read_is_a_mistake_that_says_what_is_expected() {
        assert!(Config::default().mistakes().is_empty());
        let mistakes = Config { level: "info,sluicegate=loud".to_owned(), ..Config::default() }.mistakes();
        assert_eq!(mistakes[0].0, "level");
        assert!(mistakes[0].1.contains("expected error, warn, info"), "{mistakes:?}");
    }

    #[test]
    fn a_panic_is_counted() {
        count_panics();
        let before = metrics().panics.get();
        let _ = std::thread::spawn(|| panic!("on purpose")).join();
        assert!(metrics().panics.get() > before);
    }
}
