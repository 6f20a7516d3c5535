//! Where frames come from: a V4L2 device, a recording, or the built-in scene.
//!
//! Owns the way to the pixels and their encoding, never their meaning: decoding belongs to
//! `decode`. Everything here runs on the thread `capture` (see [`capture`]), which hands the newest
//! frame over and never waits for recognition.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Clock, SystemClock};
use crate::frame::{FrameSize, PixelFormat, RawFrame};

mod cancel;
pub mod capture;
pub mod replay;
pub mod scene;
pub mod v4l2;

pub use cancel::Cancel;
pub use v4l2::{ControlInfo, DeviceInfo, list_devices};

/// Frames, one after the other.
pub trait FrameSource: Send {
    /// What was agreed on with the device, or what the recording says of itself.
    fn stream(&self) -> &StreamDescription;

    /// Waits for the next frame and writes its bytes into the allocation of `buffer`.
    ///
    /// `Ok(None)`: the recording reached its end. Any error ends the stream; open it again.
    fn next_frame(&mut self, buffer: Vec<u8>) -> Result<Option<RawFrame>, CameraError>;

    /// Frames that were thrown away since opening because they were short, flagged as broken by the
    /// driver, or unreadable.
    fn discarded(&self) -> u64;
}

/// What a stream turned out to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamDescription {
    /// Device and card name, or the recording's path.
    pub label: String,
    /// Encoding of the frames.
    pub format: PixelFormat,
    /// Size of the frames; in a folder of pictures, of the first one.
    pub size: FrameSize,
    /// Frames a second; `None` when the driver does not say.
    pub rate_hz: Option<f32>,
    /// The way the bytes arrive.
    pub transport: Transport,
    /// What was asked of the camera and is not as asked; it streams all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl std::fmt::Display for StreamDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.label, self.format, self.size)?;
        if let Some(rate) = self.rate_hz {
            write!(f, " at {rate:.3} frames a second")?;
        }
        write!(f, ", {}", self.transport)
    }
}

/// The way the bytes of a frame arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// V4L2, all of a frame in one memory plane, the older single-planar calls.
    SinglePlanar,
    /// V4L2 multi-planar calls with this many memory planes a frame.
    MultiPlanar(u8),
    /// Read from a recording.
    Recording,
    /// Drawn by the built-in scene.
    Drawn,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SinglePlanar => f.write_str("single-planar"),
            Self::MultiPlanar(1) => f.write_str("multi-planar, 1 plane"),
            Self::MultiPlanar(planes) => write!(f, "multi-planar, {planes} planes"),
            Self::Recording => f.write_str("recording"),
            Self::Drawn => f.write_str("built-in scene"),
        }
    }
}

/// Which source to open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SourceSpec {
    /// The first `/dev/video*` that captures in a format understood here.
    #[default]
    Auto,
    /// This V4L2 device.
    Device(PathBuf),
    /// A folder of pictures, or a `.mjpeg`, `.mjpg`, `.y4m` or `.avi` file.
    Replay(PathBuf),
    /// The built-in scene.
    Scene,
}

/// Text that names no source.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{text}` names no camera: {reason}; give `auto`, `scene`, a device such as `/dev/video0`, or \
     `replay:` and a folder of pictures or a .mjpeg, .y4m or .avi file"
)]
pub struct SourceSpecError {
    text: String,
    reason: &'static str,
}

impl FromStr for SourceSpec {
    type Err = SourceSpecError;

    fn from_str(text: &str) -> Result<Self, SourceSpecError> {
        let refuse = |reason| Err(SourceSpecError { text: text.chars().take(200).collect(), reason });
        if text.contains('\0') {
            return refuse("it contains a NUL character");
        }
        match text {
            "" => return refuse("it is empty"),
            "auto" => return Ok(Self::Auto),
            "scene" => return Ok(Self::Scene),
            _ => {}
        }
        if let Some(device) = text.strip_prefix("v4l2:") {
            return match device {
                "" => refuse("no device follows `v4l2:`"),
                _ => Ok(Self::Device(device.into())),
            };
        }
        if let Some(path) = text.strip_prefix("replay:") {
            return match path {
                "" => refuse("no path follows `replay:`"),
                _ => Ok(Self::Replay(path.into())),
            };
        }
        if text.starts_with("/dev/") {
            return Ok(Self::Device(text.into()));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let reason = match scheme {
                "rtsp" | "http" | "https" => "network cameras are not supported",
                _ => "addresses with `://` are not supported",
            };
            return refuse(reason);
        }
        // A bare word is more likely a misspelt keyword than a file beside the working directory.
        if !text.contains(['/', '.']) {
            return refuse("it is no known word, and a path needs a `/` or a `.`");
        }
        Ok(Self::Replay(text.into()))
    }
}

