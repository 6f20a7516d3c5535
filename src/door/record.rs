//! What an event about the door says besides who and when. Values; used on any thread.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::CredentialId;
use super::keeper::{Ruling, Way};
use crate::clock::{Monotonic, UnixMillis};
use crate::event_store::EventKind;
use crate::gallery::SubjectId;
use crate::track::TrackId;

/// Something that should not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Alarm {
    /// The door was opened and nobody had been let in or out.
    ForcedOpen,
    /// The door has been open for too long.
    HeldOpen,
    /// The housing was opened.
    Tamper,
    /// PINs, passes or faces are locked after failures.
    LockedOut,
}

impl Alarm {
    /// Every alarm.
    pub const ALL: [Self; 4] = [Self::ForcedOpen, Self::HeldOpen, Self::Tamper, Self::LockedOut];

    /// Its name in messages and the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::ForcedOpen => "forced_open",
            Self::HeldOpen => "held_open",
            Self::Tamper => "tamper",
            Self::LockedOut => "locked_out",
        }
    }
}

/// What became of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Switched {
    /// It was energised.
    Yes,
    /// It was to be, and could not: no chip, no line, or the driver refused.
    Failed,
    /// This device has none: whoever listens to the events opens the door.
    NoRelay,
    /// The policy only says what it would do.
    DryRun,
}

/// The part of an event that is about the door, as it is kept, published and shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoorRecord {
    /// By what it opened, or was to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// The rule of the policy that decided, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// When that rule opens or closes next, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Whether the policy only says what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// The PIN or pass, by its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    /// By how much the comparison score was above the threshold of identification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_above: Option<f32>,
    /// Probes in a row that agreed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreeing_probes: Option<u32>,
    /// Who opened it by hand: the name of an account, or `mqtt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What became of the relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched: Option<Switched>,
    /// From the ruling to the line being switched, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched_after_us: Option<u32>,
}

impl From<&Ruling> for DoorRecord {
    fn from(ruling: &Ruling) -> Self {
        Self {
            way: Some(ruling.way),
            rule: ruling.rule.clone(),
            until: ruling.until.map(|until| until.0),
            dry_run: ruling.dry_run,
            credential: ruling.credential,
            score_above: ruling.score_above.map(|score| (score * 1e4).round() / 1e4),
            agreeing_probes: ruling.probes,
            ..Self::default()
        }
    }
}

/// An event about the door, on its way to the store.
#[derive(Clone, Debug)]
pub struct DoorEvent {
    /// Granted, denied, an alarm, or somebody rang.
    pub kind: EventKind,
    /// Who.
    pub subject: Option<SubjectId>,
    /// Which face in view.
    pub track: Option<TrackId>,
    /// When what decided happened: the capture of a frame, a button.
    pub at: Monotonic,
    /// The same by the wall clock.
    pub wall: UnixMillis,
    /// From then to the ruling.
    pub latency_ms: f32,
    /// Why it was denied, or which alarm it is.
    pub reason: Option<&'static str>,
    /// Everything else; none for somebody who rang.
    pub record: Option<DoorRecord>,
}
