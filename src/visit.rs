//! What several probes of one track say together. Pure: time and decisions are passed in.
//!
//! One probe may err; a visit is decided by probes that agree. A visit says so once, and again only
//! when its verdict changes, so that whoever listens gets one event a visit and not one a frame.
//!
//! Nobody falls between the two verdicts. Each conclusive probe either continues a run of matches
//! that ends in a name, or is evidence against knowing the visitor: it matched nobody, or somebody
//! else than the one before. Single matches do not take that evidence back, so at most
//! `unknown_after_probes` times `agreeing_probes` conclusive probes make a verdict. A visit that ends
//! before has a [`Reason`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::gallery::{Candidate, SubjectId};
use crate::identify::{Decision, Inconclusive};
use crate::reason::Reason;
use crate::score::{ComparisonScore, QualityScore};

/// How probes become a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisitSettings {
    /// Probes in a row that must name the same subject.
    pub agreeing_probes: u32,
    /// Probes that match nobody, or contradict each other, after which the visitor is unknown.
    pub unknown_after_probes: u32,
    /// A decided visit is probed again after this long.
    pub recheck_after: Duration,
    /// Whoever is identified is probed again without waiting until so many probes agree: the door may want to be
    /// surer than a name needs.
    pub confirming_probes: u32,
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
        /// Probes in a row that agree.
        agreeing_probes: u32,
        /// Quality of the newest of them.
        quality: QualityScore,
    },
    /// Nobody enrolled.
    Unknown {
        /// The best candidate of the newest probe that matched nobody.
        best: Option<Candidate>,
        /// What the probes had against naming anybody.
        reason: Reason,
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

/// How often each kind of look occurred; together they are all looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookCounts {
    /// Probes that matched a subject.
    pub matches: u32,
    /// Probes that matched nobody.
    pub no_match: u32,
    /// Looks that were inconclusive, by reason.
    pub inconclusive: BTreeMap<Reason, u32>,
}

/// Conclusive probes since the last one that confirmed a verdict or the last verdict.
#[derive(Clone, Copy, Debug, Default)]
struct Against {
    /// Those that matched nobody, or somebody else than the match before.
    count: u32,
    /// Whether any of them matched.
    some_matched: bool,
    /// Of the newest that matched nobody.
    best: Option<Candidate>,
    /// Whether a counter example kept any of them from matching.
    ruled_out: bool,
}

/// What the newest closer look measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// How usable the sample was.
    pub quality: QualityScore,
    /// The best candidate's comparison score, where there was a search that found one.
    pub score: Option<ComparisonScore>,
}

