//! What several probes of one track say together. Pure: time and decisions are passed in.
//!
//! One probe may err; a visit is decided by probes that agree. A visit says so once, and again only
//! when its verdict changes, so that whoever listens gets one event a visit and not one a frame.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::gallery::{Candidate, SubjectId};
use crate::identify::{Decision, Inconclusive};

/// How probes become a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisitSettings {
    /// Probes in a row that must name the same subject.
    pub agreeing_probes: u32,
    /// Probes in a row without a match after which the visitor is unknown.
    pub unknown_after_probes: u32,
    /// A decided visit is probed again after this long.
    pub recheck_after: Duration,
}

/// What is known about the visitor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// An enrolled subject.
    Identified {
        /// The newest agreeing candidate.
        candidate: Candidate,
        /// Its lead over the second subject.
        margin: Option<f32>,
    },
    /// Nobody enrolled.
    Unknown {
        /// The best candidate of the newest probe, below the threshold.
        best: Option<Candidate>,
    },
}

impl Verdict {
    /// The subject, if there is one.
    pub fn subject(&self) -> Option<SubjectId> {
        match self {
            Self::Identified { candidate, .. } => Some(candidate.subject),
            Self::Unknown { .. } => None,
        }
    }
}

/// The probes of one track.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    verdict: Option<Verdict>,
    /// Whom the latest matching probes named, and how many in a row.
    agreeing: Option<(SubjectId, u32)>,
    /// Latest probes in a row that matched nobody.
    strangers: u32,
    /// The newest conclusive probe contradicts the verdict.
    in_doubt: bool,
    last_conclusive: Option<Monotonic>,
    looks: u32,
    probes: u32,
    inconclusive: BTreeMap<&'static str, u32>,
}

impl Visit {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present verdict.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Whether the newest conclusive probe contradicts the verdict.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Looks taken at this face so far, usable or not.
    pub fn looks(&self) -> u32 {
        self.looks
    }

