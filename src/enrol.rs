//! Decides which samples become templates: pure, on any thread.
//!
//! The samples have passed the quality stage; what is left to decide is whether they show one person,
//! the right one, and nobody who is enrolled already under another name. The thresholds are the
//! caller's, since they belong to the embedding space. [`carry_out`] then does it, on the thread that
//! owns the gallery's database.

mod order;

use serde::Serialize;
use thiserror::Error;

use crate::embedding::{Embedding, EmbeddingError};
use crate::gallery::{
    Candidate, GallerySnapshot, MAX_SAMPLES, NewSample, SampleOrigin, SamplePicture, SampleQuality,
    SearchScratch, SubjectId, TemplateId,
};
use crate::score::ComparisonScore;

pub use order::{
    Enrolled, EnrolmentError, EnrolmentOrder, EnrolmentRules, NamedLikeness, OrderTarget, carry_out,
};

/// One sample offered for enrolment.
#[derive(Clone, Debug)]
pub struct EnrolmentCandidate {
    /// The caller's own number of the sample, by which the answer refers to it.
    pub index: usize,
    /// Where it came from.
    pub origin: SampleOrigin,
    /// How usable it is.
    pub quality: SampleQuality,
    /// What the network made of it.
    pub embedding: Embedding,
    /// Its picture, where pictures are kept.
    pub picture: Option<SamplePicture>,
}

/// Comparison scores that decide. All belong to one embedding space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnrolmentThresholds {
    /// Two samples of one person score at least this. Lower than the threshold of recognition:
    /// samples of one person may differ much, and it is not a door that opens here.
    pub agreement: ComparisonScore,
    /// From here on a sample looks like another subject. As a rule the threshold of recognition.
    pub conflict: ComparisonScore,
    /// Above this two embeddings are the same picture again.
    pub duplicate: ComparisonScore,
}

/// What to do when some samples cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusableSamples {
    /// Enrol nothing.
    RefuseAll,
    /// Enrol the others.
    Skip,
}

/// A sample that is not enrolled, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RefusedSample {
    /// The caller's number of the sample.
    pub index: usize,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a sample is not enrolled.
#[derive(Clone, Debug, PartialEq, Serialize, Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RefusalReason {
    /// It does not look like other samples of the same enrolment.
    #[error("looks like somebody else than sample {} (score {score})", list(.samples))]
    DisagreesWithSamples {
        /// The samples it disagrees with.
        samples: Vec<usize>,
        /// The lowest score among them.
        score: ComparisonScore,
    },
    /// It does not look like the subject it is to be added to.
    #[error("does not look like this subject's own templates (best score {score})")]
    DisagreesWithSubject {
        /// The best score with the subject's templates.
        score: ComparisonScore,
    },
}

/// A sample that was left out because it adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DuplicateSample {
    /// The caller's number of the sample.
    pub index: usize,
    /// What it repeats.
    pub of: DuplicateOf,
}

/// What a duplicate repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateOf {
    /// Another sample of the same enrolment.
    Sample(usize),
    /// A template the subject already has.
    Template(TemplateId),
}

/// An accepted sample that looks like another subject.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LooksLike {
    /// The caller's number of the sample.
    pub index: usize,
    /// Whom it looks like.
    pub subject: SubjectId,
    /// How much.
    pub score: ComparisonScore,
}

/// What to enrol.
#[derive(Clone, Debug)]
pub struct EnrolmentPlan {
    /// The numbers of the accepted samples, in the order of `samples`.
    pub accepted: Vec<usize>,
    /// For [`crate::gallery::Enrolment`].
    pub samples: Vec<NewSample>,
    /// Left out because they add nothing.
    pub duplicates: Vec<DuplicateSample>,
    /// Left out as unusable; empty unless the caller allowed it.
    pub refused: Vec<RefusedSample>,
    /// Warnings: accepted samples that look like somebody already enrolled, at most one for each
    /// other subject, best score first. Twins are possible, so the operator decides.
    pub looks_like: Vec<LooksLike>,
}

