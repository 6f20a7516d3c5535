//! What the thread `store` is asked about templates of another network, and by the job that makes those
//! of the present one.

use tokio::sync::oneshot;

use super::gallery::{GalleryRefusal, Reply};
use super::handle::{Request, StoreHandle, StoreRefusal};
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::gallery::{SampleId, StaleSample, Staleness, SubjectId};
use crate::vault::RootKey;

/// One question or change.
#[derive(Debug)]
pub enum UpkeepRequest {
    /// How many samples have no template in a space.
    CountStale(EmbeddingSpaceId, Reply<u64>),
    /// What has none, in numbers.
    Staleness(Reply<Staleness>),
    /// How much is kept.
    Kept(Reply<Kept>),
    /// Some of them, from the one after this on.
    Stale(EmbeddingSpaceId, Option<SampleId>, u32, Reply<Vec<StaleSample>>),
    /// The picture of one, JPEG.
    Picture(SampleId, Reply<Option<Vec<u8>>>),
    /// The templates of one subject's samples.
    AddTemplates(Vec<(SampleId, Embedding)>, Reply<()>),
    /// For how many days subjects are kept unseen, where nothing else is said of them; 0: for good.
    KeepUnseen(u32),
    /// Encrypt every database of the thread anew.
    Rekey(Box<RootKey>, Reply<()>),
    /// Encrypt the pictures of some subjects anew, of those after this one.
    RenewPictures(Option<SubjectId>, u32, Reply<(u32, Option<SubjectId>)>),
}

/// How much is kept of each class that the thread keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// People who are enrolled.
    pub subjects: u64,
    /// Pictures of their samples.
    pub pictures: u64,
    /// Events.
    pub events: u64,
    /// Faces kept with events.
    pub event_pictures: u64,
    /// Faces of visitors nobody knows.
    pub unknown_faces: u64,
}

impl StoreHandle {
    /// How much is kept.
    pub async fn kept(&self) -> Result<Kept, GalleryRefusal> {
        self.ask(|reply| Request::Upkeep(UpkeepRequest::Kept(reply))).await
    }

    /// Says for how many days subjects are kept unseen, where nothing else is said of them; 0: for good.
    pub fn keep_unseen(&self, days: u32) -> Result<(), StoreRefusal> {
        self.send(Request::Upkeep(UpkeepRequest::KeepUnseen(days)))
    }

    /// What has no template in the present embedding space.
    pub async fn staleness(&self) -> Result<Staleness, GalleryRefusal> {
        self.ask(|reply| Request::Upkeep(UpkeepRequest::Staleness(reply))).await
    }
}

// For threads of their own; these panic in a task.
impl StoreHandle {
    /// How many samples have no template in this embedding space.
    pub fn count_stale(&self, space: &EmbeddingSpaceId) -> Result<u64, GalleryRefusal> {
        self.wait_for(|reply| UpkeepRequest::CountStale(space.clone(), reply))
    }

    /// Samples without a template in this embedding space, by id, from the one after `after` on.
    pub fn stale_samples(
        &self,
        space: &EmbeddingSpaceId,
        after: Option<SampleId>,
        limit: u32,
    ) -> Result<Vec<StaleSample>, GalleryRefusal> {
        self.wait_for(|reply| UpkeepRequest::Stale(space.clone(), after, limit, reply))
    }

    /// The picture of a sample. JPEG.
    pub fn picture_of(&self, sample: SampleId) -> Result<Option<Vec<u8>>, GalleryRefusal> {
        self.wait_for(|reply| UpkeepRequest::Picture(sample, reply))
    }

    /// Adds templates of one embedding space to samples of one subject.
    pub fn add_templates(&self, templates: Vec<(SampleId, Embedding)>) -> Result<(), GalleryRefusal> {
        self.wait_for(|reply| UpkeepRequest::AddTemplates(templates, reply))
    }

    /// Encrypts the databases of gallery, events and unknown faces anew.
    pub fn rekey(&self, key: &RootKey) -> Result<(), GalleryRefusal> {
        self.wait_for(|reply| UpkeepRequest::Rekey(Box::new(key.clone()), reply))
    }

    /// Encrypts the pictures of up to `limit` subjects anew, those after `after`: how many subjects, and the
    /// last of them.
    pub fn renew_pictures(
        &self,
        after: Option<SubjectId>,
        limit: u32,
    ) -> Result<(u32, Option<SubjectId>), GalleryRefusal> {
        self.wait_for(|reply| UpkeepRequest::RenewPictures(after, limit, reply))
    }

    fn wait_for<T>(&self, request: impl FnOnce(Reply<T>) -> UpkeepRequest) -> Result<T, GalleryRefusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Upkeep(request(reply)))?;
        answer.blocking_recv().unwrap_or(Err(StoreRefusal::Ended.into()))
    }
}
