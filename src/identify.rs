//! Identification: what a ranked list of candidates means, open set. Pure.
//!
//! There is no gap in which a stranger vanishes: every probe ends as exactly one of [`Decision`]'s
//! three cases, and the two that are no match carry why.

use serde::Serialize;

use crate::gallery::Candidate;
use crate::models::Thresholds;
use crate::quality::Unusable;
use crate::score::ComparisonScore;

/// When a candidate becomes a match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdentificationThresholds {
    /// The best candidate must reach this.
    pub threshold: ComparisonScore,
    /// The best subject must lead the second one by at least this.
    pub margin: f32,
}

impl From<&Thresholds> for IdentificationThresholds {
    fn from(in_force: &Thresholds) -> Self {
        Self { threshold: ComparisonScore::new(in_force.identification), margin: in_force.margin }
    }
}

/// What became of one probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The best candidate is the subject.
    Match {
        /// The subject's best template.
        candidate: Candidate,
        /// Lead over the second subject; `None` when nobody else is enrolled.
        margin: Option<f32>,
    },
    /// Nobody enrolled is like this.
    NoMatch {
        /// The best candidate, below the threshold; `None` for an empty gallery.
        best: Option<Candidate>,
    },
    /// It cannot be said.
    Inconclusive(Inconclusive),
}

/// Why a probe says neither yes nor no.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Inconclusive {
    /// The face sample is not usable.
    Sample(Unusable),
    /// The two best subjects are too close to tell apart.
    Ambiguous(Ambiguous),
}

/// Two subjects above the threshold and closer together than the margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename = "two_subjects_too_close")]
pub struct Ambiguous {
    /// Score of the best subject.
    pub best: ComparisonScore,
    /// Score of the second subject.
    pub second: ComparisonScore,
}

impl Inconclusive {
    /// A short constant name, for counters and JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sample(unusable) => unusable.code(),
            Self::Ambiguous(_) => "two_subjects_too_close",
        }
    }
}

impl std::fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sample(unusable) => unusable.fmt(f),
            Self::Ambiguous(Ambiguous { best, second }) => {
                write!(f, "two subjects too close ({best} and {second})")
            }
        }
    }
}

/// Decides about one probe. `ranked` holds the best template of each of the best subjects, best
/// first; two suffice.
pub fn identify(ranked: &[Candidate], thresholds: &IdentificationThresholds) -> Decision {
    let Some(best) = ranked.first() else { return Decision::NoMatch { best: None } };
    if best.score < thresholds.threshold {
        return Decision::NoMatch { best: Some(*best) };
    }
    let second = ranked.get(1);
    let lead = second.map(|second| best.score.get() - second.score.get());
    match (second, lead) {
        (Some(second), Some(lead)) if lead < thresholds.margin => {
            Decision::Inconclusive(Inconclusive::Ambiguous(Ambiguous {
                best: best.score,
                second: second.score,
            }))
        }
        _ => Decision::Match { candidate: *best, margin: lead },
    }
}
