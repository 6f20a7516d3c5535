//! The built-in scene: a corridor in which people from the fixture portraits come and go, so that
//! the whole appliance runs without a camera. Each frame follows from its number alone. It is given
//! as JPEG, so that it takes the same way through decoding as a USB camera's.
//!
//! These are photographs moved about, not people: it shows that the software works, and says
//! nothing about accuracy.

use std::sync::Arc;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::replay::Pace;
use super::{CameraError, CameraSettings, Cancel, FrameSource, StreamDescription, Transport};
use crate::clock::Clock;
use crate::frame::{FrameId, FrameSize, PixelFormat, RawFrame, RgbImage};

mod timeline;

use limen_pixels::sprite::{Portrait, Sprite, corridor};
use timeline::Actor;

macro_rules! portrait {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/portraits/", $name))
    };
}

/// Of the frames' JPEGs. A webcam's are about as good.
const JPEG_QUALITY: u8 = 85;

/// Somebody who appears in the scene.
#[derive(Clone, Copy, Debug)]
pub struct ScenePerson {
    /// As on the portrait.
    pub name: &'static str,
    /// JPEGs to enrol from; pictures other than the one shown in the scene, where there are any.
    pub pictures: &'static [&'static [u8]],
    /// Whether the demonstration enrols this person; the others are to stay unknown.
    pub enrolled: bool,
}

const PEOPLE: [ScenePerson; 4] = [
    ScenePerson {
        name: "Barack Obama",
        pictures: &[portrait!("barack_obama_1.jpg"), portrait!("barack_obama_2.jpg")],
        enrolled: true,
    },
    ScenePerson { name: "Joe Biden", pictures: &[portrait!("joe_biden_1.jpg")], enrolled: false },
    ScenePerson { name: "Eileen Collins", pictures: &[portrait!("eileen_collins_1.jpg")], enrolled: true },
    ScenePerson { name: "Grace Hopper", pictures: &[portrait!("grace_hopper_1.jpg")], enrolled: false },
];

/// Everybody who appears in the scene.
pub fn people() -> &'static [ScenePerson] {
    &PEOPLE
}

impl Actor {
    const ALL: [Self; 4] = [Self::Obama, Self::Biden, Self::Collins, Self::Hopper];

    fn person(self) -> &'static ScenePerson {
        &PEOPLE[self as usize]
    }

    fn portrait(self) -> Portrait {
        match self {
            Self::Obama => Portrait {
                jpeg: portrait!("barack_obama_3.jpg"),
                mask: portrait!("barack_obama_3.mask.png"),
                head_x: 250.0,
                head_y: 228.0,
                head_height: 330.0,
            },
            Self::Biden => Portrait {
                jpeg: portrait!("joe_biden_1.jpg"),
                mask: portrait!("joe_biden_1.mask.png"),
                head_x: 247.0,
                head_y: 228.0,
                head_height: 345.0,
            },
            Self::Collins => Portrait {
                jpeg: portrait!("eileen_collins_1.jpg"),
                mask: portrait!("eileen_collins_1.mask.png"),
                head_x: 172.0,
                head_y: 98.0,
                head_height: 163.0,
            },
            Self::Hopper => Portrait {
                jpeg: portrait!("grace_hopper_1.jpg"),
                mask: portrait!("grace_hopper_1.mask.png"),
                head_x: 258.0,
                head_y: 172.0,
                head_height: 290.0,
            },
        }
    }
}

/// Where somebody's head is in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisibleHead {
    /// Who.
    pub person: &'static str,
    /// Whether the demonstration enrols them.
    pub enrolled: bool,
    /// Middle of the head, pixels from the left.
    pub x_px: f32,
    /// Middle of the head, pixels from the top.
    pub y_px: f32,
    /// Crown to chin.
    pub height_px: f32,
}

/// Draws the scene.
pub struct Scene {
    size: FrameSize,
    rate_hz: f32,
    corridor: RgbImage,
    sprites: Vec<Sprite>,
}

impl Scene {
    /// Decodes the portraits and paints the corridor: 0.05 s of CPU at 640x480. A frame then costs
    /// 4.9 ms with its JPEG, 13 ms at 1280x720 (two shared x86-64 cores, November 2026).
    pub fn new(size: FrameSize, rate_hz: f32) -> Result<Self, CameraError> {
        let sprite = |actor: Actor| {
            Sprite::new(&actor.portrait(), timeline::largest_head(actor) * size.height as f32)
                .map_err(|error| CameraError::Scene(error.to_string()))
        };
        let sprites = Actor::ALL.into_iter().map(sprite).collect::<Result<_, _>>()?;
        Ok(Self { size, rate_hz, corridor: corridor(size), sprites })
    }

