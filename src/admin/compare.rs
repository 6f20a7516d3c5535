//! Comparing: 1:1, 1:N, and the faces in front of a browser's camera, frame by frame. Nothing of it is
//! kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Access, Caller, Role, Scope};
use super::faces::{FaceRef, FaceRules, FaceView, LikenessView, advice, closest, subject_id};
use super::live::ReasonView;
use super::operation::{Asked, Given, Operation};
use super::pictures::{GivenFace, given};
use super::problem::Problem;
use super::site::Site;
use super::socket::{self, Gone, Peer};
use crate::decode::claim;
use crate::embedding::{Embedding, EmbeddingError};
use crate::examiner::{ExamineError, Examined, ExaminedFace, Urgency};
use crate::gallery::{GallerySnapshot, SearchScratch, SubjectId};
use crate::identify::{Ambiguous, Decision, IdentificationThresholds, Inconclusive, identify_ranked};
use crate::score::ComparisonScore;

/// Candidates that an identification tells.
const CANDIDATES: usize = 5;
/// A frame of a browser's camera: 1280x720 at a good quality has a fifth of this.
pub(super) const FRAME_BYTES: usize = 2 << 20;
/// The same in pixels: full HD and a little more. A JPEG of two megabytes could claim fifty.
const FRAME_PIXELS: u64 = 4_000_000;
/// Without a frame for this long a stream is ended: the page is hidden, or its camera is off.
pub(super) const STREAM_IDLE: Duration = Duration::from_secs(60);

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/verify", Role::Operator, "verify", verify)
            .about("Compares a face with a subject, or with another face (1:1).")
            .scope(Scope::Compare)
            .takes::<VerifyBody>()
            .gives::<VerifiedView>(StatusCode::OK)
            .refuses(&[404, 409, 422, 503]),
        Operation::post("/api/identify", Role::Operator, "identify", identify_face)
            .about("Says who a face is, or that it is nobody enrolled (1:N).")
            .scope(Scope::Compare)
            .takes::<FaceRef>()
            .gives::<IdentifiedView>(StatusCode::OK)
            .refuses(&[404, 503]),
        Operation::get("/api/compare/stream", Access::Role(Role::Operator), "compare_stream", stream)
            .about(
                "The camera of whoever asks: each binary message is a JPEG, each is answered with one text \
                 message before the next is sent.",
            )
            .scope(Scope::Compare)
            .query::<StreamQuery>()
            .gives_socket()
            .refuses(&[404, 409, 503]),
    ]
}

/// What to compare.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyBody {
    probe: FaceRef,
    /// Id of the claimed subject. Either this or `reference`.
    subject: Option<String>,
    /// Another face.
    reference: Option<FaceRef>,
}

/// What a comparison gave.
#[derive(Debug, Serialize, JsonSchema)]
struct VerifiedView {
    /// Comparison score, -1 to 1; null where a face has none to compare.
    score: Option<f32>,
    /// From this on it is a match.
    threshold: f32,
    /// `match`, `no_match` or `inconclusive`.
    decision: &'static str,
    /// What stood in the way of a better comparison.
    limits: Vec<ReasonView>,
}

async fn verify(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(body): Given<VerifyBody>,
) -> Result<Json<VerifiedView>, Problem> {
    let rules = site.faces.rules();
    let threshold = ComparisonScore::new(rules.thresholds.verification);
    let probe = given(&site, caller.who, &body.probe)?;
    let mut limits = limits_of(&probe, &rules);
    let score = match (&body.subject, &body.reference) {
        (Some(id), None) => {
            let id = subject_id(id)?;
            against(&site, id).await?;
            match &probe.face().embedding {
                Some(embedding) => site.store.gallery().current().compare_with(id, embedding),
                None => Ok(None),
            }
        }
        (None, Some(reference)) => {
            let reference = given(&site, caller.who, reference)?;
            limits.extend(limits_of(&reference, &rules).into_iter().map(|limit| ReasonView {
                message: format!("in the other picture {}", limit.message),
                ..limit
            }));
            match (&probe.face().embedding, &reference.face().embedding) {
                (Some(probe), Some(reference)) => probe.compare(reference).map(Some),
                _ => Ok(None),
            }
        }
        _ => return Err(Problem::unusable("invalid", "give either `subject` or `reference`")),
    };
    let score = score.map_err(|error: EmbeddingError| Problem::failed("comparing", &error))?;
    Ok(Json(VerifiedView {
        score: score.map(ComparisonScore::get),
        threshold: threshold.get(),
        decision: verified(score, threshold),
        limits,
    }))
}

