//! Recordings as a frame source: a folder of pictures, a stream of JPEGs, Y4M, AVI with JPEGs.
//!
//! Each container has its own reader in its own file, fed by any `Read` (and `Seek` where it skips);
//! none of them holds more than one frame, whatever the file claims. This file owns what they share:
//! choosing the reader, keeping time, starting again at the end.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::cancel::Woken;
use super::{CameraError, CameraSettings, Cancel, FrameSource, RATE_RANGE_HZ, StreamDescription, Transport};
use crate::clock::{Clock, Monotonic};
use crate::frame::{FrameId, FrameSize, PixelFormat, RawFrame};

pub mod avi;
pub mod folder;
pub mod jpeg;
pub mod y4m;

/// Largest encoded frame read from a recording. A 4096x2160 JPEG at quality 100 is about 10 MB.
pub const MAX_ENCODED_BYTES: usize = 16 << 20;

/// Why a recording could not be read.
#[derive(Debug, Error)]
#[error("recording {path}: {problem}", path = path.display())]
pub struct ReplayError {
    path: PathBuf,
    problem: ContainerError,
}

/// What is wrong inside a recording. Positions are bytes from the start of the file.
#[derive(Debug, Error)]
pub enum ContainerError {
    /// The system could not read it.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// No reader knows it.
    #[error("{0}; give a folder of pictures or a .mjpeg, .mjpg, .y4m or .avi file")]
    UnknownKind(String),
    /// It is not what its name says, or breaks its own rules.
    #[error("at byte {at}: {what}")]
    Broken {
        /// Where.
        at: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// It is well formed, but of a kind not read here.
    #[error("{0}")]
    Unsupported(String),
    /// It holds no frame.
    #[error("holds no usable frame: {0}")]
    Empty(String),
}

/// Layout of the bytes that a reader has put into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameShape {
    /// Encoding.
    pub format: PixelFormat,
    /// Pixels.
    pub size: FrameSize,
    /// Bytes from row to row of the first plane, 0 for JPEG.
    pub stride: u32,
}

