//! The three scores of face recognition, each a type of its own so that none is ever compared
//! with another one's threshold.

use serde::{Deserialize, Serialize};

macro_rules! score {
    ($(#[$doc:meta])* $name:ident, $low:expr, $high:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(f32);

        impl $name {
            /// The smallest value this score can take.
            pub const MIN: Self = Self($low);
            /// The largest value this score can take.
            pub const MAX: Self = Self($high);

            /// Clamps `value` into the score's range; NaN becomes the minimum.
            pub fn new(value: f32) -> Self {
                if value.is_nan() { Self::MIN } else { Self(value.clamp($low, $high)) }
            }

            /// The plain number.
            pub fn get(self) -> f32 {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:.3}", self.0)
            }
        }
    };
}

score!(
    /// The detector's own score for a box, 0 to 1.
    DetectionScore, 0.0, 1.0
);
score!(
    /// How usable a face sample is, 0 (useless) to 1.
    QualityScore, 0.0, 1.0
);
score!(
    /// Cosine of two embeddings of one embedding space, -1 to 1.
    ComparisonScore, -1.0, 1.0
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stay_in_their_range_whatever_the_network_says() {
        assert_eq!(DetectionScore::new(1.7).get(), 1.0);
        assert_eq!(ComparisonScore::new(-3.0).get(), -1.0);
        assert_eq!(QualityScore::new(f32::NAN).get(), 0.0);
    }
}
