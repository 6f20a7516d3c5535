//! The policy against an oracle that was written apart from it: other arithmetic for local time, other reading of
//! the document, other order of the questions.

use super::calendar::{Day, OnHolidays};
use super::policy::{
    Claim, FaceStrength, Hindrance, Locked, Needs, Pad, Person, Policy, PolicyDocument, RuleDocument,
    ScheduleDocument, Situation, WindowDocument,
};
use crate::clock::UnixMillis;
use crate::gallery::GroupId;

const CASES: usize = 100_000;
const ZONES: [&str; 4] = ["Etc/UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"];

/// SplitMix64: the same cases in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

// ---- the oracle ----

/// Days since 1970-01-01 of a date, by counting years and months.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let years: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + lengths[..month as usize - 1].iter().sum::<i64>() + day - 1
}

/// Year, month and day of a day number, by taking years and months off.
fn date_of(mut number: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while number >= day_number(year + 1, 1, 1) - day_number(year, 1, 1) {
        number -= day_number(year + 1, 1, 1) - day_number(year, 1, 1);
        year += 1;
    }
    let mut month = 1;
    while month < 12 && number >= day_number(year, month + 1, 1) - day_number(year, month, 1) {
        number -= day_number(year, month + 1, 1) - day_number(year, month, 1);
        month += 1;
    }
    (year, month, number + 1)
}

/// 0 is Monday; 1970-01-01 was a Thursday.
fn weekday(number: i64) -> i64 {
    (number + 3).rem_euclid(7)
}

/// The nth Sunday of a month; the last one for 5.
fn sunday(year: i64, month: i64, nth: i64) -> i64 {
    let last = match month {
        12 => 31,
        _ => day_number(year, month + 1, 1) - day_number(year, month, 1),
    };
    let first = day_number(year, month, 1);
    let all: Vec<i64> = (first..first + last).filter(|day| weekday(*day) == 6).collect();
    if nth == 5 { all[all.len() - 1] } else { all[nth as usize - 1] }
}

/// Minutes east of Greenwich.
fn offset(zone: &str, utc_ms: i64) -> i64 {
    let (year, ..) = date_of(utc_ms.div_euclid(86_400_000));
    let at = |day: i64, hour: i64| day * 86_400_000 + hour * 3_600_000;
    match zone {
        "Europe/Berlin" => {
            let summer = at(sunday(year, 3, 5), 1)..at(sunday(year, 10, 5), 1);
            if summer.contains(&utc_ms) { 120 } else { 60 }
        }
        "America/New_York" => {
            let summer = at(sunday(year, 3, 2), 7)..at(sunday(year, 11, 1), 6);
            if summer.contains(&utc_ms) { -240 } else { -300 }
        }
        "Asia/Kathmandu" => 345,
        _ => 0,
    }
}

fn minutes(text: &str) -> i64 {
    let mut parts = text.split(':').map(|part| part.parse::<i64>().unwrap());
    parts.next().unwrap() * 60 + parts.next().unwrap()
}

fn is_holiday(document: &PolicyDocument, number: i64) -> bool {
    let (year, month, day) = date_of(number);
    document.holidays.iter().any(|holiday| {
        *holiday == format!("{year:04}-{month:02}-{day:02}") || *holiday == format!("{month:02}-{day:02}")
    })
}

/// Each window of yesterday and today as a stretch of local minutes.
fn open(document: &PolicyDocument, schedule: &str, utc_ms: i64) -> bool {
    let schedule = document.schedules.iter().find(|known| known.name == schedule).unwrap();
    let local = (utc_ms + offset(&document.time_zone, utc_ms) * 60_000).div_euclid(60_000);
    let today = local.div_euclid(1440);
    [today - 1, today].into_iter().any(|date| {
        let counts = match schedule.on_holidays {
            OnHolidays::Closed => !is_holiday(document, date),
            OnHolidays::Only => is_holiday(document, date),
            OnHolidays::AsUsual => true,
        };
        counts
            && schedule.windows.iter().any(|window| {
                let begins = date * 1440 + minutes(&window.from);
                let length = (minutes(&window.to) - minutes(&window.from)).rem_euclid(1440);
                let length = if length == 0 { 1440 } else { length };
                window.days.iter().any(|day| *day as i64 == weekday(date))
                    && local >= begins
                    && local < begins + length
            })
    })
}

