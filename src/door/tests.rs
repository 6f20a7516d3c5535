//! The doorkeeper, one thing after the other, in simulated time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::credential::{CredentialId, Holder, PassFault};
use super::keeper::{Denial, FaceSight, Factor, Keeper, Moment, Presented, Ruling, Step, Way};
use super::policy::{
    FaceStrength, Hindrance, Needs, Pad, Person, Policy, PolicyDocument, PolicyProblem, RuleDocument,
    ScheduleDocument, WindowDocument,
};
use crate::clock::{Monotonic, UnixMillis};
use crate::gallery::{GroupId, SubjectId};
use crate::track::TrackId;

const ADA: SubjectId = SubjectId::from_bytes([1; 16]);
const GRACE: SubjectId = SubjectId::from_bytes([2; 16]);
const FAMILY: GroupId = GroupId(1);

fn rule(name: &str, needs: Needs) -> RuleDocument {
    RuleDocument {
        name: name.to_owned(),
        groups: vec![FAMILY.0],
        everyone: false,
        schedule: None,
        needs,
        probes: 0,
        score_above: 0.0,
        pad: false,
    }
}

fn document(rules: Vec<RuleDocument>) -> PolicyDocument {
    PolicyDocument { rules, dry_run: false, ..PolicyDocument::default() }
}

fn problems(document: &PolicyDocument) -> Vec<PolicyProblem> {
    Policy::check(document, &[FAMILY]).err().unwrap_or_default()
}

/// Ada is family; Grace is enrolled and in no group.
fn keeper(document: &PolicyDocument) -> Keeper {
    let policy = Policy::check(document, &[FAMILY]).unwrap();
    let family = Person { groups: vec![FAMILY], expires_at: None };
    let people = BTreeMap::from([(ADA, family), (GRACE, Person::default())]);
    let mut keeper = Keeper::new(true);
    keeper.instruct(Some(Arc::new(policy)), Arc::new(people));
    keeper
}

fn at(ms: u64) -> Moment {
    let monotonic = Monotonic::from_duration(Duration::from_millis(ms));
    Moment { monotonic, wall: UnixMillis(1_800_000_000_000 + ms as i64), trusted: true }
}

fn sight(track: u64, subject: SubjectId, probes: u32, ms: u64) -> FaceSight {
    let strength = FaceStrength { score_above: 0.2, probes, pad: Pad::NotEvaluated };
    let Moment { monotonic: captured, wall: captured_at, .. } = at(ms);
    FaceSight { track: TrackId(track), subject, strength, captured, captured_at }
}

fn ruling(steps: &[Step]) -> &Ruling {
    match steps {
        [Step::Ruling(ruling)] => ruling,
        other => panic!("one ruling was expected: {other:?}"),
    }
}

fn credential(id: i64, holder: Holder) -> Presented {
    let person = Person { groups: vec![FAMILY], expires_at: None };
    Presented { id: CredentialId(id), holder, person }
}

fn hindered(hindrance: Hindrance) -> Result<(), Denial> {
    Err(Denial::Hindrance(hindrance))
}

#[test]
fn face_opens_once_a_visit_and_not_again_while_it_stays() {
    let mut keeper = keeper(&document(vec![rule("family", Needs::Face)]));
    let steps = keeper.face(&sight(1, ADA, 2, 0), &at(40));
    let granted = ruling(&steps);
    assert_eq!((granted.result, granted.way, granted.rule.as_deref()), (Ok(()), Way::Face, Some("family")));
    for ms in [100, 2_000, 60_000] {
        assert!(keeper.face(&sight(1, ADA, 9, ms), &at(ms)).is_empty(), "at {ms}");
    }
    // Another visit, while the door is still open for the first.
    let steps = keeper.face(&sight(2, ADA, 2, 62_000), &at(62_000));
    assert_eq!(ruling(&steps).result, Ok(()));
    let steps = keeper.face(&sight(3, ADA, 2, 63_000), &at(63_000));
    assert_eq!(ruling(&steps).result, hindered(Hindrance::CoolingDown));
}

