//! From the bytes of a camera or an uploaded file to a [`Picture`].
//!
//! Everything here is hostile input: sizes are checked before memory is reserved, and whatever is
//! wrong comes back as a [`DecodeError`]. Frames are decoded on the recogniser thread, stills on
//! the thread of whoever enrols.

mod need;

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, Limits};
use std::io::Cursor;
use thiserror::Error;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

pub use need::{Claim, HALVED_ABOVE, PICTURE_MEMORY};
use need::{METADATA, Way, coefficient_bytes, pixels_of};

use crate::frame::{FrameSize, PixelFormat, RawFrame, RgbImage};
use crate::picture::{Picture, PictureError};

/// The largest file accepted as a still picture.
pub const MAX_STILL_BYTES: usize = 32 << 20;
/// The most pixels a still picture may have: 50 megapixels, the main camera of a present phone. How many
/// of them fit into [`PICTURE_MEMORY`] depends on how they were encoded.
pub const MAX_STILL_PIXELS: u64 = 50_000_000;
/// The longest side of a still picture.
pub const MAX_STILL_SIDE: u32 = 16_384;
/// Progressive pictures of real encoders have about ten scans; each costs a pass over all pixels.
const MAX_SCANS: usize = 32;

/// Why bytes are not a usable picture.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// No known picture format starts like this.
    #[error("this is not a JPEG, PNG or WebP picture")]
    UnknownFormat,
    /// More bytes than are ever accepted.
    #[error("the file has {found} bytes; at most {limit} are accepted")]
    TooManyBytes {
        /// Size of the file.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More pixels than are ever accepted, or none.
    #[error(
        "the picture claims {size} pixels; at most {MAX_STILL_PIXELS} pixels and {MAX_STILL_SIDE} a side are accepted"
    )]
    BadSize {
        /// What its header says.
        size: FrameSize,
    },
    /// Decoding would take more than [`PICTURE_MEMORY`].
    #[error(
        "the picture has {size} pixels; of a {kind}, at most {megapixels} megapixels can be decoded here: make it smaller, or save it as an ordinary JPEG (baseline, not progressive)"
    )]
    TooMuchMemory {
        /// What its header says.
        size: FrameSize,
        /// How it was encoded.
        kind: &'static str,
        /// Of such a picture, rounded down.
        megapixels: u64,
    },
    /// What the picture carries besides pixels grows beyond all measure.
    #[error("the {format} picture wants more memory than any real one; nothing of it was decoded")]
    Bomb {
        /// Which decoder.
        format: &'static str,
    },
    /// A frame of another size than the stream was negotiated to have.
    #[error("a frame of {found} arrived in a stream of {expected}")]
    WrongSize {
        /// The stream's size.
        expected: FrameSize,
        /// The frame's own header.
        found: FrameSize,
    },
    /// The data stops before the picture is complete.
    #[error("the picture is cut off: it has no end-of-image marker")]
    Truncated,
    /// The decoder found an error.
    #[error("the {format} picture is damaged: {reason}")]
    Damaged {
        /// Which decoder.
        format: &'static str,
        /// The decoder's own words; they never contain pixels.
        reason: String,
    },
    /// A raw frame that does not fit its own description.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

impl DecodeError {
    /// A short constant name, for JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownFormat => "not_a_picture",
            Self::TooManyBytes { .. } => "too_large",
            Self::BadSize { .. } | Self::Bomb { .. } => "picture_bomb",
            Self::TooMuchMemory { .. } => "picture_too_large",
            Self::WrongSize { .. } => "wrong_size",
            Self::Truncated => "cut_off",
            Self::Damaged { .. } | Self::Picture(_) => "damaged",
        }
    }
}

fn damaged(reason: impl std::fmt::Display) -> DecodeError {
    DecodeError::Damaged { format: "JPEG", reason: reason.to_string() }
}

/// Decodes the frames of one stream, reusing its buffers.
pub struct Decoder {
    rgb: RgbImage,
    completed: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { rgb: RgbImage::black(0, 0), completed: Vec::new() }
    }
}