/// Everything that is in the way of a claim by one rule, worst first.
fn in_the_way(
    document: &PolicyDocument,
    rule: &RuleDocument,
    claim: &Claim<'_>,
    situation: &Situation,
) -> Vec<Hindrance> {
    use Hindrance::*;
    let (face, pin, pass) = match rule.needs {
        Needs::Face => (true, false, false),
        Needs::FaceAndPin => (true, true, false),
        Needs::FaceAndPass => (true, false, true),
        Needs::Pin => (false, true, false),
        Needs::Pass => (false, false, true),
    };
    let admitted = rule.everyone || claim.person.groups.iter().any(|group| rule.groups.contains(&group.0));
    let timed = rule.schedule.is_some();
    let locked = situation.locked;
    let is_open = rule.schedule.as_ref().is_none_or(|schedule| open(document, schedule, situation.now.0));
    let strength = claim.face;
    let questions = [
        (NotAdmitted, !admitted),
        (ClockNotTrusted, timed && !situation.clock_trusted),
        (NotAtThisHour, !is_open),
        (FaceUnlockOff, face && !situation.face_unlock),
        (LockedOut, face && locked.face || pin && locked.pin || pass && locked.pass),
        (NeedsFace, face && strength.is_none()),
        (PadNotEvaluated, face && rule.pad && strength.is_some_and(|s| s.pad == Pad::NotEvaluated)),
        (MoreProbes, face && strength.is_some_and(|s| s.probes < rule.probes)),
        (
            HigherScore,
            face && strength.is_some_and(|s| s.score_above < rule.score_above || s.score_above.is_nan()),
        ),
        (NeedsPin, pin && !claim.pin),
        (NeedsPass, pass && !claim.pass),
        (TooOften, situation.too_often),
        (CoolingDown, situation.cooling_down),
    ];
    questions.into_iter().filter(|(_, yes)| *yes).map(|(hindrance, _)| hindrance).collect()
}

/// How far from the open door each hindrance is, as the documentation lists them.
fn distance(hindrance: Hindrance) -> usize {
    use Hindrance::*;
    let nearest_first = [
        MoreProbes,
        HigherScore,
        CoolingDown,
        TooOften,
        NeedsPin,
        NeedsPass,
        NeedsFace,
        PadNotEvaluated,
        LockedOut,
        FaceUnlockOff,
        NotAtThisHour,
        ClockNotTrusted,
        NotAdmitted,
        Expired,
    ];
    nearest_first.iter().position(|known| *known == hindrance).unwrap()
}

fn expected(document: &PolicyDocument, claim: &Claim<'_>, situation: &Situation) -> Result<(), Hindrance> {
    match claim.person.expires_at {
        Some(_) if !situation.clock_trusted => return Err(Hindrance::ClockNotTrusted),
        Some(at) if at.0 <= situation.now.0 => return Err(Hindrance::Expired),
        _ => {}
    }
    let by_rule: Vec<Vec<Hindrance>> =
        document.rules.iter().map(|rule| in_the_way(document, rule, claim, situation)).collect();
    if by_rule.iter().any(Vec::is_empty) {
        return Ok(());
    }
    let firsts = by_rule.iter().map(|all| all[0]);
    Err(firsts.min_by_key(|first| distance(*first)).unwrap_or(Hindrance::NotAdmitted))
}

// ---- cases ----

