//! Noticing that somebody comes into the picture, on frames of the built-in scene and on noise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use limen::bench::random::Random;
use limen::camera::scene::Scene;
use limen::change::Change::{Changed, Unchanged};
use limen::change::{Change, ChangeDetector, LEARNING};
use limen::clock::Monotonic;
use limen::frame::{FrameId, RgbImage};
use limen::frame::{FrameSize, PixelFormat, RawFrame};
use proptest::prelude::*;

const SIZE: FrameSize = FrameSize { width: 640, height: 480 };

fn raw(format: PixelFormat, bytes: Vec<u8>) -> RawFrame {
    let stride = match format {
        PixelFormat::Mjpg => 0,
        PixelFormat::Yuyv => SIZE.width * 2,
        PixelFormat::Nv12 | PixelFormat::Grey => SIZE.width,
        PixelFormat::Rgb3 => SIZE.width * 3,
    };
    RawFrame { id: FrameId(0), captured_at: Monotonic::default(), format, size: SIZE, stride, bytes }
}

fn jpeg(length: usize) -> RawFrame {
    let mut bytes = vec![7; length];
    bytes.extend([0xff, 0xd9]);
    raw(PixelFormat::Mjpg, bytes)
}

fn feed(detector: &mut ChangeDetector, lengths: impl IntoIterator<Item = usize>) -> Vec<Change> {
    lengths.into_iter().map(|length| detector.observe(&jpeg(length))).collect()
}

/// Lengths around `mean` with about Gaussian noise of `deviation`.
fn noisy(random: &mut Random, mean: f32, deviation: f32) -> usize {
    let gaussian = (0..12).map(|_| random.unit()).sum::<f32>() - 6.0;
    (mean + gaussian * deviation) as usize
}

#[test]
fn noise_of_the_length_is_learnt_and_a_jump_beyond_it_noticed() {
    for deviation in [0.0, 40.0, 150.0] {
        let (mut detector, mut random) = (ChangeDetector::new(), Random::new(7));
        let still: Vec<_> = (0..400).map(|_| noisy(&mut random, 60_000.0, deviation)).collect();
        let seen = feed(&mut detector, still);
        let alarms = seen[LEARNING as usize..].iter().filter(|change| **change == Changed).count();
        assert!(alarms <= 2, "{alarms} false alarms with a deviation of {deviation}");
        assert_eq!(detector.observe(&jpeg(61_250)), Changed, "deviation {deviation}");
    }
}

#[test]
fn frames_are_taken_for_changed_until_the_noise_is_known() {
    let seen = feed(&mut ChangeDetector::new(), [60_000; 12]);
    assert_eq!(seen[..LEARNING as usize], [Changed; LEARNING as usize]);
    assert_eq!(seen[LEARNING as usize..], [Unchanged; 4]);
}

#[test]
fn scene_that_always_moves_stays_changed() {
    let mut random = Random::new(3);
    let lengths: Vec<_> = (0..600).map(|_| noisy(&mut random, 60_000.0, 3_000.0)).collect();
    let seen = feed(&mut ChangeDetector::new(), lengths);
    let noticed = seen.iter().filter(|change| **change == Changed).count();
    assert!(noticed > 300, "its motion must not become its noise: {noticed} of 600");
}

#[test]
fn slow_drift_of_the_light_costs_few_looks() {
    let lengths = (0..1_500).map(|number| 60_000 + number * 2);
    let seen = feed(&mut ChangeDetector::new(), lengths);
    let noticed = seen[LEARNING as usize..].iter().filter(|change| **change == Changed).count();
    assert!(noticed <= 30, "{noticed} of 1,500");
}

#[test]
fn padding_behind_the_picture_is_not_counted() {
    let mut detector = ChangeDetector::new();
    feed(&mut detector, [60_000; 20]);
    let mut padded = jpeg(60_000);
    padded.bytes.resize(200_000, 0);
    assert_eq!(detector.observe(&padded), Unchanged);
}

#[test]
fn damaged_frames_and_new_streams_count_as_changed() {
    let mut detector = ChangeDetector::new();
    feed(&mut detector, [60_000; 20]);
    assert_eq!(detector.observe(&raw(PixelFormat::Mjpg, vec![0xff; 60_000])), Changed);
    assert_eq!(detector.observe(&raw(PixelFormat::Mjpg, vec![])), Changed);
    for format in [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Grey, PixelFormat::Rgb3] {
        assert_eq!(detector.observe(&raw(format, vec![0; 100])), Changed);
    }
    assert_eq!(detector.observe(&jpeg(60_000)), Changed);
}