/// A container being read, one frame after the other.
pub trait FrameReader: Send {
    /// Writes the next frame into `buffer`, replacing what was there; `None` at the end.
    fn read_frame(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameShape>, ContainerError>;

    /// Goes back to the first frame.
    fn rewind(&mut self) -> Result<(), ContainerError>;

    /// Frames a second as the container states it.
    fn rate_hz(&self) -> Option<f32>;

    /// Frames that were skipped because they were unreadable.
    fn discarded(&self) -> u64;
}

/// A recording, in its own time or as fast as it is asked for.
pub struct ReplaySource {
    path: PathBuf,
    reader: Box<dyn FrameReader>,
    stream: StreamDescription,
    pace: Pace,
    cancel: Cancel,
    looping: bool,
    first: Option<(FrameShape, Vec<u8>)>,
    next_id: u64,
}

impl ReplaySource {
    /// Opens a recording and reads its first frame, so that an unusable one is refused here.
    pub fn open(
        path: &Path,
        settings: &CameraSettings,
        cancel: &Cancel,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CameraError> {
        let wrap = |problem| ReplayError { path: path.to_owned(), problem };
        let mut reader = open_reader(path).map_err(wrap)?;
        let mut bytes = Vec::new();
        let shape = match reader.read_frame(&mut bytes).map_err(wrap)? {
            Some(shape) => shape,
            None => {
                let found = format!("{} skipped as unreadable", reader.discarded());
                return Err(wrap(ContainerError::Empty(found)).into());
            }
        };
        let stated = reader.rate_hz().filter(|rate| RATE_RANGE_HZ.contains(rate));
        let rate_hz = stated.unwrap_or(settings.rate_hz);
        let stream = StreamDescription {
            label: path.display().to_string(),
            format: shape.format,
            size: shape.size,
            rate_hz: Some(rate_hz),
            transport: Transport::Recording,
            notes: Vec::new(),
        };
        let pace = Pace::new(rate_hz, settings.realtime, clock);
        let (path, cancel, first) = (path.to_owned(), cancel.clone(), Some((shape, bytes)));
        Ok(Self { path, reader, stream, pace, cancel, looping: settings.looping, first, next_id: 0 })
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameShape>, ContainerError> {
        if let Some((shape, bytes)) = self.first.take() {
            *buffer = bytes;
            return Ok(Some(shape));
        }
        match self.reader.read_frame(buffer)? {
            None if self.looping => {
                self.reader.rewind()?;
                match self.reader.read_frame(buffer)? {
                    // It had a frame before; the file was changed underneath.
                    None => Err(ContainerError::Empty("it became empty while it was replayed".into())),
                    shape => Ok(shape),
                }
            }
            shape => Ok(shape),
        }
    }
}

impl FrameSource for ReplaySource {
    fn stream(&self) -> &StreamDescription {
        &self.stream
    }

    fn next_frame(&mut self, mut buffer: Vec<u8>) -> Result<Option<RawFrame>, CameraError> {
        let read = self.read(&mut buffer);
        let shape = read.map_err(|problem| ReplayError { path: self.path.clone(), problem })?;
        let Some(FrameShape { format, size, stride }) = shape else { return Ok(None) };
        let captured_at = self.pace.wait(&self.cancel)?;
        let id = FrameId(self.next_id);
        self.next_id += 1;
        Ok(Some(RawFrame { id, captured_at, format, size, stride, bytes: buffer }))
    }

    fn discarded(&self) -> u64 {
        self.reader.discarded()
    }
}

fn open_reader(path: &Path) -> Result<Box<dyn FrameReader>, ContainerError> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Ok(Box::new(folder::FolderReader::open(path)?));
    }
    if !metadata.is_file() {
        return Err(ContainerError::UnknownKind("is neither a folder nor a plain file".into()));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let file = || -> Result<_, ContainerError> { Ok(BufReader::with_capacity(1 << 16, File::open(path)?)) };
    match extension.as_str() {
        "mjpeg" | "mjpg" => Ok(Box::new(jpeg::JpegStreamReader::new(file()?))),
        "y4m" => Ok(Box::new(y4m::Y4mReader::new(file()?)?)),
        "avi" => Ok(Box::new(avi::AviReader::new(file()?)?)),
        "" => Err(ContainerError::UnknownKind("has no extension".into())),
        other => Err(ContainerError::UnknownKind(format!("has the extension .{other}"))),
    }
}

/// Keeps the time of a recording or drawing.
pub(super) struct Pace {
    interval: Duration,
    realtime: bool,
    clock: Arc<dyn Clock>,
    due: Monotonic,
}

impl Pace {
    /// Starts now. `rate_hz` lies within [`RATE_RANGE_HZ`].
    pub(super) fn new(rate_hz: f32, realtime: bool, clock: Arc<dyn Clock>) -> Self {
        let due = clock.monotonic();
        Self { interval: Duration::from_secs_f64(1.0 / f64::from(rate_hz)), realtime, clock, due }
    }

    /// Waits until the next frame is due and says when it was taken: in real time now, otherwise
    /// its own place on the recording's time axis, so that tracking sees the same intervals however
    /// fast it runs.
    pub(super) fn wait(&mut self, cancel: &Cancel) -> Result<Monotonic, CameraError> {
        let now = self.clock.monotonic();
        let (delay, taken) = self.step(now);
        if !self.realtime {
            return if cancel.is_cancelled() { Err(CameraError::Cancelled) } else { Ok(taken) };
        }
        match cancel.wait(delay) {
            Woken::Cancelled => Err(CameraError::Cancelled),
            Woken::TimedOut | Woken::Ready => Ok(taken),
        }
    }

