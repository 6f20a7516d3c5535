//! The recogniser: from the newest frame to identity events. Runs on the thread `recogniser`, which
//! owns every network.
//!
//! How often it looks follows need: a few frames a second while nobody is there, every frame while
//! somebody's verdict is open, and few again once everybody in view is settled. Frames between two
//! looks are not even decoded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::config::Config;
use crate::decode::Decoder;
use crate::detect::Detection;
use crate::event::{EndVerdict, IdentityEvent, Outcome};
use crate::frame::{RawFrame, RgbImage};
use crate::gallery::{Gallery, SearchScratch};
use crate::identify::{Decision, IdentificationThresholds, Inconclusive, identify};
use crate::models::Thresholds;
use crate::picture::Picture;
use crate::recognise::{FaceSample, Perception, PerceptionError};
use crate::track::{TrackId, TrackedFace, Tracker, TrackingSettings};
use crate::visit::{Verdict, Visit, VisitSettings};

/// The subjects that decide between a match and an ambiguity: the best and the second.
const RANKED_SUBJECTS: usize = 2;
/// A face that could not be decided about for this long is looked at as rarely as a settled one,
/// so that a poster does not keep the processor busy.
const GIVE_UP_HURRYING: Duration = Duration::from_secs(8);

/// How often frames are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cadence {
    /// Between two looks while nobody is in view.
    pub idle: Duration,
    /// Between two looks while everybody in view is settled.
    pub settled: Duration,
}

/// How much attention the scene needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Nobody in view.
    Idle,
    /// Everybody in view is decided about.
    Settled,
    /// Somebody's verdict is open.
    Full,
}

impl Cadence {
    /// Whether a frame captured at `now` is due, `last` being the last one that was looked at. Half
    /// a millisecond of grace, so that a camera at just the wanted rate is not halved by jitter.
    pub fn is_due(&self, attention: Attention, last: Option<Monotonic>, now: Monotonic) -> bool {
        let between = match attention {
            Attention::Idle => self.idle,
            Attention::Settled => self.settled,
            Attention::Full => Duration::ZERO,
        };
        last.is_none_or(|last| now.since(last) + Duration::from_micros(500) >= between)
    }
}

/// Everything the recogniser has counted since it started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecogniserStats {
    /// Frames that arrived.
    pub frames: u64,
    /// Frames that were not due and not decoded.
    pub skipped: u64,
    /// Frames looked at.
    pub looks: u64,
    /// Frames that could not be decoded, by reason.
    pub undecodable: u64,
    /// Embeddings made.
    pub probes: u64,
    /// Events by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Looks at faces that were inconclusive, by reason.
    pub inconclusive: BTreeMap<&'static str, u64>,
}

/// A face as it is to be drawn over the frame it was found in.
#[derive(Clone, Debug)]
pub struct SeenFace {
    /// Which track.
    pub track: TrackId,
    /// Where.
    pub detection: Detection,
    /// What is known: a name, "unknown", or why not yet.
    pub label: SeenLabel,
}

/// What to write beside a face. Names are personal data; see [`IdentityEvent`].
#[derive(Clone)]
pub enum SeenLabel {
    /// A subject's name.
    Name(String),
    /// Nobody enrolled.
    Unknown,
    /// Not decided, with the newest reason.
    Undecided(Option<Inconclusive>),
}

impl std::fmt::Debug for SeenLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name(_) => "Name",
            Self::Unknown => "Unknown",
            Self::Undecided(_) => "Undecided",
        })
    }
}

/// One look: its frame as RGB if asked for, and the faces in it.
#[derive(Debug)]
pub struct Look {
    /// The picture the faces were found in.
    pub picture: RgbImage,
    /// The faces.
    pub faces: Vec<SeenFace>,
}

/// Thresholds and intervals of the recogniser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecogniserSettings {
    /// When a probe matches.
    pub thresholds: IdentificationThresholds,
    /// When probes make a verdict.
    pub visit: VisitSettings,
    /// How detections become tracks.
    pub tracking: TrackingSettings,
    /// How often to look.
    pub cadence: Cadence,
}

impl RecogniserSettings {
    /// From the configuration and the thresholds in force.
    pub fn new(config: &Config, in_force: &Thresholds) -> Self {
        let (identification, tracking) = (&config.identification, &config.tracking);
        let every = |hz: f32| Duration::from_secs_f32(1.0 / hz);
        Self {
            thresholds: IdentificationThresholds::from(in_force),
            visit: VisitSettings {
                agreeing_probes: identification.agreeing_probes,
                unknown_after_probes: identification.unknown_after_probes,
                recheck_after: Duration::from_millis(tracking.recheck_after_ms.into()),
            },
            tracking: TrackingSettings {
                lost_after: Duration::from_millis(tracking.lost_after_ms.into()),
                maximum_faces: config.detection.maximum_faces as usize,
            },
            cadence: Cadence { idle: every(tracking.idle_look_hz), settled: every(tracking.settled_look_hz) },
        }
    }
}