    fn seconds(&self, number: u64) -> f32 {
        // Reduced before it becomes an f32, so that motion stays smooth after months.
        (number as f64 / f64::from(self.rate_hz) % f64::from(timeline::PERIOD_S)) as f32
    }

    /// Draws frame `number` over whatever `picture` held.
    pub fn draw(&self, number: u64, picture: &mut RgbImage) {
        let seconds = self.seconds(number);
        picture.reshape(self.size.width, self.size.height);
        picture.pixels_mut().copy_from_slice(self.corridor.pixels());
        for (actor, pose) in timeline::poses(seconds) {
            self.sprites[actor as usize].draw(&pose, picture);
        }
        let daylight = timeline::daylight(seconds);
        let table: [u8; 256] = std::array::from_fn(|value| (value as f32 * daylight) as u8);
        picture.pixels_mut().iter_mut().for_each(|channel| *channel = table[usize::from(*channel)]);
    }

    /// Draws frame `number` and writes it to `jpeg` as a webcam would send it. `picture` is working
    /// memory.
    pub fn encode(&self, number: u64, picture: &mut RgbImage, jpeg: &mut Vec<u8>) -> Result<(), CameraError> {
        self.draw(number, picture);
        jpeg.clear();
        Self::compress(picture, jpeg)
    }

    /// Writes any picture as the scene's frames are written.
    pub fn jpeg(picture: &RgbImage) -> Result<Vec<u8>, CameraError> {
        let mut jpeg = Vec::new();
        Self::compress(picture, &mut jpeg).map(|()| jpeg)
    }

    fn compress(picture: &RgbImage, jpeg: &mut Vec<u8>) -> Result<(), CameraError> {
        let too_large = || CameraError::Settings(format!("{} is too large for a JPEG", picture.size()));
        let side = |length: u32| u16::try_from(length).map_err(|_| too_large());
        let (width, height) = (side(picture.width())?, side(picture.height())?);
        let mut encoder = Encoder::new(jpeg, JPEG_QUALITY);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder
            .encode(picture.pixels(), width, height, ColorType::Rgb)
            .map_err(|error| CameraError::Scene(error.to_string()))
    }

    /// People in frame `number`, also those half outside or half faded.
    pub fn present(&self, number: u64) -> usize {
        timeline::poses(self.seconds(number)).len()
    }

    /// The heads that are wholly inside frame `number` and wholly there, the farthest first.
    pub fn visible(&self, number: u64) -> Vec<VisibleHead> {
        let (width, height) = (self.size.width as f32, self.size.height as f32);
        let heads = timeline::poses(self.seconds(number)).into_iter().map(|(actor, pose)| {
            let ScenePerson { name, enrolled, .. } = *actor.person();
            let (x_px, y_px) = (pose.x * width, pose.y * height);
            let head = VisibleHead { person: name, enrolled, x_px, y_px, height_px: pose.head * height };
            (head, pose.opacity)
        });
        let inside = |(head, opacity): &(VisibleHead, f32)| {
            let half = head.height_px / 2.0;
            *opacity >= 1.0 && (half..width - half).contains(&head.x_px)
        };
        heads.filter(inside).map(|(head, _)| head).collect()
    }
}

/// The scene as a frame source.
pub struct SceneSource {
    scene: Scene,
    stream: StreamDescription,
    pace: Pace,
    cancel: Cancel,
    picture: RgbImage,
    next: u64,
}

impl SceneSource {
    /// Draws at the size and rate of the settings. It never ends.
    pub fn open(
        settings: &CameraSettings,
        cancel: &Cancel,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CameraError> {
        if settings.format.is_some_and(|format| format != PixelFormat::Mjpg) {
            return Err(CameraError::Settings("the built-in scene is given as MJPG only".into()));
        }
        let FrameSize { width, height } = settings.size;
        if width > 1920 || height > 1920 {
            let size = settings.size;
            return Err(CameraError::Settings(format!(
                "the built-in scene is at most 1920x1920, not {size}"
            )));
        }
        let stream = StreamDescription {
            label: "built-in scene".into(),
            format: PixelFormat::Mjpg,
            size: settings.size,
            rate_hz: Some(settings.rate_hz),
            transport: Transport::Drawn,
            notes: Vec::new(),
        };
        let scene = Scene::new(settings.size, settings.rate_hz)?;
        let pace = Pace::new(settings.rate_hz, settings.realtime, clock);
        let picture = RgbImage::black(width, height);
        Ok(Self { scene, stream, pace, cancel: cancel.clone(), picture, next: 0 })
    }
}

impl FrameSource for SceneSource {
    fn stream(&self) -> &StreamDescription {
        &self.stream
    }

