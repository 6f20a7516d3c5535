//! How fast somebody may try passwords and codes: by name and by address, in memory only.
//!
//! Three failures are free, then each doubles the wait, from one second to a minute. A try is charged
//! before its outcome is known and given back when it succeeds, so that many at once gain nothing. An
//! address from which a name has signed in is slowed down by its own failures only: whoever tries
//! passwords from elsewhere cannot lock the name's owner out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use super::secret::SecretHash;
use crate::clock::Monotonic;
use crate::http::network;

const FREE: u32 = 3;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Failures are forgotten after this long without another one.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Names and addresses remembered; of more, the one that failed longest ago is forgotten.
const REMEMBERED: usize = 1024;

/// Who has failed how often.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    names: Table<SecretHash>,
    addresses: Table<IpAddr>,
    /// Names with addresses they have signed in from.
    known: Table<(SecretHash, IpAddr)>,
}

impl Slowdown {
    /// Charges a try with a name from an address; otherwise how long to wait.
    pub(super) fn try_name(
        &mut self,
        name: SecretHash,
        address: IpAddr,
        now: Monotonic,
    ) -> Result<(), Duration> {
        let network = network(address);
        let by_name = !self.known.has((name, network));
        let wait = self.addresses.wait(network, now);
        let wait = if by_name { wait.max(self.names.wait(name, now)) } else { wait };
        if !wait.is_zero() {
            return Err(wait);
        }
        self.addresses.charge(network, now);
        if by_name {
            self.names.charge(name, now);
        }
        Ok(())
    }

    /// Charges a try without a name.
    pub(super) fn try_address(&mut self, address: IpAddr, now: Monotonic) -> Result<(), Duration> {
        let network = network(address);
        let wait = self.addresses.wait(network, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.addresses.charge(network, now);
        Ok(())
    }

    /// The try was right.
    pub(super) fn succeeded(&mut self, name: Option<SecretHash>, address: IpAddr, now: Monotonic) {
        let network = network(address);
        self.addresses.entries.remove(&network);
        if let Some(name) = name {
            self.names.entries.remove(&name);
            self.known.charge((name, network), now);
        }
    }
}

#[derive(Debug)]
struct Table<K> {
    entries: HashMap<K, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Monotonic,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    fn has(&self, key: K) -> bool {
        self.entries.contains_key(&key)
    }

    fn wait(&self, key: K, now: Monotonic) -> Duration {
        let Some(failures) = self.entries.get(&key).filter(|f| now.since(f.last) < FORGOTTEN) else {
            return Duration::ZERO;
        };
        let Some(doublings) = failures.count.checked_sub(FREE + 1) else { return Duration::ZERO };
        let wait = FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST);
        wait.saturating_sub(now.since(failures.last))
    }

    fn charge(&mut self, key: K, now: Monotonic) {
        if !self.entries.contains_key(&key) && self.entries.len() >= REMEMBERED {
            let oldest = self.entries.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.entries.remove(&oldest));
        }
        let failures = self.entries.entry(key).or_insert(Failures { count: 0, last: now });
        if now.since(failures.last) >= FORGOTTEN {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count.saturating_add(1), last: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: SecretHash = [1; 32];
    const OTHER: SecretHash = [2; 32];

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn three_failures_are_free_and_then_the_wait_doubles_up_to_a_minute() {
        let mut slowdown = Slowdown::default();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..12 {
            slowdown.try_name(NAME, address(1), at(now)).unwrap();
            let wait = slowdown.names.wait(NAME, at(now));
            waits.push(wait.as_secs());
            now += wait.as_millis() as u64;
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn name_is_slow_from_every_address_and_an_address_for_every_name() {
        let mut slowdown = Slowdown::default();
        for last in 0..4 {
            slowdown.try_name(NAME, address(last), at(0)).unwrap();
        }
        assert!(slowdown.try_name(NAME, address(9), at(0)).is_err());
        assert!(slowdown.try_name(OTHER, address(9), at(0)).is_ok());
        for name in 10..13 {
            slowdown.try_name([name; 32], address(9), at(0)).unwrap();
        }
        assert!(slowdown.try_name([99; 32], address(9), at(0)).is_err());
        assert!(slowdown.try_address(address(9), at(0)).is_err());
    }

    #[test]
    fn owner_of_a_name_is_not_locked_out_by_whoever_tries_from_elsewhere() {
        let mut slowdown = Slowdown::default();
        slowdown.try_name(NAME, address(1), at(0)).unwrap();
        slowdown.succeeded(Some(NAME), address(1), at(0));
        for last in 2..6 {
            slowdown.try_name(NAME, address(last), at(1)).unwrap();
        }
        assert!(slowdown.try_name(NAME, address(7), at(2)).is_err());
        assert!(slowdown.try_name(NAME, address(1), at(2)).is_ok());
    }

    #[test]
    fn success_and_time_make_up_for_failures() {
        let mut slowdown = Slowdown::default();
        for _ in 0..4 {
            slowdown.try_name(NAME, address(1), at(0)).unwrap();
        }
        slowdown.succeeded(Some(NAME), address(1), at(0));
        assert!(slowdown.try_name(NAME, address(1), at(0)).is_ok());
        for _ in 0..3 {
            slowdown.try_address(address(2), at(0)).unwrap();
        }
        slowdown.try_address(address(2), at(0)).unwrap();
        assert!(slowdown.try_address(address(2), at(999)).is_err());
        assert!(slowdown.try_address(address(2), at(900_000)).is_ok());
        assert!(slowdown.try_address(address(2), at(900_000)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_one_network_is_one_asker() {
        let mut slowdown = Slowdown::default();
        for n in 0..5_000_u32 {
            let _ = slowdown.try_address(IpAddr::from(n.to_be_bytes()), at(n.into()));
        }
        assert_eq!(slowdown.addresses.entries.len(), REMEMBERED);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(v6("2001:db8::1")), network(v6("2001:db8::ffff:1")));
        assert_ne!(network(v6("2001:db8:0:1::1")), network(v6("2001:db8:0:2::1")));
        assert_eq!(network(v6("::ffff:192.0.2.1")), address(1));
    }
}
