//! What outlives a connection: the states to say again after the next one is made.

use std::collections::BTreeMap;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::MqttParts;
use super::commands::Gate;
use super::compatibility::Compatibility;
use crate::clock::UnixMillis;
use crate::event_store::{EventId, EventKind, RecordedEvent, StoreHandle};
use crate::gallery::{GallerySnapshot, SubjectId};
use crate::live::{Attempt, Live};

/// Subjects whose last visit is remembered.
const MAXIMUM_SEEN: usize = 4096;

/// Of one run of the program; gone with it, names were never in it.
pub(super) struct Memory {
    pub(super) live: Receiver<Live>,
    pub(super) faces: u32,
    pub(super) last_face: Option<(SubjectId, UnixMillis)>,
    pub(super) last_seen: BTreeMap<SubjectId, UnixMillis>,
    /// The event whose picture was offered last.
    pub(super) picture: Option<EventId>,
    pub(super) gate: Gate,
    pub(super) compatibility: Compatibility,
    /// Acknowledged by the broker, and the store not told yet.
    pub(super) acknowledged: Vec<(u64, bool)>,
    /// Highest sequence number ever handed to a client.
    pub(super) highest: u64,
    /// Until then nothing is subscribed, since what came was too large.
    pub(super) deaf_until: Option<Instant>,
    /// What is worth one line in the log, and not one for each time.
    pub(super) told: Told,
}

/// Which warnings have been written.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) retained_command: bool,
    pub(super) subscription: bool,
    pub(super) publication: bool,
    pub(super) dropped: bool,
}

impl Told {
    /// Whether this is the first time.
    pub(super) fn first(told: &mut bool) -> bool {
        !std::mem::replace(told, true)
    }
}

impl Memory {
    pub(super) fn new(live: Receiver<Live>) -> Self {
        Self {
            live,
            faces: 0,
            last_face: None,
            last_seen: BTreeMap::new(),
            picture: None,
            gate: Gate::default(),
            compatibility: Compatibility::default(),
            acknowledged: Vec::new(),
            highest: 0,
            deaf_until: None,
            told: Told::default(),
        }
    }

    /// Takes in what goes on; returns a look at a face.
    pub(super) fn hear(&mut self, live: Result<Live, RecvError>, parts: &MqttParts) -> Option<Attempt> {
        match live {
            Ok(Live::Presence { faces }) => self.faces = faces,
            Ok(Live::Attempt(attempt)) => return Some(attempt),
            Err(RecvError::Lagged(missed)) => {
                parts.stats.live_missed.add(missed);
                // One of them may have said that the last one has gone.
                self.faces = parts.live.faces();
            }
            // The sender is held by those who hold this.
            Err(RecvError::Closed) => {}
        }
        None
    }

    /// Takes in an event that goes out; true when somebody was identified.
    pub(super) fn note(&mut self, event: &RecordedEvent) -> bool {
        let (EventKind::Identified, Some(subject)) = (event.kind, event.subject) else { return false };
        let at = event.captured_at;
        if self.last_face.is_none_or(|(_, before)| before <= at) {
            self.last_face = Some((subject, at));
        }
        let seen = self.last_seen.entry(subject).or_insert(at);
        *seen = (*seen).max(at);
        if self.last_seen.len() > MAXIMUM_SEEN {
            let oldest = self.last_seen.iter().min_by_key(|(_, at)| **at).map(|(subject, _)| *subject);
            oldest.and_then(|subject| self.last_seen.remove(&subject));
        }
        true
    }

    /// Tells the store what the broker has acknowledged; what it has no room for is kept.
    pub(super) fn tell(&mut self, store: &StoreHandle) {
        if !self.acknowledged.is_empty() && store.published(self.acknowledged.clone()).is_ok() {
            self.acknowledged.clear();
        }
    }

    /// Forgets whoever is no longer enrolled.
    pub(super) fn forget_erased(&mut self, gallery: &GallerySnapshot) {
        let enrolled = |subject: &SubjectId| gallery.subject(*subject).is_some();
        self.last_face.take_if(|(subject, _)| !enrolled(subject));
        self.last_seen.retain(|subject, _| enrolled(subject));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::EmbeddingSpaceId;
    use crate::live::LiveChannel;
    use crate::mqtt::payload::tests::identified;

    #[test]
    fn older_event_does_not_take_the_place_of_a_newer_one() {
        let mut memory = Memory::new(LiveChannel::new().listen());
        let newer = identified(2);
        let other = SubjectId::from_bytes([2; 16]);
        let older = RecordedEvent { captured_at: UnixMillis(5), subject: Some(other), ..identified(1) };
        assert!(memory.note(&newer) && memory.note(&older));
        assert_eq!(memory.last_face, newer.subject.map(|subject| (subject, newer.captured_at)));
        assert_eq!(memory.last_seen[&other], UnixMillis(5));
        assert!(!memory.note(&RecordedEvent { kind: EventKind::Unknown, ..identified(3) }));
    }

    #[test]
    fn erased_subject_is_forgotten() {
        let mut memory = Memory::new(LiveChannel::new().listen());
        memory.note(&identified(1));
        memory.forget_erased(&GallerySnapshot::empty(EmbeddingSpaceId::new("test/1")));
        assert!(memory.last_face.is_none() && memory.last_seen.is_empty());
    }

    #[test]
    fn memory_of_visits_is_bounded() {
        let mut memory = Memory::new(LiveChannel::new().listen());
        for n in 0..(MAXIMUM_SEEN as u128 + 10) {
            let subject = Some(SubjectId::from_bytes(n.to_be_bytes()));
            let captured_at = UnixMillis(n as i64);
            memory.note(&RecordedEvent { subject, captured_at, ..identified(1) });
        }
        assert_eq!(memory.last_seen.len(), MAXIMUM_SEEN);
        assert!(!memory.last_seen.contains_key(&SubjectId::from_bytes([0; 16])));
    }
}
