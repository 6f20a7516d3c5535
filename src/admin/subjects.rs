//! Subjects and their samples: the REST API. Everything is asked of the thread `store`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::access::{Access, Role, Scope};
use super::consent::ConsentView;
use super::faces::{LikenessView, subject_id};
use super::operation::{Asked, Given, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::assessment::{AssessmentThresholds, StoredSample, Worth, assess};
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::embedding::Embedding;
use crate::enrol::EnrolmentRules;
use crate::erasure::{Search, search};
use crate::event_store::{Erasure, SubjectDetails};
use crate::gallery::{
    EnrolledSubject, GallerySnapshot, GroupId, NameError, RemovalReceipt, SampleId, SampleQuality,
    SampleRecord, SubjectEdit, SubjectId, SubjectName, SubjectQuery, TemplateId, erased_unseen_at,
};
use crate::score::ComparisonScore;

const USUAL_LIMIT: usize = 50;
const MOST: usize = 200;
/// A search has at most this many bytes; longer than any name.
const LONGEST_SEARCH: usize = 2000;
/// The last millisecond of the year 9999: calendars of browsers go no further.
const LATEST_EXPIRY_MS: i64 = 253_402_300_799_999;
const MOST_UNSEEN_DAYS: u32 = 36_500;

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let viewer = Access::Role(Role::Viewer);
    vec![
        Operation::get("/api/subjects", viewer, "list_subjects", list)
            .about("Subjects in the order of their names.")
            .scope(Scope::ReadSubjects)
            .query::<ListQuery>()
            .gives::<SubjectList>(StatusCode::OK)
            .refuses(&[503])
            .revalidated(),
        Operation::get("/api/subjects/{id}", viewer, "show_subject", show)
            .about("One subject with its samples.")
            .scope(Scope::ReadSubjects)
            .gives::<SubjectDetailsView>(StatusCode::OK)
            .refuses(&[404, 503])
            .revalidated(),
        Operation::patch("/api/subjects/{id}", Role::Operator, "edit_subject", edit)
            .about("Changes a subject; what is not named stays as it is.")
            .scope(Scope::EditSubjects)
            .takes::<EditBody>()
            .gives::<SubjectDetailsView>(StatusCode::OK)
            .refuses(&[404, 409, 422, 503]),
        Operation::delete("/api/subjects/{id}", Role::Operator, "erase_subject", erase)
            .about(
                "Erases a subject with everything kept about it, also from the events; says what that was.",
            )
            .scope(Scope::EditSubjects)
            .gives::<ErasureView>(StatusCode::OK)
            .refuses(&[404, 503]),
        Operation::get("/api/subjects/{id}/quality", viewer, "assess_subject", quality)
            .about("What each sample of a subject does for recognition, and which stand in the way.")
            .scope(Scope::ReadSubjects)
            .gives::<AssessmentView>(StatusCode::OK)
            .refuses(&[404, 503]),
        Operation::delete("/api/samples/{id}", Role::Operator, "remove_sample", remove_sample)
            .about("Removes a sample with its templates and its picture.")
            .scope(Scope::EditSubjects)
            .gives::<RemovalView>(StatusCode::OK)
            .refuses(&[404, 503]),
        Operation::get("/api/samples/{id}/picture", viewer, "show_sample_picture", picture)
            .about("The picture of a sample, where pictures are kept.")
            .scope(Scope::ReadSubjects)
            .gives_bytes(&["image/jpeg"])
            .refuses(&[404, 503])
            .revalidated(),
    ]
}

/// Which subjects, and where to go on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// `next` of the part before.
    after: Option<String>,
    /// At most this many, 1 to 200.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// Beginnings of words of the name.
    #[schemars(length(max = 500))]
    search: Option<String>,
    /// Members of this group.
    group: Option<i64>,
}

/// A group that a subject is in.
#[derive(Debug, Serialize, JsonSchema)]
struct MembershipView {
    id: i64,
    name: String,
}

/// A subject.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SubjectView {
    #[schemars(with = "String")]
    id: SubjectId,
    name: String,
    notes: Option<String>,
    groups: Vec<MembershipView>,
    /// Milliseconds since 1970.
    created_at: i64,
    updated_at: i64,
    /// When it stops being recognised; never, if null.
    expires_at: Option<i64>,
    /// It has stopped being recognised.
    expired: bool,
    /// It has a sensor of its own in home automation.
    announced: bool,
    /// When it was last recognised, to some hours, or enrolled.
    last_seen_at: i64,
    /// Days after which it is erased if it was not seen; 0: it is kept for good; null: as is usual.
    keep_unseen_days: Option<u32>,
    /// When it is erased if it is not seen until then; never, if null.
    erased_unseen_at: Option<i64>,
    samples: u64,
    /// Address of a picture.
    picture: Option<String>,
}

