//! Identification: what a ranked list of candidates means, open set. Pure.
//!
//! There is no gap in which a stranger vanishes: every probe ends as exactly one of [`Decision`]'s
//! three cases, and the two that are no match carry why.

use serde::Serialize;

use crate::gallery::{Candidate, Ranked};
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
        /// Who would have been it, had an operator not said that this is somebody else.
        ruled_out: Option<Candidate>,
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
    /// The face is not the one that its track showed before.
    AnotherFace(AnotherFace),
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

/// A face where somebody else was seen before; only following faces over frames finds that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename = "another_face")]
pub struct AnotherFace {
    /// The best comparison with the earlier probes of the track.
    pub likeness: ComparisonScore,
}

impl Inconclusive {
    /// A short constant name, for counters and JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sample(unusable) => unusable.code(),
            Self::Ambiguous(_) => "two_subjects_too_close",
            Self::AnotherFace(_) => "another_face",
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
            Self::AnotherFace(AnotherFace { likeness }) => {
                write!(f, "not the face from before (likeness {likeness})")
            }
        }
    }
}

/// Decides about one probe. `ranked` holds the best template of each of the best subjects, best
/// first; two suffice.
pub fn identify(ranked: &[Candidate], thresholds: &IdentificationThresholds) -> Decision {
    let Some(best) = ranked.first() else {
        return Decision::NoMatch { best: None, ruled_out: None };
    };
    if best.score < thresholds.threshold {
        return Decision::NoMatch { best: Some(*best), ruled_out: None };
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

/// The same for candidates of whom counter examples have ruled some out.
pub fn identify_ranked(ranked: &Ranked, thresholds: &IdentificationThresholds) -> Decision {
    match identify(&ranked.candidates, thresholds) {
        Decision::NoMatch { best, .. } => {
            let ruled_out = ranked.ruled_out.filter(|candidate| candidate.score >= thresholds.threshold);
            Decision::NoMatch { best, ruled_out }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::{SubjectId, TemplateId};

    // Exact in binary, so that the boundaries are what they seem.
    const THRESHOLDS: fn() -> IdentificationThresholds =
        || IdentificationThresholds { threshold: ComparisonScore::new(0.5), margin: 0.125 };

    fn candidate(subject: u8, score: f32) -> Candidate {
        let subject = SubjectId::from_bytes([subject; 16]);
        Candidate {
            subject,
            template: TemplateId(subject.as_bytes()[0].into()),
            score: ComparisonScore::new(score),
        }
    }

    fn decide(ranked: &[Candidate]) -> Decision {
        identify(ranked, &THRESHOLDS())
    }

    #[test]
    fn empty_gallery_matches_nobody() {
        assert_eq!(decide(&[]), Decision::NoMatch { best: None, ruled_out: None });
    }

    #[test]
    fn score_at_the_threshold_matches_and_one_just_below_does_not() {
        let at = candidate(1, 0.5);
        assert_eq!(decide(&[at]), Decision::Match { candidate: at, margin: None });
        let below = candidate(1, 0.5_f32.next_down());
        assert_eq!(decide(&[below]), Decision::NoMatch { best: Some(below), ruled_out: None });
    }

    #[test]
    fn lead_at_the_margin_matches_and_one_just_below_is_ambiguous() {
        let best = candidate(1, 0.75);
        assert_eq!(
            decide(&[best, candidate(2, 0.625)]),
            Decision::Match { candidate: best, margin: Some(0.125) }
        );
        let second = candidate(2, 0.625_f32.next_up());
        let ambiguous = Ambiguous { best: best.score, second: second.score };
        let expected = Inconclusive::Ambiguous(ambiguous);
        assert_eq!(decide(&[best, second]), Decision::Inconclusive(expected));
        assert_eq!(expected.code(), "two_subjects_too_close");
        assert_eq!(expected.to_string(), "two subjects too close (0.750 and 0.625)");
    }

    #[test]
    fn second_subject_below_the_threshold_still_makes_it_ambiguous() {
        let ranked = [candidate(1, 0.5), candidate(2, 0.45)];
        assert!(matches!(decide(&ranked), Decision::Inconclusive(Inconclusive::Ambiguous(_))));
    }

    #[test]
    fn nobody_is_ambiguous_below_the_threshold() {
        let best = candidate(1, 0.4);
        let expected = Decision::NoMatch { best: Some(best), ruled_out: None };
        assert_eq!(decide(&[best, candidate(2, 0.4)]), expected);
    }

    #[test]
    fn whoever_was_ruled_out_is_told_where_nobody_else_matches() {
        let (ruled_out, other) = (candidate(1, 0.7), candidate(2, 0.3));
        let decide = |candidates: Vec<Candidate>, ruled_out| {
            identify_ranked(&Ranked { candidates, ruled_out }, &THRESHOLDS())
        };
        assert_eq!(
            decide(vec![other], Some(ruled_out)),
            Decision::NoMatch { best: Some(other), ruled_out: Some(ruled_out) }
        );
        // Below the threshold it would not have been a match either.
        let low = candidate(1, 0.4);
        let expected = Decision::NoMatch { best: Some(other), ruled_out: None };
        assert_eq!(decide(vec![other], Some(low)), expected);
        let match_ = candidate(2, 0.6);
        assert_eq!(
            decide(vec![match_], Some(ruled_out)),
            Decision::Match { candidate: match_, margin: None }
        );
    }

    #[test]
    fn thresholds_in_force_are_the_ones_of_identification() {
        let in_force = Thresholds { identification: 0.5, verification: 0.1, margin: 0.125, conflict: 0.2 };
        assert_eq!(IdentificationThresholds::from(&in_force), THRESHOLDS());
    }

    #[test]
    fn ambiguity_is_json_with_its_reason_and_both_scores() {
        let ambiguous = Ambiguous { best: ComparisonScore::new(0.75), second: ComparisonScore::new(0.5) };
        let json = serde_json::to_value(Inconclusive::Ambiguous(ambiguous)).unwrap();
        let expected = serde_json::json!({ "reason": "two_subjects_too_close", "best": 0.75, "second": 0.5 });
        assert_eq!(json, expected);
    }
}
