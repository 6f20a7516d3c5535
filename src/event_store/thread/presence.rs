//! When subjects were last seen, and the erasure of those who were not for too long.

use std::time::Duration;

use super::{ERASING, SEEING, StoreThread};
use crate::clock::{Monotonic, UnixMillis};
use crate::event::IdentityEvent;
use crate::gallery::{GalleryError, SubjectId};
use crate::retention::KeptClass;

/// A subject who comes and goes is noted this often: each note is a write to the storage.
const NOTED_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How often it is looked who was not seen for too long.
const LOOKED_EVERY: Duration = Duration::from_secs(3600);
/// A clock that went on by more than this between two looks, while the program ran or while it did not, may be
/// wrong: a board without a battery starts with any time, until the network tells.
const JUMP: Duration = Duration::from_secs(7 * 86_400);
/// For so long after such a jump the clock is not believed: it would have been set right by then.
const DOUBT: Duration = Duration::from_secs(86_400);
/// For so long after that nobody is erased: who was enrolled or seen while the clock was behind has the time to
/// come by.
const HOLD: Duration = Duration::from_secs(30 * 86_400);
/// In the gallery's table of facts: when this was last looked after, and since when the clock is believed.
const LOOKED_AFTER: &str = "looked_after_at";
const BELIEVED_SINCE: &str = "clock_believed_since";
/// Subjects erased in one look.
const AT_ONCE: u32 = 10;

/// What is known of time and presence.
#[derive(Default)]
pub(super) struct Presence {
    /// Days that subjects are kept unseen, where nothing else is said of them; 0: for good.
    usual_days: u32,
    /// When each was noted last.
    noted: std::collections::BTreeMap<SubjectId, UnixMillis>,
    looked: Option<Monotonic>,
    doubt_until: Option<Monotonic>,
}

impl StoreThread {
    /// Notes who an event names.
    pub(super) fn note_presence(&mut self, events: &[IdentityEvent]) {
        let every = NOTED_EVERY.as_millis() as i64;
        let mut seen = Vec::new();
        for event in events {
            let Some(subject) = event.outcome.identified() else { continue };
            let at = event.captured_at;
            let noted = self.presence.noted.get(&subject);
            if noted.is_none_or(|noted| (at.0 - noted.0).abs() >= every) {
                self.presence.noted.insert(subject, at);
                seen.push((subject, at));
            }
        }
        if seen.is_empty() {
            return;
        }
        match self.parts.gallery_store.note_seen(&seen) {
            Ok(()) => self.works(SEEING),
            Err(error) => {
                for (subject, _) in seen {
                    self.presence.noted.remove(&subject);
                }
                self.fails(SEEING, error.to_string());
            }
        }
    }

    /// Says for how many days subjects are kept unseen, where nothing else is said of them.
    pub(super) fn keep_unseen(&mut self, days: u32) {
        self.presence.usual_days = days;
        self.presence.looked = None;
    }

