//! What a track's earlier probes look like, and whether a new one shows the same face. Pure.
//!
//! Held in memory only, for as long as the track lives; embeddings wipe themselves when dropped.

use crate::embedding::Embedding;
use crate::models::Thresholds;
use crate::score::ComparisonScore;

/// When two probes of one camera show one face. Follows from the model's thresholds in force, which
/// say how they were set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppearanceThresholds {
    /// From here on they show the same face: the threshold of verification, since that is the
    /// question asked.
    pub alike: ComparisonScore,
    /// Below this they show different faces: lower than `alike` by the margin, which is what two
    /// scores must differ by to mean anything. In between, it cannot be said. Of two photographs of
    /// one person taken on different days, 1 in 100 compares below `alike` (see the manifest), two
    /// probes of one visit less often; and a single such probe has no consequence.
    pub unlike: ComparisonScore,
    /// One track must lead another by this to be the better explanation of a probe: the margin.
    pub lead: f32,
}

impl From<&Thresholds> for AppearanceThresholds {
    fn from(in_force: &Thresholds) -> Self {
        let alike = in_force.verification;
        // A configured margin may be as large as the threshold; half of it still tells faces apart.
        let unlike = (alike - in_force.margin).max(alike / 2.0);
        Self {
            alike: ComparisonScore::new(alike),
            unlike: ComparisonScore::new(unlike),
            lead: in_force.margin,
        }
    }
}

/// Probes kept of a track. A head turns and nods within one visit; four views cover what the quality
/// limits let through, and comparing with them costs nothing beside making one embedding.
const KEPT: usize = 4;

/// The earlier probes of one track.
#[derive(Clone, Debug, Default)]
pub struct Appearance {
    probes: Vec<Embedding>,
}

impl Appearance {
    /// Whether there is nothing to compare with yet.
    pub fn is_empty(&self) -> bool {
        self.probes.is_empty()
    }

    /// The best comparison with the earlier probes; `None` while there are none.
    pub fn likeness(&self, probe: &Embedding) -> Option<ComparisonScore> {
        self.probes.iter().map(|earlier| compared(earlier, probe)).max_by(|a, b| a.get().total_cmp(&b.get()))
    }

    /// Keeps a probe known to show this face. When there are enough, it takes the place of the one
    /// it resembles most, so that different views stay.
    pub fn remember(&mut self, probe: Embedding) {
        if self.probes.len() < KEPT {
            self.probes.push(probe);
            return;
        }
        let most_like = |kept: &&mut Embedding, other: &&mut Embedding| {
            compared(kept, &probe).get().total_cmp(&compared(other, &probe).get())
        };
        if let Some(replaced) = self.probes.iter_mut().max_by(most_like) {
            *replaced = probe;
        }
    }
}

/// How alike two probes of one run are.
pub(crate) fn compared(left: &Embedding, right: &Embedding) -> ComparisonScore {
    left.compare(right).expect("one network made all probes of a run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::EmbeddingSpaceId;

    fn towards(degrees: f32) -> Embedding {
        let radians = degrees.to_radians();
        Embedding::normalised(vec![radians.cos(), radians.sin()], EmbeddingSpaceId::new("plane/1")).unwrap()
    }

    #[test]
    fn thresholds_follow_from_the_ones_in_force() {
        let in_force = Thresholds { identification: 0.5, verification: 0.5, margin: 0.125, conflict: 0.5 };
        let thresholds = AppearanceThresholds::from(&in_force);
        assert_eq!((thresholds.alike.get(), thresholds.unlike.get(), thresholds.lead), (0.5, 0.375, 0.125));
        let wide = AppearanceThresholds::from(&Thresholds { margin: 0.5, ..in_force });
        assert_eq!(wide.unlike.get(), 0.25);
    }

    #[test]
    fn nothing_is_like_a_face_never_probed() {
        assert_eq!(Appearance::default().likeness(&towards(0.0)), None);
    }

    #[test]
    fn likeness_is_that_of_the_most_similar_view() {
        let mut appearance = Appearance::default();
        appearance.remember(towards(0.0));
        appearance.remember(towards(60.0));
        let likeness = appearance.likeness(&towards(50.0)).unwrap().get();
        assert!((likeness - 10_f32.to_radians().cos()).abs() < 1e-5);
    }

    #[test]
    fn different_views_stay_when_there_are_too_many() {
        let mut appearance = Appearance::default();
        for degrees in [0.0, 30.0, 60.0, 90.0, 61.0, 62.0, 63.0, 64.0] {
            appearance.remember(towards(degrees));
        }
        for degrees in [0.0, 30.0, 64.0, 90.0] {
            assert!(appearance.likeness(&towards(degrees)).unwrap().get() > 0.999, "{degrees}");
        }
    }
}
