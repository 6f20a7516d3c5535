//! Still pictures on the admin page, and how the faces in them are told: shared by uploads, comparison,
//! and guided capture.

use std::sync::Arc;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::live::{BoxView, ReasonView};
use super::problem::Problem;
use super::socket::Places;
use super::tray::Tray;
use crate::clock::Clock;
use crate::config::Config;
use crate::decode::{DecodeError, MAX_STILL_BYTES};
use crate::embedding::Embedding;
use crate::enrol::NamedLikeness;
use crate::event_store::GalleryRefusal;
use crate::examiner::{ExamineError, ExaminedFace, Examiner};
use crate::gallery::{GalleryError, GallerySnapshot, SearchScratch, SubjectId};
use crate::models::Thresholds;
use crate::quality::{Quality, Unusable};
use crate::score::{ComparisonScore, QualityScore};

use axum::http::StatusCode;

/// Bytes of pictures that come in at a time, until they are examined: two of the largest. Part of the sum
/// in pixels/src/decode/need.rs.
const UPLOAD_BYTES: usize = 2 * MAX_STILL_BYTES;
/// Such pictures, however small they are.
const UPLOADS: usize = 4;
/// Browsers whose camera is looked at, at a time; a quarter of them of one user or token.
const STREAMS: usize = 16;

/// What handlers need for still pictures.
pub(crate) struct Faces {
    pub(super) examiner: Examiner,
    pub(super) tray: Tray,
    uploads: Semaphore,
    pub(super) streams: Places,
    rules: ArcSwap<FaceRules>,
}

/// The settings that decide about faces of still pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaceRules {
    pub(super) thresholds: Thresholds,
    /// Of samples.
    pub(super) minimum_quality: QualityScore,
    /// Of one enrolment.
    pub(super) maximum_pictures: usize,
    /// The device camera shows people as a mirror does.
    pub(super) mirrored: bool,
}

impl FaceRules {
    fn new(config: &Config, thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            minimum_quality: QualityScore::new(config.enrolment.minimum_quality),
            maximum_pictures: config.enrolment.maximum_pictures as usize,
            mirrored: config.camera.mirror,
        }
    }
}

impl Faces {
    pub(crate) fn new(
        examiner: Examiner,
        config: &Config,
        thresholds: Thresholds,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            examiner,
            tray: Tray::new(clock),
            uploads: Semaphore::new(UPLOAD_BYTES),
            streams: Places::new(STREAMS),
            rules: ArcSwap::from_pointee(FaceRules::new(config, thresholds)),
        }
    }

    /// Room for a picture that comes in, of so many bytes if that was announced.
    pub(super) fn room_for(&self, announced: Option<usize>) -> Result<SemaphorePermit<'_>, Problem> {
        let bytes = announced.unwrap_or(MAX_STILL_BYTES).clamp(UPLOAD_BYTES / UPLOADS, MAX_STILL_BYTES);
        self.uploads
            .try_acquire_many(bytes as u32)
            .map_err(|_| Problem::busy("too many pictures come in at once; try again in a moment"))
    }

    /// Goes on with other settings.
    pub(crate) fn configure(&self, config: &Config, thresholds: Thresholds) {
        self.examiner.configure(config);
        self.rules.store(Arc::new(FaceRules::new(config, thresholds)));
    }

    pub(super) fn rules(&self) -> FaceRules {
        **self.rules.load()
    }
}

/// Which face of which picture.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FaceRef {
    /// Id of a picture that was given.
    pub(super) picture: String,
    /// Number of the face in it.
    pub(super) face: usize,
}

/// What was measured of a face.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct QualityView {
    /// All of it in one number, 0 to 1.
    score: f32,
    eye_distance_px: f32,
    sharpness: f32,
    exposure: f32,
    yaw_deg: f32,
    pitch_deg: f32,
    roll_deg: f32,
}

impl From<&Quality> for QualityView {
    fn from(quality: &Quality) -> Self {
        Self {
            score: quality.score.get(),
            eye_distance_px: quality.eye_distance_px,
            sharpness: quality.sharpness,
            exposure: quality.exposure,
            yaw_deg: quality.yaw_deg,
            pitch_deg: quality.pitch_deg,
            roll_deg: quality.roll_deg,
        }
    }
}

