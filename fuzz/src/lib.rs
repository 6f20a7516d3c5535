//! What each fuzz target does with its bytes.
//!
//! The targets in `targets/` and the test `tests/fuzz_corpus.rs` of the package itself both run
//! these bodies, so that what was found once stays found. A body panics where a promise of the code
//! is broken; refusing the input is always right.

use std::ffi::OsString;
use std::io::{BufReader, Cursor};
use std::path::Path;

use limen::align::AlignmentTemplate;
use limen::camera::replay::avi::AviReader;
use limen::camera::replay::jpeg::{JpegStreamReader, jpeg_size};
use limen::camera::replay::y4m::Y4mReader;
use limen::camera::replay::{ContainerError, FrameReader, FrameShape, MAX_ENCODED_BYTES};
use limen::clock::Monotonic;
use limen::config::{self, Config, ConfigError, Layers};
use limen::decode::{self, Decoder, JpegHeader};
use limen::frame::{FrameId, FrameSize, PixelFormat, RawFrame, RgbImage};
use limen::geometry::Similarity;
use limen::models::{Manifest, Thresholds};
use limen::picture::{Picture, Resampler};

/// What a target does with one input.
pub type Body = fn(&[u8]);

/// Every target's name and body.
pub const TARGETS: [(&str, Body); 6] = [
    ("jpeg", jpeg),
    ("still", still),
    ("containers", containers),
    ("manifest", manifest),
    ("config", config),
    ("picture", picture),
];

/// Longest side of a compressed picture that is decoded here. The code takes larger ones; their cost
/// is bounded by the pixels, and would only slow the search down.
const MAX_SIDE: u32 = 1024;

fn small(size: FrameSize) -> bool {
    size.width <= MAX_SIDE && size.height <= MAX_SIDE
}

fn raw(format: PixelFormat, size: FrameSize, stride: u32, bytes: Vec<u8>) -> RawFrame {
    RawFrame { id: FrameId(0), captured_at: Monotonic::default(), format, size, stride, bytes }
}

/// A camera's MJPEG frame, in a stream of the size that the frame itself claims.
pub fn jpeg(data: &[u8]) {
    // The other reader of the same markers, used where nothing is decoded.
    if let Some(size) = jpeg_size(data) {
        assert!(size.width > 0 && size.height > 0);
    }
    let Ok(header) = JpegHeader::read(data) else { return };
    if !small(header.size) {
        return;
    }
    let frame = raw(PixelFormat::Mjpg, header.size, 0, data.to_vec());
    let mut decoder = Decoder::default();
    if let Ok(picture) = decoder.decode(&frame) {
        assert_eq!(picture.size(), header.size);
        let pixels = picture.to_rgb().expect("a decoded picture is RGB already");
        assert_eq!(pixels.size(), header.size);
    }
    // A camera does not change its size; a frame that does is refused, whatever else it holds.
    let other = FrameSize { width: header.size.width ^ 1, ..header.size };
    assert!(decoder.decode(&raw(PixelFormat::Mjpg, other, 0, frame.bytes)).is_err());
}

/// A picture file given for enrolment: JPEG, PNG or WebP.
pub fn still(data: &[u8]) {
    let claimed = match JpegHeader::read(data) {
        Ok(header) => Some(header.size),
        Err(_) => claimed_by_png_or_webp(data),
    };
    if claimed.is_none_or(small)
        && let Ok(image) = decode::still(data)
    {
        let FrameSize { width, height } = image.size();
        assert_eq!(image.pixels().len(), width as usize * height as usize * 3);
        let claimed = claimed.expect("what was decoded has a size");
        assert!(
            [(claimed.width, claimed.height), (claimed.height, claimed.width)].contains(&(width, height))
        );
    }
}

fn claimed_by_png_or_webp(data: &[u8]) -> Option<FrameSize> {
    let reader = image::ImageReader::new(Cursor::new(data)).with_guessed_format().ok()?;
    let (width, height) = reader.into_dimensions().ok()?;
    Some(FrameSize { width, height })
}

/// A recording, given to every reader: each knows its own by the first bytes.
pub fn containers(data: &[u8]) {
    // A buffer shorter than most headers, so that they straddle its end.
    let input = || BufReader::with_capacity(61, Cursor::new(data));
    read_all(Ok(JpegStreamReader::new(input())), data.len());
    read_all(Y4mReader::new(input()), data.len());
    read_all(AviReader::new(input()), data.len());
}

