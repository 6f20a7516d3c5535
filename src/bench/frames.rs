//! Times what one frame costs, stage by stage, against the bare networks.
//!
//! CPU time of the calling thread, networks on one thread. In each round the same frame is decoded
//! alone, processed as a whole, taken apart stage by stage, and the networks are run bare: whatever
//! else the machine does meets all of them alike, and medians may be compared.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::align::AlignmentTemplate;
use crate::camera::CameraError;
use crate::camera::scene::Scene;
use crate::clock::Monotonic;
use crate::config::Config;
use crate::decode::{DecodeError, Decoder};
use crate::embedding::EmbeddingError;
use crate::frame::{FrameId, FrameSize, PixelFormat, RawFrame, RgbImage};
use crate::gallery::{GallerySnapshot, SearchScratch};
use crate::litert::{LitertError, Runtime};
use crate::models::{ModelError, ModelSet};
use crate::picture::{PictureError, Resampler};
use crate::quality::Quality;
use crate::recognise::{Perception, PerceptionError};

use super::memory::ResidentMemory;
use super::random::Random;
use super::search::{BenchError, synthetic_gallery};

/// Subjects of the synthetic gallery that every face is searched in.
pub const SUBJECTS: usize = 1_000;
/// Templates of each.
const TEMPLATES_EACH: usize = 3;

