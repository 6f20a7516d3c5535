//! Pixels in memory, in true colour, whatever the panel shows of them.

use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

/// A picture that is drawn to.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    size: Size,
    pixels: Vec<Rgb888>,
}

impl Canvas {
    /// All black.
    pub fn new(width: u32, height: u32) -> Self {
        Self { size: Size::new(width, height), pixels: vec![Rgb888::BLACK; (width * height) as usize] }
    }

    /// Width and height, pixels.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.size.width, self.size.height)
    }

    /// One pixel; black outside.
    pub fn pixel(&self, x: u32, y: u32) -> Rgb888 {
        let inside = x < self.size.width && y < self.size.height;
        if inside { self.pixels[(y * self.size.width + x) as usize] } else { Rgb888::BLACK }
    }

    /// The smallest rectangle in which two pictures of one size differ; none where they are the same.
    pub fn changed(&self, before: &Self) -> Option<Rectangle> {
        if self.size != before.size {
            return Some(Rectangle::new(Point::zero(), self.size));
        }
        let width = self.size.width as usize;
        let rows = self.pixels.chunks(width).zip(before.pixels.chunks(width)).enumerate();
        let mut found: Option<(usize, usize, usize, usize)> = None;
        for (y, (now, then)) in rows {
            let Some(left) = now.iter().zip(then).position(|(a, b)| a != b) else { continue };
            let right = now.iter().zip(then).rposition(|(a, b)| a != b).unwrap_or(left);
            found = Some(match found {
                None => (left, y, right, y),
                Some((l, top, r, _)) => (l.min(left), top, r.max(right), y),
            });
        }
        found.map(|(left, top, right, bottom)| {
            Rectangle::new(
                Point::new(left as i32, top as i32),
                Size::new((right - left + 1) as u32, (bottom - top + 1) as u32),
            )
        })
    }

    /// As RGB bytes, row after row.
    pub fn to_rgb(&self) -> Vec<u8> {
        self.pixels.iter().flat_map(|pixel| [pixel.r(), pixel.g(), pixel.b()]).collect()
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = core::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y)) else { continue };
            if x < self.size.width && y < self.size.height {
                self.pixels[(y * self.size.width + x) as usize] = color;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_rectangle_of_what_changed_is_found() {
        let before = Canvas::new(20, 10);
        let mut after = before.clone();
        assert_eq!(after.changed(&before), None);
        for at in [Point::new(3, 2), Point::new(11, 7), Point::new(-1, 4), Point::new(20, 4)] {
            Pixel(at, Rgb888::WHITE).draw(&mut after).unwrap();
        }
        assert_eq!(after.changed(&before), Some(Rectangle::new(Point::new(3, 2), Size::new(9, 6))));
        assert_eq!(Canvas::new(5, 5).changed(&before).unwrap().size, Size::new(5, 5));
    }
}
