//! Following faces over frames by where they are. Pure: time and detections are passed in.
//!
//! A track is one face for as long as it stays in view. It is tentative at its first sight and
//! confirmed at the second, so that a single false box never becomes a visit, and it ends when the
//! face has not been found for a while.
//!
//! Boxes alone cannot tell two faces apart that pass each other. Owned here: pairing by overlap and
//! nearness, saying where that pairing was doubtful, and correcting it when told to. Not here:
//! finding out, by embedding, that it was wrong; see [`crate::visitors`].

use std::time::Duration;

use serde::Serialize;

use crate::clock::Monotonic;
use crate::detect::Detection;
use crate::geometry::PixelBox;

/// Running number of a track within one run of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TrackId(pub u64);

/// How detections become tracks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackingSettings {
    /// A track ends when its face has not been found for this long.
    pub lost_after: Duration,
    /// Faces followed at a time; the largest are kept.
    pub maximum_faces: usize,
}

/// Where a track is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackState {
    /// Seen once; perhaps no face at all.
    Tentative,
    /// Seen more than once.
    Confirmed,
    /// Gone. No later face gets its number.
    Ended,
}

/// How sure it is, by place alone, that a track still follows the same face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Association {
    /// No other face was near.
    Certain,
    /// Another face, in view or just lost, was so near that the two may have been mixed up; or it
    /// moved so far that its boxes hardly overlap.
    Contested,
}

/// One face followed over frames.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackedFace {
    /// Which track.
    pub track: TrackId,
    /// Where it was found last.
    pub detection: Detection,
    /// When it was seen first.
    pub first_seen: Monotonic,
    /// When it was seen last.
    pub last_seen: Monotonic,
    /// Where it is in its life.
    pub state: TrackState,
    /// Whether its latest detection may belong to another face.
    pub association: Association,
    /// When it was seen last before `last_seen`.
    seen_before: Monotonic,
    /// Somebody else is at its place: only its embedding can find it again.
    displaced: bool,
}

/// What one frame changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The faces in this frame.
    pub present: Vec<TrackedFace>,
    /// Confirmed tracks that ended.
    pub ended: Vec<TrackedFace>,
}

/// All tracks that have not ended: those in view, and those lost for less than
/// [`TrackingSettings::lost_after`].
#[derive(Clone, Debug)]
pub struct Tracker {
    settings: TrackingSettings,
    tracks: Vec<TrackedFace>,
    next: u64,
}

/// Numbers from here on are of tracks that only somebody who watches is shown. Still exact in JavaScript.
const PROVISIONAL: u64 = 1 << 40;
/// Boxes that overlap at least this much are taken for one face, whatever the distance.
const ENOUGH_OVERLAP: f32 = 0.25;
/// Without overlap, a face may have moved by this many box widths between two looks.
const LONGEST_STEP: f32 = 1.0;
/// The same face does not change its width by more than this factor between two looks.
const LARGEST_GROWTH: f32 = 1.8;
/// Faces nearer than this many box widths may be mixed up: each of them can step towards the other.
const CONTESTED_WITHIN: f32 = 2.0 * LONGEST_STEP;

impl Tracker {
    /// No tracks yet.
    pub fn new(settings: TrackingSettings) -> Self {
        Self { settings, tracks: Vec::new(), next: 1 }
    }

    /// Follows by these settings from now on.
    pub fn set_settings(&mut self, settings: TrackingSettings) {
        self.settings = settings;
    }

    /// The same tracks, to be followed without consequence: what begins in it gets a number that no track
    /// of this one ever has.
    pub fn provisional(&self) -> Self {
        Self { next: self.next | PROVISIONAL, ..self.clone() }
    }

    /// Whether anybody is being followed.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Every track that has not ended.
    pub fn tracks(&self) -> &[TrackedFace] {
        &self.tracks
    }

    /// One of them.
    pub fn get(&self, track: TrackId) -> Option<&TrackedFace> {
        self.tracks.iter().find(|face| face.track == track)
    }

    fn get_mut(&mut self, track: TrackId) -> Option<&mut TrackedFace> {
        self.tracks.iter_mut().find(|face| face.track == track)
    }

