//! What a visit becomes for everybody outside: one event when somebody is identified or found
//! unknown, one when they have left. Serialises to one JSON object a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::clock::{Monotonic, UnixMillis};
use crate::event_store::{EventId, EventKind};
use crate::frame::RgbImage;
use crate::gallery::{SubjectId, SubjectName};
use crate::reason::Reason;
use crate::score::{ComparisonScore, QualityScore};
use crate::sightings::Sighting;
use crate::track::TrackId;

/// One event about one track. Holds names: it is printed or published only where an operator asked
/// for that, never logged.
#[derive(Clone, Serialize)]
pub struct IdentityEvent {
    /// By which everybody knows it: in the store, at the broker, on the page.
    pub id: EventId,
    /// Which face.
    pub track: TrackId,
    /// When the decisive frame was captured.
    pub captured_at: UnixMillis,
    /// The same by the monotonic clock, by which its age is told.
    #[serde(skip)]
    pub captured: Monotonic,
    /// From capturing that frame to this event.
    pub latency_ms: f32,
    /// Looks taken at the face so far.
    pub looks: u32,
    /// Embeddings searched so far.
    pub probes: u32,
    /// Picture of the face, where pictures are kept. Biometric data.
    #[serde(skip)]
    pub crop: Option<Arc<RgbImage>>,
    /// The best look at a visitor who left unknown, where such are kept. Biometric data.
    #[serde(skip)]
    pub sighting: Option<Arc<Sighting>>,
    /// What happened.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What happened.
#[derive(Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Outcome {
    /// The visitor is this subject.
    Identified {
        /// Who.
        subject: SubjectId,
        /// Under which name.
        #[serde(serialize_with = "written_out")]
        name: SubjectName,
        /// Comparison score of the decisive probe.
        score: ComparisonScore,
        /// Lead over the second subject; absent when nobody else is enrolled.
        #[serde(skip_serializing_if = "Option::is_none")]
        margin: Option<f32>,
        /// Probes in a row that named this subject.
        agreeing_probes: u32,
        /// Quality score of the decisive probe.
        quality: QualityScore,
    },
    /// The visitor is nobody enrolled.
    Unknown {
        /// Score of the best candidate, below the threshold; absent where no probe had one, as with
        /// an empty gallery.
        #[serde(skip_serializing_if = "Option::is_none")]
        best_score: Option<ComparisonScore>,
        /// What the probes had against naming anybody.
        reason: Reason,
    },
    /// The visitor has left.
    Ended {
        /// How long the face was in view.
        seen_ms: u64,
        /// The verdict at the end: `identified`, `unknown` or `undecided`.
        verdict: EndVerdict,
        /// Who, where the verdict is `identified` and they are still enrolled.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<SubjectId>,
        /// Their name.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "written_out_if_any")]
        name: Option<SubjectName>,
        /// The main reason why there is no name; absent exactly where the verdict is `identified`.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
        /// Probes that matched a subject.
        matches: u32,
        /// Probes that matched nobody.
        no_match: u32,
        /// How often each reason kept a look from being conclusive. With `matches` and `no_match`,
        /// these are all looks.
        inconclusive: BTreeMap<Reason, u32>,
    },
}

impl Outcome {
    /// What it is about.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Identified { .. } => EventKind::Identified,
            Self::Unknown { .. } => EventKind::Unknown,
            Self::Ended { .. } => EventKind::Ended,
        }
    }

    /// Whom a verdict names.
    pub fn identified(&self) -> Option<SubjectId> {
        match self {
            Self::Identified { subject, .. } => Some(*subject),
            Self::Unknown { .. } | Self::Ended { .. } => None,
        }
    }

    /// Takes a subject out that is no longer enrolled; true when there was one.
    pub fn forget_unless(&mut self, enrolled: impl Fn(SubjectId) -> bool) -> bool {
        match self {
            Self::Identified { subject, .. } if !enrolled(*subject) => {
                *self = Self::Unknown { best_score: None, reason: Reason::NobodyEnrolled };
                true
            }
            Self::Ended { subject: subject @ Some(_), name, .. } if !subject.is_some_and(enrolled) => {
                (*subject, *name) = (None, None);
                true
            }
            _ => false,
        }
    }
}

// A name has no serialisation of its own, so that none gets out by accident; an event is where it
// is meant to.
fn written_out<S: Serializer>(name: &SubjectName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn written_out_if_any<S: Serializer>(name: &Option<SubjectName>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(SubjectName::as_str).serialize(serializer)
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndVerdict {
    /// A subject was named.
    Identified,
    /// Nobody enrolled.
    Unknown,
    /// No probe or too few were conclusive.
    Undecided,
}

impl EndVerdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Identified, Self::Unknown, Self::Undecided];

    /// Its name in messages and the database.
    pub fn code(self) -> &'static str {
        match self {
            Self::Identified => "identified",
            Self::Unknown => "unknown",
            Self::Undecided => "undecided",
        }
    }
}

