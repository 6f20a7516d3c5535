//! The recogniser: from the newest frame to identity events. Runs on the thread `recogniser`, which
//! owns every network.
//!
//! Owned here: the networks, what is drawn and counted, and the events. Which frames are worth
//! looking at says [`crate::cadence`], whom a look is about [`crate::visitors`]; both are pure. Frames
//! between two looks are not even decoded, unless somebody watches: then faces are found in them for
//! the overlay, and nothing of that reaches a decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::appearance::AppearanceThresholds;
use crate::cadence::{Attention, Cadence, Pacer, Skip};
use crate::change::ChangeDetector;
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::config::Config;
use crate::decode::{DecodeError, Decoder};
use crate::detect::Detection;
use crate::door::keeper::FaceSight;
use crate::door::passes::PassEye;
use crate::door::policy::{FaceStrength, Pad};
use crate::event::{EndVerdict, IdentityEvent, Outcome};
use crate::event_store::EventId;
use crate::examiner;
use crate::frame::{FrameId, FrameSize, ImagePool, PooledImage, RawFrame, RgbImage};
use crate::gallery::{Gallery, SampleQuality, SearchScratch, SubjectId, SubjectName};
use crate::geometry::{PixelBox, Similarity};
use crate::identify::{Decision, IdentificationThresholds, Inconclusive, identify_ranked};
use crate::live::{Attempt, AttemptOutcome, Live, LiveChannel};
use crate::metrics::{Metrics, Stage};
use crate::models::Thresholds;
use crate::picture::{Picture, Resampler};
use crate::quality::QualityLimits;
use crate::reason::Reason;
use crate::recognise::{Perception, PerceptionError};
use crate::score::QualityScore;
use crate::sightings::Sighting;
use crate::track::{TrackId, TrackedFace, Tracker, TrackingSettings};
use crate::view::{Canvas, View};
use crate::visit::{LookCounts, Measured, Verdict, Visit, VisitSettings};
use crate::visitors::{Decided, EndedVisit, Probe, VisitorSettings, Visitors};

/// The subjects that decide between a match and an ambiguity: the best and the second.
const RANKED_SUBJECTS: usize = 2;
/// The wall clock was set when it has moved against the monotonic one by more than this; below, it is
/// rounding and slewing.
const CLOCK_SET_MS: u64 = 50;
/// A kept picture of a face is a square of this side, pixels.
const CROP_SIDE: u32 = 224;
/// Between two frames shown to whoever watches: 15 a second.
const WATCHED: Duration = Duration::from_micros(66_667);
/// How much larger than the face's box the kept picture is.
const CROP_MARGIN: f32 = 1.6;

/// Everything the recogniser has counted since it started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecogniserStats {
    /// Frames that arrived.
    pub frames: u64,
    /// Frames that were not even decoded, by reason.
    pub skipped: SkippedFrames,
    /// Frames looked at.
    pub looks: u64,
    /// Frames between two looks in which faces were found for somebody who watches.
    pub glances: u64,
    /// Frames that could not be decoded, by reason.
    pub undecodable: u64,
    /// Embeddings made.
    pub probes: u64,
    /// Events by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// Looks at faces that were inconclusive, by reason.
    pub inconclusive: BTreeMap<&'static str, u64>,
    /// Probes that matched nobody, by reason.
    pub no_match: BTreeMap<&'static str, u64>,
    /// Visits that ended without a verdict, by their main reason.
    pub undecided: BTreeMap<&'static str, u64>,
}

/// Frames that were not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SkippedFrames {
    /// Enough frames were looked at as it was.
    pub not_due: u64,
    /// Nobody was in view, and nothing had changed.
    pub unchanged: u64,
}

impl SkippedFrames {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.not_due + self.unchanged
    }
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
    /// Why there is no name; `None` where there is one, and before the first closer look.
    pub reason: Option<Reason>,
    /// What the newest closer look measured.
    pub measured: Option<Measured>,
}

