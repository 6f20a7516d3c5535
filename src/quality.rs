//! How usable a face sample is, and why it is not.
//!
//! Pure functions over landmarks and the aligned crop. Every limit has its own typed reason, so
//! that a visitor can be told what to do and an operator can see why a face was not recognised.

use serde::Serialize;

use crate::align::AlignedFace;
use crate::frame::FrameSize;
use crate::geometry::{PixelBox, Point};
use crate::landmarks::{FivePoints, HeadPose, Landmarks};
use crate::score::QualityScore;

/// What was measured of one face sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// All of the following in one number.
    pub score: QualityScore,
    /// Distance between the eyes in source pixels.
    pub eye_distance_px: f32,
    /// Detail of the aligned crop, 0 (none) to 1.
    pub sharpness: f32,
    /// Mean luminance of the aligned crop, 0 to 255.
    pub exposure: f32,
    /// Turn to the side, degrees.
    pub yaw_deg: f32,
    /// Nod up or down, degrees.
    pub pitch_deg: f32,
    /// Lean to the shoulder, degrees.
    pub roll_deg: f32,
    /// Probability that there is a face, 0 to 1.
    pub face_presence: f32,
    /// Share of the face inside the picture, 0 to 1.
    pub inside: f32,
}

/// Limits below or above which a sample is not used; see the configuration reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualityLimits {
    /// Least distance between the eyes, source pixels.
    pub minimum_eye_distance_px: f32,
    /// Greatest turn, degrees.
    pub maximum_yaw_deg: f32,
    /// Greatest nod, degrees.
    pub maximum_pitch_deg: f32,
    /// Greatest lean, degrees.
    pub maximum_roll_deg: f32,
    /// Least sharpness, 0 to 1.
    pub minimum_sharpness: f32,
    /// Least mean luminance, 0 to 255.
    pub minimum_exposure: f32,
    /// Greatest mean luminance, 0 to 255.
    pub maximum_exposure: f32,
    /// Least probability of a face.
    pub minimum_face_presence: f32,
}

/// Share of the face that must lie inside the picture; a forehead may be cut, an eye may not.
const MINIMUM_INSIDE: f32 = 0.85;

/// Why a sample is not used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Unusable {
    /// The landmark network sees no face there.
    NotAFace {
        /// Its probability.
        face_presence: f32,
    },
    /// Part of the face lies outside the picture.
    CutByFrame {
        /// Share of the mesh inside.
        inside: f32,
    },
    /// Too few pixels between the eyes.
    TooFar {
        /// Measured.
        eye_distance_px: f32,
        /// Limit.
        minimum_px: f32,
    },
    /// The head is turned to the side.
    TurnedAway {
        /// Measured.
        yaw_deg: f32,
    },
    /// The head looks up or down.
    LookingUpOrDown {
        /// Measured.
        pitch_deg: f32,
    },
    /// The head leans to a shoulder.
    Tilted {
        /// Measured.
        roll_deg: f32,
    },
    /// Too little light on the face.
    TooDark {
        /// Mean luminance.
        exposure: f32,
    },
    /// Too much light on the face.
    TooBright {
        /// Mean luminance.
        exposure: f32,
    },
    /// No detail: out of focus or in motion.
    Blurred {
        /// Measured.
        sharpness: f32,
    },
}

