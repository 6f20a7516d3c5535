//! A decoded or directly readable picture, and the two ways the networks look at it: the whole of
//! it, letterboxed, and a rotated square of it at full resolution.
//!
//! Raw camera formats are never converted as a whole: the letterbox resizes their planes and
//! converts only the small result, and a rotated square converts only the rows that it covers.
//! Pure functions; the recogniser thread runs them.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x2, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use thiserror::Error;
use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvPackedImage, YuvRange, YuvStandardMatrix, yuv_nv12_to_rgb,
    yuyv422_to_rgb,
};

use crate::frame::{FrameSize, RgbImage};
use crate::geometry::{Point, Similarity};

/// Why a picture could not be built or read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PictureError {
    /// Fewer bytes than the format and size need.
    #[error("a {format} picture of {size} with rows of {stride} bytes needs {needed} bytes, got {found}")]
    TooShort {
        /// Name of the format.
        format: &'static str,
        /// Size claimed.
        size: FrameSize,
        /// Bytes a row.
        stride: u32,
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// Zero or absurd dimensions, or odd ones where chroma is shared by pixels.
    #[error("a picture of {size} cannot be {format}")]
    BadSize {
        /// Name of the format.
        format: &'static str,
        /// Size claimed.
        size: FrameSize,
    },
    /// The resizer or converter refused; a bug, since sizes are checked before.
    #[error("the pixel converter refused: {0}")]
    Conversion(String),
}

/// Pixels as they lie in memory. `stride` is in bytes.
#[derive(Clone, Copy)]
enum Layout {
    Rgb,
    Yuyv { stride: u32 },
    Nv12 { stride: u32 },
    Grey { stride: u32 },
}

/// Pixels of one frame, borrowed from whoever owns the bytes.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    size: FrameSize,
    layout: Layout,
    bytes: &'a [u8],
}

impl std::fmt::Debug for Picture<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture {{ {} }}", self.size)
    }
}

impl<'a> From<&'a RgbImage> for Picture<'a> {
    fn from(image: &'a RgbImage) -> Self {
        Self { size: image.size(), layout: Layout::Rgb, bytes: image.pixels() }
    }
}

/// Limits that keep every product of dimensions far below overflow.
const MAX_SIDE: u32 = 16_384;

impl<'a> Picture<'a> {
    /// 4:2:2 packed Y U Y V, BT.601 limited range.
    pub fn yuyv(size: FrameSize, stride: u32, bytes: &'a [u8]) -> Result<Self, PictureError> {
        let even = size.width.is_multiple_of(2);
        let rows = size.height as usize;
        check("YUYV", size, even, stride, size.width.saturating_mul(2), rows, bytes)?;
        Ok(Self { size, layout: Layout::Yuyv { stride }, bytes })
    }

    /// 4:2:0 with interleaved chroma, BT.601 limited range. The chroma plane follows the luma plane
    /// directly and has the same stride.
    pub fn nv12(size: FrameSize, stride: u32, bytes: &'a [u8]) -> Result<Self, PictureError> {
        let even = size.width.is_multiple_of(2) && size.height.is_multiple_of(2);
        let rows = size.height as usize + size.height as usize / 2;
        check("NV12", size, even, stride, size.width, rows, bytes)?;
        Ok(Self { size, layout: Layout::Nv12 { stride }, bytes })
    }

    /// 8-bit luminance, full range.
    pub fn grey(size: FrameSize, stride: u32, bytes: &'a [u8]) -> Result<Self, PictureError> {
        check("GREY", size, true, stride, size.width, size.height as usize, bytes)?;
        Ok(Self { size, layout: Layout::Grey { stride }, bytes })
    }

    /// RGB, 8 bits a channel, rows without padding.
    pub fn rgb(size: FrameSize, bytes: &'a [u8]) -> Result<Self, PictureError> {
        let stride = size.width.saturating_mul(3);
        check("RGB3", size, true, stride, stride, size.height as usize, bytes)?;
        Ok(Self { size, layout: Layout::Rgb, bytes })
    }

    /// Width and height.
    pub fn size(&self) -> FrameSize {
        self.size
    }

    /// All of it as RGB, for drawing and encoding; the networks do not need it.
    pub fn to_rgb(&self) -> Result<RgbImage, PictureError> {
        let mut image = RgbImage::black(0, 0);
        self.to_rgb_into(&mut image)?;
        Ok(image)
    }

