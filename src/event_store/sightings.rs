//! What the thread `store` is asked about unknown faces.

use tokio::sync::oneshot;

use super::gallery::{GalleryRefusal, Reply};
use super::handle::{Request, StoreHandle, StoreRefusal};
use crate::enrol::{Enrolled, OrderTarget};
use crate::gallery::{SubjectId, SubjectName};
use crate::score::ComparisonScore;
use crate::sightings::{GroupCursor, GroupRecord, SightingGroupId, SightingLimits};

/// Whom in the gallery a face is most like.
#[derive(Clone, Debug, PartialEq)]
pub struct Closest {
    /// Who.
    pub subject: SubjectId,
    /// Their name.
    pub name: SubjectName,
    /// How much.
    pub score: ComparisonScore,
}

/// Groups of unknown faces, seen last first.
#[derive(Clone, Debug, Default)]
pub struct SightingPage {
    /// Whether any are kept at all.
    pub enabled: bool,
    /// The groups, each with whom its best sighting is most like.
    pub groups: Vec<(GroupRecord, Option<Closest>)>,
    /// Where to go on.
    pub next: Option<GroupCursor>,
}

/// One question or change.
#[derive(Debug)]
pub enum SightingRequest {
    /// A part of the list.
    List {
        /// The ignored ones, or the others.
        ignored: bool,
        /// Where to go on.
        after: Option<GroupCursor>,
        /// At most this many.
        limit: usize,
        /// Where the answer goes.
        reply: Reply<SightingPage>,
    },
    /// The picture of one of a group's sightings, the best first. JPEG.
    Picture(SightingGroupId, u32, Reply<Option<Vec<u8>>>),
    /// Enrol the sightings of groups, and forget the groups.
    Name {
        /// Which groups.
        groups: Vec<SightingGroupId>,
        /// Who they are.
        target: OrderTarget,
        /// Also where the gallery takes them for somebody else.
        accept_similar: bool,
        /// Where the answer goes.
        reply: Reply<Enrolled>,
    },
    /// A group is not this subject; false if there is no such group.
    Not(SightingGroupId, SubjectId, Reply<bool>),
    /// Hide a group, or show it again; false if there is none.
    Ignore(SightingGroupId, bool, Reply<bool>),
    /// Keep them like this from now on, or erase all and keep none.
    Keep(Option<SightingLimits>),
    /// Forget a group; gives how many sightings that were.
    Remove(SightingGroupId, Reply<u64>),
}

impl StoreHandle {
    /// A part of the list of unknown faces.
    pub async fn list_sightings(
        &self,
        ignored: bool,
        after: Option<GroupCursor>,
        limit: usize,
    ) -> Result<SightingPage, GalleryRefusal> {
        self.ask_sightings(|reply| SightingRequest::List { ignored, after, limit, reply }).await
    }

    /// The picture of one of a group's sightings: 0 is the best. JPEG.
    pub async fn sighting_picture(
        &self,
        group: SightingGroupId,
        number: u32,
    ) -> Result<Option<Vec<u8>>, GalleryRefusal> {
        self.ask_sightings(|reply| SightingRequest::Picture(group, number, reply)).await
    }

    /// Enrols the sightings of groups, and forgets the groups.
    pub async fn name_sightings(
        &self,
        groups: Vec<SightingGroupId>,
        target: OrderTarget,
        accept_similar: bool,
    ) -> Result<Enrolled, GalleryRefusal> {
        self.ask_sightings(|reply| SightingRequest::Name { groups, target, accept_similar, reply }).await
    }

    /// Notes that a group is not this subject; false if there is no such group.
    pub async fn sighting_is_not(
        &self,
        group: SightingGroupId,
        subject: SubjectId,
    ) -> Result<bool, GalleryRefusal> {
        self.ask_sightings(|reply| SightingRequest::Not(group, subject, reply)).await
    }

    /// Hides a group, or shows it again; false if there is none.
    pub async fn ignore_sighting(
        &self,
        group: SightingGroupId,
        ignored: bool,
    ) -> Result<bool, GalleryRefusal> {
        self.ask_sightings(|reply| SightingRequest::Ignore(group, ignored, reply)).await
    }

    /// Forgets a group; gives how many sightings that were.
    pub async fn remove_sighting(&self, group: SightingGroupId) -> Result<u64, GalleryRefusal> {
        self.ask_sightings(|reply| SightingRequest::Remove(group, reply)).await
    }

    /// Keeps unknown faces like this from now on; without limits, erases them and keeps none.
    pub fn keep_sightings(&self, limits: Option<SightingLimits>) -> Result<(), StoreRefusal> {
        self.send(Request::Sightings(SightingRequest::Keep(limits)))
    }

    async fn ask_sightings<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, GalleryRefusal>>) -> SightingRequest,
    ) -> Result<T, GalleryRefusal> {
        self.ask(|reply| Request::Sightings(request(reply))).await
    }
}