/// The name of a subject that faces can be compared with now.
async fn against(site: &Site, id: SubjectId) -> Result<String, Problem> {
    let details = site.store.subject(id).await?;
    if site.store.gallery().current().templates_of(id).next().is_none() {
        return Err(Problem::conflict(
            "no_template",
            "there is nothing to compare with: this subject has expired, has no samples, or its templates were \
             made by another model",
        ));
    }
    Ok(details.subject.name.as_str().to_owned())
}

fn verified(score: Option<ComparisonScore>, threshold: ComparisonScore) -> &'static str {
    match score {
        None => "inconclusive",
        Some(score) if score >= threshold => "match",
        Some(_) => "no_match",
    }
}

/// What speaks against trusting a comparison with this face.
fn limits_of(given: &GivenFace, rules: &FaceRules) -> Vec<ReasonView> {
    super::faces::problem_of(given.face(), rules.minimum_quality).into_iter().collect()
}

/// What an identification gave.
#[derive(Debug, Serialize, JsonSchema)]
struct IdentifiedView {
    /// `match`, `no_match` or `inconclusive`.
    decision: &'static str,
    /// Id of the subject of a match.
    #[schemars(with = "Option<String>")]
    subject: Option<SubjectId>,
    /// The most alike, best first.
    candidates: Vec<LikenessView>,
    /// The best candidate has to reach this...
    threshold: f32,
    /// ... and to lead the second by this.
    margin: f32,
    /// By how much it leads; null where there is no second.
    lead: Option<f32>,
    /// What stood in the way of a better answer.
    limits: Vec<ReasonView>,
}

async fn identify_face(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Given(wanted): Given<FaceRef>,
) -> Result<Json<IdentifiedView>, Problem> {
    let rules = site.faces.rules();
    let given = given(&site, caller.who, &wanted)?;
    let mut limits = limits_of(&given, &rules);
    let gallery = Arc::clone(site.store.gallery());
    let work = tokio::task::spawn_blocking(move || {
        let (known, mut scratch) = (gallery.current(), SearchScratch::new());
        let told = tell(given.face(), None, &known, &rules, &mut scratch);
        let embedding = given.face().embedding.as_ref();
        let candidates = embedding.map(|embedding| closest(&known, embedding, CANDIDATES, &mut scratch));
        (told, candidates.unwrap_or_default())
    });
    let (told, candidates) = work.await.map_err(|error| Problem::failed("searching", &error))?;
    if let Some(Inconclusive::Ambiguous(Ambiguous { best, second })) = told.inconclusive {
        limits.push(ReasonView {
            code: "two_subjects_too_close",
            message: format!(
                "two subjects are too close to tell apart (scores {best} and {second}); see their samples"
            ),
        });
    }
    let lead = match candidates.as_slice() {
        [best, second, ..] => Some(best.score - second.score),
        _ => None,
    };
    Ok(Json(IdentifiedView {
        decision: told.decision,
        subject: told.subject,
        candidates,
        threshold: rules.thresholds.identification,
        margin: rules.thresholds.margin,
        lead,
        limits,
    }))
}

/// What one face means.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    decision: &'static str,
    subject: Option<SubjectId>,
    name: Option<String>,
    score: Option<f32>,
    inconclusive: Option<Inconclusive>,
}

/// Compares a face with the claimed subject, or with everybody.
fn tell(
    face: &ExaminedFace,
    claimed: Option<&(SubjectId, String)>,
    known: &GallerySnapshot,
    rules: &FaceRules,
    scratch: &mut SearchScratch,
) -> Told {
    let mut told =
        Told { decision: "inconclusive", subject: None, name: None, score: None, inconclusive: None };
    let Some(embedding) = &face.embedding else {
        told.inconclusive = face.verdict.err().map(Inconclusive::Sample);
        return told;
    };
    // Only an embedding of another space cannot be compared, and the examiner makes none.
    match claimed {
        Some((subject, name)) => {
            let score = known.compare_with(*subject, embedding).ok().flatten();
            told.decision = verified(score, ComparisonScore::new(rules.thresholds.verification));
            told.score = score.map(ComparisonScore::get);
            if told.decision == "match" {
                (told.subject, told.name) = (Some(*subject), Some(name.clone()));
            }
        }
        None => identified(embedding, known, rules, scratch, &mut told),
    }
    told
}

