//! Which sightings show the same face: an online clustering whose groups never change their numbers.
//! Pure.
//!
//! A sighting joins the group it looks most like, or begins one. Groups are never merged nor split
//! behind the operator's back: a number once shown stays with its face until it is forgotten, and whoever
//! sees that two groups are one person names both at once.
//!
//! The bar is higher than identification's, for three reasons. A wrong join is not one wrong answer but
//! goes on: its embedding draws the next stranger in, and once the group is named, a stranger's picture is
//! among somebody's templates. The comparisons are many: two thousand sightings meet up to eight exemplars
//! of every group. And a wrong split costs a click. With the shipped network one in 100,000 pairs of two
//! people reaches 0.471, and each further factor of ten is worth about 0.048 (docs/accuracy.md); 0.08 above
//! identification's 0.48 is about one in ten million. Against chains, in which each face looks like the
//! next and the first not like the last, a newcomer must besides have something in common with every
//! exemplar.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::embedding::Embedding;
use crate::models::Thresholds;
use crate::score::ComparisonScore;

/// Sightings of a group that are compared with, and kept.
pub const MAX_EXEMPLARS: usize = 8;
/// Above identification's threshold, from which on a sighting joins a group.
const ABOVE_IDENTIFICATION: f32 = 0.08;
/// Of identification's threshold: what a sighting must have in common with every exemplar. Half of it is
/// 0.24, well below what two pictures of one person compare at (one pair in 250 is below 0.37).
const LEAST_SHARE: f32 = 0.5;

/// Of identification's threshold, from which on a group may show a subject who is erased. Lower than a match:
/// one stranger's group in a thousand goes too, and no picture of the subject stays.
const RELATED_SHARE: f32 = 0.75;

/// Number of a group. Given once, never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SightingGroupId(pub i64);

impl std::fmt::Display for SightingGroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// When a sighting joins a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupingThresholds {
    /// With the exemplar it is most like.
    pub join: ComparisonScore,
    /// With every exemplar.
    pub least: ComparisonScore,
    /// From which on a group goes with a subject who is erased.
    pub related: ComparisonScore,
}

impl From<&Thresholds> for GroupingThresholds {
    fn from(in_force: &Thresholds) -> Self {
        Self {
            join: ComparisonScore::new((in_force.identification + ABOVE_IDENTIFICATION).min(1.0)),
            least: ComparisonScore::new(in_force.identification * LEAST_SHARE),
            related: ComparisonScore::new(in_force.identification * RELATED_SHARE),
        }
    }
}

/// The exemplars of all groups: sighting and embedding.
#[derive(Default)]
pub struct Groups {
    known: BTreeMap<SightingGroupId, Vec<(i64, Embedding)>>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Groups {{ {} }}", self.known.len())
    }
}

impl Groups {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The group a sighting belongs to, if it is known.
    pub fn find(&self, sighting: &Embedding, thresholds: &GroupingThresholds) -> Option<SightingGroupId> {
        let mut found: Option<(f32, SightingGroupId)> = None;
        for (group, exemplars) in &self.known {
            let scores = exemplars.iter().filter_map(|(_, exemplar)| sighting.compare(exemplar).ok());
            let (best, least) = scores.fold((f32::MIN, f32::MAX), |(best, least), score| {
                (best.max(score.get()), least.min(score.get()))
            });
            let joins = best >= thresholds.join.get() && least >= thresholds.least.get();
            if joins && found.is_none_or(|(score, _)| best > score) {
                found = Some((best, *group));
            }
        }
        found.map(|(_, group)| group)
    }

    /// The groups with an exemplar at least so much like one of these faces.
    pub fn like(&self, faces: &[Embedding], least: ComparisonScore) -> Vec<SightingGroupId> {
        let alike = |(_, exemplar): &(i64, Embedding)| {
            faces.iter().any(|face| face.compare(exemplar).is_ok_and(|score| score >= least))
        };
        let groups = self.known.iter().filter(|(_, exemplars)| exemplars.iter().any(alike));
        groups.map(|(group, _)| *group).collect()
    }

    /// Adds an exemplar to a group, new or known.
    pub fn add(&mut self, group: SightingGroupId, sighting: i64, embedding: Embedding) {
        self.known.entry(group).or_default().push((sighting, embedding));
    }

    /// The exemplars of a group.
    pub fn exemplars(&self, group: SightingGroupId) -> &[(i64, Embedding)] {
        self.known.get(&group).map_or(&[], Vec::as_slice)
    }

    /// Forgets one exemplar, and its group with the last one.
    pub fn forget(&mut self, group: SightingGroupId, sighting: i64) {
        if let Some(exemplars) = self.known.get_mut(&group) {
            exemplars.retain(|(known, _)| *known != sighting);
            if exemplars.is_empty() {
                self.known.remove(&group);
            }
        }
    }

    /// Forgets a group.
    pub fn forget_group(&mut self, group: SightingGroupId) {
        self.known.remove(&group);
    }
}