/// Why a frame could not be timed.
#[derive(Debug, thiserror::Error)]
pub enum FrameBenchError {
    /// The networks.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The gallery.
    #[error(transparent)]
    Gallery(#[from] BenchError),
    /// A frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A network failed while running.
    #[error(transparent)]
    Perception(#[from] PerceptionError),
    /// A network failed while running bare.
    #[error(transparent)]
    Litert(#[from] LitertError),
    /// Two embeddings could not be compared.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// A crop could not be cut.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The measurement is about frames with one face each.
    #[error("frame {frame} shows {found} faces; frames with exactly one are needed")]
    Faces {
        /// Counted from 0.
        frame: usize,
        /// Faces detected.
        found: usize,
    },
    /// Nothing to measure.
    #[error("no frames were given")]
    NoFrames,
}

/// CPU time of one thing over all rounds, milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CpuTime {
    /// Median.
    pub median_ms: f64,
    /// Least.
    pub least_ms: f64,
}

/// One stage.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// What it does.
    pub name: &'static str,
    /// All of it.
    pub whole: CpuTime,
    /// The bare network inside it.
    pub network: Option<CpuTime>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct FrameTimings {
    /// Size of the frames.
    pub size: FrameSize,
    /// Different frames.
    pub frames: usize,
    /// Frames processed and timed.
    pub rounds: usize,
    /// Subjects searched.
    pub subjects: usize,
    /// In the order of the path of a frame.
    pub stages: Vec<Stage>,
    /// From the camera's bytes to the candidates, undivided.
    pub whole: CpuTime,
    /// The three networks bare.
    pub networks: CpuTime,
    /// Share of the whole that is spent outside the networks: medians, percent.
    pub outside_networks_percent: f64,
    /// The whole against the bare networks and one decoding of the picture: medians.
    pub against_bare: f64,
    /// Memory of this process at the end, networks and gallery in it.
    pub memory: Option<ResidentMemory>,
}

const STAGES: [&str; 6] = ["decode", "detect", "landmarks", "align, quality", "embed", "search"];
/// The stage around each network.
const NETWORKS: [usize; 3] = [1, 2, 4];

/// Frames a second of [`scene_frames`].
pub const SCENE_RATE_HZ: f32 = 15.0;

/// Successive frames of the built-in scene, JPEG: the longest time that somebody is near and alone
/// in it.
pub fn scene_frames(size: FrameSize) -> Result<Vec<Vec<u8>>, CameraError> {
    let scene = Scene::new(size, SCENE_RATE_HZ)?;
    // Nobody stays out of view for a minute: all visits are in this.
    let period = 0..60 * SCENE_RATE_HZ as u64;
    let alone_and_near = |number: &u64| match scene.visible(*number).as_slice() {
        [head] => head.height_px >= size.height as f32 * 0.3 && scene.present(*number) == 1,
        _ => false,
    };
    let (mut longest, mut run) = (0..0, 0..0);
    for number in period.filter(alone_and_near) {
        run = if run.end == number { run.start..number + 1 } else { number..number + 1 };
        if run.end - run.start > longest.end - longest.start {
            longest = run.clone();
        }
    }
    let mut picture = RgbImage::black(0, 0);
    longest
        .map(|number| {
            let mut jpeg = Vec::new();
            scene.encode(number, &mut picture, &mut jpeg).map(|()| jpeg)
        })
        .collect()
}

/// Processes each of `frames` (JPEG, all of `size`, one face each) in turn, `rounds` times over.
pub fn bench_frames(
    models: &ModelSet,
    runtime: &Runtime,
    config: &Config,
    size: FrameSize,
    frames: &[Vec<u8>],
    rounds: usize,
) -> Result<FrameTimings, FrameBenchError> {
    if frames.is_empty() {
        return Err(FrameBenchError::NoFrames);
    }
    let mut bench = Bench::new(models, runtime, config)?;
    let frames: Vec<_> = frames.iter().map(|bytes| raw(bytes, size)).collect();
    // One round before the timed ones: memory grows, caches fill, the frames are checked.
    for (number, frame) in frames.iter().enumerate() {
        bench.round(number, frame)?;
    }
    bench.times = Times::default();
    for round in 0..rounds.max(1) * frames.len() {
        let number = round % frames.len();
        bench.round(number, &frames[number])?;
    }
    Ok(bench.times.report(size, frames.len()))
}

fn raw(bytes: &[u8], size: FrameSize) -> RawFrame {
    let (id, captured_at, format) = (FrameId(0), Monotonic::default(), PixelFormat::Mjpg);
    RawFrame { id, captured_at, format, size, stride: 0, bytes: bytes.to_vec() }
}

struct Bench {
    decoder: Decoder,
    perception: Perception,
    template: AlignmentTemplate,
    resampler: Resampler,
    gallery: GallerySnapshot,
    scratch: SearchScratch,
    times: Times,
}

impl Bench {
    fn new(models: &ModelSet, runtime: &Runtime, config: &Config) -> Result<Self, FrameBenchError> {
        let mut config = config.clone();
        config.litert.threads = 1;
        let embedder = &models.manifest.embedder;
        let templates = SUBJECTS * TEMPLATES_EACH;
        let mut random = Random::new(0x6c_69_6d);
        Ok(Self {
            decoder: Decoder::default(),
            perception: Perception::new(models, runtime, &config)?,
            template: AlignmentTemplate::new(&embedder.alignment, embedder.input_side()),
            resampler: Resampler::default(),
            gallery: synthetic_gallery(
                templates,
                embedder.dimensions,
                &embedder.embedding_space,
                &mut random,
            )?,
            scratch: SearchScratch::new(),
            times: Times::default(),
        })
    }

    fn round(&mut self, number: usize, frame: &RawFrame) -> Result<(), FrameBenchError> {
        let whole = cpu_ms();
        self.whole(number, frame)?;
        self.times.whole.push(cpu_ms() - whole);
        self.stages(number, frame)?;
        let (detector, landmark_finder, embedder) = self.perception.networks();
        let start = cpu_ms();
        detector.invoke()?;
        let detected = cpu_ms();
        landmark_finder.invoke()?;
        let found = cpu_ms();
        embedder.invoke()?;
        let embedded = cpu_ms();
        for (times, time) in
            self.times.networks.iter_mut().zip([detected - start, found - detected, embedded - found])
        {
            times.push(time);
        }
        Ok(())
    }

    /// The way of a frame as the recogniser takes it.
    fn whole(&mut self, number: usize, frame: &RawFrame) -> Result<(), FrameBenchError> {
        let picture = self.decoder.decode(frame)?;
        let detections = self.perception.detect(&picture)?;
        let [detection] = detections.as_slice() else {
            return Err(FrameBenchError::Faces { frame: number, found: detections.len() });
        };
        let sample = self.perception.examine(&picture, detection)?;
        let shape = sample.shape.ok_or(FrameBenchError::Faces { frame: number, found: 0 })?;
        let probe = self.perception.embed(&shape.aligned)?;
        std::hint::black_box(self.gallery.search(&probe, 2, &mut self.scratch)?);
        Ok(())
    }

    /// The same way with a look at the clock after every stage.
    fn stages(&mut self, number: usize, frame: &RawFrame) -> Result<(), FrameBenchError> {
        let missing = FrameBenchError::Faces { frame: number, found: 0 };
        let mut clock = StopWatch::start(&mut self.times.stages);
        let picture = self.decoder.decode(frame)?;
        clock.lap();
        let (detector, landmark_finder, embedder) = self.perception.networks();
        let detections = detector.detect(&picture, &mut self.resampler).map_err(PerceptionError::from)?;
        clock.lap();
        let Some(detection) = detections.first() else { return Err(missing) };
        let landmarks =
            landmark_finder.find(&picture, detection, &mut self.resampler).map_err(PerceptionError::from)?;
        clock.lap();
        let Some(landmarks) = landmarks else { return Err(missing) };
        let points = landmarks.five_points();
        let aligned = self.template.align(&picture, &points, &mut self.resampler)?;
        let Some(aligned) = aligned else { return Err(missing) };
        std::hint::black_box(Quality::measure(
            &landmarks,
            &points,
            &aligned,
            &detection.bbox,
            picture.size(),
        ));
        clock.lap();
        let probe = embedder.embed(&aligned).map_err(PerceptionError::from)?;
        clock.lap();
        std::hint::black_box(self.gallery.search(&probe, 2, &mut self.scratch)?);
        clock.lap();
        Ok(())
    }
}

/// CPU time of this thread, milliseconds.
fn cpu_ms() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}

/// Gives the time since its last lap to each of its stages in turn.
struct StopWatch<'a> {
    stages: std::slice::IterMut<'a, Vec<f64>>,
    last: f64,
}

