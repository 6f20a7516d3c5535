//! Serves what is asked about the door, and keeps the book by which the doorkeeper goes.

use std::sync::Arc;

use super::{BOOKING, StoreThread};
use crate::door::book::DoorBook;
use crate::event_store::door::DoorRequest;
use crate::event_store::gallery::GalleryRefusal;
use crate::gallery::GalleryError;

impl StoreThread {
    // Whoever asked may have given up waiting: then nobody takes the answer.
    pub(super) fn serve_door(&mut self, request: DoorRequest) {
        let store = &mut self.parts.gallery_store;
        match request {
            DoorRequest::SetPolicy(document, reply) => {
                let result = store.set_door_policy(&document);
                self.book();
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            DoorRequest::Credentials(reply) => {
                let _ = reply.send(store.credentials().map_err(GalleryRefusal::from));
            }
            DoorRequest::Add(new, reply) => {
                let result = store.add_credential(&new);
                self.book();
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            DoorRequest::Remove(id, reply) => {
                let result = store.remove_credential(id);
                self.book();
                let _ = reply.send(result.map_err(GalleryRefusal::from));
            }
            DoorRequest::Use(id, reply) => {
                let result = store.use_credential(id).map_err(|error: GalleryError| error.to_string());
                let _ = reply.send(result);
                self.book();
            }
        }
    }

    /// Makes the book anew. One that cannot be read leaves the one before, and is tried again.
    pub(super) fn book(&mut self) {
        match DoorBook::read(&mut self.parts.gallery_store) {
            Ok(book) => {
                self.book_due = false;
                self.door_book.send_replace(Arc::new(book));
                self.works(BOOKING);
            }
            Err(error) => {
                self.book_due = true;
                self.fails(BOOKING, error.to_string());
            }
        }
    }
}
