//! A child process whose words are kept.
//!
//! What always holds: it is dead when its value is dropped, and a failing test prints its last lines.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How many lines a failing test shows.
const SHOWN_LINES: usize = 120;

/// A running program, its stdout and stderr line by line.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
    /// Pipes that may still bring something: a program's last words come after its end.
    open: AtomicUsize,
}

impl Log {
    fn read(self: Arc<Self>, from: impl Read + Send + 'static) {
        self.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.lines.lock().expect("no reader panics").push(text);
                self.grown.notify_all();
                line.clear();
            }
            self.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl Process {
    /// Starts a program.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} could not be started: {error}"));
        let log = Arc::new(Log::default());
        log.clone().read(child.stdout.take().expect("stdout is piped"));
        log.clone().read(child.stderr.take().expect("stderr is piped"));
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().expect("no reader panics").clone()
    }

    /// Waits for a line that `pick` takes something from. Blocks: call it where that is right.
    pub fn wait_for_line<T>(&mut self, what: &str, deadline: Duration, pick: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + deadline;
        let mut seen = 0;
        loop {
            let gone = self.is_silent();
            let lines = self.log.lines.lock().expect("no reader panics");
            if let Some(found) = lines[seen..].iter().find_map(|line| pick(line)) {
                return found;
            }
            seen = lines.len();
            if gone || Instant::now() > end {
                let text = tail(&lines);
                drop(lines);
                panic!("{} {} before it said: {what}\n{text}", self.name, if gone { "ended" } else { "took too long" });
            }
            drop(self.log.grown.wait_timeout(lines, Duration::from_millis(100)));
        }
    }

    /// Waits for a line that `pick` takes something from, without holding a thread.
    pub async fn line<T>(&mut self, what: &str, deadline: Duration, pick: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + deadline;
        loop {
            let gone = self.is_silent();
            let lines = self.lines();
            if let Some(found) = lines.iter().find_map(|line| pick(line)) {
                return found;
            }
            assert!(!gone && Instant::now() < end, "{} did not say: {what}\n{}", self.name, tail(&lines));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it has ended, and all that it said was read.
    fn is_silent(&mut self) -> bool {
        self.exited().is_some() && self.log.open.load(Ordering::SeqCst) == 0
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours can be asked")
    }

    /// Waits for its end on this thread, for values that are being dropped.
    #[allow(clippy::disallowed_methods, reason = "the standard library waits for a child without a limit, or not at all")]
    pub fn join(&mut self, deadline: Duration) {
        let end = Instant::now() + deadline;
        while self.exited().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(Instant::now() < end, "{} did not end within {deadline:?}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal by name: `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        // The shell's own `kill`: a call of our own would need unsafe code or another crate.
        let kill = format!("kill -{signal} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(status.success(), "{} could not be sent {signal}", self.name);
    }

    /// Ends it as a power cut would, and waits until it is gone.
    pub fn kill_9(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}\n---", self.name, tail(&self.lines()));
        }
    }
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
