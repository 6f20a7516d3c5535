//! Enrolling: faces that were given as pictures become samples of a subject, or it is said why not.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{AuditDetail, Caller, Role, Scope, Who};
use super::faces::{FaceRef, FaceRules, LikenessView, problem_of, subject_id};
use super::operation::{Given, Operation};
use super::pictures::given;
use super::problem::Problem;
use super::site::Site;
use super::subjects::{SubjectView, group_ids, subject_name};
use crate::enrol::{
    EnrolmentCandidate, EnrolmentError, EnrolmentOrder, EnrolmentRefused, OrderTarget, RefusalReason,
    RefusedSample, UnusableSamples,
};
use crate::event_store::GalleryRefusal;
use crate::gallery::SampleQuality;

/// Many samples at once, behind other requests.
const ENROL_WITHIN: Duration = Duration::from_secs(30);

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/subjects/enrol", Role::Operator, "enrol", enrol)
            .about(
                "Makes templates of faces that were given as pictures, for a new subject or a known one. Where \
                 they look like somebody else who is enrolled, that has to be accepted.",
            )
            .scope(Scope::EditSubjects)
            .takes::<EnrolBody>()
            .gives::<EnrolledView>(StatusCode::CREATED)
            .refuses(&[404, 409, 422, 503])
            .within(ENROL_WITHIN),
    ]
}

/// Whom to enrol, and by which faces.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EnrolBody {
    /// Name of a subject, made where there is none. Either this or `subject`.
    #[schemars(length(max = 120))]
    name: Option<String>,
    /// Id of a known subject.
    subject: Option<String>,
    /// Faces of given pictures.
    #[schemars(length(min = 1, max = 256))]
    samples: Vec<FaceRef>,
    /// Enrol the usable ones and leave out the others.
    #[serde(default)]
    skip_unusable: bool,
    /// Enrol also where it looks like another subject.
    #[serde(default)]
    accept_similar: bool,
    #[schemars(length(max = 2000))]
    notes: Option<String>,
    /// Ids of groups.
    #[schemars(length(max = 200))]
    groups: Option<Vec<i64>>,
}

/// A face that was not enrolled.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct RefusedView {
    picture: String,
    face: usize,
    code: &'static str,
    message: String,
}

impl RefusedView {
    fn new(of: &FaceRef, code: &'static str, message: String) -> Self {
        Self { picture: of.picture.clone(), face: of.face, code, message }
    }
}

/// What an enrolment came to.
#[derive(Debug, Serialize, JsonSchema)]
struct EnrolledView {
    subject: SubjectView,
    /// The subject was made by this.
    created: bool,
    /// Templates made.
    templates: usize,
    /// Faces left out, and why.
    refused: Vec<RefusedView>,
    /// Faces left out because they were enrolled already.
    duplicates: usize,
    /// Other subjects it looks like.
    looks_like: Vec<LikenessView>,
}

async fn enrol(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(body): Given<EnrolBody>,
) -> Result<(StatusCode, AuditDetail, Json<EnrolledView>), Problem> {
    let rules = site.faces.rules();
    let target = match (&body.name, &body.subject) {
        (Some(name), None) => OrderTarget::Named(subject_name(name)?),
        (None, Some(id)) => OrderTarget::Subject(subject_id(id)?),
        _ => return Err(Problem::unusable("invalid", "give either `name` or `subject`")),
    };
    let most = rules.maximum_pictures;
    if body.samples.is_empty() {
        return Err(Problem::unusable("no_samples", "there is no face to enrol"));
    }
    if body.samples.len() > most {
        let text = format!("an enrolment has at most {most} samples (enrolment.maximum_pictures)");
        return Err(Problem::unusable("too_many", text));
    }
    let (candidates, mut refused) = candidates(&site, caller.who, &body.samples, &rules)?;
    if !refused.is_empty() && (candidates.is_empty() || !body.skip_unusable) {
        return Err(unusable(&refused, body.samples.len()));
    }
    if let OrderTarget::Subject(id) = &target {
        // Before anything is compared with somebody who is not there.
        site.store.subject(*id).await?;
    }
    let order = EnrolmentOrder {
        target,
        candidates,
        unusable: if body.skip_unusable { UnusableSamples::Skip } else { UnusableSamples::RefuseAll },
        accept_similar: body.accept_similar,
        notes: body.notes,
        groups: body.groups.map(group_ids).transpose()?,
    };
    let done = site.store.enrol(order).await.map_err(|refusal| match refusal {
        GalleryRefusal::Enrolment(error) => refused_enrolment(error, &body.samples),
        other => other.into(),
    })?;
    refused.extend(refusals(&done.refused, &body.samples));
    let details = site.store.subject(done.receipt.subject).await?;
    let usual_days = site.work.config.borrow().privacy.erase_unseen_days;
    let detail = AuditDetail::new(format!("subject {}", done.receipt.subject));
    let view = EnrolledView {
        subject: SubjectView::new(&details.subject, site.clock.wall(), usual_days),
        created: done.receipt.created,
        templates: done.receipt.templates.len(),
        refused,
        duplicates: done.duplicates.len(),
        looks_like: done.looks_like.iter().map(LikenessView::from).collect(),
    };
    Ok((StatusCode::CREATED, detail, Json(view)))
}