/// A subject with a comparison score.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct LikenessView {
    /// Id of the subject.
    #[schemars(with = "String")]
    pub(super) subject: SubjectId,
    pub(super) name: String,
    /// Comparison score, -1 to 1.
    pub(super) score: f32,
}

impl From<&NamedLikeness> for LikenessView {
    fn from(like: &NamedLikeness) -> Self {
        let NamedLikeness { likeness, name } = like;
        Self { subject: likeness.subject, name: name.as_str().to_owned(), score: likeness.score.get() }
    }
}

/// A face of a picture.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct FaceView {
    /// Its number in the picture, left to right.
    pub(super) index: usize,
    /// Around it, pixels of the picture.
    pub(super) bbox: BoxView,
    /// How sure the detector is, 0 to 1.
    pub(super) detection_score: f32,
    pub(super) quality: Option<QualityView>,
    /// Fit for enrolment.
    pub(super) usable: bool,
    /// Why it is not.
    pub(super) problem: Option<ReasonView>,
    /// The enrolled subject it looks like, if any.
    pub(super) looks_like: Option<LikenessView>,
}

impl FaceView {
    pub(super) fn new(
        index: usize,
        face: &ExaminedFace,
        rules: &FaceRules,
        known: &GallerySnapshot,
        scratch: &mut SearchScratch,
    ) -> Self {
        let problem = problem_of(face, rules.minimum_quality);
        let conflict = ComparisonScore::new(rules.thresholds.conflict);
        let ranked = face.embedding.as_ref().map(|embedding| closest(known, embedding, 1, scratch));
        Self {
            index,
            bbox: (&face.detection.bbox).into(),
            detection_score: face.detection.score.get(),
            quality: face.quality.as_ref().map(QualityView::from),
            usable: problem.is_none(),
            problem,
            looks_like: ranked
                .and_then(|ranked| ranked.into_iter().next())
                .filter(|best| best.score >= conflict.get()),
        }
    }
}

/// The subjects most like an embedding, best first, whatever their scores.
pub(super) fn closest(
    known: &GallerySnapshot,
    embedding: &Embedding,
    count: usize,
    scratch: &mut SearchScratch,
) -> Vec<LikenessView> {
    // Only an embedding of another space cannot be searched for, and the examiner makes none.
    let ranked = known.search(embedding, count, scratch).unwrap_or_default();
    let named = ranked.into_iter().filter_map(|candidate| {
        let name = known.subject(candidate.subject)?.name.as_str().to_owned();
        Some(LikenessView { subject: candidate.subject, name, score: candidate.score.get() })
    });
    named.collect()
}

/// Why a face cannot be enrolled, and what to do about it.
pub(super) fn problem_of(face: &ExaminedFace, minimum: QualityScore) -> Option<ReasonView> {
    if let Err(unusable) = &face.verdict {
        return Some(ReasonView { code: unusable.code(), message: advice(unusable) });
    }
    let score = face.quality.map_or(QualityScore::MIN, |quality| quality.score);
    (score < minimum).then(|| ReasonView {
        code: "poor_quality",
        message: format!(
            "the quality score is {score}, and {minimum} is needed: take a sharper picture from nearer, in even \
             light"
        ),
    })
}

/// What is wrong with a face, and what to do, in words for whoever took the picture.
pub(super) fn advice(unusable: &Unusable) -> String {
    let what = match unusable {
        Unusable::NotAFace { .. } => return "this does not look like a face".to_owned(),
        Unusable::CutByFrame { .. } => "leave some room around the face",
        Unusable::TooFar { .. } => "take the picture from nearer, or give a larger one",
        Unusable::TurnedAway { .. } => "look towards the camera",
        Unusable::LookingUpOrDown { .. } => "hold the camera at the height of the eyes",
        Unusable::Tilted { .. } => "hold the head upright",
        Unusable::TooDark { .. } => "give the face more light",
        Unusable::TooBright { .. } => "give the face less light, and none from straight ahead",
        Unusable::Blurred { .. } => "hold still, and clean the lens",
    };
    format!("the face is {unusable}: {what}")
}

