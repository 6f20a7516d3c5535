//! From a still picture to a sample that can be enrolled or compared. Runs on the thread that owns
//! the [`Perception`].

use serde::Serialize;
use thiserror::Error;

use crate::decode::{DecodeError, still};
use crate::embedding::Embedding;
use crate::examiner::{CROP_SIDE, crop_around};
use crate::frame::RgbImage;
use crate::gallery::SampleQuality;
use crate::picture::Picture;
use crate::quality::{Quality, Unusable};
use crate::recognise::{FaceSample, FaceShape, Perception, PerceptionError};
use crate::score::QualityScore;

/// Which face of a picture is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaceChoice {
    /// There must be exactly one.
    Only,
    /// The one with the largest box.
    Largest,
}

/// Why a picture gives no sample.
#[derive(Debug, Error)]
pub enum SampleError {
    /// It is no picture.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Nobody in it.
    #[error(
        "no face was found; use a picture in which the face is upright and at least a tenth as wide as the picture"
    )]
    NoFace,
    /// Several people in it.
    #[error("{count} faces were found; crop the picture to one, or choose the largest face")]
    SeveralFaces {
        /// How many.
        count: usize,
    },
    /// The face breaks one of the configured limits.
    #[error("the face is {0}")]
    Unusable(Unusable),
    /// The face breaks no single limit but is poor all in all.
    #[error("the face's quality score is {found}, below {minimum}")]
    PoorQuality {
        /// Measured.
        found: QualityScore,
        /// Wanted.
        minimum: QualityScore,
    },
    /// The networks failed.
    #[error(transparent)]
    Perception(#[from] PerceptionError),
}

/// One face of a still picture, with its embedding.
#[derive(Debug)]
pub struct Sample {
    /// The face.
    pub shape: FaceShape,
    /// Its embedding.
    pub embedding: Embedding,
    /// A square around it, for [`SamplePicture`](crate::gallery::SamplePicture).
    pub crop: RgbImage,
}

impl Sample {
    /// Decodes `bytes` and takes the face that `choice` means. It must be usable and reach
    /// `minimum` quality.
    pub fn take(
        perception: &mut Perception,
        bytes: &[u8],
        choice: FaceChoice,
        minimum: QualityScore,
    ) -> Result<Self, SampleError> {
        Self::of_image(perception, &still(bytes)?, choice, minimum)
    }

    /// The same for a decoded picture.
    pub fn of_image(
        perception: &mut Perception,
        image: &RgbImage,
        choice: FaceChoice,
        minimum: QualityScore,
    ) -> Result<Self, SampleError> {
        let picture = Picture::from(image);
        let faces = perception.examine_all(&picture)?;
        let FaceSample { shape, verdict, detection } = choose(faces, choice)?;
        verdict.map_err(SampleError::Unusable)?;
        let shape = shape.expect("a usable sample has a shape");
        if shape.quality.score < minimum {
            return Err(SampleError::PoorQuality { found: shape.quality.score, minimum });
        }
        let embedding = perception.embed(&shape.aligned)?;
        Ok(Self { shape, embedding, crop: crop_around(image, &detection.bbox, CROP_SIDE) })
    }
}

fn choose(mut faces: Vec<FaceSample>, choice: FaceChoice) -> Result<FaceSample, SampleError> {
    faces.sort_by(|left, right| right.detection.bbox.area().total_cmp(&left.detection.bbox.area()));
    match (faces.len(), choice) {
        (0, _) => Err(SampleError::NoFace),
        (1, _) | (_, FaceChoice::Largest) => Ok(faces.swap_remove(0)),
        (count, FaceChoice::Only) => Err(SampleError::SeveralFaces { count }),
    }
}

impl From<&Quality> for SampleQuality {
    fn from(quality: &Quality) -> Self {
        Self {
            score: quality.score,
            eye_distance_px: quality.eye_distance_px,
            sharpness: quality.sharpness,
            yaw_deg: quality.yaw_deg,
            pitch_deg: quality.pitch_deg,
            roll_deg: quality.roll_deg,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detection;
    use crate::geometry::{PixelBox, Point};
    use crate::score::DetectionScore;

    /// A face of `side` pixels whose detection score grows as it gets smaller.
    fn face(side: f32) -> FaceSample {
        let detection = Detection {
            bbox: PixelBox::new(0.0, 0.0, side, side),
            keypoints: [Point::new(0.0, 0.0); 6],
            score: DetectionScore::new(1.0 / side),
        };
        FaceSample { detection, shape: None, verdict: Err(Unusable::TooDark { exposure: 1.0 }) }
    }

    fn chosen(sides: &[f32], choice: FaceChoice) -> Result<f32, SampleError> {
        let faces = sides.iter().map(|side| face(*side)).collect();
        choose(faces, choice).map(|face| face.detection.bbox.width())
    }

    #[test]
    fn only_face_is_taken_whatever_the_choice() {
        assert_eq!(chosen(&[20.0], FaceChoice::Only).unwrap(), 20.0);
        assert_eq!(chosen(&[20.0], FaceChoice::Largest).unwrap(), 20.0);
    }

    #[test]
    fn largest_face_is_by_area_and_not_by_detection_score() {
        assert_eq!(chosen(&[20.0, 90.0, 50.0], FaceChoice::Largest).unwrap(), 90.0);
    }

    #[test]
    fn several_faces_are_refused_with_their_number_unless_one_is_chosen() {
        let refused = chosen(&[20.0, 90.0, 50.0], FaceChoice::Only);
        assert!(matches!(refused, Err(SampleError::SeveralFaces { count: 3 })));
    }

    #[test]
    fn picture_without_faces_is_refused_whatever_the_choice() {
        for choice in [FaceChoice::Only, FaceChoice::Largest] {
            assert!(matches!(chosen(&[], choice), Err(SampleError::NoFace)));
        }
    }

    #[test]
    fn every_measurement_is_stored_under_its_own_name() {
        let quality = Quality {
            score: QualityScore::new(0.5),
            eye_distance_px: 1.0,
            sharpness: 2.0,
            exposure: 3.0,
            yaw_deg: 4.0,
            pitch_deg: 5.0,
            roll_deg: 6.0,
            face_presence: 7.0,
            inside: 8.0,
        };
        let stored = SampleQuality::from(&quality);
        assert_eq!(stored.score, quality.score);
        let rest = [stored.eye_distance_px, stored.sharpness, stored.yaw_deg, stored.pitch_deg];
        assert_eq!((rest, stored.roll_deg), ([1.0, 2.0, 4.0, 5.0], 6.0));
    }
}
