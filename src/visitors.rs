//! Everybody in view and who has just left it: which visit each face and each probe belongs to. Pure:
//! time, detections and probes are passed in.
//!
//! Boxes say cheaply, many times a second, which face is which; they fail when faces pass each other,
//! and when one is hidden for a while. Embeddings say it reliably and are costly. So boxes lead, and
//! each probe corrects them:
//!
//! * a new track whose first probe looks like a track that was lost is that track, come back;
//! * a probe that looks like another track, and not like its own, changes the two tracks' places;
//! * a face that looks like nobody seen before where somebody else was, twice in a row, begins another
//!   visit; the one before is lost, and ends unless that face is found elsewhere.
//!
//! Until that is clear, such probes count for nobody, so that no visit carries its verdict over to
//! another face. A face that another one came near is probed again soon (see [`CONTESTED_PROBES`]),
//! and every face each [`VisitSettings::recheck_after`]; that bounds how long a mix-up lasts.
//!
//! Used by the recogniser, which owns pixels, networks and the gallery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::appearance::{Appearance, AppearanceThresholds, compared};
use crate::cadence::Attention;
use crate::clock::Monotonic;
use crate::detect::Detection;
use crate::embedding::Embedding;
use crate::identify::{AnotherFace, Decision, Inconclusive};
use crate::score::{ComparisonScore, QualityScore};
use crate::sightings::Sighting;
use crate::track::{Association, TrackId, TrackState, TrackedFace, Tracker, TrackingSettings};
use crate::visit::{Verdict, Visit, VisitSettings};

/// A face that could not be decided about for this long is looked at as rarely as a settled one,
/// so that a poster does not keep the processor busy.
pub const GIVE_UP_HURRYING: Duration = Duration::from_secs(8);
/// Probes of a decided face within [`VisitSettings::recheck_after`] while another face is near it. By
/// default one each half second: for that long a display may show a name beside the wrong face.
pub const CONTESTED_PROBES: u32 = 6;
/// Probes in a row that look like another face, and like each other, after which it is one.
const OTHER_FACE_AFTER: usize = 2;
/// The same, where they do not even look like each other.
const OTHER_FACES_AFTER: usize = 3;

/// Thresholds and times of everything that is decided here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisitorSettings {
    /// How detections become tracks.
    pub tracking: TrackingSettings,
    /// When probes make a verdict.
    pub visit: VisitSettings,
    /// When probes show the same face.
    pub appearance: AppearanceThresholds,
}

/// One closer look at a face.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Where it was looked at: this track's place.
    pub track: TrackId,
    /// Its embedding; `None` where the sample was not usable.
    pub embedding: Option<Embedding>,
    /// What the gallery says.
    pub decision: Decision,
    /// How usable the sample is.
    pub quality: QualityScore,
    /// What is to be kept of an unknown visitor, where that is wanted and the sample is good enough.
    pub sighting: Option<Arc<Sighting>>,
}

/// What one frame asks for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Faces to look at closely, the longest known first.
    pub probes: Vec<TrackId>,
    /// Visits that ended.
    pub ended: Vec<EndedVisit>,
}

/// A visit that is over.
#[derive(Debug)]
pub struct EndedVisit {
    /// Its face, where and when it was last seen.
    pub face: TrackedFace,
    /// What was found out.
    pub visit: Visit,
    /// The best of its probes, where such are kept.
    pub sighting: Option<Arc<Sighting>>,
}

/// A visit has a verdict, or another one than before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decided {
    /// Whose.
    pub track: TrackId,
    /// Which.
    pub verdict: Verdict,
}

/// Everybody in view, and everybody lost for a short time.
pub struct Visitors {
    settings: VisitorSettings,
    tracker: Tracker,
    visitors: BTreeMap<TrackId, Visitor>,
}

/// A face that did not look like its visit.
struct SetAside {
    at: Monotonic,
    probe: Probe,
}

