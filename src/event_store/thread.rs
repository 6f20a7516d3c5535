//! The thread `store`: owns the databases of the gallery, the events and the unknown faces, and answers
//! requests.
//!
//! It keeps the gallery in memory current when another process enrols or removes somebody or a
//! subject expires, takes the erased out of the events, and applies retention.

mod door;
mod gallery;
mod presence;
mod sightings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{broadcast, watch};

use super::handle::{EventRequest, REQUESTS, Request, StoreHandle, StoreRefusal};
use super::query::EventPage;
use super::records::EventKind;
use super::store::{Erased, EventStore, EventStoreError, Retention};
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::door::book::DoorBook;
use crate::embedding::EmbeddingSpaceId;
use crate::enrol::EnrolmentRules;
use crate::event::IdentityEvent;
use crate::gallery::{Gallery, GalleryError, GalleryStore, SnapshotReport, Staleness, SubjectId};
use crate::metrics::Metrics;
use crate::retention::KeptClass;
use crate::sightings::SightingStore;
use crate::status::{Part, Status};
use crate::supervisor::Heartbeat;
use crate::vault::{StateFolder, Subkeys};

use presence::Presence;

/// How often the thread looks for enrolments by another process, and tries again what failed.
const LOOK: Duration = Duration::from_secs(1);
/// How often retention is applied while there is nothing to erase.
const RETAIN: Duration = Duration::from_secs(600);
/// Events committed together, when so many have come in.
const GROUP: usize = 64;
/// How long the thread waits for a request before it beats.
const WAIT: Duration = Duration::from_millis(100);
/// Subjects of whose erasure nobody has taken note yet.
const RETIRED: usize = 64;
/// Pictures moved out of the database in one go.
const MOVED: u32 = 32;
/// Pictures erased in one go where none are to be kept.
const PICTURES_AT_ONCE: u32 = 256;
/// JPEG quality of a kept picture.
const CROP_QUALITY: u8 = 85;

/// What the thread is made of.
pub struct StoreParts {
    /// The gallery's database.
    pub gallery_store: GalleryStore,
    /// The events' database.
    pub events: EventStore,
    /// The gallery in memory.
    pub gallery: Arc<Gallery>,
    /// The space its templates are of.
    pub space: EmbeddingSpaceId,
    /// What holds for enrolments.
    pub rules: EnrolmentRules,
    /// What is kept, and for how long.
    pub retention: Retention,
    /// Where the state of the storage is told.
    pub status: Status,
    /// Where commits and requests are counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The thread, not yet running.
pub struct StoreThread {
    parts: StoreParts,
    requests: Receiver<Request>,
    outbox: watch::Sender<super::Outbox>,
    face_unlock: watch::Sender<bool>,
    gallery_changes: watch::Sender<u64>,
    door_book: watch::Sender<Arc<DoorBook>>,
    /// The book could not be read, or may have changed.
    book_due: bool,
    /// What has no template of the present network, after so many changes.
    stale: Option<(u64, Staleness)>,
    looked: Monotonic,
    retained: Option<Monotonic>,
    /// The gallery has changed, and the new one is not loaded yet.
    reload_due: bool,
    /// Somebody was erased, and is not out of the events yet.
    forget_due: bool,
    /// Pictures may be left that an older version kept in the database.
    pictures_due: bool,
    /// Who was seen when, and who is kept how long without.
    presence: Presence,
    /// Subjects erased for not having been seen.
    retired: broadcast::Sender<SubjectId>,
    /// Who is enrolled, as far as this thread knows.
    enrolled: BTreeSet<SubjectId>,
    /// Unknown faces, where they are kept.
    sightings: Option<SightingStore>,
    /// Where they would be kept.
    sightings_home: Option<(StateFolder, Subkeys)>,
    /// What fails, by what it is.
    failing: BTreeMap<&'static str, String>,
}

/// What can fail, for [`StoreThread::note`].
const KEEPING: &str = "keeping events";
const ERASING: &str = "erasing";
const SWITCHING: &str = "switching";
const SIGHTING: &str = "keeping unknown faces";
const LOADING: &str = "loading the gallery";
const SEEING: &str = "noting who was seen";
const BOOKING: &str = "reading the door's policy, PINs and passes";
const ENDING: &str = "erasing ended passes";
const MOVING: &str = "moving pictures into files";

impl StoreThread {
    /// The thread, and how to reach it.
    pub fn new(mut parts: StoreParts) -> Result<(Self, StoreHandle), EventStoreError> {
        let (sender, requests) = sync_channel(REQUESTS);
        let outbox = watch::Sender::new(parts.events.outbox());
        let face_unlock = watch::Sender::new(parts.events.face_unlock()?);
        let gallery_changes = watch::Sender::new(0);
        // One that cannot be read is no reason not to start: the door stays shut, and it is tried again.
        let book = DoorBook::read(&mut parts.gallery_store);
        let book_due = book.is_err();
        let door_book = watch::Sender::new(Arc::new(book.unwrap_or_else(|_| DoorBook::empty())));
        let retired = broadcast::Sender::new(RETIRED);
        let handle = StoreHandle {
            requests: sender,
            outbox: outbox.subscribe(),
            face_unlock: face_unlock.subscribe(),
            gallery_changes: gallery_changes.subscribe(),
            door_book: door_book.subscribe(),
            retired: retired.clone(),
            gallery: Arc::clone(&parts.gallery),
            news: parts.events.news(),
            metrics: Arc::clone(&parts.metrics),
        };
        parts.status.working(Part::Storage);
        let looked = parts.clock.monotonic();
        let thread = Self {
            parts,
            requests,
            outbox,
            face_unlock,
            gallery_changes,
            door_book,
            book_due,
            stale: None,
            looked,
            retained: None,
            reload_due: false,
            forget_due: true,
            pictures_due: true,
            presence: Presence::default(),
            retired,
            enrolled: BTreeSet::new(),
            sightings: None,
            sightings_home: None,
            failing: BTreeMap::new(),
        };
        Ok((thread, handle))
    }