impl Decoder {
    /// Makes the pixels of `raw` readable. Raw formats are only checked, not converted.
    pub fn decode<'a>(&'a mut self, raw: &'a RawFrame) -> Result<Picture<'a>, DecodeError> {
        let picture = match raw.format {
            PixelFormat::Mjpg => {
                decode_jpeg(&raw.bytes, Some(raw.size), &mut self.completed, &mut self.rgb)?;
                Picture::from(&self.rgb)
            }
            PixelFormat::Yuyv => Picture::yuyv(raw.size, raw.stride, &raw.bytes)?,
            PixelFormat::Nv12 => Picture::nv12(raw.size, raw.stride, &raw.bytes)?,
            PixelFormat::Grey => Picture::grey(raw.size, raw.stride, &raw.bytes)?,
            PixelFormat::Rgb3 => Picture::rgb(raw.size, &raw.bytes)?,
        };
        Ok(picture)
    }
}

/// Decodes a JPEG, PNG or WebP file, told apart by content, and turns it upright by its EXIF
/// orientation. One of more than [`HALVED_ABOVE`] pixels comes back with half its width and height. Takes
/// at most what [`claim`] says.
pub fn still(bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    claim(bytes)?;
    let (image, orientation) = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => {
            let mut rgb = RgbImage::black(0, 0);
            let exif = decode_jpeg(bytes, None, &mut Vec::new(), &mut rgb)?;
            (rgb, exif.and_then(|chunk| Orientation::from_exif_chunk(&chunk)))
        }
        Ok(ImageFormat::Png) => decoded(open_png(bytes)?, "PNG")?,
        Ok(ImageFormat::WebP) => decoded(open_webp(bytes)?, "WebP")?,
        _ => return Err(DecodeError::UnknownFormat),
    };
    // Before it is turned, since that takes a second picture.
    let image = if pixels_of(image.size()) > HALVED_ABOVE { halved(image) } else { image };
    Ok(match orientation {
        None | Some(Orientation::NoTransforms) => image,
        Some(orientation) => upright(image, orientation),
    })
}

fn decoded(
    mut decoder: impl ImageDecoder,
    format: &'static str,
) -> Result<(RgbImage, Option<Orientation>), DecodeError> {
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().ok();
    let rgb = DynamicImage::from_decoder(decoder).map_err(image_error(format))?.into_rgb8();
    let image = RgbImage::from_pixels(width, height, rgb.into_raw()).expect("the decoder kept its size");
    Ok((image, orientation))
}

fn image_error(format: &'static str) -> impl Fn(image::ImageError) -> DecodeError {
    move |error| match error {
        image::ImageError::Limits(_) => DecodeError::Bomb { format },
        error => DecodeError::Damaged { format, reason: error.to_string() },
    }
}

/// Reads the header. The pixels are not of the decoder's reserving, and [`Way`] counts them.
fn open_png(bytes: &[u8]) -> Result<PngDecoder<Cursor<&[u8]>>, DecodeError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(METADATA);
    PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(image_error("PNG"))
}

fn open_webp(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, DecodeError> {
    WebPDecoder::new(Cursor::new(bytes)).map_err(image_error("WebP"))
}

/// The size that the header of a still picture claims and what decoding it would take, once it is one
/// that would be decoded. Costs no more than reading the header.
pub fn claim(bytes: &[u8]) -> Result<Claim, DecodeError> {
    let file = bytes.len();
    if file > MAX_STILL_BYTES {
        return Err(DecodeError::TooManyBytes { found: file, limit: MAX_STILL_BYTES });
    }
    let size_of = |(width, height)| FrameSize { width, height };
    let (size, way) = match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => {
            let header = JpegHeader::read(bytes)?;
            (header.size, Way::jpeg(&header, file))
        }
        Ok(ImageFormat::Png) => {
            let decoder = open_png(bytes)?;
            let colour = decoder.color_type();
            (
                size_of(decoder.dimensions()),
                Way::png(colour.bytes_per_pixel(), colour == ColorType::Rgb8, file),
            )
        }
        Ok(ImageFormat::WebP) => {
            let decoder = open_webp(bytes)?;
            let transparent = decoder.color_type().has_alpha();
            (size_of(decoder.dimensions()), Way::webp(transparent, decoder.has_animation(), file))
        }
        _ => return Err(DecodeError::UnknownFormat),
    };
    check_still_size(size)?;
    way.claim(size)
}