fn read_all<R: FrameReader>(reader: Result<R, ContainerError>, bytes: usize) {
    let mut reader = match reader {
        Ok(reader) => reader,
        Err(error) => return assert!(error.to_string().len() < 4096 + 4 * bytes),
    };
    if let Some(rate) = reader.rate_hz() {
        assert!(!rate.is_nan());
    }
    let mut buffer = Vec::new();
    let mut first = None;
    // Every frame takes at least one byte of the file.
    for frames in 0.. {
        assert!(frames <= bytes, "more frames than bytes");
        match reader.read_frame(&mut buffer) {
            Ok(Some(shape)) => check_frame(shape, &buffer),
            Ok(None) | Err(_) => break,
        }
        first.get_or_insert_with(|| buffer.clone());
    }
    if let Some(first) = first {
        reader.rewind().expect("memory can be rewound");
        assert!(matches!(reader.read_frame(&mut buffer), Ok(Some(_))), "the first frame is gone");
        assert!(buffer == first, "the first frame changed");
    }
}

/// A frame out of a container is what its shape says.
fn check_frame(shape: FrameShape, bytes: &[u8]) {
    let FrameShape { format, size, stride } = shape;
    if format == PixelFormat::Mjpg {
        // A last segment may be copied before its length is noticed.
        assert!(bytes.len() <= MAX_ENCODED_BYTES + (1 << 16) + 2);
        assert_eq!(jpeg_size(bytes), Some(size));
    } else {
        let frame = raw(format, size, stride, bytes.to_vec());
        assert!(Decoder::default().decode(&frame).is_ok(), "{frame:?} cannot be read");
    }
}

/// `models/manifest.toml`.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::parse(text, Path::new("manifest.toml")) {
        Ok(manifest) => {
            let Manifest { detector, landmarks, embedder, .. } = &manifest;
            for side in [detector.input_side(), landmarks.input_side(), embedder.input_side()] {
                assert!((16..=1024).contains(&side));
            }
            let thresholds = &embedder.thresholds;
            assert!(thresholds.identification.is_finite() && thresholds.conflict.is_finite());
            let _ = AlignmentTemplate::new(&embedder.alignment, embedder.input_side());
            // The thresholds in force come from the manifest where the configuration is silent.
            let _ = Config::default().thresholds(thresholds);
        }
        // The reader repeats the line it stumbled over.
        Err(error) => assert!(error.to_string().len() < 4096 + 8 * text.len()),
    }
}

/// What separates the layers in an input of [`config()`].
const LAYER_END: &str = "\n=====\n";

/// Layers of configuration: files first, lowest to highest, then every line once more as an
/// environment variable and as a flag.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let layers: Vec<(&str, &str)> = text.split(LAYER_END).map(|layer| ("layer.toml", layer)).collect();
    settle(config::parse_layers(&layers));
    let lines = || text.lines().filter_map(|line| line.split_once('='));
    let variables = lines().map(|(name, value)| (OsString::from(name.trim()), OsString::from(value.trim())));
    settle(Layers::new().environment(variables).build());
    let flags = lines().take(64);
    settle(
        flags.fold(Layers::new(), |all, (key, value)| all.flag("--set", key.trim(), value.trim())).build(),
    );
}

fn settle(result: Result<Config, ConfigError>) {
    let config = match result {
        Ok(config) => config,
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty() && said.len() < 1 << 16, "{} bytes of complaint", said.len());
            assert!(!said.chars().any(|letter| letter.is_control() && letter != '\n'), "{said:?}");
            return;
        }
    };
    config.check().expect("what was built has been checked");
    let manifest = Thresholds { identification: 0.5, verification: 0.5, margin: 0.1, conflict: 0.4 };
    let _ = config.thresholds(&manifest);
    let shown = config.show();
    let again = config::parse_layers(&[("shown", &shown)]).expect("what is shown can be read");
    assert_eq!(values(&again), values(&config));
}

fn values(config: &Config) -> serde_json::Value {
    let mut sections = config.to_json();
    for section in sections.as_object_mut().into_iter().flat_map(|sections| sections.values_mut()) {
        for setting in section.as_object_mut().into_iter().flat_map(|settings| settings.values_mut()) {
            setting.as_object_mut().and_then(|setting| setting.remove("origin"));
        }
    }
    sections
}

