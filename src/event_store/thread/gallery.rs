//! Serves what is asked about subjects.

use super::{ERASING, LOADING, StoreThread};
use crate::embedding::Embedding;
use crate::enrol::carry_out;
use crate::event_store::gallery::{Erasure, GalleryRefusal, GalleryRequest, SubjectDetails};
use crate::gallery::{GalleryError, SubjectId};

impl StoreThread {
    // Whoever asked may have given up waiting: then nobody takes the answer.
    pub(super) fn serve_gallery(&mut self, request: GalleryRequest) {
        match request {
            GalleryRequest::List(query, reply) => {
                let page = self.parts.gallery_store.list(&query).map(|mut page| {
                    // Counted here already, and counting rows would read all of them.
                    page.total.get_or_insert(self.enrolled.len() as u64);
                    page
                });
                let _ = reply.send(page.map_err(GalleryRefusal::from));
            }
            GalleryRequest::Subject(id, reply) => {
                let _ = reply.send(self.details(id));
            }
            GalleryRequest::Enrol(order, reply) => {
                let known = self.parts.gallery.current();
                let result = carry_out(&mut self.parts.gallery_store, &known, *order, &self.parts.rules);
                drop(known);
                if let Ok(done) = &result {
                    self.enrolled.insert(done.receipt.subject);
                    self.changed(done.receipt.subject);
                }
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            GalleryRequest::Rules(rules) => self.parts.rules = rules,
            GalleryRequest::Edit(id, edit, reply) => {
                let result = self.parts.gallery_store.edit(id, &edit).map_err(GalleryRefusal::from);
                let result = result.and_then(|()| {
                    self.changed(id);
                    self.book();
                    self.details(id)
                });
                let _ = reply.send(result);
            }
            GalleryRequest::Consent(id, consent, reply) => {
                let result = self.parts.gallery_store.record_consent(id, &consent);
                let _ = reply.send(result.map_err(GalleryRefusal::from).and_then(|()| self.details(id)));
            }
            GalleryRequest::Withdraw(id, reply) => {
                let result = self.parts.gallery_store.withdraw_consent(id);
                let _ = reply.send(result.map_err(GalleryRefusal::from).and_then(|_| self.details(id)));
            }
            GalleryRequest::Erase(id, reply) => {
                let _ = reply.send(self.erase(id).map_err(GalleryRefusal::from));
            }
            GalleryRequest::Picture(id, reply) => {
                let _ = reply.send(self.parts.gallery_store.picture(id).map_err(GalleryRefusal::from));
            }
            GalleryRequest::RemoveSample(id, reply) => {
                let result = self.parts.gallery_store.remove_sample(id).map(|(subject, receipt)| {
                    self.changed(subject);
                    receipt
                });
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            GalleryRequest::Not(id, face, reply) => {
                let store = &mut self.parts.gallery_store;
                let added = store.add_counter_examples(id, std::slice::from_ref(&*face));
                if added.is_ok() {
                    self.changed(id);
                }
                let store = &self.parts.gallery_store;
                let result = added.and_then(|()| store.counter_examples_of(id, &self.parts.space));
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            GalleryRequest::TakeBack(id, which, reply) => {
                let result = self.parts.gallery_store.remove_counter_examples(id, which);
                if result.is_ok() {
                    self.changed(id);
                }
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            GalleryRequest::Groups(reply) => {
                let _ = reply.send(self.parts.gallery_store.groups().map_err(GalleryRefusal::from));
            }
            GalleryRequest::AddGroup(name, reply) => {
                let _ = reply.send(self.parts.gallery_store.add_group(&name).map_err(GalleryRefusal::from));
            }
            GalleryRequest::RenameGroup(id, name, reply) => {
                let result = self.parts.gallery_store.rename_group(id, &name);
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            GalleryRequest::RemoveGroup(id, reply) => {
                let result = self.parts.gallery_store.remove_group(id);
                self.book();
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
        }
    }

    fn details(&self, id: SubjectId) -> Result<SubjectDetails, GalleryRefusal> {
        let store = &self.parts.gallery_store;
        let subject = store.subject(id)?.ok_or(GalleryError::SubjectUnknown)?;
        let counter_examples = store.counter_examples_of(id, &self.parts.space)?;
        let consent = store.consent_of(id)?;
        Ok(SubjectDetails { subject, samples: store.samples_of(id)?, counter_examples, consent })
    }

    /// Out of the gallery on the disk, out of the one that is searched, and out of the events, in this
    /// order: what fails after the first step is tried again until it is done.
    pub(super) fn erase(&mut self, id: SubjectId) -> Result<Erasure, GalleryError> {
        let known = self.parts.gallery.current();
        let faces = known
            .templates_of(id)
            .filter_map(|(_, values)| Embedding::from_unit(values.to_vec(), known.space().clone()).ok());
        let faces: Vec<_> = faces.collect();
        drop(known);
        let traces = self.parts.gallery_store.traces_of(id)?;
        let gallery = self.parts.gallery_store.remove(id)?;
        self.enrolled.remove(&id);
        self.changed(id);
        self.forget_due = true;
        let events = match self.parts.events.forget_all_but(&self.enrolled) {
            Ok(events) => {
                self.forget_due = false;
                self.works(ERASING);
                events
            }
            Err(error) => {
                self.note(ERASING, Err(error));
                0
            }
        };
        let sightings = self.forget_sightings_like(&faces);
        Ok(Erasure { gallery, events, sightings, traces })
    }

    /// Brings what is searched up to date with a change of one subject that is on the disk.
    pub(super) fn changed(&mut self, id: SubjectId) {
        let now = self.parts.gallery.current();
        match self.parts.gallery_store.update_snapshot(&now, id) {
            Ok(snapshot) => {
                drop(now);
                self.parts.gallery.replace(snapshot);
                self.works(LOADING);
                self.gallery_changes.send_modify(|changes| *changes += 1);
                // At the next look: reading everybody at each of a thousand enrolments would hold up the events.
                self.book_due = true;
            }
            // The whole of it is loaded at the next look, and again until that works.
            Err(error) => {
                self.reload_due = true;
                self.fails(LOADING, format!("{error}; the loaded gallery stays for now"));
            }
        }
    }
}
