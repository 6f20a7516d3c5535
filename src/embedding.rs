//! Embeddings, the space they live in, and the two roles they play: stored template, searched probe.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroize;

use crate::score::ComparisonScore;

/// Names the exact network and preprocessing that made an embedding. Embeddings of different
/// spaces have nothing to say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct EmbeddingSpaceId(Arc<str>);

impl From<String> for EmbeddingSpaceId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<EmbeddingSpaceId> for String {
    fn from(id: EmbeddingSpaceId) -> Self {
        id.as_str().to_owned()
    }
}

impl EmbeddingSpaceId {
    /// Takes the identifier as the model manifest states it.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for EmbeddingSpaceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an embedding could not be made or compared.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EmbeddingError {
    /// The network gave nothing with a direction.
    #[error("the embedding has no direction: its values are all zero or not finite")]
    NoDirection,
    /// Two embeddings of different spaces met.
    #[error(
        "embeddings of the spaces {left} and {right} cannot be compared; enrol again with the present model"
    )]
    SpaceMismatch {
        /// Space of the left-hand side.
        left: EmbeddingSpaceId,
        /// Space of the right-hand side.
        right: EmbeddingSpaceId,
    },
    /// The number of values differs within one space.
    #[error("an embedding of the space {space} has {found} values where {expected} were expected")]
    WrongDimensions {
        /// The space both claim.
        space: EmbeddingSpaceId,
        /// Values of the left-hand side.
        expected: usize,
        /// Values of the right-hand side.
        found: usize,
    },
    /// Values that claim to be an embedding are not of unit length, or too many.
    #[error("the stored values are not an embedding: they are not finite, not of unit length, or too many")]
    NotUnitLength,
}

/// Most values an embedding may have. Networks in use give 128 to 512; the bound keeps the integer
/// sums of the gallery search far from overflow.
pub const MAX_DIMENSIONS: usize = 4096;

/// How far the length of an [`Embedding`] may be from one. Rounding each of n values to f32 changes
/// the length by less than 2^-24 however large n is; the rest is room for values stored by others.
pub(crate) const LENGTH_TOLERANCE: f64 = 1e-5;

/// The unit-norm vector of one aligned face. Its values are biometric data: they are wiped when
/// dropped and never printed.
#[derive(Clone, PartialEq)]
pub struct Embedding {
    values: Vec<f32>,
    space: EmbeddingSpaceId,
}

impl Embedding {
    /// Takes values that are already of unit length, bit for bit, as a store gives them back.
    pub fn from_unit(mut values: Vec<f32>, space: EmbeddingSpaceId) -> Result<Self, EmbeddingError> {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        // A NaN fails the comparison too.
        let is_unit = (norm - 1.0).abs() <= LENGTH_TOLERANCE;
        if !is_unit || values.len() > MAX_DIMENSIONS {
            values.zeroize();
            return Err(EmbeddingError::NotUnitLength);
        }
        Ok(Self { values, space })
    }

    /// Scales `values` to unit length.
    pub fn normalised(mut values: Vec<f32>, space: EmbeddingSpaceId) -> Result<Self, EmbeddingError> {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if !(norm.is_finite() && norm > 1e-6) {
            values.zeroize();
            return Err(EmbeddingError::NoDirection);
        }
        if values.len() > MAX_DIMENSIONS {
            values.zeroize();
            return Err(EmbeddingError::NotUnitLength);
        }
        for value in &mut values {
            *value = (f64::from(*value) / norm) as f32;
        }
        Ok(Self { values, space })
    }

    /// The values, of unit length.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The space this embedding belongs to.
    pub fn space(&self) -> &EmbeddingSpaceId {
        &self.space
    }

    /// The cosine of the two, or why they cannot be compared.
    pub fn compare(&self, other: &Self) -> Result<ComparisonScore, EmbeddingError> {
        if self.space != other.space {
            return Err(EmbeddingError::SpaceMismatch {
                left: self.space.clone(),
                right: other.space.clone(),
            });
        }
        if self.values.len() != other.values.len() {
            return Err(EmbeddingError::WrongDimensions {
                space: self.space.clone(),
                expected: self.values.len(),
                found: other.values.len(),
            });
        }
        Ok(ComparisonScore::new(dot(&self.values, &other.values)))
    }
}

/// Inner product in one fixed order of summation and without fused multiply-add, so that every
/// place that compares two embeddings gets the same bits on every machine. Both sides have the same
/// length.
#[inline(always)]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    // Eight independent sums let the compiler use vector registers; one sum would forbid it.
    let mut sums = [0.0_f32; 8];
    let (left_groups, left_rest) = left.as_chunks::<8>();
    let (right_groups, right_rest) = right.as_chunks::<8>();
    for (l, r) in left_groups.iter().zip(right_groups) {
        for lane in 0..8 {
            sums[lane] += l[lane] * r[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(l, r)| l * r).sum();
    sums.iter().sum::<f32>() + rest
}

impl std::fmt::Debug for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedding {{ {} values of {} }}", self.values.len(), self.space)
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(name: &str) -> EmbeddingSpaceId {
        EmbeddingSpaceId::new(name)
    }

    #[test]
    fn embedding_is_unit_norm_by_construction() {
        let embedding = Embedding::normalised(vec![3.0, 4.0], space("a/1")).unwrap();
        assert_eq!(embedding.values(), [0.6, 0.8]);
        assert!((embedding.compare(&embedding).unwrap().get() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn embeddings_of_different_spaces_are_not_compared() {
        let left = Embedding::normalised(vec![1.0, 0.0], space("a/1")).unwrap();
        let right = Embedding::normalised(vec![1.0, 0.0], space("a/2")).unwrap();
        assert!(matches!(left.compare(&right), Err(EmbeddingError::SpaceMismatch { .. })));
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        for values in [vec![0.0; 4], vec![f32::NAN; 4], vec![f32::INFINITY, 0.0]] {
            assert_eq!(Embedding::normalised(values, space("a/1")), Err(EmbeddingError::NoDirection));
        }
    }

    #[test]
    fn stored_values_come_back_bit_for_bit_or_not_at_all() {
        let made = Embedding::normalised((0..128).map(|i| (i as f32).sin()).collect(), space("a/1")).unwrap();
        let stored = Embedding::from_unit(made.values().to_vec(), space("a/1")).unwrap();
        assert_eq!(stored, made);
        for values in [vec![0.6, 0.81], vec![f32::NAN, 1.0], vec![], vec![1.0 / 64.5; MAX_DIMENSIONS + 64]] {
            assert_eq!(Embedding::from_unit(values, space("a/1")), Err(EmbeddingError::NotUnitLength));
        }
    }

    #[test]
    fn debug_output_shows_no_values() {
        let embedding = Embedding::normalised(vec![0.6, 0.8], space("a/1")).unwrap();
        assert_eq!(format!("{embedding:?}"), "Embedding { 2 values of a/1 }");
    }
}