#[derive(Default)]
struct Visitor {
    visit: Visit,
    appearance: Appearance,
    /// Latest probes in a row that looked like another face.
    set_aside: Vec<SetAside>,
    /// Another face has been near since the last probe.
    contested: bool,
    last_embedded: Option<Monotonic>,
    /// When a probe last showed this face.
    last_sure: Option<Monotonic>,
    /// Since when its verdict is open.
    open_since: Option<Monotonic>,
    /// The best of the probes that showed this face.
    sighting: Option<Arc<Sighting>>,
}

impl Visitor {
    fn keep_better(&mut self, sighting: Option<Arc<Sighting>>) {
        let quality = |sighting: &Arc<Sighting>| sighting.quality.score;
        if sighting.as_ref().map(quality) > self.sighting.as_ref().map(quality) {
            self.sighting = sighting;
        }
    }

    fn is_open(&self) -> bool {
        self.visit.verdict().is_none() || self.visit.is_in_doubt() || !self.set_aside.is_empty()
    }

    fn wants_probe(&self, now: Monotonic, settings: &VisitSettings) -> bool {
        let between = settings.recheck_after / CONTESTED_PROBES;
        let due = self.last_embedded.is_none_or(|last| now.since(last) >= between);
        self.is_open() || (self.contested && due) || self.visit.wants_probe(now, settings)
    }
}

impl Visitors {
    /// Nobody yet.
    pub fn new(settings: VisitorSettings) -> Self {
        Self { settings, tracker: Tracker::new(settings.tracking), visitors: BTreeMap::new() }
    }

    /// Probes of a face that is known until so many agree.
    pub fn confirm(&mut self, probes: u32) {
        self.settings.visit.confirming_probes = probes;
    }

    /// Decides by these settings from now on; whoever is in view stays.
    pub fn set_settings(&mut self, settings: VisitorSettings) {
        self.tracker.set_settings(settings.tracking);
        self.settings = settings;
    }

    /// The tracks as they stand, for pairing faces of a frame that decides nothing.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Faces found in the frame captured at `now`.
    pub fn present(&self, now: Monotonic) -> impl Iterator<Item = &TrackedFace> {
        self.tracker.tracks().iter().filter(move |face| face.last_seen == now)
    }

    /// The visit of a track that has not ended.
    pub fn visit(&self, track: TrackId) -> Option<&Visit> {
        self.visitors.get(&track).map(|visitor| &visitor.visit)
    }

    /// Confirmed faces that are in view or were a moment ago.
    pub fn count(&self) -> usize {
        self.tracker.tracks().iter().filter(|face| face.state == TrackState::Confirmed).count()
    }

    /// A track that has not ended.
    pub fn face(&self, track: TrackId) -> Option<&TrackedFace> {
        self.tracker.get(track)
    }

    /// Where a track was found last.
    pub fn detection(&self, track: TrackId) -> Option<&Detection> {
        self.tracker.get(track).map(|face| &face.detection)
    }

    /// Takes in the detections of one frame.
    pub fn see(&mut self, now: Monotonic, detections: Vec<Detection>) -> Wanted {
        let update = self.tracker.update(now, detections);
        let ended = self.ended(update.ended);
        let tracker = &self.tracker;
        // Tentative tracks end without a word.
        self.visitors.retain(|track, _| tracker.get(*track).is_some());
        let mut probes = Vec::new();
        for face in &update.present {
            let visitor = self.visitors.entry(face.track).or_default();
            visitor.contested |= face.association == Association::Contested;
            // A face seen for the first time may be a false box; its second sight is at most one
            // camera frame away, since an open verdict is looked at in full rate.
            let confirmed = face.state == TrackState::Confirmed;
            if confirmed && visitor.wants_probe(now, &self.settings.visit) {
                probes.push(face.track);
            }
        }
        probes.sort();
        Wanted { probes, ended }
    }

    /// A face that should be looked at too before `probes` are taken in: one that some probe looks like
    /// although that was taken elsewhere. To be asked again with its probe added, until there is none;
    /// there are at most as many as faces in view.
    pub fn also_wanted(&self, now: Monotonic, probes: &[Probe]) -> Option<TrackId> {
        let owner = |probe: &Probe| self.belongs_to(probe.track, probe.embedding.as_ref()?);
        let unknown = |other: &TrackId| probes.iter().all(|probe| probe.track != *other);
        probes.iter().filter_map(owner).find(|other| self.is_present(*other, now) && unknown(other))
    }

