//! Connection slots: how many sockets are open, in all and from one address.
//!
//! A slot is taken before the first byte is read and given back when its guard is dropped. Its address is counted when it is
//! known whose it is: a trusted proxy says so in the connection's first bytes. An IPv6 sender owns a whole /64, so that is
//! what counts as one address there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All slots, of all listeners.
#[derive(Debug)]
pub struct Slots {
    total: usize,
    each: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection got no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The listener holds as many connections as it may.
    Total,
    /// This address holds as many as one address may.
    Address,
}

impl Slots {
    /// `total` slots in all, `each` for one address.
    pub fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { total, each, open: Mutex::default() })
    }

    /// Takes a slot for a connection, of nobody yet.
    pub fn take(self: &Arc<Self>) -> Result<Slot, Full> {
        let mut open = self.lock();
        if open.total >= self.total {
            return Err(Full::Total);
        }
        open.total += 1;
        Ok(Slot { slots: Arc::clone(self), address: None })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.lock().total
    }

    /// Connections that may be open at once.
    pub fn limit(&self) -> usize {
        self.total
    }

    // A panic while the lock is held cannot leave the two counts apart by more than one slot; refusing all connections
    // for ever would be worse.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's slot; given back on drop.
#[derive(Debug)]
#[must_use = "a slot that is dropped is free again"]
pub struct Slot {
    slots: Arc<Slots>,
    address: Option<IpAddr>,
}

impl Slot {
    /// Counts the connection as this address's, once.
    pub fn claim(&mut self, address: IpAddr) -> Result<(), Full> {
        let address = network(address);
        let mut open = self.slots.lock();
        let held = open.by_address.get(&address).copied().unwrap_or_default();
        if held >= self.slots.each {
            return Err(Full::Address);
        }
        if self.address.is_none() {
            open.by_address.insert(address, held + 1);
            self.address = Some(address);
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(address) = self.address
            && let Entry::Occupied(mut held) = open.by_address.entry(address)
        {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let s = address.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn taken(slots: &Arc<Slots>, address: &str) -> Result<Slot, Full> {
        let mut slot = slots.take()?;
        slot.claim(ip(address)).map(|()| slot)
    }

    #[test]
    fn slots_are_bounded_in_all_and_per_address_and_come_back() {
        let slots = Slots::new(3, 2);
        let one = taken(&slots, "10.0.0.1").expect("free");
        let two = taken(&slots, "::ffff:10.0.0.1").expect("free");
        assert_eq!(taken(&slots, "10.0.0.1").expect_err("the address is full"), Full::Address);
        assert_eq!(slots.open(), 2, "who is refused gives the slot back");
        let three = taken(&slots, "10.0.0.2").expect("free");
        assert_eq!(taken(&slots, "10.0.0.3").expect_err("all is full"), Full::Total);
        drop((one, two, three));
        assert_eq!(slots.open(), 0);
        assert!(slots.lock().by_address.is_empty(), "an address that left is forgotten");
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let slots = Slots::new(10, 1);
        let _one = taken(&slots, "2001:db8:1:2::1").expect("free");
        assert!(taken(&slots, "2001:db8:1:2:ffff::9").is_err());
        assert!(taken(&slots, "2001:db8:1:3::1").is_ok());
    }

    #[test]
    fn a_connection_that_nobody_claims_counts_in_the_total_only() {
        let slots = Slots::new(2, 1);
        let _both = (slots.take().expect("free"), slots.take().expect("free"));
        assert!(slots.lock().by_address.is_empty());
        assert_eq!(slots.take().expect_err("full"), Full::Total);
    }
}