/// The faces as candidates, numbered as they were given, and those that are not usable by themselves.
fn candidates(
    site: &Site,
    owner: Who,
    samples: &[FaceRef],
    rules: &FaceRules,
) -> Result<(Vec<EnrolmentCandidate>, Vec<RefusedView>), Problem> {
    let (mut candidates, mut refused) = (Vec::new(), Vec::new());
    for (index, of) in samples.iter().enumerate() {
        let given = given(site, owner, of)?;
        let face = given.face();
        match (problem_of(face, rules.minimum_quality), &face.embedding, &face.quality) {
            (None, Some(embedding), Some(quality)) => candidates.push(EnrolmentCandidate {
                index,
                origin: given.origin(),
                quality: SampleQuality::from(quality),
                embedding: embedding.clone(),
                picture: given.sample_picture(),
            }),
            (Some(problem), ..) => refused.push(RefusedView::new(of, problem.code, problem.message)),
            (None, ..) => refused.push(RefusedView::new(of, "not_a_face", "this is no face".to_owned())),
        }
    }
    Ok((candidates, refused))
}

fn refusals(refused: &[RefusedSample], samples: &[FaceRef]) -> Vec<RefusedView> {
    let view = |sample: &RefusedSample| {
        let (code, message) = match &sample.reason {
            RefusalReason::DisagreesWithSamples { score, .. } => (
                "disagrees_with_samples",
                format!("it looks like somebody else than the other pictures (score {score})"),
            ),
            RefusalReason::DisagreesWithSubject { score } => (
                "disagrees_with_subject",
                format!("it does not look like this person's own samples (best score {score})"),
            ),
        };
        Some(RefusedView::new(samples.get(sample.index)?, code, message))
    };
    refused.iter().filter_map(view).collect()
}

fn unusable(refused: &[RefusedView], given: usize) -> Problem {
    let text = format!("nothing was enrolled: {} of {given} pictures cannot be used", refused.len());
    Problem::unusable("unusable", text).with(json!({ "refused": refused }))
}

/// Why nothing was enrolled; `samples` are what the numbers in the error refer to.
pub(super) fn refused_enrolment(error: EnrolmentError, samples: &[FaceRef]) -> Problem {
    match error {
        EnrolmentError::Gallery(error) => error.into(),
        EnrolmentError::LooksLike(looks_like) => {
            let looks_like: Vec<_> = looks_like.iter().map(LikenessView::from).collect();
            Problem::conflict(
                "looks_like",
                "nothing was enrolled yet: this looks like somebody who is enrolled; if it is somebody else, \
                 say so with `accept_similar`",
            )
            .with(json!({ "looks_like": looks_like }))
        }
        EnrolmentError::Refused(EnrolmentRefused::Unusable(refused)) => {
            unusable(&refusals(&refused, samples), samples.len())
        }
        EnrolmentError::Refused(EnrolmentRefused::Ambiguous(refused)) => Problem::unusable(
            "different_people",
            "nothing was enrolled: the pictures show different people, and none of them in most",
        )
        .with(json!({ "refused": refusals(&refused, samples) })),
        EnrolmentError::Refused(EnrolmentRefused::OnlyDuplicates(duplicates)) => {
            let all = duplicates.len();
            Problem::conflict("duplicates", format!("nothing to do: all {all} pictures are enrolled already"))
        }
        EnrolmentError::Refused(EnrolmentRefused::NoSamples) => {
            Problem::unusable("no_samples", "there is no face to enrol")
        }
        EnrolmentError::Refused(error @ EnrolmentRefused::TooManySamples { .. }) => {
            Problem::unusable("too_many", error.to_string())
        }
        EnrolmentError::Refused(EnrolmentRefused::Embedding(error)) => {
            Problem::failed("comparing the samples", &error)
        }
    }
}
