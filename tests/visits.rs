//! Tracks, visits and cadence together, under simulated time: people walk about, hide, pass each
//! other and come back, and what is said about them is held against who really was where.
//!
//! Only the networks are left out. What they would give, boxes and embeddings with noise, is computed
//! from the people; pairing, deciding and pacing are the program's own.

#![allow(clippy::print_stdout, reason = "a gate says how many cases it ran")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use limen::appearance::AppearanceThresholds;
use limen::cadence::{Attention, Cadence, Pacer};
use limen::change::Change;
use limen::clock::Monotonic;
use limen::detect::Detection;
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::gallery::{Candidate, SubjectId, TemplateId};
use limen::geometry::{PixelBox, Point};
use limen::identify::{Decision, IdentificationThresholds, Inconclusive, identify};
use limen::models::Thresholds;
use limen::quality::Unusable;
use limen::reason::Reason;
use limen::score::{ComparisonScore, DetectionScore, QualityScore};
use limen::track::{TrackId, TrackState, TrackingSettings};
use limen::visit::{Verdict, VisitSettings};
use limen::visitors::{Decided, EndedVisit, Probe, VisitorSettings, Visitors};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const FRAME_MS: u64 = 67;
const LOST_AFTER_MS: u64 = 1_500;
const RECHECK_MS: u64 = 3_000;
/// As the manifest of the shipped networks has them.
const IN_FORCE: Thresholds =
    Thresholds { identification: 0.48, verification: 0.43, margin: 0.05, conflict: 0.43 };
/// People with a lower number than this are enrolled.
const ENROLLED: usize = 3;
const DIMENSIONS: usize = 128;

fn settings() -> VisitorSettings {
    VisitorSettings {
        tracking: TrackingSettings { lost_after: Duration::from_millis(LOST_AFTER_MS), maximum_faces: 8 },
        visit: VisitSettings {
            confirming_probes: 0,
            agreeing_probes: 2,
            unknown_after_probes: 4,
            recheck_after: Duration::from_millis(RECHECK_MS),
        },
        appearance: AppearanceThresholds::from(&IN_FORCE),
    }
}

/// What the program would be without comparing the probes of a track: none is alike, none unlike.
fn by_boxes_alone() -> VisitorSettings {
    let (alike, unlike) = (ComparisonScore::MAX, ComparisonScore::MIN);
    VisitorSettings { appearance: AppearanceThresholds { alike, unlike, lead: 0.05 }, ..settings() }
}

const CADENCE: Cadence = Cadence {
    idle: Duration::from_millis(250),
    unchanged: Duration::from_millis(1_000),
    settled: Duration::from_millis(200),
    watched: Duration::from_millis(67),
};

fn at(ms: u64) -> Monotonic {
    Monotonic::from_duration(Duration::from_millis(ms))
}

/// Somebody who walks in a straight line.
#[derive(Clone, Debug)]
struct Walk {
    person: usize,
    from_ms: u64,
    to_ms: u64,
    from_px: f32,
    to_px: f32,
    width_px: f32,
    /// Out of sight from here to there.
    hidden_ms: Vec<(u64, u64)>,
    /// The share of looks at which the sample is not usable.
    unusable: f32,
}

impl Walk {
    fn stands(person: usize, from_ms: u64, to_ms: u64, x_px: f32) -> Self {
        let (from_px, to_px, width_px) = (x_px, x_px + 10.0, 80.0 + person as f32);
        Self { person, from_ms, to_ms, from_px, to_px, width_px, hidden_ms: Vec::new(), unusable: 0.0 }
    }

    fn detection(&self, ms: u64) -> Option<Detection> {
        let away = self.hidden_ms.iter().any(|(from, to)| (*from..*to).contains(&ms));
        if away || !(self.from_ms..self.to_ms).contains(&ms) {
            return None;
        }
        let share = (ms - self.from_ms) as f32 / (self.to_ms - self.from_ms) as f32;
        let x = self.from_px + (self.to_px - self.from_px) * share;
        let y = 200.0 + self.person as f32;
        let half = self.width_px / 2.0;
        let bbox = PixelBox::new(x - half, y - half, x + half, y + half);
        Some(Detection { bbox, keypoints: [Point::default(); 6], score: DetectionScore::MAX })
    }
}

struct Noise(u64);

