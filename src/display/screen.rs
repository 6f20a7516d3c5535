//! What the screen shows, out of what goes on at the door. Pure but for the time passed in.

use std::time::Duration;

use crate::clock::{Monotonic, UnixMillis};
use crate::door::credential::PassFault;
use crate::door::keeper::{Denial, Factor, Ruling};
use crate::door::policy::Hindrance;
use crate::door::record::Alarm;
use crate::door::thread::DoorNews;
use crate::live::{Attempt, AttemptOutcome, Live};

/// How long a ruling is shown.
const RULING: Duration = Duration::from_secs(4);
/// How long it is asked for a second factor; the door itself may wait longer or shorter.
const PROMPT: Duration = Duration::from_secs(20);
/// What the last look said is shown for so long.
const HINT: Duration = Duration::from_millis(1500);
/// Looks after which somebody who is not recognised yet sees the bar full.
const FULL: u32 = 8;

/// What a visitor can do, or why nothing helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Too few pixels of face.
    ComeCloser,
    /// Turned away, tilted, or cut off.
    LookAtCamera,
    /// Blurred.
    HoldStill,
    /// Too little light.
    MoreLight,
    /// Too much.
    LessLight,
}

/// Why somebody stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The face is nobody's.
    NotKnown,
    /// Another hour; from when on, where that is known.
    NotAtThisHour(Option<UnixMillis>),
    /// No rule is for them, or their time is over.
    NotAdmitted,
    /// Wrong PIN.
    WrongPin,
    /// A pass that is none.
    PassInvalid,
    /// One that was used.
    PassUsed,
    /// One that has expired.
    PassExpired,
    /// Too often, too soon.
    TooOften,
    /// Nobody knows the time.
    TimeUnknown,
    /// Faces open nothing just now.
    FaceUnlockOff,
    /// Anything that may pass another time.
    TryAgain,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Screen {
    /// Nobody is there.
    Idle {
        /// Hour and minute beside the door; none where nobody knows.
        time: Option<(u8, u8)>,
        /// Whether the network is gone.
        offline: bool,
    },
    /// Somebody is looked at.
    Looking {
        /// 0 to 100.
        progress: u8,
        /// What would help.
        hint: Option<Hint>,
    },
    /// Come in.
    Welcome {
        /// Whom, where names are shown.
        name: Option<String>,
    },
    /// Stay outside.
    Denied(Refusal),
    /// Show or enter something more.
    Prompt(Factor),
    /// Somebody is being enrolled: what to do, by its code.
    Enrolment(&'static str),
    /// The bell has rung.
    Rung,
    /// The camera sees nothing.
    NoCamera,
    /// Locked after failures, for so many minutes.
    LockedOut {
        /// Rounded up.
        minutes: u32,
    },
}

/// Everything the screen depends on, besides the time.
#[derive(Clone, Debug, Default)]
pub struct Composer {
    faces: u32,
    attempts: u32,
    hint: Option<(Hint, Monotonic)>,
    shown: Option<(Screen, Monotonic)>,
}

/// How things are besides what happens.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Hour and minute beside the door.
    pub time: Option<(u8, u8)>,
    /// Whether the broker cannot be reached.
    pub offline: bool,
    /// Whether the camera gives no pictures, or nothing can be recognised in them.
    pub blind: bool,
    /// How long everything is locked.
    pub locked: Option<Duration>,
    /// What whoever is being enrolled is to do.
    pub guide: Option<&'static str>,
}

impl Composer {
    /// Takes in what recognition sees.
    pub fn see(&mut self, live: &Live, now: Monotonic) {
        match live {
            Live::Presence { faces } => {
                self.faces = *faces;
                if *faces == 0 {
                    (self.attempts, self.hint) = (0, None);
                }
            }
            Live::Attempt(Attempt { outcome, attempts, .. }) => {
                self.attempts = *attempts;
                let hint = match outcome {
                    AttemptOutcome::Inconclusive(code) => hint(code),
                    AttemptOutcome::Match { .. } | AttemptOutcome::NoMatch { .. } => None,
                };
                self.hint = hint.map(|hint| (hint, now));
            }
        }
    }

