//! Why a visitor was not named: one word for each look, and one for the visit as a whole.
//!
//! Owned here: the closed list of reasons with their codes and texts. Not here: what was measured at
//! a single look, which [`Inconclusive`] carries.

use serde::{Serialize, Serializer};

use crate::identify::Inconclusive;
use crate::quality::Unusable;

/// The main reason of a visit that named nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The landmark network saw no face there.
    NotAFace,
    /// Part of the face lay outside the picture.
    CutByFrame,
    /// Too few pixels between the eyes.
    TooFar,
    /// The head was turned to the side.
    TurnedAway,
    /// The head looked up or down.
    LookingUpOrDown,
    /// The head leaned to a shoulder.
    Tilted,
    /// Too little light on the face.
    TooDark,
    /// Too much light on the face.
    TooBright,
    /// Out of focus or in motion.
    Blurred,
    /// The two best subjects were too close to tell apart.
    TwoSubjectsTooClose,
    /// The face did not look like that of the same visitor before.
    AnotherFace,
    /// The best candidate did not reach the threshold.
    BelowThreshold,
    /// It looked like a subject of whom an operator has said that this is somebody else.
    RuledOut,
    /// There was nobody to compare with.
    NobodyEnrolled,
    /// Probes that could be decided contradicted each other.
    ProbesDisagree,
    /// What was seen was good enough, but not often enough.
    TooFewLooks,
    /// Gone before a first closer look.
    LeftTooSoon,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::NotAFace,
        Self::CutByFrame,
        Self::TooFar,
        Self::TurnedAway,
        Self::LookingUpOrDown,
        Self::Tilted,
        Self::TooDark,
        Self::TooBright,
        Self::Blurred,
        Self::TwoSubjectsTooClose,
        Self::AnotherFace,
        Self::BelowThreshold,
        Self::RuledOut,
        Self::NobodyEnrolled,
        Self::ProbesDisagree,
        Self::TooFewLooks,
        Self::LeftTooSoon,
    ];

    /// The reason of a code, if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// A short constant name, for counters and JSON. For what [`Inconclusive`] knows too, the same.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAFace => "not_a_face",
            Self::CutByFrame => "cut_by_frame",
            Self::TooFar => "too_far",
            Self::TurnedAway => "turned_away",
            Self::LookingUpOrDown => "looking_up_or_down",
            Self::Tilted => "tilted",
            Self::TooDark => "too_dark",
            Self::TooBright => "too_bright",
            Self::Blurred => "blurred",
            Self::TwoSubjectsTooClose => "two_subjects_too_close",
            Self::AnotherFace => "another_face",
            Self::BelowThreshold => "below_threshold",
            Self::RuledOut => "ruled_out",
            Self::NobodyEnrolled => "nobody_enrolled",
            Self::ProbesDisagree => "probes_disagree",
            Self::TooFewLooks => "too_few_looks",
            Self::LeftTooSoon => "left_too_soon",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAFace => "not a face",
            Self::CutByFrame => "cut by the edge of the picture",
            Self::TooFar => "too far",
            Self::TurnedAway => "turned away",
            Self::LookingUpOrDown => "looking up or down",
            Self::Tilted => "tilted",
            Self::TooDark => "too dark",
            Self::TooBright => "too bright",
            Self::Blurred => "blurred",
            Self::TwoSubjectsTooClose => "two subjects too close",
            Self::AnotherFace => "not the face from before",
            Self::BelowThreshold => "below the threshold",
            Self::RuledOut => "said to be somebody else",
            Self::NobodyEnrolled => "nobody is enrolled",
            Self::ProbesDisagree => "probes disagree",
            Self::TooFewLooks => "too few looks",
            Self::LeftTooSoon => "left too soon",
        })
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl From<&Inconclusive> for Reason {
    fn from(inconclusive: &Inconclusive) -> Self {
        match inconclusive {
            Inconclusive::Ambiguous(_) => Self::TwoSubjectsTooClose,
            Inconclusive::AnotherFace(_) => Self::AnotherFace,
            Inconclusive::Sample(unusable) => match unusable {
                Unusable::NotAFace { .. } => Self::NotAFace,
                Unusable::CutByFrame { .. } => Self::CutByFrame,
                Unusable::TooFar { .. } => Self::TooFar,
                Unusable::TurnedAway { .. } => Self::TurnedAway,
                Unusable::LookingUpOrDown { .. } => Self::LookingUpOrDown,
                Unusable::Tilted { .. } => Self::Tilted,
                Unusable::TooDark { .. } => Self::TooDark,
                Unusable::TooBright { .. } => Self::TooBright,
                Unusable::Blurred { .. } => Self::Blurred,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::{Ambiguous, AnotherFace};
    use crate::score::ComparisonScore;

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(Reason::from_code("too far"), None);
    }

    #[test]
    fn reason_of_a_visit_has_the_code_of_the_look() {
        let unusable = [
            Unusable::NotAFace { face_presence: 0.1 },
            Unusable::CutByFrame { inside: 0.5 },
            Unusable::TooFar { eye_distance_px: 10.0, minimum_px: 24.0 },
            Unusable::TurnedAway { yaw_deg: 50.0 },
            Unusable::LookingUpOrDown { pitch_deg: 50.0 },
            Unusable::Tilted { roll_deg: 80.0 },
            Unusable::TooDark { exposure: 10.0 },
            Unusable::TooBright { exposure: 250.0 },
            Unusable::Blurred { sharpness: 0.0 },
        ];
        let score = ComparisonScore::new(0.5);
        let searched = [
            Inconclusive::Ambiguous(Ambiguous { best: score, second: score }),
            Inconclusive::AnotherFace(AnotherFace { likeness: score }),
        ];
        for look in unusable.into_iter().map(Inconclusive::Sample).chain(searched) {
            let reason = Reason::from(&look);
            assert_eq!(reason.code(), look.code());
            assert_eq!(Reason::from_code(look.code()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), look.code());
            assert_eq!(serde_json::to_value(look).unwrap()["reason"], look.code());
        }
    }
}
