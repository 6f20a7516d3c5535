//! Unknown faces: listed in groups, named, ruled out, ignored, forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{Access, AuditDetail, Role};
use super::operation::{Asked, Given, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::clock::UnixMillis;
use crate::enrol::{EnrolmentError, EnrolmentRefused, NamedLikeness, OrderTarget};
use crate::event_store::{Closest, GalleryRefusal};
use crate::gallery::{GalleryError, SubjectId, SubjectName};
use crate::sightings::{GroupCursor, GroupRecord, SightingGroupId};

/// Groups of one answer.
const LIMIT: u32 = 50;
const MOST: u32 = 200;
/// Groups named at once.
const MOST_NAMED: usize = 50;

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let operator = Access::Role(Role::Operator);
    vec![
        Operation::get("/api/sightings", operator, "list_sightings", list)
            .about(
                "Faces of visitors nobody knows, grouped, seen last first. Only where sightings.keep is on.",
            )
            .query::<ListQuery>()
            .gives::<SightingList>(StatusCode::OK)
            .refuses(&[503])
            .revalidated(),
        Operation::get("/api/sightings/{id}/picture", operator, "get_sighting_picture", picture)
            .about("A picture of a group, the best first.")
            .query::<PictureQuery>()
            .gives_bytes(&["image/jpeg"])
            .refuses(&[404, 503])
            .revalidated(),
        Operation::post("/api/sightings/name", Role::Operator, "name_sightings", name)
            .about("Enrols what was seen of one or several groups, and forgets the groups.")
            .takes::<NameGiven>()
            .gives::<NamedView>(StatusCode::CREATED)
            .refuses(&[404, 409, 422, 503]),
        Operation::post("/api/sightings/{id}/not", Role::Operator, "rule_out_sighting", is_not)
            .about(
                "Notes that a group is not this subject: a face nearer to it than to the subject no longer \
                 names the subject.",
            )
            .takes::<NotGiven>()
            .refuses(&[404, 422, 503]),
        Operation::post("/api/sightings/{id}/ignore", Role::Operator, "ignore_sighting", ignore)
            .about("Hides a group and what will be seen of it, or shows it again.")
            .takes::<IgnoreGiven>()
            .refuses(&[404, 503]),
        Operation::delete("/api/sightings/{id}", Role::Operator, "forget_sighting", forget)
            .about("Forgets a group.")
            .refuses(&[404, 503]),
    ]
}

/// Which groups.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The ignored ones; the others if not said.
    ignored: Option<bool>,
    /// The `next` of the answer before.
    after: Option<String>,
    /// Groups, 1 to 200; 50 if not said.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
}

/// Groups of unknown faces.
#[derive(Serialize, JsonSchema)]
struct SightingList {
    /// Whether unknown faces are kept at all.
    enabled: bool,
    groups: Vec<GroupView>,
    /// Asks for what follows.
    next: Option<String>,
}

/// A face nobody has named.
#[derive(Serialize, JsonSchema)]
struct GroupView {
    id: i64,
    /// Visits.
    count: u64,
    first_seen_at: i64,
    last_seen_at: i64,
    /// When it is forgotten if it is not seen again.
    expires_at: i64,
    /// The subject it is most like.
    closest: Option<LikenessView>,
    ignored: bool,
    /// Address of the best picture; `?n=1` and on are further ones.
    picture: String,
    /// How many pictures there are.
    pictures: u64,
}

/// A subject, and how like it.
#[derive(Serialize, JsonSchema)]
struct LikenessView {
    #[schemars(with = "String")]
    subject: SubjectId,
    name: String,
    score: f32,
}

impl From<Closest> for LikenessView {
    fn from(closest: Closest) -> Self {
        let Closest { subject, name, score } = closest;
        Self { subject, name: name.as_str().to_owned(), score: score.get() }
    }
}

impl From<&NamedLikeness> for LikenessView {
    fn from(alike: &NamedLikeness) -> Self {
        let (subject, score) = (alike.likeness.subject, alike.likeness.score);
        Self { subject, name: alike.name.as_str().to_owned(), score: score.get() }
    }
}

fn view((record, closest): (GroupRecord, Option<Closest>)) -> GroupView {
    GroupView {
        id: record.id.0,
        count: record.count,
        first_seen_at: record.first_seen_at.0,
        last_seen_at: record.last_seen_at.0,
        expires_at: record.expires_at.0,
        closest: closest.map(LikenessView::from),
        ignored: record.ignored,
        picture: format!("/api/sightings/{}/picture", record.id),
        pictures: record.pictures,
    }
}

fn cursor(text: &str) -> Option<GroupCursor> {
    let (at, id) = text.split_once('.')?;
    Some(GroupCursor { last_seen_at: UnixMillis(at.parse().ok()?), id: SightingGroupId(id.parse().ok()?) })
}

async fn list(
    State(site): State<Arc<Site>>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<SightingList>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid(format!("limit: a number from 1 to {MOST}")));
    }
    let after = query
        .after
        .as_deref()
        .map(|text| cursor(text).ok_or_else(|| Problem::invalid("after: the `next` of an answer before")));
    let ignored = query.ignored.unwrap_or(false);
    let page = site.store.list_sightings(ignored, after.transpose()?, limit as usize).await;
    let page = page.map_err(problem)?;
    Ok(Json(SightingList {
        enabled: page.enabled,
        groups: page.groups.into_iter().map(view).collect(),
        next: page.next.map(|next| format!("{}.{}", next.last_seen_at.0, next.id)),
    }))
}

