//! Producer ids of our own: a mark, 38 random bits, and 24 bits that only we can make for this principal.
//!
//! Brokers take any id, and InitProducerId without a transactional id checks nothing; so ids need no broker and are there
//! in an outage. An id that does not verify is somebody else's: the batch goes on without its numbers, so that it cannot
//! meet theirs.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::{hmac, rand};

use crate::auth::Principal;

/// What all of them have, so that they meet no id that a broker gives out.
const MARK: u64 = 1 << 62;
const RANDOM_BITS: u32 = 38;
const MAC_BITS: u32 = 24;

/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// Makes ids and knows its own again.
pub struct ProducerIds {
    key: hmac::Key,
}

impl std::fmt::Debug for ProducerIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProducerIds")
    }
}

impl ProducerIds {
    /// Ids by a key that is configured: the same for all gates behind one address.
    pub fn by_key(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// Ids by a key that ends with the process.
    pub fn by_chance() -> Self {
        let mut key = [0; KEY_LENGTH];
        rand::fill(&mut key).expect("the system has random numbers");
        Self::by_key(&key)
    }

    /// Ids by the key that is kept in this file; it is made when there is none.
    pub fn kept(file: &Path) -> std::io::Result<Self> {
        match std::fs::read(file) {
            Ok(key) if key.len() == KEY_LENGTH => return Ok(Self::by_key(&key)),
            Ok(_) => return Err(std::io::Error::other(format!("it does not hold {KEY_LENGTH} bytes; delete it for a new one"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut key = [0; KEY_LENGTH];
        rand::fill(&mut key).map_err(|_| std::io::Error::other("the system has no random numbers"))?;
        // Whole or not at all: a torn key would be an error at every start.
        let next = file.with_extension("key.new");
        let mut options = std::fs::OpenOptions::new();
        let mut made = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        made.write_all(&key)?;
        made.sync_all()?;
        std::fs::rename(&next, file)?;
        Ok(Self::by_key(&key))
    }

    /// A new id of this principal.
    pub fn new_id(&self, principal: &Principal) -> i64 {
        let mut bytes = [0; 8];
        rand::fill(&mut bytes).expect("the system has random numbers");
        let random = u64::from_be_bytes(bytes) & ((1 << RANDOM_BITS) - 1);
        (MARK | random << MAC_BITS | self.mac(principal, random)).cast_signed()
    }

    /// Whether an id is one of this principal's.
    pub fn owns(&self, principal: &Principal, id: i64) -> bool {
        let id = id.cast_unsigned();
        let random = id >> MAC_BITS & ((1 << RANDOM_BITS) - 1);
        id == (MARK | random << MAC_BITS | self.mac(principal, random))
    }

    fn mac(&self, principal: &Principal, random: u64) -> u64 {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&random.to_be_bytes());
        context.update(principal.name().as_bytes());
        let tag = context.sign();
        tag.as_ref().iter().take(3).fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::grants::Grants;

    #[test]
    fn an_id_is_positive_and_its_own_principals_alone() {
        let (ids, other_gate) = (ProducerIds::by_key(b"one"), ProducerIds::by_key(b"two"));
        let (ada, bob) = (Principal::for_tests("t", "ada", Grants::default()), Principal::for_tests("t", "bob", Grants::default()));
        let id = ids.new_id(&ada);
        assert!(id > 0 && id.cast_unsigned() & MARK != 0);
        assert!(ids.owns(&ada, id));
        assert!(!ids.owns(&bob, id) && !other_gate.owns(&ada, id) && !ids.owns(&ada, id ^ 1 << 30) && !ids.owns(&ada, 4711));
        assert_ne!(ids.new_id(&ada), id);
    }

    #[test]
    fn the_key_is_kept_for_the_next_start_and_damage_is_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("producer.key");
        let ada = Principal::for_tests("t", "ada", Grants::default());
        let id = ProducerIds::kept(&file).expect("made").new_id(&ada);
        assert!(ProducerIds::kept(&file).expect("read").owns(&ada, id));
        std::fs::write(&file, b"short").expect("torn");
        assert!(ProducerIds::kept(&file).is_err());
    }
}