    /// The same, into a picture whose memory is used again.
    pub fn to_rgb_into(&self, image: &mut RgbImage) -> Result<(), PictureError> {
        self.convert_rows(0, self.size.height, image)
    }

    /// Converts `count` rows from `top` on to RGB. For NV12 both must be even.
    fn convert_rows(&self, top: u32, count: u32, into: &mut RgbImage) -> Result<(), PictureError> {
        let width = self.size.width;
        into.reshape(width, count);
        let refused = |error: yuv::YuvError| PictureError::Conversion(error.to_string());
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
        let rows = |stride: u32| top as usize * stride as usize..(top + count) as usize * stride as usize;
        match self.layout {
            Layout::Rgb => into.pixels_mut().copy_from_slice(&self.bytes[rows(width * 3)]),
            Layout::Grey { stride } => {
                let source = self.bytes[rows(stride)].chunks_exact(stride as usize);
                for (to, from) in into.pixels_mut().chunks_exact_mut(width as usize * 3).zip(source) {
                    for (rgb, grey) in to.chunks_exact_mut(3).zip(from) {
                        rgb.fill(*grey);
                    }
                }
            }
            Layout::Yuyv { stride } => {
                let yuy = &self.bytes[rows(stride)];
                let source = YuvPackedImage { yuy, yuy_stride: stride, width, height: count };
                yuyv422_to_rgb(&source, into.pixels_mut(), width * 3, range, matrix).map_err(refused)?;
            }
            Layout::Nv12 { stride } => {
                let (luma, chroma) = self.bytes.split_at(stride as usize * self.size.height as usize);
                let source = YuvBiPlanarImage {
                    y_plane: &luma[rows(stride)],
                    y_stride: stride,
                    uv_plane: &chroma
                        [top as usize / 2 * stride as usize..(top + count) as usize / 2 * stride as usize],
                    uv_stride: stride,
                    width,
                    height: count,
                };
                let mode = YuvConversionMode::Balanced;
                yuv_nv12_to_rgb(&source, into.pixels_mut(), width * 3, range, matrix, mode)
                    .map_err(refused)?;
            }
        }
        Ok(())
    }
}

fn check(
    format: &'static str,
    size: FrameSize,
    divisible: bool,
    stride: u32,
    least_stride: u32,
    rows: usize,
    bytes: &[u8],
) -> Result<(), PictureError> {
    let sides = 1..=MAX_SIDE;
    if !divisible || !sides.contains(&size.width) || !sides.contains(&size.height) || stride > MAX_SIDE * 4 {
        return Err(PictureError::BadSize { format, size });
    }
    let needed = stride.max(least_stride) as usize * rows;
    if stride < least_stride || bytes.len() < needed {
        return Err(PictureError::TooShort { format, size, stride, needed, found: bytes.len() });
    }
    Ok(())
}

/// How a picture was fitted into a square: scaled by `scale`, then shifted by the padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Square pixels a source pixel.
    pub scale: f32,
    /// Columns of padding on the left.
    pub left: u32,
    /// Rows of padding above.
    pub top: u32,
    /// Columns the picture fills.
    pub width: u32,
    /// Rows the picture fills.
    pub height: u32,
}

impl Letterbox {
    /// Fits `size` into a square of `side` pixels, centred, keeping the aspect ratio. The longer side
    /// takes the share `fill` of the square, 0 to 1.
    pub fn fit(size: FrameSize, side: u32, fill: f32) -> Self {
        let longest = size.width.max(size.height).max(1);
        let scale = side as f32 * fill / longest as f32;
        let fitted = |length: u32| ((length as f32 * scale).round() as u32).clamp(1, side);
        let (width, height) = (fitted(size.width), fitted(size.height));
        Self { scale, left: (side - width) / 2, top: (side - height) / 2, width, height }
    }

    /// From square pixels back to source pixels.
    pub fn to_source(&self, point: Point) -> Point {
        Point::new((point.x - self.left as f32) / self.scale, (point.y - self.top as f32) / self.scale)
    }
}

/// Buffers and tables that the resampler keeps from picture to picture.
pub struct Resampler {
    resizer: Resizer,
    planes: [Vec<u8>; 2],
    small: Vec<u8>,
    /// Rows of a raw picture, as RGB.
    band: RgbImage,
    /// The rows of a large picture, averaged down.
    reduced: RgbImage,
}