/// Half the width and half the height, each pixel the mean of four. In place: what is written lies never
/// behind what is still to be read.
fn halved(image: RgbImage) -> RgbImage {
    let FrameSize { width, height } = image.size();
    let (narrow, low, row) = (width as usize / 2, height as usize / 2, width as usize * 3);
    if narrow == 0 || low == 0 {
        return image;
    }
    let mut pixels = image.into_pixels();
    for y in 0..low {
        for x in 0..narrow {
            let from = 2 * y * row + 6 * x;
            let to = (y * narrow + x) * 3;
            for channel in 0..3 {
                let at = |offset: usize| u16::from(pixels[from + channel + offset]);
                pixels[to + channel] = ((at(0) + at(3) + at(row) + at(row + 3) + 2) / 4) as u8;
            }
        }
    }
    pixels.truncate(narrow * low * 3);
    pixels.shrink_to_fit();
    RgbImage::from_pixels(narrow as u32, low as u32, pixels).expect("cut to three bytes a pixel")
}

fn upright(image: RgbImage, orientation: Orientation) -> RgbImage {
    let FrameSize { width, height } = image.size();
    let buffer = image::RgbImage::from_raw(width, height, image.into_pixels()).expect("three bytes a pixel");
    let mut turned = DynamicImage::from(buffer);
    turned.apply_orientation(orientation);
    let (width, height) = (turned.width(), turned.height());
    RgbImage::from_pixels(width, height, turned.into_rgb8().into_raw()).expect("three bytes a pixel")
}

fn check_still_size(size: FrameSize) -> Result<(), DecodeError> {
    let sides = 1..=MAX_STILL_SIDE;
    if sides.contains(&size.width) && sides.contains(&size.height) && pixels_of(size) <= MAX_STILL_PIXELS {
        Ok(())
    } else {
        Err(DecodeError::BadSize { size })
    }
}

/// Decodes into `rgb` and returns the EXIF chunk, if any. `expected` is the stream's size.
fn decode_jpeg(
    bytes: &[u8],
    expected: Option<FrameSize>,
    completed: &mut Vec<u8>,
    rgb: &mut RgbImage,
) -> Result<Option<Vec<u8>>, DecodeError> {
    let header = JpegHeader::read(bytes)?;
    match expected {
        Some(expected) if expected != header.size => {
            return Err(DecodeError::WrongSize { expected, found: header.size });
        }
        _ => check_still_size(header.size)?,
    }
    let bytes = header.with_huffman_tables(bytes, completed);
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_STILL_SIDE as usize)
        .set_max_height(MAX_STILL_SIDE as usize)
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let needed = header.size.width as usize * header.size.height as usize * 3;
    if decoder.output_buffer_size() != Some(needed) {
        return Err(damaged("its colours cannot be turned into RGB"));
    }
    rgb.reshape(header.size.width, header.size.height);
    decoder.decode_into(rgb.pixels_mut()).map_err(damaged)?;
    Ok(decoder.exif().cloned())
}

/// What the markers before the first scan say.
#[derive(Debug, PartialEq, Eq)]
pub struct JpegHeader {
    /// From the start-of-frame segment.
    pub size: FrameSize,
    /// What a decoder keeps until the last scan; nothing where the first one holds every component.
    coefficient_bytes: u64,
    /// False for the frames of many USB cameras, which rely on the standard's example tables.
    has_huffman_tables: bool,
    /// Offset of the first start-of-scan marker.
    scan_at: usize,
}

