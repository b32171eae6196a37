//! The way out of a log line: a bounded queue and one thread that writes.
//!
//! A reader who stops reading (a full pipe, a stuck collector) must not stop the gate: lines beyond [`MAX_QUEUED`] are
//! dropped and counted. A closed output is written to in vain, and nobody panics.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::telemetry::metrics;

/// Bytes of lines that wait for the writer.
const MAX_QUEUED: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Output {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    writing: bool,
}

impl Output {
    /// Starts the thread, which lives as long as the process.
    pub(super) fn start(to: Box<dyn Write + Send>) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let writer = Arc::clone(&output);
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(move || writer.write_all(to));
        if let Err(fault) = thread {
            // Without it nothing would ever be said again, not even why.
            panic!("the thread for the logs cannot be started: {fault}");
        }
        output
    }

    /// Queues a line. Never waits for the writer.
    pub(super) fn push(&self, line: String) {
        let mut queue = self.lock();
        if queue.bytes + line.len() > MAX_QUEUED {
            metrics().log_lines_dropped.inc();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits until the queue is empty and written, at most so long.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let unwritten = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        let waited = self.changed.wait_timeout_while(self.lock(), limit, unwritten);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn write_all(&self, mut to: Box<dyn Write + Send>) {
        loop {
            let lines = self.take();
            // Whoever closed the output does not want to know.
            let _ = to.write_all(lines.as_bytes()).and_then(|()| to.flush());
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    fn take(&self) -> String {
        let empty = |queue: &mut Queue| queue.lines.is_empty();
        let mut queue = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        queue.writing = true;
        queue.bytes = 0;
        queue.lines.drain(..).collect()
    }

    /// A panic elsewhere while the queue was locked leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io;
    use std::sync::mpsc;

    /// A writer that a test can read back.
    #[derive(Clone, Default)]
    pub(in crate::telemetry::logs) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Shared {
        pub(in crate::telemetry::logs) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("UTF-8")
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe that nobody reads until the test says so.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_not_the_gate() {
        let (go_on, wait) = mpsc::sync_channel(1);
        let output = Output::start(Box::new(Stuck(wait)));
        let dropped = metrics().log_lines_dropped.get();
        for _ in 0..12 {
            output.push("x".repeat(1 << 20));
        }
        assert!(metrics().log_lines_dropped.get() > dropped);
        assert!(!output.flush(Duration::from_millis(10)));
        drop(go_on);
        assert!(output.flush(Duration::from_secs(10)));
    }

    #[test]
    fn a_closed_output_is_survived_and_flushed() {
        let output = Output::start(Box::new(Closed));
        output.push("lost\n".to_owned());
        assert!(output.flush(Duration::from_secs(10)));
        output.push("lost too\n".to_owned());
        assert!(output.flush(Duration::from_secs(10)));
    }
}