    /// Erases who was not seen for too long, a few at a time.
    pub(super) fn erase_unseen(&mut self) {
        let now = self.parts.clock.monotonic();
        if self.presence.looked.is_some_and(|looked| now.since(looked) < LOOKED_EVERY) {
            return;
        }
        self.presence.looked = Some(now);
        let wall = self.parts.clock.wall();
        let result = self.trusts(now, wall).and_then(|trusted| {
            if trusted {
                self.parts.gallery_store.unseen(self.presence.usual_days, wall, AT_ONCE)
            } else {
                Ok(Vec::new())
            }
        });
        let due = match result {
            Ok(due) => due,
            Err(error) => return self.fails(ERASING, format!("who was not seen cannot be told: {error}")),
        };
        // More than a few wait no hour.
        if due.len() == AT_ONCE as usize {
            self.presence.looked = None;
        }
        let metrics = std::sync::Arc::clone(&self.parts.metrics);
        metrics.retention.note(KeptClass::Subjects, 0, wall);
        for subject in due {
            match self.erase(subject) {
                Ok(_) => {
                    metrics.retention.note(KeptClass::Subjects, 1, wall);
                    tracing::info!("a subject was erased that was not seen for as long as it was to be kept");
                    // Nobody may be listening: it is the audit log's entry.
                    let _ = self.retired.send(subject);
                }
                Err(error) => {
                    self.fails(ERASING, format!("a subject not seen for long stays for now: {error}"))
                }
            }
        }
    }
    /// Whether the clock can be believed, and could for long enough. The time of the last look is only noted
    /// while it is believed: a start anew finds a jump again.
    fn trusts(&mut self, now: Monotonic, wall: UnixMillis) -> Result<bool, GalleryError> {
        let store = &mut self.parts.gallery_store;
        let before = store.noted_time(LOOKED_AFTER)?;
        if before.is_some_and(|before| wall.0 - before.0 > JUMP.as_millis() as i64) {
            let until = *self.presence.doubt_until.get_or_insert(now + DOUBT);
            if now < until {
                return Ok(false);
            }
            store.note_time(BELIEVED_SINCE, wall)?;
        }
        self.presence.doubt_until = None;
        store.note_time(LOOKED_AFTER, wall)?;
        let since = store.noted_time(BELIEVED_SINCE)?;
        Ok(since.is_none_or(|since| wall.0 - since.0 >= HOLD.as_millis() as i64))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock, SimulatedClock};
    use crate::config::Config;
    use crate::embedding::{Embedding, EmbeddingSpaceId};
    use crate::enrol::EnrolmentRules;
    use crate::event::Outcome;
    use crate::event_store::{EventId, EventStore, Retention, StoreParts};
    use crate::gallery::{
        Enrolment, EnrolmentTarget, Gallery, GalleryStore, NewSample, SampleOrigin, SampleQuality,
        SubjectEdit, SubjectName,
    };
    use crate::metrics::Metrics;
    use crate::models::Manifest;
    use crate::score::{ComparisonScore, QualityScore};
    use crate::status::Status;
    use crate::track::TrackId;
    use crate::vault::{RootKey, StateFolder};

    const DAY: Duration = Duration::from_secs(86_400);

    struct Device {
        folder: tempfile::TempDir,
        clock: Arc<SimulatedClock>,
    }

    impl Device {
        fn new() -> Self {
            let clock = Arc::new(SimulatedClock::new(UnixMillis(1_800_000_000_000)));
            Self { folder: tempfile::tempdir().unwrap(), clock }
        }

        fn start(&self, usual_days: u32) -> StoreThread {
            let state = StateFolder::open_or_create(&self.folder.path().join("state")).unwrap();
            let key = RootKey::from_bytes([1; 32]);
            let clock: Arc<dyn Clock> = self.clock.clone();
            let gallery_store = GalleryStore::open(&state, &key, Arc::clone(&clock)).unwrap();
            let space = EmbeddingSpaceId::new("t");
            let gallery = Arc::new(Gallery::new(gallery_store.load_snapshot(&space).unwrap()));
            let text = include_str!("../../../models/manifest.toml");
            let manifest = Manifest::parse(text, Path::new("manifest.toml")).unwrap();
            let (mut thread, _) = StoreThread::new(StoreParts {
                gallery_store,
                events: EventStore::open(&state, &key, Arc::clone(&clock), DAY).unwrap(),
                gallery,
                space,
                rules: EnrolmentRules::new(&Config::default(), &manifest.embedder.thresholds),
                retention: Retention {
                    keep: DAY,
                    count: 1_000,
                    keep_crops: DAY,
                    crops: 1_000,
                    keep_pictures: true,
                },
                status: Status::new(Arc::clone(&clock)),
                metrics: Arc::new(Metrics::new()),
                clock,
            })
            .unwrap();
            thread.keep_unseen(usual_days);
            thread
        }

        /// So many days, looked after each hour.
        fn pass(&self, thread: &mut StoreThread, days: u32) {
            for _ in 0..24 * days {
                self.clock.advance(Duration::from_secs(3_600));
                thread.erase_unseen();
            }
        }
    }

    fn enrol(thread: &mut StoreThread, name: &str) -> SubjectId {
        let quality = SampleQuality::unmeasured(QualityScore::new(0.9));
        let embedding = Embedding::normalised(vec![1.0, 2.0], EmbeddingSpaceId::new("t")).unwrap();
        let sample = NewSample { origin: SampleOrigin::File, quality, embedding, picture: None };
        let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
        thread.parts.gallery_store.enrol(&Enrolment { subject, samples: vec![sample] }).unwrap().subject
    }