/// What to write beside a face. Names are personal data; see [`IdentityEvent`].
#[derive(Clone)]
pub enum SeenLabel {
    /// A subject.
    Subject(SubjectId, SubjectName),
    /// Nobody enrolled.
    Unknown,
    /// Not decided, with the newest reason.
    Undecided(Option<Inconclusive>),
}

impl std::fmt::Debug for SeenLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Subject(..) => "Subject",
            Self::Unknown => "Unknown",
            Self::Undecided(_) => "Undecided",
        })
    }
}

/// One look: its frame as RGB, and the faces in it.
#[derive(Debug)]
pub struct Look {
    /// Which frame.
    pub frame: FrameId,
    /// When it was captured.
    pub captured: Monotonic,
    /// The same by the wall clock.
    pub captured_at: UnixMillis,
    /// The picture the faces were found in.
    pub picture: PooledImage,
    /// The faces.
    pub faces: Vec<SeenFace>,
}

/// Thresholds and intervals of the recogniser.
#[derive(Clone, Debug, PartialEq)]
pub struct RecogniserSettings {
    /// Least detection score; `None` for the value of the model manifest.
    pub minimum_score: Option<f32>,
    /// When a sample is usable.
    pub limits: QualityLimits,
    /// What is done to every picture.
    pub view: View,
    /// When a probe matches.
    pub thresholds: IdentificationThresholds,
    /// How detections and probes become visits.
    pub visitors: VisitorSettings,
    /// How often to look.
    pub cadence: Cadence,
    /// Whether events carry a picture of the face.
    pub keep_crops: bool,
    /// From which quality on the best probe of an unknown visitor is handed over; `None`: never.
    pub keep_sightings: Option<QualityScore>,
}

impl RecogniserSettings {
    /// From the configuration and the thresholds in force.
    pub fn new(config: &Config, in_force: &Thresholds) -> Self {
        let (identification, tracking) = (&config.identification, &config.tracking);
        let every = |hz: f32| Duration::from_secs_f32(1.0 / hz);
        Self {
            minimum_score: config.detection.minimum_score,
            limits: QualityLimits::from(&config.quality),
            view: View::from(&config.camera),
            thresholds: IdentificationThresholds::from(in_force),
            visitors: VisitorSettings {
                visit: VisitSettings {
                    agreeing_probes: identification.agreeing_probes,
                    unknown_after_probes: identification.unknown_after_probes,
                    recheck_after: Duration::from_millis(tracking.recheck_after_ms.into()),
                    confirming_probes: 0,
                },
                tracking: TrackingSettings {
                    lost_after: Duration::from_millis(tracking.lost_after_ms.into()),
                    maximum_faces: config.detection.maximum_faces as usize,
                },
                appearance: AppearanceThresholds::from(in_force),
            },
            cadence: Cadence {
                idle: every(tracking.idle_look_hz),
                unchanged: every(tracking.unchanged_look_hz),
                settled: every(tracking.settled_look_hz),
                watched: WATCHED,
            },
            keep_crops: config.events.keep_crops,
            keep_sightings: config
                .sightings
                .keep
                .then(|| QualityScore::new(config.sightings.minimum_quality)),
        }
    }
}

