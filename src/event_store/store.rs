//! The events on the disk: one SQLCipher database, one writing connection. Lives on the thread
//! `store`.
//!
//! What cannot be written, because the disk is full or fails, waits in memory and is tried again; it
//! is delivered all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;
use tokio::sync::broadcast;

use super::query::{self, EventCursor, EventFilter, EventPage, EventSummary};
use super::records::{Age, EventId, EventKind, Outbox, RecordedEvent};
use super::rows::{self, Entry, SELECT_EVENT, acknowledge, insert, write};
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::database::{self, DatabaseError, Schema};
use crate::door::record::DoorEvent;
use crate::event::{IdentityEvent, Outcome};
use crate::gallery::SubjectId;
use crate::vault::{KeyPurpose, RootKey, StateFolder, Subkeys};

/// Name of the database in the state folder.
pub const EVENTS_FILE: &str = "events.db";

/// For whoever changes its key.
pub(crate) fn events_schema() -> &'static Schema {
    &SCHEMA
}

const SCHEMA: Schema = Schema {
    file: EVENTS_FILE,
    remedy: "move it away: the gallery is another file and stays",
    // "limE"
    application_id: 0x6c69_6d45,
    script: include_str!("schema.sql"),
    precious: false,
    steps: &[include_str!("schema-2.sql"), include_str!("schema-3.sql")],
};

/// Events that wait in memory while they cannot be written; the oldest of more are lost.
const UNWRITTEN: usize = 1_000;
/// Events that a listener may lag behind.
const NEWS: usize = 64;
/// Events erased in one go, so that retention never keeps a new one waiting for long.
const ERASED_AT_ONCE: u32 = 500;

/// Why an event could not be kept or found. Carries no content.
#[derive(Debug, Error)]
pub enum EventStoreError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The system's random numbers could not be had.
    #[error("cannot make the id of an event: the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    /// The system does not tell its boot id.
    #[error("cannot read the boot id of the system, by which the age of events is told: {0}")]
    NoBootId(String),
}

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    /// Events older than this are erased.
    pub keep: Duration,
    /// The oldest of more events than this are erased.
    pub count: u64,
    /// Pictures older than this are erased.
    pub keep_crops: Duration,
    /// The oldest of more pictures than this are erased.
    pub crops: u64,
    /// Whether pictures of samples are kept. If not, those that are there are erased.
    pub keep_pictures: bool,
}

/// What retention erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events, with everything that belongs to them.
    pub events: u64,
    /// Of these, events the broker never acknowledged.
    pub undelivered: u64,
    /// Pictures of events that stay.
    pub crops: u64,
}

/// The events' database and its one writing connection.
pub struct EventStore {
    connection: Connection,
    path: std::path::PathBuf,
    clock: Arc<dyn Clock>,
    boot: [u8; 16],
    lifetime: Duration,
    next: u64,
    /// Not written yet, in order; all of them newer than what is written.
    unwritten: VecDeque<Entry>,
    /// Acknowledged, and this not written yet.
    acknowledged: BTreeMap<u64, (UnixMillis, bool)>,
    outbox: Outbox,
    /// Whether anybody is to be told.
    queueing: bool,
    /// Every event as it is taken in, for whoever listens.
    news: broadcast::Sender<Arc<RecordedEvent>>,
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventStore {{ {} }}", self.path.display())
    }
}

impl EventStore {
    /// Encrypts everything anew.
    pub(crate) fn rekey(&mut self, keys: &Subkeys) -> Result<(), EventStoreError> {
        Ok(database::rekey(&mut self.connection, &self.path, &SCHEMA, keys)?)
    }

