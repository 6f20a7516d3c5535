//! What it costs to watch an empty corridor: capture and recogniser as `limen run` has them, on a
//! stream in which nobody is.
//!
//! The stream is a recording, drawn beforehand: the built-in scene's background with the noise of a
//! sensor, once still and once with things that come and go at every frame. The thread `capture` reads it from a file at
//! the camera's pace, which takes about as long as copying it out of a driver's buffer; a camera's own
//! work in the kernel is not in the figure. Recognition runs on the calling thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::camera::capture::{Capture, Waited};
use crate::camera::scene::Scene;
use crate::camera::{CameraError, CameraSettings, SourceSpec};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError};
use crate::frame::{FrameSize, RgbImage};
use crate::gallery::Gallery;
use crate::litert::Runtime;
use crate::models::{ModelError, ModelSet};
use crate::recognise::{Perception, PerceptionError};
use crate::recogniser::{Recogniser, RecogniserSettings, RecogniserStats};

use super::memory::ResidentMemory;
use super::random::Random;
use super::search::{BenchError, synthetic_gallery};

/// Frames a second of the stream.
const RATE_HZ: f32 = 15.0;
/// Frames of the recording, which is played over and over: four seconds.
const FRAMES: u64 = 60;
/// Standard deviation of each pixel, levels: a webcam in a lit room.
const NOISE_LEVELS: f32 = 3.0;
/// Of the moving stream: striped things in each frame, each at a place of its own.
const THINGS: usize = 6;
/// Before the measurement: buffers grow, the noise is learnt.
const WARM_UP: Duration = Duration::from_secs(3);
/// The moving stream is watched no longer: its memory is that of the still one.
const MOVING_AT_MOST: Duration = Duration::from_secs(60);
/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(2);
/// Subjects and templates that lie in memory meanwhile.
const SUBJECTS: usize = 1_000;
const TEMPLATES_EACH: usize = 3;

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum IdleBenchError {
    /// The networks.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The gallery.
    #[error(transparent)]
    Gallery(#[from] BenchError),
    /// The thresholds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stream.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// A network failed while running.
    #[error(transparent)]
    Perception(#[from] PerceptionError),
    /// The recording could not be kept.
    #[error("cannot write the recording to play: {0}")]
    Recording(#[from] std::io::Error),
    /// The stream stopped.
    #[error("no frame came for {} s", PATIENCE.as_secs())]
    NoFrames,
    /// The measurement is about nobody.
    #[error("{visits} visits in a stream that shows nobody; the figures would not be about an empty scene")]
    Visits {
        /// How many events there were.
        visits: usize,
    },
}

/// What happens in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Motion {
    /// Nothing but noise.
    Still,
    /// Things come and go at every frame.
    Constant,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
pub struct IdleRow {
    /// What happened in it.
    pub motion: Motion,
    /// Wall time watched.
    pub seconds: f64,
    /// Bytes of an average frame.
    pub frame_bytes: usize,
    /// Frames that came, were looked at, and were not.
    pub recogniser: RecogniserStats,
    /// CPU time of the capture thread, percent of one core.
    pub capture_percent: f64,
    /// CPU time of recognition, percent of one core.
    pub recogniser_percent: f64,
    /// Memory of this process when the measurement began.
    pub memory_at_start: Option<ResidentMemory>,
    /// And when it ended.
    pub memory_at_end: Option<ResidentMemory>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct IdleTimings {
    /// Size of the frames.
    pub size: FrameSize,
    /// Their rate.
    pub rate_hz: f32,
    /// One row a stream.
    pub rows: Vec<IdleRow>,
}

/// Watches both streams, the still one for `watched`.
pub fn bench_idle(
    models: &ModelSet,
    runtime: &Runtime,
    config: &Config,
    size: FrameSize,
    watched: Duration,
) -> Result<IdleTimings, IdleBenchError> {
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    for (motion, watched) in [(Motion::Still, watched), (Motion::Constant, watched.min(MOVING_AT_MOST))] {
        let recording = folder.path().join("nobody.mjpeg");
        let bytes = record(&recording, size, motion)?;
        let recogniser = recogniser(models, runtime, config)?;
        let row = watch(recogniser, &recording, size, watched)?;
        rows.push(IdleRow { motion, frame_bytes: bytes / FRAMES as usize, ..row });
    }
    Ok(IdleTimings { size, rate_hz: RATE_HZ, rows })
}

fn recogniser(models: &ModelSet, runtime: &Runtime, config: &Config) -> Result<Recogniser, IdleBenchError> {
    let mut config = config.clone();
    config.litert.threads = 1;
    let embedder = &models.manifest.embedder;
    let mut random = Random::new(0x69_64_6c_65);
    let templates = SUBJECTS * TEMPLATES_EACH;
    let gallery = synthetic_gallery(templates, embedder.dimensions, &embedder.embedding_space, &mut random)?;
    let settings = RecogniserSettings::new(&config, &config.thresholds(&embedder.thresholds)?);
    let perception = Perception::new(models, runtime, &config)?;
    Ok(Recogniser::new(perception, Arc::new(Gallery::new(gallery)), settings, Arc::new(SystemClock)))
}

/// Draws the stream and gives its bytes.
pub fn record(path: &Path, size: FrameSize, motion: Motion) -> Result<usize, IdleBenchError> {
    let scene = Scene::new(size, RATE_HZ)?;
    let (mut empty, mut recording) = (RgbImage::black(0, 0), Vec::new());
    scene.draw(0, &mut empty);
    let mut random = Random::new(0x6e_6f_69_73_65);
    for _ in 0..FRAMES {
        let mut picture = empty.clone();
        if motion == Motion::Constant {
            (0..THINGS).for_each(|_| something(&mut picture, &mut random));
        }
        for pixel in picture.pixels_mut().chunks_exact_mut(3) {
            // The sum of four uniform numbers is nearly Gaussian, with a deviation of 0.577.
            let sum = (0..4).map(|_| random.unit()).sum::<f32>() - 2.0;
            let noise = (sum / 0.577 * NOISE_LEVELS).round();
            pixel.iter_mut().for_each(|level| *level = (f32::from(*level) + noise) as u8);
        }
        recording.extend(Scene::jpeg(&picture)?);
    }
    std::fs::write(path, &recording)?;
    Ok(recording.len())
}

/// Draws a striped thing, up to a third of the picture wide and high, anywhere.
fn something(picture: &mut RgbImage, random: &mut Random) {
    let FrameSize { width, height } = picture.size();
    let mut span = |length: u32| {
        let from = random.below(length);
        from..(from + 16 + random.below(length / 3)).min(length)
    };
    let (columns, rows) = (span(width), span(height));
    let (stripe, [dark, light]) =
        (4 + random.below(28), [0, 128].map(|from| (from + random.below(100)) as u8));
    for y in rows {
        for x in columns.clone() {
            let at = (y as usize * width as usize + x as usize) * 3;
            let level = if (x + y) / stripe % 2 == 0 { dark } else { light };
            picture.pixels_mut()[at..at + 3].fill(level);
        }
    }
}

fn watch(
    mut recogniser: Recogniser,
    recording: &Path,
    size: FrameSize,
    watched: Duration,
) -> Result<IdleRow, IdleBenchError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let source = SourceSpec::Replay(recording.to_owned());
    let settings =
        CameraSettings { source, size, rate_hz: RATE_HZ, looping: true, ..CameraSettings::default() };
    let capture = Capture::spawn(settings, clock, || ())?;
    let mut events = Vec::new();
    let mut until = |deadline: Instant| -> Result<RecogniserStats, IdleBenchError> {
        while Instant::now() < deadline {
            let slot = capture.shared().slot();
            let Waited::Frame(frame) = slot.wait(PATIENCE) else { return Err(IdleBenchError::NoFrames) };
            recogniser.frame(&frame, &mut events, None)?;
            slot.recycle(frame.bytes);
        }
        Ok(recogniser.stats().clone())
    };
    let before = until(Instant::now() + WARM_UP)?;
    let (start, all, own) =
        (Instant::now(), seconds_of(ClockId::ProcessCPUTime), seconds_of(ClockId::ThreadCPUTime));
    let memory_at_start = ResidentMemory::of_this_process();
    let after = until(start + watched)?;
    let seconds = start.elapsed().as_secs_f64();
    let own = seconds_of(ClockId::ThreadCPUTime) - own;
    let all = seconds_of(ClockId::ProcessCPUTime) - all;
    let memory_at_end = ResidentMemory::of_this_process();
    if !events.is_empty() {
        return Err(IdleBenchError::Visits { visits: events.len() });
    }
    Ok(IdleRow {
        motion: Motion::Still,
        seconds,
        frame_bytes: 0,
        recogniser: since(&before, after),
        capture_percent: (all - own) / seconds * 100.0,
        recogniser_percent: own / seconds * 100.0,
        memory_at_start,
        memory_at_end,
    })
}

/// What was counted after the warm-up.
fn since(before: &RecogniserStats, mut after: RecogniserStats) -> RecogniserStats {
    after.frames -= before.frames;
    after.looks -= before.looks;
    after.skipped.not_due -= before.skipped.not_due;
    after.skipped.unchanged -= before.skipped.unchanged;
    after
}

fn seconds_of(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

impl fmt::Display for IdleTimings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, rate_hz, rows } = self;
        writeln!(f, "{size} MJPG at {rate_hz} Hz, nobody in view; CPU time in percent of one core\n")?;
        write!(f, "motion    seconds  looks a second  unchanged  not due  capture  recogniser    sum")?;
        for row in rows {
            let motion = if row.motion == Motion::Still { "noise" } else { "constant" };
            let RecogniserStats { looks, skipped, .. } = &row.recogniser;
            let (capture, recogniser) = (row.capture_percent, row.recogniser_percent);
            write!(
                f,
                "\n{motion:8}  {:7.1}  {:14.2}  {:9}  {:7}  {capture:7.2}  {recogniser:10.2}  {:5.2}",
                row.seconds,
                *looks as f64 / row.seconds,
                skipped.unchanged,
                skipped.not_due,
                capture + recogniser,
            )?;
        }
        for row in rows {
            if let (Some(start), Some(end)) = (row.memory_at_start, row.memory_at_end) {
                let motion = if row.motion == Motion::Still { "noise" } else { "constant motion" };
                write!(f, "\n\n{motion}: at the start {start}\n{motion}: at the end   {end}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Change, ChangeDetector};
    use crate::clock::Monotonic;
    use crate::frame::{FrameId, PixelFormat, RawFrame};

    const SIZE: FrameSize = FrameSize { width: 320, height: 240 };

    /// Frames of the recording taken for changed.
    fn changed(motion: Motion) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nobody.mjpeg");
        record(&path, SIZE, motion).unwrap();
        let settings = CameraSettings {
            source: SourceSpec::Replay(path),
            size: SIZE,
            realtime: false,
            looping: false,
            ..CameraSettings::default()
        };
        let mut source = crate::camera::open(&settings).unwrap();
        let mut changes = ChangeDetector::new();
        let mut seen = Vec::new();
        while let Some(RawFrame { bytes, .. }) = source.next_frame(Vec::new()).unwrap() {
            let (id, captured_at, format) = (FrameId(0), Monotonic::default(), PixelFormat::Mjpg);
            let raw = RawFrame { id, captured_at, format, size: SIZE, stride: 0, bytes };
            seen.push(changes.observe(&raw));
        }
        assert_eq!(seen.len() as u64, FRAMES);
        seen.iter().filter(|change| **change == Change::Changed).count()
    }

    #[test]
    fn one_stream_is_still_and_the_other_is_not() {
        let (still, moving) = (changed(Motion::Still), changed(Motion::Constant));
        // The first frames are taken for changed while the noise is learnt.
        assert!(still < 12, "{still} of {FRAMES}");
        assert!(moving > FRAMES as usize / 4, "{moving} of {FRAMES}");
    }
}
