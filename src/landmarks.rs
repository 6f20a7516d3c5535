//! Face mesh: 468 points on one face, in source-image pixels, and the probability that there is a
//! face at all.
//!
//! Method: Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile
//! GPUs", 2019. The network looks at a square around the detection, rotated so that the eyes are
//! level.

use crate::detect::{DetectError, Detection, sigmoid};
use crate::frame::RgbImage;
use crate::geometry::{Point, Similarity};
use crate::litert::{Interpreter, LitertError, Runtime};
use crate::models::{ModelError, ModelSet, PixelInput, Role};
use crate::picture::{Picture, Resampler};

/// Points of the mesh.
pub const MESH_POINTS: usize = 468;

/// Mesh points that lie around each eye, at the nose tip and in the mouth corners; the alignment
/// template was measured with exactly these.
const EYE_IMAGE_LEFT: [usize; 4] = [33, 133, 159, 145];
const EYE_IMAGE_RIGHT: [usize; 4] = [362, 263, 386, 374];
const NOSE_TIP: [usize; 2] = [1, 4];
const MOUTH_IMAGE_LEFT: usize = 61;
const MOUTH_IMAGE_RIGHT: usize = 291;
/// Outline points for the pose: outer eye corners, top of the forehead, bottom of the chin.
const OUTER_EYE_IMAGE_LEFT: usize = 33;
const OUTER_EYE_IMAGE_RIGHT: usize = 263;
const FOREHEAD: usize = 10;
const CHIN: usize = 152;

/// The five points that alignment uses, in source-image pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FivePoints {
    /// Middle of the eye on the image's left.
    pub eye_image_left: Point,
    /// Middle of the eye on the image's right.
    pub eye_image_right: Point,
    /// Tip of the nose.
    pub nose_tip: Point,
    /// Corner of the mouth on the image's left.
    pub mouth_image_left: Point,
    /// Corner of the mouth on the image's right.
    pub mouth_image_right: Point,
}

impl FivePoints {
    /// In the order of the alignment template.
    pub fn as_array(&self) -> [Point; 5] {
        [
            self.eye_image_left,
            self.eye_image_right,
            self.nose_tip,
            self.mouth_image_left,
            self.mouth_image_right,
        ]
    }

    /// Distance between the eyes, pixels.
    pub fn eye_distance_px(&self) -> f32 {
        self.eye_image_left.distance(self.eye_image_right)
    }
}

/// Which way a head is turned, degrees. Zero is facing the camera upright.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadPose {
    /// Positive: the face is turned towards the image's right.
    pub yaw_deg: f32,
    /// Positive: the face looks up.
    pub pitch_deg: f32,
    /// Positive: the head leans clockwise in the image.
    pub roll_deg: f32,
}

/// One face's points and presence.
#[derive(Clone, Debug, PartialEq)]
pub struct Landmarks {
    /// x, y in source-image pixels; z in the same unit, towards the camera negative.
    mesh: Vec<[f32; 3]>,
    /// Probability that the region shows a face, 0 to 1.
    pub face_presence: f32,
}

impl Landmarks {
    /// Wraps a mesh; `None` unless it has [`MESH_POINTS`] finite points.
    pub fn new(mesh: Vec<[f32; 3]>, face_presence: f32) -> Option<Self> {
        let finite = mesh.as_flattened().iter().all(|value| value.is_finite());
        (mesh.len() == MESH_POINTS && finite).then_some(Self { mesh, face_presence })
    }

    /// Point `index` of the mesh in the picture.
    pub fn point(&self, index: usize) -> Point {
        Point::new(self.mesh[index][0], self.mesh[index][1])
    }

    /// All points in the picture.
    pub fn points(&self) -> impl ExactSizeIterator<Item = Point> {
        self.mesh.iter().map(|[x, y, _]| Point::new(*x, *y))
    }

