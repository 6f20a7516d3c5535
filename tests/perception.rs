//! Perception on real faces in other circumstances than a portrait: leaning heads, several people,
//! every pixel format a camera sends, blur, darkness, distance.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test; its figures are its output")]

use std::path::{Path, PathBuf};

use limen::clock::Monotonic;
use limen::config::Config;
use limen::decode::{Decoder, still};
use limen::embedding::Embedding;
use limen::frame::{FrameId, FrameSize, PixelFormat, RawFrame, RgbImage};
use limen::geometry::Similarity;
use limen::install;
use limen::models::ModelSet;
use limen::picture::{Picture, Resampler};
use limen::quality::Unusable;
use limen::recognise::{FaceSample, Perception};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn perception() -> (Perception, f32) {
    let config = Config::load(None).unwrap();
    let models = ModelSet::load(&root().join("models")).unwrap();
    let runtime = models.runtime(&install::litert_library(&config)).unwrap();
    let threshold = models.manifest.embedder.thresholds.verification;
    (Perception::new(&models, &runtime, &config).unwrap(), threshold)
}

fn portrait(name: &str) -> RgbImage {
    let path: &Path = &root().join("tests/fixtures/portraits").join(name).with_extension("jpg");
    still(&std::fs::read(path).unwrap()).unwrap()
}

/// Draws `image` into a grey frame: turned by `degrees` about its middle, `scale` times its size,
/// its middle at `(x, y)`.
fn placed(frame: &mut RgbImage, image: &RgbImage, degrees: f32, scale: f32, x: f32, y: f32) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (width, height) = (image.width() as f32, image.height() as f32);
    for row in 0..frame.height() {
        for column in 0..frame.width() {
            let (dx, dy) = (column as f32 - x, row as f32 - y);
            let (u, v) =
                ((cos * dx + sin * dy) / scale + width / 2.0, (cos * dy - sin * dx) / scale + height / 2.0);
            if u >= 0.0 && v >= 0.0 && u < width && v < height {
                let at = (row as usize * frame.width() as usize + column as usize) * 3;
                frame.pixels_mut()[at..at + 3].copy_from_slice(&image.pixel(u as u32, v as u32));
            }
        }
    }
}

fn grey_frame() -> RgbImage {
    RgbImage::from_pixels(640, 480, vec![128; 640 * 480 * 3]).unwrap()
}

fn embedding(perception: &mut Perception, face: &FaceSample) -> Embedding {
    perception.embed(&face.shape.as_ref().unwrap().aligned).unwrap()
}

fn only(mut faces: Vec<FaceSample>) -> FaceSample {
    assert_eq!(faces.len(), 1);
    faces.pop().unwrap()
}

#[test]
fn leaning_heads_are_found_measured_and_recognised() {
    let (mut perception, threshold) = perception();
    let image = portrait("barack_obama_1");
    let upright = only(perception.examine_all(&Picture::from(&image)).unwrap());
    let own_roll = upright.shape.as_ref().unwrap().quality.roll_deg;
    let upright = embedding(&mut perception, &upright);
    for degrees in [-40.0, -20.0, 20.0, 40.0] {
        let mut frame = grey_frame();
        placed(&mut frame, &image, degrees, 0.7, 320.0, 240.0);
        let face = only(perception.examine_all(&Picture::from(&frame)).unwrap());
        let quality = face.shape.as_ref().unwrap().quality;
        let score = embedding(&mut perception, &face).compare(&upright).unwrap();
        println!("leaning by {degrees}: measured {:.1}, score {score}", quality.roll_deg);
        assert!((quality.roll_deg - own_roll - degrees).abs() < 6.0);
        assert!(score.get() > threshold);
    }
}

#[test]
fn several_people_are_told_apart_in_one_picture() {
    let (mut perception, threshold) = perception();
    let people = ["barack_obama_1", "joe_biden_1", "grace_hopper_1"].map(portrait);
    let mut frame = grey_frame();
    for (number, image) in people.iter().enumerate() {
        placed(&mut frame, image, 0.0, 0.4, 110.0 + 210.0 * number as f32, 240.0);
    }
    let mut faces = perception.examine_all(&Picture::from(&frame)).unwrap();
    faces.sort_by(|left, right| left.detection.bbox.left.total_cmp(&right.detection.bbox.left));
    assert_eq!(faces.len(), 3);
    let alone: Vec<_> = people
        .iter()
        .map(|image| {
            let face = only(perception.examine_all(&Picture::from(image)).unwrap());
            embedding(&mut perception, &face)
        })
        .collect();
    for (number, face) in faces.iter().enumerate() {
        let found = embedding(&mut perception, face);
        for (other, reference) in alone.iter().enumerate() {
            let score = found.compare(reference).unwrap().get();
            assert_eq!(score > threshold, number == other, "face {number} with person {other}: {score}");
        }
    }
}

