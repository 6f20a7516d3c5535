//! Measures how well the whole chain recognises people, on a folder of photographs with lists of
//! what to compare.
//!
//! Each image goes the way a picture given for enrolment goes, from its bytes to its embedding; the
//! face meant is the one nearest the centre. The quality limits refuse nothing here, so that every
//! listed case counts; how many images they would have refused is reported beside the rates. An
//! image without a face is an error in every case that it takes part in.
//!
//! Runs on threads of its own, each with its own networks; the result does not depend on how many.

pub mod distance;
pub mod metrics;
pub mod protocol;
mod report;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use thiserror::Error;

use crate::align::AlignmentTemplate;
use crate::config::Config;
use crate::decode::{self, MAX_STILL_BYTES};
use crate::embedding::{Embedding, EmbeddingError};
use crate::gallery::{
    GallerySnapshot, GallerySubject, SearchScratch, SnapshotBuilder, SnapshotError, SubjectId, SubjectName,
    TemplateId,
};
use crate::geometry::Point;
use crate::identify::{Decision, IdentificationThresholds, identify};
use crate::landmarks::FivePoints;
use crate::litert::Runtime;
use crate::models::{ModelError, ModelSet};
use crate::picture::{Picture, PictureError, Resampler};
use crate::recognise::{Perception, PerceptionError, nearest_the_centre};
use crate::score::ComparisonScore;

use metrics::{MatedSearch, Scored, Share, equal_error_rate, fold_accuracy, open_set, operating_point};
use protocol::{ImageIndex, Protocol, ProtocolError};
pub use report::{
    Acquisition, AllPairs, EvalReport, Identification, ModelsUsed, ShippedThresholds, Verification,
};

/// False match rates at which the true match rate is reported.
const FALSE_MATCH_RATES: [f64; 3] = [1e-3, 1e-4, 1e-5];
/// False positive identification rate at which the miss rate is reported.
const FALSE_POSITIVE_RATE: f64 = 0.01;

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The lists.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A listed image is not there, or far too large.
    #[error("cannot read the listed image {path}: {reason}")]
    Image {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        reason: String,
    },
    /// The networks.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A network failed while running.
    #[error(transparent)]
    Perception(#[from] PerceptionError),
    /// A crop could not be cut.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Two embeddings could not be compared.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The gallery could not be built.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct EvalOptions {
    /// Threads that work at a time, at least one.
    pub workers: usize,
    /// Pixels of the aligned crop by which the five points are displaced to the right and down
    /// before alignment. Zero, except as a control that must lower the rates.
    pub displaced_px: f32,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self { workers: 2, displaced_px: 0.0 }
    }
}

/// Images done, of all images.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Measures verification and open-set identification over the lists in `folder`.
pub fn evaluate(
    folder: &Path,
    models: &ModelSet,
    runtime: &Runtime,
    config: &Config,
    options: &EvalOptions,
    progress: Progress<'_>,
) -> Result<EvalReport, EvalError> {
    let start = Instant::now();
    let protocol = Protocol::read(folder)?;
    let setup = Setup { folder, models, runtime, config, options };
    let samples = setup.samples(&protocol, progress)?;
    let thresholds = IdentificationThresholds::in_force(config, models);
    let embeddings: Vec<_> = samples.iter().map(|sample| sample.embedding.as_ref().ok()).collect();
    let (genuine, impostor) = all_pairs(&protocol, &embeddings)?;
    Ok(EvalReport {
        models: ModelsUsed::of(models),
        acquisition: acquisition(&samples),
        verification: verification(&protocol, &embeddings)?,
        all_pairs: AllPairs {
            points: FALSE_MATCH_RATES
                .iter()
                .filter_map(|fmr| operating_point(&genuine, &impostor, *fmr))
                .collect(),
            equal_error: equal_error_rate(&genuine, &impostor),
        },
        identification: identification(&protocol, &embeddings, models, thresholds)?,
        elapsed: start.elapsed(),
    })
}

/// Why an image has no embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Damaged,
    NoFace,
    NoFaceShape,
    NoEmbedding,
}

impl Failure {
    fn code(self) -> &'static str {
        match self {
            Self::Damaged => "damaged_picture",
            Self::NoFace => "no_face",
            Self::NoFaceShape => "no_face_shape",
            Self::NoEmbedding => "no_embedding",
        }
    }
}

struct Sample {
    embedding: Result<Embedding, Failure>,
    /// What the quality limits would have said.
    refused: Option<&'static str>,
}

struct Setup<'a> {
    folder: &'a Path,
    models: &'a ModelSet,
    runtime: &'a Runtime,
    config: &'a Config,
    options: &'a EvalOptions,
}

