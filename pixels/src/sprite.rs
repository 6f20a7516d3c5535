//! Pixels of the built-in scene: the corridor, and people cut out of their portraits.

use image::imageops::{self, FilterType};
use image::{ImageFormat, Rgba, RgbaImage};

use crate::frame::{FrameSize, RgbImage};

/// Where a head is. Lengths are fractions of the frame: `x` of its width, the others of its height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Middle of the head.
    pub x: f32,
    /// The same from the top.
    pub y: f32,
    /// Height of the head.
    pub head: f32,
    /// Clockwise.
    pub tilt_rad: f32,
    /// From 0, not there, to 1.
    pub opacity: f32,
    /// Light on the person, 1 for that of the photograph.
    pub light: f32,
}

/// From 0 to 1 with a gentle start and end.
pub fn smooth(share: f32) -> f32 {
    let share = share.clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

/// Share of the frame's height where the desk in front of everybody begins.
const DESK_AT: f32 = 0.87;

/// A portrait and where its head is, in pixels of the portrait.
#[derive(Clone, Copy, Debug)]
pub struct Portrait {
    /// The photograph.
    pub jpeg: &'static [u8],
    /// Luminance PNG, white where the person is.
    pub mask: &'static [u8],
    /// Middle of the head.
    pub head_x: f32,
    /// The same from the top.
    pub head_y: f32,
    /// Crown to chin.
    pub head_height: f32,
}

/// A person, ready to be drawn at any size up to the one asked for.
pub struct Sprite {
    /// Colours multiplied by opacity; each level half the size of the one before.
    levels: Vec<RgbaImage>,
    head_x: f32,
    head_y: f32,
    head_height: f32,
}

impl Sprite {
    /// Decodes a portrait for heads of at most `largest_head_px`.
    pub fn new(portrait: &Portrait, largest_head_px: f32) -> image::ImageResult<Self> {
        let picture = image::load_from_memory_with_format(portrait.jpeg, ImageFormat::Jpeg)?.into_rgb8();
        let mask = image::load_from_memory_with_format(portrait.mask, ImageFormat::Png)?.into_luma8();
        let (width, height) = picture.dimensions();
        let scale = (largest_head_px / portrait.head_height).min(1.0);
        let mut whole = RgbaImage::new(width, height);
        for (x, y, pixel) in whole.enumerate_pixels_mut() {
            let mask = mask.get_pixel_checked(x, y).map_or(0, |mask| mask[0]);
            let alpha = f32::from(mask) / 255.0 * side_fade(x as f32 / width as f32);
            let [r, g, b] = picture[(x, y)].0.map(|channel| (f32::from(channel) * alpha) as u8);
            *pixel = Rgba([r, g, b, (255.0 * alpha) as u8]);
        }
        let side = |length: u32| ((length as f32 * scale) as u32).max(2);
        let mut levels = vec![imageops::resize(&whole, side(width), side(height), FilterType::Triangle)];
        while let Some(last) = levels.last()
            && last.width().min(last.height()) >= 64
        {
            let (width, height) = (last.width() / 2, last.height() / 2);
            levels.push(imageops::resize(last, width, height, FilterType::Triangle));
        }
        Ok(Self {
            levels,
            head_x: portrait.head_x * scale,
            head_y: portrait.head_y * scale,
            head_height: portrait.head_height * scale,
        })
    }

    /// Draws the person behind the desk.
    pub fn draw(&self, pose: &Pose, picture: &mut RgbImage) {
        let FrameSize { width, height } = picture.size();
        let (x, y) = (pose.x * width as f32, pose.y * height as f32);
        let scale = pose.head * height as f32 / self.head_height;
        let level = ((1.0 / scale).log2().floor().max(0.0) as usize).min(self.levels.len() - 1);
        let sprite = &self.levels[level];
        let (level_x, level_y) = (
            sprite.width() as f32 / self.levels[0].width() as f32,
            sprite.height() as f32 / self.levels[0].height() as f32,
        );
        let (sin, cos) = pose.tilt_rad.sin_cos();
        // From a place in the frame, relative to the head, to one in the sprite.
        let (step_x, step_y) = (cos / scale * level_x, -sin / scale * level_y);
        let (down_x, down_y) = (sin / scale * level_x, cos / scale * level_y);
        let (head_x, head_y) = (self.head_x * level_x, self.head_y * level_y);
        let reach = self.levels[0].width().max(self.levels[0].height()) as f32 * scale * 1.2;
        let columns = span(x - reach, x + reach, width);
        let rows = span(y - reach, height as f32, desk_row(height));
        let bottom = (sprite.height() - 1) as f32;
        let (light, opacity) = ((pose.light * 256.0) as u32, (pose.opacity * 256.0) as u32);
        for row in rows {
            let away_y = row as f32 + 0.5 - y;
            let from = row as usize * width as usize * 3;
            let line = &mut picture.pixels_mut()[from..from + width as usize * 3];
            for column in columns.clone() {
                let away_x = column as f32 + 0.5 - x;
                let u = head_x + away_x * step_x + away_y * down_x - 0.5;
                let v = head_y + away_x * step_y + away_y * down_y - 0.5;
                if u < 0.0 || v < 0.0 || u >= (sprite.width() - 1) as f32 {
                    continue;
                }
                // Below the portrait's edge its last row goes on, into the shadow of the desk.
                let shade = 1.0 - 0.7 * ((v - bottom) / (bottom * 0.3)).clamp(0.0, 1.0);
                let [r, g, b, a] = sample(sprite, u, v.min(bottom - 0.01));
                let alpha = (a * opacity) >> 8;
                if alpha == 0 {
                    continue;
                }
                let gain = (light * (shade * 256.0) as u32) >> 8;
                let pixel = &mut line[column as usize * 3..column as usize * 3 + 3];
                for (out, colour) in pixel.iter_mut().zip([r, g, b]) {
                    let behind = u32::from(*out) * (65_280 - alpha);
                    let front = ((((colour * opacity) >> 8) * gain) >> 8).min(alpha) * 255;
                    *out = ((front + behind) / 65_280) as u8;
                }
            }
        }
    }
}

/// Whole pixels from `from` to `to` that lie inside `0..end`.
fn span(from: f32, to: f32, end: u32) -> std::ops::Range<u32> {
    from.max(0.0) as u32..(to.max(0.0).ceil() as u32).min(end)
}

/// Opacity over the width: arms that the photograph cuts off end softly.
fn side_fade(share: f32) -> f32 {
    smooth(share / 0.07) * smooth((1.0 - share) / 0.07)
}

/// Bilinear. Channels and opacity from 0 to 65280 (255 * 256).
fn sample(sprite: &RgbaImage, u: f32, v: f32) -> [u32; 4] {
    let (u, v) = ((u * 256.0) as u32, (v * 256.0) as u32);
    let (fraction_x, fraction_y) = (u & 255, v & 255);
    let width = sprite.width() as usize;
    let at = ((v >> 8) as usize * width + (u >> 8) as usize) * 4;
    let bytes = sprite.as_raw();
    let upper: &[u8; 8] = bytes[at..at + 8].try_into().expect("8 bytes");
    let lower: &[u8; 8] = bytes[at + width * 4..at + width * 4 + 8].try_into().expect("8 bytes");
    std::array::from_fn(|channel| {
        let blend = |row: &[u8; 8]| {
            u32::from(row[channel]) * (256 - fraction_x) + u32::from(row[channel + 4]) * fraction_x
        };
        (blend(upper) * (256 - fraction_y) + blend(lower) * fraction_y) >> 8
    })
}

fn desk_row(height: u32) -> u32 {
    (height as f32 * DESK_AT) as u32
}

/// The corridor with nobody in it: a far wall with a door, walls, floor and ceiling that run
/// towards it, out of focus, and the desk.
pub fn corridor(size: FrameSize) -> RgbImage {
    let FrameSize { width, height } = size;
    let mut picture = RgbImage::black(width, height);
    for y in 0..height {
        for x in 0..width {
            let at = (y as usize * width as usize + x as usize) * 3;
            let place = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.42);
            let colour = corridor_colour(place);
            picture.pixels_mut()[at..at + 3].copy_from_slice(&colour.map(|channel| channel as u8));
        }
    }
    blur(&mut picture, (height / 120).max(1) as usize);
    desk_and_grain(&mut picture);
    picture
}