    /// Serves until told to end, and then what still waits.
    pub fn run(mut self, beat: &Heartbeat, ending: &AtomicBool) -> anyhow::Result<()> {
        self.forget_erased();
        let mut put_back = None;
        loop {
            beat.beat();
            let request = match put_back.take() {
                Some(request) => Some(request),
                None => match self.requests.recv_timeout(WAIT) {
                    Ok(request) => {
                        self.parts.metrics.store_request_taken();
                        Some(request)
                    }
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return self.end(),
                },
            };
            match request {
                Some(Request::Record(event)) => put_back = self.record(*event),
                Some(request) if request.is_moot() => {}
                Some(request) => self.serve(request),
                None if ending.load(Ordering::Relaxed) => return self.end(),
                None => {}
            }
            if self.parts.clock.monotonic().since(self.looked) >= LOOK {
                self.looked = self.parts.clock.monotonic();
                self.look();
            }
        }
    }

    /// What still waits in memory has its last chance.
    fn end(mut self) -> anyhow::Result<()> {
        self.parts.events.retry().with_context(|| {
            let lost = self.parts.events.unwritten();
            format!("{lost} events or acknowledgements are lost with the end of the program")
        })
    }

    /// Commits an event together with those that came in behind it. A request of another kind, taken
    /// from the queue on the way, is returned.
    fn record(&mut self, event: IdentityEvent) -> Option<Request> {
        let mut group = vec![event];
        let mut other = None;
        while group.len() < GROUP {
            match self.requests.try_recv() {
                Ok(Request::Record(event)) => {
                    self.parts.metrics.store_request_taken();
                    group.push(*event);
                }
                Ok(request) => {
                    self.parts.metrics.store_request_taken();
                    other = Some(request);
                    break;
                }
                Err(_) => break,
            }
        }
        for event in &group {
            self.take_in(event);
        }
        self.note_presence(&group);
        let enrolled = &self.enrolled;
        let group = group.into_iter().map(|mut event| {
            // Erased while this was on its way: only what concerns nobody is kept.
            if event.outcome.forget_unless(|subject| enrolled.contains(&subject)) {
                event.crop = None;
            }
            let crop = event.crop.as_deref().and_then(|crop| crop.to_jpeg(CROP_QUALITY));
            (event, crop)
        });
        let started = self.parts.clock.monotonic();
        let result = self.parts.events.record(group);
        self.parts.metrics.observe_commit(self.parts.clock.monotonic().since(started));
        self.note(KEEPING, result);
        other
    }