    /// The points for alignment.
    pub fn five_points(&self) -> FivePoints {
        let mean =
            |indices: &[usize]| Point::mean(&indices.iter().map(|i| self.point(*i)).collect::<Vec<_>>());
        FivePoints {
            eye_image_left: mean(&EYE_IMAGE_LEFT),
            eye_image_right: mean(&EYE_IMAGE_RIGHT),
            nose_tip: mean(&NOSE_TIP),
            mouth_image_left: self.point(MOUTH_IMAGE_LEFT),
            mouth_image_right: self.point(MOUTH_IMAGE_RIGHT),
        }
    }

    /// Head pose from the mesh's own depth: the eye line and the forehead-chin line span the plane
    /// of the face, whose normal points where the head is turned.
    pub fn head_pose(&self) -> HeadPose {
        let between = |from: usize, to: usize| {
            let (from, to) = (self.mesh[from], self.mesh[to]);
            [to[0] - from[0], to[1] - from[1], to[2] - from[2]]
        };
        let right = between(OUTER_EYE_IMAGE_LEFT, OUTER_EYE_IMAGE_RIGHT);
        let down = between(FOREHEAD, CHIN);
        let roll = right[1].atan2(right[0]);
        // In a frame rotated by the roll, so that yaw and pitch do not mix.
        let level =
            |[x, y, z]: [f32; 3]| [x * roll.cos() + y * roll.sin(), -x * roll.sin() + y * roll.cos(), z];
        let (right, down) = (level(right), level(down));
        HeadPose {
            yaw_deg: right[2].atan2(right[0]).to_degrees(),
            pitch_deg: down[2].atan2(down[1]).to_degrees(),
            roll_deg: roll.to_degrees(),
        }
    }
}

/// The landmark network. Belongs to one thread.
pub struct LandmarkFinder {
    interpreter: Interpreter,
    side: u32,
    scale: f32,
    input: PixelInput,
    points: usize,
    presence: usize,
    crop: RgbImage,
}

impl LandmarkFinder {
    /// Compiles the landmark network of `models`.
    pub fn new(models: &ModelSet, runtime: &Runtime, threads: u8) -> Result<Self, ModelError> {
        let spec = &models.manifest.landmarks;
        Ok(Self {
            interpreter: models.interpreter(runtime, Role::Landmarks, threads)?,
            side: spec.input_side(),
            scale: spec.region.scale,
            input: spec.pixel_input(),
            points: spec.output_index("points"),
            presence: spec.output_index("presence"),
            crop: RgbImage::black(0, 0),
        })
    }

    /// Finds the points of the face that `detection` shows; `None` when the network's answer is not
    /// a face shape at all.
    pub fn find(
        &mut self,
        picture: &Picture<'_>,
        detection: &Detection,
        resampler: &mut Resampler,
    ) -> Result<Option<Landmarks>, DetectError> {
        let Some(to_source) = region_around(detection, self.scale, self.side) else { return Ok(None) };
        resampler.cut(picture, &to_source, self.side, &mut self.crop)?;
        self.input.fill(self.crop.pixels(), self.interpreter.input_mut(0));
        self.interpreter.run()?;
        let face_presence = sigmoid(self.interpreter.output(self.presence).get(0));
        let raw = self.interpreter.output_f32(self.points);
        let depth_scale = to_source.scale();
        let mesh = raw
            .as_chunks::<3>()
            .0
            .iter()
            .map(|[x, y, z]| {
                let point = to_source.apply(Point::new(*x, *y));
                [point.x, point.y, z * depth_scale]
            })
            .collect();
        Ok(Landmarks::new(mesh, face_presence))
    }

    /// One inference on whatever the input holds, for benchmarks.
    pub fn invoke(&mut self) -> Result<(), LitertError> {
        self.interpreter.run()
    }
}