impl<'a> StopWatch<'a> {
    fn start(stages: &'a mut [Vec<f64>]) -> Self {
        Self { stages: stages.iter_mut(), last: cpu_ms() }
    }

    fn lap(&mut self) {
        let now = cpu_ms();
        self.stages.next().expect("one lap a stage").push(now - self.last);
        self.last = cpu_ms();
    }
}

/// Milliseconds of every round.
#[derive(Default)]
struct Times {
    whole: Vec<f64>,
    stages: [Vec<f64>; STAGES.len()],
    networks: [Vec<f64>; NETWORKS.len()],
}

impl CpuTime {
    fn of(times: &[f64]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        Self {
            median_ms: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            least_ms: sorted.first().copied().unwrap_or_default(),
        }
    }
}

impl Times {
    fn report(&self, size: FrameSize, frames: usize) -> FrameTimings {
        let stages: Vec<_> = STAGES
            .iter()
            .enumerate()
            .map(|(at, name)| Stage {
                name,
                whole: CpuTime::of(&self.stages[at]),
                network: NETWORKS
                    .iter()
                    .position(|stage| *stage == at)
                    .map(|network| CpuTime::of(&self.networks[network])),
            })
            .collect();
        let whole = CpuTime::of(&self.whole);
        let sums: Vec<f64> = (0..self.whole.len())
            .map(|round| self.networks.iter().map(|network| network[round]).sum())
            .collect();
        let networks = CpuTime::of(&sums);
        FrameTimings {
            size,
            frames,
            rounds: self.whole.len(),
            subjects: SUBJECTS,
            outside_networks_percent: (1.0 - networks.median_ms / whole.median_ms) * 100.0,
            against_bare: whole.median_ms / (networks.median_ms + stages[0].whole.median_ms),
            stages,
            whole,
            networks,
            memory: ResidentMemory::of_this_process(),
        }
    }
}

impl fmt::Display for FrameTimings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, frames, rounds, subjects, whole, networks, .. } = self;
        writeln!(
            f,
            "{size} MJPG, one face, {subjects} subjects, one thread; CPU time of {rounds} rounds over {frames} \
             frames, ms\n"
        )?;
        writeln!(f, "stage             median    least   bare network, median    least")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, all: &CpuTime, network: Option<&CpuTime>| {
            write!(f, "{name:16}  {:6.2}   {:6.2}", all.median_ms, all.least_ms)?;
            match network {
                Some(network) => writeln!(f, "   {:20.2}   {:6.2}", network.median_ms, network.least_ms),
                None => writeln!(f),
            }
        };
        for stage in &self.stages {
            row(f, stage.name, &stage.whole, stage.network.as_ref())?;
        }
        row(f, "whole frame", whole, Some(networks))?;
        writeln!(f)?;
        writeln!(f, "outside the networks      {:.1} % of the whole", self.outside_networks_percent)?;
        write!(f, "against bare + decoding   {:.3} times", self.against_bare)?;
        self.memory.iter().try_for_each(|memory| write!(f, "\nmemory                    {memory}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_from_the_medians() {
        let times = Times {
            whole: vec![40.0, 20.0, 30.0],
            stages: std::array::from_fn(|stage| vec![stage as f64 + 1.0; 3]),
            networks: [vec![6.0, 5.0, 7.0], vec![2.0; 3], vec![16.0; 3]],
        };
        let report = times.report(FrameSize { width: 640, height: 480 }, 2);
        assert_eq!((report.rounds, report.frames), (3, 2));
        assert_eq!((report.whole.median_ms, report.whole.least_ms), (30.0, 20.0));
        assert_eq!(report.networks.median_ms, 24.0);
        assert!((report.outside_networks_percent - 20.0).abs() < 1e-9);
        assert!((report.against_bare - 30.0 / 25.0).abs() < 1e-9);
        assert_eq!(report.stages[4].network.unwrap().median_ms, 16.0);
        assert!(report.stages[0].network.is_none());
    }

    #[test]
    fn somebody_is_alone_in_the_scene_for_some_seconds() {
        let frames = scene_frames(FrameSize { width: 320, height: 240 }).unwrap();
        assert!((45..300).contains(&frames.len()), "{} frames", frames.len());
        assert!(frames.iter().all(|frame| frame.starts_with(&[0xff, 0xd8])));
    }

    #[test]
    fn thread_clock_does_not_go_back() {
        let before = cpu_ms();
        assert!(cpu_ms() >= before);
    }
}
