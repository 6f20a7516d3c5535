//! Guided capture: what to ask of the person in front of a camera, and which frames to keep. Pure; the
//! caller brings examined frames and keeps the pictures.
//!
//! From the front first; the other poses are relative to that one, since few cameras hang exactly at the
//! height of the eyes. Of each pose the best of a few frames is kept. Once something is kept, only the
//! same person is taken.

use crate::embedding::Embedding;
use crate::examiner::ExaminedFace;
use crate::quality::{Quality, Unusable};
use crate::score::{ComparisonScore, QualityScore};

/// Frames in a pose among which the best is taken.
const CHOICES: u32 = 3;
/// Frames of a usable face after which a pose is given up: not everybody can or wants to take each.
const PATIENCE: u32 = 60;
/// From the front: turned or nodding by no more than this, degrees. A camera above or below the eyes
/// makes everybody nod.
const FRONT_YAW_DEG: f32 = 10.0;
const FRONT_PITCH_DEG: f32 = 18.0;
/// Turned to a side: by this much more than in the picture from the front, degrees. Beyond, half of the
/// face is hidden.
const TURN_DEG: (f32, f32) = (12.0, 28.0);
/// The same up and down.
const NOD_DEG: (f32, f32) = (8.0, 20.0);
/// While turning, the other axis may stray by this.
const STRAY_DEG: f32 = 14.0;
/// A second face smaller than this share of the first is somebody in the background.
const BACKGROUND: f32 = 0.35;

/// Where the person looks, as the person sees it: left is their own left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pose {
    /// At the camera.
    Front,
    /// A little to their left.
    Left,
    /// A little to their right.
    Right,
    /// A little up.
    Up,
    /// A little down.
    Down,
}

impl Pose {
    /// In the order in which they are asked for.
    pub const ALL: [Self; 5] = [Self::Front, Self::Left, Self::Right, Self::Up, Self::Down];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Left => "left",
            Self::Right => "right",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    fn request(self) -> &'static str {
        match self {
            Self::Front => "look at the camera",
            Self::Left => "turn your head slightly to your left",
            Self::Right => "turn your head slightly to your right",
            Self::Up => "raise your chin slightly",
            Self::Down => "lower your chin slightly",
        }
    }
}

/// What decides about frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuideRules {
    /// Least quality of a sample.
    pub minimum_quality: QualityScore,
    /// From which comparison score on two samples may show one person.
    pub agreement: ComparisonScore,
    /// Frames show people as a mirror does: their left is on the left of the picture.
    pub mirrored: bool,
}

/// What a frame did.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is asked for now; `None` when all is done.
    pub wanted: Option<Pose>,
    /// What to tell the person.
    pub hint: &'static str,
    /// The face of this frame is the best so far for this pose: keep it in the place of an earlier one.
    pub keep: Option<(Pose, usize)>,
    /// Poses done, those given up included.
    pub taken: usize,
}

struct Kept {
    pose: Pose,
    quality: QualityScore,
    embedding: Embedding,
}

/// How far a capture has come.
pub struct Guide {
    rules: GuideRules,
    at: usize,
    /// Usable frames since this pose is asked for, and those in it.
    waited: u32,
    chosen_from: u32,
    kept: Vec<Kept>,
    /// Turn and nod of the picture from the front, degrees, in the person's own directions.
    front: (f32, f32),
}

impl Guide {
    /// Nothing taken yet.
    pub fn new(rules: GuideRules) -> Self {
        Self { rules, at: 0, waited: 0, chosen_from: 0, kept: Vec::new(), front: (0.0, 0.0) }
    }

    /// What is asked for now.
    pub fn wanted(&self) -> Option<Pose> {
        Pose::ALL.get(self.at).copied()
    }

    /// Takes in the faces of one frame.
    pub fn frame(&mut self, faces: &[ExaminedFace]) -> Step {
        let (hint, keep) = self.judge(faces);
        let wanted = self.wanted();
        let hint = if wanted.is_none() { "done" } else { hint };
        Step { wanted, hint, keep, taken: self.at }
    }