/// Colour at a place relative to the vanishing point, in shares of width and height.
fn corridor_colour((across, down): (f32, f32)) -> [f32; 3] {
    let depth = (across.abs() / 0.5).max(down / 0.58).max(-down / 0.42);
    let shade = |colour: [f32; 3], light: f32| colour.map(|channel| (channel * light).clamp(0.0, 255.0));
    if depth < 0.3 {
        let door = across.abs() < 0.075 && down > -0.09;
        let pane = across.abs() < 0.045 && (-0.06..0.02).contains(&down);
        return match (pane, door) {
            (true, _) => [214.0, 222.0, 224.0],
            (_, true) => [118.0, 92.0, 70.0],
            _ => shade([176.0, 178.0, 172.0], 1.0 - 0.5 * depth),
        };
    }
    // Distance along the corridor, for what repeats along it.
    let along = 1.0 / depth;
    let light = 0.62 + 0.5 * smooth((depth - 0.3) / 0.7);
    if down / 0.58 >= depth - 1e-4 {
        let tile = ((along * 3.0) as i32 + ((across / depth + 8.0) * 5.0) as i32) % 2;
        shade([128.0, 118.0, 106.0], light - 0.07 * tile as f32)
    } else if -down / 0.42 >= depth - 1e-4 {
        let lamp = (across / depth).abs() < 0.14 && (along * 2.0).fract() < 0.45;
        if lamp { [246.0, 244.0, 232.0] } else { shade([196.0, 196.0, 192.0], light) }
    } else {
        let panel = (along * 2.5).fract() < 0.06;
        let rail = (0.42..0.47).contains(&(down / depth));
        let left = if across < 0.0 { 0.94 } else { 1.04 };
        shade([172.0, 176.0, 168.0], light * left - if panel || rail { 0.12 } else { 0.0 })
    }
}