impl Default for Resampler {
    fn default() -> Self {
        let empty = || RgbImage::black(0, 0);
        Self {
            resizer: Resizer::new(),
            planes: Default::default(),
            small: Vec::new(),
            band: empty(),
            reduced: empty(),
        }
    }
}

impl Resampler {
    /// Fits `picture` into a square of `side` pixels, black where it does not reach. Shrinks by area
    /// averaging, grows bilinearly.
    pub fn letterbox(
        &mut self,
        picture: &Picture<'_>,
        side: u32,
        fill: f32,
        square: &mut RgbImage,
    ) -> Result<Letterbox, PictureError> {
        let fit = Letterbox::fit(picture.size, side, fill);
        self.shrink(picture, fit.width, fit.height, fit.scale)?;
        square.reshape(side, side);
        square.pixels_mut().fill(0);
        let row_bytes = fit.width as usize * 3;
        let start = fit.left as usize * 3;
        let rows = square.pixels_mut().chunks_exact_mut(side as usize * 3).skip(fit.top as usize);
        for (to, from) in rows.zip(self.small.chunks_exact(row_bytes)) {
            to[start..start + row_bytes].copy_from_slice(from);
        }
        Ok(fit)
    }

    /// Leaves the whole picture as RGB of the given size in `small`.
    fn shrink(
        &mut self,
        picture: &Picture<'_>,
        width: u32,
        height: u32,
        scale: f32,
    ) -> Result<(), PictureError> {
        let size = picture.size;
        let pixels = width as usize * height as usize;
        self.small.resize(pixels * 3, 0);
        let filter = if scale < 1.0 { FilterType::Hamming } else { FilterType::Bilinear };
        let Self { resizer, planes: [first, second], small, .. } = self;
        let to = FrameSize { width, height };
        match picture.layout {
            Layout::Rgb => {
                let from = Plane { bytes: picture.bytes, row: size.width, size };
                resize_plane::<U8x3>(resizer, from, to, filter, small)?;
            }
            Layout::Grey { stride } => {
                first.resize(pixels, 0);
                let from = Plane { bytes: picture.bytes, row: stride, size };
                resize_plane::<U8>(resizer, from, to, filter, first)?;
                for (rgb, grey) in small.chunks_exact_mut(3).zip(first.iter()) {
                    rgb.fill(*grey);
                }
            }
            Layout::Yuyv { stride } if stride.is_multiple_of(4) => {
                // Y0 U Y1 V is one pixel of four channels: one pass averages all of them.
                first.resize(pixels * 4, 0);
                let size = FrameSize { width: size.width / 2, height: size.height };
                let from = Plane { bytes: picture.bytes, row: stride / 4, size };
                resize_plane::<U8x4>(resizer, from, to, filter, first)?;
                for (rgb, yuyv) in small.chunks_exact_mut(3).zip(first.chunks_exact(4)) {
                    let luma = (u16::from(yuyv[0]) + u16::from(yuyv[2])).div_ceil(2) as u8;
                    rgb.copy_from_slice(&rgb_of(luma, yuyv[1], yuyv[3]));
                }
            }
            Layout::Nv12 { stride } if stride.is_multiple_of(2) => {
                let (luma, chroma) = picture.bytes.split_at(stride as usize * size.height as usize);
                first.resize(pixels, 0);
                second.resize(pixels * 2, 0);
                let from = Plane { bytes: luma, row: stride, size };
                resize_plane::<U8>(resizer, from, to, filter, first)?;
                let size = FrameSize { width: size.width / 2, height: size.height / 2 };
                let from = Plane { bytes: chroma, row: stride / 2, size };
                resize_plane::<U8x2>(resizer, from, to, filter, second)?;
                for ((rgb, luma), uv) in
                    small.chunks_exact_mut(3).zip(first.iter()).zip(second.chunks_exact(2))
                {
                    rgb.copy_from_slice(&rgb_of(*luma, uv[0], uv[1]));
                }
            }
            // Rows that do not begin with a whole group of samples cannot be read as planes.
            Layout::Yuyv { .. } | Layout::Nv12 { .. } => {
                let whole = picture.to_rgb()?;
                let from = Plane { bytes: whole.pixels(), row: size.width, size };
                resize_plane::<U8x3>(resizer, from, to, filter, small)?;
            }
        }
        Ok(())
    }