    fn serve(&mut self, request: Request) {
        let events = &mut self.parts.events;
        // Whoever asked may have given up waiting: then nobody takes the answer.
        match request {
            Request::Record(..) => unreachable!("recorded by the caller"),
            Request::RecordDoor(mut event) => {
                // Erased while this was on its way.
                event.subject = event.subject.filter(|subject| self.enrolled.contains(subject));
                if event.kind == EventKind::Ring {
                    self.parts.metrics.rang();
                }
                let result = events.record_door(*event);
                self.note(KEEPING, result);
            }
            Request::Door(request) => self.serve_door(request),
            Request::Ring(reply) => {
                let result = events.ring();
                self.parts.metrics.rang();
                let _ = reply.send(result.as_ref().map(|id| *id).map_err(refusal));
                self.note(KEEPING, result.map(|_| ()));
            }
            Request::Waiting { after, limit, reply } => {
                let _ = reply.send(events.waiting(after, limit).map_err(|error| refusal(&error)));
            }
            Request::Published(sequences) => {
                let result = events.published(&sequences);
                self.note(KEEPING, result);
            }
            Request::SetFaceUnlock(on, reply) => {
                let result = events.set_face_unlock(on);
                if result.is_ok() {
                    self.face_unlock.send_if_modified(|now| std::mem::replace(now, on) != on);
                }
                let _ = reply.send(match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(refusal(error)),
                });
                self.note(SWITCHING, result);
            }
            Request::ReloadGallery(reply) => {
                let result = self.load_gallery();
                let _ = reply.send(result.map_err(|error| StoreRefusal::Failed(error.to_string())));
            }
            Request::Settle(reply) => {
                let _ = reply.send(!events.has_unwritten());
            }
            Request::Gallery(request) => self.serve_gallery(request),
            Request::Sightings(request) => self.serve_sightings(request),
            Request::Upkeep(request) => self.serve_upkeep(request),
            Request::Crop(id, reply) => {
                let _ = reply.send(events.crop(id).map_err(|error| refusal(&error)));
            }
            Request::Events(request) => self.serve_events(request),
        }
    }

    fn serve_events(&mut self, request: EventRequest) {
        let events = &mut self.parts.events;
        match request {
            EventRequest::List { filter, after, limit, reply } => {
                let page = events.list(&filter, after, limit).map_err(|error| refusal(&error));
                let _ = reply.send(page.map(|page| self.named(page)));
            }
            EventRequest::One(id, reply) => {
                let event = events.event(id).map_err(|error| refusal(&error));
                let page = |event: Option<_>| EventPage {
                    events: event.into_iter().collect(),
                    ..EventPage::default()
                };
                let _ = reply.send(event.map(page).map(|page| self.named(page)));
            }
            EventRequest::Summary(from, to, reply) => {
                let _ = reply.send(events.summary(from, to).map_err(|error| refusal(&error)));
            }
            EventRequest::Keep { retention, lifetime, queueing } => {
                self.parts.retention = retention;
                events.set_lifetime(lifetime);
                events.set_queueing(queueing);
                // What must no longer be kept goes now.
                self.retained = None;
            }
        }
    }