/// Why nothing is enrolled.
#[derive(Debug, Error, PartialEq)]
pub enum EnrolmentRefused {
    /// No samples were given.
    #[error("there is no sample to enrol")]
    NoSamples,
    /// More samples than one enrolment takes.
    #[error("an enrolment has at most {MAX_SAMPLES} samples, {found} were given")]
    TooManySamples {
        /// Samples given.
        found: usize,
    },
    /// Some samples cannot be used and the caller wants all or nothing.
    #[error("{} of the samples cannot be used: {}", .0.len(), reasons(.0))]
    Unusable(Vec<RefusedSample>),
    /// The samples show different people and none of them is in the majority.
    #[error("the samples show different people: {}", reasons(.0))]
    Ambiguous(Vec<RefusedSample>),
    /// Every sample is in the gallery already.
    #[error("every sample is enrolled already")]
    OnlyDuplicates(Vec<DuplicateSample>),
    /// The samples do not belong to the gallery's embedding space, or to different ones.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
}

/// Decides about `candidates`, to be added to `subject` or, without one, to a new subject.
///
/// Duplicates are dropped first, the earlier sample stays. Then, while two samples score below
/// `agreement`, the one that disagrees with most others is taken out; where that is a tie between
/// different people nothing is enrolled. What remains must look like the subject's own templates,
/// if it has any.
pub fn plan(
    mut candidates: Vec<EnrolmentCandidate>,
    subject: Option<SubjectId>,
    gallery: &GallerySnapshot,
    thresholds: &EnrolmentThresholds,
    unusable: UnusableSamples,
) -> Result<EnrolmentPlan, EnrolmentRefused> {
    match candidates.len() {
        0 => return Err(EnrolmentRefused::NoSamples),
        found if found > MAX_SAMPLES => return Err(EnrolmentRefused::TooManySamples { found }),
        _ => {}
    }
    let own = own_templates(subject, gallery)?;
    let duplicates = drop_duplicates(&mut candidates, &own, thresholds.duplicate)?;
    if candidates.is_empty() {
        return Err(EnrolmentRefused::OnlyDuplicates(duplicates));
    }
    let mut refused = drop_disagreeing(&mut candidates, thresholds.agreement)?;
    refused.extend(drop_strangers(&mut candidates, &own, thresholds.agreement)?);
    refused.sort_by_key(|sample| sample.index);
    if !refused.is_empty() && (candidates.is_empty() || unusable == UnusableSamples::RefuseAll) {
        return Err(EnrolmentRefused::Unusable(refused));
    }
    let looks_like = conflicts(&candidates, subject, gallery, thresholds.conflict)?;
    Ok(EnrolmentPlan {
        accepted: candidates.iter().map(|c| c.index).collect(),
        samples: candidates
            .into_iter()
            .map(|c| NewSample {
                origin: c.origin,
                quality: c.quality,
                embedding: c.embedding,
                picture: c.picture,
            })
            .collect(),
        duplicates,
        refused,
        looks_like,
    })
}

fn own_templates(
    subject: Option<SubjectId>,
    gallery: &GallerySnapshot,
) -> Result<Vec<(TemplateId, Embedding)>, EmbeddingError> {
    let Some(subject) = subject else { return Ok(Vec::new()) };
    let templates = gallery.templates_of(subject);
    templates
        .map(|(id, values)| Ok((id, Embedding::from_unit(values.to_vec(), gallery.space().clone())?)))
        .collect()
}

fn drop_duplicates(
    candidates: &mut Vec<EnrolmentCandidate>,
    own: &[(TemplateId, Embedding)],
    threshold: ComparisonScore,
) -> Result<Vec<DuplicateSample>, EmbeddingError> {
    let mut duplicates = Vec::new();
    let mut kept: Vec<EnrolmentCandidate> = Vec::with_capacity(candidates.len());
    for candidate in candidates.drain(..) {
        let mut of = None;
        for (id, template) in own {
            if candidate.embedding.compare(template)? > threshold {
                of = of.or(Some(DuplicateOf::Template(*id)));
            }
        }
        for other in &kept {
            if candidate.embedding.compare(&other.embedding)? > threshold {
                of = of.or(Some(DuplicateOf::Sample(other.index)));
            }
        }
        match of {
            Some(of) => duplicates.push(DuplicateSample { index: candidate.index, of }),
            None => kept.push(candidate),
        }
    }
    *candidates = kept;
    Ok(duplicates)
}

