//! Serves what is asked about unknown faces, and what re-embedding asks.

use super::{SIGHTING, StoreThread};
use crate::embedding::Embedding;
use crate::enrol::{EnrolmentCandidate, EnrolmentOrder, OrderTarget, UnusableSamples, carry_out};
use crate::event::IdentityEvent;
use crate::event_store::EventStoreError;
use crate::event_store::gallery::GalleryRefusal;
use crate::event_store::handle::StoreRefusal;
use crate::event_store::sightings::{Closest, SightingPage, SightingRequest};
use crate::event_store::upkeep::Kept;
use crate::event_store::upkeep::UpkeepRequest;
use crate::gallery::{SampleOrigin, SamplePicture, SearchScratch, SubjectId};
use crate::retention::KeptClass;
use crate::sightings::{
    GroupCursor, SightingError, SightingGroupId, SightingLimits, SightingStore, erase_files,
};
use crate::vault::{KeyPurpose, RootKey, StateFolder, Subkeys};

/// Sightings that one naming takes, the best of all groups: as many as an enrolment by hand.
const MOST_SAMPLES: usize = 50;

impl From<SightingError> for GalleryRefusal {
    fn from(error: SightingError) -> Self {
        Self::Store(StoreRefusal::Failed(error.to_string()))
    }
}

impl StoreThread {
    /// Where unknown faces are kept, when they are, and whether they are now.
    pub fn with_sightings(
        mut self,
        state: StateFolder,
        keys: Subkeys,
        limits: Option<SightingLimits>,
    ) -> Self {
        self.sightings_home = Some((state, keys));
        self.keep_sightings(limits);
        self
    }

    fn keep_sightings(&mut self, limits: Option<SightingLimits>) {
        let Some((state, keys)) = &self.sightings_home else { return };
        let result = match (limits, &mut self.sightings) {
            (Some(limits), Some(store)) => {
                store.set_limits(limits);
                // What must no longer be kept goes now.
                self.retained = None;
                Ok(())
            }
            (Some(limits), none) => {
                let clock = std::sync::Arc::clone(&self.parts.clock);
                SightingStore::open(state, keys, clock, &self.parts.space, limits)
                    .map(|store| *none = Some(store))
            }
            (None, store) => {
                *store = None;
                erase_files(state, keys).map(|erased| {
                    if erased {
                        tracing::info!("unknown faces are no longer kept; all are erased");
                    }
                })
            }
        };
        match result {
            Ok(()) => self.works(SIGHTING),
            Err(error) => self.fails(SIGHTING, error.to_string()),
        }
    }

    /// Takes in the best look of a visit that ended unknown.
    pub(super) fn take_in(&mut self, event: &IdentityEvent) {
        let (Some(sighting), Some(store)) = (&event.sighting, &mut self.sightings) else { return };
        match store.take_in(sighting) {
            Ok(_) => self.works(SIGHTING),
            // Missed, and told; there is nothing to try again.
            Err(error) => self.fails(SIGHTING, error.to_string()),
        }
    }

    pub(super) fn retain_sightings(&mut self) -> bool {
        let result = self.sightings.as_mut().map(SightingStore::retain);
        if let Some(Ok(erased)) = &result {
            let wall = self.parts.clock.wall();
            self.parts.metrics.retention.note(KeptClass::UnknownFaces, *erased, wall);
        }
        match result {
            Some(Ok(erased)) if erased > 0 => {
                tracing::info!(erased, "old unknown faces erased");
                true
            }
            Some(Err(error)) => {
                self.fails(SIGHTING, error.to_string());
                false
            }
            Some(Ok(_)) | None => false,
        }
    }

    /// How much is kept.
    fn kept(&self) -> Result<Kept, GalleryRefusal> {
        let statistics = self.parts.gallery_store.statistics()?;
        let events = |error: EventStoreError| GalleryRefusal::from(StoreRefusal::Failed(error.to_string()));
        let unknown_faces = self.sightings.as_ref().map_or(Ok(0), SightingStore::count)?;
        Ok(Kept {
            subjects: statistics.subjects,
            pictures: statistics.pictures,
            events: self.parts.events.count().map_err(events)?,
            event_pictures: self.parts.events.count_crops().map_err(events)?,
            unknown_faces,
        })
    }

