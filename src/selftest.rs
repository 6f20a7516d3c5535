//! The self-test: the real models on known faces, compiled into the program.
//!
//! It answers, on the board itself, whether this build, this runtime and these model files still
//! recognise: two pictures of one person match, two people do not, and an empty picture holds
//! nobody.

use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use crate::camera::scene;
use crate::frame::RgbImage;
use crate::picture::Picture;
use crate::recognise::{Perception, PerceptionError};
use crate::sample::{FaceChoice, Sample, SampleError};
use crate::score::{ComparisonScore, QualityScore};

/// Why the device cannot be trusted to recognise anybody.
#[derive(Debug, Error)]
pub enum SelftestError {
    /// A known portrait gave no sample.
    #[error("self-test: the known face was not usable: {0}")]
    Sample(#[from] SampleError),
    /// The networks failed.
    #[error("self-test: {0}")]
    Perception(#[from] PerceptionError),
    /// A score fell on the wrong side.
    #[error(
        "self-test: two pictures of {what} score {found}, which is on the wrong side of {threshold}; the models, the runtime library or the processor do not compute what they should"
    )]
    WrongScore {
        /// "the same person" or "different people".
        what: &'static str,
        /// Measured.
        found: ComparisonScore,
        /// The model's verification threshold.
        threshold: ComparisonScore,
    },
    /// A face where there is none.
    #[error("self-test: {0} faces were found in an empty picture")]
    GhostFaces(usize),
    /// The portraits compiled in are not what this test needs.
    #[error("self-test: the compiled-in portraits hold no subject with two pictures and another person")]
    NoPortraits,
}

/// What the self-test measured.
#[derive(Clone, Debug, Serialize)]
pub struct SelftestReport {
    /// Score of two pictures of one person.
    pub same_person: ComparisonScore,
    /// Score of two people.
    pub different_people: ComparisonScore,
    /// Threshold between the two.
    pub threshold: ComparisonScore,
    /// The last whole recognition, from JPEG bytes to embedding; the first ones warm up.
    #[serde(rename = "recognition_ms", serialize_with = "milliseconds")]
    pub recognition: Duration,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1e3)
}

/// Runs the self-test with the model's own verification threshold.
pub fn run(perception: &mut Perception, threshold: ComparisonScore) -> Result<SelftestReport, SelftestError> {
    let known = scene::people().iter().find(|person| person.pictures.len() >= 2);
    let known = known.ok_or(SelftestError::NoPortraits)?;
    let other = scene::people().iter().find(|person| person.name != known.name);
    let other = other.and_then(|person| person.pictures.first()).ok_or(SelftestError::NoPortraits)?;

    let empty = RgbImage::black(640, 480);
    let ghosts = perception.detect(&Picture::from(&empty))?.len();
    if ghosts > 0 {
        return Err(SelftestError::GhostFaces(ghosts));
    }
    let mut take = |picture: &[u8]| Sample::take(perception, picture, FaceChoice::Only, QualityScore::MIN);
    let (first, stranger) = (take(known.pictures[0])?, take(other)?);
    let start = Instant::now();
    let second = take(known.pictures[1])?;
    let recognition = start.elapsed();

    let compare = |left: &Sample, right: &Sample| {
        left.embedding.compare(&right.embedding).expect("one network made both")
    };
    let (same_person, different_people) = (compare(&first, &second), compare(&first, &stranger));
    if same_person < threshold {
        return Err(SelftestError::WrongScore { what: "the same person", found: same_person, threshold });
    }
    if different_people >= threshold {
        return Err(SelftestError::WrongScore {
            what: "different people",
            found: different_people,
            threshold,
        });
    }
    Ok(SelftestReport { same_person, different_people, threshold, recognition })
}