fn time(dice: &mut Dice) -> String {
    let usual = ["00:00", "01:30", "02:00", "02:30", "03:00", "08:00", "12:00", "18:00", "23:59"];
    if dice.one_in(3) {
        format!("{:02}:{:02}", dice.below(24), dice.below(60))
    } else {
        (*dice.pick(&usual)).to_owned()
    }
}

fn document(dice: &mut Dice) -> PolicyDocument {
    let mut document = PolicyDocument {
        time_zone: (*dice.pick(&ZONES)).to_owned(),
        dry_run: false,
        ..PolicyDocument::default()
    };
    for _ in 0..dice.below(4) {
        let (month, day) = (1 + dice.below(12), 1 + dice.below(28));
        document.holidays.push(match dice.one_in(2) {
            true => format!("{month:02}-{day:02}"),
            false => format!("{}-{month:02}-{day:02}", 2024 + dice.below(5)),
        });
    }
    for n in 0..dice.below(4) {
        let mut windows = Vec::new();
        for _ in 0..=dice.below(3) {
            let days: Vec<Day> = Day::ALL.into_iter().filter(|_| dice.one_in(2)).collect();
            let (from, to) = (time(dice), if dice.one_in(6) { "24:00".to_owned() } else { time(dice) });
            if !days.is_empty() && from != to {
                windows.push(WindowDocument { days, from, to });
            }
        }
        let on_holidays = *dice.pick(&[OnHolidays::Closed, OnHolidays::AsUsual, OnHolidays::Only]);
        if !windows.is_empty() && (on_holidays != OnHolidays::Only || !document.holidays.is_empty()) {
            document.schedules.push(ScheduleDocument { name: format!("s{n}"), windows, on_holidays });
        }
    }
    for n in 0..dice.below(5) {
        let everyone = dice.one_in(3);
        let mut groups: Vec<i64> = (1..=4).filter(|_| !everyone && dice.one_in(2)).collect();
        if !everyone && groups.is_empty() {
            groups.push(1);
        }
        let schedule = (!document.schedules.is_empty() && dice.one_in(2))
            .then(|| dice.pick(&document.schedules).name.clone());
        let needs = *dice.pick(&Needs::ALL);
        let face = needs.face();
        document.rules.push(RuleDocument {
            name: format!("r{n}"),
            groups,
            everyone,
            schedule,
            needs,
            probes: if face { dice.below(5) as u32 } else { 0 },
            score_above: if face { dice.below(3) as f32 * 0.125 } else { 0.0 },
            pad: face && dice.one_in(4),
        });
    }
    document
}

/// Often where something changes: at the edges of windows and in the nights when clocks are set.
fn instant(dice: &mut Dice) -> UnixMillis {
    let year = 2024 + dice.below(5) as i64;
    let day = match dice.below(4) {
        0 => sunday(year, *dice.pick(&[3, 10]), 5),
        1 => *dice.pick(&[sunday(year, 3, 2), sunday(year, 11, 1)]),
        _ => day_number(year, 1, 1) + dice.below(365) as i64,
    } - dice.below(2) as i64;
    let minute = if dice.one_in(2) { dice.below(1440) as i64 } else { 30 * dice.below(48) as i64 };
    UnixMillis(day * 86_400_000 + minute * 60_000 + *dice.pick(&[-1, 0, 1, 30_000]))
}