/// The empty corridor of the built-in scene through a noisy sensor: `deviation` levels in each
/// pixel. Somebody's face may be in it, `face_px` wide.
struct Sensor {
    empty: RgbImage,
    somebody: RgbImage,
    middle: (usize, usize),
    random: Random,
    deviation: f32,
}

impl Sensor {
    fn new(deviation: f32, seed: u64) -> Self {
        let scene = Scene::new(SIZE, 15.0).unwrap();
        let drawn = |number| {
            let mut picture = RgbImage::black(0, 0);
            scene.draw(number, &mut picture);
            picture
        };
        // Far away still: the smallest head of the scene.
        let number = (0..788).find(|n| scene.visible(*n).first().is_some_and(|h| h.height_px < 110.0));
        let head = scene.visible(number.unwrap())[0];
        let middle = (head.x_px as usize, head.y_px as usize);
        let (empty, somebody) = (drawn(0), drawn(number.unwrap()));
        Self { empty, somebody, middle, random: Random::new(seed), deviation }
    }

    fn frame(&mut self, format: PixelFormat, face_px: usize) -> RawFrame {
        let mut picture = self.empty.clone();
        let (left, top) = (self.middle.0 - face_px / 2, self.middle.1 - face_px / 2);
        for y in top..top + face_px {
            let at = (y * 640 + left) * 3..(y * 640 + left + face_px) * 3;
            picture.pixels_mut()[at.clone()].copy_from_slice(&self.somebody.pixels()[at]);
        }
        for pixel in picture.pixels_mut().chunks_exact_mut(3) {
            // The sum of four has a deviation of 0.577.
            let sum = (0..4).map(|_| self.random.unit()).sum::<f32>() - 2.0;
            let noise = (sum / 0.577 * self.deviation).round();
            pixel.iter_mut().for_each(|level| *level = (f32::from(*level) + noise) as u8);
        }
        let bytes = match format {
            PixelFormat::Mjpg => {
                let mut jpeg = Vec::new();
                let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, 85);
                encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
                encoder.encode(picture.pixels(), 640, 480, jpeg_encoder::ColorType::Rgb).unwrap();
                jpeg
            }
            _ => picture.pixels().chunks_exact(3).map(|rgb| rgb[1]).collect(),
        };
        raw(format, bytes)
    }
}

/// Frames of 40 taken for changed after the noise has been learnt, with a face of this width in
/// them from then on.
fn noticed(format: PixelFormat, deviation: f32, face_px: usize) -> usize {
    let (mut sensor, mut detector) = (Sensor::new(deviation, 11), ChangeDetector::new());
    for _ in 0..40 {
        detector.observe(&sensor.frame(format, 0));
    }
    (0..40).filter(|_| detector.observe(&sensor.frame(format, face_px)) == Changed).count()
}

#[test]
fn face_is_noticed_in_spite_of_noise_and_noise_alone_is_not() {
    // 60 px: about 24 between the eyes. In strong noise, and by its length, a frame shows only
    // larger ones.
    let cases = [
        (PixelFormat::Mjpg, 0.0, 60),
        (PixelFormat::Mjpg, 2.0, 60),
        (PixelFormat::Mjpg, 3.0, 60),
        (PixelFormat::Mjpg, 4.0, 80),
        (PixelFormat::Grey, 0.0, 60),
        (PixelFormat::Grey, 2.0, 60),
        (PixelFormat::Grey, 4.0, 60),
    ];
    for (format, deviation, face_px) in cases {
        assert_eq!(noticed(format, deviation, 0), 0, "{format}: noise of {deviation} alone");
        // A still picture of somebody is new in one frame, and the reference from then on.
        let seen = noticed(format, deviation, face_px);
        assert!((1..=3).contains(&seen), "{format}: {face_px} px in noise of {deviation}: {seen}");
    }
}

proptest! {
    #[test]
    fn whatever_a_driver_hands_out_is_compared_or_taken_for_changed(
        frames in prop::collection::vec(
            (0_usize..5, 0_u32..5_000, 0_u32..5_000, any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)),
            1..12,
        ),
    ) {
        let formats =
            [PixelFormat::Mjpg, PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Grey, PixelFormat::Rgb3];
        let mut detector = ChangeDetector::new();
        for (format, width, height, stride, bytes) in frames {
            let size = FrameSize { width, height };
            let frame = RawFrame { size, stride, ..raw(formats[format], bytes) };
            let change = detector.observe(&frame);
            // Too short for what it claims to be.
            prop_assert!(change == Changed || frame.format == PixelFormat::Mjpg || width * height <= 300);
        }
    }
}
