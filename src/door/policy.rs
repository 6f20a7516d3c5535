//! Whether the door opens: who, when, with what. Pure: time, state and people are passed in.
//!
//! Recognition says who somebody is; this says whether that opens the door. A policy is a list of rules, and
//! each of them can only allow: whoever no rule allows stays outside. The answer to a claim is the rule that
//! grants it, or, of the rules that do not, the hindrance that is nearest to being overcome, so that the person
//! at the door is told what helps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::calendar::{Calendar, Day, Holiday, OnHolidays, Schedule, TimeOfDay, Window};
use crate::clock::UnixMillis;
use crate::gallery::GroupId;

/// Most rules, and most schedules.
const MOST_RULES: usize = 64;
const MOST_SCHEDULES: usize = 32;
const MOST_WINDOWS: usize = 32;
const MOST_HOLIDAYS: usize = 400;
const MOST_GROUPS: usize = 200;
const MOST_NAME_CHARS: usize = 60;

/// What somebody has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Their face.
    Face,
    /// Their face and their PIN.
    FaceAndPin,
    /// Their face and their pass.
    FaceAndPass,
    /// A PIN alone.
    Pin,
    /// A pass alone.
    Pass,
}

impl Needs {
    /// Every combination.
    pub const ALL: [Self; 5] = [Self::Face, Self::FaceAndPin, Self::FaceAndPass, Self::Pin, Self::Pass];

    /// Whether the face is part of it.
    pub fn face(self) -> bool {
        matches!(self, Self::Face | Self::FaceAndPin | Self::FaceAndPass)
    }

    /// Whether a PIN is.
    pub fn pin(self) -> bool {
        matches!(self, Self::FaceAndPin | Self::Pin)
    }

    /// Whether a pass is.
    pub fn pass(self) -> bool {
        matches!(self, Self::FaceAndPass | Self::Pass)
    }

    /// Its name in messages.
    pub fn code(self) -> &'static str {
        match self {
            Self::Face => "face",
            Self::FaceAndPin => "face_and_pin",
            Self::FaceAndPass => "face_and_pass",
            Self::Pin => "pin",
            Self::Pass => "pass",
        }
    }
}

/// From when to when, on which days, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowDocument {
    /// Days it begins on.
    pub days: Vec<Day>,
    /// First minute it is open, `HH:MM`.
    pub from: String,
    /// First minute it is closed again, `HH:MM` up to `24:00`; before `from`: on the next day.
    pub to: String,
}

/// A named schedule, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleDocument {
    /// By which rules name it.
    pub name: String,
    /// When it is open.
    pub windows: Vec<WindowDocument>,
    /// What holidays change.
    #[serde(default)]
    pub on_holidays: OnHolidays,
}

/// One rule, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleDocument {
    /// What it is called in events.
    pub name: String,
    /// Groups it is for. Empty with `everyone`.
    #[serde(default)]
    pub groups: Vec<i64>,
    /// Whether it is for everybody who is enrolled or has a PIN or pass.
    #[serde(default)]
    pub everyone: bool,
    /// Schedule by name; none: always.
    #[serde(default)]
    pub schedule: Option<String>,
    /// What has to be shown.
    pub needs: Needs,
    /// Probes in a row that have to name the subject. 0: as many as identification asks for.
    #[serde(default)]
    pub probes: u32,
    /// By how much the comparison score has to be above the threshold of identification, 0 to 0.5.
    #[serde(default)]
    pub score_above: f32,
    /// Whether presentation attack detection must have passed.
    #[serde(default)]
    pub pad: bool,
}

/// After what a means of entry is locked, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockOutDocument {
    /// So many wrong PINs (or forged and used passes) lock PINs (or passes). 0: never.
    pub failures: u32,
    /// Within so many seconds.
    pub within_s: u32,
    /// For so many seconds; each further lock-out within a day twice as long, up to a day.
    pub for_s: u32,
    /// A suspected attack on face recognition locks faces for so many seconds.
    pub after_attack_s: u32,
}

impl Default for LockOutDocument {
    fn default() -> Self {
        Self { failures: 5, within_s: 120, for_s: 300, after_attack_s: 300 }
    }
}