    fn come_by(thread: &mut StoreThread, subject: SubjectId) {
        let clock = Arc::clone(&thread.parts.clock);
        let outcome = Outcome::Identified {
            subject,
            name: SubjectName::new("Ada").unwrap(),
            score: ComparisonScore::new(0.8),
            margin: None,
            agreeing_probes: 2,
            quality: QualityScore::new(0.5),
        };
        let event = IdentityEvent {
            id: EventId::new(clock.wall()).unwrap(),
            track: TrackId(1),
            captured_at: clock.wall(),
            captured: clock.monotonic(),
            latency_ms: 1.0,
            looks: 1,
            probes: 1,
            crop: None,
            sighting: None,
            outcome,
        };
        thread.note_presence(&[event]);
    }

    fn there(thread: &StoreThread) -> Vec<String> {
        let subjects = thread.parts.gallery_store.subjects().unwrap();
        subjects.iter().map(|subject| subject.name.as_str().to_owned()).collect()
    }

    #[test]
    fn whoever_is_not_seen_for_long_is_erased_and_whoever_comes_by_stays() {
        let device = Device::new();
        let mut thread = device.start(30);
        let mut retired = thread.retired.subscribe();
        let (ada, bob) = (enrol(&mut thread, "Ada"), enrol(&mut thread, "Bob"));
        let edit = |days| SubjectEdit { keep_unseen_days: Some(Some(days)), ..SubjectEdit::default() };
        for (name, days) in [("For good", 0), ("A week", 7)] {
            let id = enrol(&mut thread, name);
            thread.parts.gallery_store.edit(id, &edit(days)).unwrap();
        }
        device.pass(&mut thread, 6);
        assert_eq!(there(&thread).len(), 4);
        device.pass(&mut thread, 4);
        assert_eq!(there(&thread), ["Ada", "Bob", "For good"]);
        assert!(retired.try_recv().is_ok() && retired.try_recv().is_err());
        come_by(&mut thread, ada);
        let seen = thread.parts.gallery_store.subject(ada).unwrap().unwrap().last_seen_at;
        assert_eq!(seen, device.clock.wall());
        // At most one write in some hours.
        device.clock.advance(Duration::from_secs(3_600));
        come_by(&mut thread, ada);
        assert_eq!(thread.parts.gallery_store.subject(ada).unwrap().unwrap().last_seen_at, seen);
        device.pass(&mut thread, 22);
        assert_eq!(there(&thread), ["Ada", "For good"]);
        assert_eq!(retired.try_recv().unwrap(), bob);
        device.pass(&mut thread, 30);
        assert_eq!(there(&thread), ["For good"]);
        // Switched off, nobody is erased who has no time of their own.
        let mut thread = device.start(0);
        enrol(&mut thread, "Eve");
        device.pass(&mut thread, 400);
        assert_eq!(there(&thread), ["Eve", "For good"]);
    }

    #[test]
    fn clock_that_jumps_ahead_erases_nobody_until_it_had_a_day_to_be_set_right() {
        let device = Device::new();
        let mut thread = device.start(30);
        enrol(&mut thread, "Ada");
        device.pass(&mut thread, 2);
        let right = device.clock.wall();
        device.clock.set_wall(UnixMillis(right.0 + 1_000 * DAY.as_millis() as i64));
        device.clock.advance(Duration::from_secs(3_600));
        thread.erase_unseen();
        assert_eq!(there(&thread), ["Ada"]);
        // Also not after a start anew, for the time before is what is remembered.
        let mut thread = device.start(30);
        for _ in 0..23 {
            device.clock.advance(Duration::from_secs(3_600));
            thread.erase_unseen();
        }
        assert_eq!(there(&thread), ["Ada"]);
        device.clock.set_wall(right);
        device.pass(&mut thread, 3);
        assert_eq!(there(&thread), ["Ada"], "set right in time");
        // A jump that stays is believed in the end, the device may have lain in a drawer; and then whoever was
        // seen by the old clock has a month to come by.
        device.clock.set_wall(UnixMillis(right.0 + 1_000 * DAY.as_millis() as i64));
        device.pass(&mut thread, 30);
        assert_eq!(there(&thread), ["Ada"]);
        device.pass(&mut thread, 2);
        assert_eq!(there(&thread), [""; 0]);
    }
}