impl Noise {
    /// From -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn subject(person: usize) -> SubjectId {
    SubjectId::from_bytes([person as u8 + 1; 16])
}

fn person_of(subject: SubjectId) -> usize {
    usize::from(subject.as_bytes()[0]) - 1
}

/// Two probes of one person compare at about 0.8, those of two people at 0 with a deviation of 0.05:
/// nobody is mistaken for somebody else by chance, however many cases are played.
fn probe_values(person: usize, noise: &mut Noise) -> Vec<f32> {
    (0..DIMENSIONS).map(|axis| f32::from(u8::from(axis == person)) + 0.08 * noise.next()).collect()
}

fn searched(values: &[f32]) -> Decision {
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    let mut ranked: Vec<_> = (0..ENROLLED)
        .map(|person| Candidate {
            subject: subject(person),
            template: TemplateId(person as u64 as _),
            score: ComparisonScore::new(values[person] / norm),
        })
        .collect();
    ranked.sort_by(|left, right| right.score.get().total_cmp(&left.score.get()));
    identify(&ranked, &IdentificationThresholds::from(&IN_FORCE))
}

/// Everything that was said, and what was really so.
#[derive(Debug, Default)]
struct Account {
    /// Each new verdict: track, whom it names, who stood there.
    verdicts: Vec<(TrackId, Option<usize>, usize)>,
    ended: Vec<(TrackId, Option<usize>, Option<Reason>, u32)>,
    /// Tracks that were confirmed at some time.
    confirmed: BTreeSet<TrackId>,
    /// Those that turned out to be others, come back.
    continued: BTreeSet<TrackId>,
    /// The longest time, in milliseconds, that a name stood beside another face.
    longest_mistake_ms: u64,
    looks: u64,
    full_looks: u64,
    probes: u64,
}

impl Account {
    fn named(&self, person: usize) -> usize {
        self.verdicts.iter().filter(|(_, named, _)| *named == Some(person)).count()
    }

    fn unknown(&self) -> usize {
        self.verdicts.iter().filter(|(_, named, _)| named.is_none()).count()
    }

    fn end(&mut self, ended: &EndedVisit) {
        let EndedVisit { face, visit, .. } = ended;
        assert_eq!(face.state, TrackState::Ended);
        let named = visit.verdict().and_then(Verdict::subject).map(person_of);
        self.ended.push((face.track, named, visit.main_reason(), visit.looks()));
    }

    /// What must hold whatever happens.
    fn check(&self) -> Result<(), String> {
        let mut ended = BTreeSet::new();
        for (track, named, reason, looks) in &self.ended {
            if !ended.insert(*track) {
                return Err(format!("{track:?} ended twice"));
            }
            if named.is_some() == reason.is_some() {
                return Err(format!("{track:?} ended with the name {named:?} and the reason {reason:?}"));
            }
            if *reason == Some(Reason::LeftTooSoon) && *looks > 0 {
                return Err(format!("{track:?} was looked at {looks} times and left too soon"));
            }
        }
        let expected: BTreeSet<_> = self.confirmed.difference(&self.continued).copied().collect();
        if !ended.is_superset(&expected) || !ended.is_disjoint(&self.continued) {
            return Err(format!("confirmed {expected:?}, ended {ended:?}"));
        }
        let mut last = BTreeMap::new();
        for (track, named, stood) in &self.verdicts {
            if last.insert(*track, *named) == Some(*named) {
                return Err(format!("{track:?} said the same twice"));
            }
            if named.is_some_and(|named| named != *stood) {
                return Err(format!("{track:?} named {named:?} where {stood} stood"));
            }
        }
        Ok(())
    }
}

