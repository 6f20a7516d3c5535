//! Measures how far the detector sees: photographs, shrunk until the eyes lie a given number of
//! pixels apart, are set into frames of smooth texture in which there is no other face.
//!
//! Each frame is searched twice: with a fixed least score, so that networks can be compared, and as
//! the appliance does it, with the least score of the manifest and the landmark network's say on
//! whether there is a face.
//!
//! Runs on the calling thread. The frames follow from the photographs alone.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::bench::random::Random;
use crate::config::Config;
use crate::decode;
use crate::detect::Detection;
use crate::frame::{FrameSize, RgbImage};
use crate::geometry::{Point, Similarity};
use crate::litert::Runtime;
use crate::models::ModelSet;
use crate::picture::{Picture, Resampler};
use crate::recognise::{Perception, nearest_the_centre};

use super::metrics::Share;
use super::protocol::Protocol;
use super::report::ModelsUsed;
use super::{EvalError, Progress, read_image};

/// Photographs used, one a person.
const PHOTOGRAPHS: usize = 150;
/// Least detection score of the comparison.
const FIXED_SCORE: f32 = 0.5;
const SEED: u64 = 0x51_6d_65_6e;

/// Frame sizes and, for each, the distances between the eyes; pixels.
const ROWS: [(FrameSize, &[u32]); 2] = [
    (FrameSize { width: 640, height: 480 }, &[16, 20, 24, 30, 40, 60, 80]),
    (FrameSize { width: 1280, height: 720 }, &[24, 30, 40, 60, 80, 120]),
];

/// What was found at one distance.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DistanceRow {
    /// Size of the frames.
    pub frame: FrameSize,
    /// Between the eyes; nominal, see [`DistanceReport::eye_distance_of_width`].
    pub eye_distance_px: u32,
    /// With the fixed least score.
    pub fixed: Found,
    /// As the appliance looks.
    pub shipped: Found,
}

/// Faces found and boxes where there is no face.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Found {
    /// Faces found, of all faces: one in each frame.
    pub faces: Share,
    /// Boxes whose centre lies outside the photograph, over all frames.
    pub wrong_boxes: usize,
}

/// The whole table.
#[derive(Clone, Debug, Serialize)]
pub struct DistanceReport {
    /// The networks.
    pub models: ModelsUsed,
    /// The fixed least detection score.
    pub fixed_score: f32,
    /// The appliance's own least detection score.
    pub shipped_score: f32,
    /// The median distance between the eyes in the photographs, as a share of their width. All
    /// photographs are shrunk alike: faces are a little nearer or farther than the row says.
    pub eye_distance_of_width: f32,
    /// One for each distance.
    pub rows: Vec<DistanceRow>,
}

/// Measures over the first listed photograph of people in `folder`. Progress counts frames.
pub fn detection_over_distance(
    folder: &Path,
    models: &ModelSet,
    runtime: &Runtime,
    config: &Config,
    progress: Progress<'_>,
) -> Result<DistanceReport, EvalError> {
    let protocol = Protocol::read(folder)?;
    let mut random = Random::new(SEED);
    let photographs = photographs(folder, &protocol, &mut random)?;
    let mut search = Search {
        perception: Perception::new(models, runtime, config)?,
        shipped_score: config
            .detection
            .minimum_score
            .unwrap_or(models.manifest.detector.decode.minimum_score),
    };
    let eye_distance_of_width = search.eye_distance_of_width(&photographs)?;
    let total = photographs.len() * ROWS.iter().map(|(_, distances)| distances.len()).sum::<usize>();
    let (mut rows, mut frames) = (Vec::new(), 0);
    let mut easel = Easel { resampler: Resampler::default(), photograph: RgbImage::black(0, 0) };
    for (size, distances) in ROWS {
        for eye_distance_px in distances.iter().copied() {
            let side = (eye_distance_px as f32 / eye_distance_of_width).round() as u32;
            let (mut fixed, mut shipped) = (Found::default(), Found::default());
            for photograph in &photographs {
                let mut frame = texture(size, &mut random);
                let corner = easel.paste(photograph, side, &mut frame, &mut random)?;
                let place = Place { corner, side: side as f32 };
                search.search(&Picture::from(&frame), &place, &mut fixed, &mut shipped)?;
                frames += 1;
                progress(frames, total);
            }
            rows.push(DistanceRow { frame: size, eye_distance_px, fixed, shipped });
        }
    }
    Ok(DistanceReport {
        models: ModelsUsed::of(models),
        fixed_score: FIXED_SCORE,
        shipped_score: search.shipped_score,
        eye_distance_of_width,
        rows,
    })
}