/// Which of more exemplars than are kept is to go: of the two most alike, the one of lower quality. What
/// remains shows the face as variously as may be. `None` while they are not too many.
pub fn redundant(exemplars: &[(f32, &Embedding)]) -> Option<usize> {
    if exemplars.len() <= MAX_EXEMPLARS {
        return None;
    }
    let mut closest = (f32::MIN, 0);
    for (at, (quality, one)) in exemplars.iter().enumerate() {
        for (other_at, (other_quality, other)) in exemplars.iter().enumerate().skip(at + 1) {
            let score = one.compare(other).map_or(f32::MIN, ComparisonScore::get);
            if score > closest.0 {
                closest = (score, if quality < other_quality { at } else { other_at });
            }
        }
    }
    Some(closest.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::random::Random;
    use crate::embedding::EmbeddingSpaceId;

    const DIMENSIONS: usize = 128;
    const THRESHOLDS: fn() -> GroupingThresholds = || {
        GroupingThresholds::from(&Thresholds {
            identification: 0.48,
            verification: 0.43,
            margin: 0.05,
            conflict: 0.43,
        })
    };

    fn direction(random: &mut Random) -> Vec<f32> {
        // The sum of four uniform numbers is nearly Gaussian.
        (0..DIMENSIONS).map(|_| (0..4).map(|_| random.unit()).sum::<f32>() - 2.0).collect()
    }

    /// One look at somebody: two of them compare at about 0.72, as good frames of one visit do.
    fn look(person: &[f32], random: &mut Random) -> Embedding {
        let noise = direction(random);
        let values = person.iter().zip(noise).map(|(person, noise)| 1.6 * person + noise).collect();
        Embedding::normalised(values, EmbeddingSpaceId::new("test/1")).unwrap()
    }

    /// As the store does it.
    fn take_in(groups: &mut Groups, number: i64, sighting: Embedding) -> SightingGroupId {
        let group = groups.find(&sighting, &THRESHOLDS()).unwrap_or(SightingGroupId(number));
        groups.add(group, number, sighting);
        let exemplars: Vec<_> = groups.exemplars(group).iter().map(|(_, e)| (0.5, e)).collect();
        if let Some(at) = redundant(&exemplars) {
            let sighting = groups.exemplars(group)[at].0;
            groups.forget(group, sighting);
        }
        group
    }

    #[test]
    fn somebody_keeps_their_number_over_a_hundred_sightings_among_strangers() {
        let mut random = Random::new(11);
        let mut groups = Groups::new();
        let regular = direction(&mut random);
        let mut number = 0;
        let mut next = || {
            number += 1;
            number
        };
        let first = take_in(&mut groups, next(), look(&regular, &mut random));
        for _ in 0..99 {
            let stranger = direction(&mut random);
            let other = take_in(&mut groups, next(), look(&stranger, &mut random));
            assert_ne!(other, first);
            assert_eq!(take_in(&mut groups, next(), look(&regular, &mut random)), first);
        }
        assert_eq!(groups.exemplars(first).len(), MAX_EXEMPLARS);
        assert_eq!(groups.known.len(), 100);
    }

    #[test]
    fn strangers_do_not_merge() {
        let mut random = Random::new(12);
        let mut groups = Groups::new();
        for number in 0..500 {
            let stranger = direction(&mut random);
            assert_eq!(take_in(&mut groups, number, look(&stranger, &mut random)), SightingGroupId(number));
        }
    }

    #[test]
    fn several_people_are_told_apart_however_they_come() {
        let mut random = Random::new(13);
        let people: Vec<_> = (0..20).map(|_| direction(&mut random)).collect();
        let mut groups = Groups::new();
        let mut seen: BTreeMap<usize, SightingGroupId> = BTreeMap::new();
        for number in 0..400 {
            let who = random.below(20) as usize;
            let group = take_in(&mut groups, number, look(&people[who], &mut random));
            assert_eq!(*seen.entry(who).or_insert(group), group, "sighting {number}");
        }
        assert_eq!(groups.known.len(), seen.len());
    }

    #[test]
    fn chain_of_faces_that_drift_does_not_become_one_group() {
        // Each looks like the one before, and the last is somebody else.
        let mut random = Random::new(14);
        let (from, to) = (direction(&mut random), direction(&mut random));
        let mut groups = Groups::new();
        let mut ids = Vec::new();
        for step in 0..=40_i64 {
            let share = step as f32 / 40.0;
            let values = from.iter().zip(&to).map(|(a, b)| a * (1.0 - share) + b * share).collect();
            let face = Embedding::normalised(values, EmbeddingSpaceId::new("test/1")).unwrap();
            ids.push(take_in(&mut groups, step, face));
        }
        assert_ne!(ids[0], ids[40]);
    }

    #[test]
    fn bar_lies_above_identification() {
        let thresholds = THRESHOLDS();
        assert_eq!((thresholds.join.get(), thresholds.least.get()), (0.56, 0.24));
    }

    #[test]
    fn of_too_many_exemplars_the_poorer_of_the_two_most_alike_goes() {
        let mut random = Random::new(15);
        let mut faces: Vec<_> = (0..MAX_EXEMPLARS).map(|_| direction(&mut random)).collect();
        faces.push(faces[3].clone());
        let faces: Vec<_> = faces
            .into_iter()
            .map(|values| Embedding::normalised(values, EmbeddingSpaceId::new("test/1")).unwrap())
            .collect();
        let rated = |third: f32, last: f32| -> Vec<(f32, &Embedding)> {
            let quality = |at: usize| match at {
                3 => third,
                8 => last,
                _ => 0.1,
            };
            faces.iter().enumerate().map(|(at, face)| (quality(at), face)).collect()
        };
        assert_eq!(redundant(&rated(0.5, 0.6)), Some(3));
        assert_eq!(redundant(&rated(0.6, 0.5)), Some(8));
        assert_eq!(redundant(&rated(0.6, 0.5)[..8]), None);
    }
}