/// Plays the walks for `length_ms`, with a frame each [`FRAME_MS`].
fn play(walks: &[Walk], length_ms: u64, seed: u64, settings: VisitorSettings) -> Account {
    let (mut visitors, mut pacer) = (Visitors::new(settings), Pacer::new(CADENCE));
    let (mut account, mut noise) = (Account::default(), Noise(seed));
    let mut attention = Attention::Idle;
    let mut mistaken_since: BTreeMap<TrackId, u64> = BTreeMap::new();
    for ms in (0..length_ms).step_by(FRAME_MS as usize) {
        let now = at(ms);
        if pacer.skip(attention, now, || Change::Changed).is_some() {
            continue;
        }
        account.looks += 1;
        account.full_looks += u64::from(attention == Attention::Full);
        let shown = shown(walks, ms);
        let standing = |visitors: &Visitors, track| {
            let bbox = visitors.detection(track).unwrap().bbox;
            shown.iter().find(|(_, detection)| detection.bbox == bbox).map(|(walk, _)| *walk)
        };
        let wanted = visitors.see(now, shown.iter().map(|(_, detection)| detection.clone()).collect());
        wanted.ended.iter().for_each(|ended| account.end(ended));
        let confirmed: Vec<_> = visitors
            .present(now)
            .filter(|face| face.state == TrackState::Confirmed)
            .map(|face| face.track)
            .collect();
        account.confirmed.extend(&confirmed);
        let mut look = |visitors: &Visitors, track| {
            let walk = standing(visitors, track).unwrap();
            let unusable = (noise.next() + 1.0) / 2.0 < walk.unusable;
            let quality = QualityScore::MAX;
            if unusable {
                let far = Unusable::TooFar { eye_distance_px: 10.0, minimum_px: 24.0 };
                let decision = Decision::Inconclusive(Inconclusive::Sample(far));
                return Probe { track, embedding: None, decision, quality, sighting: None };
            }
            account.probes += 1;
            let values = probe_values(walk.person, &mut noise);
            let decision = searched(&values);
            let embedding = Embedding::normalised(values, EmbeddingSpaceId::new("walk/1")).unwrap();
            Probe { track, embedding: Some(embedding), decision, quality, sighting: None }
        };
        let mut probes: Vec<_> = wanted.probes.iter().map(|track| look(&visitors, *track)).collect();
        while let Some(track) = visitors.also_wanted(now, &probes) {
            probes.push(look(&visitors, track));
        }
        for Decided { track, verdict } in visitors.take_in(now, probes) {
            let stood = standing(&visitors, track).unwrap().person;
            account.verdicts.push((track, verdict.subject().map(person_of), stood));
            account.confirmed.insert(track);
        }
        let gone = |track: &&TrackId| {
            visitors.visit(**track).is_none() && account.ended.iter().all(|(ended, ..)| ended != *track)
        };
        account.continued.extend(confirmed.iter().filter(gone));
        attention = visitors.attention(now);

        mistaken_since.retain(|track, _| visitors.present(now).any(|face| face.track == *track));
        for face in visitors.present(now) {
            let name = visitors.visit(face.track).and_then(|visit| visit.verdict()?.subject());
            let stands = standing(&visitors, face.track).unwrap().person;
            if name.is_some_and(|name| person_of(name) != stands) {
                let since = mistaken_since.entry(face.track).or_insert(ms);
                account.longest_mistake_ms = account.longest_mistake_ms.max(ms - *since);
            } else {
                mistaken_since.remove(&face.track);
            }
        }
    }
    visitors.end_all().iter().for_each(|ended| account.end(ended));
    account
}

/// Who can be seen: a nearer face, which is larger, hides what is behind it.
fn shown(walks: &[Walk], ms: u64) -> Vec<(&Walk, Detection)> {
    let mut all: Vec<_> = walks.iter().filter_map(|walk| Some((walk, walk.detection(ms)?))).collect();
    all.sort_by(|left, right| right.1.bbox.area().total_cmp(&left.1.bbox.area()));
    let mut shown: Vec<(&Walk, Detection)> = Vec::new();
    for (walk, detection) in all {
        let centre = detection.bbox.centre();
        let hides = |(_, nearer): &(&Walk, Detection)| {
            nearer.bbox.centre().distance(centre) < nearer.bbox.width() * 0.6
        };
        if !shown.iter().any(hides) {
            shown.push((walk, detection));
        }
    }
    shown
}

/// Hidden for as long, somebody is still the same visit: lost at most one look earlier, found again one
/// look later, and probed at the next frame.
const LONGEST_ABSENCE_MS: u64 = LOST_AFTER_MS - 2 * 3 * FRAME_MS - 2 * FRAME_MS;

/// Somebody seen for less long between others may not have been probed.
const GLIMPSE_MS: u64 = RECHECK_MS / 6 + 3 * FRAME_MS;