    /// Opens the database in the state folder, making it where there is none. Events are fresh for
    /// `lifetime` after their capture.
    pub fn open(
        state: &StateFolder,
        key: &RootKey,
        clock: Arc<dyn Clock>,
        lifetime: Duration,
    ) -> Result<Self, EventStoreError> {
        let path = state.path().join(EVENTS_FILE);
        let connection = database::open_or_create(state, &key.subkeys(KeyPurpose::Events), &SCHEMA)?;
        let failed = |error| DatabaseError::sqlite(&path, &SCHEMA, "count the events", error);
        let given: Option<u64> = connection
            .query_row("select seq from sqlite_sequence where name = 'event'", [], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        let waiting =
            connection.query_row("select count(*) from outbox", [], |row| row.get(0)).map_err(failed)?;
        let newest = given.unwrap_or(0);
        Ok(Self {
            connection,
            path,
            clock,
            boot: boot_id()?,
            lifetime,
            next: newest + 1,
            unwritten: VecDeque::new(),
            acknowledged: BTreeMap::new(),
            outbox: Outbox { newest, waiting, ..Outbox::default() },
            queueing: true,
            news: broadcast::Sender::new(NEWS),
        })
    }

    /// Keeps events without queueing them: there is no broker to tell. What waits already goes on
    /// waiting for one.
    pub fn without_broker(mut self) -> Self {
        self.queueing = false;
        self
    }

    /// Queues events from now on, or no longer.
    pub fn set_queueing(&mut self, queueing: bool) {
        self.queueing = queueing;
    }

    /// Events are fresh for this long after their capture, from the next one on.
    pub fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    /// Tells every event as it is taken in.
    pub(super) fn news(&self) -> broadcast::Sender<Arc<RecordedEvent>> {
        self.news.clone()
    }

    /// What waits for the broker.
    pub fn outbox(&self) -> Outbox {
        self.outbox
    }

    /// Takes events in. They are on the disk when this returns `Ok`; otherwise they wait in memory for
    /// [`retry`](Self::retry). Either way they are in the outbox, in the order given.
    pub fn record(
        &mut self,
        events: impl IntoIterator<Item = (IdentityEvent, Option<Vec<u8>>)>,
    ) -> Result<(), EventStoreError> {
        for (event, crop) in events {
            let entry = self.entry(&event, crop);
            self.take_in(entry);
        }
        self.retry()
    }

    /// Takes in that somebody rang.
    pub fn ring(&mut self) -> Result<EventId, EventStoreError> {
        let (captured, now) = (self.clock.monotonic(), self.clock.wall());
        let id = EventId::new(now).map_err(EventStoreError::NoRandomness)?;
        let event = self.blank(id, EventKind::Ring, captured, now, 0.0);
        self.take_in(Entry { event, captured, crop: None, published: None });
        self.retry()?;
        Ok(id)
    }

    /// Takes in what happened at the door. Written at once, as with [`record`](Self::record).
    pub fn record_door(&mut self, event: DoorEvent) -> Result<(), EventStoreError> {
        let id = EventId::new(event.wall).map_err(EventStoreError::NoRandomness)?;
        let record = RecordedEvent {
            track: event.track.map(|track| track.0),
            subject: event.subject,
            reason: event.reason.map(str::to_owned),
            door: event.record,
            ..self.blank(id, event.kind, event.at, event.wall, event.latency_ms)
        };
        self.take_in(Entry { event: record, captured: event.at, crop: None, published: None });
        self.retry()
    }

    /// An event of which nothing is known but when it was captured and how long it took.
    fn blank(
        &self,
        id: EventId,
        kind: EventKind,
        captured: Monotonic,
        captured_at: UnixMillis,
        latency_ms: f32,
    ) -> RecordedEvent {
        RecordedEvent {
            sequence: self.next,
            id,
            kind,
            track: None,
            captured_at,
            decided_at: UnixMillis(captured_at.0.saturating_add(latency_ms as i64)),
            expires_at: self.expiry(captured_at),
            latency_ms,
            subject: None,
            score: None,
            margin: None,
            quality: None,
            looks: 0,
            probes: 0,
            seen_ms: None,
            verdict: None,
            reason: None,
            reasons: BTreeMap::new(),
            published_at: None,
            has_crop: false,
            door: None,
            age: Age::ThisBoot(captured),
        }
    }

    fn expiry(&self, captured_at: UnixMillis) -> UnixMillis {
        UnixMillis(captured_at.0.saturating_add(self.lifetime.as_millis() as i64))
    }

    fn entry(&self, event: &IdentityEvent, crop: Option<Vec<u8>>) -> Entry {
        let mut record = RecordedEvent {
            track: Some(event.track.0),
            looks: event.looks,
            probes: event.probes,
            has_crop: crop.is_some(),
            ..self.blank(event.id, EventKind::Ended, event.captured, event.captured_at, event.latency_ms)
        };
        match &event.outcome {
            Outcome::Identified { subject, score, margin, quality, .. } => {
                record.kind = EventKind::Identified;
                record.subject = Some(*subject);
                record.score = Some(score.get());
                record.margin = *margin;
                record.quality = Some(quality.get());
            }
            Outcome::Unknown { best_score, reason } => {
                record.kind = EventKind::Unknown;
                record.score = best_score.map(|score| score.get());
                record.reason = Some(reason.code().to_owned());
            }
            Outcome::Ended { seen_ms, verdict, subject, reason, inconclusive, .. } => {
                record.subject = *subject;
                record.seen_ms = Some(*seen_ms);
                record.verdict = Some(verdict.code().to_owned());
                record.reason = reason.map(|reason| reason.code().to_owned());
                record.reasons =
                    inconclusive.iter().map(|(reason, n)| (reason.code().to_owned(), *n)).collect();
            }
        }
        Entry { event: record, captured: event.captured, crop, published: None }
    }

    fn take_in(&mut self, entry: Entry) {
        self.next += 1;
        self.outbox.newest = entry.event.sequence;
        self.outbox.waiting += u64::from(self.queueing);
        if self.news.receiver_count() > 0 {
            // Whoever listened may just have left.
            let _ = self.news.send(Arc::new(entry.event.clone()));
        }
        self.unwritten.push_back(entry);
        while self.unwritten.len() > UNWRITTEN {
            if let Some(lost) = self.unwritten.pop_front() {
                self.outbox.lost += 1;
                self.outbox.waiting -= u64::from(self.queueing && lost.published.is_none());
            }
        }
    }

    /// Whether something waits in memory for the disk.
    pub fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty() || !self.acknowledged.is_empty()
    }