impl SubjectView {
    /// `usual_days`: for how long subjects are kept unseen where nothing else is said of them.
    pub(super) fn new(subject: &EnrolledSubject, now: UnixMillis, usual_days: u32) -> Self {
        Self {
            id: subject.id,
            name: subject.name.as_str().to_owned(),
            notes: subject.notes.clone(),
            groups: subject
                .groups
                .iter()
                .map(|(id, name)| MembershipView { id: id.0, name: name.as_str().to_owned() })
                .collect(),
            created_at: subject.created_at.0,
            updated_at: subject.updated_at.0,
            expires_at: subject.expires_at.map(|at| at.0),
            expired: subject.expires_at.is_some_and(|at| at <= now),
            announced: subject.announced,
            last_seen_at: subject.last_seen_at.0,
            keep_unseen_days: subject.keep_unseen_days,
            erased_unseen_at: erased_unseen_at(subject.last_seen_at, subject.keep_unseen_days, usual_days)
                .map(|at| at.0),
            samples: subject.samples,
            picture: subject.picture.map(picture_path),
        }
    }
}

fn picture_path(sample: SampleId) -> String {
    format!("/api/samples/{}/picture", sample.0)
}

/// A part of the list.
#[derive(Debug, Serialize, JsonSchema)]
struct SubjectList {
    subjects: Vec<SubjectView>,
    /// For `after`; null at the end.
    next: Option<String>,
    /// How many there are in all of this search or group.
    total: u64,
}

/// A sample of a subject.
#[derive(Debug, Serialize, JsonSchema)]
struct SampleView {
    id: i64,
    /// `file`: a picture that was given; `camera`: a frame of the device's camera.
    origin: &'static str,
    /// Quality score, 0 to 1.
    quality: f32,
    eye_distance_px: f32,
    sharpness: f32,
    yaw_deg: f32,
    pitch_deg: f32,
    roll_deg: f32,
    enrolled_at: i64,
    /// Address of its picture.
    picture: Option<String>,
}

impl From<&SampleRecord> for SampleView {
    fn from(record: &SampleRecord) -> Self {
        let SampleQuality { score, eye_distance_px, sharpness, yaw_deg, pitch_deg, roll_deg } =
            record.quality;
        Self {
            id: record.id.0,
            origin: record.origin.as_str(),
            quality: score.get(),
            eye_distance_px,
            sharpness,
            yaw_deg,
            pitch_deg,
            roll_deg,
            enrolled_at: record.enrolled_at.0,
            picture: record.picture.then(|| picture_path(record.id)),
        }
    }
}

/// A subject with its samples.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SubjectDetailsView {
    #[serde(flatten)]
    subject: SubjectView,
    /// Oldest first.
    samples_list: Vec<SampleView>,
    /// Faces noted not to be this subject: whoever is more like one of them is not taken for it.
    counter_examples: u64,
    /// What it agreed to; null: nothing is recorded.
    consent: Option<ConsentView>,
    /// Version of the text that people are shown now.
    consent_text_version: String,
}

impl SubjectDetailsView {
    pub(super) fn new(details: &SubjectDetails, now: UnixMillis, config: &Config) -> Self {
        // A sample has a template for each model it was seen by.
        let mut samples_list: Vec<SampleView> = details.samples.iter().map(SampleView::from).collect();
        samples_list.sort_by_key(|sample| sample.id);
        samples_list.dedup_by_key(|sample| sample.id);
        Self {
            subject: SubjectView::new(&details.subject, now, config.privacy.erase_unseen_days),
            samples_list,
            counter_examples: details.counter_examples,
            consent: details.consent.as_ref().map(ConsentView::from),
            consent_text_version: config.privacy.consent_text_version.clone(),
        }
    }
}

async fn list(
    State(site): State<Arc<Site>>,
    Asked(asked): Asked<ListQuery>,
) -> Result<Json<SubjectList>, Problem> {
    let ListQuery { after, limit, search, group } = asked;
    let limit = limit.map_or(USUAL_LIMIT, |limit| limit as usize);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid(format!("`limit` is 1 to {MOST}")));
    }
    if search.as_ref().is_some_and(|text| text.len() > LONGEST_SEARCH) {
        return Err(Problem::invalid("`search` is longer than any name"));
    }
    let query = SubjectQuery { after, search, group: group.map(GroupId), limit };
    let page = site.store.list_subjects(query).await?;
    let now = site.clock.wall();
    let usual_days = site.work.config.borrow().privacy.erase_unseen_days;
    let view = |subject| SubjectView::new(subject, now, usual_days);
    Ok(Json(SubjectList {
        subjects: page.subjects.iter().map(view).collect(),
        next: page.next,
        total: page.total.unwrap_or_default(),
    }))
}

