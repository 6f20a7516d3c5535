//! What each sample of a subject is worth: which help, and which stand in the way. Pure, on any thread.
//!
//! A sample helps when it looks like the subject's other samples and like nobody else. One that looks
//! like somebody else is the most common cause of a name given to a stranger, and one that does not
//! look like the others is most often a picture of the wrong person.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::embedding::{Embedding, EmbeddingError};
use crate::gallery::{GallerySnapshot, SampleId, SearchScratch, SubjectId};
use crate::score::{ComparisonScore, QualityScore};

/// Below this a better picture is advised: a little above what enrolment takes by default. Set by
/// judgement, not measured.
const WEAK_QUALITY: f32 = 0.5;
/// Other subjects that are looked at for each sample.
const NEIGHBOURS: usize = 4;
/// Other subjects told for the whole subject.
const CLOSEST: usize = 3;

/// A sample as it is stored.
#[derive(Clone, Debug)]
pub struct StoredSample {
    /// Which.
    pub id: SampleId,
    /// As measured when it was enrolled.
    pub quality: QualityScore,
    /// Its template in the space that is searched; `None` if it has none there.
    pub embedding: Option<Embedding>,
}

/// Comparison scores that decide. All belong to one embedding space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AssessmentThresholds {
    /// Two samples of one person score at least this.
    pub agreement: ComparisonScore,
    /// From here on one sample recognises the other.
    pub identification: ComparisonScore,
    /// From here on a sample looks like another subject.
    pub conflict: ComparisonScore,
}

/// What a sample does for recognition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// It looks like the others and like nobody else.
    Helps,
    /// It does no harm and little good.
    Weak,
    /// It does not look like the subject's other samples.
    Disagrees,
    /// It looks like another subject.
    Conflicts,
}

/// One sample, assessed.
#[derive(Clone, Debug, PartialEq)]
pub struct AssessedSample {
    /// Which.
    pub id: SampleId,
    /// Mean comparison score with the subject's other samples; `None` where there are none.
    pub own_score: Option<ComparisonScore>,
    /// What it does.
    pub worth: Worth,
    /// What to do about it.
    pub advice: String,
    /// Other subjects it looks like, best score first.
    pub conflicts: Vec<(SubjectId, ComparisonScore)>,
}

/// All samples of a subject, assessed.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// In the order they were given.
    pub samples: Vec<AssessedSample>,
    /// The subjects most like this one, best score first, whatever their scores.
    pub closest: Vec<(SubjectId, ComparisonScore)>,
}

/// Assesses the samples of `subject` against each other and against everybody else in `known`.
pub fn assess(
    subject: SubjectId,
    samples: &[StoredSample],
    known: &GallerySnapshot,
    thresholds: &AssessmentThresholds,
) -> Result<Assessment, EmbeddingError> {
    let mut scratch = SearchScratch::new();
    let mut others: BTreeMap<SubjectId, ComparisonScore> = BTreeMap::new();
    let mut assessed = Vec::with_capacity(samples.len());
    for (at, sample) in samples.iter().enumerate() {
        let mut own = Vec::new();
        let mut conflicts = Vec::new();
        if let Some(embedding) = &sample.embedding {
            for (other, _) in samples.iter().enumerate().filter(|(other, _)| *other != at) {
                if let Some(other) = &samples[other].embedding {
                    own.push(embedding.compare(other)?.get());
                }
            }
            // One more, for the subject itself is among them.
            for candidate in known.search(embedding, NEIGHBOURS + 1, &mut scratch)? {
                if candidate.subject == subject {
                    continue;
                }
                let best = others.entry(candidate.subject).or_insert(candidate.score);
                if candidate.score > *best {
                    *best = candidate.score;
                }
                if candidate.score >= thresholds.conflict {
                    conflicts.push((candidate.subject, candidate.score));
                }
            }
        }
        let own_score =
            (!own.is_empty()).then(|| ComparisonScore::new(own.iter().sum::<f32>() / own.len() as f32));
        let (worth, advice) = judge(sample, own_score, own.len(), &conflicts, thresholds);
        assessed.push(AssessedSample { id: sample.id, own_score, worth, advice, conflicts });
    }
    let mut closest: Vec<_> = others.into_iter().collect();
    closest.sort_by(|left, right| right.1.get().total_cmp(&left.1.get()));
    closest.truncate(CLOSEST);
    Ok(Assessment { samples: assessed, closest })
}