    /// Writes what waits in memory: events, and acknowledgements. All of it or nothing.
    pub fn retry(&mut self) -> Result<(), EventStoreError> {
        if !self.has_unwritten() {
            return Ok(());
        }
        let (unwritten, acknowledged, boot) = (&self.unwritten, &self.acknowledged, &self.boot);
        let queueing = self.queueing;
        write(&mut self.connection, |transaction| {
            for entry in unwritten {
                insert(transaction, entry, boot, queueing)?;
            }
            for (sequence, (at, expired)) in acknowledged {
                acknowledge(transaction, *sequence, *at, *expired)?;
            }
            Ok(())
        })
        .map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, "keep an event", error))?;
        self.unwritten.clear();
        self.acknowledged.clear();
        Ok(())
    }

    /// Notes that the broker has acknowledged events, fresh or as expired.
    pub fn published(&mut self, events: &[(u64, bool)]) -> Result<(), EventStoreError> {
        let now = self.clock.wall();
        for (sequence, expired) in events {
            let unwritten = self.unwritten.iter_mut().find(|entry| entry.event.sequence == *sequence);
            let new = if let Some(entry) = unwritten {
                entry.published.replace((now, *expired)).is_none()
            } else {
                // Acknowledged before, as after a connection that broke in between: nothing new.
                self.is_waiting(*sequence)? && self.acknowledged.insert(*sequence, (now, *expired)).is_none()
            };
            if new {
                self.outbox.waiting = self.outbox.waiting.saturating_sub(1);
                self.outbox.expired += u64::from(*expired);
            }
        }
        self.retry()
    }

    fn is_waiting(&self, sequence: u64) -> Result<bool, EventStoreError> {
        self.read("look into the outbox", |db| {
            db.prepare_cached("select 1 from outbox where sequence = ?1")?.exists([sequence])
        })
    }

    /// Unacknowledged events after a sequence number, in order, at most `limit`.
    pub fn waiting(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, EventStoreError> {
        let known: BTreeSet<u64> = self.acknowledged.keys().copied().collect();
        let mut found = self.read("read the outbox", |db| {
            let mut query = db.prepare_cached(&format!(
                "{SELECT_EVENT} join outbox o on o.sequence = e.sequence
                 where o.sequence > ?1 order by o.sequence limit ?2"
            ))?;
            // Those acknowledged in memory only are skipped below, and must not use the limit up.
            let rows =
                query.query_map(params![after, limit + known.len()], |row| rows::read(row, &self.boot))?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        found.retain(|event| !known.contains(&event.sequence));
        let unwritten = self.unwritten.iter().filter(|e| e.event.sequence > after && e.published.is_none());
        found.extend(unwritten.map(|entry| entry.event.clone()));
        found.truncate(limit);
        Ok(found)
    }

    /// The newest events, newest first, before a sequence number if one is given.
    pub fn newest(&self, before: Option<u64>, limit: usize) -> Result<Vec<RecordedEvent>, EventStoreError> {
        self.read("list the events", |db| {
            let mut query = db.prepare_cached(&format!(
                "{SELECT_EVENT} where e.sequence < ?1 order by e.sequence desc limit ?2"
            ))?;
            let before = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
            query.query_map(params![before, limit], |row| rows::read(row, &self.boot))?.collect()
        })
    }

    /// The events that a filter lets through, newest first, at most `limit`, after a place if one is
    /// given. Those that wait in memory for the disk are not among them.
    pub fn list(
        &self,
        filter: &EventFilter,
        after: Option<EventCursor>,
        limit: usize,
    ) -> Result<EventPage, EventStoreError> {
        self.read("list the events", |db| query::list(db, &self.boot, filter, after, limit))
    }

    /// One event.
    pub fn event(&self, id: EventId) -> Result<Option<RecordedEvent>, EventStoreError> {
        self.read("look up an event", |db| query::one(db, &self.boot, id))
    }

    /// What happened in the hours that begin from `from` on and before `to`.
    pub fn summary(&self, from: UnixMillis, to: UnixMillis) -> Result<EventSummary, EventStoreError> {
        self.read("sum up the events", |db| query::summary(db, from, to))
    }

    /// The picture of an event's face, JPEG, if one is kept.
    pub fn crop(&self, id: EventId) -> Result<Option<Vec<u8>>, EventStoreError> {
        if let Some(entry) = self.unwritten.iter().find(|entry| entry.event.id == id) {
            return Ok(entry.crop.clone());
        }
        self.read("read a picture", |db| {
            db.prepare_cached(
                "select jpeg from crop c join event e on e.sequence = c.sequence where e.id = ?1",
            )?
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()
        })
    }

    /// Whether face unlock is on. It is, until it is switched off.
    pub fn face_unlock(&self) -> Result<bool, EventStoreError> {
        let found = self.read("read a switch", |db| {
            db.query_row("select is_on from switch where name = 'face_unlock'", [], |row| row.get(0))
                .optional()
        })?;
        Ok(found.unwrap_or(true))
    }

    /// Switches face unlock. On the disk when this returns.
    pub fn set_face_unlock(&mut self, on: bool) -> Result<(), EventStoreError> {
        write(&mut self.connection, |transaction| {
            transaction.execute(
                "insert into switch values ('face_unlock', ?1)
                 on conflict (name) do update set is_on = excluded.is_on",
                [on],
            )?;
            Ok(())
        })
        .map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, "keep a switch", error).into())
    }

    /// Takes out of the events whoever is not among `enrolled`: the reference and the pictures. Returns
    /// how many events that concerned.
    pub fn forget_all_but(&mut self, enrolled: &BTreeSet<SubjectId>) -> Result<u64, EventStoreError> {
        let gone = |subject: &Option<SubjectId>| subject.is_some_and(|s| !enrolled.contains(&s));
        let tracks: BTreeSet<_> =
            self.unwritten.iter().filter(|e| gone(&e.event.subject)).map(|e| e.event.track).collect();
        for entry in self.unwritten.iter_mut().filter(|entry| tracks.contains(&entry.event.track)) {
            if gone(&entry.event.subject) {
                entry.event.subject = None;
            }
            entry.crop = None;
            entry.event.has_crop = false;
        }
        let known = self.read("list the subjects of events", |db| {
            let mut query = db.prepare("select distinct subject from event where subject is not null")?;
            query.query_map([], |row| row.get(0).map(SubjectId::from_bytes))?.collect::<Result<Vec<_>, _>>()
        })?;
        let gone: Vec<_> = known.into_iter().filter(|subject| !enrolled.contains(subject)).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let concerned = write(&mut self.connection, |transaction| {
            let mut concerned = 0;
            for subject in &gone {
                // Of every visit they were named in, also the pictures taken while they were not yet
                // known. Track numbers begin anew with each run of the program, so that a picture of
                // somebody else may go too.
                transaction.execute(
                    "delete from crop where sequence in (
                         select e.sequence from event e join event theirs
                         on theirs.boot = e.boot and theirs.track = e.track
                         where theirs.subject = ?1)",
                    [subject.as_bytes()],
                )?;
                concerned += transaction
                    .execute("update event set subject = null where subject = ?1", [subject.as_bytes()])?;
            }
            Ok(concerned as u64)
        })
        .map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, "forget a subject", error))?;
        self.empty_log()?;
        Ok(concerned)
    }

    /// Erases a bounded number of what is older or more than may be kept; call it again while it
    /// erases something.
    pub fn retain(&mut self, retention: &Retention) -> Result<Erased, EventStoreError> {
        let now = self.clock.wall().0;
        let before = |keep: Duration| now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        let (events_before, crops_before) = (before(retention.keep), before(retention.keep_crops));
        let erased = write(&mut self.connection, |transaction| {
            let keep = i64::try_from(retention.count).unwrap_or(i64::MAX);
            // Of too many, all up to this one go.
            let many: i64 = transaction
                .prepare_cached(
                    "select coalesce(
                         (select sequence from event order by sequence desc limit 1 offset ?1), 0)",
                )?
                .query_row([keep], |row| row.get(0))?;
            // By age each for itself: one that was captured while the clock was wrong takes no other along.
            let chosen = "select sequence from event where captured_at < ?1 or sequence <= ?2
                          order by sequence limit ?3";
            let which = params![events_before, many, ERASED_AT_ONCE];
            let undelivered = transaction
                .prepare_cached(&format!("select count(*) from outbox where sequence in ({chosen})"))?
                .query_row(which, |row| row.get(0))?;
            let events = transaction
                .prepare_cached(&format!("delete from event where sequence in ({chosen})"))?
                .execute(which)?;
            let crops = transaction.execute(
                "delete from crop where sequence in (
                     select c.sequence from crop c join event e on e.sequence = c.sequence
                     where e.captured_at < ?1
                        or c.sequence <= coalesce(
                               (select sequence from crop order by sequence desc limit 1 offset ?3), 0)
                     limit ?2)",
                params![crops_before, ERASED_AT_ONCE, i64::try_from(retention.crops).unwrap_or(i64::MAX)],
            )?;
            Ok(Erased { events: events as u64, undelivered, crops: crops as u64 })
        })
        .map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, "erase old events", error))?;
        self.outbox.waiting = self.outbox.waiting.saturating_sub(erased.undelivered);
        self.outbox.lost += erased.undelivered;
        if erased != Erased::default() {
            self.empty_log()?;
        }
        Ok(erased)
    }

    /// Events and acknowledgements that wait in memory for the disk.
    pub fn unwritten(&self) -> usize {
        self.unwritten.len() + self.acknowledged.len()
    }

    /// Pictures of faces that are kept with events.
    pub fn count_crops(&self) -> Result<u64, EventStoreError> {
        self.read("count the pictures", |db| db.query_row("select count(*) from crop", [], |row| row.get(0)))
    }

    /// Events that are kept.
    pub fn count(&self) -> Result<u64, EventStoreError> {
        self.read("count the events", |db| db.query_row("select count(*) from event", [], |row| row.get(0)))
    }

    /// What was erased leaves the write-ahead log too, unless another connection is reading it.
    fn empty_log(&self) -> Result<(), EventStoreError> {
        self.read("empty the log", |db| {
            db.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0)).map(|_| ())
        })
    }

    fn read<T>(
        &self,
        what: &'static str,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, EventStoreError> {
        run(&self.connection).map_err(|error| DatabaseError::sqlite(&self.path, &SCHEMA, what, error).into())
    }
}

/// Random for each start of the machine.
fn boot_id() -> Result<[u8; 16], EventStoreError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).map_err(|error| EventStoreError::NoBootId(error.to_string()))?;
    let id = EventId::parse(text.trim())
        .ok_or_else(|| EventStoreError::NoBootId(format!("{PATH} does not hold a UUID")))?;
    Ok(*id.as_bytes())
}