pub(super) fn details_view(site: &Site, details: &SubjectDetails) -> SubjectDetailsView {
    SubjectDetailsView::new(details, site.clock.wall(), &site.work.config.borrow())
}

async fn show(
    State(site): State<Arc<Site>>,
    Named(id): Named<String>,
) -> Result<Json<SubjectDetailsView>, Problem> {
    let details = site.store.subject(subject_id(&id)?).await?;
    Ok(Json(details_view(&site, &details)))
}

/// Tells `null` from what is not there at all.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(given: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(given).map(Some)
}

/// What to change about a subject.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EditBody {
    #[schemars(length(max = 120))]
    name: Option<String>,
    /// Null removes the note.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>", length(max = 2000))]
    notes: Option<Option<String>>,
    /// Ids of the groups it is in from now on.
    #[schemars(length(max = 200))]
    groups: Option<Vec<i64>>,
    /// Milliseconds since 1970; null: never.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<i64>", range(min = 0, max = 253402300799999_i64))]
    expires_at: Option<Option<i64>>,
    announced: Option<bool>,
    /// Days after which it is erased if it was not seen; 0: it is kept for good; null: as is usual.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<u32>", range(max = 36500))]
    keep_unseen_days: Option<Option<u32>>,
}

async fn edit(
    State(site): State<Arc<Site>>,
    Named(id): Named<String>,
    Given(body): Given<EditBody>,
) -> Result<Json<SubjectDetailsView>, Problem> {
    let id = subject_id(&id)?;
    let edit = SubjectEdit {
        name: body.name.as_deref().map(subject_name).transpose()?,
        notes: body.notes.map(Option::unwrap_or_default),
        groups: body.groups.map(group_ids).transpose()?,
        expires_at: body.expires_at.map(|at| at.map(expiry).transpose()).transpose()?,
        announced: body.announced,
        keep_unseen_days: body.keep_unseen_days.map(|days| days.map(unseen_days).transpose()).transpose()?,
    };
    let details = site.store.edit_subject(id, edit).await?;
    Ok(Json(details_view(&site, &details)))
}

fn unseen_days(days: u32) -> Result<u32, Problem> {
    if days <= MOST_UNSEEN_DAYS {
        return Ok(days);
    }
    let text = format!("`keep_unseen_days` is 0 to {MOST_UNSEEN_DAYS}, or null for what is usual");
    Err(Problem::unusable("keep_unseen_days", text))
}

fn expiry(at: i64) -> Result<UnixMillis, Problem> {
    if (0..=LATEST_EXPIRY_MS).contains(&at) {
        return Ok(UnixMillis(at));
    }
    let text = "`expires_at` is a time from 1970 to the end of the year 9999, in milliseconds since 1970; for \
                good is null";
    Err(Problem::unusable("expires_at", text))
}

pub(super) fn subject_name(text: &str) -> Result<SubjectName, Problem> {
    SubjectName::new(text).map_err(bad_name)
}

pub(super) fn bad_name(error: NameError) -> Problem {
    Problem::unusable("name", error.to_string())
}

pub(super) fn group_ids(ids: Vec<i64>) -> Result<Vec<GroupId>, Problem> {
    if ids.len() > MOST {
        return Err(Problem::unusable("invalid", format!("a subject is in at most {MOST} groups")));
    }
    Ok(ids.into_iter().map(GroupId).collect())
}

/// What was erased.
#[derive(Debug, Serialize, JsonSchema)]
struct ErasureView {
    subjects: u64,
    samples: u64,
    templates: u64,
    pictures: u64,
    /// Events in which the subject was named, and is not any more.
    events: u64,
    /// Unknown faces that may have been theirs.
    sightings: u64,
    /// Whether nothing of it is left in the database's log either. If not, another program was reading;
    /// it goes when that lets go.
    log_emptied: bool,
    /// Picture files that could not be taken away; nobody can read them, and they go at the next start.
    files_left: u64,
    /// What looking everywhere for the subject afterwards came to.
    search: Search,
}

async fn erase(
    State(site): State<Arc<Site>>,
    Named(id): Named<String>,
) -> Result<Json<ErasureView>, Problem> {
    let subject = subject_id(&id)?;
    let Erasure { gallery, events, sightings, traces } = site.store.erase_subject(subject).await?;
    site.work.jobs.forget(subject);
    let (state, ring) = (site.work.state.clone(), site.work.rekey.ring.clone());
    let search = tokio::task::spawn_blocking(move || search(&state, &ring.now(), &traces));
    let search = search.await.map_err(|error| Problem::failed("looking for what is left", &error))?;
    let RemovalReceipt { subjects, samples, templates, pictures, log_emptied, files_left } = gallery;
    Ok(Json(ErasureView {
        subjects,
        samples,
        templates,
        pictures,
        events,
        sightings,
        log_emptied,
        files_left,
        search,
    }))
}