    /// Takes in the detections of one frame.
    pub fn update(&mut self, now: Monotonic, mut detections: Vec<Detection>) -> Update {
        detections.sort_by(|left, right| right.bbox.area().total_cmp(&left.bbox.area()));
        detections.truncate(self.settings.maximum_faces);
        // Where everybody was and is: a face that was near before this frame may be anywhere now.
        let before = self.places();

        let (mut present, mut leapt) = (Vec::with_capacity(detections.len()), Vec::new());
        for (track, detection) in self.associate(&detections) {
            present.push(match track {
                Some(index) => {
                    let face = &mut self.tracks[index];
                    if face.detection.bbox.iou(&detection.bbox) < ENOUGH_OVERLAP {
                        leapt.push(face.track);
                    }
                    face.detection = detection.clone();
                    (face.seen_before, face.last_seen) = (face.last_seen, now);
                    face.state = TrackState::Confirmed;
                    face.track
                }
                None => self.begin(now, detection.clone(), TrackState::Tentative),
            });
        }
        let after = self.places();
        for face in &mut self.tracks {
            let bbox = &face.detection.bbox;
            let near = |(track, other): &(TrackId, PixelBox)| *track != face.track && are_near(bbox, other);
            let contested = leapt.contains(&face.track) || before.iter().chain(&after).any(near);
            face.association = if contested { Association::Contested } else { Association::Certain };
        }
        let present = present.into_iter().filter_map(|track| self.get(track).cloned()).collect();
        let lost_after = self.settings.lost_after;
        let lost = |face: &TrackedFace| now.since(face.last_seen) >= lost_after;
        Update { present, ended: self.end_where(lost) }
    }

    /// Ends every track, when the source has gone away.
    pub fn end_all(&mut self) -> Vec<TrackedFace> {
        self.end_where(|_| true)
    }

    /// Puts right that two tracks were mixed up: each gets the place, and the time it was seen last,
    /// of the other. The one that is lost by that was taken for seen until the look before.
    pub fn exchange(&mut self, one: TrackId, other: TrackId) {
        let index = |track| self.tracks.iter().position(|face| face.track == track);
        let (Some(one), Some(other)) = (index(one), index(other)) else { return };
        let Ok([one, other]) = self.tracks.get_disjoint_mut([one, other]) else { return };
        std::mem::swap(&mut one.detection, &mut other.detection);
        std::mem::swap(&mut one.last_seen, &mut other.last_seen);
        std::mem::swap(&mut one.displaced, &mut other.displaced);
        for face in [&mut *one, &mut *other] {
            face.last_seen = face.last_seen.max(face.seen_before);
        }
        // Whoever gets a place that only a tentative track had was seen there all the same.
        (one.state, other.state) = (TrackState::Confirmed, TrackState::Confirmed);
    }

    /// Says that `newer` is the face that `older` had lost: `older` goes on at the place of `newer`,
    /// whose number is not used again.
    pub fn continue_as(&mut self, newer: TrackId, older: TrackId) {
        if newer == older || self.get(older).is_none() {
            return;
        }
        let Some(at) = self.tracks.iter().position(|face| face.track == newer) else { return };
        let newer = self.tracks.remove(at);
        if let Some(older) = self.get_mut(older) {
            *older = TrackedFace { track: older.track, first_seen: older.first_seen, ..newer };
        }
    }

    /// Says that a track has followed somebody else since `since`, and its own face only until
    /// `until`: it is lost from then on, and a confirmed track goes on in its place. `None` when there
    /// is no such track.
    pub fn split(&mut self, track: TrackId, until: Monotonic, since: Monotonic) -> Option<TrackId> {
        let old = self.get_mut(track)?;
        let TrackedFace { detection, last_seen, association, .. } = old.clone();
        (old.last_seen, old.seen_before, old.displaced) = (until, until, true);
        let begun = self.begin(since, detection, TrackState::Confirmed);
        if let Some(new) = self.get_mut(begun) {
            (new.last_seen, new.association) = (last_seen, association);
        }
        Some(begun)
    }

    /// Ends the tracks that `ends` says and gives the confirmed ones.
    fn end_where(&mut self, ends: impl Fn(&TrackedFace) -> bool) -> Vec<TrackedFace> {
        let ended = self.tracks.extract_if(.., |face| ends(face));
        let confirmed = ended.filter(|face| face.state == TrackState::Confirmed);
        confirmed.map(|face| TrackedFace { state: TrackState::Ended, ..face }).collect()
    }

    fn places(&self) -> Vec<(TrackId, PixelBox)> {
        let placed = self.tracks.iter().filter(|face| !face.displaced);
        placed.map(|face| (face.track, face.detection.bbox)).collect()
    }

    fn begin(&mut self, now: Monotonic, detection: Detection, state: TrackState) -> TrackId {
        let track = TrackId(self.next);
        let association = Association::Certain;
        self.tracks.push(TrackedFace {
            track,
            detection,
            first_seen: now,
            last_seen: now,
            state,
            association,
            seen_before: now,
            displaced: false,
        });
        self.next += 1;
        track
    }

