//! Following faces over frames. Pure: time and detections are passed in.
//!
//! A track is one face for as long as it stays in view. It is tentative at its first sight and
//! confirmed at the second, so that a single false box never becomes a visit, and it ends when the
//! face has not been found for a while.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Monotonic;
use crate::detect::Detection;

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
    /// False at its first sight.
    pub confirmed: bool,
}

/// What one frame changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The faces in this frame.
    pub present: Vec<TrackedFace>,
    /// Confirmed tracks that ended.
    pub ended: Vec<TrackedFace>,
}

/// All present tracks.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackingSettings,
    tracks: Vec<TrackedFace>,
    next: u64,
}

/// Boxes that overlap at least this much are taken for one face, whatever the distance.
const ENOUGH_OVERLAP: f32 = 0.25;
/// Without overlap, a face may have moved by this many box widths between two looks.
const LONGEST_STEP: f32 = 1.0;
/// The same face does not change its width by more than this factor between two looks.
const LARGEST_GROWTH: f32 = 1.8;

impl Tracker {
    /// No tracks yet.
    pub fn new(settings: TrackingSettings) -> Self {
        Self { settings, tracks: Vec::new(), next: 1 }
    }

    /// Whether anybody is being followed.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Takes in the detections of one frame.
    pub fn update(&mut self, now: Monotonic, mut detections: Vec<Detection>) -> Update {
        detections.sort_by(|left, right| right.bbox.area().total_cmp(&left.bbox.area()));
        detections.truncate(self.settings.maximum_faces);
        let mut update = Update::default();

        for (track, detection) in self.associate(&detections) {
            let face = match track {
                Some(index) => {
                    let face = &mut self.tracks[index];
                    face.detection = detection.clone();
                    face.last_seen = now;
                    face.confirmed = true;
                    face.clone()
                }
                None => self.begin(now, detection.clone()),
            };
            update.present.push(face);
        }
        let lost_after = self.settings.lost_after;
        let lost = |face: &TrackedFace| now.since(face.last_seen) >= lost_after;
        update.ended.extend(self.tracks.extract_if(.., |face| lost(face)).filter(|face| face.confirmed));
        update
    }

    /// Ends every track, when the source has gone away.
    pub fn end_all(&mut self) -> Vec<TrackedFace> {
        self.tracks.drain(..).filter(|face| face.confirmed).collect()
    }

    fn begin(&mut self, now: Monotonic, detection: Detection) -> TrackedFace {
        let face = TrackedFace {
            track: TrackId(self.next),
            detection,
            first_seen: now,
            last_seen: now,
            confirmed: false,
        };
        self.next += 1;
        self.tracks.push(face.clone());
        face
    }

    /// Pairs detections with tracks, best pair first, each used once.
    fn associate<'d>(&self, detections: &'d [Detection]) -> Vec<(Option<usize>, &'d Detection)> {
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (t, track) in self.tracks.iter().enumerate() {
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
            assert_eq!(update.present[0].confirmed, step > 0);
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