    /// Erases the unknown faces that may be somebody's who is erased; those that fail expire.
    pub(super) fn forget_sightings_like(&mut self, faces: &[Embedding]) -> u64 {
        match self.sightings.as_mut().map(|store| store.remove_like(faces)) {
            Some(Ok(erased)) => erased,
            Some(Err(error)) => {
                self.fails(SIGHTING, error.to_string());
                0
            }
            None => 0,
        }
    }

    /// One after the other: what is done stays done, and does no harm to be done again.
    fn rekey(&mut self, key: &RootKey) -> Result<(), GalleryRefusal> {
        let failed = |error: String| GalleryRefusal::Store(StoreRefusal::Failed(error));
        self.parts.gallery_store.rekey(&key.subkeys(KeyPurpose::Database))?;
        let events = self.parts.events.rekey(&key.subkeys(KeyPurpose::Events));
        events.map_err(|error| failed(error.to_string()))?;
        if let Some((_, keys)) = &mut self.sightings_home {
            *keys = key.subkeys(KeyPurpose::Sightings);
        }
        match &mut self.sightings {
            Some(store) => Ok(store.rekey(&key.subkeys(KeyPurpose::Sightings))?),
            None => Ok(()),
        }
    }

    // Whoever asked may have given up waiting: then nobody takes the answer.
    pub(super) fn serve_sightings(&mut self, request: SightingRequest) {
        match request {
            SightingRequest::List { ignored, after, limit, reply } => {
                let _ = reply.send(self.list_sightings(ignored, after, limit));
            }
            SightingRequest::Picture(group, number, reply) => {
                let picture = self.sightings.as_ref().map(|store| store.picture(group, number));
                let _ = reply.send(picture.unwrap_or(Ok(None)).map_err(GalleryRefusal::from));
            }
            SightingRequest::Name { groups, target, accept_similar, reply } => {
                let _ = reply.send(self.name_sightings(&groups, target, accept_similar));
            }
            SightingRequest::Not(group, subject, reply) => {
                let _ = reply.send(self.is_not(group, subject));
            }
            SightingRequest::Ignore(group, ignored, reply) => {
                let done = self.sightings.as_mut().map(|store| store.ignore(group, ignored));
                let _ = reply.send(done.unwrap_or(Ok(false)).map_err(GalleryRefusal::from));
            }
            SightingRequest::Keep(limits) => self.keep_sightings(limits),
            SightingRequest::Remove(group, reply) => {
                let done = self.sightings.as_mut().map(|store| store.remove(&[group]));
                let _ = reply.send(done.unwrap_or(Ok(0)).map_err(GalleryRefusal::from));
            }
        }
    }

