//! Face detection with BlazeFace: letterbox, one inference, anchors, weighted non-maximum
//! suppression. Results are in source-image pixels before anyone sees them.
//!
//! Method: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs",
//! 2019. The pure parts are [`AnchorGrid`], [`Candidate::decode`] and [`merge_overlapping`].

use crate::frame::RgbImage;
use crate::geometry::{PixelBox, Point};
use crate::litert::{Interpreter, LitertError, OutputView, Runtime};
use crate::models::{Anchors, DetectionDecode, ModelError, ModelSet, PixelInput, Role};
use crate::picture::{Letterbox, Picture, PictureError, Resampler};
use crate::score::DetectionScore;

/// Key points of a BlazeFace detection.
pub const KEYPOINTS: usize = 6;
/// Numbers the network gives for each anchor: box centre, box size, key points; two each.
const VALUES_PER_ANCHOR: usize = 2 * (2 + KEYPOINTS);

/// A face found in a picture; everything in source-image pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Around the face, from the brows to the chin. May reach beyond the picture.
    pub bbox: PixelBox,
    /// Eye on the image's left, eye on its right, nose tip, middle of the mouth, tragion on the
    /// left, tragion on the right.
    pub keypoints: [Point; KEYPOINTS],
    /// The detector's own score.
    pub score: DetectionScore,
}

/// Why a picture could not be searched for faces.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The picture could not be brought to the network's size.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Inference failed.
    #[error(transparent)]
    Litert(#[from] LitertError),
}

/// The detector network with its anchors. Belongs to one thread.
pub struct Detector {
    interpreter: Interpreter,
    anchors: AnchorGrid,
    decode: DetectionDecode,
    side: u32,
    input: PixelInput,
    boxes: usize,
    scores: usize,
    square: RgbImage,
}

impl Detector {
    /// Compiles the detector of `models`.
    pub fn new(models: &ModelSet, runtime: &Runtime, threads: u8) -> Result<Self, ModelError> {
        let spec = &models.manifest.detector;
        let side = spec.input_side();
        Ok(Self {
            interpreter: models.interpreter(runtime, Role::Detector, threads)?,
            anchors: AnchorGrid::new(&spec.anchors, side),
            decode: spec.decode.clone(),
            side,
            input: spec.pixel_input(),
            boxes: spec.output_index("boxes"),
            scores: spec.output_index("scores"),
            square: RgbImage::black(0, 0),
        })
    }

    /// Sets the least detection score, 0.01 to 0.99.
    pub fn set_minimum_score(&mut self, minimum: f32) {
        self.decode.minimum_score = minimum.clamp(0.01, 0.99);
    }

    /// Finds the faces of `picture`, best first.
    pub fn detect(
        &mut self,
        picture: &Picture<'_>,
        resampler: &mut Resampler,
    ) -> Result<Vec<Detection>, DetectError> {
        self.detect_at(picture, 1.0, resampler)
    }

    /// Looks again at a picture in which nobody was found, made smaller, for a face that is too
    /// large for the network.
    pub fn detect_large(
        &mut self,
        picture: &Picture<'_>,
        resampler: &mut Resampler,
    ) -> Result<Vec<Detection>, DetectError> {
        self.detect_at(picture, self.decode.retry_fill, resampler)
    }

    fn detect_at(
        &mut self,
        picture: &Picture<'_>,
        fill: f32,
        resampler: &mut Resampler,
    ) -> Result<Vec<Detection>, DetectError> {
        let fit = resampler.letterbox(picture, self.side, fill, &mut self.square)?;
        self.input.fill(self.square.pixels(), self.interpreter.input_mut(0));
        self.interpreter.run()?;
        let side = self.side as f32;
        let (scores, boxes) = (self.interpreter.output(self.scores), self.interpreter.output(self.boxes));
        let candidates = Candidate::decode(scores, boxes, &self.anchors, &self.decode, side);
        let merged = merge_overlapping(candidates, self.decode.nms_iou);
        Ok(merged.iter().map(|candidate| candidate.in_source(&fit, side)).collect())
    }

    /// One inference on whatever the input holds, for benchmarks.
    pub fn invoke(&mut self) -> Result<(), LitertError> {
        self.interpreter.run()
    }
}

/// Centres of all anchors, as fractions of the input's side.
#[derive(Debug)]
pub struct AnchorGrid(Vec<Point>);

impl AnchorGrid {
    /// Lays a grid of cells for each stride and puts the anchors at the cells' centres.
    pub fn new(anchors: &Anchors, side: u32) -> Self {
        let mut centres = Vec::new();
        for (stride, per_cell) in anchors.strides.iter().zip(&anchors.per_cell) {
            let cells = side.div_ceil(*stride);
            for row in 0..cells {
                for column in 0..cells {
                    let at = |index: u32| (index as f32 + 0.5) / cells as f32;
                    let centre = Point::new(at(column), at(row));
                    centres.extend(std::iter::repeat_n(centre, *per_cell as usize));
                }
            }
        }
        Self(centres)
    }
}

/// A detection before suppression, in fractions of the input's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    bbox: PixelBox,
    keypoints: [Point; KEYPOINTS],
    score: f32,
}

