//! How the other threads and tasks reach the thread `store`.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{broadcast, oneshot, watch};

use super::door::DoorRequest;
use super::gallery::GalleryRequest;
use super::query::{EventCursor, EventFilter, EventPage, EventSummary};
use super::records::{EventId, Outbox, RecordedEvent};
use super::sightings::SightingRequest;
use super::store::Retention;
use super::upkeep::UpkeepRequest;
use crate::clock::UnixMillis;
use crate::door::book::DoorBook;
use crate::door::record::DoorEvent;
use crate::event::IdentityEvent;
use crate::gallery::{Gallery, SnapshotReport, SubjectId};
use crate::metrics::Metrics;

/// Requests that may wait for the thread. Events are among them: the recogniser waits when it is
/// full, everybody else is told to come again.
pub const REQUESTS: usize = 256;
/// Of these, what is kept for events: whoever else asks finds the store busy once so many are taken.
const FOR_EVENTS: usize = REQUESTS / 2;
/// How long a caller waits for an answer: longer than SQLite waits for a lock.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why there is no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StoreRefusal {
    /// Too many requests wait already.
    #[error("the store is busy; try again")]
    Busy,
    /// The program is ending.
    #[error("the store has ended")]
    Ended,
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
}

/// What the thread is asked.
#[derive(Debug)]
pub enum Request {
    /// Keep an event and queue it for the broker.
    Record(Box<IdentityEvent>),
    /// Keep what happened at the door.
    RecordDoor(Box<DoorEvent>),
    /// Something about the door.
    Door(DoorRequest),
    /// Somebody rang.
    Ring(oneshot::Sender<Result<EventId, StoreRefusal>>),
    /// The next unacknowledged events after a sequence number.
    Waiting {
        /// Exclusive.
        after: u64,
        /// At most this many.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<RecordedEvent>, StoreRefusal>>,
    },
    /// The broker has acknowledged these; true for those that went out as expired.
    Published(Vec<(u64, bool)>),
    /// Switch face unlock.
    SetFaceUnlock(bool, oneshot::Sender<Result<(), StoreRefusal>>),
    /// Read the gallery anew.
    ReloadGallery(oneshot::Sender<Result<SnapshotReport, StoreRefusal>>),
    /// Tell when everything before this is done, and whether all of it is on the disk.
    Settle(std::sync::mpsc::Sender<bool>),
    /// Something about subjects.
    Gallery(GalleryRequest),
    /// Something about unknown faces.
    Sightings(SightingRequest),
    /// Something that re-embedding needs.
    Upkeep(UpkeepRequest),
    /// The picture of a face, JPEG.
    Crop(EventId, oneshot::Sender<Result<Option<Vec<u8>>, StoreRefusal>>),
    /// Something about the events of the past, or how they are kept.
    Events(EventRequest),
}

impl Request {
    /// Whether it is about something that has happened at the door, or comes with the end of the program.
    fn may_fill_the_queue(&self) -> bool {
        matches!(
            self,
            Self::Record(_)
                | Self::RecordDoor(_)
                | Self::Ring(_)
                | Self::Published(_)
                | Self::Settle(_)
                | Self::Door(DoorRequest::Use(..))
        )
    }

    /// Whether it only reads, for somebody who has given up waiting.
    pub(super) fn is_moot(&self) -> bool {
        match self {
            Self::Waiting { reply, .. } => reply.is_closed(),
            Self::Crop(_, reply) => reply.is_closed(),
            Self::Door(request) => request.is_moot(),
            Self::Events(EventRequest::List { reply, .. } | EventRequest::One(_, reply)) => reply.is_closed(),
            Self::Events(EventRequest::Summary(.., reply)) => reply.is_closed(),
            Self::Gallery(request) => request.is_moot(),
            Self::Sightings(SightingRequest::List { reply, .. }) => reply.is_closed(),
            Self::Sightings(SightingRequest::Picture(.., reply)) => reply.is_closed(),
            _ => false,
        }
    }
}

