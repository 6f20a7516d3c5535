//! What an evaluation found: as JSON by its fields, as a table by `Display`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::models::ModelSet;
use crate::score::ComparisonScore;

use super::metrics::{EqualErrorRate, FoldAccuracy, OpenSetPoint, OperatingPoint, Share};

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// The networks.
    pub models: ModelsUsed,
    /// Images that gave no embedding, and images the quality limits would refuse.
    pub acquisition: Acquisition,
    /// The listed pairs, 1:1.
    pub verification: Verification,
    /// Every image against every other, 1:1.
    pub all_pairs: AllPairs,
    /// The listed probes against the gallery, 1:N.
    pub identification: Identification,
    /// How long it took.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// Which networks made the embeddings.
#[derive(Clone, Debug, Serialize)]
pub struct ModelsUsed {
    /// File and first digits of the sha256 of the detector.
    pub detector: String,
    /// The same of the landmark network.
    pub landmarks: String,
    /// The same of the embedder.
    pub embedder: String,
    /// The embeddings' space.
    pub embedding_space: String,
}

impl ModelsUsed {
    pub(super) fn of(models: &ModelSet) -> Self {
        let manifest = &models.manifest;
        let file = |file: &str, sha256: &str| format!("{file} {}", &sha256[..12]);
        Self {
            detector: file(&manifest.detector.file, &manifest.detector.sha256),
            landmarks: file(&manifest.landmarks.file, &manifest.landmarks.sha256),
            embedder: file(&manifest.embedder.file, &manifest.embedder.sha256),
            embedding_space: manifest.embedder.embedding_space.as_str().to_owned(),
        }
    }
}

/// How the images became samples.
#[derive(Clone, Debug, Serialize)]
pub struct Acquisition {
    /// Images without an embedding, of all images. Each is an error wherever it is listed.
    pub failed: Share,
    /// The same by reason.
    pub failures: BTreeMap<&'static str, usize>,
    /// Images that the quality limits of the configuration would refuse. They count like any other.
    pub below_quality_limits: Share,
    /// The same by limit.
    pub limits: BTreeMap<&'static str, usize>,
}

/// Rates of the listed pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Pairs of one person.
    pub genuine_pairs: usize,
    /// Pairs of two.
    pub impostor_pairs: usize,
    /// Pairs with an image that has no embedding.
    pub failed: Share,
    /// Accuracy over the folds.
    pub accuracy: FoldAccuracy,
    /// True match rate at a false match rate of 1 in 1,000.
    pub at_fmr: Option<OperatingPoint>,
}

/// Rates of all pairs.
#[derive(Clone, Debug, Serialize)]
pub struct AllPairs {
    /// True match rates, one for each false match rate.
    pub points: Vec<OperatingPoint>,
    /// Where both error rates are the same.
    pub equal_error: Option<EqualErrorRate>,
}

/// Rates of the listed probes.
#[derive(Clone, Debug, Serialize)]
pub struct Identification {
    /// Subjects in the gallery: N.
    pub subjects: usize,
    /// Images given for them.
    pub gallery_images: usize,
    /// Templates made of those images.
    pub templates: usize,
    /// Mated probes whose best candidate is the right subject, whatever its score.
    pub rank_1: Share,
    /// Misses where the false positive identification rate is held.
    pub open_set: Option<OpenSetPoint>,
    /// What the thresholds in force make of the same searches.
    pub shipped: ShippedThresholds,
}

/// Decisions about single probes with the thresholds in force.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ShippedThresholds {
    /// The best candidate must reach this.
    pub threshold: ComparisonScore,
    /// And lead the second subject by this.
    pub margin: f32,
    /// Mated probes that were not named: FNIR.
    pub false_negatives: Share,
    /// Among them those given another subject's name.
    pub misnamed: Share,
    /// Among them those left undecided between two subjects.
    pub undecided: Share,
    /// Non-mated probes that were given a name: FPIR.
    pub false_positives: Share,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

impl fmt::Display for EvalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModelsUsed { detector, landmarks, embedder, embedding_space } = &self.models;
        writeln!(f, "detector       {detector}")?;
        writeln!(f, "landmarks      {landmarks}")?;
        writeln!(f, "embedder       {embedder}, space {embedding_space}")?;
        self.acquisition.fmt(f)?;
        self.verification.fmt(f)?;
        self.all_pairs.fmt(f)?;
        self.identification.fmt(f)?;
        write!(f, "took           {:.1} s", self.elapsed.as_secs_f64())
    }
}

fn reasons(f: &mut fmt::Formatter<'_>, counts: &BTreeMap<&'static str, usize>) -> fmt::Result {
    for (reason, count) in counts {
        write!(f, ", {reason} {count}")?;
    }
    writeln!(f)
}

impl fmt::Display for Acquisition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no embedding   {}", self.failed)?;
        reasons(f, &self.failures)?;
        write!(f, "below limits   {}", self.below_quality_limits)?;
        reasons(f, &self.limits)
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FoldAccuracy { folds, mean_percent, deviation_percent, threshold } = &self.accuracy;
        writeln!(
            f,
            "\n1:1, {} genuine and {} impostor pairs in {} folds, {} failed",
            self.genuine_pairs,
            self.impostor_pairs,
            folds.len(),
            self.failed.cases
        )?;
        writeln!(
            f,
            "accuracy       {mean_percent:.2} % +- {deviation_percent:.2}, mean threshold {threshold:.3}"
        )?;
        self.at_fmr.iter().try_for_each(|point| writeln!(f, "{point}"))
    }
}

impl fmt::Display for OperatingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmr, threshold, false_matches, true_matches } = self;
        write!(
            f,
            "TMR            {true_matches} at FMR {fmr:e} (threshold {threshold:.3}, {} of {} impostors)",
            false_matches.cases, false_matches.of
        )
    }
}

impl fmt::Display for AllPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n1:1, every image against every other")?;
        self.points.iter().try_for_each(|point| writeln!(f, "{point}"))?;
        self.equal_error.iter().try_for_each(|EqualErrorRate { percent, threshold }| {
            writeln!(f, "EER            {percent:.2} % (threshold {threshold:.3})")
        })
    }
}

impl fmt::Display for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.subjects;
        let non_mated = self.shipped.false_positives.of;
        writeln!(
            f,
            "\n1:N, N = {n} subjects ({} of {} gallery images usable), {} mated and {non_mated} non-mated probes",
            self.templates, self.gallery_images, self.rank_1.of
        )?;
        writeln!(f, "rank 1         {}", self.rank_1)?;
        if let Some(OpenSetPoint { fpir, threshold, false_positives, false_negatives }) = self.open_set {
            writeln!(
                f,
                "FNIR           {false_negatives} at FPIR {:.1} % (threshold {threshold:.3}, {} of {} strangers)",
                fpir * 100.0,
                false_positives.cases,
                false_positives.of
            )?;
        }
        let ShippedThresholds { threshold, margin, false_negatives, misnamed, undecided, false_positives } =
            self.shipped;
        writeln!(f, "thresholds in force, one probe each: {threshold}, margin {margin:.2}")?;
        writeln!(
            f,
            "FNIR           {false_negatives}, {} misnamed, {} undecided",
            misnamed.cases, undecided.cases
        )?;
        writeln!(f, "FPIR           {false_positives}")
    }
}