fn judge(
    sample: &StoredSample,
    own_score: Option<ComparisonScore>,
    others: usize,
    conflicts: &[(SubjectId, ComparisonScore)],
    thresholds: &AssessmentThresholds,
) -> (Worth, String) {
    if sample.embedding.is_none() {
        let text = "it is not searched: its template was made by another model, or the subject has expired; \
                    make the templates anew, or enrol again";
        return (Worth::Weak, text.to_owned());
    }
    let disagrees = own_score.is_some_and(|score| score < thresholds.agreement);
    if let Some((_, score)) = conflicts.first() {
        let text = if disagrees {
            format!(
                "it looks like somebody else who is enrolled (score {score}) and not like the other samples: it \
                 is most likely a picture of them; remove it"
            )
        } else {
            format!(
                "it looks like somebody else who is enrolled (score {score}): check that both are not one \
                 person, and replace it by a sharper picture from the front"
            )
        };
        return (Worth::Conflicts, text);
    }
    match own_score {
        Some(score) if disagrees && others == 1 => {
            let text = format!(
                "the two samples do not look alike (mean score {score}); add a third, or remove the wrong one"
            );
            (Worth::Disagrees, text)
        }
        Some(score) if disagrees => {
            let text = format!(
                "it does not look like the other samples (mean score {score}): if it shows somebody else, \
                 remove it"
            );
            (Worth::Disagrees, text)
        }
        _ if sample.quality.get() < WEAK_QUALITY => {
            let text = format!(
                "its quality score is {}: a sharper picture from nearer, from the front and in even light would \
                 do more",
                sample.quality
            );
            (Worth::Weak, text)
        }
        Some(score) if score < thresholds.identification => {
            let text = format!(
                "it is little like the other samples (mean score {score}): it helps only with faces as in this \
                 very picture; further pictures between it and the others would do more"
            );
            (Worth::Weak, text)
        }
        Some(_) => (Worth::Helps, "keep it".to_owned()),
        None => {
            (Worth::Helps, "it is the only one: two or three more, slightly turned, would help".to_owned())
        }
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

    fn id(byte: u8) -> SubjectId {
        SubjectId::from_bytes([byte; 16])
    }

    /// At an angle from the first axis, in the plane of the first and the given axis.
    fn at(degrees: f32, axis: usize) -> Embedding {
        let mut values = vec![0.0; 8];
        values[0] = degrees.to_radians().cos();
        values[axis] = degrees.to_radians().sin();
        Embedding::normalised(values, space()).unwrap()
    }

    fn stored(at: i64, quality: f32, embedding: Embedding) -> StoredSample {
        StoredSample { id: SampleId(at), quality: QualityScore::new(quality), embedding: Some(embedding) }
    }

    /// The subject's own samples and one template for each of some others.
    fn known(own: &[StoredSample], others: &[(u8, Embedding)]) -> GallerySnapshot {
        let mut builder = SnapshotBuilder::new(space());
        let templates = own.iter().filter_map(|sample| Some((1, sample.embedding.clone()?)));
        let templates = templates.chain(others.iter().cloned());
        for (number, (subject, embedding)) in templates.enumerate() {
            let name = SubjectName::new("Ada").unwrap();
            builder.subject(GallerySubject { id: id(subject), name, announced: false }).unwrap();
            builder.template(TemplateId(number as i64), id(subject), &embedding).unwrap();
        }
        builder.finish(None)
    }

    const THRESHOLDS: fn() -> AssessmentThresholds = || AssessmentThresholds {
        agreement: ComparisonScore::new(0.4),
        identification: ComparisonScore::new(0.6),
        conflict: ComparisonScore::new(0.6),
    };

    fn run(own: &[StoredSample], others: &[(u8, Embedding)]) -> Assessment {
        assess(id(1), own, &known(own, others), &THRESHOLDS()).unwrap()
    }

    fn worths(assessment: &Assessment) -> Vec<Worth> {
        assessment.samples.iter().map(|sample| sample.worth).collect()
    }

    #[test]
    fn samples_that_look_alike_and_like_nobody_else_help() {
        let own = [stored(1, 0.9, at(0.0, 1)), stored(2, 0.9, at(20.0, 1)), stored(3, 0.9, at(20.0, 2))];
        let assessment = run(&own, &[(2, at(90.0, 3))]);
        assert_eq!(worths(&assessment), [Worth::Helps; 3]);
        let expected = 20.0_f32.to_radians().cos();
        assert!((assessment.samples[0].own_score.unwrap().get() - expected).abs() < 1e-5);
        assert_eq!(assessment.closest.iter().map(|(subject, _)| *subject).collect::<Vec<_>>(), [id(2)]);
    }

    #[test]
    fn stranger_among_the_samples_disagrees_and_the_others_do_not() {
        let own = [
            stored(1, 0.9, at(0.0, 1)),
            stored(2, 0.9, at(10.0, 1)),
            stored(3, 0.9, at(10.0, 2)),
            stored(4, 0.9, at(10.0, 4)),
            stored(5, 0.9, at(85.0, 3)),
        ];
        let assessment = run(&own, &[]);
        assert_eq!(worths(&assessment)[4], Worth::Disagrees);
        assert!(worths(&assessment)[..4].iter().all(|worth| *worth == Worth::Helps), "{assessment:?}");
        assert!(assessment.samples[4].advice.contains("remove it"));
    }

    #[test]
    fn two_samples_that_do_not_agree_are_told_as_a_pair() {
        let own = [stored(1, 0.9, at(0.0, 1)), stored(2, 0.9, at(85.0, 1))];
        let assessment = run(&own, &[]);
        assert_eq!(worths(&assessment), [Worth::Disagrees; 2]);
        assert!(assessment.samples.iter().all(|sample| sample.advice.contains("add a third")));
    }

    #[test]
    fn sample_like_another_subject_conflicts_with_whom_and_how_much() {
        let own = [stored(1, 0.9, at(0.0, 1)), stored(2, 0.9, at(10.0, 1)), stored(3, 0.9, at(80.0, 3))];
        let assessment = run(&own, &[(2, at(85.0, 3)), (3, at(90.0, 5))]);
        let conflicting = &assessment.samples[2];
        assert_eq!(conflicting.worth, Worth::Conflicts);
        assert_eq!(conflicting.conflicts.len(), 1);
        assert_eq!(conflicting.conflicts[0].0, id(2));
        assert!(conflicting.advice.contains("picture of them"), "{}", conflicting.advice);
        assert_eq!(assessment.closest[0].0, id(2));
        // Alike and like somebody else too: twins, or one person under two names.
        let twins = run(&own[..2], &[(2, at(5.0, 2))]);
        assert_eq!(worths(&twins), [Worth::Conflicts; 2]);
        assert!(twins.samples[0].advice.contains("one person"));
    }

    #[test]
    fn poor_or_unlike_or_unsearched_samples_are_weak() {
        let mut own =
            vec![stored(1, 0.9, at(0.0, 1)), stored(2, 0.45, at(10.0, 1)), stored(3, 0.9, at(60.0, 2))];
        own.push(StoredSample { id: SampleId(4), quality: QualityScore::MAX, embedding: None });
        let assessment = run(&own, &[]);
        assert_eq!(worths(&assessment)[1..], [Worth::Weak; 3]);
        assert!(assessment.samples[1].advice.contains("quality score is 0.450"));
        assert!(assessment.samples[2].advice.contains("little like"));
        assert!(assessment.samples[3].advice.contains("another model"));
        assert_eq!(assessment.samples[3].own_score, None);
    }

    #[test]
    fn single_sample_has_no_score_of_its_own() {
        let assessment = run(&[stored(1, 0.9, at(0.0, 1))], &[]);
        assert_eq!((assessment.samples[0].own_score, assessment.samples[0].worth), (None, Worth::Helps));
        assert!(assessment.closest.is_empty());
        assert_eq!(run(&[], &[]).samples, []);
    }
}