/// The longest time that anybody who is in the picture cannot be seen, glimpses apart.
fn longest_hidden_ms(walks: &[Walk]) -> u64 {
    let mut longest = 0;
    for walk in walks {
        let (mut known, mut seen_since) = (walk.from_ms, None);
        for ms in (walk.from_ms..walk.to_ms).step_by(20) {
            if shown(walks, ms).iter().any(|(seen, _)| seen.person == walk.person) {
                if ms - *seen_since.get_or_insert(ms) >= GLIMPSE_MS {
                    known = ms;
                }
            } else {
                seen_since = None;
            }
            longest = longest.max(ms - known);
        }
    }
    longest
}

/// Two to four people who walk through the picture at the same time, in both directions.
fn crossing() -> impl Strategy<Value = Vec<Walk>> {
    let walk = (any::<bool>(), 0_u64..1_500, 3_000_u64..9_000, 60.0_f32..100.0);
    prop::collection::vec(walk, 2..=4).prop_map(|walks| {
        let walk = |(person, (left_to_right, from_ms, lasts_ms, width_px)): (usize, _)| {
            let (from_px, to_px) = if left_to_right { (0.0, 1_200.0) } else { (1_200.0, 0.0) };
            let to_ms = from_ms + lasts_ms;
            Walk { person, from_ms, to_ms, from_px, to_px, width_px, hidden_ms: vec![], unusable: 0.0 }
        };
        walks.into_iter().enumerate().map(walk).collect()
    })
}

/// Anybody, anywhere, hidden now and then, sometimes not usable.
fn bustle() -> impl Strategy<Value = Vec<Walk>> {
    let hidden = prop::collection::vec((0_u64..12_000, 50_u64..3_000), 0..3);
    let place = (0.0_f32..900.0, 0.0_f32..900.0, 50.0_f32..120.0);
    let walk = (0_usize..6, 0_u64..6_000, 300_u64..9_000, place, hidden, 0.0_f32..1.0);
    prop::collection::btree_map(0_usize..6, walk, 1..5).prop_map(|walks| {
        let walk = |(person, (_, from_ms, lasts_ms, (from_px, to_px, width_px), hidden, unusable))| {
            let hidden_ms = Vec::from_iter(hidden).into_iter().map(|(from, lasts)| (from, from + lasts));
            let (to_ms, hidden_ms) = (from_ms + lasts_ms, hidden_ms.collect());
            Walk { person, from_ms, to_ms, from_px, to_px, width_px, hidden_ms, unusable }
        };
        walks.into_iter().map(walk).collect()
    })
}

