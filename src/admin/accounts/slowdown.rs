//! How fast somebody may try passwords and codes: by name and by address, in memory only.
//!
//! Three failures are free, then each doubles the wait, from one second to a minute. A try is charged
//! before its outcome is known, so that many at once gain nothing, and its own charge is given back when
//! it succeeds: not those of others from the same address, or whoever has an account could try the
//! passwords of everybody else in between. An address from which a name has signed in is slowed down by
//! its own failures with that name only: whoever tries passwords from elsewhere, or beside them, cannot
//! lock the name's owner out.

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
/// Of these, addresses that one name is known from: whoever has many must not crowd out others.
const KNOWN_EACH: usize = 16;

/// Whose password is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// That of whoever signs in with a name: its hash.
    Name(SecretHash),
    /// The present one of a user who is signed in.
    User(i64),
}

/// A try that has been charged.
#[derive(Clone, Copy, Debug)]
#[must_use = "a try that succeeds is given back"]
pub(super) struct Try {
    claim: Option<Claim>,
    address: IpAddr,
    network: Charge,
}

/// Who has failed how often.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    claims: Table<Claim>,
    networks: Table<IpAddr>,
    /// Names with addresses they have signed in from, and what has failed there since.
    known: Table<(Claim, IpAddr)>,
}

impl Slowdown {
    /// Charges a try from an address; otherwise how long to wait.
    pub(super) fn begin(
        &mut self,
        claim: Option<Claim>,
        address: IpAddr,
        now: Monotonic,
    ) -> Result<Try, Duration> {
        let address = address.to_canonical();
        let network = network(address);
        let known = claim.map(|claim| (claim, address)).filter(|pair| self.known.has(*pair));
        let wait = match (known, claim) {
            (Some(pair), _) => self.known.wait(pair, now),
            (None, Some(claim)) => self.networks.wait(network, now).max(self.claims.wait(claim, now)),
            (None, None) => self.networks.wait(network, now),
        };
        if !wait.is_zero() {
            return Err(wait);
        }
        match (known, claim) {
            (Some(pair), _) => drop(self.known.charge(pair, now)),
            (None, Some(claim)) => drop(self.claims.charge(claim, now)),
            (None, None) => {}
        }
        Ok(Try { claim, address, network: self.networks.charge(network, now) })
    }

