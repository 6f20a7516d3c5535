//! One picture as a camera delivers it, and plain RGB pixels.

use std::ops::Deref;
use std::sync::{Arc, Mutex, Weak};

use image::ImageEncoder;

use crate::clock::Monotonic;

/// Running number of a frame, counted by the source that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u64);

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FrameSize {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl std::fmt::Display for FrameSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How the bytes of a [`RawFrame`] encode pixels. The names are the V4L2 fourcc codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PixelFormat {
    /// One JPEG a frame, perhaps without Huffman tables and with bytes after its end.
    Mjpg,
    /// 4:2:2, packed Y U Y V.
    Yuyv,
    /// 4:2:0, a plane of Y, then a plane of interleaved U V.
    Nv12,
    /// 8 bits of luminance a pixel.
    Grey,
    /// 8 bits each of red, green, blue; what replayed pictures and the built-in scene give.
    Rgb3,
}

impl PixelFormat {
    /// The four characters V4L2 knows this format by.
    pub fn fourcc(self) -> [u8; 4] {
        *match self {
            Self::Mjpg => b"MJPG",
            Self::Yuyv => b"YUYV",
            Self::Nv12 => b"NV12",
            Self::Grey => b"GREY",
            Self::Rgb3 => b"RGB3",
        }
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.fourcc()).expect("fourcc codes are ASCII"))
    }
}

/// A frame just as the source gave it.
///
/// `stride` is the bytes from one row of the first plane to the next; 0 for [`PixelFormat::Mjpg`].
/// `bytes` is already cut at what the driver says it filled.
pub struct RawFrame {
    /// Running number; gaps are frames that were never delivered.
    pub id: FrameId,
    /// When the source says the picture was taken.
    pub captured_at: Monotonic,
    /// Encoding of `bytes`.
    pub format: PixelFormat,
    /// What the stream was negotiated to be.
    pub size: FrameSize,
    /// Bytes from row to row of the first plane.
    pub stride: u32,
    /// The picture.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for RawFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawFrame {{ {:?}, {} {}, {} bytes }}", self.id, self.format, self.size, self.bytes.len())
    }
}

/// RGB pixels, 8 bits a channel, rows without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    size: FrameSize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// A black picture.
    pub fn black(width: u32, height: u32) -> Self {
        let pixels = vec![0; width as usize * height as usize * 3];
        Self { size: FrameSize { width, height }, pixels }
    }

    /// Takes `width * height * 3` bytes; `None` when there are more or fewer.
    pub fn from_pixels(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let expected = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (pixels.len() == expected).then_some(Self { size: FrameSize { width, height }, pixels })
    }

    /// Changes the size in place, keeping the allocation; the pixels are unspecified afterwards.
    pub fn reshape(&mut self, width: u32, height: u32) {
        self.size = FrameSize { width, height };
        self.pixels.resize(width as usize * height as usize * 3, 0);
    }

    /// As a PNG.
    pub fn to_png(&self) -> Option<Vec<u8>> {
        let mut png = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut png);
        let colour = image::ExtendedColorType::Rgb8;
        encoder.write_image(&self.pixels, self.width(), self.height(), colour).ok()?;
        Some(png)
    }

    /// As a JPEG with halved chroma, as cameras make them; `None` for a picture larger than one can be.
    pub fn to_jpeg(&self, quality: u8) -> Option<Vec<u8>> {
        let (width, height) = (u16::try_from(self.width()).ok()?, u16::try_from(self.height()).ok()?);
        let mut jpeg = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut jpeg, quality);
        // From quality 90 on the encoder would keep all chroma, at twice the time.
        encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
        encoder.encode(&self.pixels, width, height, jpeg_encoder::ColorType::Rgb).ok()?;
        Some(jpeg)
    }

    /// Width and height.
    pub fn size(&self) -> FrameSize {
        self.size
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.size.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.size.height
    }

    /// All bytes, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All bytes, row by row, to write to.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Gives up the bytes, for reuse.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The colour at a place inside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.size.width as usize + x as usize) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage {{ {} }}", self.size)
    }
}

/// Pictures kept for reuse: one shown, one being encoded, one being made.
const SPARE_IMAGES: usize = 3;

/// Pictures whose memory goes round: one that is no longer needed comes back by itself.
#[derive(Debug, Default)]
pub struct ImagePool(Arc<Mutex<Vec<RgbImage>>>);

impl ImagePool {
    /// A picture of unspecified size and content.
    pub fn take(&self) -> PooledImage {
        let spare = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let image = spare.unwrap_or_else(|| RgbImage::black(0, 0));
        PooledImage { image, home: Arc::downgrade(&self.0) }
    }
}

/// A picture of an [`ImagePool`].
pub struct PooledImage {
    image: RgbImage,
    home: Weak<Mutex<Vec<RgbImage>>>,
}

impl PooledImage {
    /// The picture, to be made.
    pub fn image_mut(&mut self) -> &mut RgbImage {
        &mut self.image
    }
}

impl Deref for PooledImage {
    type Target = RgbImage;

    fn deref(&self) -> &RgbImage {
        &self.image
    }
}

impl std::fmt::Debug for PooledImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.image.fmt(f)
    }
}

impl Drop for PooledImage {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut spare = home.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if spare.len() < SPARE_IMAGES {
            spare.push(std::mem::replace(&mut self.image, RgbImage::black(0, 0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_refuses_a_buffer_of_another_size() {
        assert!(RgbImage::from_pixels(2, 2, vec![0; 12]).is_some());
        assert!(RgbImage::from_pixels(2, 2, vec![0; 11]).is_none());
        assert!(RgbImage::from_pixels(u32::MAX, u32::MAX, vec![0; 12]).is_none());
    }

    #[test]
    fn memory_of_a_picture_comes_back_to_its_pool() {
        let pool = ImagePool::default();
        let mut first = pool.take();
        first.image_mut().reshape(64, 64);
        let at = first.pixels().as_ptr();
        drop(first);
        assert_eq!(pool.take().pixels().as_ptr(), at);
        let outlives = pool.take();
        drop(pool);
        drop(outlives);
    }

    #[test]
    fn debug_output_shows_no_pixels() {
        let image = RgbImage::from_pixels(1, 1, vec![201, 202, 203]).unwrap();
        assert_eq!(format!("{image:?}"), "RgbImage { 1x1 }");
    }
}