impl Unusable {
    /// A short constant name, for counters and JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAFace { .. } => "not_a_face",
            Self::CutByFrame { .. } => "cut_by_frame",
            Self::TooFar { .. } => "too_far",
            Self::TurnedAway { .. } => "turned_away",
            Self::LookingUpOrDown { .. } => "looking_up_or_down",
            Self::Tilted { .. } => "tilted",
            Self::TooDark { .. } => "too_dark",
            Self::TooBright { .. } => "too_bright",
            Self::Blurred { .. } => "blurred",
        }
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAFace { face_presence } => write!(f, "not a face (presence {face_presence:.2})"),
            Self::CutByFrame { inside } => {
                write!(f, "cut by the edge of the picture ({:.0} % inside)", inside * 100.0)
            }
            Self::TooFar { eye_distance_px, minimum_px } => {
                write!(f, "too far ({eye_distance_px:.0} px between the eyes, {minimum_px:.0} needed)")
            }
            Self::TurnedAway { yaw_deg } => write!(f, "turned away ({yaw_deg:.0} degrees)"),
            Self::LookingUpOrDown { pitch_deg } => write!(f, "looking up or down ({pitch_deg:.0} degrees)"),
            Self::Tilted { roll_deg } => write!(f, "tilted ({roll_deg:.0} degrees)"),
            Self::TooDark { exposure } => write!(f, "too dark (luminance {exposure:.0})"),
            Self::TooBright { exposure } => write!(f, "too bright (luminance {exposure:.0})"),
            Self::Blurred { sharpness } => write!(f, "blurred (sharpness {sharpness:.2})"),
        }
    }
}

impl Quality {
    /// Measures one sample. `bbox` is the detector's, `size` the source picture's.
    pub fn measure(
        landmarks: &Landmarks,
        points: &FivePoints,
        face: &AlignedFace,
        bbox: &PixelBox,
        size: FrameSize,
    ) -> Self {
        let HeadPose { yaw_deg, pitch_deg, roll_deg } = landmarks.head_pose();
        let luma = Luma::of(face);
        let mut quality = Self {
            score: QualityScore::MIN,
            eye_distance_px: points.eye_distance_px(),
            sharpness: luma.sharpness(),
            exposure: luma.mean(),
            yaw_deg,
            pitch_deg,
            roll_deg,
            face_presence: landmarks.face_presence,
            // At the edge the landmark network squeezes its points into what it sees, the detector
            // does not.
            inside: share_inside(landmarks.points(), size).min(bbox_inside(bbox, size)),
        };
        quality.score = quality.combined();
        quality
    }

    /// The first limit that this sample breaks, those first that make the others meaningless.
    pub fn check(&self, limits: &QualityLimits) -> Result<(), Unusable> {
        let Self {
            eye_distance_px,
            sharpness,
            exposure,
            yaw_deg,
            pitch_deg,
            roll_deg,
            face_presence,
            inside,
            ..
        } = *self;
        if face_presence < limits.minimum_face_presence {
            Err(Unusable::NotAFace { face_presence })
        } else if inside < MINIMUM_INSIDE {
            Err(Unusable::CutByFrame { inside })
        } else if eye_distance_px < limits.minimum_eye_distance_px {
            Err(Unusable::TooFar { eye_distance_px, minimum_px: limits.minimum_eye_distance_px })
        } else if yaw_deg.abs() > limits.maximum_yaw_deg {
            Err(Unusable::TurnedAway { yaw_deg })
        } else if pitch_deg.abs() > limits.maximum_pitch_deg {
            Err(Unusable::LookingUpOrDown { pitch_deg })
        } else if roll_deg.abs() > limits.maximum_roll_deg {
            Err(Unusable::Tilted { roll_deg })
        } else if exposure < limits.minimum_exposure {
            Err(Unusable::TooDark { exposure })
        } else if exposure > limits.maximum_exposure {
            Err(Unusable::TooBright { exposure })
        } else if sharpness < limits.minimum_sharpness {
            Err(Unusable::Blurred { sharpness })
        } else {
            Ok(())
        }
    }

    /// Product of one factor for each measurement; a factor is one where more would not help and
    /// falls linearly towards where the embedding network has little left to see.
    fn combined(&self) -> QualityScore {
        let rising =
            |value: f32, useless: f32, full: f32| ((value - useless) / (full - useless)).clamp(0.0, 1.0);
        let size = 0.3 + 0.7 * rising(self.eye_distance_px, 12.0, 48.0);
        let sharpness = 0.2 + 0.8 * rising(self.sharpness, 0.0, 0.5);
        let yaw = rising(self.yaw_deg.abs(), 60.0, 10.0);
        let pitch = rising(self.pitch_deg.abs(), 50.0, 12.0);
        let light = rising(self.exposure, 15.0, 70.0) * rising(self.exposure, 250.0, 200.0);
        let whole = rising(self.inside, 0.7, 1.0) * self.face_presence.clamp(0.0, 1.0);
        QualityScore::new(size * sharpness * yaw * pitch * light * whole)
    }
}

