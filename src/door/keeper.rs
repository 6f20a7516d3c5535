//! The doorkeeper: what is shown at the door, one thing after the other, becomes rulings. Pure but for the
//! times passed in; lives on the thread `door`.
//!
//! Owned here: which factors wait for a second one, whom the door has just opened for, and what is locked after
//! failures. What is allowed at all is the [`Policy`]'s.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::{CredentialId, Holder, PassFault};
use super::policy::{Claim, FaceStrength, Hindrance, Locked, Needs, Person, Policy, Situation};
use crate::clock::{Monotonic, UnixMillis};
use crate::gallery::SubjectId;
use crate::track::TrackId;

/// A face that was captured longer ago opens nothing.
const FRESH: Duration = Duration::from_secs(3);
/// Factors that wait for a second one, at a time.
const WAITING: usize = 8;
/// Tracks remembered; the oldest of more are forgotten.
const TRACKS: usize = 64;
/// Between two openings by hand.
const REMOTE_PAUSE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// By what the door opened, or was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A face.
    Face,
    /// A face and a PIN.
    FaceAndPin,
    /// A face and a pass.
    FaceAndPass,
    /// A PIN.
    Pin,
    /// A pass.
    Pass,
    /// The button inside.
    ExitButton,
    /// The page or the broker.
    Remote,
}

impl Way {
    /// Its name in messages and the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Face => "face",
            Self::FaceAndPin => "face_and_pin",
            Self::FaceAndPass => "face_and_pass",
            Self::Pin => "pin",
            Self::Pass => "pass",
            Self::ExitButton => "exit_button",
            Self::Remote => "remote",
        }
    }
}

/// Why the door stayed shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The policy's answer.
    Hindrance(Hindrance),
    /// The face is nobody's.
    UnknownPerson,
    /// The PIN is nobody's.
    WrongPin,
    /// The pass is none, or no longer.
    Pass(PassFault),
    /// The second factor did not come in time.
    SecondFactorMissing,
    /// The face was captured too long ago.
    TooLate,
    /// What has to be written down first could not be.
    Storage,
}

impl Denial {
    /// Its name in messages and the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Hindrance(hindrance) => hindrance.code(),
            Self::UnknownPerson => "unknown_person",
            Self::WrongPin => "wrong_pin",
            Self::Pass(fault) => fault.code(),
            Self::SecondFactorMissing => "second_factor_missing",
            Self::TooLate => "too_late",
            Self::Storage => "storage",
        }
    }
}

/// What became of something that was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// Whose face, PIN or pass it was.
    pub subject: Option<SubjectId>,
    /// Which face in view.
    pub track: Option<TrackId>,
    /// By what it opened, or was to.
    pub way: Way,
    /// Whether it opens.
    pub result: Result<(), Denial>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Until when that rule is open, or from when on it will be.
    pub until: Option<UnixMillis>,
    /// Whether nothing is switched.
    pub dry_run: bool,
    /// The PIN or pass.
    pub credential: Option<CredentialId>,
    /// By how much the comparison score was above the threshold.
    pub score_above: Option<f32>,
    /// Probes in a row that agreed.
    pub probes: Option<u32>,
}

/// A factor that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// Look at the camera.
    Face,
    /// Enter the PIN.
    Pin,
    /// Show the pass.
    Pass,
}

impl Factor {
    /// What stands in between as long as it is missing.
    pub fn hindrance(self) -> Hindrance {
        match self {
            Self::Face => Hindrance::NeedsFace,
            Self::Pin => Hindrance::NeedsPin,
            Self::Pass => Hindrance::NeedsPass,
        }
    }

    fn wanted(result: Result<(), Hindrance>) -> Option<Self> {
        [Self::Face, Self::Pin, Self::Pass].into_iter().find(|factor| result == Err(factor.hindrance()))
    }
}

/// What the doorkeeper says.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Somebody may enter, or not.
    Ruling(Ruling),
    /// Something more is needed.
    Prompt(Factor),
}