/// What was removed.
#[derive(Debug, Serialize, JsonSchema)]
struct RemovalView {
    samples: u64,
    templates: u64,
    pictures: u64,
    log_emptied: bool,
}

async fn remove_sample(
    State(site): State<Arc<Site>>,
    Named(id): Named<i64>,
) -> Result<Json<RemovalView>, Problem> {
    let RemovalReceipt { samples, templates, pictures, log_emptied, .. } =
        site.store.remove_sample(SampleId(id)).await?;
    Ok(Json(RemovalView { samples, templates, pictures, log_emptied }))
}

async fn picture(State(site): State<Arc<Site>>, Named(id): Named<i64>) -> Result<Response, Problem> {
    let jpeg = site.store.sample_picture(SampleId(id)).await?.ok_or_else(|| Problem::missing("picture"))?;
    Ok(([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response())
}

/// What a sample does for recognition.
#[derive(Debug, Serialize, JsonSchema)]
struct AssessedView {
    id: i64,
    /// Mean comparison score with the subject's other samples.
    own_score: Option<f32>,
    /// `helps`, `weak`, `disagrees` or `conflicts`.
    verdict: &'static str,
    /// What to do about it.
    advice: String,
    /// Other subjects it looks like.
    conflicts: Vec<LikenessView>,
}

/// All samples of a subject.
#[derive(Debug, Serialize, JsonSchema)]
struct AssessmentView {
    samples: Vec<AssessedView>,
    /// The subjects most like this one.
    closest: Vec<LikenessView>,
    /// From this score on somebody looks like somebody else.
    threshold: f32,
}

async fn quality(
    State(site): State<Arc<Site>>,
    Named(id): Named<String>,
) -> Result<Json<AssessmentView>, Problem> {
    let id = subject_id(&id)?;
    let details = site.store.subject(id).await?;
    let (gallery, thresholds) = (Arc::clone(site.store.gallery()), site.faces.rules().thresholds);
    // Each sample is searched for among everybody.
    let work = tokio::task::spawn_blocking(move || {
        let known = gallery.current();
        let samples = stored(&details, &known);
        let thresholds = AssessmentThresholds {
            agreement: EnrolmentRules::agreement(&thresholds),
            identification: ComparisonScore::new(thresholds.identification),
            conflict: ComparisonScore::new(thresholds.conflict),
        };
        let assessment = assess(id, &samples, &known, &thresholds)?;
        let named = |(subject, score): &(SubjectId, ComparisonScore)| {
            let name = known.subject(*subject)?.name.as_str().to_owned();
            Some(LikenessView { subject: *subject, name, score: score.get() })
        };
        let samples = assessment.samples.iter().map(|sample| AssessedView {
            id: sample.id.0,
            own_score: sample.own_score.map(ComparisonScore::get),
            verdict: match sample.worth {
                Worth::Helps => "helps",
                Worth::Weak => "weak",
                Worth::Disagrees => "disagrees",
                Worth::Conflicts => "conflicts",
            },
            advice: sample.advice.clone(),
            conflicts: sample.conflicts.iter().filter_map(named).collect(),
        });
        Ok::<_, crate::embedding::EmbeddingError>(AssessmentView {
            samples: samples.collect(),
            closest: assessment.closest.iter().filter_map(named).collect(),
            threshold: thresholds.conflict.get(),
        })
    });
    let view = work.await.map_err(|error| Problem::failed("assessing the samples", &error))?;
    view.map(Json).map_err(|error| Problem::failed("assessing the samples", &error))
}

/// The samples with the templates that are searched now.
fn stored(details: &SubjectDetails, known: &GallerySnapshot) -> Vec<StoredSample> {
    let searched: std::collections::HashMap<TemplateId, &[f32]> =
        known.templates_of(details.subject.id).collect();
    let mut samples: Vec<StoredSample> = Vec::new();
    for record in &details.samples {
        let values = searched.get(&record.template);
        let embedding =
            values.and_then(|values| Embedding::from_unit(values.to_vec(), known.space().clone()).ok());
        match samples.iter_mut().find(|sample| sample.id == record.id) {
            Some(sample) => sample.embedding = sample.embedding.take().or(embedding),
            None => samples.push(StoredSample { id: record.id, quality: record.quality.score, embedding }),
        }
    }
    samples
}