fn bbox_inside(bbox: &PixelBox, size: FrameSize) -> f32 {
    let picture = PixelBox::new(0.0, 0.0, size.width as f32, size.height as f32);
    if bbox.area() > 0.0 { bbox.intersection(&picture) / bbox.area() } else { 0.0 }
}

fn share_inside(points: impl ExactSizeIterator<Item = Point>, size: FrameSize) -> f32 {
    let count = points.len().max(1);
    let (width, height) = (size.width as f32, size.height as f32);
    let inside =
        points.filter(|p| p.x >= -0.5 && p.y >= -0.5 && p.x < width - 0.5 && p.y < height - 0.5).count();
    inside as f32 / count as f32
}

/// Luminance of an aligned crop, without the corners, which often show background.
struct Luma {
    side: usize,
    levels: Vec<i32>,
}

impl Luma {
    fn of(face: &AlignedFace) -> Self {
        let levels = face
            .pixels
            .pixels()
            .chunks_exact(3)
            .map(|rgb| (77 * i32::from(rgb[0]) + 150 * i32::from(rgb[1]) + 29 * i32::from(rgb[2])) >> 8)
            .collect();
        Self { side: face.pixels.width() as usize, levels }
    }

    /// Rows and columns of the inner part, where the alignment puts eyes, nose and mouth.
    fn inner(&self) -> std::ops::Range<usize> {
        self.side / 5..self.side - self.side / 8
    }

    fn mean(&self) -> f32 {
        let inner = self.inner();
        let sum: i64 = inner
            .clone()
            .flat_map(|y| self.levels[y * self.side..][inner.clone()].iter())
            .map(|level| i64::from(*level))
            .sum();
        sum as f32 / (inner.len() * inner.len()).max(1) as f32
    }

