//! The gallery: who is known to this device, kept encrypted on disk and searched in memory.
//!
//! [`GalleryStore`] owns the database and its only writing connection; it lives on the thread
//! `store`. [`Gallery`] is the handle the recogniser reads: it holds the present
//! [`GallerySnapshot`], an immutable copy of all templates of one embedding space, which is
//! replaced as a whole after a commit. A search therefore never waits for the database.
//!
//! Not here: keys ([`crate::vault`]), whether samples are good enough to enrol
//! ([`crate::enrol`]), thresholds and decisions (`identify`).

mod counter;
mod records;
mod search;
mod snapshot;
mod store;

pub use counter::Ranked;
pub use records::{
    EnrolledSubject, Enrolment, EnrolmentReceipt, EnrolmentTarget, ErasureMark, Group, GroupId, GroupName,
    IdError, NameError, NewSample, RemovalReceipt, SampleId, SampleOrigin, SamplePicture, SampleQuality,
    SampleRecord, Statistics, SubjectEdit, SubjectId, SubjectName, SubjectPage, SubjectQuery, TemplateId,
};
pub use search::{Candidate, SearchScratch};
pub use snapshot::{
    Gallery, GallerySnapshot, GallerySubject, SnapshotBuilder, SnapshotError, SnapshotReport,
};
pub use store::{
    Consent, ConsentWay, CounterExampleChoice, CounterExampleReceipt, DATABASE_FILE, GalleryError,
    GalleryStore, ListedCredential, MAX_COUNTER_EXAMPLES, MAX_CREDENTIALS, MAX_GIVEN_BY_CHARS, MAX_SAMPLES,
    MAX_TEXT_VERSION_CHARS, MadeCredential, NewCredential, StaleSample, Staleness, erased_unseen_at,
};
pub(crate) use store::{gallery_schema, marks_of, media_of};