    /// Takes in all probes of the frame captured at `now`, at most one a track.
    pub fn take_in(&mut self, now: Monotonic, probes: Vec<Probe>) -> Vec<Decided> {
        let mut held: BTreeMap<TrackId, Probe> =
            probes.into_iter().map(|probe| (probe.track, probe)).collect();
        self.put_right(now, &mut held);
        let mut decided = Vec::new();
        for (track, probe) in held {
            self.attribute(now, track, Probe { track, ..probe }, &mut decided);
        }
        decided
    }

    /// Ends every visit, when the source has gone away.
    pub fn end_all(&mut self) -> Vec<EndedVisit> {
        let ended = self.tracker.end_all();
        let ended = self.ended(ended);
        self.visitors.clear();
        ended
    }

    /// How much attention the faces found in the frame captured at `now` need.
    pub fn attention(&mut self, now: Monotonic) -> Attention {
        if self.tracker.is_empty() {
            return Attention::Idle;
        }
        let mut hurry = false;
        for (track, visitor) in &mut self.visitors {
            visitor.open_since = visitor.is_open().then(|| visitor.open_since.unwrap_or(now));
            let hurries = visitor.open_since.is_some_and(|since| now.since(since) < GIVE_UP_HURRYING);
            hurry |= hurries && self.tracker.get(*track).is_some_and(|face| face.last_seen == now);
        }
        if hurry { Attention::Full } else { Attention::Settled }
    }

    fn is_present(&self, track: TrackId, now: Monotonic) -> bool {
        self.tracker.get(track).is_some_and(|face| face.last_seen == now)
    }

    fn likeness(&self, track: TrackId, embedding: &Embedding) -> Option<ComparisonScore> {
        self.visitors.get(&track)?.appearance.likeness(embedding)
    }

    fn is_alike(&self, track: TrackId, embedding: &Embedding) -> bool {
        let alike = self.settings.appearance.alike;
        self.likeness(track, embedding).is_some_and(|likeness| likeness >= alike)
    }

    /// The track that a probe taken at the place of `track` clearly looks like, if that is another.
    fn belongs_to(&self, track: TrackId, embedding: &Embedding) -> Option<TrackId> {
        let AppearanceThresholds { alike, lead, .. } = self.settings.appearance;
        let own = self.likeness(track, embedding);
        if own.is_some_and(|own| own >= alike) {
            return None;
        }
        let others = self.visitors.keys().filter(|other| **other != track);
        let (best, likeness) = others
            .filter_map(|other| Some((*other, self.likeness(*other, embedding)?)))
            .max_by(|left, right| left.1.get().total_cmp(&right.1.get()))?;
        let leads = own.is_none_or(|own| likeness.get() - own.get() >= lead);
        (likeness >= alike && leads).then_some(best)
    }

    /// Moves tracks, and with them the probes taken at their places, until none belongs to another
    /// track. Each move brings one probe where it belongs for good, so as many moves suffice as there
    /// are probes.
    fn put_right(&mut self, now: Monotonic, held: &mut BTreeMap<TrackId, Probe>) {
        for _ in 0..held.len() {
            // Those longest known first: who is lost must be known before a newcomer may be them.
            let misplaced = held.iter().find_map(|(track, probe)| {
                let embedding = probe.embedding.as_ref()?;
                let owner = self.belongs_to(*track, embedding)?;
                let free = match held.get(&owner).map(|other| other.embedding.as_ref()) {
                    // Two places that show one face, as a mirror does, stay two tracks.
                    Some(Some(other)) => !self.is_alike(owner, other),
                    // In view, but not well enough to say that it is somebody else.
                    Some(None) => false,
                    None => !self.is_present(owner, now),
                };
                free.then_some((*track, owner))
            });
            let Some((track, owner)) = misplaced else { return };
            let is_newcomer = self.visitors.get(&track).is_none_or(|visitor| visitor.appearance.is_empty());
            if is_newcomer && !self.is_present(owner, now) {
                self.tracker.continue_as(track, owner);
                if let (Some(newcomer), Some(old)) =
                    (self.visitors.remove(&track), self.visitors.get_mut(&owner))
                {
                    old.visit.absorb(&newcomer.visit);
                    old.contested |= newcomer.contested;
                    old.keep_better(newcomer.sighting);
                }
            } else {
                self.tracker.exchange(track, owner);
            }
            let (at_track, at_owner) = (held.remove(&track), held.remove(&owner));
            held.extend(at_track.map(|probe| (owner, probe)));
            held.extend(at_owner.map(|probe| (track, probe)));
        }
    }