fn drop_disagreeing(
    candidates: &mut Vec<EnrolmentCandidate>,
    threshold: ComparisonScore,
) -> Result<Vec<RefusedSample>, EnrolmentRefused> {
    let mut refused = Vec::new();
    loop {
        let disagreements = disagreements(candidates, threshold)?;
        let most = disagreements.iter().map(|(samples, _)| samples.len()).max().unwrap_or(0);
        if most == 0 {
            return Ok(refused);
        }
        let worst: Vec<usize> = (0..candidates.len()).filter(|i| disagreements[*i].0.len() == most).collect();
        // Taken out one at a time it would depend on the order who stays, once the worst disagree
        // with each other: that is two camps of equal size.
        let camps =
            worst.iter().any(|i| worst.iter().any(|j| disagreements[*i].0.contains(&candidates[*j].index)));
        let refusal = |at: usize| {
            let (samples, score) = disagreements[at].clone();
            let reason = RefusalReason::DisagreesWithSamples { samples, score };
            RefusedSample { index: candidates[at].index, reason }
        };
        if camps {
            refused.extend((0..candidates.len()).filter(|i| !disagreements[*i].0.is_empty()).map(refusal));
            refused.sort_by_key(|sample| sample.index);
            return Err(EnrolmentRefused::Ambiguous(refused));
        }
        refused.extend(worst.iter().map(|at| refusal(*at)));
        for at in worst.into_iter().rev() {
            candidates.remove(at);
        }
    }
}

/// For each sample the numbers of those it does not agree with, and the lowest score among them.
fn disagreements(
    candidates: &[EnrolmentCandidate],
    threshold: ComparisonScore,
) -> Result<Vec<(Vec<usize>, ComparisonScore)>, EmbeddingError> {
    let mut found = vec![(Vec::new(), ComparisonScore::MAX); candidates.len()];
    for (i, left) in candidates.iter().enumerate() {
        for (j, right) in candidates.iter().enumerate().skip(i + 1) {
            let score = left.embedding.compare(&right.embedding)?;
            if score < threshold {
                for (at, other) in [(i, right.index), (j, left.index)] {
                    found[at].0.push(other);
                    if score < found[at].1 {
                        found[at].1 = score;
                    }
                }
            }
        }
    }
    Ok(found)
}

fn drop_strangers(
    candidates: &mut Vec<EnrolmentCandidate>,
    own: &[(TemplateId, Embedding)],
    threshold: ComparisonScore,
) -> Result<Vec<RefusedSample>, EmbeddingError> {
    let mut refused = Vec::new();
    if own.is_empty() {
        return Ok(refused);
    }
    let mut kept = Vec::with_capacity(candidates.len());
    for candidate in candidates.drain(..) {
        let mut best = ComparisonScore::MIN;
        for (_, template) in own {
            let score = candidate.embedding.compare(template)?;
            if score > best {
                best = score;
            }
        }
        if best < threshold {
            let reason = RefusalReason::DisagreesWithSubject { score: best };
            refused.push(RefusedSample { index: candidate.index, reason });
        } else {
            kept.push(candidate);
        }
    }
    *candidates = kept;
    Ok(refused)
}

fn conflicts(
    candidates: &[EnrolmentCandidate],
    subject: Option<SubjectId>,
    gallery: &GallerySnapshot,
    threshold: ComparisonScore,
) -> Result<Vec<LooksLike>, EmbeddingError> {
    // Enough to name those an operator would compare with, after the subject itself.
    const NEIGHBOURS: usize = 4;
    let mut scratch = SearchScratch::new();
    let mut found: Vec<LooksLike> = Vec::new();
    for candidate in candidates {
        for Candidate { subject: other, score, .. } in
            gallery.search(&candidate.embedding, NEIGHBOURS, &mut scratch)?
        {
            if Some(other) == subject || score < threshold {
                continue;
            }
            let hit = LooksLike { index: candidate.index, subject: other, score };
            match found.iter_mut().find(|known| known.subject == other) {
                Some(known) if known.score >= score => {}
                Some(known) => *known = hit,
                None => found.push(hit),
            }
        }
    }
    found.sort_by(|l, r| r.score.get().total_cmp(&l.score.get()));
    Ok(found)
}