/// The stream side of recognition.
pub struct Recogniser {
    perception: Perception,
    decoder: Decoder,
    gallery: Arc<Gallery>,
    scratch: SearchScratch,
    settings: RecogniserSettings,
    clock: Arc<dyn Clock>,
    tracker: Tracker,
    visits: BTreeMap<TrackId, Visit>,
    reasons: BTreeMap<TrackId, Inconclusive>,
    attention: Attention,
    last_look: Option<Monotonic>,
    next_event: u64,
    stats: RecogniserStats,
}

impl Recogniser {
    /// Nothing seen yet.
    pub fn new(
        perception: Perception,
        gallery: Arc<Gallery>,
        settings: RecogniserSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            perception,
            decoder: Decoder::default(),
            gallery,
            scratch: SearchScratch::new(),
            tracker: Tracker::new(settings.tracking),
            settings,
            clock,
            visits: BTreeMap::new(),
            reasons: BTreeMap::new(),
            attention: Attention::Idle,
            last_look: None,
            next_event: 1,
            stats: RecogniserStats::default(),
        }
    }

    /// The networks.
    pub fn perception(&mut self) -> &mut Perception {
        &mut self.perception
    }

    /// What has been counted.
    pub fn stats(&self) -> &RecogniserStats {
        &self.stats
    }

    /// Takes in one frame. Events are appended to `events`; `look`, when given, receives the picture
    /// and its faces if the frame was looked at.
    pub fn frame(
        &mut self,
        raw: &RawFrame,
        events: &mut Vec<IdentityEvent>,
        look: Option<&mut Option<Look>>,
    ) -> Result<(), PerceptionError> {
        self.stats.frames += 1;
        if !self.settings.cadence.is_due(self.attention, self.last_look, raw.captured_at) {
            self.stats.skipped += 1;
            return Ok(());
        }
        // Taken out, so that the picture may borrow it while the rest of `self` works.
        let mut decoder = std::mem::take(&mut self.decoder);
        let result = match decoder.decode(raw) {
            Ok(picture) => self.look(raw.captured_at, &picture, events, look),
            Err(error) => {
                self.stats.undecodable += 1;
                tracing::debug!(%error, "a frame could not be decoded");
                Ok(())
            }
        };
        self.decoder = decoder;
        result
    }

    fn look(
        &mut self,
        captured_at: Monotonic,
        picture: &Picture<'_>,
        events: &mut Vec<IdentityEvent>,
        look: Option<&mut Option<Look>>,
    ) -> Result<(), PerceptionError> {
        self.stats.looks += 1;
        self.last_look = Some(captured_at);
        let detections = self.perception.detect(picture)?;
        let update = self.tracker.update(captured_at, detections);
        for face in &update.present {
            // A face seen for the first time may be a false box; its second sight is at most one
            // camera frame away, since an open verdict is looked at in full rate.
            let wanted = face.confirmed
                && self.visits.entry(face.track).or_default().wants_probe(captured_at, &self.settings.visit);
            if wanted {
                self.probe(captured_at, picture, face, events)?;
            }
        }
        self.end(captured_at, &update.ended, events);
        self.attention = self.attention_needed(captured_at, &update.present);
        if let Some(look) = look {
            let faces = update.present.iter().map(|face| self.seen(face)).collect();
            *look = Some(Look { picture: picture.to_rgb()?, faces });
        }
        Ok(())
    }

    /// Ends all visits, when the source is gone.
    pub fn end_all(&mut self, events: &mut Vec<IdentityEvent>) {
        let ended = self.tracker.end_all();
        self.end(self.clock.monotonic(), &ended, events);
        self.attention = Attention::Idle;
    }

    fn probe(
        &mut self,
        captured_at: Monotonic,
        picture: &Picture<'_>,
        face: &TrackedFace,
        events: &mut Vec<IdentityEvent>,
    ) -> Result<(), PerceptionError> {
        let sample = self.perception.examine(picture, &face.detection)?;
        let decision = self.decide(&sample)?;
        if let Decision::Inconclusive(reason) = &decision {
            *self.stats.inconclusive.entry(reason.code()).or_default() += 1;
            self.reasons.insert(face.track, *reason);
        } else {
            self.reasons.remove(&face.track);
        }
        let visit = self.visits.entry(face.track).or_default();
        if let Some(verdict) = visit.observe(captured_at, &decision, &self.settings.visit) {
            let gallery = self.gallery.current();
            let outcome = match verdict {
                Verdict::Identified { candidate, margin } => match gallery.subject(candidate.subject) {
                    Some(subject) => Outcome::Identified {
                        subject: candidate.subject,
                        name: subject.name.clone(),
                        score: candidate.score,
                        margin,
                    },
                    // Removed between the search and now: to everybody outside they are unknown.
                    None => Outcome::Unknown { best_score: None },
                },
                Verdict::Unknown { best } => Outcome::Unknown { best_score: best.map(|best| best.score) },
            };
            drop(gallery);
            self.emit(captured_at, face.track, outcome, events);
        }
        Ok(())
    }

    fn decide(&mut self, sample: &FaceSample) -> Result<Decision, PerceptionError> {
        let aligned = match (&sample.verdict, &sample.shape) {
            (Ok(()), Some(shape)) => &shape.aligned,
            (Err(reason), _) => return Ok(Decision::Inconclusive(Inconclusive::Sample(*reason))),
            (Ok(()), None) => unreachable!("a usable sample has a shape"),
        };
        let embedding = self.perception.embed(aligned)?;
        self.stats.probes += 1;
        let gallery = self.gallery.current();
        let ranked = gallery
            .search(&embedding, RANKED_SUBJECTS, &mut self.scratch)
            .expect("the gallery was loaded for this embedding space");
        Ok(identify(&ranked, &self.settings.thresholds))
    }

    fn end(&mut self, now: Monotonic, ended: &[TrackedFace], events: &mut Vec<IdentityEvent>) {
        for face in ended {
            let Some(visit) = self.visits.get(&face.track) else { continue };
            let name = visit
                .verdict()
                .and_then(Verdict::subject)
                .and_then(|subject| self.gallery.current().subject(subject).map(|s| s.name.clone()));
            let verdict = match visit.verdict() {
                Some(Verdict::Identified { .. }) => EndVerdict::Identified,
                Some(Verdict::Unknown { .. }) => EndVerdict::Unknown,
                None => EndVerdict::Undecided,
            };
            let seen_ms = face.last_seen.since(face.first_seen).as_millis() as u64;
            let inconclusive = visit.inconclusive().clone();
            let outcome = Outcome::Ended { seen_ms, verdict, name, inconclusive };
            self.emit(now, face.track, outcome, events);
            self.visits.remove(&face.track);
            self.reasons.remove(&face.track);
        }
    }

    fn emit(
        &mut self,
        captured_at: Monotonic,
        track: TrackId,
        outcome: Outcome,
        events: &mut Vec<IdentityEvent>,
    ) {
        let kind = match outcome {
            Outcome::Identified { .. } => "identified",
            Outcome::Unknown { .. } => "unknown",
            Outcome::Ended { .. } => "ended",
        };
        *self.stats.events.entry(kind).or_default() += 1;
        let latency = self.clock.monotonic().since(captured_at);
        let visit = self.visits.entry(track).or_default();
        events.push(IdentityEvent {
            id: self.next_event,
            track,
            captured_at: UnixMillis(self.clock.wall().0 - latency.as_millis() as i64),
            captured: captured_at,
            latency_ms: latency.as_secs_f32() * 1e3,
            looks: visit.looks(),
            probes: visit.probes(),
            outcome,
        });
        self.next_event += 1;
    }

    fn attention_needed(&self, now: Monotonic, present: &[TrackedFace]) -> Attention {
        let open = |face: &TrackedFace| {
            let hurrying = now.since(face.first_seen) < GIVE_UP_HURRYING;
            let visit = self.visits.get(&face.track);
            let in_doubt = visit.is_some_and(|visit| visit.is_in_doubt());
            in_doubt || (hurrying && visit.is_none_or(|visit| visit.verdict().is_none()))
        };
        if present.iter().any(open) {
            Attention::Full
        } else if self.tracker.is_empty() {
            Attention::Idle
        } else {
            Attention::Settled
        }
    }

    fn seen(&self, face: &TrackedFace) -> SeenFace {
        let label = match self.visits.get(&face.track).and_then(Visit::verdict) {
            Some(Verdict::Identified { candidate, .. }) => {
                match self.gallery.current().subject(candidate.subject) {
                    Some(subject) => SeenLabel::Name(subject.name.as_str().to_owned()),
                    None => SeenLabel::Unknown,
                }
            }
            Some(Verdict::Unknown { .. }) => SeenLabel::Unknown,
            None => SeenLabel::Undecided(self.reasons.get(&face.track).copied()),
        };
        SeenFace { track: face.track, detection: face.detection.clone(), label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CADENCE: Cadence =
        Cadence { idle: Duration::from_millis(250), settled: Duration::from_millis(200) };

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    #[test]
    fn first_frame_is_always_due() {
        assert!(CADENCE.is_due(Attention::Idle, None, at(0)));
    }

    #[test]
    fn frames_between_two_looks_are_skipped_unless_somebody_is_undecided() {
        assert!(!CADENCE.is_due(Attention::Idle, Some(at(0)), at(200)));
        assert!(CADENCE.is_due(Attention::Settled, Some(at(0)), at(200)));
        assert!(CADENCE.is_due(Attention::Full, Some(at(0)), at(1)));
    }

    #[test]
    fn camera_at_just_the_wanted_rate_is_not_halved() {
        let late = Monotonic::from_duration(Duration::from_micros(249_600));
        assert!(CADENCE.is_due(Attention::Idle, Some(at(0)), late));
    }
}