impl JpegHeader {
    /// Walks the marker segments up to the first scan and makes sure that an end-of-image marker
    /// follows it. Reads each header byte at most once.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        if !bytes.starts_with(&[0xff, 0xd8]) {
            return Err(DecodeError::UnknownFormat);
        }
        let mut at = 2;
        let (mut size, mut has_huffman_tables) = (None, false);
        let (mut coefficients, mut progressive, mut components) = (0, false, 0);
        let (scan_at, at_of_scan) = loop {
            let marker_at = at;
            // Any number of fill bytes may precede a marker.
            while bytes.get(at + 1) == Some(&0xff) {
                at += 1;
            }
            let (Some(0xff), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else {
                return Err(if at + 1 >= bytes.len() {
                    DecodeError::Truncated
                } else {
                    damaged(format_args!("no marker where one belongs, at byte {at}"))
                });
            };
            if marker == 0xda {
                break (marker_at, at);
            }
            let segment = segment_at(bytes, at + 2).ok_or(DecodeError::Truncated)?;
            match marker {
                // Start of frame, all kinds but the three that share the range.
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    let [_, h1, h0, w1, w0, ..] = *segment else { return Err(DecodeError::Truncated) };
                    let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                    let found = FrameSize { width: side(w1, w0), height: side(h1, h0) };
                    let described = segment.get(6..).unwrap_or_default().chunks_exact(3);
                    let sampling = described.map(|component| (component[1] >> 4, component[1] & 15));
                    components = sampling.len();
                    coefficients = coefficients.max(coefficient_bytes(found, sampling));
                    // Baseline and extended sequential hold whole blocks in each scan.
                    progressive |= !matches!(marker, 0xc0 | 0xc1);
                    size = Some(found);
                }
                0xc4 => has_huffman_tables = true,
                _ => {}
            }
            at += 2 + 2 + segment.len();
        };
        let size = size.ok_or_else(|| damaged("a scan comes before the picture's size"))?;
        let scanned = segment_at(bytes, at_of_scan + 2).and_then(|scan| scan.first().copied());
        let whole = !progressive && scanned.is_some_and(|scanned| usize::from(scanned) == components);
        let coefficient_bytes = if whole { 0 } else { coefficients };
        // Inside a scan 0xff is always followed by something else, so a picture that was cut off
        // has no such pair behind its scan, whatever trails it in the driver's buffer.
        let complete = bytes[scan_at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]);
        if complete {
            Ok(Self { size, coefficient_bytes, has_huffman_tables, scan_at })
        } else {
            Err(DecodeError::Truncated)
        }
    }

    /// Puts the standard's tables in front of the first scan where a camera left them out.
    fn with_huffman_tables<'a>(&self, bytes: &'a [u8], completed: &'a mut Vec<u8>) -> &'a [u8] {
        if self.has_huffman_tables {
            return bytes;
        }
        completed.clear();
        completed.extend_from_slice(&bytes[..self.scan_at]);
        for (class_and_id, counts, symbols) in STANDARD_TABLES {
            let length = (2 + 1 + 16 + symbols.len()) as u16;
            completed.extend_from_slice(&[0xff, 0xc4]);
            completed.extend_from_slice(&length.to_be_bytes());
            completed.push(class_and_id);
            completed.extend_from_slice(&counts);
            completed.extend_from_slice(symbols);
        }
        completed.extend_from_slice(&bytes[self.scan_at..]);
        completed
    }
}

/// The payload of the segment whose two length bytes are at `at`.
fn segment_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    bytes.get(at + 2..at + length.max(2))
}

/// The typical Huffman tables of ITU-T T.81 annex K.3: class and identifier, codes of each length,
/// symbols.
const STANDARD_TABLES: [(u8, [u8; 16], &[u8]); 4] = [
    (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC_SYMBOLS),
    (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], &LUMA_AC_SYMBOLS),
    (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC_SYMBOLS),
    (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &CHROMA_AC_SYMBOLS),
];