/// What the thread is asked about events.
#[derive(Debug)]
pub enum EventRequest {
    /// Part of a list.
    List {
        /// Which events.
        filter: EventFilter,
        /// Where to go on.
        after: Option<EventCursor>,
        /// At most this many.
        limit: usize,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<EventPage, StoreRefusal>>,
    },
    /// One event, as a page of one or none.
    One(EventId, oneshot::Sender<Result<EventPage, StoreRefusal>>),
    /// What happened in the hours from the first on and before the second.
    Summary(UnixMillis, UnixMillis, oneshot::Sender<Result<EventSummary, StoreRefusal>>),
    /// Keep events otherwise from now on: for how long, how long they are fresh, and whether they are
    /// queued for a broker.
    Keep {
        /// What is kept.
        retention: Retention,
        /// How long events are fresh.
        lifetime: Duration,
        /// Whether there is a broker.
        queueing: bool,
    },
}

/// Reaches the thread `store`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    pub(super) requests: SyncSender<Request>,
    pub(super) outbox: watch::Receiver<Outbox>,
    pub(super) face_unlock: watch::Receiver<bool>,
    pub(super) gallery_changes: watch::Receiver<u64>,
    pub(super) door_book: watch::Receiver<Arc<DoorBook>>,
    pub(super) retired: broadcast::Sender<SubjectId>,
    pub(super) news: broadcast::Sender<Arc<RecordedEvent>>,
    pub(super) gallery: Arc<Gallery>,
    pub(super) metrics: Arc<Metrics>,
}

impl StoreHandle {
    /// Hands an event over, waiting while the queue is full; `false` when the program is ending.
    pub fn record(&self, event: IdentityEvent) -> bool {
        self.metrics.store_request_queued();
        self.requests.send(Request::Record(Box::new(event))).is_ok()
    }

    /// Hands over what happened at the door; `false` when there is no room, or the program is ending. The door
    /// waits for nothing.
    pub fn record_door(&self, event: DoorEvent) -> bool {
        self.send(Request::RecordDoor(Box::new(event))).is_ok()
    }

    /// Waits until everything asked before is on the disk, at most `patience`; `false` when it is not.
    pub fn settle(&self, patience: Duration) -> bool {
        let (reply, done) = std::sync::mpsc::channel();
        self.send(Request::Settle(reply)).is_ok() && done.recv_timeout(patience) == Ok(true)
    }

    /// Records that somebody rang.
    pub async fn ring(&self) -> Result<EventId, StoreRefusal> {
        self.ask(Request::Ring).await
    }