/// Somebody never seen before who steps before another is found by the probe taken now and then, and one
/// that confirms it.
const LONGEST_MISTAKE_MS: u64 = RECHECK_MS + 3 * FRAME_MS + 2 * FRAME_MS;
/// Of two who have been seen, nearness calls for a probe sooner.
const LONGEST_EXCHANGE_MS: u64 = RECHECK_MS / 6 + 3 * FRAME_MS + 2 * FRAME_MS;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_confirmed_track_ends_once_with_a_name_or_a_reason(walks in bustle(), seed in any::<u64>()) {
        let account = play(&walks, 18_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()), "{:?}", account);
    }

    #[test]
    fn name_stands_beside_another_face_for_a_bounded_time(walks in crossing(), seed in any::<u64>()) {
        let account = play(&walks, 14_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()), "{:?}", account);
        prop_assert!(account.longest_mistake_ms <= LONGEST_MISTAKE_MS, "{:?}", account);
    }

    #[test]
    fn exchange_of_two_who_were_seen_before_is_found_sooner(
        (width_a, width_b) in (60.0_f32..100.0, 60.0_f32..100.0),
        lasts_ms in 1_500_u64..8_000,
        later_ms in 0_u64..500,
        seed in any::<u64>(),
    ) {
        let stands = |person, x_px| Walk { to_px: x_px, to_ms: 2_000, ..Walk::stands(person, 0, 0, x_px) };
        let walks = |person, from_px, to_px, later_ms| Walk {
            from_ms: 2_000, to_ms: 2_000 + lasts_ms + later_ms, from_px, to_px, ..stands(person, from_px)
        };
        let mut all = vec![stands(0, 100.0), stands(1, 900.0)];
        all.extend([walks(0, 100.0, 900.0, later_ms), walks(1, 900.0, 100.0, 0)]);
        for walk in &mut all {
            walk.width_px = if walk.person == 0 { width_a } else { width_b };
        }
        let account = play(&all, 14_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()), "{:?}", account);
        prop_assert!(account.longest_mistake_ms <= LONGEST_EXCHANGE_MS, "{:?}", account);
        prop_assert_eq!((account.named(0), account.named(1), account.ended.len()), (1, 1, 2), "{:?}", account);
    }

    #[test]
    fn whoever_is_hidden_for_a_moment_is_still_the_same_visit(
        hidden_from in 1_500_u64..3_000,
        hidden_for in 100_u64..LONGEST_ABSENCE_MS,
        jump_px in -600.0_f32..600.0,
        seed in any::<u64>(),
    ) {
        let before = Walk { to_ms: hidden_from, ..Walk::stands(0, 0, 9_000, 700.0) };
        let after = Walk::stands(0, hidden_from + hidden_for, 9_000, 700.0 + jump_px);
        let account = play(&[before, after], 12_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()));
        prop_assert_eq!((account.named(0), account.ended.len()), (1, 1), "{:?}", account);
    }

    #[test]
    fn whoever_comes_back_later_makes_a_new_visit(
        away_ms in LOST_AFTER_MS + 300..6_000,
        seed in any::<u64>(),
    ) {
        let walks = [Walk::stands(0, 0, 2_000, 300.0), Walk::stands(0, 2_000 + away_ms, 10_000, 300.0)];
        let account = play(&walks, 12_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()));
        prop_assert_eq!((account.named(0), account.ended.len()), (2, 2), "{:?}", account);
    }

    #[test]
    fn people_side_by_side_are_separate_visits(count in 2_usize..=6, seed in any::<u64>()) {
        let walks: Vec<_> =
            (0..count).map(|person| Walk::stands(person, 0, 6_000, 130.0 * person as f32)).collect();
        let account = play(&walks, 8_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()));
        prop_assert_eq!(account.ended.len(), count);
        prop_assert!((0..count.min(ENROLLED)).all(|person| account.named(person) == 1), "{:?}", account);
        prop_assert_eq!(account.unknown(), count.saturating_sub(ENROLLED));
    }

    #[test]
    fn stranger_who_is_seen_well_becomes_unknown_within_a_second(
        person in ENROLLED..6,
        from_ms in 0_u64..500,
        seed in any::<u64>(),
    ) {
        let walks = [Walk::stands(person, from_ms, from_ms + 1_000, 300.0)];
        let account = play(&walks, 4_000, seed, settings());
        prop_assert_eq!((account.unknown(), account.ended.len()), (1, 1), "{:?}", account);
        prop_assert_eq!(account.ended[0].2, Some(Reason::BelowThreshold));
    }

    #[test]
    fn somebody_else_in_the_same_place_is_another_visit(
        first in 0_usize..6, second in 0_usize..6, seed in any::<u64>(),
    ) {
        prop_assume!(first != second);
        // Not one look between them: boxes cannot tell.
        let walks = [Walk::stands(first, 0, 4_000, 300.0), Walk::stands(second, 4_000, 9_000, 300.0)];
        let account = play(&walks, 11_000, seed, settings());
        prop_assert_eq!(account.check(), Ok(()));
        prop_assert_eq!((account.ended.len(), account.verdicts.len()), (2, 2), "{:?}", account);
        prop_assert!(account.longest_mistake_ms <= LONGEST_MISTAKE_MS, "{:?}", account);
    }
}

/// Plays crossings in which nobody is out of sight for so long that it is another visit, and gives those
/// after which anybody was not said to be there exactly once.
fn wrong_crossings(cases: u64, settings: VisitorSettings) -> Vec<(Vec<Walk>, Account)> {
    let mut runner = TestRunner::deterministic();
    let mut walks = std::iter::repeat_with(|| crossing().new_tree(&mut runner).unwrap().current())
        .filter(|walks| longest_hidden_ms(walks) <= LONGEST_ABSENCE_MS);
    let play_one = |seed| {
        let walks = walks.next().unwrap();
        let account = play(&walks, 14_000, seed, settings);
        let strangers = walks.iter().filter(|walk| walk.person >= ENROLLED).count();
        let mut subjects = walks.iter().filter(|walk| walk.person < ENROLLED);
        let right = subjects.all(|walk| account.named(walk.person) == 1)
            && account.unknown() == strangers
            && account.ended.len() == walks.len()
            && account.check().is_ok();
        (!right).then_some((walks, account))
    };
    (0..cases).filter_map(play_one).collect()
}