/// A whole policy, as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Where the door is: an IANA time zone such as `Europe/Berlin`.
    pub time_zone: String,
    /// Holidays: `YYYY-MM-DD`, or `MM-DD` for every year.
    #[serde(default)]
    pub holidays: Vec<String>,
    /// Schedules that rules name.
    #[serde(default)]
    pub schedules: Vec<ScheduleDocument>,
    /// What is allowed. Without a rule the door opens for nobody.
    #[serde(default)]
    pub rules: Vec<RuleDocument>,
    /// For so many seconds after it opened for somebody it does not open for them again.
    #[serde(default = "PolicyDocument::usual_cool_down")]
    pub cool_down_s: u32,
    /// It opens so often within a minute, and not more often.
    #[serde(default = "PolicyDocument::usual_grants")]
    pub grants_per_minute: u32,
    /// How long the first of two factors waits for the second, seconds.
    #[serde(default = "PolicyDocument::usual_factor")]
    pub second_factor_s: u32,
    /// After what PINs, passes and faces are locked.
    #[serde(default)]
    pub lock_out: LockOutDocument,
    /// Only say what would happen: the relay stays as it is.
    #[serde(default = "PolicyDocument::usual_dry_run")]
    pub dry_run: bool,
}

impl PolicyDocument {
    fn usual_cool_down() -> u32 {
        5
    }

    fn usual_grants() -> u32 {
        20
    }

    fn usual_factor() -> u32 {
        20
    }

    // Whoever writes the first rule sees what it does before the door opens by it.
    fn usual_dry_run() -> bool {
        true
    }
}

impl Default for PolicyDocument {
    /// Nobody, and nothing is switched.
    fn default() -> Self {
        Self {
            time_zone: "Etc/UTC".to_owned(),
            holidays: Vec::new(),
            schedules: Vec::new(),
            rules: Vec::new(),
            cool_down_s: Self::usual_cool_down(),
            grants_per_minute: Self::usual_grants(),
            second_factor_s: Self::usual_factor(),
            lock_out: LockOutDocument::default(),
            dry_run: Self::usual_dry_run(),
        }
    }
}

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PolicyProblem {
    /// Such as `rules[2].schedule`.
    pub place: String,
    /// What was found and what is possible.
    pub problem: String,
}

impl std::fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// Whom a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Everyone,
    Groups(Vec<GroupId>),
}

/// A rule that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    who: Who,
    schedule: Option<usize>,
    /// What has to be shown.
    pub needs: Needs,
    probes: u32,
    score_above: f32,
    pad: bool,
}

impl Rule {
    /// Whether it is for somebody in these groups.
    pub fn is_for(&self, person: &Person) -> bool {
        match &self.who {
            Who::Everyone => true,
            Who::Groups(groups) => groups.iter().any(|group| person.groups.contains(group)),
        }
    }
}

/// A policy that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    document: PolicyDocument,
    calendar: Calendar,
    schedules: Vec<Schedule>,
    rules: Vec<Rule>,
}

/// Somebody as the policy sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Groups they are in.
    pub groups: Vec<GroupId>,
    /// From then on they are nobody.
    pub expires_at: Option<UnixMillis>,
}

/// What presentation attack detection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pad {
    /// A live person.
    BonaFide,
    /// Nobody has looked: this device has no attack detection, or it was off.
    NotEvaluated,
}

/// How surely a face is somebody's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaceStrength {
    /// By how much the comparison score is above the threshold of identification.
    pub score_above: f32,
    /// Probes in a row that agree.
    pub probes: u32,
    /// Presentation attack detection.
    pub pad: Pad,
}

/// What one person shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim<'p> {
    /// Who they are.
    pub person: &'p Person,
    /// Their face.
    pub face: Option<FaceStrength>,
    /// A PIN of theirs.
    pub pin: bool,
    /// A pass of theirs.
    pub pass: bool,
}

/// Means of entry that are locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locked {
    /// Faces.
    pub face: bool,
    /// PINs.
    pub pin: bool,
    /// Passes.
    pub pass: bool,
}

/// How things are at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// The time.
    pub now: UnixMillis,
    /// Whether it can be the time: the clock was set since the start of the machine.
    pub clock_trusted: bool,
    /// Whether faces may open at all.
    pub face_unlock: bool,
    /// What is locked.
    pub locked: Locked,
    /// It has just opened for this person.
    pub cooling_down: bool,
    /// It has opened too often.
    pub too_often: bool,
}