/// A face as recognition names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaceSight {
    /// Which face in view.
    pub track: TrackId,
    /// Whose.
    pub subject: SubjectId,
    /// How surely.
    pub strength: FaceStrength,
    /// When the decisive frame was captured.
    pub captured: Monotonic,
    /// The same by the wall clock.
    pub captured_at: UnixMillis,
}

/// A PIN or pass that is genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Which.
    pub id: CredentialId,
    /// Whose.
    pub holder: Holder,
    /// What they may do by it.
    pub person: Person,
}

/// The times of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the monotonic clock, for everything that takes time.
    pub monotonic: Monotonic,
    /// By the wall clock, for schedules.
    pub wall: UnixMillis,
    /// Whether the wall clock can be right.
    pub trusted: bool,
}

/// Failures with one means, and what came of them.
#[derive(Clone, Debug, Default)]
struct LockOut {
    failures: VecDeque<Monotonic>,
    until: Option<Monotonic>,
    /// Lock-outs in a row, and the last of them.
    times: u32,
    last: Option<Monotonic>,
}

impl LockOut {
    fn is_locked(&self, now: Monotonic) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn lock(&mut self, now: Monotonic, first: Duration) {
        if self.last.is_some_and(|last| now.since(last) > DAY) {
            self.times = 0;
        }
        let factor = 1u32.checked_shl(self.times).unwrap_or(u32::MAX);
        self.until = Some(now + first.saturating_mul(factor).min(DAY));
        self.times = (self.times + 1).min(31);
        self.last = Some(now);
        self.failures.clear();
    }

    fn fail(&mut self, now: Monotonic, policy: &Policy) {
        let rules = policy.document().lock_out;
        if rules.failures == 0 || self.is_locked(now) {
            return;
        }
        let within = Duration::from_secs(rules.within_s.into());
        self.failures.retain(|at| now.since(*at) < within);
        self.failures.push_back(now);
        if self.failures.len() >= rules.failures as usize {
            self.lock(now, Duration::from_secs(rules.for_s.into()));
        }
    }
}

/// What somebody has shown who needs to show more.
#[derive(Clone, Debug)]
struct Waiting {
    holder: Holder,
    factors: Factors,
    until: Monotonic,
    /// What it was taken for.
    rule: Option<String>,
}

/// What was said of a face in view.
#[derive(Clone, Debug, Default)]
struct Said {
    granted: bool,
    denied: Option<Denial>,
    /// It is not over yet; what is said if it ends like this.
    pending: Option<Ruling>,
}

/// The doorkeeper.
#[derive(Debug, Default)]
pub struct Keeper {
    policy: Option<Arc<Policy>>,
    people: Arc<BTreeMap<SubjectId, Person>>,
    face_unlock: bool,
    opened_for: VecDeque<(Holder, Monotonic)>,
    openings: VecDeque<Monotonic>,
    remote_at: Option<Monotonic>,
    face: LockOut,
    pin: LockOut,
    pass: LockOut,
    waiting: Vec<Waiting>,
    said: BTreeMap<TrackId, Said>,
}

impl Keeper {
    /// Nobody at the door, and no policy: it opens for nobody.
    pub fn new(face_unlock: bool) -> Self {
        Self { face_unlock, ..Self::default() }
    }

    /// Goes by another policy and other people from now on. What is locked stays so.
    pub fn instruct(&mut self, policy: Option<Arc<Policy>>, people: Arc<BTreeMap<SubjectId, Person>>) {
        self.policy = policy;
        self.people = people;
        // What was said by the old rules may be otherwise by the new ones.
        self.said.values_mut().for_each(|said| said.denied = None);
        self.waiting.clear();
    }

    /// Faces may open from now on, or not.
    pub fn set_face_unlock(&mut self, on: bool) {
        if std::mem::replace(&mut self.face_unlock, on) != on {
            self.said.values_mut().for_each(|said| said.denied = None);
        }
    }

    /// Means that are locked.
    pub fn locked(&self, now: Monotonic) -> Locked {
        Locked {
            face: self.face.is_locked(now),
            pin: self.pin.is_locked(now),
            pass: self.pass.is_locked(now),
        }
    }

