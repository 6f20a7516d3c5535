//! Points, boxes and similarity transforms in image coordinates: x to the right, y down, the
//! centre of the first pixel at (0, 0).

use serde::Serialize;

/// A place in a picture, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

impl Point {
    /// Shorthand.
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// Euclidean distance in pixels.
    pub fn distance(self, other: Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// The arithmetic mean; the origin for no points.
    pub fn mean(points: &[Self]) -> Self {
        let count = points.len().max(1) as f32;
        let sum = points.iter().fold(Self::default(), |sum, p| Self::new(sum.x + p.x, sum.y + p.y));
        Self::new(sum.x / count, sum.y / count)
    }
}

/// An upright box, in pixels. It may reach beyond the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PixelBox {
    /// Smallest x.
    pub left: f32,
    /// Smallest y.
    pub top: f32,
    /// Largest x.
    pub right: f32,
    /// Largest y.
    pub bottom: f32,
}

impl PixelBox {
    /// From its four edges.
    pub const fn new(left: f32, top: f32, right: f32, bottom: f32) -> Self {
        Self { left, top, right, bottom }
    }

    /// Width in pixels, never negative.
    pub fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    /// Height in pixels, never negative.
    pub fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The middle.
    pub fn centre(&self) -> Point {
        Point::new((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }

    /// Area of the overlap with `other`, in square pixels.
    pub fn intersection(&self, other: &Self) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &Self) -> f32 {
        let intersection = self.intersection(other);
        let union = self.area() + other.area() - intersection;
        if union > 0.0 { intersection / union } else { 0.0 }
    }
}

/// Rotation, uniform scale and translation: `x' = a x - b y + tx`, `y' = b x + a y + ty`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    /// Scale times the cosine of the angle.
    pub a: f32,
    /// Scale times the sine of the angle.
    pub b: f32,
    /// Shift to the right.
    pub tx: f32,
    /// Shift down.
    pub ty: f32,
}

impl Similarity {
    /// Nothing moves.
    pub const IDENTITY: Self = Self { a: 1.0, b: 0.0, tx: 0.0, ty: 0.0 };

    /// Where `point` goes.
    pub fn apply(&self, point: Point) -> Point {
        Point::new(
            self.a * point.x - self.b * point.y + self.tx,
            self.b * point.x + self.a * point.y + self.ty,
        )
    }

    /// The factor by which lengths grow.
    pub fn scale(&self) -> f32 {
        self.a.hypot(self.b)
    }

    /// The transform that undoes this one; `None` when this one squeezes everything to a point.
    pub fn inverse(&self) -> Option<Self> {
        let squared = self.a * self.a + self.b * self.b;
        if !(squared > 1e-12 && squared.is_finite()) {
            return None;
        }
        let (a, b) = (self.a / squared, -self.b / squared);
        Some(Self { a, b, tx: -(a * self.tx - b * self.ty), ty: -(b * self.tx + a * self.ty) })
    }

    /// The similarity that brings `from` onto `to` with the least sum of squared distances
    /// (Umeyama 1991, without reflection). `None` when the points coincide or are not finite.
    pub fn fit(from: &[Point], to: &[Point]) -> Option<Self> {
        if from.len() != to.len() || from.len() < 2 {
            return None;
        }
        let (mean_from, mean_to) = (Point::mean(from), Point::mean(to));
        let (mut dot, mut cross, mut spread) = (0.0f64, 0.0f64, 0.0f64);
        for (f, t) in from.iter().zip(to) {
            let (fx, fy) = (f64::from(f.x - mean_from.x), f64::from(f.y - mean_from.y));
            let (tx, ty) = (f64::from(t.x - mean_to.x), f64::from(t.y - mean_to.y));
            dot += fx * tx + fy * ty;
            cross += fx * ty - fy * tx;
            spread += fx * fx + fy * fy;
        }
        if !(spread > 1e-9 && spread.is_finite() && dot.is_finite() && cross.is_finite()) {
            return None;
        }
        let (a, b) = ((dot / spread) as f32, (cross / spread) as f32);
        Some(Self {
            a,
            b,
            tx: mean_to.x - (a * mean_from.x - b * mean_from.y),
            ty: mean_to.y - (b * mean_from.x + a * mean_from.y),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_half_overlapping_boxes_is_a_third() {
        let left = PixelBox::new(0.0, 0.0, 10.0, 10.0);
        let right = PixelBox::new(5.0, 0.0, 15.0, 10.0);
        assert!((left.iou(&right) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(left.iou(&PixelBox::new(20.0, 20.0, 30.0, 30.0)), 0.0);
    }

    #[test]
    fn iou_of_inside_out_boxes_is_zero() {
        let inverted = PixelBox::new(10.0, 10.0, 0.0, 0.0);
        assert_eq!(inverted.iou(&inverted), 0.0);
    }

    #[test]
    fn fit_recovers_rotation_scale_and_shift() {
        let truth = Similarity { a: 0.8, b: 0.3, tx: 12.0, ty: -7.0 };
        let from = [Point::new(0.0, 0.0), Point::new(10.0, 1.0), Point::new(3.0, 8.0)];
        let to = from.map(|p| truth.apply(p));
        let found = Similarity::fit(&from, &to).unwrap();
        for point in from {
            assert!(found.apply(point).distance(truth.apply(point)) < 1e-4);
        }
    }

    #[test]
    fn inverse_undoes() {
        let transform = Similarity { a: 0.8, b: 0.3, tx: 12.0, ty: -7.0 };
        let point = Point::new(31.0, 57.0);
        let back = transform.inverse().unwrap().apply(transform.apply(point));
        assert!(back.distance(point) < 1e-4);
    }

    #[test]
    fn degenerate_points_have_no_fit() {
        let same = [Point::new(1.0, 1.0); 5];
        assert!(Similarity::fit(&same, &same).is_none());
        let nan = [Point::new(f32::NAN, 0.0), Point::new(1.0, 1.0)];
        assert!(Similarity::fit(&nan, &nan).is_none());
        assert!(Similarity { a: 0.0, b: 0.0, tx: 1.0, ty: 1.0 }.inverse().is_none());
    }
}
