//! Faults of the operating system, injected into a running process by strace.
//!
//! What always holds: the process runs on untouched when the value is dropped.

use std::path::Path;
use std::process::Command;

use super::DEADLINE;
use super::process::Process;

/// System calls that fail, until dropped.
pub struct Fault(Process);

impl Fault {
    /// Whether this machine can inject faults; a test that cannot says so by `not_run`.
    pub fn possible() -> bool {
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success())
    }

    /// From now on `calls` (as in `fsync,fdatasync`) of process `id` fail as `how` says (as in `error=EIO`,
    /// `error=ENOSPC:when=3+`, `delay_exit=200000`), only those on `path` where one is given.
    pub fn inject(id: u32, calls: &str, how: &str, path: Option<&Path>) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &id.to_string(), "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{how}")]);
        if let Some(path) = path {
            strace.arg("-P").arg(path);
        }
        let mut process = Process::spawn("strace", &mut strace);
        process.wait_for_line("attached", DEADLINE, |line| line.contains("attached").then_some(()));
        Self(process)
    }

    /// How many calls have failed (or were delayed) so far, as far as strace has written it down.
    pub fn count(&self) -> usize {
        self.0.lines().iter().filter(|line| is_hit(line)).count()
    }

    /// Waits until strace has written down a call that has failed (or was delayed): the process sees it before that.
    pub fn wait_for_one(&mut self) {
        self.0.wait_for_line("a call was hit", DEADLINE, |line| is_hit(line).then_some(()));
    }
}

/// Whether this line of strace says that a call was tampered with.
fn is_hit(line: &str) -> bool {
    line.contains("(INJECTED)") || line.contains("(DELAYED)")
}

impl Drop for Fault {
    fn drop(&mut self) {
        // In order, so that strace lets go of the process instead of leaving it stopped.
        if self.0.exited().is_none() {
            self.0.signal("INT");
            self.0.join(DEADLINE);
        }
    }
}
