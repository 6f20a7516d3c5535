//! How the camera's picture is turned, what of it is hidden, and where faces are looked for.
//!
//! Applied to every picture right behind decoding, before anything looks at it: what is masked is
//! black to the networks, to whoever watches, and in every picture that is kept. Nothing is copied
//! while nothing is set. Areas are fractions of the picture as it is shown, so that they stay where they
//! are when the camera gives another size. Pure; runs on the thread `recogniser`.
//!
//! Noticing motion ([`crate::change`]) works on the bytes of the camera and sees masked places too: who
//! moves there may cause a look, which finds nobody.

use crate::config::{Camera, Rotation};
use crate::frame::{FrameSize, RgbImage};
use crate::geometry::{PixelBox, Point};
use crate::picture::{Picture, PictureError};

/// A rectangle in fractions of the picture: from the left, from the top, width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
}

impl Area {
    /// `None` unless it lies inside the picture and covers some of it.
    pub fn new([x, y, width, height]: [f32; 4]) -> Option<Self> {
        // Fractions are written by hand and by a browser: 0.7 and 0.3 need not add up to one exactly.
        let inside = |from: f32, length: f32| from >= 0.0 && length > 0.0 && from + length <= 1.0001;
        (inside(x, width) && inside(y, height)).then_some(Self { x, y, width, height })
    }

    /// Left, top, width, height.
    pub fn fractions(&self) -> [f32; 4] {
        [self.x, self.y, self.width, self.height]
    }

    /// In pixels of a picture; may end between two.
    fn pixels(&self, size: FrameSize) -> PixelBox {
        let (width, height) = (size.width as f32, size.height as f32);
        PixelBox::new(
            self.x * width,
            self.y * height,
            (self.x + self.width) * width,
            (self.y + self.height) * height,
        )
    }
}

/// What is done to every picture of the camera.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    rotation: Rotation,
    mirror: bool,
    masks: Vec<Area>,
    region: Option<Area>,
}

impl From<&Camera> for View {
    fn from(camera: &Camera) -> Self {
        Self {
            rotation: camera.rotate,
            mirror: camera.mirror,
            masks: camera.masks.clone(),
            region: camera.region,
        }
    }
}

/// The pictures that a view makes, kept from frame to frame.
pub struct Canvas {
    straight: RgbImage,
    turned: RgbImage,
}

impl Default for Canvas {
    fn default() -> Self {
        Self { straight: RgbImage::black(0, 0), turned: RgbImage::black(0, 0) }
    }
}

impl View {
    /// Turns the picture, then mirrors it, then blackens what is masked.
    pub fn apply<'a>(
        &self,
        picture: Picture<'a>,
        canvas: &'a mut Canvas,
    ) -> Result<Picture<'a>, PictureError> {
        if self.rotation == Rotation::None && !self.mirror && self.masks.is_empty() {
            return Ok(picture);
        }
        picture.to_rgb_into(&mut canvas.straight)?;
        let shown = match self.rotation {
            Rotation::None => &mut canvas.straight,
            Rotation::Quarter | Rotation::Half | Rotation::ThreeQuarters => {
                turn(&canvas.straight, self.rotation, &mut canvas.turned);
                &mut canvas.turned
            }
        };
        if self.mirror {
            mirror(shown);
        }
        for mask in &self.masks {
            blacken(shown, &mask.pixels(shown.size()));
        }
        Ok(Picture::from(&*shown))
    }

    /// Whether a face there is looked at: its centre lies inside the region, where there is one.
    pub fn looks_at(&self, face: &PixelBox, size: FrameSize) -> bool {
        self.region.is_none_or(|region| {
            let (Point { x, y }, region) = (face.centre(), region.pixels(size));
            (region.left..=region.right).contains(&x) && (region.top..=region.bottom).contains(&y)
        })
    }
}

/// Clockwise.
fn turn(from: &RgbImage, rotation: Rotation, to: &mut RgbImage) {
    let FrameSize { width, height } = from.size();
    match rotation {
        Rotation::None | Rotation::Half => to.reshape(width, height),
        Rotation::Quarter | Rotation::ThreeQuarters => to.reshape(height, width),
    }
    let (wide, tall) = (width as usize, height as usize);
    let (source, _) = from.pixels().as_chunks::<3>();
    let new_width = to.width().max(1) as usize;
    let (target, _) = to.pixels_mut().as_chunks_mut::<3>();
    for (row, line) in target.chunks_exact_mut(new_width).enumerate() {
        for (column, pixel) in line.iter_mut().enumerate() {
            *pixel = match rotation {
                Rotation::None => source[row * wide + column],
                Rotation::Quarter => source[(tall - 1 - column) * wide + row],
                Rotation::Half => source[(tall - 1 - row) * wide + (wide - 1 - column)],
                Rotation::ThreeQuarters => source[column * wide + (wide - 1 - row)],
            };
        }
    }
}