/// The stream side of recognition.
pub struct Recogniser {
    perception: Perception,
    decoder: Decoder,
    view: View,
    canvas: Canvas,
    pictures: ImagePool,
    /// Follows faces through the frames between two looks, from where the last look left them.
    glancing: Option<Tracker>,
    gallery: Arc<Gallery>,
    scratch: SearchScratch,
    thresholds: IdentificationThresholds,
    clock: Arc<dyn Clock>,
    visitors: Visitors,
    changes: ChangeDetector,
    pacer: Pacer,
    attention: Attention,
    next_event: u64,
    stats: RecogniserStats,
    live: LiveChannel,
    metrics: Arc<Metrics>,
    /// Confirmed faces in view, as told last.
    faces: u32,
    keep_crops: bool,
    keep_sightings: Option<QualityScore>,
    /// Wall time of the monotonic clock's zero.
    wall_zero: i64,
    broken_in_a_row: u32,
    /// Faces that this look named, for the door.
    sights: Vec<FaceSight>,
    /// Where pictures go in which a pass may be shown.
    eye: Option<PassEye>,
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
            view: settings.view,
            canvas: Canvas::default(),
            pictures: ImagePool::default(),
            glancing: None,
            gallery,
            scratch: SearchScratch::new(),
            visitors: Visitors::new(settings.visitors),
            changes: ChangeDetector::new(),
            pacer: Pacer::new(settings.cadence),
            thresholds: settings.thresholds,
            clock,
            attention: Attention::Idle,
            next_event: 1,
            stats: RecogniserStats::default(),
            live: LiveChannel::new(),
            metrics: Arc::default(),
            faces: 0,
            keep_crops: settings.keep_crops,
            keep_sightings: settings.keep_sightings,
            wall_zero: i64::MIN,
            broken_in_a_row: 0,
            sights: Vec::new(),
            eye: None,
        }
    }

    /// Reports what goes on to `live`, and how long it takes to `metrics`, from now on.
    pub fn report_to(&mut self, live: LiveChannel, metrics: Arc<Metrics>) {
        self.live = live;
        self.metrics = metrics;
    }

    /// Hands pictures to whoever reads passes, from now on.
    pub fn show_passes_to(&mut self, eye: PassEye) {
        self.eye = Some(eye);
    }

    /// Probes of a face that is known until so many agree, without waiting in between.
    pub fn confirm(&mut self, probes: u32) {
        self.visitors.confirm(probes);
    }

    /// The faces that the last frame named, each with how surely, and when it was captured.
    pub fn take_sights(&mut self) -> impl Iterator<Item = FaceSight> + '_ {
        self.sights.drain(..)
    }

    /// Goes on with other settings. Visits in view go on too; what was decided stays until it is checked
    /// again.
    pub fn configure(&mut self, settings: RecogniserSettings) {
        self.perception.set_limits(settings.minimum_score, settings.limits);
        self.visitors.set_settings(settings.visitors);
        self.pacer.set_cadence(settings.cadence);
        self.thresholds = settings.thresholds;
        self.keep_crops = settings.keep_crops;
        self.view = settings.view;
        self.glancing = None;
    }

    /// The networks.
    pub fn perception(&mut self) -> &mut Perception {
        &mut self.perception
    }

    /// Frames that could not be decoded since the last one that could.
    pub fn broken_in_a_row(&self) -> u32 {
        self.broken_in_a_row
    }

    /// What has been counted.
    pub fn stats(&self) -> &RecogniserStats {
        &self.stats
    }

    /// Confirmed faces in view.
    pub fn faces(&self) -> u32 {
        self.faces
    }

    /// Takes in one frame. Events are appended to `events`; `look`, given while somebody watches, receives
    /// the picture and its faces if the frame is to be shown. Being watched changes no event.
    pub fn frame(
        &mut self,
        raw: &RawFrame,
        events: &mut Vec<IdentityEvent>,
        look: Option<&mut Option<Look>>,
    ) -> Result<(), PerceptionError> {
        self.stats.frames += 1;
        let skip = self.pacer.skip(self.attention, raw.captured_at, || self.changes.observe(raw));
        match skip {
            Some(Skip::NotDue) => self.stats.skipped.not_due += 1,
            Some(Skip::Unchanged) => self.stats.skipped.unchanged += 1,
            None => {}
        }
        let look = look.filter(|_| self.pacer.shows(raw.captured_at));
        if skip.is_some() && look.is_none() {
            return Ok(());
        }
        // Taken out, so that the picture may borrow them while the rest of `self` works.
        let (mut decoder, mut canvas) = (std::mem::take(&mut self.decoder), std::mem::take(&mut self.canvas));
        let decoded = self.metrics.time(Stage::Decode, || {
            let picture = decoder.decode(raw)?;
            Ok::<_, DecodeError>(self.view.apply(picture, &mut canvas)?)
        });
        let result = match decoded {
            Ok(picture) if skip.is_none() => {
                self.broken_in_a_row = 0;
                self.look(raw, &picture, events, look)
            }
            Ok(picture) => self.glance(raw, &picture, look),
            Err(error) if skip.is_none() => {
                self.stats.undecodable += 1;
                self.broken_in_a_row = self.broken_in_a_row.saturating_add(1);
                tracing::debug!(%error, "a frame could not be decoded");
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "a frame to be shown could not be decoded");
                Ok(())
            }
        };
        (self.decoder, self.canvas) = (decoder, canvas);
        result
    }

    /// The faces of a picture, where they are looked for.
    fn detect(&mut self, picture: &Picture<'_>) -> Result<Vec<Detection>, PerceptionError> {
        let mut detections = self.metrics.time(Stage::Detect, || self.perception.detect(picture))?;
        detections.retain(|face| self.view.looks_at(&face.bbox, picture.size()));
        Ok(detections)
    }

    /// Finds the faces of a frame for somebody who watches. Decides nothing and remembers nothing that a
    /// decision would notice.
    fn glance(
        &mut self,
        raw: &RawFrame,
        picture: &Picture<'_>,
        look: Option<&mut Option<Look>>,
    ) -> Result<(), PerceptionError> {
        let Some(look) = look else { return Ok(()) };
        self.stats.glances += 1;
        let detections = self.detect(picture)?;
        let tracker = self.glancing.get_or_insert_with(|| self.visitors.tracker().provisional());
        let present = tracker.update(raw.captured_at, detections).present;
        *look = Some(self.shown(raw, picture, present)?);
        Ok(())
    }

    fn shown(
        &mut self,
        raw: &RawFrame,
        picture: &Picture<'_>,
        faces: Vec<TrackedFace>,
    ) -> Result<Look, PerceptionError> {
        let mut image = self.pictures.take();
        picture.to_rgb_into(image.image_mut())?;
        let faces = faces.iter().map(|face| self.seen(face)).collect();
        let captured_at = self.wall(raw.captured_at);
        Ok(Look { frame: raw.id, captured: raw.captured_at, captured_at, picture: image, faces })
    }

    fn look(
        &mut self,
        raw: &RawFrame,
        picture: &Picture<'_>,
        events: &mut Vec<IdentityEvent>,
        look: Option<&mut Option<Look>>,
    ) -> Result<(), PerceptionError> {
        self.stats.looks += 1;
        self.glancing = None;
        let captured_at = raw.captured_at;
        let detections = self.detect(picture)?;
        let wanted = self.visitors.see(captured_at, detections);
        for ended in wanted.ended {
            self.ended(captured_at, ended, events);
        }
        let mut probes = Vec::with_capacity(wanted.probes.len());
        for track in wanted.probes {
            probes.extend(self.probe(captured_at, picture, track)?);
        }
        while let Some(track) = self.visitors.also_wanted(captured_at, &probes) {
            match self.probe(captured_at, picture, track)? {
                Some(probe) => probes.push(probe),
                None => break,
            }
        }
        for probe in &probes {
            self.tell(captured_at, picture.size(), probe);
        }
        let looked_at: Vec<TrackId> = probes.iter().map(|probe| probe.track).collect();
        for Decided { track, verdict } in self.visitors.take_in(captured_at, probes) {
            self.decided(captured_at, picture, track, verdict, events);
        }
        self.sights.clear();
        let captured_wall = self.wall(captured_at);
        for track in looked_at {
            self.sights.extend(self.sight(captured_at, captured_wall, track));
        }
        if let Some(eye) = self.eye.as_mut().filter(|eye| eye.wants(captured_at)) {
            let mut image = self.pictures.take();
            picture.to_rgb_into(image.image_mut())?;
            eye.show(image, captured_at);
        }
        self.attention = self.visitors.attention(captured_at);
        self.tell_presence();
        if let Some(look) = look {
            let faces = self.visitors.present(captured_at).cloned().collect();
            *look = Some(self.shown(raw, picture, faces)?);
        }
        Ok(())
    }

    /// Who a face is that was just looked at, if the newest probe confirms that.
    fn sight(&self, captured: Monotonic, captured_at: UnixMillis, track: TrackId) -> Option<FaceSight> {
        let visit = self.visitors.visit(track)?;
        let Some(Verdict::Identified { candidate, agreeing_probes, .. }) = visit.verdict() else {
            return None;
        };
        // A probe that says something else, or nothing, is no reason to open.
        if visit.is_in_doubt() || visit.newest_inconclusive().is_some() {
            return None;
        }
        let score_above = candidate.score.get() - self.thresholds.threshold.get();
        let strength = FaceStrength { score_above, probes: *agreeing_probes, pad: Pad::NotEvaluated };
        Some(FaceSight { track, subject: candidate.subject, strength, captured, captured_at })
    }

    /// Ends all visits, when the source is gone.
    pub fn end_all(&mut self, events: &mut Vec<IdentityEvent>) {
        let now = self.clock.monotonic();
        for ended in self.visitors.end_all() {
            self.ended(now, ended, events);
        }
        self.attention = Attention::Idle;
        self.tell_presence();
    }

    /// Looks closely at one face and searches for it.
    fn probe(
        &mut self,
        captured_at: Monotonic,
        picture: &Picture<'_>,
        track: TrackId,
    ) -> Result<Option<Probe>, PerceptionError> {
        let Some(detection) = self.visitors.detection(track) else { return Ok(None) };
        let sample = self.metrics.time(Stage::Examine, || self.perception.examine(picture, detection))?;
        let quality = sample.shape.as_ref().map_or(QualityScore::MIN, |shape| shape.quality.score);
        let (embedding, decision) = match (&sample.verdict, &sample.shape) {
            (Err(reason), _) => (None, Decision::Inconclusive(Inconclusive::Sample(*reason))),
            (Ok(()), None) => unreachable!("a usable sample has a shape"),
            (Ok(()), Some(shape)) => {
                let embedding = self.metrics.time(Stage::Embed, || self.perception.embed(&shape.aligned))?;
                self.stats.probes += 1;
                let gallery = self.gallery.current();
                let ranked = self
                    .metrics
                    .time(Stage::Search, || gallery.rank(&embedding, RANKED_SUBJECTS, &mut self.scratch))
                    .expect("the gallery was loaded for this embedding space");
                (Some(embedding), identify_ranked(&ranked, &self.thresholds))
            }
        };
        match &decision {
            Decision::Match { .. } => {}
            Decision::Inconclusive(reason) => count(&mut self.stats.inconclusive, reason.code()),
            Decision::NoMatch { ruled_out: Some(_), .. } => {
                count(&mut self.stats.no_match, Reason::RuledOut.code());
            }
            Decision::NoMatch { best: Some(_), .. } => {
                count(&mut self.stats.no_match, Reason::BelowThreshold.code());
            }
            Decision::NoMatch { best: None, .. } => {
                count(&mut self.stats.no_match, Reason::NobodyEnrolled.code());
            }
        }
        let sighting = match (&decision, &embedding, &sample.shape) {
            (Decision::NoMatch { .. }, Some(embedding), Some(shape))
                if self.keep_sightings.is_some_and(|least| quality >= least) =>
            {
                let bbox = sample.detection.bbox;
                let crop = cut_out(picture, &bbox, examiner::CROP_SIDE, examiner::CROP_MARGIN);
                let captured_at = self.wall(captured_at);
                let (embedding, quality) = (embedding.clone(), SampleQuality::from(&shape.quality));
                crop.map(|crop| Arc::new(Sighting { captured_at, embedding, quality, crop }))
            }
            _ => None,
        };
        Ok(Some(Probe { track, embedding, decision, quality, sighting }))
    }

    fn decided(
        &mut self,
        captured_at: Monotonic,
        picture: &Picture<'_>,
        track: TrackId,
        verdict: Verdict,
        events: &mut Vec<IdentityEvent>,
    ) {
        let outcome = match verdict {
            Verdict::Identified { candidate, margin, agreeing_probes, quality } => {
                match self.gallery.current().subject(candidate.subject) {
                    Some(subject) => Outcome::Identified {
                        subject: candidate.subject,
                        name: subject.name.clone(),
                        score: candidate.score,
                        margin,
                        agreeing_probes,
                        quality,
                    },
                    // Removed between the search and now: to everybody outside they are unknown.
                    None => Outcome::Unknown { best_score: None, reason: Reason::NobodyEnrolled },
                }
            }
            Verdict::Unknown { best, reason } => {
                Outcome::Unknown { best_score: best.map(|best| best.score), reason }
            }
        };
        let counts = self.visitors.visit(track).map_or((0, 0), |v| (v.looks(), v.probes()));
        // A picture that cannot be cut out is missed, and the event is not.
        let crop = self.visitors.detection(track).filter(|_| self.keep_crops);
        let crop = crop.and_then(|face| cut_out(picture, &face.bbox, CROP_SIDE, CROP_MARGIN)).map(Arc::new);
        self.emit(captured_at, track, counts, crop, outcome, events);
    }

    fn ended(&mut self, now: Monotonic, ended: EndedVisit, events: &mut Vec<IdentityEvent>) {
        let EndedVisit { face, visit, sighting } = ended;
        let subject = visit
            .verdict()
            .and_then(Verdict::subject)
            .and_then(|subject| self.gallery.current().subject(subject).map(|s| (s.id, s.name.clone())));
        let verdict = match visit.verdict() {
            Some(Verdict::Identified { .. }) => EndVerdict::Identified,
            Some(Verdict::Unknown { .. }) => EndVerdict::Unknown,
            None => EndVerdict::Undecided,
        };
        let reason = visit.main_reason();
        if let (EndVerdict::Undecided, Some(reason)) = (verdict, reason) {
            count(&mut self.stats.undecided, reason.code());
        }
        let seen_ms = face.last_seen.since(face.first_seen).as_millis() as u64;
        let LookCounts { matches, no_match, inconclusive } = visit.counts().clone();
        let (subject, name) = subject.unzip();
        let outcome =
            Outcome::Ended { seen_ms, verdict, subject, name, reason, matches, no_match, inconclusive };
        self.emit(now, face.track, (visit.looks(), visit.probes()), None, outcome, events);
        if let (EndVerdict::Unknown, Some(event)) = (verdict, events.last_mut()) {
            event.sighting = sighting;
        }
    }

    fn emit(
        &mut self,
        captured_at: Monotonic,
        track: TrackId,
        (looks, probes): (u32, u32),
        crop: Option<Arc<RgbImage>>,
        outcome: Outcome,
        events: &mut Vec<IdentityEvent>,
    ) {
        count(&mut self.stats.events, outcome.kind().name());
        let latency = self.clock.monotonic().since(captured_at);
        if !matches!(outcome, Outcome::Ended { .. }) {
            self.metrics.observe_decision(latency);
        }
        let captured_wall = self.wall(captured_at);
        let decided = UnixMillis(captured_wall.0.saturating_add(latency.as_millis() as i64));
        // An event is not worth losing for want of random numbers.
        let id =
            EventId::new(decided).unwrap_or_else(|_| EventId::without_randomness(decided, self.next_event));
        events.push(IdentityEvent {
            id,
            track,
            captured_at: captured_wall,
            captured: captured_at,
            latency_ms: latency.as_secs_f32() * 1e3,
            looks,
            probes,
            crop,
            sighting: None,
            outcome,
        });
        self.next_event += 1;
    }

    /// The wall time at which something was captured. Steady: the same instant always gives the same
    /// time, unless the wall clock was set meanwhile.
    fn wall(&mut self, captured: Monotonic) -> UnixMillis {
        let since_boot = |at: Monotonic| at.since(Monotonic::default()).as_millis() as i64;
        let zero = self.clock.wall().0 - since_boot(self.clock.monotonic());
        if zero.abs_diff(self.wall_zero) > CLOCK_SET_MS {
            self.wall_zero = zero;
        }
        UnixMillis(self.wall_zero + since_boot(captured))
    }

    /// Tells whoever listens about one closer look.
    fn tell(&mut self, captured_at: Monotonic, frame: FrameSize, probe: &Probe) {
        let Some(face) = self.visitors.face(probe.track).cloned() else { return };
        let attempts = self.visitors.visit(probe.track).map_or(0, Visit::looks) + 1;
        let outcome = match &probe.decision {
            Decision::Match { candidate, .. } => {
                AttemptOutcome::Match { subject: candidate.subject, score: candidate.score }
            }
            Decision::NoMatch { best, .. } => AttemptOutcome::NoMatch { best: best.map(|best| best.score) },
            Decision::Inconclusive(reason) => AttemptOutcome::Inconclusive(reason.code()),
        };
        let (captured_wall, first_seen_at) = (self.wall(captured_at), self.wall(face.first_seen));
        self.live.send(Live::Attempt(Attempt {
            track: probe.track,
            captured_at: captured_wall,
            first_seen_at,
            latency_ms: self.clock.monotonic().since(captured_at).as_secs_f32() * 1e3,
            outcome,
            bbox: face.detection.bbox,
            frame,
            attempts,
        }));
    }

    /// Tells whoever listens when somebody comes or the last one goes.
    fn tell_presence(&mut self) {
        let faces = u32::try_from(self.visitors.count()).unwrap_or(u32::MAX);
        if std::mem::replace(&mut self.faces, faces) != faces {
            self.metrics.set_faces(faces);
            self.live.send(Live::Presence { faces });
        }
    }

    fn seen(&self, face: &TrackedFace) -> SeenFace {
        let visit = self.visitors.visit(face.track);
        let label = match visit.and_then(Visit::verdict) {
            Some(Verdict::Identified { candidate, .. }) => {
                match self.gallery.current().subject(candidate.subject) {
                    Some(subject) => SeenLabel::Subject(subject.id, subject.name.clone()),
                    None => SeenLabel::Unknown,
                }
            }
            Some(Verdict::Unknown { .. }) => SeenLabel::Unknown,
            None => SeenLabel::Undecided(visit.and_then(Visit::newest_inconclusive)),
        };
        let reason = match &label {
            SeenLabel::Subject(..) => None,
            SeenLabel::Undecided(Some(newest)) => Some(Reason::from(newest)),
            SeenLabel::Unknown | SeenLabel::Undecided(None) => {
                visit.filter(|visit| visit.looks() > 0).and_then(Visit::main_reason)
            }
        };
        let measured = visit.and_then(Visit::measured);
        SeenFace { track: face.track, detection: face.detection.clone(), label, reason, measured }
    }
}

/// The face with some of what is around it, upright: a square of `side` pixels, `margin` times as wide as
/// the longer side of the face's box.
fn cut_out(picture: &Picture<'_>, face: &PixelBox, side: u32, margin: f32) -> Option<RgbImage> {
    let centre = face.centre();
    let scale = face.width().max(face.height()) * margin / side as f32;
    let half = scale * side as f32 / 2.0;
    let to_source = Similarity { a: scale, b: 0.0, tx: centre.x - half, ty: centre.y - half };
    let mut crop = RgbImage::black(0, 0);
    Resampler::default().cut(picture, &to_source, side, &mut crop).ok()?;
    Some(crop)
}

fn count(counts: &mut BTreeMap<&'static str, u64>, code: &'static str) {
    *counts.entry(code).or_default() += 1;
}