    /// With the names of those who are still enrolled. They are looked up on the disk, for whoever has
    /// expired is no longer in the gallery in memory.
    fn named(&self, mut page: EventPage) -> EventPage {
        let subjects: BTreeSet<_> = page.events.iter().filter_map(|event| event.subject).collect();
        for subject in subjects {
            match self.parts.gallery_store.subject(subject) {
                Ok(Some(found)) => drop(page.names.insert(subject, found.name)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the name of an event's subject could not be read"),
            }
        }
        page
    }

    /// What is due from time to time, and what failed and is tried again.
    fn look(&mut self) {
        if self.parts.events.has_unwritten() {
            let result = self.parts.events.retry();
            self.note(KEEPING, result);
        }
        let now = self.parts.clock.wall();
        self.reload_due |= self.parts.gallery.current().report().next_expiry.is_some_and(|at| now >= at);
        match self.parts.gallery_store.changed_by_others() {
            Ok(changed) => self.reload_due |= changed,
            Err(error) => self.fails(LOADING, format!("{error}; the loaded gallery stays")),
        }
        if self.reload_due
            && let Err(error) = self.load_gallery()
        {
            self.fails(LOADING, format!("{error}; the loaded gallery stays"));
        }
        if self.book_due {
            self.book();
        }
        if self.forget_due {
            self.forget_erased();
        }
        if self.pictures_due {
            self.move_pictures();
        }
        self.erase_unseen();
        self.retain();
    }

    /// A visitor's name goes with the pass, a week after that has ended.
    fn erase_ended(&mut self) {
        const KEPT_MS: i64 = 7 * 86_400_000;
        let before = UnixMillis(self.parts.clock.wall().0.saturating_sub(KEPT_MS));
        match self.parts.gallery_store.erase_ended_credentials(before) {
            Ok(0) => self.works(ENDING),
            Ok(gone) => {
                self.works(ENDING);
                tracing::info!(passes = gone, "PINs and passes that ended a week ago are erased");
                self.book_due = true;
            }
            Err(error) => self.fails(ENDING, error.to_string()),
        }
    }

    fn move_pictures(&mut self) {
        match self.parts.gallery_store.move_pictures(MOVED) {
            Ok(moved) => {
                self.pictures_due = moved > 0;
                self.works(MOVING);
            }
            // Tried again at the next look: the disk may be full just now.
            Err(error) => self.fails(MOVING, error.to_string()),
        }
    }

    fn retain(&mut self) {
        let now = self.parts.clock.monotonic();
        if self.retained.is_some_and(|last| now.since(last) < RETAIN) {
            return;
        }
        self.erase_ended();
        if let Err(error) = self.parts.gallery_store.forget_former(false) {
            return self.fails(ERASING, error.to_string());
        }
        let (wall, metrics) = (self.parts.clock.wall(), Arc::clone(&self.parts.metrics));
        if !self.parts.retention.keep_pictures {
            match self.parts.gallery_store.drop_pictures(PICTURES_AT_ONCE) {
                Ok(erased) => {
                    metrics.retention.note(KeptClass::Pictures, erased, wall);
                    if erased > 0 {
                        // There may be more: again at the next look.
                        self.gallery_changes.send_modify(|changes| *changes += 1);
                        return;
                    }
                }
                Err(error) => return self.fails(ERASING, error.to_string()),
            }
        }
        let erased = self.parts.events.retain(&self.parts.retention);
        if let Ok(erased) = &erased {
            metrics.retention.note(KeptClass::Events, erased.events, wall);
            metrics.retention.note(KeptClass::EventPictures, erased.crops, wall);
        }
        match erased {
            // There may be more: again at the next look.
            Ok(erased) if erased != Erased::default() => {
                tracing::info!(
                    events = erased.events,
                    undelivered = erased.undelivered,
                    pictures = erased.crops,
                    "old events erased"
                );
                self.tell();
            }
            Ok(_) if self.retain_sightings() => {}
            Ok(_) => self.retained = Some(now),
            Err(error) => self.note(ERASING, Err(error)),
        }
    }

    fn load_gallery(&mut self) -> Result<SnapshotReport, GalleryError> {
        self.reload_due = true;
        let snapshot = self.parts.gallery_store.load_snapshot(&self.parts.space)?;
        let report = snapshot.report();
        self.parts.gallery.replace(snapshot);
        self.reload_due = false;
        self.works(LOADING);
        self.gallery_changes.send_modify(|changes| *changes += 1);
        self.book();
        tracing::info!(subjects = report.subjects, templates = report.templates, "the gallery has changed");
        self.forget_erased();
        Ok(report)
    }

    /// Whoever is no longer enrolled must not stay in the events. Those that merely expired do.
    fn forget_erased(&mut self) {
        self.forget_due = true;
        self.enrolled = match self.parts.gallery_store.subject_ids() {
            Ok(subjects) => subjects,
            Err(error) => return self.fails(ERASING, format!("who was erased cannot be told: {error}")),
        };
        match self.parts.events.forget_all_but(&self.enrolled) {
            Ok(events) => {
                self.forget_due = false;
                self.works(ERASING);
                if events > 0 {
                    tracing::info!(events, "erased subjects taken out of the events");
                }
            }
            Err(error) => self.note(ERASING, Err(error)),
        }
    }

    /// Tells what became of a write, and what waits now.
    fn note(&mut self, what: &'static str, result: Result<(), EventStoreError>) {
        match result {
            Ok(()) => self.works(what),
            Err(error) if what == KEEPING => {
                self.fails(what, format!("{error}; events wait in memory and are delivered all the same"))
            }
            Err(error) => self.fails(what, format!("{error}; it is tried again")),
        }
        self.tell();
    }

    fn fails(&mut self, what: &'static str, reason: String) {
        self.failing.insert(what, reason);
        self.tell_condition();
    }

    fn works(&mut self, what: &'static str) {
        if self.failing.remove(what).is_some() {
            self.tell_condition();
        }
    }

    fn tell_condition(&self) {
        if self.failing.is_empty() {
            self.parts.status.working(Part::Storage);
        } else {
            let all: Vec<_> = self.failing.iter().map(|(what, reason)| format!("{what}: {reason}")).collect();
            self.parts.status.degraded(Part::Storage, all.join("; "));
        }
    }

    fn tell(&self) {
        let now = self.parts.events.outbox();
        self.outbox.send_if_modified(|outbox| std::mem::replace(outbox, now) != now);
    }
}

fn refusal(error: &EventStoreError) -> StoreRefusal {
    StoreRefusal::Failed(error.to_string())
}
