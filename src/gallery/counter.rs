//! Counter examples: faces of which an operator has said that they are not a subject. Pure.
//!
//! Somebody who looks like a subject is taken for them again and again, and no threshold helps that would
//! not turn the subject away too. A counter example decides such a case by what is nearer: a probe that is
//! more like a counter example of a subject than like that subject's own templates does not match the
//! subject. It takes nothing from anybody else, since it is compared only where the subject would have
//! been a candidate.

use std::collections::HashMap;

use crate::embedding::{Embedding, EmbeddingError};
use crate::score::ComparisonScore;

use super::records::SubjectId;
use super::search::{Candidate, SearchScratch};
use super::snapshot::GallerySnapshot;

/// The counter examples of all subjects, in one embedding space.
#[derive(Clone, Default)]
pub(super) struct CounterExamples(HashMap<SubjectId, Vec<Embedding>>);

impl CounterExamples {
    pub(super) fn add(&mut self, subject: SubjectId, embedding: Embedding) {
        self.0.entry(subject).or_default().push(embedding);
    }

    pub(super) fn remove(&mut self, subject: SubjectId) {
        self.0.remove(&subject);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether a probe that scores `score` with a subject is nearer to a counter example of it.
    fn rule_out(&self, subject: SubjectId, probe: &Embedding, score: ComparisonScore) -> bool {
        let examples = self.0.get(&subject).map_or(&[][..], Vec::as_slice);
        examples.iter().any(|example| probe.compare(example).is_ok_and(|nearer| nearer > score))
    }
}

/// The best of those a probe is not ruled out for, and the best of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    /// The best template of each of the best subjects, best first.
    pub candidates: Vec<Candidate>,
    /// The best subject that a counter example spoke against.
    pub ruled_out: Option<Candidate>,
}

impl GallerySnapshot {
    /// As [`search`](Self::search), without the subjects that a counter example rules out.
    pub fn rank(
        &self,
        probe: &Embedding,
        k_subjects: usize,
        scratch: &mut SearchScratch,
    ) -> Result<Ranked, EmbeddingError> {
        let mut asked = k_subjects;
        loop {
            let mut found = self.search(probe, asked, scratch)?;
            if self.counter_examples.0.is_empty() {
                return Ok(Ranked { candidates: found, ruled_out: None });
            }
            let all = found.len();
            let is_ruled_out = |candidate: &Candidate| {
                self.counter_examples.rule_out(candidate.subject, probe, candidate.score)
            };
            let ruled_out = found.iter().copied().find(is_ruled_out);
            found.retain(|candidate| !is_ruled_out(candidate));
            // Those that were ruled out must not cost the next ones their places. There are no more than
            // subjects with counter examples, so that this ends.
            if found.len() >= k_subjects || all < asked {
                found.truncate(k_subjects);
                return Ok(Ranked { candidates: found, ruled_out });
            }
            asked += all - found.len();
        }
    }

    /// Whether a counter example speaks against `probe` showing this subject, with whom it scores `score`.
    pub fn rules_out(&self, subject: SubjectId, probe: &Embedding, score: ComparisonScore) -> bool {
        self.counter_examples.rule_out(subject, probe, score)
    }

    /// How many counter examples there are in this space.
    pub fn counter_examples(&self) -> usize {
        self.counter_examples.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::EmbeddingSpaceId;
    use crate::gallery::{GallerySubject, SnapshotBuilder, SubjectName, TemplateId};

    fn space() -> EmbeddingSpaceId {
        EmbeddingSpaceId::new("test/1")
    }

    /// Person `who` is an axis; the others lean towards that of person 7.
    fn face(values: &[(usize, f32)]) -> Embedding {
        let mut all = vec![0.0; 8];
        values.iter().for_each(|(axis, value)| all[*axis] = *value);
        Embedding::normalised(all, space()).unwrap()
    }

    fn id(who: usize) -> SubjectId {
        SubjectId::from_bytes([who as u8; 16])
    }

    /// Subjects 0 to 3, with counter examples.
    fn gallery(counter_examples: &[(usize, Embedding)]) -> GallerySnapshot {
        let mut builder = SnapshotBuilder::new(space());
        for who in 0..4 {
            let name = SubjectName::new("somebody").unwrap();
            builder.subject(GallerySubject { id: id(who), name, announced: false }).unwrap();
            builder.template(TemplateId(who as i64 + 1), id(who), &face(&[(who, 1.0)])).unwrap();
        }
        for (who, embedding) in counter_examples {
            builder.counter_example(id(*who), embedding.clone());
        }
        builder.finish(None)
    }

    fn ranked(gallery: &GallerySnapshot, probe: &Embedding) -> (Vec<SubjectId>, Option<SubjectId>) {
        let ranked = gallery.rank(probe, 2, &mut SearchScratch::new()).unwrap();
        let subjects = ranked.candidates.iter().map(|candidate| candidate.subject).collect();
        (subjects, ranked.ruled_out.map(|candidate| candidate.subject))
    }

    #[test]
    fn without_counter_examples_it_is_a_search() {
        let probe = face(&[(0, 1.0), (1, 0.5)]);
        assert_eq!(ranked(&gallery(&[]), &probe), (vec![id(0), id(1)], None));
    }

    #[test]
    fn probe_nearer_to_a_counter_example_does_not_name_its_subject() {
        // A stranger who looks like subject 0, and was said not to be them.
        let stranger = face(&[(0, 0.7), (7, 0.7)]);
        let gallery = gallery(&[(0, stranger.clone())]);
        let again = face(&[(0, 0.7), (7, 0.6), (6, 0.1)]);
        let (subjects, ruled_out) = ranked(&gallery, &again);
        assert!(!subjects.contains(&id(0)));
        assert_eq!((subjects.len(), ruled_out), (2, Some(id(0))), "the places are filled up");
        // The subject themselves is as near as ever.
        let own = face(&[(0, 1.0), (7, 0.2)]);
        assert_eq!(ranked(&gallery, &own).0[0], id(0));
        assert_eq!(ranked(&gallery, &own).1, None);
    }

    #[test]
    fn counter_example_of_one_subject_takes_nothing_from_another() {
        let face_of_one = face(&[(1, 1.0), (0, 0.4)]);
        let gallery = gallery(&[(0, face_of_one.clone())]);
        assert_eq!(ranked(&gallery, &face_of_one), (vec![id(1), id(2)], Some(id(0))));
        assert!(gallery.rules_out(id(0), &face_of_one, ComparisonScore::new(0.4)));
        assert!(!gallery.rules_out(id(1), &face_of_one, ComparisonScore::new(0.4)));
    }

    #[test]
    fn score_as_near_as_the_counter_example_still_matches() {
        let gallery = gallery(&[(0, face(&[(0, 1.0)]))]);
        assert_eq!(ranked(&gallery, &face(&[(0, 1.0)])).0[0], id(0));
    }

    #[test]
    fn everybody_may_be_ruled_out() {
        let probe = face(&[(0, 0.5), (1, 0.4), (2, 0.3), (3, 0.2), (7, 0.9)]);
        let gallery =
            gallery(&[(0, probe.clone()), (1, probe.clone()), (2, probe.clone()), (3, probe.clone())]);
        assert_eq!(ranked(&gallery, &probe), (vec![], Some(id(0))));
    }
}