/// From the pixels of the network's input to source pixels: a square of `scale` times the box's
/// longer side around the box's centre, turned so that the eyes are level.
fn region_around(detection: &Detection, scale: f32, side: u32) -> Option<Similarity> {
    let [left, right, ..] = detection.keypoints;
    let (dx, dy) = (right.x - left.x, right.y - left.y);
    let length = dx.hypot(dy);
    let size = scale * detection.bbox.width().max(detection.bbox.height());
    if !(length > 1e-3 && size > 1.0 && size.is_finite() && length.is_finite()) {
        return None;
    }
    let step = size / side as f32;
    let (a, b) = (step * dx / length, step * dy / length);
    let centre = detection.bbox.centre();
    let middle = side as f32 / 2.0;
    Some(Similarity {
        a,
        b,
        tx: centre.x - (a * middle - b * middle),
        ty: centre.y - (b * middle + a * middle),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::PixelBox;
    use crate::score::DetectionScore;

    fn detection(left_eye: Point, right_eye: Point) -> Detection {
        let mut keypoints = [Point::default(); 6];
        (keypoints[0], keypoints[1]) = (left_eye, right_eye);
        Detection { bbox: PixelBox::new(100.0, 100.0, 200.0, 200.0), keypoints, score: DetectionScore::MAX }
    }

    #[test]
    fn region_is_centred_on_the_box_and_levels_the_eyes() {
        let region =
            region_around(&detection(Point::new(120.0, 120.0), Point::new(160.0, 160.0)), 1.5, 192).unwrap();
        assert!(region.apply(Point::new(96.0, 96.0)).distance(Point::new(150.0, 150.0)) < 1e-3);
        let (left, right) = (region.apply(Point::new(0.0, 96.0)), region.apply(Point::new(192.0, 96.0)));
        assert!((left.distance(right) - 150.0).abs() < 1e-3);
        assert!(((right.y - left.y).atan2(right.x - left.x).to_degrees() - 45.0).abs() < 1e-3);
    }

    #[test]
    fn detection_without_eyes_or_size_has_no_region() {
        let same = Point::new(120.0, 120.0);
        assert!(region_around(&detection(same, same), 1.5, 192).is_none());
        let mut infinite = detection(same, Point::new(160.0, 120.0));
        infinite.bbox.right = f32::INFINITY;
        assert!(region_around(&infinite, 1.5, 192).is_none());
    }

    /// A flat face turned by `yaw`, then leaned by `roll`.
    fn turned(yaw_deg: f32, roll_deg: f32) -> Landmarks {
        let mut mesh = vec![[0.0; 3]; MESH_POINTS];
        mesh[OUTER_EYE_IMAGE_LEFT] = [-30.0, 0.0, 0.0];
        mesh[OUTER_EYE_IMAGE_RIGHT] = [30.0, 0.0, 0.0];
        mesh[FOREHEAD] = [0.0, -40.0, 0.0];
        mesh[CHIN] = [0.0, 60.0, 0.0];
        let (yaw, roll) = (yaw_deg.to_radians(), roll_deg.to_radians());
        for point in &mut mesh {
            let [x, y, _] = *point;
            let (x, z) = (x * yaw.cos(), x * yaw.sin());
            *point = [x * roll.cos() - y * roll.sin(), x * roll.sin() + y * roll.cos(), z];
        }
        Landmarks::new(mesh, 1.0).unwrap()
    }

    #[test]
    fn head_pose_separates_yaw_from_roll() {
        for (yaw, roll) in [(0.0, 0.0), (25.0, 0.0), (-40.0, 0.0), (0.0, 30.0), (20.0, -35.0)] {
            let pose = turned(yaw, roll).head_pose();
            assert!((pose.yaw_deg - yaw).abs() < 0.1, "{pose:?} for yaw {yaw}");
            assert!((pose.roll_deg - roll).abs() < 0.1, "{pose:?} for roll {roll}");
            assert!(pose.pitch_deg.abs() < 0.1, "{pose:?}");
        }
    }

    #[test]
    fn mesh_with_missing_or_infinite_points_is_no_face() {
        assert!(Landmarks::new(vec![[0.0; 3]; 467], 1.0).is_none());
        assert!(Landmarks::new(vec![[f32::NAN; 3]; MESH_POINTS], 1.0).is_none());
    }
}