    /// Pairs detections with tracks, best pair first, each used once.
    fn associate<'d>(&self, detections: &'d [Detection]) -> Vec<(Option<usize>, &'d Detection)> {
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (t, track) in self.tracks.iter().enumerate().filter(|(_, track)| !track.displaced) {
            for (d, detection) in detections.iter().enumerate() {
                pairs.extend(affinity(&track.detection, detection).map(|affinity| (affinity, t, d)));
            }
        }
        pairs.sort_by(|left, right| right.0.total_cmp(&left.0));
        let mut of_detection = vec![None; detections.len()];
        let mut taken = vec![false; self.tracks.len()];
        for (_, t, d) in pairs {
            if !taken[t] && of_detection[d].is_none() {
                (taken[t], of_detection[d]) = (true, Some(t));
            }
        }
        of_detection.into_iter().zip(detections).collect()
    }
}

/// How likely two boxes show one face, higher is likelier; overlap always beats nearness. `None`
/// when they cannot.
fn affinity(before: &Detection, now: &Detection) -> Option<f32> {
    let (before, now) = (&before.bbox, &now.bbox);
    let growth = now.width().max(1.0) / before.width().max(1.0);
    if !(1.0 / LARGEST_GROWTH..=LARGEST_GROWTH).contains(&growth) {
        return None;
    }
    let overlap = before.iou(now);
    if overlap >= ENOUGH_OVERLAP {
        return Some(1.0 + overlap);
    }
    let step = before.centre().distance(now.centre()) / before.width().max(now.width()).max(1.0);
    (step <= LONGEST_STEP).then_some(1.0 - step)
}