#[test]
fn policy_agrees_with_the_oracle_in_every_case() {
    let groups = [1, 2, 3, 4].map(GroupId);
    let mut dice = Dice(0x6c69_6d65_6e00);
    let mut seen = std::collections::BTreeMap::<Option<Hindrance>, usize>::new();
    let mut cases = 0;
    while cases < CASES {
        let document = document(&mut dice);
        let policy = Policy::check(&document, &groups).unwrap_or_else(|e| panic!("{e:?}\n{document:?}"));
        for _ in 0..50 {
            let now = instant(&mut dice);
            let person = Person {
                groups: groups.into_iter().filter(|_| dice.one_in(2)).collect(),
                expires_at: dice
                    .one_in(6)
                    .then(|| UnixMillis(now.0 + *dice.pick(&[-86_400_000, -1, 0, 1, 86_400_000]))),
            };
            let face = (!dice.one_in(4)).then(|| FaceStrength {
                score_above: if dice.one_in(50) { f32::NAN } else { dice.below(4) as f32 * 0.125 },
                probes: dice.below(6) as u32,
                pad: *dice.pick(&[Pad::BonaFide, Pad::NotEvaluated]),
            });
            let claim = Claim { person: &person, face, pin: dice.one_in(2), pass: dice.one_in(2) };
            let situation = Situation {
                now,
                clock_trusted: !dice.one_in(6),
                face_unlock: !dice.one_in(6),
                locked: Locked { face: dice.one_in(8), pin: dice.one_in(8), pass: dice.one_in(8) },
                cooling_down: dice.one_in(10),
                too_often: dice.one_in(10),
            };
            let weighed = policy.weigh(&claim, &situation);
            let oracle = expected(&document, &claim, &situation);
            assert_eq!(weighed.result, oracle, "{document:#?}\n{claim:?}\n{situation:?}");
            if weighed.result.is_ok() {
                let rule = &document.rules[weighed.rule.unwrap()];
                assert!(in_the_way(&document, rule, &claim, &situation).is_empty());
            }
            *seen.entry(oracle.err()).or_default() += 1;
            cases += 1;
        }
    }
    assert_eq!(cases, CASES);
    // Every answer was given, and often enough to mean something.
    for hindrance in [
        None,
        Some(Hindrance::MoreProbes),
        Some(Hindrance::HigherScore),
        Some(Hindrance::CoolingDown),
        Some(Hindrance::TooOften),
        Some(Hindrance::NeedsPin),
        Some(Hindrance::NeedsPass),
        Some(Hindrance::NeedsFace),
        Some(Hindrance::PadNotEvaluated),
        Some(Hindrance::LockedOut),
        Some(Hindrance::FaceUnlockOff),
        Some(Hindrance::NotAtThisHour),
        Some(Hindrance::ClockNotTrusted),
        Some(Hindrance::NotAdmitted),
        Some(Hindrance::Expired),
    ] {
        assert!(seen.get(&hindrance).is_some_and(|count| *count >= 200), "{hindrance:?}: {seen:?}");
    }
}

#[test]
fn oracle_would_notice_an_hour_a_group_and_a_lock() {
    let mut dice = Dice(7);
    let groups = [1, 2, 3, 4].map(GroupId);
    let (mut hour, mut group, mut lock) = (0, 0, 0);
    for _ in 0..400 {
        let document = document(&mut dice);
        let policy = Policy::check(&document, &groups).unwrap();
        for _ in 0..20 {
            let person = Person { groups: vec![*dice.pick(&groups)], expires_at: None };
            let face = Some(FaceStrength { score_above: 0.5, probes: 9, pad: Pad::BonaFide });
            let claim = Claim { person: &person, face, pin: true, pass: true };
            let situation = Situation {
                now: instant(&mut dice),
                clock_trusted: true,
                face_unlock: true,
                locked: Locked::default(),
                cooling_down: false,
                too_often: false,
            };
            let said = policy.weigh(&claim, &situation).result;
            let late = Situation { now: UnixMillis(situation.now.0 + 3_600_000), ..situation };
            hour += usize::from(expected(&document, &claim, &late) != said);
            let other = Person { groups: vec![GroupId(99)], expires_at: None };
            group += usize::from(expected(&document, &Claim { person: &other, ..claim }, &situation) != said);
            let locked = Locked { face: true, pin: true, pass: true };
            lock += usize::from(expected(&document, &claim, &Situation { locked, ..situation }) != said);
        }
    }
    assert!(hour > 50 && group > 100 && lock > 100, "{hour} {group} {lock}");
}