/// The frame in each pixel format, as a driver would lay it out, rows padded.
fn as_raw(image: &RgbImage, format: PixelFormat) -> RawFrame {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let yuv = |x: usize, y: usize| {
        let [r, g, b] = image.pixel(x as u32, y as u32).map(f32::from);
        let luma = 16.0 + 0.257 * r + 0.504 * g + 0.098 * b;
        let (u, v) = (128.0 - 0.148 * r - 0.291 * g + 0.439 * b, 128.0 + 0.439 * r - 0.368 * g - 0.071 * b);
        [luma, u, v].map(|level| level.round() as u8)
    };
    let stride = match format {
        PixelFormat::Yuyv => width * 2 + 64,
        PixelFormat::Nv12 | PixelFormat::Grey => width + 32,
        PixelFormat::Rgb3 => width * 3,
        PixelFormat::Mjpg => 0,
    };
    let mut bytes = Vec::new();
    match format {
        PixelFormat::Mjpg => {
            let encoder = jpeg_encoder::Encoder::new(&mut bytes, 85);
            encoder
                .encode(image.pixels(), width as u16, height as u16, jpeg_encoder::ColorType::Rgb)
                .unwrap();
        }
        PixelFormat::Rgb3 => bytes.extend_from_slice(image.pixels()),
        PixelFormat::Yuyv => {
            bytes.resize(stride * height, 0);
            for y in 0..height {
                for x in 0..width {
                    let [luma, u, v] = yuv(x, y);
                    let at = y * stride + x * 2;
                    (bytes[at], bytes[at + 1]) = (luma, if x % 2 == 0 { u } else { v });
                }
            }
        }
        PixelFormat::Nv12 => {
            bytes.resize(stride * height * 3 / 2, 0);
            for y in 0..height {
                for x in 0..width {
                    let [luma, u, v] = yuv(x, y);
                    bytes[y * stride + x] = luma;
                    if x % 2 == 0 && y % 2 == 0 {
                        let at = stride * height + y / 2 * stride + x;
                        (bytes[at], bytes[at + 1]) = (u, v);
                    }
                }
            }
        }
        PixelFormat::Grey => {
            bytes.resize(stride * height, 0);
            for y in 0..height {
                for x in 0..width {
                    let [r, g, b] = image.pixel(x as u32, y as u32).map(u32::from);
                    bytes[y * stride + x] = ((77 * r + 150 * g + 29 * b) >> 8) as u8;
                }
            }
        }
    }
    let size = FrameSize { width: image.width(), height: image.height() };
    let (id, captured_at, stride) = (FrameId(0), Monotonic::default(), stride as u32);
    RawFrame { id, captured_at, format, size, stride, bytes }
}

#[test]
fn every_pixel_format_shows_the_same_person() {
    let (mut perception, _) = perception();
    let mut frame = grey_frame();
    placed(&mut frame, &portrait("barack_obama_1"), 5.0, 0.6, 300.0, 250.0);
    let reference = only(perception.examine_all(&Picture::from(&frame)).unwrap());
    let reference = embedding(&mut perception, &reference);
    let formats = [
        (PixelFormat::Rgb3, 0.999),
        (PixelFormat::Mjpg, 0.95),
        (PixelFormat::Yuyv, 0.95),
        (PixelFormat::Nv12, 0.95),
        // Without colour the embedding moves, but not to another person.
        (PixelFormat::Grey, 0.7),
    ];
    for (format, least) in formats {
        let raw = as_raw(&frame, format);
        let mut decoder = Decoder::default();
        let picture = decoder.decode(&raw).unwrap();
        let face = only(perception.examine_all(&picture).unwrap());
        let score = embedding(&mut perception, &face).compare(&reference).unwrap();
        println!("{format}: score {score}");
        assert!(score.get() >= least, "{format}: {score}");
    }
}

#[test]
fn unusable_faces_say_why() {
    let (mut perception, _) = perception();
    let image = portrait("joe_biden_1");
    let verdict = |perception: &mut Perception, frame: &RgbImage| {
        only(perception.examine_all(&Picture::from(frame)).unwrap()).verdict
    };

    let mut far = grey_frame();
    placed(&mut far, &image, 0.0, 0.2, 320.0, 240.0);
    assert!(matches!(verdict(&mut perception, &far), Err(Unusable::TooFar { .. })));

    let mut near = grey_frame();
    placed(&mut near, &image, 0.0, 0.7, 320.0, 240.0);
    assert_eq!(verdict(&mut perception, &near), Ok(()));

    let mut dark = near.clone();
    dark.pixels_mut().iter_mut().for_each(|level| *level /= 7);
    assert!(matches!(verdict(&mut perception, &dark), Err(Unusable::TooDark { .. })));

    // Out of focus: shrunk to a tenth and drawn large again.
    let mut small = RgbImage::black(0, 0);
    let tenth = Similarity { a: 10.0, b: 0.0, tx: 80.0, ty: 0.0 };
    Resampler::default().cut(&Picture::from(&near), &tenth, 48, &mut small).unwrap();
    let mut blurred = RgbImage::black(0, 0);
    let tenfold = Similarity { a: 0.1, b: 0.0, tx: 0.0, ty: 0.0 };
    Resampler::default().cut(&Picture::from(&small), &tenfold, 480, &mut blurred).unwrap();
    assert!(matches!(verdict(&mut perception, &blurred), Err(Unusable::Blurred { .. })));

    let mut cut = grey_frame();
    placed(&mut cut, &image, 0.0, 0.7, 20.0, 240.0);
    let faces = perception.examine_all(&Picture::from(&cut)).unwrap();
    assert!(faces.iter().all(|face| face.verdict.is_err()), "half a face must not be usable");
}

#[test]
fn empty_and_textured_frames_hold_nobody() {
    let (mut perception, _) = perception();
    let mut noise = grey_frame();
    let mut state = 1u32;
    for level in noise.pixels_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *level = (state >> 24) as u8;
    }
    for frame in [grey_frame(), RgbImage::black(640, 480), noise] {
        assert!(perception.examine_all(&Picture::from(&frame)).unwrap().is_empty());
    }
}
