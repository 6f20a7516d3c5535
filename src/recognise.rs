//! Perception of one picture: which faces are in it, how usable each is, and its embedding.
//!
//! [`Perception`] owns the three networks and belongs to one thread. It neither follows faces over
//! frames nor knows anybody.

use thiserror::Error;

use crate::align::{AlignedFace, AlignmentTemplate};
use crate::config::Config;
use crate::detect::{DetectError, Detection, Detector};
use crate::embed::{EmbedError, Embedder};
use crate::embedding::{Embedding, EmbeddingSpaceId};
use crate::geometry::Point;
use crate::landmarks::{FivePoints, LandmarkFinder, Landmarks};
use crate::litert::Runtime;
use crate::models::{ModelError, ModelSet};
use crate::picture::{Picture, PictureError, Resampler};
use crate::quality::{Quality, QualityLimits, Unusable};

/// Why a picture could not be examined. None of these says anything about the faces in it.
#[derive(Debug, Error)]
pub enum PerceptionError {
    /// Detector or landmark network.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// Alignment.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Embedding network.
    #[error(transparent)]
    Embed(#[from] EmbedError),
}

/// A detected face after a closer look.
#[derive(Debug)]
pub struct FaceSample {
    /// Where the detector saw it.
    pub detection: Detection,
    /// What the landmark network and the crop tell; `None` when there is no face shape at all.
    pub shape: Option<FaceShape>,
    /// Whether an embedding of it is worth making.
    pub verdict: Result<(), Unusable>,
}

/// Landmarks, quality and the aligned crop of one face.
#[derive(Debug)]
pub struct FaceShape {
    /// All points.
    pub landmarks: Landmarks,
    /// The five for alignment.
    pub points: FivePoints,
    /// Measurements.
    pub quality: Quality,
    /// The crop for the embedder.
    pub aligned: AlignedFace,
}

/// The three networks with everything between them.
pub struct Perception {
    detector: Detector,
    landmark_finder: LandmarkFinder,
    embedder: Embedder,
    template: AlignmentTemplate,
    resampler: Resampler,
    limits: QualityLimits,
    /// Of the model manifest.
    default_minimum_score: f32,
}

impl Perception {
    /// Compiles the networks with the detection, quality and thread settings of `config`.
    pub fn new(models: &ModelSet, runtime: &Runtime, config: &Config) -> Result<Self, ModelError> {
        let threads = u8::try_from(config.litert.threads).expect("the configuration allows at most 8");
        let mut detector = Detector::new(models, runtime, threads)?;
        if let Some(minimum) = config.detection.minimum_score {
            detector.set_minimum_score(minimum);
        }
        let embedder = &models.manifest.embedder;
        Ok(Self {
            detector,
            landmark_finder: LandmarkFinder::new(models, runtime, threads)?,
            embedder: Embedder::new(models, runtime, threads)?,
            template: AlignmentTemplate::new(&embedder.alignment, embedder.input_side()),
            resampler: Resampler::default(),
            limits: QualityLimits::from(&config.quality),
            default_minimum_score: models.manifest.detector.decode.minimum_score,
        })
    }

    /// Finds and judges faces by these from now on; without a least detection score by the model's own.
    pub fn set_limits(&mut self, minimum_score: Option<f32>, limits: QualityLimits) {
        let minimum = minimum_score.unwrap_or(self.default_minimum_score);
        self.detector.set_minimum_score(minimum);
        self.limits = limits;
    }

    /// The space of the embeddings it makes.
    pub fn embedding_space(&self) -> &EmbeddingSpaceId {
        self.embedder.space()
    }

    /// Finds faces, best detection score first.
    pub fn detect(&mut self, picture: &Picture<'_>) -> Result<Vec<Detection>, PerceptionError> {
        Ok(self.detector.detect(picture, &mut self.resampler)?)
    }

    /// Looks closer at one detection: landmarks, quality, aligned crop.
    pub fn examine(
        &mut self,
        picture: &Picture<'_>,
        detection: &Detection,
    ) -> Result<FaceSample, PerceptionError> {
        let found = self.landmark_finder.find(picture, detection, &mut self.resampler)?;
        let detection = detection.clone();
        let no_face = |face_presence| Err(Unusable::NotAFace { face_presence });
        let Some(landmarks) = found else {
            return Ok(FaceSample { detection, shape: None, verdict: no_face(0.0) });
        };
        let points = landmarks.five_points();
        let Some(aligned) = self.template.align(picture, &points, &mut self.resampler)? else {
            return Ok(FaceSample { detection, shape: None, verdict: no_face(landmarks.face_presence) });
        };
        let quality = Quality::measure(&landmarks, &points, &aligned, &detection.bbox, picture.size());
        let verdict = quality.check(&self.limits);
        Ok(FaceSample { detection, shape: Some(FaceShape { landmarks, points, quality, aligned }), verdict })
    }

    /// Makes the embedding of one aligned face.
    pub fn embed(&mut self, face: &AlignedFace) -> Result<Embedding, PerceptionError> {
        Ok(self.embedder.embed(face)?)
    }

    /// Detects and examines every face of a still picture. What the landmark network takes for no
    /// face is left out; when nothing remains, the picture is searched once more for a face that
    /// fills it.
    pub fn examine_all(&mut self, picture: &Picture<'_>) -> Result<Vec<FaceSample>, PerceptionError> {
        let detections = self.detect(picture)?;
        let found = self.examine_each(picture, &detections)?;
        if !found.is_empty() {
            return Ok(found);
        }
        let detections = self.detector.detect_large(picture, &mut self.resampler)?;
        self.examine_each(picture, &detections)
    }

    /// Looks closer at each of `detections` and leaves out what the landmark network takes for no
    /// face.
    pub fn examine_each(
        &mut self,
        picture: &Picture<'_>,
        detections: &[Detection],
    ) -> Result<Vec<FaceSample>, PerceptionError> {
        let mut faces = Vec::with_capacity(detections.len());
        for detection in detections {
            let face = self.examine(picture, detection)?;
            if !matches!(face.verdict, Err(Unusable::NotAFace { .. })) {
                faces.push(face);
            }
        }
        Ok(faces)
    }

    /// The bare networks, for benchmarks.
    pub fn networks(&mut self) -> (&mut Detector, &mut LandmarkFinder, &mut Embedder) {
        (&mut self.detector, &mut self.landmark_finder, &mut self.embedder)
    }
}

impl From<&crate::config::Quality> for QualityLimits {
    fn from(settings: &crate::config::Quality) -> Self {
        Self {
            minimum_eye_distance_px: settings.minimum_eye_distance_px,
            maximum_yaw_deg: settings.maximum_yaw_deg,
            maximum_pitch_deg: settings.maximum_pitch_deg,
            maximum_roll_deg: settings.maximum_roll_deg,
            minimum_sharpness: settings.minimum_sharpness,
            minimum_exposure: settings.minimum_exposure,
            maximum_exposure: settings.maximum_exposure,
            minimum_face_presence: settings.minimum_face_presence,
        }
    }
}

/// The face that a portrait means: the one nearest the picture's centre, larger ones counting as
/// nearer.
pub fn nearest_the_centre(faces: Vec<FaceSample>, picture: &Picture<'_>) -> Option<FaceSample> {
    let size = picture.size();
    let centre = Point::new(size.width as f32 / 2.0, size.height as f32 / 2.0);
    let distance = |face: &FaceSample| {
        let bbox = &face.detection.bbox;
        bbox.centre().distance(centre) / bbox.width().max(1.0).sqrt()
    };
    faces.into_iter().min_by(|left, right| distance(left).total_cmp(&distance(right)))
}