    /// Until when any means stays locked; none where nothing is.
    pub fn locked_until(&self, now: Monotonic) -> Option<Monotonic> {
        let until = [&self.face, &self.pin, &self.pass].into_iter().filter_map(|means| means.until);
        until.filter(|until| now < *until).max()
    }

    /// Unlocks everything, by hand.
    pub fn unlock(&mut self) {
        (self.face, self.pin, self.pass) = Default::default();
    }

    /// A face that recognition names, at every look that confirms it.
    pub fn face(&mut self, sight: &FaceSight, moment: &Moment) -> Vec<Step> {
        let Some(policy) = self.policy.clone() else { return Vec::new() };
        let said = self.said.entry(sight.track).or_default();
        if said.granted {
            return Vec::new();
        }
        if moment.monotonic.since(sight.captured) > FRESH {
            return self.deny_face(sight, Denial::TooLate);
        }
        let holder = Holder::Subject(sight.subject);
        // Whom the gallery has and the book does not, is not known well enough to be let in.
        let Some(person) = self.people.get(&sight.subject).cloned() else {
            return self.deny_face(sight, Denial::Hindrance(Hindrance::NotAdmitted));
        };
        let factors = Factors { face: Some((sight.track, sight.strength)), ..self.shown(holder) };
        let step = self.weigh(&policy, holder, &person, factors, moment);
        self.once_per_visit(sight, step)
    }

    /// A face that is nobody's.
    pub fn stranger(&mut self, track: TrackId) -> Vec<Step> {
        let Some(policy) = &self.policy else { return Vec::new() };
        if !policy.rules().iter().any(|rule| rule.needs.face()) {
            return Vec::new();
        }
        let said = self.said.entry(track).or_default();
        let denial = Denial::UnknownPerson;
        if said.granted || said.denied.replace(denial) == Some(denial) {
            return Vec::new();
        }
        vec![Step::Ruling(Ruling { track: Some(track), ..self.denied(Way::Face, denial) })]
    }

    /// The face has left.
    pub fn left(&mut self, track: TrackId) -> Vec<Step> {
        let said = self.said.remove(&track);
        said.and_then(|said| said.pending).map(Step::Ruling).into_iter().collect()
    }

    /// Attack detection takes the face in view for a picture or a mask.
    pub fn attack(&mut self, now: Monotonic) {
        if let Some(policy) = &self.policy {
            let first = Duration::from_secs(policy.document().lock_out.after_attack_s.into());
            self.face.lock(now, first);
        }
    }

    /// Whether a PIN or pass is looked at; if not, the ruling about it.
    pub fn admits(&self, way: Way, now: Monotonic) -> Result<(), Ruling> {
        let locked = match way {
            Way::Pin => self.pin.is_locked(now),
            Way::Pass => self.pass.is_locked(now),
            _ => false,
        };
        let denial = match locked {
            true => Denial::Hindrance(Hindrance::LockedOut),
            false if self.policy.is_none() => Denial::Hindrance(Hindrance::NotAdmitted),
            false => return Ok(()),
        };
        Err(self.denied(way, denial))
    }

    /// A PIN or pass that is none, or no longer.
    pub fn failed(&mut self, way: Way, denial: Denial, id: Option<CredentialId>, now: Monotonic) -> Ruling {
        let means = match way {
            Way::Pin => Some(&mut self.pin),
            Way::Pass => Some(&mut self.pass),
            _ => None,
        };
        // Text that is no pass at all is not an attempt: any poster has a code.
        let means = means.filter(|_| denial != Denial::Pass(PassFault::Malformed));
        if let (Some(means), Some(policy)) = (means, &self.policy) {
            means.fail(now, policy);
        }
        Ruling { credential: id, ..self.denied(way, denial) }
    }

    /// A genuine PIN or pass.
    pub fn credential(&mut self, way: Way, presented: &Presented, moment: &Moment) -> Vec<Step> {
        let Some(policy) = self.policy.clone() else { return Vec::new() };
        let person = match presented.holder {
            // What they may do is what they may do now, not when the PIN was made.
            Holder::Subject(subject) => match self.people.get(&subject) {
                Some(person) => person.clone(),
                None => {
                    let denied = self.denied(way, Denial::Hindrance(Hindrance::NotAdmitted));
                    return vec![Step::Ruling(Ruling { credential: Some(presented.id), ..denied })];
                }
            },
            Holder::Visitor(_) => presented.person.clone(),
        };
        let mut factors = self.shown(presented.holder);
        match way {
            Way::Pin => factors.pin = Some(presented.id),
            _ => factors.pass = Some(presented.id),
        }
        vec![self.weigh(&policy, presented.holder, &person, factors, moment)]
    }