    /// Unacknowledged events with a sequence number above `after`, in order, at most `limit`.
    pub async fn waiting(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, StoreRefusal> {
        self.ask(|reply| Request::Waiting { after, limit, reply }).await
    }

    /// Notes that the broker has acknowledged events. `Busy`: say it again.
    pub fn published(&self, events: Vec<(u64, bool)>) -> Result<(), StoreRefusal> {
        self.send(Request::Published(events))
    }

    /// Switches face unlock; on the disk when this returns.
    pub async fn set_face_unlock(&self, on: bool) -> Result<(), StoreRefusal> {
        self.ask(|reply| Request::SetFaceUnlock(on, reply)).await
    }

    /// Reads the gallery anew.
    pub async fn reload_gallery(&self) -> Result<SnapshotReport, StoreRefusal> {
        self.ask(Request::ReloadGallery).await
    }

    /// The picture of a face, if one is kept. JPEG.
    pub async fn crop(&self, event: EventId) -> Result<Option<Vec<u8>>, StoreRefusal> {
        self.ask(|reply| Request::Crop(event, reply)).await
    }

    /// Events that a filter lets through, newest first, at most `limit`, after a place if one is given.
    pub async fn list_events(
        &self,
        filter: EventFilter,
        after: Option<EventCursor>,
        limit: usize,
    ) -> Result<EventPage, StoreRefusal> {
        self.ask(|reply| Request::Events(EventRequest::List { filter, after, limit, reply })).await
    }

    /// One event, as a page of one or none.
    pub async fn event(&self, id: EventId) -> Result<EventPage, StoreRefusal> {
        self.ask(|reply| Request::Events(EventRequest::One(id, reply))).await
    }

    /// What happened in the hours that begin from `from` on and before `to`.
    pub async fn summary(&self, from: UnixMillis, to: UnixMillis) -> Result<EventSummary, StoreRefusal> {
        self.ask(|reply| Request::Events(EventRequest::Summary(from, to, reply))).await
    }

    /// Keeps events otherwise from now on. `Busy`: say it again.
    pub fn keep(&self, retention: Retention, lifetime: Duration, queueing: bool) -> Result<(), StoreRefusal> {
        self.send(Request::Events(EventRequest::Keep { retention, lifetime, queueing }))
    }

    /// Every event from now on, as it is taken in.
    pub fn news(&self) -> broadcast::Receiver<Arc<RecordedEvent>> {
        self.news.subscribe()
    }

    /// What waits for the broker; changes with every event and acknowledgement.
    pub fn outbox(&self) -> watch::Receiver<Outbox> {
        self.outbox.clone()
    }

    /// Whether face unlock is on; changes when it is switched.
    pub fn face_unlock(&self) -> watch::Receiver<bool> {
        self.face_unlock.clone()
    }

    /// Subjects that are erased for not having been seen, as it happens.
    pub fn retired(&self) -> broadcast::Receiver<SubjectId> {
        self.retired.subscribe()
    }

    /// Changes when the gallery has been read anew.
    pub fn gallery_changes(&self) -> watch::Receiver<u64> {
        self.gallery_changes.clone()
    }

    /// Who is enrolled.
    pub fn gallery(&self) -> &Arc<Gallery> {
        &self.gallery
    }

    pub(super) fn send(&self, request: Request) -> Result<(), StoreRefusal> {
        // Counted before it is sent: the thread may have taken it by the time this goes on.
        let before = self.metrics.store_request_queued();
        let result = if before >= (REQUESTS - FOR_EVENTS) as u64 && !request.may_fill_the_queue() {
            Err(StoreRefusal::Busy)
        } else {
            self.requests.try_send(request).map_err(|error| match error {
                TrySendError::Full(_) => StoreRefusal::Busy,
                TrySendError::Disconnected(_) => StoreRefusal::Ended,
            })
        };
        if result.is_err() {
            self.metrics.store_request_refused();
        }
        result
    }

    pub(super) async fn ask<T, E: From<StoreRefusal>>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply))?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreRefusal::Ended.into()),
            Err(_) => Err(StoreRefusal::Busy.into()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::embedding::EmbeddingSpaceId;
    use crate::gallery::GallerySnapshot;

    impl StoreHandle {
        /// One whose requests nobody serves but the test.
        pub(crate) fn unserved() -> (Self, Receiver<Request>) {
            let (requests, taken) = sync_channel(REQUESTS);
            let handle = Self {
                requests,
                outbox: watch::channel(Outbox::default()).1,
                face_unlock: watch::channel(true).1,
                gallery_changes: watch::channel(0).1,
                door_book: watch::channel(Arc::new(DoorBook::empty())).1,
                retired: broadcast::Sender::new(1),
                news: broadcast::channel(1).0,
                gallery: Arc::new(Gallery::new(GallerySnapshot::empty(EmbeddingSpaceId::new("test")))),
                metrics: Arc::new(Metrics::new()),
            };
            (handle, taken)
        }
    }

    fn read(reply: oneshot::Sender<Result<EventPage, StoreRefusal>>) -> Request {
        let (filter, after, limit) = (EventFilter::default(), None, 1);
        Request::Events(EventRequest::List { filter, after, limit, reply })
    }

    #[test]
    fn half_of_the_places_are_kept_for_what_happens_at_the_door() {
        let (handle, taken) = StoreHandle::unserved();
        let mut waiting = Vec::new();
        let refused = loop {
            let (reply, answer) = oneshot::channel();
            match handle.send(read(reply)) {
                Ok(()) => waiting.push(answer),
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused, waiting.len()), (StoreRefusal::Busy, REQUESTS - FOR_EVENTS));
        let mut rings = 0;
        while handle.send(Request::Published(Vec::new())).is_ok() {
            rings += 1;
        }
        assert_eq!(rings, FOR_EVENTS);
        assert_eq!(handle.metrics.store_waiting(), REQUESTS as u64, "what was refused is not counted");
        assert_eq!(taken.try_iter().count(), REQUESTS);
    }

    #[test]
    fn reading_for_nobody_is_moot_and_a_change_never_is() {
        let (reply, answer) = oneshot::channel();
        let request = read(reply);
        assert!(!request.is_moot());
        drop(answer);
        assert!(request.is_moot());
        let (reply, answer) = oneshot::channel();
        drop(answer);
        assert!(Request::Gallery(GalleryRequest::Groups(reply)).is_moot());
        let (reply, answer) = oneshot::channel();
        drop(answer);
        assert!(!Request::SetFaceUnlock(true, reply).is_moot());
    }
}