    fn list_sightings(
        &self,
        ignored: bool,
        after: Option<GroupCursor>,
        limit: usize,
    ) -> Result<SightingPage, GalleryRefusal> {
        let Some(store) = &self.sightings else { return Ok(SightingPage::default()) };
        let mut found = store.list(ignored, after, limit.saturating_add(1))?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more);
        let next = next.map(|last| GroupCursor { last_seen_at: last.last_seen_at, id: last.id });
        let gallery = self.parts.gallery.current();
        let mut scratch = SearchScratch::new();
        let mut groups = Vec::with_capacity(found.len());
        for record in found {
            let best = store.best(record.id, &self.parts.space)?;
            // Of this thread's own space: there is always an answer.
            let nearest = best.and_then(|probe| gallery.search(&probe, 1, &mut scratch).ok()?.pop());
            let closest = nearest.and_then(|candidate| {
                let name = gallery.subject(candidate.subject)?.name.clone();
                Some(Closest { subject: candidate.subject, name, score: candidate.score })
            });
            groups.push((record, closest));
        }
        Ok(SightingPage { enabled: true, groups, next })
    }

    fn name_sightings(
        &mut self,
        groups: &[SightingGroupId],
        target: OrderTarget,
        accept_similar: bool,
    ) -> Result<crate::enrol::Enrolled, GalleryRefusal> {
        let mut kept = Vec::new();
        if let Some(store) = &self.sightings {
            for group in groups {
                kept.extend(store.sightings_of(*group, &self.parts.space)?);
            }
        }
        kept.sort_by(|one, other| other.quality.score.get().total_cmp(&one.quality.score.get()));
        kept.truncate(MOST_SAMPLES);
        let candidates = kept.into_iter().enumerate().map(|(index, kept)| EnrolmentCandidate {
            index,
            origin: SampleOrigin::Camera,
            quality: kept.quality,
            embedding: kept.embedding,
            picture: SamplePicture::of_jpeg(kept.jpeg),
        });
        let order = EnrolmentOrder {
            target,
            candidates: candidates.collect(),
            unusable: UnusableSamples::Skip,
            accept_similar,
            notes: None,
            groups: None,
        };
        let known = self.parts.gallery.current();
        let done = carry_out(&mut self.parts.gallery_store, &known, order, &self.parts.rules);
        drop(known);
        let done = done?;
        self.enrolled.insert(done.receipt.subject);
        self.changed(done.receipt.subject);
        // Enrolled they are; what cannot be erased now expires.
        if let Some(Err(error)) = self.sightings.as_mut().map(|store| store.remove(groups)) {
            self.fails(SIGHTING, error.to_string());
        }
        Ok(done)
    }

    fn is_not(&mut self, group: SightingGroupId, subject: SubjectId) -> Result<bool, GalleryRefusal> {
        let Some(store) = &self.sightings else { return Ok(false) };
        let faces = store.sightings_of(group, &self.parts.space)?;
        let faces: Vec<_> = faces.into_iter().map(|kept| kept.embedding).collect();
        if faces.is_empty() {
            return Ok(false);
        }
        self.parts.gallery_store.add_counter_examples(subject, &faces)?;
        self.changed(subject);
        Ok(true)
    }

    pub(super) fn serve_upkeep(&mut self, request: UpkeepRequest) {
        let (store, space) = (&mut self.parts.gallery_store, &self.parts.space);
        match request {
            UpkeepRequest::CountStale(space, reply) => {
                let _ = reply.send(store.count_stale(&space).map_err(GalleryRefusal::from));
            }
            UpkeepRequest::Staleness(reply) => {
                // Counting reads every sample, and is asked for again and again by open pages.
                let changes = *self.gallery_changes.borrow();
                let counted = match self.stale.filter(|(at, _)| *at == changes) {
                    Some((_, known)) => Ok(known),
                    None => store.staleness(space),
                };
                if let Ok(staleness) = &counted {
                    self.stale = Some((changes, *staleness));
                }
                let _ = reply.send(counted.map_err(GalleryRefusal::from));
            }
            UpkeepRequest::Stale(space, after, limit, reply) => {
                let _ = reply.send(store.stale_samples(&space, after, limit).map_err(GalleryRefusal::from));
            }
            UpkeepRequest::Picture(sample, reply) => {
                let _ = reply.send(store.picture(sample).map_err(GalleryRefusal::from));
            }
            UpkeepRequest::Kept(reply) => {
                let _ = reply.send(self.kept());
            }
            UpkeepRequest::KeepUnseen(days) => self.keep_unseen(days),
            UpkeepRequest::Rekey(key, reply) => {
                let _ = reply.send(self.rekey(&key));
            }
            UpkeepRequest::RenewPictures(after, limit, reply) => {
                let result = store.renew_media_keys(after, limit);
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            UpkeepRequest::AddTemplates(templates, reply) => {
                let mut subject = None;
                let mut added = || {
                    for (sample, embedding) in &templates {
                        match store.add_template(*sample, embedding) {
                            Ok(theirs) => subject = Some(theirs),
                            // Removed while its template was being made.
                            Err(crate::gallery::GalleryError::SampleUnknown) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(())
                };
                let result = added();
                if let Some(subject) = subject {
                    self.changed(subject);
                }
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
        }
    }
}