/// The first photograph of each of some people.
fn photographs(folder: &Path, protocol: &Protocol, random: &mut Random) -> Result<Vec<RgbImage>, EvalError> {
    // People are numbered in the order of the images: the first image of each opens a new number.
    let mut first: Vec<usize> = Vec::new();
    for (image, person) in protocol.people.iter().enumerate() {
        if *person == first.len() {
            first.push(image);
        }
    }
    random.shuffle(&mut first);
    first.truncate(PHOTOGRAPHS);
    let read = |image: usize| {
        let path = folder.join(&protocol.images[image]);
        decode::still(&read_image(&path)?)
            .map_err(|error| EvalError::Image { path, reason: error.to_string() })
    };
    first.into_iter().map(read).collect()
}

/// Where a photograph lies in a frame.
struct Place {
    corner: Point,
    side: f32,
}

impl Place {
    /// How far the middle of a box lies from the photograph's, in photographs; the greater of the
    /// two directions.
    fn distance(&self, detection: &Detection) -> f32 {
        let middle = detection.bbox.centre();
        let half = self.side / 2.0;
        let across = (middle.x - self.corner.x - half).abs();
        across.max((middle.y - self.corner.y - half).abs()) / self.side
    }
}

impl Found {
    fn count(&mut self, detections: &[Detection], place: &Place) {
        // The faces lie in the middle of their photographs.
        self.faces.cases += usize::from(detections.iter().any(|d| place.distance(d) < 0.15));
        self.faces.of += 1;
        self.wrong_boxes += detections.iter().filter(|d| place.distance(d) > 0.5).count();
    }
}

struct Search {
    perception: Perception,
    shipped_score: f32,
}

impl Search {
    fn search(
        &mut self,
        picture: &Picture<'_>,
        place: &Place,
        fixed: &mut Found,
        shipped: &mut Found,
    ) -> Result<(), EvalError> {
        self.perception.networks().0.set_minimum_score(FIXED_SCORE);
        fixed.count(&self.perception.detect(picture)?, place);
        self.perception.networks().0.set_minimum_score(self.shipped_score);
        let detections = self.perception.detect(picture)?;
        let samples = self.perception.examine_each(picture, &detections)?;
        let faces: Vec<_> = samples.into_iter().map(|sample| sample.detection).collect();
        shipped.count(&faces, place);
        Ok(())
    }

    fn eye_distance_of_width(&mut self, photographs: &[RgbImage]) -> Result<f32, EvalError> {
        let mut found = Vec::new();
        for photograph in photographs {
            let picture = Picture::from(photograph);
            let faces = self.perception.examine_all(&picture)?;
            if let Some(shape) = nearest_the_centre(faces, &picture).and_then(|face| face.shape) {
                found.push(shape.points.eye_distance_px() / photograph.width() as f32);
            }
        }
        found.sort_unstable_by(f32::total_cmp);
        // Too small a share would ask for pictures of any size.
        Ok(found.get(found.len() / 2).copied().unwrap_or_default().clamp(0.05, 1.0))
    }
}

/// Shrinks photographs and sets them into frames.
struct Easel {
    resampler: Resampler,
    photograph: RgbImage,
}

impl Easel {
    /// Sets `photograph`, fitted into a square of `side` pixels, somewhere into `frame`, and returns
    /// its upper left corner. A square larger than the frame loses its lower and right edge.
    fn paste(
        &mut self,
        photograph: &RgbImage,
        side: u32,
        frame: &mut RgbImage,
        random: &mut Random,
    ) -> Result<Point, EvalError> {
        self.resampler.letterbox(&Picture::from(photograph), side, 1.0, &mut self.photograph)?;
        let FrameSize { width, height } = frame.size();
        let x = random.below(width.saturating_sub(side) + 1) as usize;
        let y = random.below(height.saturating_sub(side) + 1) as usize;
        let columns = side.min(width) as usize * 3;
        let rows = frame.pixels_mut().chunks_exact_mut(width as usize * 3).skip(y);
        for (to, from) in rows.zip(self.photograph.pixels().chunks_exact(side as usize * 3)) {
            to[x * 3..x * 3 + columns].copy_from_slice(&from[..columns]);
        }
        Ok(Point::new(x as f32, y as f32))
    }
}

