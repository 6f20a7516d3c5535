//! What decoding a still picture takes in memory, told from its header before anything is reserved.
//!
//! The unit ends the whole program when it takes more than `MemoryMax=416M` (systemd/limen.service), the
//! door with it. What the largest pictures may take is therefore one sum, in MiB:
//!
//! | for | at most | bounded by |
//! | --- | --- | --- |
//! | recognition, gallery, web server, networks of the examiners | 96 | 65 measured without still pictures (docs/performance.md) |
//! | pictures that are decoded or examined | 176 | [`PICTURE_MEMORY`], shared by all examiners |
//! | pictures that come in over the network | 64 | `UPLOAD_BYTES` (src/admin/faces.rs) |
//! | pictures read from an archive | 40 | `READ_AHEAD` and one of [`MAX_STILL_BYTES`](super::MAX_STILL_BYTES) (src/import.rs) |
//! | pictures on the tray, made small | 32 | `ALL_BYTES` (src/admin/tray.rs) |
//!
//! Together 408. A JPEG of fifty megapixels takes 150 million bytes of the 176 MiB and is one alone; of
//! twelve megapixels, two go at a time.

use super::{DecodeError, JpegHeader, MAX_STILL_PIXELS};
use crate::frame::FrameSize;

/// Bytes that the still pictures decoded and examined at one time may take together.
pub const PICTURE_MEMORY: u64 = 176 << 20;
/// A picture of more pixels is halved in width and height once it is decoded. The networks look at far
/// less than is left, and a copy of it that is turned upright is bearable.
pub const HALVED_ABOVE: u64 = 16_000_000;
/// What a decoder keeps besides pixels: some rows of the widest picture, and tables.
const ROWS: u64 = 4 << 20;
/// Colour profiles and texts of a PNG, which come compressed.
pub(super) const METADATA: u64 = 8 << 20;

/// A still picture that may be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What its header says; upright or not.
    pub size: FrameSize,
    /// The most bytes that decoding it and turning it upright take.
    pub need: u64,
}

/// How a decoder goes about a picture: what it calls it, and what it holds.
pub(super) struct Way {
    kind: &'static str,
    /// Held at one time while it is decoded.
    bytes_per_pixel: u64,
    /// Held besides, however large the picture is.
    fixed: u64,
}

impl Way {
    /// `file`: bytes of the file, all of which may be metadata that the decoder copies.
    pub(super) fn jpeg(header: &JpegHeader, file: usize) -> Self {
        let pixels = pixels_of(header.size).max(1);
        // In place of pixels, decoders of several scans keep the coefficients of all of them.
        let coefficients = header.coefficient_bytes.div_ceil(pixels);
        let kind = if coefficients > 0 { "progressive JPEG" } else { "JPEG" };
        Self { kind, bytes_per_pixel: 3 + coefficients, fixed: ROWS + file as u64 }
    }

    /// `decoded`: bytes a pixel of the decoder's own format, which is then turned into RGB.
    pub(super) fn png(decoded: u8, is_rgb8: bool, file: usize) -> Self {
        let kind = if decoded > 4 { "PNG of 16 bits" } else { "PNG" };
        let bytes_per_pixel = u64::from(decoded) + if is_rgb8 { 0 } else { 3 };
        Self { kind, bytes_per_pixel, fixed: ROWS + METADATA + file as u64 }
    }

    /// As `image-webp` reserves: the output; planes of a lossy picture (1.5) or RGBA of a lossless one (4);
    /// RGBA and one plane for transparency (5); a frame and a canvas of moving ones (8).
    pub(super) fn webp(transparent: bool, moving: bool, file: usize) -> Self {
        let (kind, bytes_per_pixel) = match (transparent, moving) {
            (_, true) => ("moving WebP", 20),
            (true, false) => ("transparent WebP", 12),
            (false, false) => ("WebP", 8),
        };
        Self { kind, bytes_per_pixel, fixed: ROWS + file as u64 }
    }

    /// Refuses what would take more than there is.
    pub(super) fn claim(&self, size: FrameSize) -> Result<Claim, DecodeError> {
        let pixels = pixels_of(size);
        let kept = if pixels > HALVED_ABOVE { pixels / 4 } else { pixels };
        // Turning it upright takes a second picture, when the decoder's own memory is free again.
        let need = self.fixed + (self.bytes_per_pixel * pixels).max(6 * kept);
        if need > PICTURE_MEMORY {
            let most = PICTURE_MEMORY.saturating_sub(self.fixed) / self.bytes_per_pixel;
            let megapixels = most.min(MAX_STILL_PIXELS) / 1_000_000;
            return Err(DecodeError::TooMuchMemory { size, kind: self.kind, megapixels });
        }
        Ok(Claim { size, need })
    }
}

pub(super) fn pixels_of(size: FrameSize) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

/// Bytes of the coefficients of all blocks, two each. `sampling`: horizontal and vertical factors of each
/// component (ITU-T T.81 A.2).
pub(super) fn coefficient_bytes(size: FrameSize, sampling: impl Iterator<Item = (u8, u8)> + Clone) -> u64 {
    let factor = |value: u8| u64::from(value.clamp(1, 4));
    let widest = sampling.clone().map(|(across, _)| factor(across)).max().unwrap_or(1);
    let tallest = sampling.clone().map(|(_, down)| factor(down)).max().unwrap_or(1);
    let units = u64::from(size.width).div_ceil(8 * widest) * u64::from(size.height).div_ceil(8 * tallest);
    sampling.map(|(across, down)| units * factor(across) * factor(down) * 64 * 2).sum()
}