    /// The try was right.
    pub(super) fn succeeded(&mut self, tried: Try, now: Monotonic) {
        let Try { claim, address, network: charge } = tried;
        self.networks.give_back(network(address), charge);
        let Some(claim) = claim else { return };
        self.claims.entries.remove(&claim);
        let theirs = self.known.entries.iter().filter(|((whose, at), _)| *whose == claim && *at != address);
        if theirs.clone().count() >= KNOWN_EACH {
            let oldest = theirs.min_by_key(|(_, failures)| failures.last).map(|(pair, _)| *pair);
            oldest.and_then(|oldest| self.known.entries.remove(&oldest));
        }
        self.known.entries.remove(&(claim, address));
        self.known.entry((claim, address), now);
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

/// One failure that was written down: when, and when the one before was.
#[derive(Clone, Copy, Debug)]
struct Charge {
    at: Monotonic,
    before: Monotonic,
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

    /// What is remembered of a key, which is nothing so far for a new one.
    fn entry(&mut self, key: K, now: Monotonic) -> &mut Failures {
        if !self.entries.contains_key(&key) && self.entries.len() >= REMEMBERED {
            let oldest = self.entries.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.entries.remove(&oldest));
        }
        self.entries.entry(key).or_insert(Failures { count: 0, last: now })
    }

    fn charge(&mut self, key: K, now: Monotonic) -> Charge {
        let failures = self.entry(key, now);
        let charge = Charge { at: now, before: failures.last };
        if now.since(failures.last) >= FORGOTTEN {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count.saturating_add(1), last: now };
        charge
    }

    fn give_back(&mut self, key: K, charge: Charge) {
        let Some(failures) = self.entries.get_mut(&key) else { return };
        failures.count = failures.count.saturating_sub(1);
        // Those who failed wait no longer for it.
        if failures.last == charge.at {
            failures.last = charge.before;
        }
        if failures.count == 0 {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Option<Claim> = Some(Claim::Name([1; 32]));
    const OTHER: Option<Claim> = Some(Claim::Name([2; 32]));

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    impl Slowdown {
        fn fails(&mut self, claim: Option<Claim>, address: IpAddr, ms: u64) -> bool {
            self.begin(claim, address, at(ms)).is_ok()
        }

        fn succeeds(&mut self, claim: Option<Claim>, address: IpAddr, ms: u64) -> bool {
            let tried = self.begin(claim, address, at(ms));
            tried.map(|tried| self.succeeded(tried, at(ms))).is_ok()
        }
    }

    #[test]
    fn three_failures_are_free_and_then_the_wait_doubles_up_to_a_minute() {
        let mut slowdown = Slowdown::default();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..12 {
            assert!(slowdown.fails(NAME, address(1), now));
            let wait = slowdown.claims.wait(NAME.unwrap(), at(now));
            waits.push(wait.as_secs());
            now += wait.as_millis() as u64;
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn name_is_slow_from_every_address_and_an_address_for_every_name() {
        let mut slowdown = Slowdown::default();
        for last in 0..4 {
            assert!(slowdown.fails(NAME, address(last), 0));
        }
        assert!(!slowdown.fails(NAME, address(9), 0));
        assert!(slowdown.fails(OTHER, address(9), 0));
        for name in 10..13 {
            assert!(slowdown.fails(Some(Claim::Name([name; 32])), address(9), 0));
        }
        assert!(!slowdown.fails(Some(Claim::Name([99; 32])), address(9), 0));
        assert!(!slowdown.fails(None, address(9), 0));
    }

    #[test]
    fn owner_of_a_name_is_not_locked_out_by_whoever_tries_from_elsewhere_or_beside_them() {
        let mut slowdown = Slowdown::default();
        assert!(slowdown.succeeds(NAME, address(1), 0));
        for last in 2..6 {
            assert!(slowdown.fails(NAME, address(last), 1));
        }
        assert!(!slowdown.fails(NAME, address(7), 2));
        for name in 10..14 {
            assert!(slowdown.fails(Some(Claim::Name([name; 32])), address(1), 2));
        }
        assert!(!slowdown.fails(OTHER, address(1), 2));
        assert!(slowdown.succeeds(NAME, address(1), 2));
    }

    #[test]
    fn signing_in_as_oneself_buys_no_tries_with_the_name_of_somebody_else() {
        let mut slowdown = Slowdown::default();
        // Both have signed in from here before.
        assert!(slowdown.succeeds(NAME, address(1), 0) && slowdown.succeeds(OTHER, address(1), 0));
        let mut tried = 0;
        for ms in 0..500 {
            tried += u32::from(slowdown.fails(NAME, address(1), ms));
            assert!(slowdown.succeeds(OTHER, address(1), ms));
        }
        assert_eq!(tried, FREE + 1);
        // And with the names of those who have not.
        let mut tried = 0;
        for n in 10..200 {
            tried += u32::from(slowdown.fails(Some(Claim::Name([n; 32])), address(1), 500));
            assert!(slowdown.succeeds(OTHER, address(1), 500));
        }
        assert_eq!(tried, 0, "the address has failed four times already");
    }

    #[test]
    fn success_and_time_make_up_for_failures() {
        let mut slowdown = Slowdown::default();
        for _ in 0..3 {
            assert!(slowdown.fails(NAME, address(1), 0));
        }
        assert!(slowdown.succeeds(NAME, address(1), 0));
        assert!(slowdown.fails(NAME, address(1), 0));
        for _ in 0..4 {
            assert!(slowdown.fails(None, address(2), 0));
        }
        assert!(!slowdown.fails(None, address(2), 999));
        assert!(slowdown.fails(None, address(2), 900_000));
        assert!(slowdown.fails(None, address(2), 900_000));
    }

    #[test]
    fn memory_is_bounded_and_one_network_is_one_asker() {
        let mut slowdown = Slowdown::default();
        for n in 0..5_000_u32 {
            slowdown.fails(None, IpAddr::from(n.to_be_bytes()), n.into());
        }
        assert_eq!(slowdown.networks.entries.len(), REMEMBERED);
        assert!(slowdown.succeeds(OTHER, address(1), 1_000_000));
        for last in 2..200 {
            assert!(slowdown.succeeds(NAME, address(last), 1_000_000 + u64::from(last)));
        }
        assert_eq!(slowdown.known.entries.len(), KNOWN_EACH + 1);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(v6("2001:db8::1")), network(v6("2001:db8::ffff:1")));
        assert_ne!(network(v6("2001:db8:0:1::1")), network(v6("2001:db8:0:2::1")));
        // Neighbours on one cable, who have nothing in common but that.
        assert_ne!(network(v6("fe80::1")), network(v6("fe80::2")));
        assert_eq!(network(v6("::ffff:192.0.2.1")), address(1));
    }
}