#[test]
fn strangers_and_those_without_a_rule_are_told_so_once() {
    let mut keeper = keeper(&document(vec![rule("family", Needs::Face)]));
    assert_eq!(ruling(&keeper.stranger(TrackId(1))).result, Err(Denial::UnknownPerson));
    assert!(keeper.stranger(TrackId(1)).is_empty());
    let steps = keeper.face(&sight(2, GRACE, 9, 0), &at(0));
    assert_eq!(ruling(&steps).result, hindered(Hindrance::NotAdmitted));
    assert!(keeper.face(&sight(2, GRACE, 9, 100), &at(100)).is_empty());
    let nobody = SubjectId::from_bytes([9; 16]);
    let steps = keeper.face(&sight(3, nobody, 9, 0), &at(0));
    assert_eq!(ruling(&steps).result, hindered(Hindrance::NotAdmitted), "erased while on the way");
}

#[test]
fn face_that_is_not_sure_enough_is_waited_for_and_denied_when_it_leaves() {
    let careful = RuleDocument { probes: 4, ..rule("family", Needs::Face) };
    let mut keeper = keeper(&document(vec![careful]));
    assert!(keeper.face(&sight(1, ADA, 2, 0), &at(0)).is_empty());
    assert!(keeper.face(&sight(1, ADA, 3, 100), &at(100)).is_empty());
    assert_eq!(ruling(&keeper.face(&sight(1, ADA, 4, 200), &at(200))).result, Ok(()));
    assert!(keeper.left(TrackId(1)).is_empty());
    assert!(keeper.face(&sight(2, ADA, 2, 90_000), &at(90_000)).is_empty());
    assert_eq!(ruling(&keeper.left(TrackId(2))).result, hindered(Hindrance::MoreProbes));
}

#[test]
fn match_from_before_opens_nothing() {
    let mut keeper = keeper(&document(vec![rule("family", Needs::Face)]));
    let steps = keeper.face(&sight(1, ADA, 9, 0), &at(3_001));
    assert_eq!(ruling(&steps).result, Err(Denial::TooLate));
}

#[test]
fn second_factor_opens_in_either_order_and_only_for_the_same_person() {
    let document = document(vec![rule("careful", Needs::FaceAndPin)]);
    let ada = credential(7, Holder::Subject(ADA));
    // Face first.
    let mut keeper = self::keeper(&document);
    assert_eq!(keeper.face(&sight(1, ADA, 2, 0), &at(0)), [Step::Prompt(Factor::Pin)]);
    let steps = keeper.credential(Way::Pin, &ada, &at(5_000));
    let granted = ruling(&steps);
    assert_eq!(
        (granted.result, granted.way, granted.credential),
        (Ok(()), Way::FaceAndPin, Some(CredentialId(7)))
    );
    // PIN first.
    let mut keeper = self::keeper(&document);
    assert_eq!(keeper.credential(Way::Pin, &ada, &at(0)), [Step::Prompt(Factor::Face)]);
    assert_eq!(ruling(&keeper.face(&sight(1, ADA, 2, 900), &at(900))).result, Ok(()));
    // Somebody else's PIN.
    let mut keeper = self::keeper(&document);
    keeper.face(&sight(1, ADA, 2, 0), &at(0));
    let other = credential(8, Holder::Visitor(CredentialId(8)));
    assert_eq!(keeper.credential(Way::Pin, &other, &at(100)), [Step::Prompt(Factor::Face)]);
    // Too late.
    let mut keeper = self::keeper(&document);
    keeper.face(&sight(1, ADA, 2, 0), &at(0));
    assert!(keeper.tick(at(19_999).monotonic).is_empty());
    let steps = keeper.tick(at(20_000).monotonic);
    assert_eq!(ruling(&steps).result, Err(Denial::SecondFactorMissing));
    assert_eq!(keeper.credential(Way::Pin, &ada, &at(20_001)), [Step::Prompt(Factor::Face)]);
}

