//! The tray: pictures that were given for enrolment or comparison, until something is decided about them.
//!
//! In memory only and for a quarter of an hour. Nobody but whoever gave a picture gets at it. What was
//! sent is not kept: a preview, a square around each face, and what was measured of it are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::access::Who;
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::examiner::ExaminedFace;
use crate::frame::FrameSize;
use crate::gallery::{SampleOrigin, SamplePicture};

/// How long a picture is kept.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Of one user or token; the oldest makes room.
const OWN_PICTURES: usize = 200;
const OWN_BYTES: usize = 24 << 20;
/// Of everybody together; the oldest makes room. Part of the sum in pixels/src/decode/need.rs.
const ALL_BYTES: usize = 32 << 20;

/// A picture that waits.
#[derive(Debug)]
pub(super) struct TrayPicture {
    /// Of the picture as it was given, upright: what boxes refer to.
    pub(super) size: FrameSize,
    pub(super) origin: SampleOrigin,
    /// JPEG, small enough for a page.
    pub(super) preview: Vec<u8>,
    /// Its faces, each with the picture that would be kept of it.
    pub(super) faces: Vec<(ExaminedFace, Option<SamplePicture>)>,
}

impl TrayPicture {
    fn bytes(&self) -> usize {
        let faces = self.faces.iter().map(|(face, picture)| {
            let values = face.embedding.as_ref().map_or(0, |embedding| embedding.values().len() * 4);
            size_of::<ExaminedFace>() + values + picture.as_ref().map_or(0, |picture| picture.jpeg().len())
        });
        self.preview.len() + faces.sum::<usize>()
    }
}

struct Entry {
    id: String,
    owner: Who,
    until: Monotonic,
    bytes: usize,
    picture: Arc<TrayPicture>,
}

/// A picture was not taken in: the system gives no random numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRandomness;

/// Pictures by whoever gave them.
pub(crate) struct Tray {
    clock: Arc<dyn Clock>,
    /// Oldest first.
    entries: Mutex<VecDeque<Entry>>,
}

impl Tray {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }

    fn current(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        let now = self.clock.monotonic();
        let mut entries = self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        entries.retain(|entry| entry.until > now);
        entries
    }

    /// Takes a picture in. Gives its id and until when it is kept.
    pub(super) fn put(
        &self,
        owner: Who,
        picture: Arc<TrayPicture>,
    ) -> Result<(String, UnixMillis), NoRandomness> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| NoRandomness)?;
        let id = crate::litert::hex(&random);
        let bytes = picture.bytes();
        let mut entries = self.current();
        loop {
            let own = entries.iter().filter(|entry| entry.owner == owner);
            let (count, own_bytes) = own.fold((0, 0), |(n, sum), entry| (n + 1, sum + entry.bytes));
            let all_bytes: usize = entries.iter().map(|entry| entry.bytes).sum();
            let own_full = count >= OWN_PICTURES || own_bytes + bytes > OWN_BYTES;
            let own_oldest = entries.iter().position(|entry| entry.owner == owner).filter(|_| own_full);
            let oldest = own_oldest.or((all_bytes + bytes > ALL_BYTES).then_some(0));
            // Where nothing is left to take out, a single picture is larger than all places: it is taken
            // all the same, for uploads are bounded themselves.
            match oldest.and_then(|at| entries.remove(at)) {
                Some(_) => {}
                None => break,
            }
        }
        let until = self.clock.monotonic() + KEPT;
        entries.push_back(Entry { id: id.clone(), owner, until, bytes, picture });
        Ok((id, UnixMillis(self.clock.wall().0 + KEPT.as_millis() as i64)))
    }

    /// A picture of this owner.
    pub(super) fn get(&self, owner: Who, id: &str) -> Option<Arc<TrayPicture>> {
        let entries = self.current();
        let entry = entries.iter().find(|entry| entry.id == id && entry.owner == owner)?;
        Some(Arc::clone(&entry.picture))
    }

    /// Takes a picture out; false when there was none.
    pub(super) fn remove(&self, owner: Who, id: &str) -> bool {
        let mut entries = self.current();
        let before = entries.len();
        entries.retain(|entry| entry.id != id || entry.owner != owner);
        entries.len() < before
    }

    /// Drops what has expired. Called now and then, so that nothing stays because nobody asks.
    pub(crate) fn sweep(&self) {
        drop(self.current());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    const ANNA: Who = Who::User { user: 1, session: 10 };
    const BEN: Who = Who::User { user: 2, session: 20 };

    fn tray() -> (Arc<SimulatedClock>, Tray) {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(1_000)));
        (clock.clone(), Tray::new(clock))
    }

    fn picture(bytes: usize) -> Arc<TrayPicture> {
        let size = FrameSize { width: 4, height: 3 };
        let origin = SampleOrigin::File;
        Arc::new(TrayPicture { size, origin, preview: vec![0; bytes], faces: Vec::new() })
    }

    #[test]
    fn picture_is_there_for_a_quarter_of_an_hour_and_for_its_owner_only() {
        let (clock, tray) = tray();
        let (id, expires_at) = tray.put(ANNA, picture(10)).unwrap();
        assert_eq!((id.len(), expires_at), (32, UnixMillis(901_000)));
        assert!(tray.get(ANNA, &id).is_some());
        assert!(tray.get(BEN, &id).is_none());
        assert!(tray.get(Who::User { user: 1, session: 11 }, &id).is_none(), "another session");
        assert!(!tray.remove(BEN, &id));
        clock.advance(KEPT - Duration::from_millis(1));
        assert!(tray.get(ANNA, &id).is_some());
        clock.advance(Duration::from_millis(1));
        tray.sweep();
        assert!(tray.entries.lock().unwrap().is_empty());
    }

    #[test]
    fn oldest_of_the_same_owner_makes_room() {
        let (_, tray) = tray();
        let (bens, _) = tray.put(BEN, picture(1)).unwrap();
        let ids: Vec<_> = (0..=OWN_PICTURES).map(|_| tray.put(ANNA, picture(1)).unwrap().0).collect();
        assert!(tray.get(ANNA, &ids[0]).is_none());
        assert!(tray.get(ANNA, &ids[1]).is_some());
        assert!(tray.get(BEN, &bens).is_some(), "nobody else's is touched");
    }

    #[test]
    fn memory_is_bounded_for_one_and_for_all() {
        let (_, tray) = tray();
        let held = |tray: &Tray| tray.entries.lock().unwrap().iter().map(|entry| entry.bytes).sum::<usize>();
        for _ in 0..10 {
            tray.put(ANNA, picture(10 << 20)).unwrap();
        }
        assert_eq!(held(&tray), 20 << 20);
        for session in 0..10 {
            tray.put(Who::Token { token: session }, picture(10 << 20)).unwrap();
        }
        assert_eq!(held(&tray), 30 << 20);
        tray.put(ANNA, picture(200 << 20)).unwrap();
        assert_eq!(tray.entries.lock().unwrap().len(), 1);
    }

    #[test]
    fn picture_that_was_taken_out_is_gone() {
        let (_, tray) = tray();
        let (id, _) = tray.put(ANNA, picture(1)).unwrap();
        assert!(tray.remove(ANNA, &id));
        assert!(!tray.remove(ANNA, &id));
        assert!(tray.get(ANNA, &id).is_none());
    }
}