impl Setup<'_> {
    /// One sample for each image, in the protocol's order.
    fn samples(&self, protocol: &Protocol, progress: Progress<'_>) -> Result<Vec<Sample>, EvalError> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || -> Result<Vec<(ImageIndex, Sample)>, EvalError> {
            let mut worker = Worker::new(self)?;
            let mut made = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(path) = protocol.images.get(index) else { return Ok(made) };
                // The others stop too: there is no result without every image.
                let sample = worker.sample(&self.folder.join(path)).inspect_err(|_| {
                    next.store(protocol.images.len(), Ordering::Relaxed);
                })?;
                made.push((index, sample));
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, protocol.images.len());
            }
        };
        let mut samples = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.options.workers.max(1)).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for worker in workers {
                let made = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all.extend(made?);
            }
            Ok::<_, EvalError>(all)
        })?;
        samples.sort_unstable_by_key(|(index, _)| *index);
        assert_eq!(samples.len(), protocol.images.len(), "every image gives one sample");
        Ok(samples.into_iter().map(|(_, sample)| sample).collect())
    }
}

struct Worker {
    perception: Perception,
    template: AlignmentTemplate,
    resampler: Resampler,
    displaced_px: f32,
}

impl Worker {
    fn new(setup: &Setup<'_>) -> Result<Self, EvalError> {
        let embedder = &setup.models.manifest.embedder;
        Ok(Self {
            perception: Perception::new(setup.models, setup.runtime, setup.config)?,
            template: AlignmentTemplate::new(&embedder.alignment, embedder.input_side()),
            resampler: Resampler::default(),
            displaced_px: setup.options.displaced_px,
        })
    }

    fn sample(&mut self, path: &Path) -> Result<Sample, EvalError> {
        let without = |failure| Ok(Sample { embedding: Err(failure), refused: None });
        let Ok(image) = decode::still(&read_image(path)?) else { return without(Failure::Damaged) };
        let picture = Picture::from(&image);
        let faces = self.perception.examine_all(&picture)?;
        let Some(face) = nearest_the_centre(faces, &picture) else { return without(Failure::NoFace) };
        let Some(mut shape) = face.shape else { return without(Failure::NoFaceShape) };
        if self.displaced_px != 0.0 {
            let displaced = self.displaced(&shape.points);
            let cut = displaced.map(|points| self.template.align(&picture, &points, &mut self.resampler));
            let Some(aligned) = cut.transpose()?.flatten() else { return without(Failure::NoFaceShape) };
            shape.aligned = aligned;
        }
        let embedding = match self.perception.embed(&shape.aligned) {
            Ok(embedding) => Ok(embedding),
            Err(PerceptionError::Embed(crate::embed::EmbedError::Embedding(_))) => Err(Failure::NoEmbedding),
            Err(error) => return Err(error.into()),
        };
        Ok(Sample { embedding, refused: face.verdict.err().map(|unusable| unusable.code()) })
    }

    /// The points, moved by a distance that is measured in the aligned crop.
    fn displaced(&self, points: &FivePoints) -> Option<FivePoints> {
        let by = self.displaced_px / self.template.transform(points)?.scale();
        let [eye_image_left, eye_image_right, nose_tip, mouth_image_left, mouth_image_right] =
            points.as_array().map(|point| Point::new(point.x + by, point.y + by));
        Some(FivePoints { eye_image_left, eye_image_right, nose_tip, mouth_image_left, mouth_image_right })
    }
}

fn read_image(path: &Path) -> Result<Vec<u8>, EvalError> {
    let unreadable = |reason: String| EvalError::Image { path: path.into(), reason };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_STILL_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() > MAX_STILL_BYTES {
        return Err(unreadable(format!("it has more than {MAX_STILL_BYTES} bytes")));
    }
    Ok(bytes)
}

fn acquisition(samples: &[Sample]) -> Acquisition {
    let mut failures = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for sample in samples {
        if let Err(failure) = &sample.embedding {
            *failures.entry(failure.code()).or_insert(0) += 1;
        }
        if let Some(reason) = sample.refused {
            *refused.entry(reason).or_insert(0) += 1;
        }
    }
    Acquisition {
        failed: Share::count(samples, |sample| sample.embedding.is_err()),
        failures,
        below_quality_limits: Share::count(samples, |sample| sample.refused.is_some()),
        limits: refused,
    }
}

fn compare(left: Option<&Embedding>, right: Option<&Embedding>) -> Result<Option<f32>, EmbeddingError> {
    let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
    Ok(Some(left.compare(right)?.get()))
}