#[test]
fn wrong_pins_lock_pins_and_nothing_else() {
    let rules = vec![rule("family", Needs::Face), rule("by pin", Needs::Pin)];
    let mut keeper = keeper(&document(rules));
    for n in 0..5 {
        assert!(keeper.admits(Way::Pin, at(n).monotonic).is_ok());
        keeper.failed(Way::Pin, Denial::WrongPin, None, at(n).monotonic);
    }
    let refused = keeper.admits(Way::Pin, at(10).monotonic).unwrap_err();
    assert_eq!(refused.result, hindered(Hindrance::LockedOut));
    assert!(keeper.admits(Way::Pass, at(10).monotonic).is_ok());
    assert_eq!(ruling(&keeper.face(&sight(1, ADA, 2, 10), &at(10))).result, Ok(()));
    // Five minutes, then ten.
    assert!(keeper.admits(Way::Pin, at(299_999).monotonic).is_err());
    assert!(keeper.admits(Way::Pin, at(300_010).monotonic).is_ok());
    for n in 0..5 {
        keeper.failed(Way::Pin, Denial::WrongPin, None, at(301_000 + n).monotonic);
    }
    assert!(keeper.admits(Way::Pin, at(301_000 + 599_000).monotonic).is_err());
    assert!(keeper.admits(Way::Pin, at(301_000 + 601_000).monotonic).is_ok());
    // Now and then one is nobody's attack.
    for n in 0..50 {
        keeper.failed(Way::Pin, Denial::WrongPin, None, at(2_000_000 + 130_000 * n).monotonic);
    }
    assert!(keeper.admits(Way::Pin, at(2_000_000 + 130_000 * 50).monotonic).is_ok());
    keeper.unlock();
}

#[test]
fn suspected_attack_locks_faces_and_posters_lock_nothing() {
    let mut keeper = keeper(&document(vec![rule("family", Needs::Face), rule("pass", Needs::Pass)]));
    for n in 0..100 {
        keeper.failed(Way::Pass, Denial::Pass(PassFault::Malformed), None, at(n).monotonic);
    }
    assert!(keeper.admits(Way::Pass, at(100).monotonic).is_ok());
    keeper.attack(at(100).monotonic);
    // What is left is asked for.
    assert_eq!(keeper.face(&sight(1, ADA, 9, 200), &at(200)), [Step::Prompt(Factor::Pass)]);
    let pass = credential(3, Holder::Visitor(CredentialId(3)));
    assert_eq!(ruling(&keeper.credential(Way::Pass, &pass, &at(300))).result, Ok(()));
}

#[test]
fn face_unlock_keeps_faces_out_and_passes_in() {
    let mut keeper = keeper(&document(vec![rule("family", Needs::Face), rule("pass", Needs::Pass)]));
    keeper.set_face_unlock(false);
    // Another factor would help, and is asked for.
    assert_eq!(keeper.face(&sight(1, ADA, 9, 0), &at(0)), [Step::Prompt(Factor::Pass)]);
    let pass = credential(3, Holder::Subject(ADA));
    assert_eq!(ruling(&keeper.credential(Way::Pass, &pass, &at(10))).result, Ok(()));
}

#[test]
fn openings_are_limited_and_leaving_is_not() {
    let document = PolicyDocument {
        grants_per_minute: 3,
        cool_down_s: 0,
        ..document(vec![rule("family", Needs::Face)])
    };
    let mut keeper = keeper(&document);
    for track in 0..3 {
        let ms = 1_000 * track;
        assert_eq!(ruling(&keeper.face(&sight(track, ADA, 2, ms), &at(ms))).result, Ok(()));
    }
    let steps = keeper.face(&sight(9, ADA, 2, 4_000), &at(4_000));
    assert_eq!(ruling(&steps).result, hindered(Hindrance::TooOften));
    assert_eq!(keeper.remote(at(5_000).monotonic).result, hindered(Hindrance::TooOften));
    assert_eq!(keeper.exit().result, Ok(()));
    assert_eq!(keeper.remote(at(63_000).monotonic).result, Ok(()));
    assert_eq!(
        keeper.remote(at(63_500).monotonic).result,
        hindered(Hindrance::TooOften),
        "twice within a second"
    );
}