fn identified(
    embedding: &Embedding,
    known: &GallerySnapshot,
    rules: &FaceRules,
    scratch: &mut SearchScratch,
    told: &mut Told,
) {
    // As at the door: without those whom a counter example rules out.
    let ranked = known.rank(embedding, 2, scratch).unwrap_or_default();
    told.score = ranked.candidates.first().map(|best| best.score.get());
    match identify_ranked(&ranked, &IdentificationThresholds::from(&rules.thresholds)) {
        Decision::Match { candidate, .. } => {
            told.decision = "match";
            told.subject = Some(candidate.subject);
            told.name = known.subject(candidate.subject).map(|subject| subject.name.as_str().to_owned());
        }
        Decision::NoMatch { .. } => told.decision = "no_match",
        Decision::Inconclusive(reason) => told.inconclusive = Some(reason),
    }
}

/// Whom a stream is about.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    /// Id of the claimed subject; without one everybody is searched.
    subject: Option<String>,
}

/// A face of a frame and what it means.
#[derive(Serialize)]
struct StreamFace {
    #[serde(flatten)]
    face: FaceView,
    decision: &'static str,
    subject: Option<SubjectId>,
    name: Option<String>,
    score: Option<f32>,
}

/// The answer to one frame.
#[derive(Serialize)]
struct FrameAnswer {
    frame: u64,
    width: u32,
    height: u32,
    elapsed_ms: f32,
    faces: Vec<StreamFace>,
}

async fn stream(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Asked(asked): Asked<StreamQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let claimed = match asked.subject {
        Some(id) => {
            let id = subject_id(&id)?;
            Some((id, against(&site, id).await?))
        }
        None => None,
    };
    let here = Arc::clone(&site);
    socket::open_for(
        FRAME_BYTES,
        upgrade,
        &here.faces.streams,
        &here,
        (&caller, Role::Operator),
        move |mut peer| async move {
            // However it ends, there is nobody left to tell.
            let _ = compare_frames(&site, claimed, &mut peer).await;
            peer.close().await;
        },
    )
}

async fn compare_frames(
    site: &Arc<Site>,
    claimed: Option<(SubjectId, String)>,
    peer: &mut Peer,
) -> Result<(), Gone> {
    let claimed = Arc::new(claimed);
    let mut frame = 0;
    loop {
        let bytes = next_frame(peer).await?;
        let started = Instant::now();
        frame += 1;
        let examined = match examine(site, bytes).await {
            Ok(examined) => examined,
            Err(problem) => {
                say_problem(peer, problem).await?;
                continue;
            }
        };
        let (rules, gallery, claimed) =
            (site.faces.rules(), Arc::clone(site.store.gallery()), Arc::clone(&claimed));
        let size = examined.image.size();
        let work = tokio::task::spawn_blocking(move || {
            let (known, mut scratch) = (gallery.current(), SearchScratch::new());
            let faces = examined.faces.iter().enumerate();
            let faces = faces.map(|(at, face)| {
                let told = tell(face, claimed.as_ref().as_ref(), &known, &rules, &mut scratch);
                let mut view = FaceView::new(at, face, &rules, &known, &mut scratch);
                // For a comparison a face need not be fit for enrolment.
                view.usable = face.verdict.is_ok();
                view.problem = face
                    .verdict
                    .err()
                    .map(|unusable| ReasonView { code: unusable.code(), message: advice(&unusable) });
                let Told { decision, subject, name, score, .. } = told;
                StreamFace { face: view, decision, subject, name, score }
            });
            faces.collect()
        });
        let Ok(faces) = work.await else { return Err(Gone) };
        let answer = FrameAnswer {
            frame,
            width: size.width,
            height: size.height,
            elapsed_ms: started.elapsed().as_secs_f32() * 1e3,
            faces,
        };
        let text = serde_json::to_string(&answer).map_err(|_| Gone)?;
        peer.say(text).await?;
    }
}