    /// Time to wait from `now`, and the instant the frame belongs to. A reader that fell behind by
    /// more than a few frames does not hurry to catch up: the time is lost, as with a camera.
    fn step(&mut self, now: Monotonic) -> (Duration, Monotonic) {
        if self.realtime && now.since(self.due) > self.interval * 4 {
            self.due = now;
        }
        let due = self.due;
        self.due = due + self.interval;
        let taken = if self.realtime { due.max(now) } else { due };
        (due.since(now), taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SimulatedClock, SystemClock, UnixMillis};

    const OBAMA: &[u8] = include_bytes!("../../../tests/fixtures/portraits/barack_obama_3.jpg");
    const COLLINS: &[u8] = include_bytes!("../../../tests/fixtures/portraits/eileen_collins_1.jpg");

    fn open(path: &Path, looping: bool) -> Result<ReplaySource, CameraError> {
        let settings =
            CameraSettings { realtime: false, looping, rate_hz: 10.0, ..CameraSettings::default() };
        ReplaySource::open(path, &settings, &Cancel::new().unwrap(), Arc::new(SystemClock))
    }

    fn recording() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.mjpeg");
        std::fs::write(&path, [OBAMA, COLLINS].concat()).unwrap();
        (folder, path)
    }

    #[test]
    fn replay_ends_after_its_last_frame() {
        let (_folder, path) = recording();
        let mut source = open(&path, false).unwrap();
        assert_eq!(source.stream().size, FrameSize { width: 512, height: 640 });
        assert_eq!(source.next_frame(vec![]).unwrap().unwrap().bytes, OBAMA);
        assert_eq!(source.next_frame(vec![]).unwrap().unwrap().bytes, COLLINS);
        assert!(source.next_frame(vec![]).unwrap().is_none());
    }

    #[test]
    fn looping_replay_starts_again_and_counts_on() {
        let (_folder, path) = recording();
        let mut source = open(&path, true).unwrap();
        let frames: Vec<RawFrame> = (0..5).map(|_| source.next_frame(vec![]).unwrap().unwrap()).collect();
        assert_eq!(frames.iter().map(|frame| frame.id.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(frames[4].bytes, OBAMA);
    }

    #[test]
    fn frames_of_a_fast_replay_lie_a_frame_interval_apart() {
        let (_folder, path) = recording();
        let mut source = open(&path, false).unwrap();
        let first = source.next_frame(vec![]).unwrap().unwrap();
        let second = source.next_frame(vec![]).unwrap().unwrap();
        let apart = second.captured_at.since(first.captured_at);
        assert!(apart.abs_diff(Duration::from_millis(100)) < Duration::from_micros(1));
    }

    #[test]
    fn realtime_pace_waits_for_the_rest_of_the_interval_and_gives_up_lost_time() {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(0)));
        let mut pace = Pace::new(10.0, true, clock.clone());
        let ms = |pace: &mut Pace| pace.step(clock.monotonic()).0.as_millis();
        assert_eq!(ms(&mut pace), 0);
        clock.advance(Duration::from_millis(30));
        assert_eq!(ms(&mut pace), 70);
        clock.advance(Duration::from_millis(270));
        assert_eq!(ms(&mut pace), 0);
        clock.advance(Duration::from_secs(5));
        assert_eq!(ms(&mut pace), 0);
        assert_eq!(ms(&mut pace), 100);
    }

    #[test]
    fn a_path_that_cannot_be_replayed_says_what_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.mkv");
        std::fs::write(&path, OBAMA).unwrap();
        let message = open(&path, false).err().unwrap().to_string();
        assert!(message.contains(".mkv") && message.contains(".y4m"), "{message}");
        let message = open(&folder.path().join("none.avi"), false).err().unwrap().to_string();
        assert!(message.contains("none.avi") && message.contains("cannot be read"), "{message}");
    }

    #[test]
    fn cancelling_ends_a_replay() {
        let (_folder, path) = recording();
        let cancel = Cancel::new().unwrap();
        let settings = CameraSettings { rate_hz: 0.1, ..CameraSettings::default() };
        let mut source = ReplaySource::open(&path, &settings, &cancel, Arc::new(SystemClock)).unwrap();
        cancel.cancel();
        assert!(matches!(source.next_frame(vec![]), Err(CameraError::Cancelled)));
    }
}