const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[rustfmt::skip]
const LUMA_AC_SYMBOLS: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[rustfmt::skip]
const CHROMA_AC_SYMBOLS: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Monotonic;
    use crate::frame::FrameId;

    const SIZE: FrameSize = FrameSize { width: 48, height: 32 };

    fn gradient() -> Vec<u8> {
        (0..48 * 32).flat_map(|at| [40 + 3 * (at % 48) as u8, 30 + 4 * (at / 48) as u8, 90]).collect()
    }

    /// Baseline, with the standard's own tables, as a USB camera encodes.
    fn jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
        encoder.encode(&gradient(), 48, 32, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    fn frame(bytes: Vec<u8>) -> RawFrame {
        let (id, captured_at, format) = (FrameId(0), Monotonic::default(), PixelFormat::Mjpg);
        RawFrame { id, captured_at, format, size: SIZE, stride: 0, bytes }
    }

    fn without_segment(bytes: &[u8], unwanted: u8) -> Vec<u8> {
        let scan = JpegHeader::read(bytes).unwrap().scan_at;
        let (mut kept, mut at) = (bytes[..2].to_vec(), 2);
        while at < scan {
            let end = at + 4 + segment_at(bytes, at + 2).unwrap().len();
            if bytes[at + 1] != unwanted {
                kept.extend_from_slice(&bytes[at..end]);
            }
            at = end;
        }
        kept.extend_from_slice(&bytes[scan..]);
        kept
    }

    #[test]
    fn jpeg_frame_decodes_close_to_its_source() {
        let raw = frame(jpeg());
        let mut decoder = Decoder::default();
        let image = decoder.decode(&raw).unwrap().to_rgb().unwrap();
        let furthest = image.pixels().iter().zip(gradient()).map(|(l, r)| l.abs_diff(r)).max().unwrap();
        assert!(furthest <= 8, "{furthest}");
    }

    #[test]
    fn camera_frame_without_huffman_tables_decodes_the_same() {
        let complete = jpeg();
        let bare = without_segment(&complete, 0xc4);
        assert!(bare.len() + 300 < complete.len());
        let (mut left, mut right) = (Decoder::default(), Decoder::default());
        let (complete, bare) = (frame(complete), frame(bare));
        let expected = left.decode(&complete).unwrap().to_rgb().unwrap();
        assert!(right.decode(&bare).unwrap().to_rgb().unwrap() == expected);
    }

    #[test]
    fn bytes_after_the_end_are_ignored() {
        let mut bytes = jpeg();
        bytes.resize(bytes.len() + 5_000, 0);
        assert!(Decoder::default().decode(&frame(bytes)).is_ok());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = jpeg();
        for length in 0..whole.len() - 1 {
            let result = Decoder::default().decode(&frame(whole[..length].to_vec())).map(|_| ());
            assert!(result.is_err(), "{length} of {} bytes were accepted", whole.len());
        }
    }

    #[test]
    fn frame_without_quantisation_tables_is_damaged() {
        let bare = without_segment(&jpeg(), 0xdb);
        assert!(matches!(Decoder::default().decode(&frame(bare)), Err(DecodeError::Damaged { .. })));
    }

    #[test]
    fn frame_of_another_size_is_refused_by_its_header() {
        let raw = RawFrame { size: FrameSize { width: 640, height: 480 }, ..frame(jpeg()) };
        let result = Decoder::default().decode(&raw).map(|_| ());
        assert!(matches!(result, Err(DecodeError::WrongSize { found: SIZE, .. })));
    }

    #[test]
    fn decompression_bombs_are_refused_before_memory_is_reserved() {
        let mut bytes = jpeg();
        let frame_at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame_at + 5..frame_at + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(still(&bytes), Err(DecodeError::BadSize { .. })));
        let mut png = Vec::new();
        DynamicImage::new_rgb8(8, 8).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        png[16..24].copy_from_slice(&[0, 0, 0x3f, 0xff, 0, 0, 0x3f, 0xff]);
        assert!(still(&png).is_err());
        assert!(matches!(still(&vec![0; MAX_STILL_BYTES + 1]), Err(DecodeError::TooManyBytes { .. })));
    }

    #[test]
    fn still_is_turned_upright_by_its_exif_orientation() {
        let mut bytes = jpeg();
        // Orientation 6: turn by 90 degrees clockwise to view.
        let mut exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
        exif.extend_from_slice(&[0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        bytes.splice(2..2, exif);
        let image = still(&bytes).unwrap();
        assert_eq!((image.width(), image.height()), (32, 48));
        // The source's lower left corner is now on the upper left.
        let [red, green, _] = image.pixel(0, 0);
        assert!(red < 60 && green > 130, "{red} {green}");
    }

    /// One colour, so that the file is small whatever it unpacks to.
    fn plain_jpeg(width: u16, height: u16, kind: jpeg_encoder::ColorType, progressive: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
        encoder.set_progressive(progressive);
        let channels = if kind == jpeg_encoder::ColorType::Cmyk { 4 } else { 3 };
        let pixels = vec![120; usize::from(width) * usize::from(height) * channels];
        encoder.encode(&pixels, width, height, kind).unwrap();
        bytes
    }

    /// To be turned by 90 degrees, as a phone held upright writes it.
    fn turned(mut jpeg: Vec<u8>) -> Vec<u8> {
        let mut exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0".to_vec();
        exif.extend_from_slice(&[0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        jpeg.splice(2..2, exif);
        jpeg
    }

    fn plain_png(image: DynamicImage) -> Vec<u8> {
        let mut png = Vec::new();
        image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        png
    }

    #[test]
    fn large_picture_of_a_phone_is_accepted_and_halved_before_it_is_turned() {
        let rgb = jpeg_encoder::ColorType::Rgb;
        let ordinary = still(&turned(plain_jpeg(4032, 3024, rgb, false))).unwrap();
        assert_eq!(ordinary.size(), FrameSize { width: 3024, height: 4032 });
        let large = turned(plain_jpeg(8160, 6120, rgb, false));
        assert_eq!(claim(&large).unwrap().size, FrameSize { width: 8160, height: 6120 });
        let large = still(&large).unwrap();
        assert_eq!(large.size(), FrameSize { width: 3060, height: 4080 });
        assert!(large.pixels().iter().all(|value| value.abs_diff(120) <= 2));
    }

    #[test]
    fn halving_gives_the_means_of_four() {
        let mut image = RgbImage::black(5, 3);
        for (at, value) in image.pixels_mut().iter_mut().enumerate() {
            *value = at as u8;
        }
        let half = halved(image);
        assert_eq!(half.size(), FrameSize { width: 2, height: 1 });
        assert_eq!(half.pixels(), [9, 10, 11, 15, 16, 17]);
    }

    #[test]
    fn small_file_that_needs_too_much_memory_is_refused_with_what_would_fit() {
        let (rgb, cmyk) = (jpeg_encoder::ColorType::Rgb, jpeg_encoder::ColorType::Cmyk);
        let cases = [
            (plain_png(DynamicImage::new_rgba16(5_000, 4_000)), "at most 15 megapixels"),
            (plain_png(DynamicImage::new_rgba8(6_000, 5_000)), "at most 24 megapixels"),
            (plain_jpeg(8_000, 6_000, cmyk, true), "progressive"),
            (plain_jpeg(8_000, 5_000, rgb, true), "progressive"),
        ];
        for (bytes, words) in cases {
            assert!(bytes.len() < 2 << 20, "{}", bytes.len());
            let error = claim(&bytes).unwrap_err();
            assert_eq!(error.code(), "picture_too_large");
            assert!(error.to_string().contains(words), "{error}");
            assert!(matches!(still(&bytes), Err(DecodeError::TooMuchMemory { .. })));
        }
    }

    const PICTURE_OF_CHILD: &str = "LIMEN_TEST_PICTURE";

    /// Run by the test below in a process of its own, whose peak it writes beside the picture.
    #[test]
    fn child_that_decodes_a_picture() {
        let Some(path) = std::env::var_os(PICTURE_OF_CHILD) else { return };
        let bytes = std::fs::read(&path).unwrap();
        let peak = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        let before = peak();
        let image = still(&bytes).unwrap();
        let took = peak() - before;
        std::fs::write(Path::new(&path).with_extension("took"), format!("{took} {}", image.pixels().len()))
            .unwrap();
    }

    #[test]
    fn worst_pictures_accepted_take_no_more_memory_than_they_are_said_to() {
        let rgb = jpeg_encoder::ColorType::Rgb;
        let mut webp = Vec::new();
        let noise = image::RgbaImage::from_fn(3_000, 2_000, |x, y| {
            image::Rgba([(x * 7 + y) as u8, (x ^ y) as u8, y as u8, (x + y) as u8])
        });
        DynamicImage::from(noise).write_to(&mut Cursor::new(&mut webp), ImageFormat::WebP).unwrap();
        let cases = [
            ("50 megapixels of a phone", turned(plain_jpeg(8_160, 6_120, rgb, false))),
            ("16 megapixels, turned", turned(plain_jpeg(4_619, 3_463, rgb, false))),
            ("progressive", plain_jpeg(6_000, 3_200, rgb, true)),
            ("PNG of 16 bits", plain_png(DynamicImage::new_rgba16(4_800, 3_200))),
            ("PNG", plain_png(DynamicImage::new_rgb8(8_000, 6_200))),
            ("transparent PNG", plain_png(DynamicImage::new_rgba8(6_000, 4_000))),
            ("WebP", webp),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture");
        let program = std::env::current_exe().unwrap();
        for (what, bytes) in cases {
            let claimed = claim(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            std::fs::write(&path, &bytes).unwrap();
            let child = std::process::Command::new(&program)
                .args(["--exact", "decode::tests::child_that_decodes_a_picture"])
                .env(PICTURE_OF_CHILD, &path)
                .output()
                .unwrap();
            assert!(child.status.success(), "{what}: {}", String::from_utf8_lossy(&child.stdout));
            let told = std::fs::read_to_string(path.with_extension("took")).unwrap();
            let (took, pixels) = told.split_once(' ').unwrap();
            let (took, pixels): (u64, u64) = (took.parse().unwrap(), pixels.parse().unwrap());
            assert!(took <= claimed.need && claimed.need <= PICTURE_MEMORY, "{what}: {took} of {claimed:?}");
            // The measure itself: it is no less than the picture that came of it.
            assert!(took + (1 << 20) >= pixels, "{what}: {took} for {pixels}");
        }
    }

    #[test]
    fn text_and_emptiness_are_not_pictures() {
        assert!(matches!(still(b""), Err(DecodeError::UnknownFormat)));
        assert!(matches!(still(b"<svg/>"), Err(DecodeError::UnknownFormat)));
    }
}