/// Mean over `2 * radius + 1` pixels along rows and then columns.
fn blur(picture: &mut RgbImage, radius: usize) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let line = |pixels: &mut [u8], start: usize, step: usize, count: usize| {
        let copy: Vec<u32> = (0..count).map(|n| u32::from(pixels[start + n * step])).collect();
        for n in 0..count {
            let window = &copy[n.saturating_sub(radius)..(n + radius + 1).min(count)];
            pixels[start + n * step] = (window.iter().sum::<u32>() / window.len() as u32) as u8;
        }
    };
    for channel in 0..3 {
        for y in 0..height {
            line(picture.pixels_mut(), y * width * 3 + channel, 3, width);
        }
        for x in 0..width {
            line(picture.pixels_mut(), x * 3 + channel, width * 3, height);
        }
    }
}

fn desk_and_grain(picture: &mut RgbImage) {
    let FrameSize { width, height } = picture.size();
    let desk = desk_row(height);
    let mut noise = 0x2545_F491u32;
    for (index, pixel) in picture.pixels_mut().chunks_exact_mut(3).enumerate() {
        let row = index as u32 / width;
        if row >= desk {
            let depth = (row - desk) as f32 / (height - desk) as f32;
            let light = if depth < 0.12 { 1.25 } else { 0.9 - 0.35 * depth };
            pixel.copy_from_slice(&[112.0, 84.0, 62.0].map(|channel| (channel * light) as u8));
        }
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        let grain = (noise % 7) as i16 - 3;
        pixel.iter_mut().for_each(|channel| *channel = (i16::from(*channel) + grain).clamp(0, 255) as u8);
    }
}