/// What stands between a claim and the open door. The order is by how near it is to being overcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hindrance {
    /// The face has to be seen a little longer.
    MoreProbes,
    /// The face is not like the template surely enough.
    HigherScore,
    /// It has just opened for this person.
    CoolingDown,
    /// It has opened too often within a minute.
    TooOften,
    /// The PIN is missing.
    NeedsPin,
    /// The pass is missing.
    NeedsPass,
    /// The face is missing.
    NeedsFace,
    /// Attack detection is required, and has not looked.
    PadNotEvaluated,
    /// What would open is locked after failures.
    LockedOut,
    /// Face unlock is switched off.
    FaceUnlockOff,
    /// Allowed, but not now.
    NotAtThisHour,
    /// Allowed at some hours, and nobody knows what hour it is.
    ClockNotTrusted,
    /// No rule is for them.
    NotAdmitted,
    /// Their time here is over.
    Expired,
}

impl Hindrance {
    /// Its name in messages and the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::MoreProbes => "more_probes",
            Self::HigherScore => "higher_score",
            Self::CoolingDown => "cooling_down",
            Self::TooOften => "too_often",
            Self::NeedsPin => "needs_pin",
            Self::NeedsPass => "needs_pass",
            Self::NeedsFace => "needs_face",
            Self::PadNotEvaluated => "pad_not_evaluated",
            Self::LockedOut => "locked_out",
            Self::FaceUnlockOff => "face_unlock_off",
            Self::NotAtThisHour => "not_at_this_hour",
            Self::ClockNotTrusted => "clock_not_trusted",
            Self::NotAdmitted => "not_admitted",
            Self::Expired => "expired",
        }
    }

    /// Whether a little more of the same may help: nobody is turned away yet.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::MoreProbes | Self::HigherScore)
    }
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// Whether it opens, and what stands in between.
    pub result: Result<(), Hindrance>,
    /// The rule that decided, as its place in [`Policy::rules`]; none where no rule is for them.
    pub rule: Option<usize>,
}

impl Policy {
    /// Checks a policy; `groups` are those there are.
    pub fn check(document: &PolicyDocument, groups: &[GroupId]) -> Result<Self, Vec<PolicyProblem>> {
        let mut checker = Checker { document, groups, problems: Vec::new() };
        let policy = checker.policy();
        match policy {
            Some(policy) if checker.problems.is_empty() => Ok(policy),
            _ => Err(checker.problems),
        }
    }

    /// As it was written down.
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }

    /// Its rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Local time and holidays.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// Most probes in a row that any rule asks for.
    pub fn most_probes(&self) -> u32 {
        self.rules.iter().filter(|rule| rule.needs.face()).map(|rule| rule.probes).max().unwrap_or(0)
    }

    /// Whether any rule takes a pass, so that the camera has to look for one.
    pub fn takes_passes(&self) -> bool {
        self.rules.iter().any(|rule| rule.needs.pass())
    }

    /// Whether a rule is open at a time; without a schedule it always is.
    pub fn is_open(&self, rule: &Rule, at: UnixMillis) -> bool {
        rule.schedule.is_none_or(|schedule| self.calendar.is_open(&self.schedules[schedule], at))
    }

    /// When a rule opens or closes next.
    pub fn next_change(&self, rule: &Rule, at: UnixMillis) -> Option<UnixMillis> {
        self.calendar.next_change(&self.schedules[rule.schedule?], at)
    }

    /// Whether a claim opens the door.
    pub fn weigh(&self, claim: &Claim<'_>, situation: &Situation) -> Weighed {
        if let Some(expires_at) = claim.person.expires_at {
            if !situation.clock_trusted {
                return Weighed { result: Err(Hindrance::ClockNotTrusted), rule: None };
            }
            if situation.now >= expires_at {
                return Weighed { result: Err(Hindrance::Expired), rule: None };
            }
        }
        let mut nearest = Weighed { result: Err(Hindrance::NotAdmitted), rule: None };
        for (place, rule) in self.rules.iter().enumerate() {
            let result = self.weigh_by(rule, claim, situation);
            let nearer = match (result, nearest.result) {
                (Ok(()), _) => return Weighed { result, rule: Some(place) },
                (Err(new), Err(old)) => new < old,
                (Err(_), Ok(())) => false,
            };
            if nearer {
                nearest = Weighed { result, rule: Some(place) };
            }
        }
        nearest
    }

    /// Whether a claim opens the door by one rule.
    pub fn weigh_by(&self, rule: &Rule, claim: &Claim<'_>, situation: &Situation) -> Result<(), Hindrance> {
        if !rule.is_for(claim.person) {
            return Err(Hindrance::NotAdmitted);
        }
        if rule.schedule.is_some() && !situation.clock_trusted {
            return Err(Hindrance::ClockNotTrusted);
        }
        if !self.is_open(rule, situation.now) {
            return Err(Hindrance::NotAtThisHour);
        }
        let needs = rule.needs;
        if needs.face() && !situation.face_unlock {
            return Err(Hindrance::FaceUnlockOff);
        }
        let Locked { face, pin, pass } = situation.locked;
        if (needs.face() && face) || (needs.pin() && pin) || (needs.pass() && pass) {
            return Err(Hindrance::LockedOut);
        }
        if needs.face() {
            let Some(strength) = claim.face else { return Err(Hindrance::NeedsFace) };
            if rule.pad && strength.pad != Pad::BonaFide {
                return Err(Hindrance::PadNotEvaluated);
            }
            if strength.probes < rule.probes {
                return Err(Hindrance::MoreProbes);
            }
            // Not a number is not enough.
            if !matches!(
                strength.score_above.partial_cmp(&rule.score_above),
                Some(std::cmp::Ordering::Equal | std::cmp::Ordering::Greater)
            ) {
                return Err(Hindrance::HigherScore);
            }
        }
        if needs.pin() && !claim.pin {
            return Err(Hindrance::NeedsPin);
        }
        if needs.pass() && !claim.pass {
            return Err(Hindrance::NeedsPass);
        }
        if situation.too_often {
            return Err(Hindrance::TooOften);
        }
        if situation.cooling_down {
            return Err(Hindrance::CoolingDown);
        }
        Ok(())
    }
}