    /// Embeddings made and searched so far.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// How often each reason kept a look from being conclusive.
    pub fn inconclusive(&self) -> &BTreeMap<&'static str, u32> {
        &self.inconclusive
    }

    /// The reason that came up most.
    pub fn main_reason(&self) -> Option<&'static str> {
        self.inconclusive.iter().max_by_key(|(_, count)| **count).map(|(reason, _)| *reason)
    }

    /// True while the face should be looked at closely: until there is a verdict, while one is in
    /// doubt, and from time to time afterwards.
    pub fn wants_probe(&self, now: Monotonic, settings: &VisitSettings) -> bool {
        let due = |last: Monotonic| now.since(last) >= settings.recheck_after;
        self.verdict.is_none() || self.in_doubt || self.last_conclusive.is_none_or(due)
    }

    /// Takes in the decision about one look and returns the verdict if it is new or has changed.
    pub fn observe(
        &mut self,
        now: Monotonic,
        decision: &Decision,
        settings: &VisitSettings,
    ) -> Option<Verdict> {
        self.looks += 1;
        let candidate = match decision {
            Decision::Inconclusive(reason) => {
                self.probes += u32::from(matches!(reason, Inconclusive::Ambiguous(_)));
                *self.inconclusive.entry(reason.code()).or_default() += 1;
                return None;
            }
            Decision::Match { candidate, margin } => {
                let run = self.agreeing.filter(|(subject, _)| *subject == candidate.subject);
                self.agreeing =
                    Some((candidate.subject, run.map_or(1, |(_, count)| count.saturating_add(1))));
                self.strangers = 0;
                Verdict::Identified { candidate: *candidate, margin: *margin }
            }
            Decision::NoMatch { best } => {
                self.agreeing = None;
                self.strangers = self.strangers.saturating_add(1);
                Verdict::Unknown { best: *best }
            }
        };
        self.probes += 1;
        self.last_conclusive = Some(now);
        let agreed = match candidate {
            Verdict::Identified { .. } => {
                self.agreeing.is_some_and(|(_, count)| count >= settings.agreeing_probes)
            }
            Verdict::Unknown { .. } => self.strangers >= settings.unknown_after_probes,
        };
        let same = self.verdict.as_ref().is_some_and(|verdict| verdict.subject() == candidate.subject());
        self.in_doubt = self.verdict.is_some() && !same && !agreed;
        if agreed {
            self.verdict = Some(candidate);
        }
        (agreed && !same).then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::TemplateId;
    use crate::identify::Ambiguous;
    use crate::quality::Unusable;
    use crate::score::ComparisonScore;
    use proptest::prelude::*;

    const SETTINGS: VisitSettings =
        VisitSettings { agreeing_probes: 2, unknown_after_probes: 3, recheck_after: Duration::from_secs(2) };

    fn candidate(subject: u8) -> Candidate {
        let subject = SubjectId::from_bytes([subject; 16]);
        Candidate { subject, template: TemplateId(1), score: ComparisonScore::new(0.6) }
    }

    fn matched(subject: u8) -> Decision {
        Decision::Match { candidate: candidate(subject), margin: Some(0.2) }
    }

    const NOBODY: Decision = Decision::NoMatch { best: None };
    const TOO_FAR: Decision = Decision::Inconclusive(Inconclusive::Sample(Unusable::TooFar {
        eye_distance_px: 10.0,
        minimum_px: 24.0,
    }));

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    /// Feeds one decision every 100 ms and returns whom each new verdict names.
    fn verdicts(decisions: &[Decision]) -> Vec<Option<SubjectId>> {
        let mut visit = Visit::new();
        let observe = |(step, decision)| visit.observe(at(100 * step as u64), decision, &SETTINGS);
        decisions.iter().enumerate().filter_map(observe).map(|verdict| verdict.subject()).collect()
    }

    fn named(subject: u8) -> Option<SubjectId> {
        Some(candidate(subject).subject)
    }

    #[test]
    fn subject_is_named_once_two_probes_agree() {
        assert_eq!(verdicts(&[matched(1)]), []);
        assert_eq!(verdicts(&[matched(1), matched(1), matched(1), matched(1)]), [named(1)]);
    }

    #[test]
    fn unusable_looks_neither_help_nor_harm() {
        assert_eq!(verdicts(&[TOO_FAR, matched(1), TOO_FAR, TOO_FAR, matched(1)]), [named(1)]);
        assert_eq!(verdicts(&[NOBODY, TOO_FAR, NOBODY, TOO_FAR, NOBODY]), [None]);
    }

    #[test]
    fn probes_that_disagree_name_nobody() {
        assert_eq!(verdicts(&[matched(1), matched(2), matched(1), matched(2)]), []);
        assert_eq!(verdicts(&[matched(1), NOBODY, matched(1), NOBODY]), []);
    }

    #[test]
    fn stranger_is_reported_once_and_may_still_be_recognised() {
        assert_eq!(verdicts(&[NOBODY, NOBODY, NOBODY, NOBODY]), [None]);
        assert_eq!(verdicts(&[NOBODY, NOBODY, NOBODY, matched(1), matched(1)]), [None, named(1)]);
    }

    #[test]
    fn single_contradiction_does_not_change_the_verdict() {
        assert_eq!(verdicts(&[matched(1), matched(1), matched(2), matched(1), matched(1)]), [named(1)]);
        assert_eq!(verdicts(&[matched(1), matched(1), matched(2), matched(2)]), [named(1), named(2)]);
    }

    #[test]
    fn decided_visit_is_probed_again_only_when_due_or_in_doubt() {
        let mut visit = Visit::new();
        assert!(visit.wants_probe(at(0), &SETTINGS));
        visit.observe(at(0), &matched(1), &SETTINGS);
        assert!(visit.wants_probe(at(100), &SETTINGS));
        visit.observe(at(100), &matched(1), &SETTINGS);
        assert!(!visit.wants_probe(at(200), &SETTINGS));
        assert!(visit.wants_probe(at(2_100), &SETTINGS));
        visit.observe(at(2_100), &matched(2), &SETTINGS);
        assert!(visit.wants_probe(at(2_200), &SETTINGS));
    }

    #[test]
    fn reasons_are_counted() {
        let mut visit = Visit::new();
        let close = Ambiguous { best: ComparisonScore::new(0.6), second: ComparisonScore::new(0.59) };
        visit.observe(at(0), &TOO_FAR, &SETTINGS);
        visit.observe(at(1), &TOO_FAR, &SETTINGS);
        visit.observe(at(2), &Decision::Inconclusive(Inconclusive::Ambiguous(close)), &SETTINGS);
        assert_eq!(visit.main_reason(), Some("too_far"));
        assert_eq!(visit.inconclusive()["two_subjects_too_close"], 1);
        assert_eq!((visit.looks(), visit.probes()), (3, 1));
    }

    fn any_decision() -> impl Strategy<Value = Decision> {
        prop_oneof![(0u8..3).prop_map(matched), Just(NOBODY), Just(TOO_FAR)]
    }

    proptest! {
        #[test]
        fn successive_verdicts_always_differ(decisions in prop::collection::vec(any_decision(), 0..80)) {
            let verdicts = verdicts(&decisions);
            prop_assert!(verdicts.windows(2).all(|pair| pair[0] != pair[1]));
        }

        #[test]
        fn nobody_is_named_whom_no_probe_matched(decisions in prop::collection::vec(any_decision(), 0..80)) {
            for subject in verdicts(&decisions).into_iter().flatten() {
                let probes = decisions.iter().filter(
                    |d| matches!(d, Decision::Match { candidate, .. } if candidate.subject == subject));
                prop_assert!(probes.count() >= 2);
            }
        }
    }
}