    /// Somebody opens by hand, from the page or over the broker.
    pub fn remote(&mut self, now: Monotonic) -> Ruling {
        let (most, dry_run) = match &self.policy {
            Some(policy) => (policy.document().grants_per_minute, policy.document().dry_run),
            None => (u32::MAX, false),
        };
        let too_soon = self.remote_at.is_some_and(|at| now.since(at) < REMOTE_PAUSE);
        if too_soon || self.too_often(now, most) {
            let denial = Denial::Hindrance(Hindrance::TooOften);
            return Ruling { dry_run, ..Ruling::denied(Way::Remote, denial) };
        }
        self.remote_at = Some(now);
        self.openings.push_back(now);
        // An order of somebody who is signed in is carried out in a dry run too: it is not the policy's.
        Ruling { result: Ok(()), ..Ruling::denied(Way::Remote, Denial::TooLate) }
    }

    /// Whoever is inside may leave, whatever else holds.
    pub fn exit(&mut self) -> Ruling {
        Ruling { result: Ok(()), ..Ruling::denied(Way::ExitButton, Denial::TooLate) }
    }

    /// What is over: factors whose second did not come.
    pub fn tick(&mut self, now: Monotonic) -> Vec<Step> {
        let (over, left) = std::mem::take(&mut self.waiting).into_iter().partition(|w| now >= w.until);
        self.waiting = left;
        let over: Vec<Waiting> = over;
        over.into_iter()
            .map(|Waiting { holder, factors, rule, .. }| {
                Step::Ruling(Ruling {
                    subject: holder.subject(),
                    track: factors.face.map(|(track, _)| track),
                    rule,
                    credential: factors.pin.or(factors.pass),
                    ..self.denied(factors.way(), Denial::SecondFactorMissing)
                })
            })
            .collect()
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_tick(&self) -> Option<Monotonic> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// What somebody has shown already who needs to show more.
    fn shown(&self, holder: Holder) -> Factors {
        let waiting = self.waiting.iter().find(|waiting| waiting.holder == holder);
        waiting.map_or_else(Factors::default, |waiting| waiting.factors)
    }

    fn denied(&self, way: Way, denial: Denial) -> Ruling {
        let dry_run = self.policy.as_ref().is_none_or(|policy| policy.document().dry_run);
        Ruling { dry_run, ..Ruling::denied(way, denial) }
    }

    fn too_often(&mut self, now: Monotonic, most: u32) -> bool {
        self.openings.retain(|at| now.since(*at) < MINUTE);
        self.openings.len() >= most as usize
    }

    fn situation(&mut self, policy: &Policy, holder: Holder, moment: &Moment) -> Situation {
        let now = moment.monotonic;
        let cool_down = Duration::from_secs(policy.document().cool_down_s.into());
        self.opened_for.retain(|(_, at)| now.since(*at) < cool_down);
        Situation {
            now: moment.wall,
            clock_trusted: moment.trusted,
            face_unlock: self.face_unlock,
            locked: self.locked(now),
            cooling_down: self.opened_for.iter().any(|(opened, _)| *opened == holder),
            too_often: self.too_often(now, policy.document().grants_per_minute),
        }
    }

    fn weigh(
        &mut self,
        policy: &Arc<Policy>,
        holder: Holder,
        person: &Person,
        factors: Factors,
        moment: &Moment,
    ) -> Step {
        let situation = self.situation(policy, holder, moment);
        let claim = Claim {
            person,
            face: factors.face.map(|(_, strength)| strength),
            pin: factors.pin.is_some(),
            pass: factors.pass.is_some(),
        };
        let weighed = policy.weigh(&claim, &situation);
        let rule = weighed.rule.map(|place| &policy.rules()[place]);
        let now = moment.monotonic;
        let strength = factors.face.map(|(_, strength)| strength);
        let ruling = Ruling {
            subject: holder.subject(),
            track: factors.face.map(|(track, _)| track),
            way: match (weighed.result, rule) {
                (Ok(()), Some(rule)) => rule.needs.into(),
                _ => factors.way(),
            },
            result: weighed.result.map_err(Denial::Hindrance),
            rule: rule.map(|rule| rule.name.clone()),
            until: rule.filter(|_| moment.trusted).and_then(|rule| policy.next_change(rule, moment.wall)),
            dry_run: policy.document().dry_run,
            credential: factors.pin.or(factors.pass),
            score_above: strength.map(|strength| strength.score_above),
            probes: strength.map(|strength| strength.probes),
        };
        let known = self.waiting.iter().position(|waiting| waiting.holder == holder);
        if weighed.result.is_ok() {
            known.map(|place| self.waiting.swap_remove(place));
            self.opened_for.push_back((holder, now));
            self.openings.push_back(now);
        }
        let Some(factor) = Factor::wanted(weighed.result) else { return Step::Ruling(ruling) };
        match known {
            // The time runs from the first of them: looking on does not prolong it.
            Some(place) => self.waiting[place].factors = factors,
            None => {
                if self.waiting.len() == WAITING {
                    self.waiting.remove(0);
                }
                let until = now + Duration::from_secs(policy.document().second_factor_s.into());
                self.waiting.push(Waiting { holder, factors, until, rule: ruling.rule });
            }
        }
        Step::Prompt(factor)
    }

    /// Of what is said at every look at a face, only what is new.
    fn once_per_visit(&mut self, sight: &FaceSight, step: Step) -> Vec<Step> {
        while self.said.len() > TRACKS {
            self.said.pop_first();
        }
        let said = self.said.entry(sight.track).or_default();
        said.pending = None;
        let is_new = match &step {
            Step::Prompt(_) => true,
            Step::Ruling(ruling) => match ruling.result {
                Ok(()) => {
                    said.granted = true;
                    true
                }
                // It may still pass; only if the visit ends like this it was turned away.
                Err(Denial::Hindrance(hindrance)) if hindrance.may_pass() => {
                    said.pending = Some(ruling.clone());
                    false
                }
                Err(denial) => said.denied.replace(denial) != Some(denial),
            },
        };
        is_new.then_some(step).into_iter().collect()
    }

    fn deny_face(&mut self, sight: &FaceSight, denial: Denial) -> Vec<Step> {
        let ruling = Ruling {
            subject: Some(sight.subject),
            track: Some(sight.track),
            score_above: Some(sight.strength.score_above),
            probes: Some(sight.strength.probes),
            ..self.denied(Way::Face, denial)
        };
        self.once_per_visit(sight, Step::Ruling(ruling))
    }
}

/// What one person has shown so far.
#[derive(Clone, Copy, Debug, Default)]
struct Factors {
    face: Option<(TrackId, FaceStrength)>,
    pin: Option<CredentialId>,
    pass: Option<CredentialId>,
}

impl Factors {
    fn way(&self) -> Way {
        match (self.face.is_some(), self.pin.is_some(), self.pass.is_some()) {
            (true, true, _) => Way::FaceAndPin,
            (true, false, true) => Way::FaceAndPass,
            (true, false, false) => Way::Face,
            (false, true, _) => Way::Pin,
            (false, false, _) => Way::Pass,
        }
    }
}

impl From<Needs> for Way {
    fn from(needs: Needs) -> Self {
        match needs {
            Needs::Face => Self::Face,
            Needs::FaceAndPin => Self::FaceAndPin,
            Needs::FaceAndPass => Self::FaceAndPass,
            Needs::Pin => Self::Pin,
            Needs::Pass => Self::Pass,
        }
    }
}

impl Ruling {
    fn denied(way: Way, denial: Denial) -> Self {
        Self {
            subject: None,
            track: None,
            way,
            result: Err(denial),
            rule: None,
            until: None,
            dry_run: false,
            credential: None,
            score_above: None,
            probes: None,
        }
    }
}