    fn judge(&mut self, faces: &[ExaminedFace]) -> (&'static str, Option<(Pose, usize)>) {
        let Some(wanted) = self.wanted() else { return ("done", None) };
        let (index, face) = match nearest(faces) {
            Nearest::Nobody => return ("step in front of the camera", None),
            Nearest::Several => return ("one person only, please", None),
            Nearest::One(index) => (index, &faces[index]),
        };
        if let Err(unusable) = &face.verdict {
            return (self.unusable_hint(unusable, wanted, face.quality.as_ref()), None);
        }
        let (Some(quality), Some(embedding)) = (&face.quality, &face.embedding) else {
            return ("look at the camera", None);
        };
        if !self.is_same_person(embedding) {
            return ("this is somebody else; the first person, please, or begin again", None);
        }
        self.waited += 1;
        let pose = self.own_pose(quality);
        if let Some(hint) = out_of_pose(wanted, pose, self.front) {
            return (if self.give_up(wanted) { "then without that" } else { hint }, None);
        }
        if quality.score < self.rules.minimum_quality {
            return (if self.give_up(wanted) { "then without that" } else { poor_hint(quality) }, None);
        }
        let keep = self.choose(wanted, quality.score, embedding, pose).then_some((wanted, index));
        self.chosen_from += 1;
        if self.chosen_from >= CHOICES {
            self.go_on();
            let next = self.wanted().map_or("done", Pose::request);
            return (next, keep);
        }
        ("hold still", keep)
    }

    /// Whether this is the best frame of the pose so far; remembers it then.
    fn choose(
        &mut self,
        pose: Pose,
        quality: QualityScore,
        embedding: &Embedding,
        looks: (f32, f32),
    ) -> bool {
        let before = self.kept.iter().position(|kept| kept.pose == pose);
        if before.is_some_and(|at| self.kept[at].quality >= quality) {
            return false;
        }
        if let Some(at) = before {
            self.kept.remove(at);
        }
        if pose == Pose::Front {
            self.front = looks;
        }
        self.kept.push(Kept { pose, quality, embedding: embedding.clone() });
        true
    }

    fn go_on(&mut self) {
        self.at += 1;
        self.waited = 0;
        self.chosen_from = 0;
    }

    /// Goes on without a pose that does not come. Without the one from the front nothing goes.
    fn give_up(&mut self, wanted: Pose) -> bool {
        let over = wanted != Pose::Front && self.waited >= PATIENCE;
        if over {
            self.go_on();
        }
        over
    }

    fn is_same_person(&self, embedding: &Embedding) -> bool {
        // Of another space nothing is comparable; the examiner makes embeddings of one.
        let scores = self.kept.iter().filter_map(|kept| kept.embedding.compare(embedding).ok());
        self.kept.is_empty() || scores.into_iter().any(|score| score >= self.rules.agreement)
    }

    /// Turn to the person's left and nod upwards, degrees.
    fn own_pose(&self, quality: &Quality) -> (f32, f32) {
        // Facing the camera, a person's left is on the picture's right, where yaw is positive.
        let to_left = if self.rules.mirrored { -quality.yaw_deg } else { quality.yaw_deg };
        (to_left, quality.pitch_deg)
    }

    fn unusable_hint(&self, unusable: &Unusable, wanted: Pose, quality: Option<&Quality>) -> &'static str {
        match unusable {
            Unusable::NotAFace { .. } => "look at the camera",
            Unusable::CutByFrame { .. } => "move to the middle of the picture",
            Unusable::TooFar { .. } => "come closer",
            Unusable::TurnedAway { .. } | Unusable::LookingUpOrDown { .. } => {
                let turned = quality.map(|quality| self.own_pose(quality));
                match (wanted, turned) {
                    (Pose::Front, _) | (_, None) => "look at the camera",
                    (_, Some(_)) => "not so far; back towards the camera a little",
                }
            }
            Unusable::Tilted { .. } => "hold your head upright",
            Unusable::TooDark { .. } => "more light on the face, please",
            Unusable::TooBright { .. } => "less light on the face, please",
            Unusable::Blurred { .. } => "hold still",
        }
    }
}

enum Nearest {
    Nobody,
    Several,
    One(usize),
}

/// The face that is meant: the largest, unless another one is nearly as large.
fn nearest(faces: &[ExaminedFace]) -> Nearest {
    let mut by_size: Vec<_> = (0..faces.len()).collect();
    let area = |at: &usize| faces[*at].detection.bbox.area();
    by_size.sort_by(|left, right| area(right).total_cmp(&area(left)));
    match by_size.as_slice() {
        [] => Nearest::Nobody,
        [first, second, ..] if area(second) > BACKGROUND * area(first) => Nearest::Several,
        [first, ..] => Nearest::One(*first),
    }
}

/// What to tell somebody who is not in the wanted pose.
fn out_of_pose(wanted: Pose, (turn, nod): (f32, f32), front: (f32, f32)) -> Option<&'static str> {
    let (turned, nodded) = (turn - front.0, nod - front.1);
    let towards = |value: f32, stray: f32, range: (f32, f32)| {
        if value > range.1 {
            Some("not so far; back towards the camera a little")
        } else if value < range.0 || stray.abs() > STRAY_DEG {
            Some(wanted.request())
        } else {
            None
        }
    };
    match wanted {
        Pose::Front if turn.abs() > FRONT_YAW_DEG || nod.abs() > FRONT_PITCH_DEG => Some(wanted.request()),
        Pose::Front => None,
        Pose::Left => towards(turned, nodded, TURN_DEG),
        Pose::Right => towards(-turned, nodded, TURN_DEG),
        Pose::Up => towards(nodded, turned, NOD_DEG),
        Pose::Down => towards(-nodded, turned, NOD_DEG),
    }
}