    /// Gives one probe to the visit of `track`, or sets it aside.
    fn attribute(&mut self, now: Monotonic, track: TrackId, probe: Probe, decided: &mut Vec<Decided>) {
        let settings = self.settings;
        let visitor = self.visitors.entry(track).or_default();
        if let Some(embedding) = &probe.embedding {
            visitor.last_embedded = Some(now);
            // Whoever the gallery takes for the same subject twice is the same face, however turned.
            let same_subject = matches!(&probe.decision,
                Decision::Match { candidate, .. } if visitor.visit.names(candidate.subject));
            match visitor.appearance.likeness(embedding) {
                Some(likeness) if likeness < settings.appearance.unlike && !same_subject => {
                    let other = Decision::Inconclusive(Inconclusive::AnotherFace(AnotherFace { likeness }));
                    visitor.visit.observe(now, &other, probe.quality, &settings.visit);
                    visitor.set_aside.push(SetAside { at: now, probe });
                    self.split_if_sure(track, decided);
                    return;
                }
                // It cannot be said whose it is: it counts, and is not compared with later.
                Some(likeness) if likeness < settings.appearance.alike && !same_subject => {}
                _ => {
                    visitor.appearance.remember(embedding.clone());
                    visitor.set_aside.clear();
                    visitor.last_sure = Some(now);
                    visitor.keep_better(probe.sighting);
                }
            }
            visitor.contested = false;
        }
        let verdict = visitor.visit.observe(now, &probe.decision, probe.quality, &settings.visit);
        decided.extend(verdict.map(|verdict| Decided { track, verdict }));
    }

    /// Loses the face of a track that has shown another one often enough, and begins a visit for that.
    fn split_if_sure(&mut self, track: TrackId, decided: &mut Vec<Decided>) {
        let settings = self.settings;
        let Some(visitor) = self.visitors.get_mut(&track) else { return };
        let alike = visitor.set_aside.windows(2).rev().take(OTHER_FACE_AFTER - 1).all(|pair| {
            let embeddings = (&pair[0].probe.embedding, &pair[1].probe.embedding);
            matches!(embeddings, (Some(one), Some(other))
                if compared(one, other) >= settings.appearance.alike)
        });
        let needed = if alike { OTHER_FACE_AFTER } else { OTHER_FACES_AFTER };
        let Some(first) = visitor.set_aside.first().filter(|_| visitor.set_aside.len() >= needed) else {
            return;
        };
        let until = visitor.last_sure.unwrap_or(first.at);
        let Some(begun) = self.tracker.split(track, until, first.at) else { return };
        let set_aside = std::mem::take(&mut visitor.set_aside);
        let new = self.visitors.entry(begun).or_default();
        for SetAside { at, probe } in set_aside {
            let verdict = new.visit.observe(at, &probe.decision, probe.quality, &settings.visit);
            decided.extend(verdict.map(|verdict| Decided { track: begun, verdict }));
            probe.embedding.into_iter().for_each(|embedding| new.appearance.remember(embedding));
            new.keep_better(probe.sighting);
            (new.last_embedded, new.last_sure) = (Some(at), Some(at));
        }
    }

    fn ended(&mut self, faces: Vec<TrackedFace>) -> Vec<EndedVisit> {
        let end = |face: TrackedFace| {
            let Visitor { visit, sighting, .. } = self.visitors.remove(&face.track).unwrap_or_default();
            EndedVisit { face, visit, sighting }
        };
        faces.into_iter().map(end).collect()
    }
}

impl std::fmt::Debug for Visitors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Visitors {{ {} }}", self.visitors.len())
    }
}