/// The next frame of a browser's camera. Text is answered with what is expected, and so is silence.
pub(super) async fn next_frame(peer: &mut Peer) -> Result<Bytes, Gone> {
    loop {
        match tokio::time::timeout(STREAM_IDLE, peer.message()).await {
            Ok(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Ok(Ok(_)) => peer.say_problem("not_a_picture", "send a JPEG as a binary message").await?,
            Ok(Err(gone)) => return Err(gone),
            Err(_) => {
                peer.say_problem("idle", "no frame came for a minute; open the connection again").await?;
                return Err(Gone);
            }
        }
    }
}

/// Examines a frame, once its size is bearable.
pub(super) async fn examine(site: &Site, bytes: Bytes) -> Result<Examined, Problem> {
    let size = claim(&bytes).map_err(ExamineError::from)?.size;
    if u64::from(size.width) * u64::from(size.height) > FRAME_PIXELS {
        let text = format!("a frame of {size} is too large; send at most {FRAME_PIXELS} pixels");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
    }
    Ok(site.faces.examiner.examine(bytes.into(), Urgency::Interactive).await?)
}

/// Tells a problem in the form of every error.
pub(super) async fn say_problem(peer: &mut Peer, problem: Problem) -> Result<(), Gone> {
    let text = serde_json::to_string(&serde_json::json!({ "error": problem })).map_err(|_| Gone)?;
    peer.say(text).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::faces::tests::face;
    use crate::embedding::EmbeddingSpaceId;
    use crate::gallery::{GallerySubject, SnapshotBuilder, SubjectName, TemplateId};
    use crate::models::Thresholds;
    use crate::quality::Unusable;
    use crate::score::QualityScore;

    const RULES: fn() -> FaceRules = || FaceRules {
        thresholds: Thresholds { identification: 0.5, verification: 0.4, margin: 0.1, conflict: 0.5 },
        minimum_quality: QualityScore::new(0.4),
        maximum_pictures: 50,
        mirrored: false,
    };

    fn known(templates: &[[f32; 2]]) -> GallerySnapshot {
        let mut builder = SnapshotBuilder::new(EmbeddingSpaceId::new("test"));
        for (at, values) in templates.iter().enumerate() {
            let id = SubjectId::from_bytes([at as u8; 16]);
            let name = SubjectName::new(&format!("Person {at}")).unwrap();
            builder.subject(GallerySubject { id, name, announced: false }).unwrap();
            let embedding = Embedding::normalised(values.to_vec(), EmbeddingSpaceId::new("test")).unwrap();
            builder.template(TemplateId(at as i64), id, &embedding).unwrap();
        }
        builder.finish(None)
    }

    fn told(templates: &[[f32; 2]], claimed: Option<u8>) -> Told {
        let claimed = claimed.map(|at| (SubjectId::from_bytes([at; 16]), "Claimed".to_owned()));
        tell(&face(Ok(()), 0.9), claimed.as_ref(), &known(templates), &RULES(), &mut SearchScratch::new())
    }

    #[test]
    fn face_is_told_by_the_decision_about_everybody() {
        let matched = told(&[[1.0, 0.1], [0.0, 1.0]], None);
        assert_eq!((matched.decision, matched.name.as_deref()), ("match", Some("Person 0")));
        let stranger = told(&[[0.1, 1.0]], None);
        assert_eq!((stranger.decision, stranger.subject), ("no_match", None));
        assert!(stranger.score.unwrap() < 0.2);
        let twins = told(&[[1.0, 0.1], [1.0, 0.2]], None);
        assert_eq!((twins.decision, twins.name), ("inconclusive", None));
        assert!(matches!(twins.inconclusive, Some(Inconclusive::Ambiguous(_))));
        assert_eq!(told(&[], None).decision, "no_match");
    }

    #[test]
    fn claimed_subject_is_compared_and_nobody_else() {
        let other = told(&[[1.0, 0.0], [0.0, 1.0]], Some(1));
        assert_eq!((other.decision, other.name), ("no_match", None));
        let same = told(&[[1.0, 0.0], [0.0, 1.0]], Some(0));
        assert_eq!((same.decision, same.name.as_deref()), ("match", Some("Claimed")));
        assert_eq!(told(&[[1.0, 0.0]], Some(9)).decision, "inconclusive");
    }

    #[test]
    fn unusable_face_is_inconclusive_and_has_no_score() {
        let blurred = face(Err(Unusable::Blurred { sharpness: 0.01 }), 0.1);
        let told = tell(&blurred, None, &known(&[[1.0, 0.0]]), &RULES(), &mut SearchScratch::new());
        assert_eq!((told.decision, told.score), ("inconclusive", None));
        assert!(matches!(told.inconclusive, Some(Inconclusive::Sample(Unusable::Blurred { .. }))));
    }

    #[test]
    fn score_at_the_threshold_is_a_match() {
        let threshold = ComparisonScore::new(0.5);
        assert_eq!(verified(Some(threshold), threshold), "match");
        assert_eq!(verified(Some(ComparisonScore::new(0.5_f32.next_down())), threshold), "no_match");
        assert_eq!(verified(None, threshold), "inconclusive");
    }
}