impl TryFrom<String> for SourceSpec {
    type Error = SourceSpecError;

    fn try_from(text: String) -> Result<Self, SourceSpecError> {
        text.parse()
    }
}

impl From<SourceSpec> for String {
    fn from(source: SourceSpec) -> Self {
        source.to_string()
    }
}

impl std::fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Device(path) => write!(f, "v4l2:{}", path.display()),
            Self::Replay(path) => write!(f, "replay:{}", path.display()),
            Self::Scene => f.write_str("scene"),
        }
    }
}

/// What is wanted of one of a camera's controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// As it is.
    #[default]
    Leave,
    /// This value.
    Set(u32),
    /// What the camera starts with, after a value was set.
    Reset,
}

impl Wish {
    /// A value, or nothing in particular.
    pub fn of(value: Option<u32>) -> Self {
        value.map_or(Self::Leave, Self::Set)
    }

    /// What it takes to get from an earlier wish to this one.
    fn after(self, earlier: Self) -> Self {
        match (earlier, self) {
            (Self::Set(_) | Self::Reset, Self::Leave) => Self::Reset,
            _ => self,
        }
    }
}

/// How a camera exposes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// Time a frame is exposed for.
    pub exposure_us: Wish,
    /// Amplification, in the camera's own steps.
    pub gain: Wish,
    /// Brightening of what stands before a bright background, in the camera's own steps.
    pub backlight_compensation: Wish,
}

impl Controls {
    /// What it takes to get from earlier wishes to these.
    pub(crate) fn after(self, earlier: &Self) -> Self {
        Self {
            exposure_us: self.exposure_us.after(earlier.exposure_us),
            gain: self.gain.after(earlier.gain),
            backlight_compensation: self.backlight_compensation.after(earlier.backlight_compensation),
        }
    }
}

/// What is wanted of a source. The device has the last word: see [`FrameSource::stream`].
#[derive(Clone, Debug, PartialEq)]
pub struct CameraSettings {
    /// Where from.
    pub source: SourceSpec,
    /// Wanted size; a device gives the nearest it has, a recording its own.
    pub size: FrameSize,
    /// Wanted frames a second; a recording that states its own rate keeps that.
    pub rate_hz: f32,
    /// Only this encoding; `None` lets [`v4l2`] choose.
    pub format: Option<PixelFormat>,
    /// How the camera exposes; a recording and the scene have no such choice.
    pub controls: Controls,
    /// A recording starts again at its end.
    pub looping: bool,
    /// Recording and scene keep the time of their rate. Otherwise they give frames as fast as they
    /// are asked: meant for reading a source directly, since the capture thread would then overwrite
    /// most frames before anybody takes them.
    pub realtime: bool,
}

impl Default for CameraSettings {
    fn default() -> Self {
        Self {
            source: SourceSpec::Auto,
            size: FrameSize { width: 640, height: 480 },
            rate_hz: 15.0,
            format: None,
            controls: Controls::default(),
            looping: false,
            realtime: true,
        }
    }
}

/// Rates that mean something for a camera; outside of it, it is a unit error or a broken header.
pub const RATE_RANGE_HZ: std::ops::RangeInclusive<f32> = 0.1..=240.0;

/// Longest side accepted of any source: above it a frame would be hundreds of megabytes.
pub const MAX_SIDE_PX: u32 = 8192;

/// Why there are no frames.
#[derive(Debug, Error)]
pub enum CameraError {
    /// The settings contradict themselves.
    #[error("camera settings: {0}")]
    Settings(String),
    /// `auto` found nothing.
    #[error(
        "no usable camera among /dev/video*: {tried}; plug one in, name one with `camera.source`, or use `scene`"
    )]
    NoneFound {
        /// Each device and what is wrong with it.
        tried: String,
    },
    /// A call to the driver failed.
    #[error("{device}: {call} failed: {errno}; {advice}", device = device.display())]
    Device {
        /// Device file.
        device: PathBuf,
        /// The system call or ioctl.
        call: &'static str,
        /// What the kernel said.
        errno: std::io::Error,
        /// What to do about it.
        advice: String,
    },
    /// The device works but not in a way understood here.
    #[error("{device}: {what}", device = device.display())]
    Unusable {
        /// Device file.
        device: PathBuf,
        /// What was found, and what was needed.
        what: String,
    },
    /// The device accepted everything and sends nothing.
    #[error("{device}: no frame for {waited_ms} ms; check the cable, and whether the sensor has a signal", device = device.display())]
    Silent {
        /// Device file.
        device: PathBuf,
        /// How long it was waited for.
        waited_ms: u128,
    },
    /// A recording cannot be read.
    #[error(transparent)]
    Replay(#[from] replay::ReplayError),
    /// The built-in scene could not be drawn.
    #[error("built-in scene: {0}")]
    Scene(String),
    /// [`Cancel`] was called while waiting.
    #[error("capture was told to stop")]
    Cancelled,
}