/// What most likely makes a usable face a poor one.
fn poor_hint(quality: &Quality) -> &'static str {
    if quality.eye_distance_px < 36.0 {
        "come closer"
    } else if quality.sharpness < 0.25 {
        "hold still"
    } else if quality.exposure < 60.0 {
        "more light on the face, please"
    } else if quality.exposure > 205.0 {
        "less light on the face, please"
    } else {
        "hold still, in even light"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Detection;
    use crate::embedding::EmbeddingSpaceId;
    use crate::geometry::{PixelBox, Point};
    use crate::score::DetectionScore;

    const RULES: fn() -> GuideRules = || GuideRules {
        minimum_quality: QualityScore::new(0.4),
        agreement: ComparisonScore::new(0.36),
        mirrored: false,
    };

    fn embedding(person: usize) -> Embedding {
        let mut values = vec![0.0; 4];
        values[person] = 1.0;
        Embedding::normalised(values, EmbeddingSpaceId::new("test")).unwrap()
    }

    fn face(yaw_deg: f32, pitch_deg: f32, score: f32) -> ExaminedFace {
        ExaminedFace {
            detection: Detection {
                bbox: PixelBox::new(0.0, 0.0, 100.0, 100.0),
                keypoints: [Point::new(0.0, 0.0); 6],
                score: DetectionScore::MAX,
            },
            quality: Some(Quality {
                score: QualityScore::new(score),
                eye_distance_px: 60.0,
                sharpness: 0.5,
                exposure: 120.0,
                yaw_deg,
                pitch_deg,
                roll_deg: 0.0,
                face_presence: 1.0,
                inside: 1.0,
            }),
            verdict: Ok(()),
            embedding: Some(embedding(0)),
        }
    }

    fn of(person: usize, face: ExaminedFace) -> ExaminedFace {
        ExaminedFace { embedding: Some(embedding(person)), ..face }
    }

    fn unusable(why: Unusable) -> ExaminedFace {
        ExaminedFace { verdict: Err(why), embedding: None, ..face(0.0, 0.0, 0.1) }
    }

    fn small(face: ExaminedFace) -> ExaminedFace {
        let bbox = PixelBox::new(0.0, 0.0, 40.0, 40.0);
        ExaminedFace { detection: Detection { bbox, ..face.detection.clone() }, ..face }
    }

    /// The poses that were kept, in order, while these faces came one after the other.
    fn run(guide: &mut Guide, faces: &[ExaminedFace]) -> Vec<Pose> {
        faces.iter().filter_map(|face| guide.frame(std::slice::from_ref(face)).keep).map(|(p, _)| p).collect()
    }

    fn past_the_front(guide: &mut Guide) {
        run(guide, &vec![face(0.0, 0.0, 0.8); CHOICES as usize]);
        assert_eq!(guide.wanted(), Some(Pose::Left));
    }

    #[test]
    fn poses_are_taken_one_after_the_other_in_the_persons_own_directions() {
        let mut guide = Guide::new(RULES());
        let mut asked = Vec::new();
        for (yaw, pitch) in [(0.0, 0.0), (20.0, 0.0), (-20.0, 0.0), (0.0, 12.0), (0.0, -12.0)] {
            asked.push(guide.wanted().unwrap());
            let kept = run(&mut guide, &vec![face(yaw, pitch, 0.8); CHOICES as usize]);
            assert_eq!(kept, [*asked.last().unwrap()], "the first of equal ones is kept");
        }
        assert_eq!(asked, Pose::ALL);
        let step = guide.frame(&[face(0.0, 0.0, 0.9)]);
        assert_eq!((step.wanted, step.taken, step.keep), (None, 5, None));
    }

    #[test]
    fn in_a_mirrored_picture_left_is_on_the_other_side() {
        let mut guide = Guide::new(GuideRules { mirrored: true, ..RULES() });
        past_the_front(&mut guide);
        assert_eq!(guide.frame(&[face(20.0, 0.0, 0.8)]).hint, "turn your head slightly to your left");
        assert_eq!(guide.frame(&[face(-20.0, 0.0, 0.8)]).keep, Some((Pose::Left, 0)));
    }

    #[test]
    fn of_each_pose_the_best_frame_is_kept() {
        let mut guide = Guide::new(RULES());
        let kept: Vec<_> = [0.5, 0.9, 0.7]
            .map(|score| guide.frame(&[face(0.0, 0.0, score)]).keep.is_some())
            .into_iter()
            .collect();
        assert_eq!(kept, [true, true, false]);
        assert_eq!(guide.kept.len(), 1);
        assert_eq!(guide.kept[0].quality, QualityScore::new(0.9));
    }

    #[test]
    fn turns_are_measured_from_the_picture_from_the_front() {
        // A camera above the door: everybody seems to look down.
        let mut guide = Guide::new(RULES());
        run(&mut guide, &vec![face(5.0, -15.0, 0.8); CHOICES as usize]);
        assert_eq!(guide.frame(&[face(12.0, -15.0, 0.8)]).keep, None, "seven degrees are no turn");
        assert!(guide.frame(&[face(20.0, -15.0, 0.8)]).keep.is_some());
    }

    #[test]
    fn too_far_a_turn_is_told_apart_from_none() {
        let mut guide = Guide::new(RULES());
        past_the_front(&mut guide);
        assert_eq!(guide.frame(&[face(0.0, 0.0, 0.8)]).hint, "turn your head slightly to your left");
        assert_eq!(guide.frame(&[face(33.0, 0.0, 0.8)]).hint, "not so far; back towards the camera a little");
        let away =
            ExaminedFace { verdict: Err(Unusable::TurnedAway { yaw_deg: 40.0 }), ..face(40.0, 0.0, 0.1) };
        assert_eq!(guide.frame(&[away]).hint, "not so far; back towards the camera a little");
    }

    #[test]
    fn another_person_is_not_taken_until_the_first_is_back() {
        let mut guide = Guide::new(RULES());
        past_the_front(&mut guide);
        let other = guide.frame(&[of(1, face(20.0, 0.0, 0.9))]);
        assert_eq!(other.keep, None);
        assert!(other.hint.starts_with("this is somebody else"), "{}", other.hint);
        assert!(guide.frame(&[face(20.0, 0.0, 0.8)]).keep.is_some());
        let mut anybody = Guide::new(RULES());
        assert!(anybody.frame(&[of(1, face(0.0, 0.0, 0.9))]).keep.is_some(), "the first is whoever comes");
    }

    #[test]
    fn somebody_in_the_background_is_passed_over_and_two_people_are_not() {
        let mut guide = Guide::new(RULES());
        let front = || face(0.0, 0.0, 0.8);
        assert_eq!(guide.frame(&[of(1, front()), front()]).hint, "one person only, please");
        assert_eq!(guide.frame(&[of(1, small(front())), front()]).keep, Some((Pose::Front, 1)));
        assert_eq!(guide.frame(&[]).hint, "step in front of the camera");
    }

    #[test]
    fn every_reason_has_a_hint_that_says_what_to_do() {
        let reasons = [
            (Unusable::NotAFace { face_presence: 0.1 }, "look at the camera"),
            (Unusable::CutByFrame { inside: 0.5 }, "move to the middle of the picture"),
            (Unusable::TooFar { eye_distance_px: 10.0, minimum_px: 24.0 }, "come closer"),
            (Unusable::TurnedAway { yaw_deg: 50.0 }, "look at the camera"),
            (Unusable::LookingUpOrDown { pitch_deg: 40.0 }, "look at the camera"),
            (Unusable::Tilted { roll_deg: 70.0 }, "hold your head upright"),
            (Unusable::TooDark { exposure: 9.0 }, "more light on the face, please"),
            (Unusable::TooBright { exposure: 250.0 }, "less light on the face, please"),
            (Unusable::Blurred { sharpness: 0.01 }, "hold still"),
        ];
        for (why, hint) in reasons {
            let step = Guide::new(RULES()).frame(&[unusable(why)]);
            assert_eq!((step.hint, step.keep), (hint, None), "{why:?}");
        }
    }

    #[test]
    fn poor_frames_are_not_kept() {
        let mut guide = Guide::new(RULES());
        assert_eq!(run(&mut guide, &vec![face(0.0, 0.0, 0.39); 200]), []);
        assert_eq!(guide.wanted(), Some(Pose::Front), "without a picture from the front nothing goes on");
    }

    #[test]
    fn pose_that_does_not_come_is_given_up() {
        let mut guide = Guide::new(RULES());
        past_the_front(&mut guide);
        let kept = run(&mut guide, &vec![face(0.0, 0.0, 0.8); PATIENCE as usize]);
        assert_eq!((kept, guide.wanted()), (vec![], Some(Pose::Right)));
        // Frames without a usable face do not count against anybody.
        run(&mut guide, &vec![unusable(Unusable::Blurred { sharpness: 0.0 }); 2 * PATIENCE as usize]);
        assert_eq!(guide.wanted(), Some(Pose::Right));
    }
}