/// Whether two faces are so near each other that the next look may mix them up.
fn are_near(left: &PixelBox, right: &PixelBox) -> bool {
    let width = left.width().max(right.width()).max(1.0);
    left.centre().distance(right.centre()) <= CONTESTED_WITHIN * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{PixelBox, Point};
    use crate::score::DetectionScore;

    const SETTINGS: TrackingSettings =
        TrackingSettings { lost_after: Duration::from_millis(1_000), maximum_faces: 4 };

    fn face(x: f32, size: f32) -> Detection {
        let bbox = PixelBox::new(x, 100.0, x + size, 100.0 + size);
        Detection { bbox, keypoints: [Point::default(); 6], score: DetectionScore::MAX }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    fn ids(faces: &[TrackedFace]) -> Vec<u64> {
        faces.iter().map(|face| face.track.0).collect()
    }

    #[test]
    fn moving_face_keeps_its_track() {
        let mut tracker = Tracker::new(SETTINGS);
        for step in 0..20 {
            let update = tracker.update(at(step * 66), vec![face(10.0 + 12.0 * step as f32, 80.0)]);
            assert_eq!(ids(&update.present), [1]);
            let state = if step == 0 { TrackState::Tentative } else { TrackState::Confirmed };
            assert_eq!(update.present[0].state, state);
            assert_eq!(update.present[0].association, Association::Certain);
        }
    }

    #[test]
    fn two_faces_that_pass_each_other_at_a_distance_keep_their_tracks() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(0.0, 80.0), face(400.0, 90.0)]);
        let update = tracker.update(at(66), vec![face(390.0, 90.0), face(10.0, 80.0)]);
        let mut found: Vec<_> = update.present.iter().map(|f| (f.track.0, f.detection.bbox.left)).collect();
        found.sort_by_key(|(id, _)| *id);
        assert_eq!(found.iter().map(|(_, left)| *left).collect::<Vec<_>>(), [390.0, 10.0]);
    }

    #[test]
    fn lost_face_ends_its_track_and_a_later_one_is_new() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(0.0, 80.0)]);
        tracker.update(at(66), vec![face(0.0, 80.0)]);
        assert!(tracker.update(at(900), vec![]).ended.is_empty());
        assert_eq!(ids(&tracker.update(at(1_100), vec![]).ended), [1]);
        assert_eq!(ids(&tracker.update(at(1_200), vec![face(0.0, 80.0)]).present), [2]);
    }

    #[test]
    fn faces_near_each_other_are_contested_until_they_are_apart() {
        let mut tracker = Tracker::new(SETTINGS);
        let mut contested = |ms, boxes: &[(f32, f32)]| {
            let detections = boxes.iter().map(|(x, size)| face(*x, *size)).collect();
            let update = tracker.update(at(ms), detections);
            update.present.iter().filter(|face| face.association == Association::Contested).count()
        };
        assert_eq!(contested(0, &[(0.0, 80.0), (400.0, 81.0)]), 0);
        assert_eq!(contested(66, &[(60.0, 80.0), (220.0, 81.0)]), 2);
        // One has covered the other; the lost one still is where it was.
        assert_eq!(contested(132, &[(130.0, 80.0)]), 1);
        assert_eq!(contested(198, &[(60.0, 80.0)]), 1);
        assert_eq!(contested(3_000, &[(60.0, 80.0)]), 1);
        assert_eq!(contested(3_066, &[(60.0, 80.0)]), 0);
    }

    #[test]
    fn exchanged_tracks_keep_number_and_age_and_change_places() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(0.0, 80.0)]);
        tracker.update(at(66), vec![face(0.0, 80.0), face(300.0, 90.0)]);
        tracker.update(at(132), vec![face(0.0, 80.0)]);
        tracker.exchange(TrackId(1), TrackId(2));
        let (one, two) = (tracker.get(TrackId(1)).unwrap(), tracker.get(TrackId(2)).unwrap());
        assert_eq!((one.detection.bbox.left, one.last_seen, one.first_seen), (300.0, at(66), at(0)));
        assert_eq!((two.detection.bbox.left, two.last_seen, two.first_seen), (0.0, at(132), at(66)));
        let before = tracker.tracks().to_vec();
        tracker.exchange(TrackId(1), TrackId(7));
        tracker.exchange(TrackId(1), TrackId(1));
        assert_eq!(tracker.tracks(), before);
    }

    #[test]
    fn continued_track_lives_on_at_the_new_place() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(0.0, 80.0)]);
        tracker.update(at(66), vec![face(0.0, 80.0)]);
        tracker.update(at(200), vec![face(400.0, 80.0)]);
        tracker.continue_as(TrackId(2), TrackId(1));
        assert_eq!(ids(tracker.tracks()), [1]);
        let face_now = tracker.get(TrackId(1)).unwrap();
        assert_eq!((face_now.detection.bbox.left, face_now.first_seen), (400.0, at(0)));
        assert_eq!(ids(&tracker.update(at(266), vec![face(400.0, 80.0)]).present), [1]);
        // A track does not go on as one that has ended.
        tracker.continue_as(TrackId(1), TrackId(9));
        assert_eq!(ids(tracker.tracks()), [1]);
    }

    #[test]
    fn split_track_is_lost_and_another_goes_on_in_its_place() {
        let mut tracker = Tracker::new(SETTINGS);
        for step in 0..10 {
            tracker.update(at(66 * step), vec![face(0.0, 80.0)]);
        }
        let begun = tracker.split(TrackId(1), at(200), at(400)).unwrap();
        assert_eq!(begun, TrackId(2));
        let new = tracker.get(begun).unwrap();
        assert_eq!((new.state, new.first_seen, new.last_seen), (TrackState::Confirmed, at(400), at(594)));
        assert_eq!(tracker.get(TrackId(1)).unwrap().last_seen, at(200));
        // What stands there is not the old one, even when the new one has gone.
        assert_eq!(ids(&tracker.update(at(660), vec![face(0.0, 80.0)]).present), [2]);
        let update = tracker.update(at(1_250), vec![face(0.0, 80.0), face(30.0, 80.0)]);
        assert_eq!((ids(&update.present), ids(&update.ended)), (vec![2, 3], vec![1]));
        assert_eq!(update.ended[0].state, TrackState::Ended);
        assert_eq!(tracker.split(TrackId(1), at(200), at(400)), None);
    }

    #[test]
    fn track_lost_by_a_split_can_be_found_again() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(0.0, 80.0)]);
        tracker.update(at(66), vec![face(0.0, 80.0)]);
        let begun = tracker.split(TrackId(1), at(0), at(66)).unwrap();
        tracker.update(at(132), vec![face(0.0, 80.0), face(300.0, 81.0)]);
        tracker.continue_as(TrackId(3), TrackId(1));
        let update = tracker.update(at(198), vec![face(0.0, 80.0), face(310.0, 81.0)]);
        assert_eq!(ids(&update.present), [1, begun.0]);
    }

    #[test]
    fn single_sight_is_never_reported_as_a_visit() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(0.0, 80.0)]);
        assert!(tracker.update(at(2_000), vec![]).ended.is_empty());
        assert!(tracker.is_empty());
    }

    #[test]
    fn far_and_near_face_at_one_place_are_two() {
        let mut tracker = Tracker::new(SETTINGS);
        tracker.update(at(0), vec![face(100.0, 40.0)]);
        assert_eq!(ids(&tracker.update(at(66), vec![face(80.0, 160.0)]).present), [2]);
    }

    #[test]
    fn largest_faces_are_kept_when_there_are_too_many() {
        let mut tracker = Tracker::new(TrackingSettings { maximum_faces: 2, ..SETTINGS });
        let update = tracker.update(at(0), vec![face(0.0, 20.0), face(200.0, 90.0), face(400.0, 60.0)]);
        assert_eq!(update.present.iter().map(|f| f.detection.bbox.width()).collect::<Vec<_>>(), [90.0, 60.0]);
    }
}