/// Collects every problem of a document, so that they can be mended together.
struct Checker<'d> {
    document: &'d PolicyDocument,
    groups: &'d [GroupId],
    problems: Vec<PolicyProblem>,
}

impl Checker<'_> {
    fn problem(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(PolicyProblem { place: place.into(), problem: problem.into() });
    }

    fn range(&mut self, place: &str, value: u32, allowed: std::ops::RangeInclusive<u32>) {
        if !allowed.contains(&value) {
            self.problem(place, format!("{value}: {} to {} is possible", allowed.start(), allowed.end()));
        }
    }

    fn name(&mut self, place: String, name: &str) {
        let length = name.chars().count();
        if !(1..=MOST_NAME_CHARS).contains(&length)
            || name.chars().any(char::is_control)
            || name != name.trim()
        {
            self.problem(
                place,
                format!(
                    "a name has 1 to {MOST_NAME_CHARS} visible characters and neither begins nor ends with a space"
                ),
            );
        }
    }

    fn at_most(&mut self, place: &str, found: usize, most: usize) -> bool {
        if found > most {
            self.problem(place, format!("{found} are given, at most {most} are possible"));
        }
        found <= most
    }

    fn policy(&mut self) -> Option<Policy> {
        let document = self.document;
        self.range("cool_down_s", document.cool_down_s, 0..=3_600);
        self.range("grants_per_minute", document.grants_per_minute, 1..=120);
        self.range("second_factor_s", document.second_factor_s, 5..=120);
        let lock_out = document.lock_out;
        self.range("lock_out.failures", lock_out.failures, 0..=100);
        self.range("lock_out.within_s", lock_out.within_s, 1..=86_400);
        self.range("lock_out.for_s", lock_out.for_s, 1..=86_400);
        self.range("lock_out.after_attack_s", lock_out.after_attack_s, 1..=86_400);
        // Bounds first, so that nothing below takes long.
        let bounded = self.at_most("holidays", document.holidays.len(), MOST_HOLIDAYS)
            & self.at_most("schedules", document.schedules.len(), MOST_SCHEDULES)
            & self.at_most("rules", document.rules.len(), MOST_RULES);
        if !bounded {
            return None;
        }
        let mut holidays = Vec::new();
        for (n, text) in document.holidays.iter().enumerate() {
            match Holiday::parse(text) {
                Some(holiday) => holidays.push(holiday),
                None => self.problem(
                    format!("holidays[{n}]"),
                    "this is no date: YYYY-MM-DD, or MM-DD for every year",
                ),
            }
        }
        let calendar = Calendar::new(&document.time_zone, holidays);
        if calendar.is_none() {
            self.problem("time_zone", "there is no such time zone; they are called like Europe/Berlin");
        }
        let mut schedules = Vec::new();
        for (n, schedule) in document.schedules.iter().enumerate() {
            schedules.push(self.schedule(n, schedule));
        }
        let mut rules = Vec::new();
        for (n, rule) in document.rules.iter().enumerate() {
            rules.push(self.rule(n, rule));
        }
        Some(Policy { document: document.clone(), calendar: calendar?, schedules, rules })
    }

    fn schedule(&mut self, n: usize, schedule: &ScheduleDocument) -> Schedule {
        let place = format!("schedules[{n}]");
        self.name(format!("{place}.name"), &schedule.name);
        if self.document.schedules[..n].iter().any(|other| other.name == schedule.name) {
            self.problem(format!("{place}.name"), "another schedule has this name");
        }
        if schedule.windows.is_empty() {
            self.problem(format!("{place}.windows"), "without a window it would never be open");
        }
        if schedule.on_holidays == OnHolidays::Only && self.document.holidays.is_empty() {
            self.problem(format!("{place}.on_holidays"), "there are no holidays, so it would never be open");
        }
        let mut windows = Vec::new();
        if !self.at_most(&format!("{place}.windows"), schedule.windows.len(), MOST_WINDOWS) {
            return Schedule { windows, on_holidays: schedule.on_holidays };
        }
        for (m, window) in schedule.windows.iter().enumerate() {
            let place = format!("{place}.windows[{m}]");
            if window.days.is_empty() {
                self.problem(format!("{place}.days"), "without a day it would never be open");
            }
            if window.days.len() > 7 {
                self.problem(format!("{place}.days"), "a week has seven days");
            }
            let mut time = |key: &str, text: &str| {
                let time = TimeOfDay::parse(text);
                if time.is_none() {
                    self.problem(format!("{place}.{key}"), "this is no time: HH:MM, 00:00 to 24:00");
                }
                time
            };
            let times = time("from", &window.from).zip(time("to", &window.to));
            let Some((from, to)) = times else { continue };
            if from == to {
                self.problem(place, "it ends when it begins: write 00:00 to 24:00 for a whole day");
            } else if TimeOfDay::parse("24:00") == Some(from) {
                self.problem(
                    format!("{place}.from"),
                    "24:00 is the end of a day: write 00:00 of the next one",
                );
            } else {
                windows.push(Window { days: window.days.clone(), from, to });
            }
        }
        Schedule { windows, on_holidays: schedule.on_holidays }
    }

    fn rule(&mut self, n: usize, rule: &RuleDocument) -> Rule {
        let place = format!("rules[{n}]");
        self.name(format!("{place}.name"), &rule.name);
        if self.document.rules[..n].iter().any(|other| other.name == rule.name) {
            self.problem(format!("{place}.name"), "another rule has this name");
        }
        if rule.everyone && !rule.groups.is_empty() {
            self.problem(format!("{place}.groups"), "a rule is for everyone or for groups, not both");
        }
        if !rule.everyone && rule.groups.is_empty() {
            self.problem(format!("{place}.groups"), "a rule is for everyone or for at least one group");
        }
        if self.at_most(&format!("{place}.groups"), rule.groups.len(), MOST_GROUPS) {
            for (m, group) in rule.groups.iter().enumerate() {
                if !self.groups.contains(&GroupId(*group)) {
                    self.problem(format!("{place}.groups[{m}]"), format!("there is no group {group}"));
                }
            }
        }
        let schedule = rule.schedule.as_ref().map(|name| {
            let found = self.document.schedules.iter().position(|schedule| schedule.name == *name);
            if found.is_none() {
                self.problem(format!("{place}.schedule"), "there is no schedule of this name");
            }
            // With a problem noted, nothing is ever asked of it.
            found.unwrap_or(0)
        });
        self.range(&format!("{place}.probes"), rule.probes, 0..=20);
        if !(0.0..=0.5).contains(&rule.score_above) {
            self.problem(format!("{place}.score_above"), "0 to 0.5 is possible");
        }
        if !rule.needs.face() && (rule.pad || rule.probes > 0 || rule.score_above > 0.0) {
            self.problem(place, "probes, score_above and pad are about faces, and this rule needs none");
        }
        let who = match rule.everyone {
            true => Who::Everyone,
            false => Who::Groups(rule.groups.iter().copied().map(GroupId).collect()),
        };
        Rule {
            name: rule.name.clone(),
            who,
            schedule,
            needs: rule.needs,
            probes: rule.probes,
            score_above: rule.score_above,
            pad: rule.pad,
        }
    }
}
