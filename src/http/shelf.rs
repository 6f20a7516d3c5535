//! Pictures that somebody asked for just now, in memory only: what the MQTT command `snapshot`
//! answers with an address of.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::{Clock, Monotonic};
use crate::vault::hex;

/// The oldest gives way to a fifth.
const PLACES: usize = 4;
/// A picture is gone after this long, whether it was fetched or not.
const KEPT: Duration = Duration::from_secs(60);
/// A larger picture is refused: it is no JPEG of one frame.
const MAX_BYTES: usize = 8 << 20;

/// Names one picture. Cannot be guessed: 128 random bits, good for a minute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SnapshotId([u8; 16]);

impl SnapshotId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let readable = text.len() == 32 && text.bytes().all(lower_hex);
        readable.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|id| Self(id.to_be_bytes()))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

// Whoever reads a log must not be able to fetch the picture.
impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotId(..)")
    }
}

struct Snapshot {
    id: SnapshotId,
    until: Monotonic,
    jpeg: Arc<[u8]>,
}

/// The few newest of them. Shared by the task that takes commands and the web server.
pub struct SnapshotShelf {
    clock: Arc<dyn Clock>,
    pictures: Mutex<VecDeque<Snapshot>>,
}

impl fmt::Debug for SnapshotShelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotShelf(..)")
    }
}

impl SnapshotShelf {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, pictures: Mutex::default() }
    }

    fn current(&self) -> MutexGuard<'_, VecDeque<Snapshot>> {
        let now = self.clock.monotonic();
        let mut pictures = self.pictures.lock().expect("no holder of this lock can panic");
        pictures.retain(|picture| picture.until > now);
        pictures
    }

    /// Keeps a JPEG for a minute. `None` when it is too large or the system gives no random numbers.
    pub fn put(&self, jpeg: Vec<u8>) -> Option<SnapshotId> {
        let mut id = [0; 16];
        if jpeg.len() > MAX_BYTES || getrandom::fill(&mut id).is_err() {
            return None;
        }
        let (id, until) = (SnapshotId(id), self.clock.monotonic() + KEPT);
        let mut pictures = self.current();
        while pictures.len() >= PLACES {
            pictures.pop_front();
        }
        pictures.push_back(Snapshot { id, until, jpeg: jpeg.into() });
        Some(id)
    }

    pub(crate) fn get(&self, id: SnapshotId) -> Option<Arc<[u8]>> {
        self.current().iter().find(|picture| picture.id == id).map(|picture| Arc::clone(&picture.jpeg))
    }

    /// Drops what is older than a minute. Called now and then, so that nothing stays because nobody asks.
    pub(crate) fn sweep(&self) {
        drop(self.current());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SimulatedClock, UnixMillis};

    fn shelf() -> (Arc<SimulatedClock>, SnapshotShelf) {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(0)));
        (clock.clone(), SnapshotShelf::new(clock))
    }

    #[test]
    fn picture_is_there_for_a_minute() {
        let (clock, shelf) = shelf();
        let id = shelf.put(vec![1, 2]).unwrap();
        assert_eq!(SnapshotId::parse(&id.to_string()), Some(id));
        clock.advance(Duration::from_millis(59_999));
        assert_eq!(shelf.get(id).as_deref(), Some(&[1, 2][..]));
        clock.advance(Duration::from_millis(1));
        assert_eq!(shelf.get(id), None);
    }

    #[test]
    fn fifth_picture_takes_the_place_of_the_oldest() {
        let (_, shelf) = shelf();
        let ids: Vec<SnapshotId> = (0..5).map(|picture| shelf.put(vec![picture]).unwrap()).collect();
        let there: Vec<bool> = ids.iter().map(|id| shelf.get(*id).is_some()).collect();
        assert_eq!(there, [false, true, true, true, true]);
    }

    #[test]
    fn sweeping_frees_what_nobody_fetches() {
        let (clock, shelf) = shelf();
        shelf.put(vec![1]).unwrap();
        clock.advance(KEPT);
        shelf.sweep();
        assert!(shelf.pictures.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_identifier_is_none() {
        for text in ["", "0", "+0000000000000000000000000000000", &"0".repeat(33), &"A".repeat(32)] {
            assert_eq!(SnapshotId::parse(text), None, "{text}");
        }
        assert_eq!(format!("{:?}", SnapshotId([1; 16])), "SnapshotId(..)");
        assert!(shelf().1.put(vec![0; MAX_BYTES + 1]).is_none());
    }
}