/// Opens a source that nothing interrupts; see [`open_with`].
pub fn open(settings: &CameraSettings) -> Result<Box<dyn FrameSource>, CameraError> {
    let cancel = Cancel::new().map_err(|errno| CameraError::Settings(format!("eventfd: {errno}")))?;
    open_with(settings, &cancel, Arc::new(SystemClock))
}

/// Opens a source whose waits end with [`CameraError::Cancelled`] once `cancel` is called.
/// Frames of recordings and of the scene are stamped with `clock`.
pub fn open_with(
    settings: &CameraSettings,
    cancel: &Cancel,
    clock: Arc<dyn Clock>,
) -> Result<Box<dyn FrameSource>, CameraError> {
    settings.check()?;
    Ok(match &settings.source {
        SourceSpec::Auto => Box::new(v4l2::V4l2Source::open_first(settings, cancel)?),
        SourceSpec::Device(device) => Box::new(v4l2::V4l2Source::open(device, settings, cancel)?),
        SourceSpec::Replay(path) => Box::new(replay::ReplaySource::open(path, settings, cancel, clock)?),
        SourceSpec::Scene => Box::new(scene::SceneSource::open(settings, cancel, clock)?),
    })
}

impl CameraSettings {
    /// Time between two frames at the wanted rate.
    pub fn interval(&self) -> Duration {
        Duration::from_secs_f32(1.0 / self.rate_hz)
    }

    /// Refuses sizes and rates no camera has.
    pub fn check(&self) -> Result<(), CameraError> {
        let FrameSize { width, height } = self.size;
        if !(16..=MAX_SIDE_PX).contains(&width) || !(16..=MAX_SIDE_PX).contains(&height) {
            return Err(CameraError::Settings(format!(
                "size {} is outside of 16x16 to {MAX_SIDE_PX}x{MAX_SIDE_PX}",
                self.size
            )));
        }
        if !RATE_RANGE_HZ.contains(&self.rate_hz) {
            return Err(CameraError::Settings(format!(
                "{} frames a second is outside of {} to {}",
                self.rate_hz,
                RATE_RANGE_HZ.start(),
                RATE_RANGE_HZ.end()
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_text_is_read_and_written_back() {
        for (text, expected, canonical) in [
            ("auto", SourceSpec::Auto, "auto"),
            ("scene", SourceSpec::Scene, "scene"),
            ("/dev/video0", SourceSpec::Device("/dev/video0".into()), "v4l2:/dev/video0"),
            ("v4l2:/dev/cam", SourceSpec::Device("/dev/cam".into()), "v4l2:/dev/cam"),
            ("replay:clips", SourceSpec::Replay("clips".into()), "replay:clips"),
            ("./clips", SourceSpec::Replay("./clips".into()), "replay:./clips"),
            ("door.mjpeg", SourceSpec::Replay("door.mjpeg".into()), "replay:door.mjpeg"),
        ] {
            let source: SourceSpec = text.parse().unwrap();
            assert_eq!(source, expected);
            assert_eq!(source.to_string(), canonical);
            assert_eq!(canonical.parse::<SourceSpec>().unwrap(), expected);
        }
    }

    #[test]
    fn unknown_source_text_says_what_would_do() {
        for text in ["", "scenes", "v4l2:", "replay:", "rtsp://camera/1", "a\0b"] {
            let message = text.parse::<SourceSpec>().unwrap_err().to_string();
            assert!(message.contains("/dev/video0"), "{message}");
        }
    }

    #[test]
    fn settings_outside_of_what_cameras_do_are_refused() {
        let good = CameraSettings::default();
        assert!(good.check().is_ok());
        assert!(CameraSettings { rate_hz: f32::NAN, ..good.clone() }.check().is_err());
        assert!(CameraSettings { rate_hz: 0.0, ..good.clone() }.check().is_err());
        let size = FrameSize { width: 640, height: 9000 };
        assert!(CameraSettings { size, ..good }.check().is_err());
    }
}