#[test]
fn without_a_policy_nothing_but_the_button_and_an_order_opens() {
    let mut keeper = Keeper::new(true);
    assert!(keeper.face(&sight(1, ADA, 9, 0), &at(0)).is_empty());
    assert!(keeper.stranger(TrackId(2)).is_empty());
    assert!(keeper.admits(Way::Pin, at(0).monotonic).is_err());
    assert_eq!(keeper.exit().result, Ok(()));
    assert_eq!(keeper.remote(at(0).monotonic).result, Ok(()));
}

#[test]
fn dry_run_is_said_with_every_ruling() {
    let document = PolicyDocument { dry_run: true, ..document(vec![rule("family", Needs::Face)]) };
    let mut keeper = keeper(&document);
    let steps = keeper.face(&sight(1, ADA, 2, 0), &at(0));
    assert!(ruling(&steps).dry_run && ruling(&steps).result.is_ok());
    assert!(!keeper.remote(at(0).monotonic).dry_run, "an order is carried out all the same");
}

#[test]
fn every_problem_of_a_policy_is_named_with_its_place() {
    let window = |days: &[super::calendar::Day], from: &str, to: &str| WindowDocument {
        days: days.to_vec(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let schedule = |name: &str, windows| ScheduleDocument {
        name: name.to_owned(),
        windows,
        on_holidays: Default::default(),
    };
    let monday = [super::calendar::Day::Mon];
    let document = PolicyDocument {
        time_zone: "Europe/Berlinn".to_owned(),
        holidays: vec!["2026-02-30".to_owned()],
        schedules: vec![
            schedule("a", Vec::new()),
            schedule("a", vec![window(&[], "08:00", "18:00")]),
            schedule(" b", vec![window(&monday, "8:00", "25:00")]),
            schedule("c", vec![window(&monday, "08:00", "08:00"), window(&monday, "24:00", "01:00")]),
        ],
        rules: vec![
            RuleDocument { groups: vec![FAMILY.0, 99], ..rule("r", Needs::Face) },
            RuleDocument { everyone: true, ..rule("r", Needs::Face) },
            RuleDocument { groups: Vec::new(), ..rule("s", Needs::Face) },
            RuleDocument { schedule: Some("never".to_owned()), ..rule("t", Needs::Face) },
            RuleDocument { pad: true, ..rule("u", Needs::Pin) },
            RuleDocument { score_above: f32::NAN, ..rule("v", Needs::Face) },
        ],
        cool_down_s: 99_999,
        ..PolicyDocument::default()
    };
    let places: Vec<String> = problems(&document).into_iter().map(|problem| problem.place).collect();
    for place in [
        "time_zone",
        "holidays[0]",
        "schedules[0].windows",
        "schedules[1].name",
        "schedules[1].windows[0].days",
        "schedules[2].name",
        "schedules[2].windows[0].from",
        "schedules[2].windows[0].to",
        "schedules[3].windows[0]",
        "schedules[3].windows[1].from",
        "rules[0].groups[1]",
        "rules[1].name",
        "rules[1].groups",
        "rules[2].groups",
        "rules[3].schedule",
        "rules[4]",
        "rules[5].score_above",
        "cool_down_s",
    ] {
        assert!(places.iter().any(|found| found == place), "{place} is not among {places:?}");
    }
    assert_eq!(problems(&PolicyDocument::default()), [], "nobody enters, and nothing is wrong");
    let many = PolicyDocument { rules: vec![rule("r", Needs::Face); 100_000], ..PolicyDocument::default() };
    assert_eq!(problems(&many).len(), 1, "what is far too much is not looked at one by one");
}