impl From<ExamineError> for Problem {
    fn from(error: ExamineError) -> Self {
        match error {
            ExamineError::Decode(error) => error.into(),
            ExamineError::Busy => Self::busy(error.to_string()),
            ExamineError::Ended => Self::busy("the program is ending"),
            ExamineError::Failed(reason) => Self::failed("examining the picture", &reason),
        }
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        let status = match &error {
            DecodeError::UnknownFormat => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            DecodeError::TooManyBytes { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<GalleryRefusal> for Problem {
    fn from(refusal: GalleryRefusal) -> Self {
        match refusal {
            GalleryRefusal::Store(refusal) => refusal.into(),
            GalleryRefusal::Gallery(error) => error.into(),
            GalleryRefusal::Enrolment(error) => super::enrolment::refused_enrolment(error, &[]),
        }
    }
}

impl From<GalleryError> for Problem {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::SubjectUnknown => Self::missing("subject"),
            GalleryError::SampleUnknown | GalleryError::TemplateUnknown => Self::missing("sample"),
            GalleryError::GroupUnknown => Self::missing("group"),
            GalleryError::CredentialUnknown => Self::missing("PIN or pass"),
            GalleryError::TooManyCredentials { .. } => Self::conflict("too_many", error.to_string()),
            GalleryError::NameTaken => Self::conflict("name_taken", error.to_string()),
            GalleryError::GroupTaken => Self::conflict("name_taken", error.to_string()),
            GalleryError::TooManyGroups { .. } => Self::conflict("too_many", error.to_string()),
            GalleryError::NotesTooLong { .. }
            | GalleryError::ConsentText
            | GalleryError::CredentialMixed
            | GalleryError::CredentialOfNobody
            | GalleryError::CredentialNeverValid
            | GalleryError::NoSamples
            | GalleryError::TooManySamples { .. } => Self::unusable("invalid", error.to_string()),
            GalleryError::Database(crate::database::DatabaseError::Busy { .. }) => {
                Self::busy("another process is writing to the gallery; try again")
            }
            GalleryError::OtherDimensions { .. }
            | GalleryError::NoRandomness(_)
            | GalleryError::Database(_)
            | GalleryError::Media(_)
            | GalleryError::State(_) => Self::failed("reading or writing the gallery", &error),
        }
    }
}

/// The id of a subject as a request names it.
pub(super) fn subject_id(text: &str) -> Result<SubjectId, Problem> {
    text.parse().map_err(|_| Problem::missing("subject"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::detect::Detection;
    use crate::embedding::EmbeddingSpaceId;
    use crate::geometry::{PixelBox, Point};
    use crate::score::DetectionScore;

    pub(in crate::admin) fn face(verdict: Result<(), Unusable>, score: f32) -> ExaminedFace {
        ExaminedFace {
            detection: Detection {
                bbox: PixelBox::new(10.0, 20.0, 110.0, 140.0),
                keypoints: [Point::new(0.0, 0.0); 6],
                score: DetectionScore::new(0.9),
            },
            quality: Some(Quality {
                score: QualityScore::new(score),
                eye_distance_px: 60.0,
                sharpness: 0.5,
                exposure: 120.0,
                yaw_deg: 0.0,
                pitch_deg: 0.0,
                roll_deg: 0.0,
                face_presence: 1.0,
                inside: 1.0,
            }),
            embedding: verdict
                .is_ok()
                .then(|| Embedding::normalised(vec![1.0, 0.0], EmbeddingSpaceId::new("test")).unwrap()),
            verdict,
        }
    }

    #[test]
    fn every_limit_is_told_with_what_was_found_and_what_to_do() {
        let all = [
            Unusable::CutByFrame { inside: 0.5 },
            Unusable::TooFar { eye_distance_px: 9.0, minimum_px: 24.0 },
            Unusable::TurnedAway { yaw_deg: 50.0 },
            Unusable::LookingUpOrDown { pitch_deg: 40.0 },
            Unusable::Tilted { roll_deg: 70.0 },
            Unusable::TooDark { exposure: 9.0 },
            Unusable::TooBright { exposure: 250.0 },
            Unusable::Blurred { sharpness: 0.01 },
        ];
        let mut told = std::collections::BTreeSet::new();
        for unusable in all {
            let problem = problem_of(&face(Err(unusable), 0.9), QualityScore::MIN).unwrap();
            assert_eq!(problem.code, unusable.code());
            assert!(problem.message.contains(": "), "{}", problem.message);
            told.insert(problem.message);
        }
        assert_eq!(told.len(), 8);
        assert_eq!(problem_of(&face(Ok(()), 0.5), QualityScore::new(0.4)), None);
        assert_eq!(problem_of(&face(Ok(()), 0.3), QualityScore::new(0.4)).unwrap().code, "poor_quality");
    }
}