impl Candidate {
    /// Reads every anchor whose score reaches the minimum. Candidates with impossible boxes are
    /// dropped.
    fn decode(
        scores: OutputView<'_>,
        boxes: OutputView<'_>,
        anchors: &AnchorGrid,
        decode: &DetectionDecode,
        side: f32,
    ) -> Vec<Self> {
        // The least score as a raw logit, so that the sigmoid is computed for survivors only.
        let least = (decode.minimum_score / (1.0 - decode.minimum_score)).ln();
        let mut found = Vec::new();
        for (index, anchor) in anchors.0.iter().enumerate() {
            let raw = scores.get(index);
            if raw.is_nan() || raw < least {
                continue;
            }
            let value = |at: usize| boxes.get(index * VALUES_PER_ANCHOR + at) / side;
            let relative = |at: usize| Point::new(value(at) + anchor.x, value(at + 1) + anchor.y);
            let (centre, width, height) = (relative(0), value(2), value(3));
            let bbox = PixelBox::new(
                centre.x - width / 2.0,
                centre.y - height / 2.0,
                centre.x + width / 2.0,
                centre.y + height / 2.0,
            );
            if width > 0.0 && height > 0.0 && bbox.area().is_finite() {
                let keypoints = std::array::from_fn(|k| relative(4 + 2 * k));
                let score = sigmoid(raw.clamp(-decode.score_clip, decode.score_clip));
                found.push(Self { bbox, keypoints, score });
            }
        }
        found
    }

    fn in_source(&self, fit: &Letterbox, side: f32) -> Detection {
        let place = |x: f32, y: f32| fit.to_source(Point::new(x * side, y * side));
        let upper_left = place(self.bbox.left, self.bbox.top);
        let lower_right = place(self.bbox.right, self.bbox.bottom);
        Detection {
            bbox: PixelBox::new(upper_left.x, upper_left.y, lower_right.x, lower_right.y),
            keypoints: self.keypoints.map(|point| place(point.x, point.y)),
            score: DetectionScore::new(self.score),
        }
    }
}

/// Logistic function.
pub(crate) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Weighted non-maximum suppression: the best candidate absorbs all that overlap it by more than
/// `iou`, each counting by its score; the score stays the best one's. Best first.
pub fn merge_overlapping(mut candidates: Vec<Candidate>, iou: f32) -> Vec<Candidate> {
    candidates.sort_by(|left, right| right.score.total_cmp(&left.score));
    let mut merged = Vec::new();
    while let Some(best) = candidates.first().cloned() {
        let (group, rest): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|other| *other == best || other.bbox.iou(&best.bbox) > iou);
        candidates = rest;
        merged.push(weighted_mean(&group, best.score));
    }
    merged
}

fn weighted_mean(group: &[Candidate], score: f32) -> Candidate {
    let total: f32 = group.iter().map(|candidate| candidate.score).sum();
    let mean = |value: &dyn Fn(&Candidate) -> f32| -> f32 {
        group.iter().map(|candidate| value(candidate) * candidate.score / total).sum()
    };
    Candidate {
        bbox: PixelBox::new(
            mean(&|c| c.bbox.left),
            mean(&|c| c.bbox.top),
            mean(&|c| c.bbox.right),
            mean(&|c| c.bbox.bottom),
        ),
        keypoints: std::array::from_fn(|k| {
            Point::new(mean(&|c| c.keypoints[k].x), mean(&|c| c.keypoints[k].y))
        }),
        score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(left: f32, size: f32, score: f32) -> Candidate {
        let bbox = PixelBox::new(left, 0.0, left + size, size);
        Candidate { bbox, keypoints: [Point::new(left, score); KEYPOINTS], score }
    }

    #[test]
    fn full_range_has_one_anchor_in_each_of_48_by_48_cells() {
        let grid = AnchorGrid::new(&Anchors { strides: vec![4], per_cell: vec![1] }, 192);
        assert_eq!(grid.0.len(), 2304);
        assert_eq!(grid.0[0], Point::new(0.5 / 48.0, 0.5 / 48.0));
        assert_eq!(grid.0[49], Point::new(1.5 / 48.0, 1.5 / 48.0));
    }

    #[test]
    fn short_range_has_896_anchors() {
        let grid = AnchorGrid::new(&Anchors { strides: vec![8, 16], per_cell: vec![2, 6] }, 128);
        assert_eq!(grid.0.len(), 896);
    }

    #[test]
    fn nms_merges_overlapping_boxes_by_score() {
        let merged = merge_overlapping(vec![candidate(0.1, 1.0, 0.2), candidate(0.0, 1.0, 0.6)], 0.3);
        assert_eq!(merged.len(), 1);
        assert!((merged[0].bbox.left - 0.025).abs() < 1e-6);
        assert_eq!(merged[0].score, 0.6);
    }

    #[test]
    fn nms_keeps_separate_faces_best_first() {
        let merged = merge_overlapping(vec![candidate(0.0, 1.0, 0.6), candidate(5.0, 1.0, 0.9)], 0.3);
        assert_eq!(merged.iter().map(|c| c.score).collect::<Vec<_>>(), [0.9, 0.6]);
    }

    #[test]
    fn sigmoid_is_finite_at_the_clip() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert!(sigmoid(-100.0) >= 0.0 && sigmoid(100.0) <= 1.0);
    }
}
