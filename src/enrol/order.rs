//! Carries out an enrolment: decides, warns, and writes, in one place for the command line, the admin
//! page and imports. Runs on the thread that owns the gallery's database.

use thiserror::Error;

use super::{
    DuplicateSample, EnrolmentCandidate, EnrolmentRefused, EnrolmentThresholds, LooksLike, RefusedSample,
    UnusableSamples, plan,
};
use crate::config::Config;
use crate::gallery::{
    Enrolment, EnrolmentReceipt, EnrolmentTarget, GalleryError, GallerySnapshot, GalleryStore, GroupId,
    SubjectEdit, SubjectId, SubjectName,
};
use crate::models::Thresholds;
use crate::score::ComparisonScore;

/// Two pictures above this are one picture twice; even two frames of one second differ more.
const DUPLICATE_SCORE: f32 = 0.995;

/// What holds for every enrolment on this device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnrolmentRules {
    /// Comparison scores that decide.
    pub thresholds: EnrolmentThresholds,
    /// Whether the pictures of samples are kept.
    pub keep_pictures: bool,
}

impl EnrolmentRules {
    /// From the settings and the thresholds in force.
    pub fn new(config: &Config, in_force: &Thresholds) -> Self {
        Self {
            thresholds: EnrolmentThresholds {
                agreement: Self::agreement(in_force),
                conflict: ComparisonScore::new(in_force.conflict),
                duplicate: ComparisonScore::new(DUPLICATE_SCORE),
            },
            keep_pictures: config.enrolment.keep_pictures,
        }
    }

    /// From which comparison score on two samples may show one person: three quarters of the way to a
    /// match, 0.36 with the shipped model. One in a thousand pairs of two people reaches that, and one in
    /// 250 pairs of one person does not (docs/accuracy.md).
    pub fn agreement(in_force: &Thresholds) -> ComparisonScore {
        ComparisonScore::new(in_force.identification * 0.75)
    }
}

/// Whom an order is for.
#[derive(Clone, Debug)]
pub enum OrderTarget {
    /// The subject of this name, made where there is none.
    Named(SubjectName),
    /// A subject that is known.
    Subject(SubjectId),
}

/// What somebody wants enrolled.
#[derive(Clone, Debug)]
pub struct EnrolmentOrder {
    /// Whom it is for.
    pub target: OrderTarget,
    /// The samples, each usable by itself.
    pub candidates: Vec<EnrolmentCandidate>,
    /// What to do when some of them do not fit.
    pub unusable: UnusableSamples,
    /// Enrol also somebody who looks like another subject.
    pub accept_similar: bool,
    /// What to note about the subject.
    pub notes: Option<String>,
    /// Groups to put the subject into.
    pub groups: Option<Vec<GroupId>>,
}

impl EnrolmentOrder {
    /// Samples for a name and nothing else; a likeness to others is told, not refused.
    pub fn named(name: SubjectName, candidates: Vec<EnrolmentCandidate>, unusable: UnusableSamples) -> Self {
        let target = OrderTarget::Named(name);
        Self { target, candidates, unusable, accept_similar: true, notes: None, groups: None }
    }
}

/// A likeness to another subject, with the name the gallery knew them by.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLikeness {
    /// Which sample, whom it looks like, and how much.
    pub likeness: LooksLike,
    /// Their name.
    pub name: SubjectName,
}

/// What an enrolment came to. It is on the disk when this is returned.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Who, and which templates.
    pub receipt: EnrolmentReceipt,
    /// The caller's numbers of the samples that became them.
    pub accepted: Vec<usize>,
    /// Samples left out as unusable.
    pub refused: Vec<RefusedSample>,
    /// Samples left out because they add nothing.
    pub duplicates: Vec<DuplicateSample>,
    /// Other subjects the samples look like, best score first.
    pub looks_like: Vec<NamedLikeness>,
}

/// Why nothing was enrolled.
#[derive(Debug, Error)]
pub enum EnrolmentError {
    /// The samples do not fit.
    #[error(transparent)]
    Refused(#[from] EnrolmentRefused),
    /// The samples look like somebody else who is enrolled, and that was not accepted beforehand.
    #[error("looks like somebody who is enrolled already")]
    LooksLike(Vec<NamedLikeness>),
    /// The database.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

/// Decides about the samples against `known`, the gallery as it is, and enrols the accepted ones in one
/// transaction.
pub fn carry_out(
    store: &mut GalleryStore,
    known: &GallerySnapshot,
    order: EnrolmentOrder,
    rules: &EnrolmentRules,
) -> Result<Enrolled, EnrolmentError> {
    let (subject, target) = match order.target {
        OrderTarget::Subject(id) => (Some(id), EnrolmentTarget::Existing(id)),
        OrderTarget::Named(name) => match store.subject_named(&name)? {
            Some(subject) => (Some(subject.id), EnrolmentTarget::Existing(subject.id)),
            None => (None, EnrolmentTarget::New(name)),
        },
    };
    let mut plan = plan(order.candidates, subject, known, &rules.thresholds, order.unusable)?;
    let looks_like: Vec<_> = plan
        .looks_like
        .iter()
        .filter_map(|likeness| {
            let name = known.subject(likeness.subject)?.name.clone();
            Some(NamedLikeness { likeness: *likeness, name })
        })
        .collect();
    if !looks_like.is_empty() && !order.accept_similar {
        return Err(EnrolmentError::LooksLike(looks_like));
    }
    if !rules.keep_pictures {
        for sample in &mut plan.samples {
            sample.picture = None;
        }
    }
    let edit = SubjectEdit { notes: order.notes, groups: order.groups, ..SubjectEdit::default() };
    let receipt = store.enrol_with(&Enrolment { subject: target, samples: plan.samples }, &edit)?;
    Ok(Enrolled {
        receipt,
        accepted: plan.accepted,
        refused: plan.refused,
        duplicates: plan.duplicates,
        looks_like,
    })
}
