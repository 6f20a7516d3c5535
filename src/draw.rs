//! Pictures for people to look at: boxes, landmarks and words over the faces of a picture.
//!
//! Only for an operator's eyes; nothing here takes part in recognition.

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point as Place, Size};
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X13, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{Drawable, Primitive};
use embedded_graphics::primitives::{Circle, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

use crate::frame::RgbImage;
use crate::geometry::{PixelBox, Point};

/// What a box says by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A subject was named.
    Match,
    /// Nobody enrolled.
    NoMatch,
    /// Not decided or not usable.
    Inconclusive,
}

impl Tone {
    fn colour(self) -> Rgb888 {
        match self {
            Self::Match => Rgb888::new(46, 204, 113),
            Self::NoMatch => Rgb888::new(255, 149, 0),
            Self::Inconclusive => Rgb888::new(160, 170, 180),
        }
    }
}

/// One face to draw.
#[derive(Clone)]
pub struct Annotation {
    /// Its box, in picture pixels.
    pub bbox: PixelBox,
    /// Its points, in picture pixels; may be empty.
    pub points: Vec<Point>,
    /// The line above the box.
    pub title: String,
    /// The smaller line below the box; may be empty.
    pub detail: String,
    /// Colour.
    pub tone: Tone,
}

/// Draws all annotations over `picture`. Sizes follow the picture's, so that a photograph of twelve
/// megapixels is as legible as a small frame.
pub fn annotate(picture: &mut RgbImage, annotations: &[Annotation]) {
    let scale = (picture.width().max(picture.height()) / 640).clamp(1, 8);
    let mut canvas = Canvas { picture };
    for annotation in annotations {
        canvas.face(annotation, scale);
    }
}

struct Canvas<'a> {
    picture: &'a mut RgbImage,
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.picture.width(), self.picture.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        let (width, height) = (self.picture.width() as usize, self.picture.height() as usize);
        let bytes = self.picture.pixels_mut();
        for Pixel(place, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(place.x), usize::try_from(place.y)) else { continue };
            if x < width && y < height {
                let at = (y * width + x) * 3;
                bytes[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

/// Each pixel of what is drawn becomes a square of `scale` pixels.
struct Magnified<'a, 'b> {
    canvas: &'a mut Canvas<'b>,
    origin: Place,
    scale: i32,
}

impl OriginDimensions for Magnified<'_, '_> {
    fn size(&self) -> Size {
        self.canvas.size()
    }
}

impl DrawTarget for Magnified<'_, '_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(place, colour) in pixels {
            let corner = self.origin + place * self.scale;
            let square = Size::new_equal(self.scale.unsigned_abs());
            self.canvas.fill_solid(&Rectangle::new(corner, square), colour)?;
        }
        Ok(())
    }
}

fn place(point: Point) -> Place {
    // Converting saturates, so that an absurd box is drawn off the picture instead of overflowing.
    let limit = |value: f32| value.clamp(-100_000.0, 100_000.0) as i32;
    Place::new(limit(point.x), limit(point.y))
}

impl Canvas<'_> {
    fn face(&mut self, annotation: &Annotation, scale: u32) {
        let colour = annotation.tone.colour();
        let bbox = &annotation.bbox;
        let corner = place(Point::new(bbox.left, bbox.top));
        let far = place(Point::new(bbox.right, bbox.bottom));
        let frame = Rectangle::with_corners(corner, far);
        draw(frame.into_styled(PrimitiveStyle::with_stroke(colour, 2 * scale)).draw(self));
        for point in &annotation.points {
            let dot = Circle::with_center(place(*point), 2 * scale + 1);
            draw(dot.into_styled(PrimitiveStyle::with_fill(colour)).draw(self));
        }
        let scale = scale as i32;
        let title_height = 20 * scale + 4 * scale;
        let above = corner.y - title_height;
        // Inside the box where there is no room above it.
        let title_at = Place::new(corner.x, if above >= 0 { above } else { corner.y });
        self.label(&annotation.title, title_at, &FONT_10X20, scale, colour);
        if !annotation.detail.is_empty() {
            self.label(
                &annotation.detail,
                Place::new(corner.x, far.y + 2 * scale),
                &FONT_6X13,
                scale,
                colour,
            );
        }
    }

    /// Dark words on a coloured bar, kept inside the picture.
    fn label(&mut self, text: &str, at: Place, font: &MonoFont<'_>, scale: i32, colour: Rgb888) {
        let shown = latin(text);
        let characters = shown.chars().count() as i32;
        let advance = (font.character_size.width + font.character_spacing) as i32;
        let (width, height) =
            ((characters * advance + 6) * scale, (font.character_size.height as i32 + 4) * scale);
        let size = self.size();
        let inside = |wanted: i32, length: i32, whole: u32| wanted.min(whole as i32 - length).max(0);
        let at = Place::new(inside(at.x, width, size.width), inside(at.y, height, size.height));
        let bar = Rectangle::new(at, Size::new(width.unsigned_abs(), height.unsigned_abs()));
        draw(bar.into_styled(PrimitiveStyle::with_fill(colour)).draw(self));
        let origin = at + Place::new(3 * scale, 2 * scale);
        let mut magnified = Magnified { canvas: self, origin, scale };
        let style = MonoTextStyle::new(font, Rgb888::new(16, 20, 24));
        draw(Text::with_baseline(&shown, Place::zero(), style, Baseline::Top).draw(&mut magnified));
    }
}

fn draw<T>(result: Result<T, std::convert::Infallible>) {
    result.map(|_| ()).unwrap_or_else(|never| match never {});
}

/// The font holds Latin-1; what it lacks is shown as a question mark, never as an empty box.
fn latin(text: &str) -> String {
    text.chars().map(|c| if (' '..='\u{ff}').contains(&c) && !c.is_control() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(bbox: PixelBox) -> Annotation {
        let (title, detail) = ("Zo\u{eb}".to_owned(), "score 0.71".to_owned());
        Annotation { bbox, points: vec![bbox.centre()], title, detail, tone: Tone::Match }
    }

    #[test]
    fn box_and_words_are_drawn_inside_the_picture() {
        let mut picture = RgbImage::black(320, 240);
        annotate(&mut picture, &[annotation(PixelBox::new(100.0, 80.0, 180.0, 170.0))]);
        assert_eq!(picture.pixel(100, 120), [46, 204, 113]);
        assert_ne!(picture.pixel(105, 62), [0, 0, 0]);
        assert_eq!(picture.pixel(10, 10), [0, 0, 0]);
    }

    #[test]
    fn absurd_boxes_do_not_panic() {
        let mut picture = RgbImage::black(64, 48);
        let infinite = f32::INFINITY;
        annotate(
            &mut picture,
            &[
                annotation(PixelBox::new(-infinite, -infinite, infinite, infinite)),
                annotation(PixelBox::new(f32::NAN, 0.0, 1.0, 1.0)),
                annotation(PixelBox::new(60.0, 40.0, 10.0, 10.0)),
            ],
        );
    }

    #[test]
    fn letters_the_font_lacks_become_question_marks() {
        assert_eq!(latin("Zo\u{eb} \u{397}\n"), "Zo\u{eb} ??");
    }
}