    fn next_frame(&mut self, mut buffer: Vec<u8>) -> Result<Option<RawFrame>, CameraError> {
        self.scene.encode(self.next, &mut self.picture, &mut buffer)?;
        let size = self.stream.size;
        let captured_at = self.pace.wait(&self.cancel)?;
        let id = FrameId(self.next);
        self.next += 1;
        Ok(Some(RawFrame { id, captured_at, format: PixelFormat::Mjpg, size, stride: 0, bytes: buffer }))
    }

    fn discarded(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::replay::jpeg::jpeg_size;
    use crate::clock::SystemClock;

    const SIZE: FrameSize = FrameSize { width: 320, height: 240 };

    fn drawn(scene: &Scene, number: u64) -> RgbImage {
        let mut picture = RgbImage::black(1, 1);
        scene.draw(number, &mut picture);
        picture
    }

    fn settings() -> CameraSettings {
        CameraSettings { size: SIZE, realtime: false, ..CameraSettings::default() }
    }

    fn open() -> SceneSource {
        SceneSource::open(&settings(), &Cancel::new().unwrap(), Arc::new(SystemClock)).unwrap()
    }

    #[test]
    fn at_least_two_people_are_enrolled_and_two_stay_unknown() {
        let enrolled = people().iter().filter(|person| person.enrolled).count();
        assert_eq!((enrolled, people().len()), (2, 4));
    }

    #[test]
    fn a_frame_follows_from_its_number_alone() {
        let scene = Scene::new(SIZE, 10.0).unwrap();
        let first = drawn(&scene, 50);
        assert!(drawn(&scene, 51) != first);
        assert!(drawn(&Scene::new(SIZE, 10.0).unwrap(), 50) == first);
        assert!(drawn(&scene, 50 + 525) == first);
    }

    #[test]
    fn people_stand_where_the_scene_says_they_do() {
        let scene = Scene::new(SIZE, 10.0).unwrap();
        let empty = drawn(&scene, 105);
        assert_eq!(scene.visible(105), []);
        for (number, expected) in [
            (55, vec!["Barack Obama"]),
            (170, vec!["Joe Biden"]),
            (300, vec!["Eileen Collins", "Grace Hopper"]),
        ] {
            let (picture, heads) = (drawn(&scene, number), scene.visible(number));
            assert_eq!(heads.iter().map(|head| head.person).collect::<Vec<_>>(), expected);
            for head in heads {
                let (x, y, radius) = (head.x_px as u32, head.y_px as u32, (head.height_px / 4.0) as u32);
                let apart = |a: [u8; 3], b: [u8; 3]| (0..3).map(|c| a[c].abs_diff(b[c])).max();
                let face =
                    (x - radius..x + radius).flat_map(|x| (y - radius..y + radius).map(move |y| (x, y)));
                let changed = face.filter(|&(x, y)| apart(picture.pixel(x, y), empty.pixel(x, y)) > Some(30));
                assert!(changed.count() as u32 > 2 * radius * radius, "nobody at {x}, {y} of frame {number}");
                let corner = apart(picture.pixel(2, 2), empty.pixel(2, 2));
                assert!(corner < Some(40), "the corridor changed in frame {number}");
            }
        }
    }

    #[test]
    fn frames_are_whole_jpegs_with_running_numbers() {
        let mut source = open();
        for number in 0..3 {
            let frame = source.next_frame(vec![1, 2, 3]).unwrap().unwrap();
            assert_eq!((frame.id, frame.format), (FrameId(number), PixelFormat::Mjpg));
            assert_eq!(jpeg_size(&frame.bytes), Some(SIZE));
            assert!(frame.bytes.ends_with(&[0xFF, 0xD9]));
        }
    }

    #[test]
    fn the_scene_gives_no_other_format() {
        let settings = CameraSettings { format: Some(PixelFormat::Yuyv), ..settings() };
        let refused = SceneSource::open(&settings, &Cancel::new().unwrap(), Arc::new(SystemClock));
        assert!(refused.err().unwrap().to_string().contains("MJPG"));
    }
}