impl std::fmt::Debug for IdentityEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.outcome.kind().name();
        write!(f, "IdentityEvent {{ id: {}, track: {}, {kind} }}", self.id, self.track.0)
    }
}

impl IdentityEvent {
    /// One line for a person to read.
    pub fn line(&self) -> String {
        let track = self.track.0;
        match &self.outcome {
            Outcome::Identified { name, score, margin, .. } => {
                let lead = margin.map_or_else(String::new, |margin| format!(", lead {margin:.2}"));
                let name = name.as_str();
                format!(
                    "identified  {name}  (score {score}{lead}; {} looks, {:.0} ms after capture)  track {track}",
                    self.looks, self.latency_ms
                )
            }
            Outcome::Unknown { best_score, reason } => {
                let best = best_score.map_or_else(String::new, |score| format!(", best score {score}"));
                format!("unknown     ({reason}{best}; {} looks)  track {track}", self.looks)
            }
            Outcome::Ended { seen_ms, verdict, name, reason, inconclusive, .. } => {
                let seconds = *seen_ms as f32 / 1000.0;
                let who = match (verdict, name, reason) {
                    (EndVerdict::Identified, Some(name), _) => name.as_str().to_owned(),
                    (EndVerdict::Identified, None, _) => "a subject removed meanwhile".to_owned(),
                    (EndVerdict::Unknown, ..) => "unknown".to_owned(),
                    (EndVerdict::Undecided, _, None) => "not recognised".to_owned(),
                    (EndVerdict::Undecided, _, Some(reason)) => match inconclusive.get(reason) {
                        Some(count) => format!("not recognised: {reason} ({count} of {} looks)", self.looks),
                        None => format!("not recognised: {reason}"),
                    },
                };
                format!("left        {who}, {seconds:.1} s in view  track {track}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(outcome: Outcome) -> IdentityEvent {
        IdentityEvent {
            id: EventId::from_bytes([7; 16]),
            track: TrackId(3),
            captured_at: UnixMillis(1_000),
            captured: Monotonic::default(),
            latency_ms: 41.5,
            looks: 9,
            probes: 2,
            crop: None,
            sighting: None,
            outcome,
        }
    }

    #[test]
    fn json_names_the_event_and_its_fields() {
        let identified = event(Outcome::Identified {
            subject: SubjectId::from_bytes([1; 16]),
            name: SubjectName::new("Ada").unwrap(),
            score: ComparisonScore::new(0.7),
            margin: None,
            agreeing_probes: 2,
            quality: QualityScore::new(0.5),
        });
        let json = serde_json::to_value(&identified).unwrap();
        assert_eq!(json["event"], "identified");
        assert_eq!(json["name"], "Ada");
        assert_eq!(json["track"], 3);
        assert_eq!((&json["agreeing_probes"], &json["quality"]), (&2.into(), &0.5.into()));
        assert!(json.get("margin").is_none());
        let unknown = event(Outcome::Unknown { best_score: None, reason: Reason::ProbesDisagree });
        assert_eq!(serde_json::to_value(&unknown).unwrap()["reason"], "probes_disagree");
    }

    #[test]
    fn debug_output_holds_no_name() {
        let identified = event(Outcome::Ended {
            seen_ms: 10,
            verdict: EndVerdict::Identified,
            subject: None,
            name: Some(SubjectName::new("Ada").unwrap()),
            reason: None,
            matches: 2,
            no_match: 0,
            inconclusive: BTreeMap::new(),
        });
        assert!(!format!("{identified:?}").contains("Ada"));
        assert!(identified.line().contains("Ada"));
    }

    #[test]
    fn undecided_visit_says_what_was_in_the_way() {
        let inconclusive = BTreeMap::from([(Reason::TooFar, 7), (Reason::Blurred, 1)]);
        let left = |reason| {
            event(Outcome::Ended {
                seen_ms: 2_400,
                verdict: EndVerdict::Undecided,
                subject: None,
                name: None,
                reason: Some(reason),
                matches: 0,
                no_match: 1,
                inconclusive: inconclusive.clone(),
            })
        };
        let far = left(Reason::TooFar);
        assert_eq!(far.line(), "left        not recognised: too far (7 of 9 looks), 2.4 s in view  track 3");
        let json = serde_json::to_value(&far).unwrap();
        assert_eq!((&json["reason"], &json["inconclusive"]["too_far"]), (&"too_far".into(), &7.into()));
        let disagree = left(Reason::ProbesDisagree);
        assert_eq!(disagree.line(), "left        not recognised: probes disagree, 2.4 s in view  track 3");
    }
}