    /// Energy of the Laplacian against the contrast of the same pixels: dimming the light changes
    /// neither, losing focus lowers the former. `x / (x + HALF)` brings it to 0..1.
    fn sharpness(&self) -> f32 {
        /// The ratio that counts as half sharp; the median of the aligned fixture portraits lies
        /// well above, the same blurred with a radius of two pixels below.
        const HALF: f64 = 0.05;
        let (inner, side, at) = (self.inner(), self.side, &self.levels);
        let (mut energy, mut sum, mut squares, mut count) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for y in inner.clone() {
            for x in inner.clone() {
                let here = y * side + x;
                let laplacian =
                    4 * at[here] - at[here - 1] - at[here + 1] - at[here - side] - at[here + side];
                energy += f64::from(laplacian * laplacian);
                sum += f64::from(at[here]);
                squares += f64::from(at[here] * at[here]);
                count += 1.0;
            }
        }
        if count == 0.0 {
            return 0.0;
        }
        let variance = squares / count - (sum / count).powi(2);
        // A face without contrast has none of its detail left either.
        let ratio = energy / count / (variance + 25.0);
        (ratio / (ratio + HALF)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::RgbImage;

    const LIMITS: QualityLimits = QualityLimits {
        minimum_eye_distance_px: 24.0,
        maximum_yaw_deg: 35.0,
        maximum_pitch_deg: 30.0,
        maximum_roll_deg: 60.0,
        minimum_sharpness: 0.1,
        minimum_exposure: 40.0,
        maximum_exposure: 220.0,
        minimum_face_presence: 0.5,
    };

    const GOOD: Quality = Quality {
        score: QualityScore::MAX,
        eye_distance_px: 50.0,
        sharpness: 0.6,
        exposure: 120.0,
        yaw_deg: 5.0,
        pitch_deg: -5.0,
        roll_deg: 3.0,
        face_presence: 1.0,
        inside: 1.0,
    };

    fn crop(level: impl Fn(u32, u32) -> u8) -> AlignedFace {
        let mut pixels = RgbImage::black(112, 112);
        for (at, rgb) in pixels.pixels_mut().chunks_exact_mut(3).enumerate() {
            rgb.fill(level(at as u32 % 112, at as u32 / 112));
        }
        AlignedFace { pixels }
    }

    #[test]
    fn each_broken_limit_has_its_own_reason() {
        let cases = [
            (Quality { face_presence: 0.1, ..GOOD }, "not_a_face"),
            (Quality { inside: 0.5, ..GOOD }, "cut_by_frame"),
            (Quality { eye_distance_px: 12.0, ..GOOD }, "too_far"),
            (Quality { yaw_deg: -50.0, ..GOOD }, "turned_away"),
            (Quality { pitch_deg: 40.0, ..GOOD }, "looking_up_or_down"),
            (Quality { roll_deg: 80.0, ..GOOD }, "tilted"),
            (Quality { exposure: 20.0, ..GOOD }, "too_dark"),
            (Quality { exposure: 240.0, ..GOOD }, "too_bright"),
            (Quality { sharpness: 0.01, ..GOOD }, "blurred"),
        ];
        for (quality, code) in cases {
            assert_eq!(quality.check(&LIMITS).unwrap_err().code(), code);
        }
        assert_eq!(GOOD.check(&LIMITS), Ok(()));
    }

    #[test]
    fn blur_lowers_sharpness_and_dim_light_does_not() {
        let checks = |low: u8, high: u8| {
            move |x: u32, y: u32| if (x / 4 + y / 4).is_multiple_of(2) { low } else { high }
        };
        let smooth = |x: u32, y: u32| (128.0 + 60.0 * (x as f32 / 9.0).sin() * (y as f32 / 9.0).cos()) as u8;
        let sharp = Luma::of(&crop(checks(60, 180))).sharpness();
        let dim = Luma::of(&crop(checks(30, 90))).sharpness();
        let blurred = Luma::of(&crop(smooth)).sharpness();
        assert!((sharp - dim).abs() < 0.02, "{sharp} {dim}");
        assert!(blurred < sharp / 2.0, "{blurred} {sharp}");
        assert_eq!(Luma::of(&crop(|_, _| 90)).sharpness(), 0.0);
    }

    #[test]
    fn box_half_outside_the_picture_is_half_inside() {
        let size = FrameSize { width: 100, height: 100 };
        assert_eq!(bbox_inside(&PixelBox::new(-20.0, 10.0, 20.0, 50.0), size), 0.5);
        assert_eq!(bbox_inside(&PixelBox::new(10.0, 10.0, 20.0, 50.0), size), 1.0);
        assert_eq!(bbox_inside(&PixelBox::default(), size), 0.0);
    }

    #[test]
    fn exposure_is_the_mean_luminance_of_the_inner_crop() {
        let bright_corner = crop(|x, y| if x < 10 && y < 10 { 255 } else { 70 });
        assert!((Luma::of(&bright_corner).mean() - 70.0).abs() < 1.0);
    }

    #[test]
    fn combined_score_falls_with_every_defect() {
        let best = GOOD.combined();
        for worse in [
            Quality { eye_distance_px: 20.0, ..GOOD },
            Quality { sharpness: 0.05, ..GOOD },
            Quality { yaw_deg: 40.0, ..GOOD },
            Quality { pitch_deg: 40.0, ..GOOD },
            Quality { exposure: 30.0, ..GOOD },
            Quality { inside: 0.8, ..GOOD },
            Quality { face_presence: 0.4, ..GOOD },
        ] {
            assert!(worse.combined() < best, "{worse:?}");
        }
    }
}