/// Patches of colour about 40 pixels across that run into each other, with a little noise.
fn texture(size: FrameSize, random: &mut Random) -> RgbImage {
    const PATCH: u32 = 40;
    let (columns, rows) = (size.width / PATCH + 2, size.height / PATCH + 2);
    let colours = (0..columns * rows * 3).map(|_| 40 + random.below(175) as u8).collect::<Vec<_>>();
    let level = |row: u32, column: u32, channel: u32| {
        f32::from(colours[((row * columns + column) * 3 + channel) as usize])
    };
    let mut pixels = Vec::with_capacity(size.width as usize * size.height as usize * 3);
    let to_patches = Similarity { a: 1.0 / PATCH as f32, b: 0.0, tx: 0.0, ty: 0.0 };
    // Eased, so that neither the patches nor the seams between them have an edge.
    let eased = |t: f32| t * t * (3.0 - 2.0 * t);
    for y in 0..size.height {
        for x in 0..size.width {
            let at = to_patches.apply(Point::new(x as f32, y as f32));
            let (column, row) = (at.x as u32, at.y as u32);
            let (right, down) = (eased(at.x.fract()), eased(at.y.fract()));
            for channel in 0..3 {
                let mix = |from: f32, to: f32, share: f32| from + (to - from) * share;
                let upper = mix(level(row, column, channel), level(row, column + 1, channel), right);
                let lower = mix(level(row + 1, column, channel), level(row + 1, column + 1, channel), right);
                let noise = random.below(17) as f32 - 8.0;
                pixels.push((mix(upper, lower, down) + noise) as u8);
            }
        }
    }
    RgbImage::from_pixels(size.width, size.height, pixels).expect("three channels a pixel were written")
}

impl fmt::Display for DistanceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "detector   {}", self.models.detector)?;
        writeln!(f, "landmarks  {}", self.models.landmarks)?;
        writeln!(f, "eyes are {:.1} % of a photograph's width apart\n", self.eye_distance_of_width * 100.0)?;
        writeln!(
            f,
            "                       score {:.2}             score {:.2} and face presence",
            self.fixed_score, self.shipped_score
        )?;
        write!(f, "frame      eyes, px    recall  wrong boxes    recall  wrong boxes   frames")?;
        for DistanceRow { frame, eye_distance_px, fixed, shipped } in &self.rows {
            write!(
                f,
                "\n{:9}  {eye_distance_px:8}  {:6.1} %  {:11}  {:6.1} %  {:11}   {:6}",
                frame.to_string(),
                fixed.faces.percent(),
                fixed.wrong_boxes,
                shipped.faces.percent(),
                shipped.wrong_boxes,
                fixed.faces.of
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::KEYPOINTS;
    use crate::geometry::PixelBox;
    use crate::score::DetectionScore;

    fn at(x: f32, y: f32) -> Detection {
        Detection {
            bbox: PixelBox::new(x - 5.0, y - 5.0, x + 5.0, y + 5.0),
            keypoints: [Point::default(); KEYPOINTS],
            score: DetectionScore::new(0.9),
        }
    }

    #[test]
    fn box_in_the_middle_counts_as_the_face_and_one_outside_as_wrong() {
        let place = Place { corner: Point::new(100.0, 50.0), side: 40.0 };
        let mut found = Found::default();
        found.count(&[at(121.0, 69.0), at(10.0, 10.0), at(132.0, 70.0)], &place);
        found.count(&[], &place);
        assert_eq!(found.faces, Share { cases: 1, of: 2 });
        assert_eq!(found.wrong_boxes, 1);
    }

    #[test]
    fn photograph_lies_where_the_place_says() {
        let white = RgbImage::from_pixels(8, 8, vec![255; 8 * 8 * 3]).unwrap();
        let mut easel = Easel { resampler: Resampler::default(), photograph: RgbImage::black(0, 0) };
        let mut random = Random::new(3);
        for _ in 0..20 {
            let mut frame = texture(FrameSize { width: 60, height: 40 }, &mut random);
            let corner = easel.paste(&white, 16, &mut frame, &mut random).unwrap();
            let (x, y) = (corner.x as u32, corner.y as u32);
            assert_eq!((frame.pixel(x, y), frame.pixel(x + 15, y + 15)), ([255; 3], [255; 3]));
            let whites = frame.pixels().chunks_exact(3).filter(|rgb| **rgb == [255; 3]).count();
            assert_eq!(whites, 16 * 16);
        }
    }
}
