//! What the thread `store` is asked about subjects. Every change is on the disk and in the gallery that
//! is searched when it is answered.

use thiserror::Error;
use tokio::sync::oneshot;

use super::handle::{Request, StoreHandle, StoreRefusal};
use crate::embedding::Embedding;
use crate::enrol::{Enrolled, EnrolmentError, EnrolmentOrder, EnrolmentRules};
use crate::erasure::Traces;
use crate::gallery::{
    Consent, CounterExampleChoice, CounterExampleReceipt, EnrolledSubject, GalleryError, Group, GroupId,
    GroupName, RemovalReceipt, SampleId, SampleRecord, SubjectEdit, SubjectId, SubjectPage, SubjectQuery,
};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, GalleryRefusal>>;

/// Why there is no answer about subjects.
#[derive(Debug, Error)]
pub enum GalleryRefusal {
    /// The thread did not get to it.
    #[error(transparent)]
    Store(#[from] StoreRefusal),
    /// The gallery refused.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The enrolment was refused.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
}

/// What was erased of a subject, everywhere.
#[derive(Debug)]
pub struct Erasure {
    /// Out of the gallery.
    pub gallery: RemovalReceipt,
    /// Events in which the subject was named, and is not any more.
    pub events: u64,
    /// Unknown faces that may have been theirs.
    pub sightings: u64,
    /// What to look for, to show that nothing is left.
    pub traces: Traces,
}

/// A subject with its samples.
#[derive(Clone, Debug)]
pub struct SubjectDetails {
    /// The subject.
    pub subject: EnrolledSubject,
    /// Its samples, oldest first; one for each template.
    pub samples: Vec<SampleRecord>,
    /// Faces that are noted not to be it, in the present embedding space.
    pub counter_examples: u64,
    /// What the subject agreed to.
    pub consent: Option<Consent>,
}

/// One question or change.
#[derive(Debug)]
pub enum GalleryRequest {
    /// A part of the list.
    List(SubjectQuery, Reply<SubjectPage>),
    /// One subject with its samples.
    Subject(SubjectId, Reply<SubjectDetails>),
    /// Enrol.
    Enrol(Box<EnrolmentOrder>, Reply<Enrolled>),
    /// Change a subject; gives what it is then.
    Edit(SubjectId, Box<SubjectEdit>, Reply<SubjectDetails>),
    /// Enrol by these rules from now on.
    Rules(EnrolmentRules),
    /// Erase a subject, also from the events.
    Erase(SubjectId, Reply<Erasure>),
    /// The picture of a sample, JPEG.
    Picture(SampleId, Reply<Option<Vec<u8>>>),
    /// Remove one sample.
    RemoveSample(SampleId, Reply<RemovalReceipt>),
    /// Record what a subject agreed to.
    Consent(SubjectId, Box<Consent>, Reply<SubjectDetails>),
    /// Take back what a subject agreed to.
    Withdraw(SubjectId, Reply<SubjectDetails>),
    /// A face is not this subject; how many are noted not to be it then.
    Not(SubjectId, Box<Embedding>, Reply<u64>),
    /// Forget faces that were noted not to be a subject.
    TakeBack(SubjectId, CounterExampleChoice, Reply<CounterExampleReceipt>),
    /// All groups.
    Groups(Reply<Vec<Group>>),
    /// Make a group.
    AddGroup(GroupName, Reply<GroupId>),
    /// Rename a group.
    RenameGroup(GroupId, GroupName, Reply<()>),
    /// Remove a group.
    RemoveGroup(GroupId, Reply<()>),
}

impl GalleryRequest {
    /// Whether it only reads, for somebody who has given up waiting.
    pub(super) fn is_moot(&self) -> bool {
        match self {
            Self::List(_, reply) => reply.is_closed(),
            Self::Subject(_, reply) => reply.is_closed(),
            Self::Picture(_, reply) => reply.is_closed(),
            Self::Groups(reply) => reply.is_closed(),
            _ => false,
        }
    }
}

impl StoreHandle {
    /// A part of the list of subjects, in the order of their names.
    pub async fn list_subjects(&self, query: SubjectQuery) -> Result<SubjectPage, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::List(query, reply)).await
    }

    /// One subject with its samples.
    pub async fn subject(&self, id: SubjectId) -> Result<SubjectDetails, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::Subject(id, reply)).await
    }

    /// Decides about an enrolment and carries it out.
    pub async fn enrol(&self, order: EnrolmentOrder) -> Result<Enrolled, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::Enrol(Box::new(order), reply)).await
    }

    /// The same for threads of their own. Panics in a task.
    pub fn enrol_blocking(&self, order: EnrolmentOrder) -> Result<Enrolled, GalleryRefusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Gallery(GalleryRequest::Enrol(Box::new(order), reply)))?;
        answer.blocking_recv().unwrap_or(Err(StoreRefusal::Ended.into()))
    }

    /// Enrols by other rules from now on.
    pub fn enrol_by(&self, rules: EnrolmentRules) -> Result<(), StoreRefusal> {
        self.send(Request::Gallery(GalleryRequest::Rules(rules)))
    }

    /// Changes a subject; gives what it is then.
    pub async fn edit_subject(
        &self,
        id: SubjectId,
        edit: SubjectEdit,
    ) -> Result<SubjectDetails, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::Edit(id, Box::new(edit), reply)).await
    }

    /// Erases a subject from the gallery and from the events.
    pub async fn erase_subject(&self, id: SubjectId) -> Result<Erasure, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::Erase(id, reply)).await
    }

    /// The picture of a sample, where one is kept. JPEG.
    pub async fn sample_picture(&self, id: SampleId) -> Result<Option<Vec<u8>>, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::Picture(id, reply)).await
    }

    /// Records what a subject agreed to.
    pub async fn record_consent(
        &self,
        id: SubjectId,
        consent: Consent,
    ) -> Result<SubjectDetails, GalleryRefusal> {
        self.ask(|reply| Request::Gallery(GalleryRequest::Consent(id, Box::new(consent), reply))).await
    }

    /// Takes back what a subject agreed to.
    pub async fn withdraw_consent(&self, id: SubjectId) -> Result<SubjectDetails, GalleryRefusal> {
        self.ask(|reply| Request::Gallery(GalleryRequest::Withdraw(id, reply))).await
    }

    /// Removes a sample with its templates and its picture.
    pub async fn remove_sample(&self, id: SampleId) -> Result<RemovalReceipt, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::RemoveSample(id, reply)).await
    }

    /// Notes that a face is not this subject, though it looks like it; how many are noted then.
    pub async fn is_not(&self, id: SubjectId, face: Embedding) -> Result<u64, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::Not(id, Box::new(face), reply)).await
    }

    /// Forgets faces that were noted not to be a subject.
    pub async fn take_back(
        &self,
        id: SubjectId,
        which: CounterExampleChoice,
    ) -> Result<CounterExampleReceipt, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::TakeBack(id, which, reply)).await
    }

    /// All groups, in the order of their names.
    pub async fn groups(&self) -> Result<Vec<Group>, GalleryRefusal> {
        self.ask_gallery(GalleryRequest::Groups).await
    }

    /// Makes a group.
    pub async fn add_group(&self, name: GroupName) -> Result<GroupId, GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::AddGroup(name, reply)).await
    }

    /// Gives a group another name.
    pub async fn rename_group(&self, id: GroupId, name: GroupName) -> Result<(), GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::RenameGroup(id, name, reply)).await
    }

    /// Removes a group; its members stay.
    pub async fn remove_group(&self, id: GroupId) -> Result<(), GalleryRefusal> {
        self.ask_gallery(|reply| GalleryRequest::RemoveGroup(id, reply)).await
    }

    async fn ask_gallery<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> GalleryRequest,
    ) -> Result<T, GalleryRefusal> {
        self.ask(|reply| Request::Gallery(request(reply))).await
    }
}