    /// Cuts a square of `side` pixels out of `picture`: the pixel at `p` of the square shows the
    /// source pixel at `to_source.apply(p)`, bilinearly, black outside the picture. When the square
    /// is much coarser than the picture, the picture is averaged down first, so that a large
    /// enrolment photograph does not alias.
    pub fn cut(
        &mut self,
        picture: &Picture<'_>,
        to_source: &Similarity,
        side: u32,
        square: &mut RgbImage,
    ) -> Result<(), PictureError> {
        square.reshape(side, side);
        let size = picture.size;
        let Some((top, rows)) = covered_rows(to_source, side, size) else {
            square.pixels_mut().fill(0);
            return Ok(());
        };
        // A factor of two between the scales is what bilinear sampling bears without aliasing.
        let reduction = 1u32 << (to_source.scale().max(1.0).log2() as u32).min(6);
        let mut step = 1;
        let rgb_width = size.width as usize * 3;
        let mut view = match picture.layout {
            Layout::Rgb => View {
                pixels: &picture.bytes[top as usize * rgb_width..(top + rows) as usize * rgb_width],
                width: size.width as usize,
                height: rows as usize,
            },
            _ => {
                picture.convert_rows(top, rows, &mut self.band)?;
                View { pixels: self.band.pixels(), width: size.width as usize, height: rows as usize }
            }
        };
        let (reduced_width, reduced_rows) = (size.width / reduction, rows / reduction);
        if reduction > 1 && reduced_width > 0 && reduced_rows > 0 {
            self.reduced.reshape(reduced_width, reduced_rows);
            // Cropped to whole blocks, so that one reduced pixel is exactly `reduction` squared.
            let from = Plane {
                bytes: view.pixels,
                row: size.width,
                size: FrameSize { width: reduced_width * reduction, height: reduced_rows * reduction },
            };
            let to = FrameSize { width: reduced_width, height: reduced_rows };
            let pixels = self.reduced.pixels_mut();
            resize_plane::<U8x3>(&mut self.resizer, from, to, FilterType::Box, pixels)?;
            view = View {
                pixels: self.reduced.pixels(),
                width: reduced_width as usize,
                height: reduced_rows as usize,
            };
            step = reduction;
        }
        // Centre of the first reduced pixel, in source pixels from the first source pixel's centre.
        let offset = (step as f32 - 1.0) / 2.0;
        let step = step as f32;
        let local = Similarity {
            a: to_source.a / step,
            b: to_source.b / step,
            tx: (to_source.tx - offset) / step,
            ty: (to_source.ty - top as f32 - offset) / step,
        };
        warp(&view, &local, square);
        Ok(())
    }
}

/// The rows of a picture that a square touches, widened to even numbers; `None` when there are none.
fn covered_rows(to_source: &Similarity, side: u32, size: FrameSize) -> Option<(u32, u32)> {
    let last = side as f32 - 1.0;
    let corners = [(0.0, 0.0), (last, 0.0), (0.0, last), (last, last)];
    let rows = corners.map(|(x, y)| to_source.apply(Point::new(x, y)).y);
    if rows.iter().any(|y| !y.is_finite()) {
        return None;
    }
    let lowest = rows.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = rows.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // One row of margin for the bilinear neighbour; float to int conversion saturates.
    let top = (lowest - 1.0).max(0.0) as u32 & !1;
    let bottom = ((highest + 3.0).max(0.0) as u32).min(size.height);
    let bottom = if size.height.is_multiple_of(2) { bottom.next_multiple_of(2) } else { bottom };
    (top < bottom).then(|| (top, bottom - top))
}

/// One plane of a picture: `row` pixels from row to row, of which `size.width` count.
#[derive(Clone, Copy)]
struct Plane<'a> {
    bytes: &'a [u8],
    row: u32,
    size: FrameSize,
}