/// Which picture.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PictureQuery {
    /// 0, the best, if not said.
    n: Option<u32>,
}

async fn picture(
    State(site): State<Arc<Site>>,
    Named(id): Named<i64>,
    Asked(query): Asked<PictureQuery>,
) -> Result<Response, Problem> {
    let jpeg = site.store.sighting_picture(SightingGroupId(id), query.n.unwrap_or(0)).await;
    let jpeg = jpeg.map_err(problem)?.ok_or_else(|| Problem::missing("picture"))?;
    Ok(([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

/// Who groups are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NameGiven {
    /// Which groups, at most fifty.
    groups: Vec<i64>,
    /// A name, new or known. This or `subject`.
    name: Option<String>,
    /// A subject that is known.
    #[schemars(with = "Option<String>")]
    subject: Option<SubjectId>,
    /// Also if they look like somebody else who is enrolled.
    #[serde(default)]
    accept_similar: bool,
}

/// What came of naming.
#[derive(Serialize, JsonSchema)]
struct NamedView {
    #[schemars(with = "String")]
    subject: SubjectId,
    /// Whether the subject is new.
    created: bool,
    /// Templates made.
    templates: usize,
    /// Pictures that were not taken.
    refused: usize,
    /// Pictures that add nothing.
    duplicates: usize,
    /// Others they look like.
    looks_like: Vec<LikenessView>,
}

async fn name(
    State(site): State<Arc<Site>>,
    Given(given): Given<NameGiven>,
) -> Result<(StatusCode, AuditDetail, Json<NamedView>), Problem> {
    let target = match (given.name, given.subject) {
        (Some(name), None) => {
            let name = SubjectName::new(&name).map_err(|why| Problem::unusable("name", why.to_string()))?;
            OrderTarget::Named(name)
        }
        (None, Some(subject)) => OrderTarget::Subject(subject),
        _ => return Err(Problem::invalid("either name or subject says who it is")),
    };
    if !(1..=MOST_NAMED).contains(&given.groups.len()) {
        return Err(Problem::invalid(format!("groups: from 1 to {MOST_NAMED} numbers of groups")));
    }
    let groups = given.groups.into_iter().map(SightingGroupId).collect();
    let done = site.store.name_sightings(groups, target, given.accept_similar).await.map_err(problem)?;
    let view = NamedView {
        subject: done.receipt.subject,
        created: done.receipt.created,
        templates: done.receipt.templates.len(),
        refused: done.refused.len(),
        duplicates: done.duplicates.len(),
        looks_like: done.looks_like.iter().map(LikenessView::from).collect(),
    };
    let detail = AuditDetail::new(format!("subject {}", done.receipt.subject));
    Ok((StatusCode::CREATED, detail, Json(view)))
}

/// Who a group is not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NotGiven {
    #[schemars(with = "String")]
    subject: SubjectId,
}

async fn is_not(
    State(site): State<Arc<Site>>,
    Named(id): Named<i64>,
    Given(given): Given<NotGiven>,
) -> Result<StatusCode, Problem> {
    let known = site.store.sighting_is_not(SightingGroupId(id), given.subject).await.map_err(problem)?;
    known.then_some(StatusCode::NO_CONTENT).ok_or_else(|| Problem::missing("group"))
}

/// Whether to hide a group.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IgnoreGiven {
    ignored: bool,
}

async fn ignore(
    State(site): State<Arc<Site>>,
    Named(id): Named<i64>,
    Given(given): Given<IgnoreGiven>,
) -> Result<StatusCode, Problem> {
    let known = site.store.ignore_sighting(SightingGroupId(id), given.ignored).await.map_err(problem)?;
    known.then_some(StatusCode::NO_CONTENT).ok_or_else(|| Problem::missing("group"))
}

async fn forget(State(site): State<Arc<Site>>, Named(id): Named<i64>) -> Result<StatusCode, Problem> {
    let erased = site.store.remove_sighting(SightingGroupId(id)).await.map_err(problem)?;
    (erased > 0).then_some(StatusCode::NO_CONTENT).ok_or_else(|| Problem::missing("group"))
}

fn problem(refusal: GalleryRefusal) -> Problem {
    match refusal {
        GalleryRefusal::Store(refusal) => refusal.into(),
        GalleryRefusal::Gallery(error) | GalleryRefusal::Enrolment(EnrolmentError::Gallery(error)) => {
            match error {
                GalleryError::SubjectUnknown => Problem::missing("subject"),
                GalleryError::NameTaken => Problem::conflict("name_taken", error.to_string()),
                other => Problem::failed("changing the gallery", &other),
            }
        }
        GalleryRefusal::Enrolment(EnrolmentError::LooksLike(others)) => {
            let text = "this looks like somebody who is enrolled already; send accept_similar if it is not";
            let others: Vec<_> = others.iter().map(LikenessView::from).collect();
            Problem::conflict("looks_like", text).with(json!({ "looks_like": others }))
        }
        GalleryRefusal::Enrolment(EnrolmentError::Refused(EnrolmentRefused::NoSamples)) => {
            Problem::missing("group")
        }
        GalleryRefusal::Enrolment(EnrolmentError::Refused(refused)) => {
            Problem::unusable("not_enrolled", refused.to_string())
        }
    }
}