    /// Takes in what the door says. `name` is whose, where names are shown.
    pub fn hear(&mut self, news: &DoorNews, name: Option<String>, now: Monotonic) {
        let (screen, lasts) = match news {
            // Whoever leaves is not told anything on the outside, and an order by hand opens as a ruling does.
            DoorNews::Ruling(ruling) => (of_ruling(ruling, name), RULING),
            DoorNews::Prompt(factor) => (Screen::Prompt(*factor), PROMPT),
            DoorNews::Rang => (Screen::Rung, RULING),
            DoorNews::Alarm(Alarm::LockedOut | Alarm::ForcedOpen | Alarm::HeldOpen | Alarm::Tamper) => return,
        };
        self.shown = Some((screen, now + lasts));
    }

    /// What is shown now.
    pub fn screen(&mut self, conditions: &Conditions, now: Monotonic) -> Screen {
        self.shown.take_if(|(_, until)| now >= *until);
        if let Some(step) = conditions.guide {
            return Screen::Enrolment(step);
        }
        if let Some((screen, _)) = &self.shown {
            return screen.clone();
        }
        if let Some(left) = conditions.locked {
            return Screen::LockedOut {
                minutes: u32::try_from(left.as_secs().div_ceil(60)).unwrap_or(u32::MAX),
            };
        }
        if conditions.blind {
            return Screen::NoCamera;
        }
        if self.faces > 0 {
            let progress = (self.attempts.min(FULL) * 100 / FULL) as u8;
            let hint = self.hint.filter(|(_, at)| now.since(*at) < HINT).map(|(hint, _)| hint);
            return Screen::Looking { progress, hint };
        }
        Screen::Idle { time: conditions.time, offline: conditions.offline }
    }
}

fn hint(code: &str) -> Option<Hint> {
    Some(match code {
        "too_far" => Hint::ComeCloser,
        "turned_away" | "looking_up_or_down" | "tilted" | "cut_by_frame" => Hint::LookAtCamera,
        "blurred" => Hint::HoldStill,
        "too_dark" => Hint::MoreLight,
        "too_bright" => Hint::LessLight,
        _ => return None,
    })
}

fn of_ruling(ruling: &Ruling, name: Option<String>) -> Screen {
    let denial = match ruling.result {
        // Nothing is switched, so nobody is told to come in.
        Ok(()) if ruling.dry_run => return Screen::Denied(Refusal::TryAgain),
        Ok(()) => return Screen::Welcome { name },
        Err(denial) => denial,
    };
    Screen::Denied(match denial {
        Denial::UnknownPerson => Refusal::NotKnown,
        Denial::WrongPin => Refusal::WrongPin,
        Denial::Pass(PassFault::UsedUp) => Refusal::PassUsed,
        Denial::Pass(PassFault::Expired | PassFault::Stale) => Refusal::PassExpired,
        Denial::Pass(PassFault::ClockNotTrusted) => Refusal::TimeUnknown,
        Denial::Pass(_) => Refusal::PassInvalid,
        Denial::SecondFactorMissing | Denial::TooLate | Denial::Storage => Refusal::TryAgain,
        Denial::Hindrance(hindrance) => match hindrance {
            Hindrance::NotAtThisHour => Refusal::NotAtThisHour(ruling.until),
            Hindrance::NotAdmitted | Hindrance::Expired => Refusal::NotAdmitted,
            Hindrance::CoolingDown | Hindrance::TooOften => Refusal::TooOften,
            Hindrance::ClockNotTrusted => Refusal::TimeUnknown,
            Hindrance::FaceUnlockOff => Refusal::FaceUnlockOff,
            Hindrance::MoreProbes
            | Hindrance::HigherScore
            | Hindrance::NeedsPin
            | Hindrance::NeedsPass
            | Hindrance::NeedsFace
            | Hindrance::PadNotEvaluated
            | Hindrance::LockedOut => Refusal::TryAgain,
        },
    })
}