fn list(samples: &[usize]) -> String {
    samples.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn reasons(refused: &[RefusedSample]) -> String {
    let each = refused.iter().map(|sample| format!("sample {} {}", sample.index, sample.reason));
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::EmbeddingSpaceId;
    use crate::gallery::{GallerySubject, SnapshotBuilder, SubjectName};
    use crate::score::QualityScore;

    const THRESHOLDS: fn() -> EnrolmentThresholds = || EnrolmentThresholds {
        agreement: ComparisonScore::new(0.3),
        conflict: ComparisonScore::new(0.5),
        duplicate: ComparisonScore::new(0.999),
    };

    fn space() -> EmbeddingSpaceId {
        EmbeddingSpaceId::new("test/1")
    }

    /// Person `who` is an axis, `tilt` leans towards an axis that nobody is.
    fn face(who: usize, tilt: f32) -> Embedding {
        let mut values = vec![0.0; 8];
        values[who] = 1.0;
        values[7] = tilt;
        Embedding::normalised(values, space()).unwrap()
    }

    fn candidate(index: usize, embedding: Embedding) -> EnrolmentCandidate {
        let quality = SampleQuality {
            score: QualityScore::new(0.9),
            eye_distance_px: 60.0,
            sharpness: 10.0,
            yaw_deg: 0.0,
            pitch_deg: 0.0,
            roll_deg: 0.0,
        };
        EnrolmentCandidate { index, origin: SampleOrigin::File, quality, embedding, picture: None }
    }

    fn candidates(faces: &[(usize, f32)]) -> Vec<EnrolmentCandidate> {
        faces.iter().enumerate().map(|(i, (who, tilt))| candidate(i, face(*who, *tilt))).collect()
    }

    fn id(who: usize) -> SubjectId {
        SubjectId::from_bytes([who as u8; 16])
    }

    fn gallery(faces: &[(usize, f32)]) -> GallerySnapshot {
        let mut builder = SnapshotBuilder::new(space());
        for (at, (who, tilt)) in faces.iter().enumerate() {
            let name = SubjectName::new("somebody").unwrap();
            builder.subject(GallerySubject { id: id(*who), name, announced: false }).unwrap();
            builder.template(TemplateId(at as i64 + 1), id(*who), &face(*who, *tilt)).unwrap();
        }
        builder.finish(None)
    }

    #[test]
    fn samples_of_one_person_are_accepted() {
        let plan = plan(
            candidates(&[(0, 0.0), (0, 0.3), (0, -0.3)]),
            None,
            &gallery(&[(1, 0.0)]),
            &THRESHOLDS(),
            UnusableSamples::RefuseAll,
        )
        .unwrap();
        assert_eq!(plan.accepted, [0, 1, 2]);
        assert_eq!(plan.samples.len(), 3);
        assert!(plan.duplicates.is_empty() && plan.refused.is_empty() && plan.looks_like.is_empty());
    }

    #[test]
    fn sample_of_another_person_refuses_the_enrolment_or_is_skipped() {
        let given = candidates(&[(0, 0.0), (1, 0.0), (0, 0.3)]);
        let empty = gallery(&[]);
        let refused =
            plan(given.clone(), None, &empty, &THRESHOLDS(), UnusableSamples::RefuseAll).unwrap_err();
        let expected = RefusedSample {
            index: 1,
            reason: RefusalReason::DisagreesWithSamples {
                samples: vec![0, 2],
                score: ComparisonScore::new(0.0),
            },
        };
        assert_eq!(refused, EnrolmentRefused::Unusable(vec![expected.clone()]));
        assert!(
            refused.to_string().contains("sample 1 looks like somebody else than sample 0, 2"),
            "{refused}"
        );
        let skipped = plan(given, None, &empty, &THRESHOLDS(), UnusableSamples::Skip).unwrap();
        assert_eq!((skipped.accepted, skipped.refused), (vec![0, 2], vec![expected]));
    }

    #[test]
    fn two_people_in_equal_numbers_are_never_guessed_apart() {
        for faces in [&[(0, 0.0), (1, 0.0)][..], &[(0, 0.0), (1, 0.0), (0, 0.3), (1, 0.3)]] {
            let refused = plan(candidates(faces), None, &gallery(&[]), &THRESHOLDS(), UnusableSamples::Skip);
            let Err(EnrolmentRefused::Ambiguous(samples)) = refused else { panic!("{refused:?}") };
            assert_eq!(samples.len(), faces.len());
        }
    }

    #[test]
    fn repeated_pictures_are_dropped_with_a_note() {
        let plan = plan(
            candidates(&[(0, 0.0), (0, 0.4), (0, 0.4), (0, 0.8)]),
            Some(id(0)),
            &gallery(&[(1, 0.0), (0, 0.0)]),
            &THRESHOLDS(),
            UnusableSamples::RefuseAll,
        )
        .unwrap();
        assert_eq!(plan.accepted, [1, 3]);
        assert_eq!(
            plan.duplicates,
            [
                DuplicateSample { index: 0, of: DuplicateOf::Template(TemplateId(2)) },
                DuplicateSample { index: 2, of: DuplicateOf::Sample(1) },
            ]
        );
    }

    #[test]
    fn enrolling_only_what_is_there_already_is_refused() {
        let refused = plan(
            candidates(&[(0, 0.0)]),
            Some(id(0)),
            &gallery(&[(0, 0.0)]),
            &THRESHOLDS(),
            UnusableSamples::RefuseAll,
        );
        assert!(matches!(refused, Err(EnrolmentRefused::OnlyDuplicates(_))), "{refused:?}");
    }

    #[test]
    fn stranger_is_not_added_to_a_known_subject() {
        let known = gallery(&[(0, 0.0), (1, 0.0)]);
        let given = candidates(&[(1, 0.2)]);
        let refused = plan(given, Some(id(0)), &known, &THRESHOLDS(), UnusableSamples::Skip).unwrap_err();
        let EnrolmentRefused::Unusable(samples) = &refused else { panic!("{refused:?}") };
        assert!(matches!(samples[0].reason, RefusalReason::DisagreesWithSubject { .. }));
    }

    #[test]
    fn somebody_enrolled_under_another_name_is_a_warning_with_the_score() {
        let known = gallery(&[(1, 0.0), (0, 0.0), (0, 0.5)]);
        let given = candidates(&[(0, 0.2), (0, 0.3)]);
        let new = plan(given.clone(), None, &known, &THRESHOLDS(), UnusableSamples::RefuseAll).unwrap();
        assert_eq!(new.looks_like.len(), 1, "one warning for each other subject");
        assert_eq!(new.looks_like[0].subject, id(0));
        assert!(new.looks_like[0].score.get() > 0.97);
        let same = plan(given, Some(id(0)), &known, &THRESHOLDS(), UnusableSamples::RefuseAll).unwrap();
        assert!(same.looks_like.is_empty(), "the subject itself is no conflict");
    }

    #[test]
    fn samples_of_another_space_and_absurd_numbers_are_refused() {
        let other = Embedding::normalised(vec![1.0; 8], EmbeddingSpaceId::new("test/2")).unwrap();
        let run = |given| plan(given, None, &gallery(&[(0, 0.0)]), &THRESHOLDS(), UnusableSamples::Skip);
        assert!(matches!(
            run(vec![candidate(0, other)]),
            Err(EnrolmentRefused::Embedding(EmbeddingError::SpaceMismatch { .. }))
        ));
        assert_eq!(run(vec![]).unwrap_err(), EnrolmentRefused::NoSamples);
        let many = vec![candidate(0, face(0, 0.0)); MAX_SAMPLES + 1];
        assert_eq!(run(many).unwrap_err(), EnrolmentRefused::TooManySamples { found: MAX_SAMPLES + 1 });
    }
}