fn verification(protocol: &Protocol, embeddings: &[Option<&Embedding>]) -> Result<Verification, EvalError> {
    let mut scored = Vec::with_capacity(protocol.pairs.len());
    for pair in &protocol.pairs {
        let score = compare(embeddings[pair.left], embeddings[pair.right])?;
        scored.push(Scored { score, same: pair.same, fold: pair.fold });
    }
    let of_kind = |same: bool| -> Vec<Option<f32>> {
        scored.iter().filter(|pair| pair.same == same).map(|pair| pair.score).collect()
    };
    let (genuine, impostor) = (of_kind(true), of_kind(false));
    Ok(Verification {
        genuine_pairs: genuine.len(),
        impostor_pairs: impostor.len(),
        failed: Share::count(&scored, |pair| pair.score.is_none()),
        accuracy: fold_accuracy(&scored),
        at_fmr: operating_point(&genuine, &impostor, FALSE_MATCH_RATES[0]),
    })
}

/// Every image of the protocol compared with every other: genuine scores, impostor scores.
type PairScores = (Vec<Option<f32>>, Vec<Option<f32>>);

fn all_pairs(protocol: &Protocol, embeddings: &[Option<&Embedding>]) -> Result<PairScores, EvalError> {
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    for (left, embedding) in embeddings.iter().enumerate() {
        for (right, other) in embeddings.iter().enumerate().skip(left + 1) {
            let same = protocol.people[left] == protocol.people[right];
            let kind = if same { &mut genuine } else { &mut impostor };
            kind.push(compare(*embedding, *other)?);
        }
    }
    Ok((genuine, impostor))
}

fn identification(
    protocol: &Protocol,
    embeddings: &[Option<&Embedding>],
    models: &ModelSet,
    thresholds: IdentificationThresholds,
) -> Result<Identification, EvalError> {
    let gallery = gallery(protocol, embeddings, models)?;
    let mut scratch = SearchScratch::new();
    let mut search = |image: ImageIndex| match embeddings[image] {
        Some(probe) => gallery.search(probe, 2, &mut scratch),
        None => Ok(Vec::new()),
    };
    let (mut mated, mut named, mut misnamed, mut undecided) = (Vec::new(), 0, 0, 0);
    for probe in &protocol.mated {
        let ranked = search(probe.image)?;
        let subject = subject_id(probe.subject);
        let best = ranked.first();
        mated.push(MatedSearch {
            right: best.is_some_and(|best| best.subject == subject),
            score: best.map(|best| best.score.get()),
        });
        match identify(&ranked, &thresholds) {
            Decision::Match { candidate, .. } if candidate.subject == subject => named += 1,
            Decision::Match { .. } => misnamed += 1,
            Decision::Inconclusive(_) => undecided += 1,
            Decision::NoMatch { .. } => {}
        }
    }
    let (mut non_mated, mut false_positives) = (Vec::new(), 0);
    for probe in &protocol.non_mated {
        let ranked = search(*probe)?;
        non_mated.push(ranked.first().map(|best| best.score.get()));
        false_positives += usize::from(matches!(identify(&ranked, &thresholds), Decision::Match { .. }));
    }
    let of_mated = |cases: usize| Share { cases, of: protocol.mated.len() };
    Ok(Identification {
        subjects: protocol.subjects,
        templates: gallery.report().templates,
        gallery_images: protocol.gallery.len(),
        rank_1: Share::count(&mated, |search| search.right),
        open_set: open_set(&mated, &non_mated, FALSE_POSITIVE_RATE),
        shipped: ShippedThresholds {
            threshold: thresholds.threshold,
            margin: thresholds.margin,
            false_negatives: of_mated(protocol.mated.len() - named),
            misnamed: of_mated(misnamed),
            undecided: of_mated(undecided),
            false_positives: Share { cases: false_positives, of: protocol.non_mated.len() },
        },
    })
}

fn gallery(
    protocol: &Protocol,
    embeddings: &[Option<&Embedding>],
    models: &ModelSet,
) -> Result<GallerySnapshot, EvalError> {
    let mut builder = SnapshotBuilder::new(models.manifest.embedder.embedding_space.clone());
    // The search knows subjects by number; what they are called plays no part in it.
    let name = SubjectName::new("subject").expect("a plain word is a name");
    for subject in 0..protocol.subjects {
        builder.subject(GallerySubject { id: subject_id(subject), name: name.clone(), announced: false })?;
    }
    for (at, entry) in protocol.gallery.iter().enumerate() {
        if let Some(embedding) = embeddings[entry.image] {
            builder.template(TemplateId(at as i64), subject_id(entry.subject), embedding)?;
        }
    }
    Ok(builder.finish(None))
}

fn subject_id(subject: usize) -> SubjectId {
    SubjectId::from_bytes((subject as u128).to_be_bytes())
}

impl IdentificationThresholds {
    /// Those of the configuration, or else those measured for the embedder.
    fn in_force(config: &Config, models: &ModelSet) -> Self {
        let measured = &models.manifest.embedder.thresholds;
        let settings = &config.identification;
        Self {
            threshold: ComparisonScore::new(settings.threshold.unwrap_or(measured.identification)),
            margin: settings.margin.unwrap_or(measured.margin),
        }
    }
}
