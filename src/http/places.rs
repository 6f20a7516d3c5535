//! How much one, or all together, may take: places for what stays open, and requests of an address over time.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Monotonic;

/// Addresses whose requests are counted; of more, the one that asked longest ago is forgotten.
const REMEMBERED: usize = 1024;

/// What is open, in all and by whoever holds it: connections by address, WebSockets by user.
#[derive(Debug)]
pub(crate) struct Places<K> {
    taken: Mutex<(usize, HashMap<K, usize>)>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Copy + Eq + Hash> {
    places: Arc<Places<K>>,
    holder: K,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All together have as many as there are.
    All,
    /// This one has as many as one may.
    Each,
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self { taken: Mutex::new((0, HashMap::new())) }
    }
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// A place for somebody, unless they or all together have too many.
    pub(crate) fn take(self: &Arc<Self>, holder: K, most: usize, most_each: usize) -> Result<Place<K>, Full> {
        let mut taken = self.locked();
        let theirs = taken.1.get(&holder).copied().unwrap_or(0);
        if taken.0 >= most {
            return Err(Full::All);
        }
        if theirs >= most_each {
            return Err(Full::Each);
        }
        taken.0 += 1;
        taken.1.insert(holder, theirs + 1);
        Ok(Place { places: Arc::clone(self), holder })
    }

    /// How many hold at least one.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        self.locked().1.len()
    }

    fn locked(&self) -> MutexGuard<'_, (usize, HashMap<K, usize>)> {
        self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.locked();
        taken.0 = taken.0.saturating_sub(1);
        if let Some(theirs) = taken.1.get_mut(&self.holder) {
            *theirs -= 1;
            if *theirs == 0 {
                taken.1.remove(&self.holder);
            }
        }
    }
}

/// What an address may ask over time: so many requests at once, then so many a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) burst: u32,
    pub(super) per_s: u32,
}

/// Requests of each address, as buckets that fill up with time.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Requests left, in thousandths, and when that was.
    left: Mutex<HashMap<IpAddr, (u64, Monotonic)>>,
}

impl Budget {
    /// Whether an address may ask once more now.
    pub(super) fn take(&self, address: IpAddr, allowance: Allowance, now: Monotonic) -> bool {
        let mut all = self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let full = 1_000 * u64::from(allowance.burst);
        if !all.contains_key(&address) && all.len() >= REMEMBERED {
            let oldest = all.iter().min_by_key(|(_, (_, at))| *at).map(|(address, _)| *address);
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let (left, at) = all.entry(address).or_insert((full, now));
        let ms = u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX);
        // Thousandths of a request in each millisecond.
        *left = left.saturating_add(ms.saturating_mul(allowance.per_s.into())).min(full);
        *at = now;
        match left.checked_sub(1_000) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn places_are_bounded_in_all_and_for_each_and_come_back() {
        let places = Arc::new(Places::default());
        let held: Vec<_> = (0..2).map(|_| places.take(address(1), 3, 2).unwrap()).collect();
        assert_eq!(places.take(address(1), 3, 2).err(), Some(Full::Each));
        let other = places.take(address(2), 3, 2).unwrap();
        assert_eq!(places.take(address(3), 3, 2).err(), Some(Full::All));
        drop(other);
        assert!(places.take(address(3), 3, 2).is_ok());
        drop(held);
        assert!(places.take(address(1), 3, 2).is_ok());
        assert_eq!(places.holders(), 0);
    }

    #[test]
    fn address_may_ask_in_bursts_and_then_at_its_rate() {
        let budget = Budget::default();
        let allowance = Allowance { burst: 3, per_s: 2 };
        let at = |ms| Monotonic::from_duration(Duration::from_millis(ms));
        let taken = |ms| budget.take(address(1), allowance, at(ms));
        assert_eq!([taken(0), taken(0), taken(0), taken(0)], [true, true, true, false]);
        assert_eq!([taken(499), taken(500), taken(501)], [false, true, false]);
        assert_eq!([taken(60_000), taken(60_000), taken(60_000), taken(60_000)], [true, true, true, false]);
        assert!(budget.take(address(2), allowance, at(60_000)), "others are not held back");
    }

    #[test]
    fn memory_is_bounded() {
        let budget = Budget::default();
        for n in 0..5_000_u32 {
            let now = Monotonic::from_duration(Duration::from_millis(n.into()));
            budget.take(IpAddr::from(n.to_be_bytes()), Allowance { burst: 1, per_s: 1 }, now);
        }
        assert_eq!(budget.left.lock().unwrap().len(), REMEMBERED);
    }
}