/// Numbers off the front of an input; zeros when it is used up.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = N.min(self.0.len());
        bytes[..taken].copy_from_slice(&self.0[..taken]);
        self.0 = &self.0[taken..];
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    /// A short number mostly, any number sometimes.
    fn length(&mut self) -> u32 {
        let number = u32::from_le_bytes(self.bytes());
        if number >> 31 == 0 { number % 513 } else { number << 1 | 1 }
    }

    /// Hundredths mostly, any bit pattern sometimes.
    fn real(&mut self, wild: bool) -> f32 {
        let bytes = self.bytes();
        if wild { f32::from_le_bytes(bytes) } else { (i32::from_le_bytes(bytes) >> 12) as f32 / 100.0 }
    }
}

/// A raw frame of a driver that lies about size and stride, and what the networks look at of it.
///
/// The layout is: format, choices, width, height, stride, filled length, side, fill, transform, and
/// bytes that are repeated to the filled length.
pub fn picture(data: &[u8]) {
    let mut numbers = Numbers(data);
    let formats = [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::Grey, PixelFormat::Rgb3];
    let format = formats[usize::from(numbers.byte() % 4)];
    let choices = numbers.byte();
    let size = FrameSize { width: numbers.length(), height: numbers.length() };
    let stride = numbers.length().saturating_mul(1 + u32::from(choices >> 1 & 1));
    let filled = u32::from_le_bytes(numbers.bytes()) as usize % (512 * 512 * 3 + 1);
    let side = 1 + u32::from(numbers.byte());
    let fill = 0.1 + 0.9 * f32::from(numbers.byte()) / 255.0;
    let wild = choices & 1 == 1;
    let [a, b, tx, ty] = std::array::from_fn(|_| numbers.real(wild));
    let bytes = repeated(numbers.0, filled);

    let mut frame = raw(format, size, stride, bytes);
    let mut seen = Vec::new();
    // Once more with other bytes where there is no pixel, which must not be seen.
    for _ in 0..2 {
        let mut decoder = Decoder::default();
        let Ok(picture) = decoder.decode(&frame) else { return };
        assert_eq!(picture.size(), size);
        let whole = picture.to_rgb().expect("a checked frame converts");
        assert_eq!(whole.size(), size);
        seen.push((whole, look(&picture, side, fill, &Similarity { a, b, tx, ty })));
        change_padding(&mut frame);
    }
    assert!(seen[0] == seen[1], "{frame:?} with rows of {stride} bytes: the padding is seen");
}

/// `pattern` over and over, up to `length`. In doubling steps: byte by byte is most of a run's time.
fn repeated(pattern: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = if pattern.is_empty() { vec![128] } else { pattern.to_vec() };
    while bytes.len() < length {
        let more = bytes.len().min(length - bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes.truncate(length);
    bytes
}

/// Fills every byte of an acceptable frame that belongs to no pixel.
fn change_padding(frame: &mut RawFrame) {
    let (width, height) = (frame.size.width as usize, frame.size.height as usize);
    let (row, rows) = match frame.format {
        PixelFormat::Yuyv => (width * 2, height),
        PixelFormat::Nv12 => (width, height + height / 2),
        PixelFormat::Grey => (width, height),
        PixelFormat::Rgb3 | PixelFormat::Mjpg => (width * 3, height),
    };
    let stride = if frame.format == PixelFormat::Rgb3 { row } else { frame.stride as usize };
    let level = frame.bytes.last().map_or(0, |last| !last);
    for (at, line) in frame.bytes.chunks_mut(stride).enumerate() {
        let padding = if at < rows { row.min(line.len()) } else { 0 };
        line[padding..].fill(level);
    }
}

/// What the networks would be shown: the whole, and a square of it.
fn look(picture: &Picture<'_>, side: u32, fill: f32, to_source: &Similarity) -> [RgbImage; 2] {
    let mut resampler = Resampler::default();
    let (mut whole, mut square) = (RgbImage::black(0, 0), RgbImage::black(0, 0));
    let fit = resampler.letterbox(picture, side, fill, &mut whole).expect("a checked frame resizes");
    assert!(fit.left + fit.width <= side && fit.top + fit.height <= side);
    resampler.cut(picture, to_source, side, &mut square).expect("a checked frame is cut");
    for look in [&whole, &square] {
        assert_eq!(look.size(), FrameSize { width: side, height: side });
    }
    [whole, square]
}