#[test]
fn people_who_pass_each_other_keep_their_verdicts() {
    let wrong = wrong_crossings(500, settings());
    assert!(wrong.is_empty(), "{} of 500 crossings, the first: {:#?}", wrong.len(), wrong.first());
}

#[test]
fn boxes_alone_exchange_verdicts() {
    let wrong = wrong_crossings(200, by_boxes_alone());
    println!("by boxes alone {} of 200 crossings go wrong", wrong.len());
    assert!(wrong.len() > 20);
}

#[test]
fn boxes_alone_make_two_visits_of_one_that_is_hidden_for_a_moment() {
    let walks = [Walk::stands(0, 0, 2_000, 100.0), Walk::stands(0, 2_500, 6_000, 700.0)];
    assert_eq!(play(&walks, 9_000, 1, by_boxes_alone()).named(0), 2);
    assert_eq!(play(&walks, 9_000, 1, settings()).named(0), 1);
}

#[test]
fn account_notices_what_must_not_be() {
    let good = || Account {
        verdicts: vec![(TrackId(1), Some(0), 0)],
        ended: vec![(TrackId(1), Some(0), None, 3)],
        confirmed: BTreeSet::from([TrackId(1)]),
        ..Account::default()
    };
    assert_eq!(good().check(), Ok(()));
    let wrong: [fn(&mut Account); 6] = [
        |account| account.ended.push((TrackId(1), Some(0), None, 3)),
        |account| account.ended.clear(),
        |account| account.ended[0].1 = None,
        |account| account.verdicts[0].2 = 1,
        |account| account.verdicts.push((TrackId(1), Some(0), 0)),
        |account| account.continued.extend([TrackId(1)]),
    ];
    for (number, spoil) in wrong.iter().enumerate() {
        let mut account = good();
        spoil(&mut account);
        assert!(account.check().is_err(), "{number}");
    }
}

#[test]
fn two_places_that_show_one_face_stay_two_tracks() {
    let mirror = Walk { width_px: 60.0, ..Walk::stands(0, 500, 8_000, 900.0) };
    let account = play(&[Walk::stands(0, 0, 8_000, 300.0), mirror], 10_000, 1, settings());
    assert_eq!(account.check(), Ok(()));
    assert_eq!((account.named(0), account.ended.len(), account.continued.len()), (2, 2, 0), "{account:?}");
}

#[test]
fn settled_face_is_not_embedded_at_every_look() {
    let account = play(&[Walk::stands(0, 0, 60_000, 300.0)], 60_000, 1, settings());
    // Two to be named, then one each three seconds of a minute.
    assert!((15..=2 + 20).contains(&account.probes), "{account:?}");
    assert!((280..310).contains(&account.looks), "{account:?}");
}

#[test]
fn near_neighbours_are_embedded_a_bounded_number_of_times() {
    let walks = [Walk::stands(0, 0, 30_000, 300.0), Walk::stands(1, 0, 30_000, 400.0)];
    let account = play(&walks, 30_000, 1, settings());
    // Two each half second.
    assert!((60..=4 + 2 * 60).contains(&account.probes), "{account:?}");
    assert!(account.full_looks < 10, "{account:?}");
}

#[test]
fn poster_that_is_never_usable_does_not_keep_the_full_rate() {
    let poster = Walk { unusable: 1.1, ..Walk::stands(0, 0, 60_000, 300.0) };
    let account = play(&[poster], 60_000, 1, settings());
    // Eight seconds at 15 Hz, then five a second.
    assert!((110..=124).contains(&account.full_looks), "{account:?}");
    assert!(account.looks < account.full_looks + 52 * 5 + 10, "{account:?}");
    assert_eq!(account.ended, [(TrackId(1), None, Some(Reason::TooFar), account.ended[0].3)]);
}

#[test]
fn somebody_who_comes_gets_the_full_rate_at_the_first_look() {
    let account = play(&[Walk::stands(0, 400, 1_000, 300.0)], 1_000, 1, settings());
    // Looks at 0, 264 and 528 find nobody or the first box; from then on every frame until named.
    assert!(account.full_looks >= 2, "{account:?}");
    assert_eq!(account.named(0), 1);
}
