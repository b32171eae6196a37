//! Whom the log has told of lately: one line a minute for each sender, however much of its is wrong.

use std::time::Duration;

use moka::sync::Cache;

const EVERY: Duration = Duration::from_secs(60);

/// Senders that are remembered; one that is forgotten is told of again.
const MOST: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Told(Cache<String, ()>);

impl Default for Told {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_live(EVERY).build())
    }
}

impl Told {
    /// Whether nothing was told of this sender in the last minute; from now on something is.
    pub fn is_new(&self, sender: &str) -> bool {
        self.0.entry_by_ref(sender).or_insert(()).is_fresh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_told_of_once_for_a_while() {
        let told = Told::default();
        assert_eq!([told.is_new("a"), told.is_new("b"), told.is_new("a")], [true, true, false]);
    }
}