fn mirror(picture: &mut RgbImage) {
    let width = picture.width().max(1) as usize;
    let (pixels, _) = picture.pixels_mut().as_chunks_mut::<3>();
    pixels.chunks_exact_mut(width).for_each(<[[u8; 3]]>::reverse);
}

/// Pixels that an area only touches are hidden too.
fn blacken(picture: &mut RgbImage, area: &PixelBox) {
    let FrameSize { width, height } = picture.size();
    let range = |from: f32, to: f32, end: u32| from.floor() as usize..(to.ceil() as usize).min(end as usize);
    let (columns, rows) = (range(area.left, area.right, width), range(area.top, area.bottom, height));
    let lines = picture.pixels_mut().chunks_exact_mut(width.max(1) as usize * 3);
    for line in lines.take(rows.end).skip(rows.start) {
        line[columns.start * 3..columns.end * 3].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three columns, two rows, each pixel another red.
    fn picture() -> RgbImage {
        RgbImage::from_pixels(3, 2, (1..=6).flat_map(|red| [red * 10, 0, 0]).collect()).unwrap()
    }

    fn seen(view: &View) -> (FrameSize, Vec<u8>) {
        let (image, mut canvas) = (picture(), Canvas::default());
        let shown = view.apply(Picture::from(&image), &mut canvas).unwrap().to_rgb().unwrap();
        (shown.size(), shown.pixels().iter().step_by(3).copied().collect())
    }

    fn area(fractions: [f32; 4]) -> Area {
        Area::new(fractions).unwrap()
    }

    #[test]
    fn picture_is_turned_clockwise() {
        for (rotation, width, reds) in [
            (Rotation::None, 3, [10, 20, 30, 40, 50, 60]),
            (Rotation::Quarter, 2, [40, 10, 50, 20, 60, 30]),
            (Rotation::Half, 3, [60, 50, 40, 30, 20, 10]),
            (Rotation::ThreeQuarters, 2, [30, 60, 20, 50, 10, 40]),
        ] {
            let (size, found) = seen(&View { rotation, ..View::default() });
            assert_eq!((size.width, found), (width, reds.to_vec()), "{rotation:?}");
        }
    }

    #[test]
    fn picture_is_mirrored_after_it_was_turned() {
        let (size, reds) = seen(&View { rotation: Rotation::Quarter, mirror: true, ..View::default() });
        assert_eq!((size.width, reds), (2, vec![10, 40, 20, 50, 30, 60]));
    }

    #[test]
    fn mask_blackens_every_pixel_it_touches_as_the_picture_is_shown() {
        let masks = vec![area([0.4, 0.0, 0.1, 0.5])];
        assert_eq!(seen(&View { masks, ..View::default() }).1, [10, 0, 30, 40, 50, 60]);
        let masks = vec![area([0.0, 0.0, 1.0, 0.2]), area([0.9, 0.9, 0.1, 0.1])];
        let turned = View { rotation: Rotation::Half, masks, ..View::default() };
        assert_eq!(seen(&turned).1, [0, 0, 0, 30, 20, 0]);
    }

    #[test]
    fn faces_are_looked_at_where_their_centre_is_inside_the_region() {
        let size = FrameSize { width: 100, height: 100 };
        let view = View { region: Some(area([0.5, 0.0, 0.5, 1.0])), ..View::default() };
        assert!(view.looks_at(&PixelBox::new(30.0, 0.0, 72.0, 40.0), size));
        assert!(!view.looks_at(&PixelBox::new(20.0, 0.0, 78.0, 40.0), size));
        assert!(View::default().looks_at(&PixelBox::new(20.0, 0.0, 78.0, 40.0), size));
    }

    #[test]
    fn areas_outside_of_the_picture_or_of_nothing_are_none() {
        for bad in [
            [0.0, 0.0, 0.0, 1.0],
            [0.5, 0.0, 0.6, 1.0],
            [-0.1, 0.0, 0.5, 0.5],
            [0.0, f32::NAN, 0.5, 0.5],
            [0.0, 0.0, f32::INFINITY, 0.5],
        ] {
            assert_eq!(Area::new(bad), None, "{bad:?}");
        }
        assert!(Area::new([0.7, 0.3, 0.3, 0.7]).is_some());
    }
}