/// The probes of one track.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    verdict: Option<Verdict>,
    /// Whom the latest matching probes named, and how many in a row.
    agreeing: Option<(SubjectId, u32)>,
    against: Against,
    /// The newest conclusive probe contradicts the verdict.
    in_doubt: bool,
    /// Two conclusive probes gave different answers.
    contradicted: bool,
    last_answer: Option<Option<SubjectId>>,
    last_conclusive: Option<Monotonic>,
    newest: Option<Inconclusive>,
    measured: Option<Measured>,
    counts: LookCounts,
    probes: u32,
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
        let LookCounts { matches, no_match, inconclusive } = &self.counts;
        matches + no_match + inconclusive.values().sum::<u32>()
    }

    /// Embeddings made so far.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// What became of the looks.
    pub fn counts(&self) -> &LookCounts {
        &self.counts
    }

    /// Why the newest look was inconclusive, if it was.
    pub fn newest_inconclusive(&self) -> Option<Inconclusive> {
        self.newest
    }

    /// What the newest look measured; `None` before the first.
    pub fn measured(&self) -> Option<Measured> {
        self.measured
    }

    /// Why the visitor has no name; `None` where there is one. Of a visit without a verdict, what
    /// came up most.
    pub fn main_reason(&self) -> Option<Reason> {
        match self.verdict {
            Some(Verdict::Identified { .. }) => None,
            Some(Verdict::Unknown { reason, .. }) => Some(reason),
            None => Some(self.why_undecided()),
        }
    }

    fn why_undecided(&self) -> Reason {
        let LookCounts { matches, no_match, inconclusive } = &self.counts;
        let conclusive = if self.contradicted {
            Reason::ProbesDisagree
        } else if *no_match > 0 {
            Reason::BelowThreshold
        } else {
            Reason::TooFewLooks
        };
        let most = inconclusive.iter().max_by_key(|(_, count)| **count);
        match most {
            Some((reason, count)) if *count > matches + no_match => *reason,
            _ if self.looks() == 0 => Reason::LeftTooSoon,
            _ => conclusive,
        }
    }

    /// True while the face should be looked at closely: until there is a verdict, while one is in
    /// doubt, and from time to time afterwards.
    pub fn wants_probe(&self, now: Monotonic, settings: &VisitSettings) -> bool {
        let due = |last: Monotonic| now.since(last) >= settings.recheck_after;
        let unconfirmed = match self.verdict {
            Some(Verdict::Identified { agreeing_probes, .. }) => agreeing_probes < settings.confirming_probes,
            _ => false,
        };
        self.verdict.is_none() || self.in_doubt || unconfirmed || self.last_conclusive.is_none_or(due)
    }

    /// Whether the probes so far, or a run of them that goes on, name this subject.
    pub fn names(&self, subject: SubjectId) -> bool {
        let decided = self.verdict.as_ref().and_then(Verdict::subject);
        decided == Some(subject) || self.agreeing.is_some_and(|(agreeing, _)| agreeing == subject)
    }

    /// Adds the looks of a visit that turned out to be part of this one.
    pub fn absorb(&mut self, other: &Self) {
        self.counts.matches += other.counts.matches;
        self.counts.no_match += other.counts.no_match;
        for (reason, count) in &other.counts.inconclusive {
            *self.counts.inconclusive.entry(*reason).or_default() += count;
        }
        self.probes += other.probes;
    }

    /// Takes in the decision about one look, and the quality of its sample, and returns the verdict
    /// if it is new or has changed.
    pub fn observe(
        &mut self,
        now: Monotonic,
        decision: &Decision,
        quality: QualityScore,
        settings: &VisitSettings,
    ) -> Option<Verdict> {
        self.newest = None;
        let score = match decision {
            Decision::Match { candidate, .. } => Some(candidate.score),
            Decision::NoMatch { best, .. } => best.map(|best| best.score),
            Decision::Inconclusive(_) => None,
        };
        self.measured = Some(Measured { quality, score });
        let answer = match decision {
            Decision::Inconclusive(reason) => {
                self.probes += u32::from(!matches!(reason, Inconclusive::Sample(_)));
                *self.counts.inconclusive.entry(Reason::from(reason)).or_default() += 1;
                self.newest = Some(*reason);
                return None;
            }
            Decision::Match { candidate, .. } => Some(candidate.subject),
            Decision::NoMatch { .. } => None,
        };
        self.probes += 1;
        self.last_conclusive = Some(now);
        self.contradicted |= self.last_answer.is_some_and(|last| last != answer);
        self.last_answer = Some(answer);

        let mut agreed = None;
        let mut contradicts = false;
        match decision {
            Decision::Match { candidate, margin } => {
                self.counts.matches += 1;
                let before = self.agreeing.map(|(subject, _)| subject);
                let run = self.agreeing.filter(|(subject, _)| *subject == candidate.subject);
                let agreeing_probes = run.map_or(1, |(_, count)| count.saturating_add(1));
                self.agreeing = Some((candidate.subject, agreeing_probes));
                self.against.some_matched = true;
                contradicts = before.is_some_and(|subject| subject != candidate.subject);
                if agreeing_probes >= settings.agreeing_probes {
                    let (candidate, margin) = (*candidate, *margin);
                    agreed = Some(Verdict::Identified { candidate, margin, agreeing_probes, quality });
                }
            }
            Decision::NoMatch { best, ruled_out } => {
                self.counts.no_match += 1;
                self.agreeing = None;
                self.against.best = *best;
                self.against.ruled_out |= ruled_out.is_some();
                contradicts = true;
            }
            Decision::Inconclusive(_) => {}
        }
        let confirms = self.verdict.as_ref().is_some_and(|verdict| verdict.subject() == answer);
        if confirms {
            self.against = Against::default();
        } else if contradicts {
            self.against.count = self.against.count.saturating_add(1);
        }
        if agreed.is_none() && self.against.count >= settings.unknown_after_probes {
            agreed = Some(self.unknown());
        }
        let Some(verdict) = agreed else {
            self.in_doubt = self.verdict.is_some() && !confirms;
            return None;
        };
        let same = self.verdict.as_ref().is_some_and(|before| before.subject() == verdict.subject());
        (self.verdict, self.against, self.in_doubt) = (Some(verdict), Against::default(), false);
        (!same).then_some(verdict)
    }

    fn unknown(&self) -> Verdict {
        let Against { some_matched, best, ruled_out, .. } = self.against;
        let reason = match best {
            _ if ruled_out => Reason::RuledOut,
            _ if some_matched => Reason::ProbesDisagree,
            Some(_) => Reason::BelowThreshold,
            None => Reason::NobodyEnrolled,
        };
        Verdict::Unknown { best, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::TemplateId;
    use crate::identify::Ambiguous;
    use crate::quality::Unusable;
    use proptest::prelude::*;

    const SETTINGS: VisitSettings = VisitSettings {
        agreeing_probes: 2,
        unknown_after_probes: 3,
        recheck_after: Duration::from_secs(2),
        confirming_probes: 0,
    };

    fn candidate(subject: u8) -> Candidate {
        let subject = SubjectId::from_bytes([subject; 16]);
        Candidate { subject, template: TemplateId(1), score: ComparisonScore::new(0.6) }
    }

    fn matched(subject: u8) -> Decision {
        Decision::Match { candidate: candidate(subject), margin: Some(0.2) }
    }

    const NOBODY: Decision = Decision::NoMatch { best: None, ruled_out: None };
    const QUALITY: QualityScore = QualityScore::MAX;
    /// Most conclusive probes without a verdict.
    const BOUND: usize = 2 * 3;
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
        let observe = |(step, decision)| visit.observe(at(100 * step as u64), decision, QUALITY, &SETTINGS);
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
        assert_eq!(verdicts(&[matched(1), matched(2), matched(1)]), []);
        assert_eq!(verdicts(&[matched(1), NOBODY, matched(1), NOBODY]), []);
    }

    #[test]
    fn stranger_with_spurious_matches_becomes_unknown_all_the_same() {
        let alternating = [matched(1), NOBODY, matched(1), NOBODY, matched(2), NOBODY];
        assert_eq!(verdicts(&alternating), [None]);
        assert_eq!(verdicts(&[matched(1), matched(2), matched(1), matched(2)]), [None]);
        assert_eq!(verdicts(&[NOBODY, ambiguous(), NOBODY, ambiguous(), NOBODY]), [None]);
        assert_eq!(after(&alternating).main_reason(), Some(Reason::ProbesDisagree));
        assert_eq!(after(&[NOBODY; 3]).main_reason(), Some(Reason::NobodyEnrolled));
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
        visit.observe(at(0), &matched(1), QUALITY, &SETTINGS);
        assert!(visit.wants_probe(at(100), &SETTINGS));
        visit.observe(at(100), &matched(1), QUALITY, &SETTINGS);
        assert!(!visit.wants_probe(at(200), &SETTINGS));
        assert!(visit.wants_probe(at(2_100), &SETTINGS));
        visit.observe(at(2_100), &matched(2), QUALITY, &SETTINGS);
        assert!(visit.wants_probe(at(2_200), &SETTINGS));
    }

    #[test]
    fn verdict_says_how_many_probes_agreed_and_how_good_the_last_one_was() {
        let mut visit = Visit::new();
        visit.observe(at(0), &matched(1), QualityScore::new(0.9), &SETTINGS);
        let verdict = visit.observe(at(1), &matched(1), QualityScore::new(0.5), &SETTINGS).unwrap();
        let Verdict::Identified { agreeing_probes, quality, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((agreeing_probes, quality.get()), (2, 0.5));
    }

    #[test]
    fn looks_are_counted_by_what_became_of_them() {
        let visit = after(&[TOO_FAR, TOO_FAR, ambiguous(), matched(1), NOBODY]);
        let LookCounts { matches, no_match, inconclusive } = visit.counts();
        assert_eq!((*matches, *no_match), (1, 1));
        assert_eq!((inconclusive[&Reason::TooFar], inconclusive[&Reason::TwoSubjectsTooClose]), (2, 1));
        assert_eq!((visit.looks(), visit.probes()), (5, 3));
    }

    #[test]
    fn undecided_visit_has_the_reason_that_came_up_most() {
        let cases: [(&[Decision], Reason); 8] = [
            (&[], Reason::LeftTooSoon),
            (&[matched(1)], Reason::TooFewLooks),
            (&[NOBODY, NOBODY], Reason::BelowThreshold),
            (&[matched(1), NOBODY], Reason::ProbesDisagree),
            (&[matched(1), matched(2)], Reason::ProbesDisagree),
            (&[TOO_FAR, TOO_FAR, NOBODY], Reason::TooFar),
            (&[TOO_FAR, NOBODY], Reason::BelowThreshold),
            (&[ambiguous(), ambiguous(), TOO_FAR], Reason::TwoSubjectsTooClose),
        ];
        for (decisions, reason) in cases {
            assert_eq!(after(decisions).main_reason(), Some(reason), "{decisions:?}");
        }
    }

    #[test]
    fn identified_visit_needs_no_reason() {
        assert_eq!(after(&[TOO_FAR, NOBODY, matched(1), matched(1)]).main_reason(), None);
    }

    #[test]
    fn absorbed_looks_are_counted_once() {
        let mut visit = after(&[matched(1), TOO_FAR]);
        visit.absorb(&after(&[TOO_FAR, ambiguous()]));
        assert_eq!((visit.looks(), visit.probes()), (4, 2));
        assert_eq!(visit.counts().inconclusive[&Reason::TooFar], 2);
    }

    #[test]
    fn doubt_ends_after_a_bounded_number_of_probes() {
        let mut visit = after(&[NOBODY, NOBODY, NOBODY]);
        for (step, subject) in [1, 2, 1, 2].into_iter().enumerate() {
            visit.observe(at(1_000 + step as u64), &matched(subject), QUALITY, &SETTINGS);
        }
        assert!(!visit.is_in_doubt());
        assert_eq!(visit.verdict().unwrap().subject(), None);
    }

    /// The visit after one decision every 100 ms.
    fn after(decisions: &[Decision]) -> Visit {
        let mut visit = Visit::new();
        for (step, decision) in decisions.iter().enumerate() {
            visit.observe(at(100 * step as u64), decision, QUALITY, &SETTINGS);
        }
        visit
    }

    fn ambiguous() -> Decision {
        let close = Ambiguous { best: ComparisonScore::new(0.6), second: ComparisonScore::new(0.59) };
        Decision::Inconclusive(Inconclusive::Ambiguous(close))
    }

    fn any_decision() -> impl Strategy<Value = Decision> {
        prop_oneof![(0u8..3).prop_map(matched), Just(NOBODY), Just(TOO_FAR), Just(ambiguous())]
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

        #[test]
        fn conclusive_probes_make_a_verdict_in_a_bounded_number(
            decisions in prop::collection::vec(any_decision(), 0..80),
        ) {
            let conclusive = decisions.iter().filter(|d| !matches!(d, Decision::Inconclusive(_))).count();
            prop_assert!(conclusive < BOUND || after(&decisions).verdict().is_some());
        }

        #[test]
        fn visit_without_a_name_has_a_reason_and_every_look_is_counted(
            decisions in prop::collection::vec(any_decision(), 0..80),
        ) {
            let visit = after(&decisions);
            let named = visit.verdict().is_some_and(|verdict| verdict.subject().is_some());
            prop_assert_eq!(visit.main_reason().is_none(), named);
            prop_assert_eq!(visit.looks() as usize, decisions.len());
        }
    }

    #[test]
    fn bound_on_probes_is_not_larger_than_needed() {
        let stranger = [matched(1), NOBODY, matched(1), NOBODY, matched(1)];
        assert_eq!(stranger.len(), BOUND - 1);
        assert!(after(&stranger).verdict().is_none());
    }
}
