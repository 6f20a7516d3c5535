//! Five-point alignment: brings a face into the position that the embedding network was trained on.

use crate::frame::RgbImage;
use crate::geometry::{Point, Similarity};
use crate::landmarks::FivePoints;
use crate::models::Alignment;
use crate::picture::{Picture, PictureError, Resampler};

/// The crop an embedding is made from; its pixels are biometric data.
#[derive(Clone, Debug)]
pub struct AlignedFace {
    /// The crop, square.
    pub pixels: RgbImage,
}

/// The fixed places of the five points in a crop of `side` pixels.
#[derive(Clone, Debug)]
pub struct AlignmentTemplate {
    points: [Point; 5],
    side: u32,
}

impl AlignmentTemplate {
    /// From the manifest.
    pub fn new(alignment: &Alignment, side: u32) -> Self {
        Self { points: alignment.template.map(|[x, y]| Point::new(x, y)), side }
    }

    /// From source pixels to crop pixels; `None` for points that coincide.
    pub fn transform(&self, points: &FivePoints) -> Option<Similarity> {
        Similarity::fit(&points.as_array(), &self.points)
    }

    /// Cuts the aligned crop out of `picture`; `None` for points that coincide.
    pub fn align(
        &self,
        picture: &Picture<'_>,
        points: &FivePoints,
        resampler: &mut Resampler,
    ) -> Result<Option<AlignedFace>, PictureError> {
        let Some(to_source) = self.transform(points).and_then(|to_crop| to_crop.inverse()) else {
            return Ok(None);
        };
        let mut pixels = RgbImage::black(0, 0);
        resampler.cut(picture, &to_source, self.side, &mut pixels)?;
        Ok(Some(AlignedFace { pixels }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> AlignmentTemplate {
        let template = [[38.0, 51.0], [73.0, 51.0], [56.0, 71.0], [41.0, 92.0], [70.0, 92.0]];
        AlignmentTemplate::new(&Alignment { template }, 112)
    }

    fn five(points: [Point; 5]) -> FivePoints {
        let [eye_image_left, eye_image_right, nose_tip, mouth_image_left, mouth_image_right] = points;
        FivePoints { eye_image_left, eye_image_right, nose_tip, mouth_image_left, mouth_image_right }
    }

    #[test]
    fn points_of_a_turned_and_scaled_face_land_on_the_template() {
        let template = template();
        let placed = Similarity { a: 1.4, b: -0.6, tx: 200.0, ty: 90.0 };
        let points = five(template.points.map(|p| placed.apply(p)));
        let transform = template.transform(&points).unwrap();
        for (source, target) in points.as_array().iter().zip(template.points) {
            assert!(transform.apply(*source).distance(target) < 1e-3);
        }
    }

    #[test]
    fn coinciding_points_give_no_crop() {
        let image = RgbImage::black(50, 50);
        let points = five([Point::new(5.0, 5.0); 5]);
        let crop = template().align(&Picture::from(&image), &points, &mut Resampler::default()).unwrap();
        assert!(crop.is_none());
    }
}