/// Resamples a plane of pixels `P` to the size `to`. By its type, since what is chosen at run time brings the code for
/// every kind of pixel into the program, among it such as the compiler does not make alike twice.
fn resize_plane<P: PixelTrait>(
    resizer: &mut Resizer,
    from: Plane<'_>,
    to: FrameSize,
    filter: FilterType,
    pixels: &mut [u8],
) -> Result<(), PictureError> {
    let refused = |error: String| PictureError::Conversion(error);
    let bytes = from.row as usize * from.size.height as usize * P::size();
    let source = TypedImageRef::<P>::from_buffer(from.row, from.size.height, &from.bytes[..bytes])
        .map_err(|error| refused(error.to_string()))?;
    let mut target = TypedImage::<P>::from_buffer(to.width, to.height, pixels)
        .map_err(|error| refused(error.to_string()))?;
    // A crop in the options would let the filter reach into the padding behind each row.
    let source = TypedCroppedImage::new(source, 0, 0, from.size.width, from.size.height)
        .map_err(|error| refused(error.to_string()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    resizer.resize_typed(&source, &mut target, &options).map_err(|error| refused(error.to_string()))
}

/// BT.601 limited range to RGB, in 1/256 steps.
fn rgb_of(luma: u8, u: u8, v: u8) -> [u8; 3] {
    let luma = 298 * (i32::from(luma) - 16) + 128;
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    [luma + 409 * v, luma - 100 * u - 208 * v, luma + 516 * u].map(|level| (level >> 8).clamp(0, 255) as u8)
}

/// RGB pixels without padding.
struct View<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
}

/// Bilinear resampling of `view` into all of `square`; black outside.
fn warp(view: &View<'_>, to_view: &Similarity, square: &mut RgbImage) {
    let side = square.width() as usize;
    let (right, bottom) = ((view.width - 1) as f32, (view.height - 1) as f32);
    let stride = view.width * 3;
    for (row, target) in square.pixels_mut().chunks_exact_mut(side * 3).enumerate() {
        let start = to_view.apply(Point::new(0.0, row as f32));
        for (column, rgb) in target.chunks_exact_mut(3).enumerate() {
            let x = start.x + to_view.a * column as f32;
            let y = start.y + to_view.b * column as f32;
            if x >= 0.0 && y >= 0.0 && x < right && y < bottom {
                let (left, top) = (x as usize, y as usize);
                let fx = ((x - left as f32) * 256.0) as u32;
                let fy = ((y - top as f32) * 256.0) as u32;
                let at = top * stride + left * 3;
                let upper: &[u8; 6] = view.pixels[at..at + 6].try_into().expect("six bytes");
                let at = at + stride;
                let lower: &[u8; 6] = view.pixels[at..at + 6].try_into().expect("six bytes");
                for channel in 0..3 {
                    let blend = |l: u8, r: u8| u32::from(l) * (256 - fx) + u32::from(r) * fx;
                    let above = blend(upper[channel], upper[channel + 3]);
                    let below = blend(lower[channel], lower[channel + 3]);
                    rgb[channel] = ((above * (256 - fy) + below * fy + (1 << 15)) >> 16) as u8;
                }
            } else {
                rgb.copy_from_slice(&at_the_edge(view, x, y));
            }
        }
    }
}

/// Bilinear sample where some or all of the four neighbours lie outside, and count as black.
fn at_the_edge(view: &View<'_>, x: f32, y: f32) -> [u8; 3] {
    // Much of the square around a face at the border has no neighbour at all.
    if x <= -1.0 || y <= -1.0 || x >= view.width as f32 || y >= view.height as f32 {
        return [0; 3];
    }
    let (left, top) = (x.floor(), y.floor());
    let (fx, fy) = (x - left, y - top);
    let mut sum = [0.0f32; 3];
    for (dx, dy, weight) in [
        (0.0, 0.0, (1.0 - fx) * (1.0 - fy)),
        (1.0, 0.0, fx * (1.0 - fy)),
        (0.0, 1.0, (1.0 - fx) * fy),
        (1.0, 1.0, fx * fy),
    ] {
        let (px, py) = (left + dx, top + dy);
        if px >= 0.0 && py >= 0.0 && px < view.width as f32 && py < view.height as f32 {
            let at = (py as usize * view.width + px as usize) * 3;
            for (total, level) in sum.iter_mut().zip(&view.pixels[at..at + 3]) {
                *total += weight * f32::from(*level);
            }
        }
    }
    sum.map(|level| (level + 0.5) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: FrameSize = FrameSize { width: 64, height: 48 };

    /// A smooth picture: red grows to the right, green downwards, blue stays.
    fn gradient() -> RgbImage {
        let mut image = RgbImage::black(SIZE.width, SIZE.height);
        for (at, rgb) in image.pixels_mut().chunks_exact_mut(3).enumerate() {
            let (x, y) = (at % 64, at / 64);
            rgb.copy_from_slice(&[40 + 2 * x as u8, 60 + 2 * y as u8, 90]);
        }
        image
    }

    fn yuv_of(rgb: [u8; 3]) -> [u8; 3] {
        let [r, g, b] = rgb.map(f32::from);
        let luma = 16.0 + 0.257 * r + 0.504 * g + 0.098 * b;
        let u = 128.0 - 0.148 * r - 0.291 * g + 0.439 * b;
        let v = 128.0 + 0.439 * r - 0.368 * g - 0.071 * b;
        [luma, u, v].map(|level| level.round() as u8)
    }

    fn as_yuyv(image: &RgbImage, stride: usize) -> Vec<u8> {
        let mut bytes = vec![0; stride * 48];
        for y in 0..48 {
            for x in 0..64 {
                let [luma, u, v] = yuv_of(image.pixel(x, y));
                let at = y as usize * stride + x as usize * 2;
                bytes[at] = luma;
                bytes[at + 1] = if x % 2 == 0 { u } else { v };
            }
        }
        bytes
    }

    fn as_nv12(image: &RgbImage, stride: usize) -> Vec<u8> {
        let mut bytes = vec![0; stride * 72];
        for y in 0..48 {
            for x in 0..64 {
                let [luma, u, v] = yuv_of(image.pixel(x, y));
                bytes[y as usize * stride + x as usize] = luma;
                if x % 2 == 0 && y % 2 == 0 {
                    let at = stride * 48 + y as usize / 2 * stride + x as usize;
                    (bytes[at], bytes[at + 1]) = (u, v);
                }
            }
        }
        bytes
    }

    fn furthest(left: &[u8], right: &[u8]) -> u8 {
        assert_eq!(left.len(), right.len());
        left.iter().zip(right).map(|(l, r)| l.abs_diff(*r)).max().unwrap()
    }

    #[test]
    fn letterbox_keeps_the_aspect_ratio_and_maps_back() {
        let fit = Letterbox::fit(FrameSize { width: 640, height: 480 }, 192, 1.0);
        assert_eq!((fit.width, fit.height, fit.left, fit.top), (192, 144, 0, 24));
        let back = fit.to_source(Point::new(96.0, 96.0));
        assert!(back.distance(Point::new(320.0, 240.0)) < 1e-3);
    }

    #[test]
    fn letterbox_that_fills_less_of_the_square_maps_back_all_the_same() {
        let fit = Letterbox::fit(FrameSize { width: 640, height: 480 }, 192, 0.75);
        assert_eq!((fit.width, fit.height, fit.left, fit.top), (144, 108, 24, 42));
        let back = fit.to_source(Point::new(96.0, 96.0));
        assert!(back.distance(Point::new(320.0, 240.0)) < 1e-3);
    }

    #[test]
    fn letterbox_of_an_extreme_shape_still_has_a_pixel() {
        let fit = Letterbox::fit(FrameSize { width: 16_000, height: 1 }, 192, 1.0);
        assert_eq!((fit.width, fit.height), (192, 1));
    }

    #[test]
    fn raw_formats_give_the_same_letterbox_and_cut_as_rgb() {
        let image = gradient();
        let (yuyv, nv12) = (as_yuyv(&image, 136), as_nv12(&image, 70));
        let reference = Picture::from(&image);
        // Strides at which no row after the first begins with a whole group of samples.
        let (odd_yuyv, odd_nv12) = (as_yuyv(&image, 131), as_nv12(&image, 67));
        let others = [
            Picture::yuyv(SIZE, 136, &yuyv).unwrap(),
            Picture::nv12(SIZE, 70, &nv12).unwrap(),
            Picture::yuyv(SIZE, 131, &odd_yuyv).unwrap(),
            Picture::nv12(SIZE, 67, &odd_nv12).unwrap(),
        ];
        let mut resampler = Resampler::default();
        let mut expected = RgbImage::black(0, 0);
        resampler.letterbox(&reference, 32, 1.0, &mut expected).unwrap();
        let turned = Similarity { a: 0.9, b: 0.2, tx: 14.0, ty: 6.0 };
        let mut expected_cut = RgbImage::black(0, 0);
        resampler.cut(&reference, &turned, 30, &mut expected_cut).unwrap();
        for other in others {
            let mut found = RgbImage::black(0, 0);
            resampler.letterbox(&other, 32, 1.0, &mut found).unwrap();
            assert!(furthest(expected.pixels(), found.pixels()) <= 4);
            let mut found = RgbImage::black(0, 0);
            resampler.cut(&other, &turned, 30, &mut found).unwrap();
            assert!(furthest(expected_cut.pixels(), found.pixels()) <= 4);
        }
    }

    #[test]
    fn padding_between_rows_is_never_looked_at() {
        let image = gradient();
        let padded = |row: usize, stride: usize, rows: usize, mut bytes: Vec<u8>, level: u8| {
            for line in bytes.chunks_exact_mut(stride).take(rows) {
                line[row..].fill(level);
            }
            bytes
        };
        let looks = |level: u8| {
            let yuyv = padded(128, 136, 48, as_yuyv(&image, 136), level);
            let nv12 = padded(64, 70, 72, as_nv12(&image, 70), level);
            let grey = padded(64, 71, 48, vec![90; 71 * 48], level);
            let pictures = [
                Picture::yuyv(SIZE, 136, &yuyv).unwrap(),
                Picture::nv12(SIZE, 70, &nv12).unwrap(),
                Picture::grey(SIZE, 71, &grey).unwrap(),
            ];
            pictures.map(|picture| {
                let (mut whole, mut square) = (RgbImage::black(0, 0), RgbImage::black(0, 0));
                Resampler::default().letterbox(&picture, 32, 1.0, &mut whole).unwrap();
                let coarse = Similarity { a: 2.2, b: 0.3, tx: -3.0, ty: -3.0 };
                Resampler::default().cut(&picture, &coarse, 32, &mut square).unwrap();
                [whole, square]
            })
        };
        assert!(looks(0) == looks(255));
    }

    #[test]
    fn cut_by_identity_copies_pixels() {
        let image = gradient();
        let mut square = RgbImage::black(0, 0);
        let shift = Similarity { tx: 3.0, ty: 5.0, ..Similarity::IDENTITY };
        Resampler::default().cut(&Picture::from(&image), &shift, 8, &mut square).unwrap();
        assert_eq!(square.pixel(0, 0), image.pixel(3, 5));
        assert_eq!(square.pixel(7, 7), image.pixel(10, 12));
    }

    #[test]
    fn cut_outside_the_picture_is_black() {
        let image = gradient();
        let mut square = gradient();
        for to_source in [
            Similarity { tx: 500.0, ty: 5.0, ..Similarity::IDENTITY },
            Similarity { tx: 5.0, ty: -900.0, ..Similarity::IDENTITY },
            Similarity { tx: f32::NAN, ty: 0.0, ..Similarity::IDENTITY },
        ] {
            Resampler::default().cut(&Picture::from(&image), &to_source, 8, &mut square).unwrap();
            assert!(square.pixels().iter().all(|level| *level == 0));
        }
    }

    #[test]
    fn coarse_cut_averages_instead_of_skipping_pixels() {
        let mut stripes = RgbImage::black(64, 64);
        for (at, rgb) in stripes.pixels_mut().chunks_exact_mut(3).enumerate() {
            rgb.fill(if at % 2 == 0 { 200 } else { 0 });
        }
        let quarter = Similarity { a: 4.0, b: 0.0, tx: 1.5, ty: 1.5 };
        let mut square = RgbImage::black(0, 0);
        Resampler::default().cut(&Picture::from(&stripes), &quarter, 12, &mut square).unwrap();
        assert!(square.pixels().iter().all(|level| level.abs_diff(100) <= 1));
    }

    #[test]
    fn short_buffers_and_odd_sizes_are_refused() {
        assert!(matches!(Picture::yuyv(SIZE, 128, &[0; 100]), Err(PictureError::TooShort { .. })));
        assert!(matches!(Picture::yuyv(SIZE, 2, &[0; 6144]), Err(PictureError::TooShort { .. })));
        let odd = FrameSize { width: 63, height: 48 };
        assert!(matches!(Picture::nv12(odd, 64, &[0; 9999]), Err(PictureError::BadSize { .. })));
        let absurd = FrameSize { width: u32::MAX, height: u32::MAX };
        for refused in
            [Picture::rgb(absurd, &[]), Picture::yuyv(absurd, 64, &[]), Picture::nv12(absurd, 64, &[])]
        {
            assert!(matches!(refused, Err(PictureError::BadSize { .. })));
        }
    }
}
