//! Events as they are kept and published, as values. Pure data, used on any thread.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Monotonic, UnixMillis};
use crate::door::record::DoorRecord;
use crate::gallery::SubjectId;

/// Identifies an event for ever and everywhere: a receiver that sees one twice drops the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// A new one: 48 bits of time and 74 random bits (RFC 9562, version 7).
    pub fn new(now: UnixMillis) -> Result<Self, getrandom::Error> {
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        let millis = u64::try_from(now.0).unwrap_or(0);
        Ok(Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()))
    }

    /// The same where the system gives no random numbers: told apart from others of the same millisecond
    /// by a running count.
    pub(crate) fn without_randomness(now: UnixMillis, count: u64) -> Self {
        let mut counted = [0; 10];
        counted[2..].copy_from_slice(&count.to_be_bytes());
        let millis = u64::try_from(now.0).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &counted).into_uuid())
    }

    /// The bytes as the database holds them.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Takes the bytes as the database holds them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A visitor was identified.
    Identified,
    /// A visitor is nobody enrolled.
    Unknown,
    /// A visitor has left.
    Ended,
    /// Somebody rang.
    Ring,
    /// The door opened for somebody, or would have.
    Granted,
    /// The door stayed shut for somebody.
    Denied,
    /// Something is wrong at the door.
    Alarm,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Identified, Self::Unknown, Self::Ended, Self::Ring, Self::Granted, Self::Denied, Self::Alarm];

    /// Whether it comes from recognition: something was seen, looked at and measured.
    pub fn is_recognition(self) -> bool {
        matches!(self, Self::Identified | Self::Unknown | Self::Ended)
    }

    /// Its name in the database, in messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identified => "identified",
            Self::Unknown => "unknown",
            Self::Ended => "ended",
            Self::Ring => "ring",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Alarm => "alarm",
        }
    }
}

/// An event as it is kept. Holds no name: that is looked up in the gallery when it is shown, so that
/// erasing a subject leaves none behind.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedEvent {
    /// Counts up on one device, in the order of delivery. Events that neither disk nor memory could
    /// take leave gaps.
    pub sequence: u64,
    /// Its identifier.
    pub id: EventId,
    /// What it is about.
    pub kind: EventKind,
    /// Which face, within one run of the program; none for a ring.
    pub track: Option<u64>,
    /// When the decisive frame was captured.
    pub captured_at: UnixMillis,
    /// When the decision was made.
    pub decided_at: UnixMillis,
    /// From then on it must open nothing.
    pub expires_at: UnixMillis,
    /// From capture to decision, milliseconds.
    pub latency_ms: f32,
    /// Who, where somebody was identified and is still enrolled.
    pub subject: Option<SubjectId>,
    /// Comparison score of the decisive probe, or the best one below the threshold.
    pub score: Option<f32>,
    /// Lead over the next subject.
    pub margin: Option<f32>,
    /// Quality score of the decisive probe, 0 to 1.
    pub quality: Option<f32>,
    /// Looks taken at the face so far.
    pub looks: u32,
    /// Embeddings searched so far.
    pub probes: u32,
    /// How long the face was in view, for a visit that has ended.
    pub seen_ms: Option<u64>,
    /// The verdict of a visit that has ended: `identified`, `unknown` or `undecided`.
    pub verdict: Option<String>,
    /// Code of the main reason for there being no match.
    pub reason: Option<String>,
    /// How often each reason kept a look from being conclusive.
    pub reasons: BTreeMap<String, u32>,
    /// When the broker acknowledged it.
    pub published_at: Option<UnixMillis>,
    /// Whether there is a picture of the face.
    pub has_crop: bool,
    /// What the door made of it, for the kinds that are about the door.
    pub door: Option<DoorRecord>,
    /// By which clock its age can be told.
    pub age: Age,
}

/// How old an event is, by the best clock there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Captured since this machine was started: by its monotonic clock, which nobody can set.
    ThisBoot(Monotonic),
    /// Captured before that. A board without a clock of its own does not know how long it was off, so
    /// such an event is never fresh.
    EarlierBoot,
}

impl RecordedEvent {
    /// How long the event stays fresh; `None` when it has expired.
    pub fn remaining(&self, now: Monotonic) -> Option<Duration> {
        let Age::ThisBoot(captured) = self.age else { return None };
        let lifetime = u64::try_from(self.expires_at.0.saturating_sub(self.captured_at.0)).ok()?;
        Duration::from_millis(lifetime).checked_sub(now.since(captured)).filter(|left| !left.is_zero())
    }
}

/// What waits for the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outbox {
    /// Sequence number of the newest event; 0 before the first.
    pub newest: u64,
    /// Events not yet acknowledged by the broker.
    pub waiting: u64,
    /// Events that expired before they could be delivered, since the start.
    pub expired: u64,
    /// Events that were lost because neither disk nor memory could take them, since the start.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_differ_with_and_without_random_numbers() {
        let now = UnixMillis(1_700_000_000_000);
        let counted = [1, 2, 1 << 40].map(|count| EventId::without_randomness(now, count));
        let random = [(); 2].map(|()| EventId::new(now).unwrap());
        let all: std::collections::BTreeSet<_> = counted.into_iter().chain(random).collect();
        assert_eq!(all.len(), 5);
        for id in all {
            assert_eq!(EventId::parse(&id.to_string()), Some(id));
        }
    }
}
