//! `limen bench`.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use limen::bench::frames::bench_frames;
use limen::bench::search::bench_search;
use limen::bench::start::time_to_first_line;
use limen::camera::scene::Scene;
use limen::camera::{CameraSettings, SourceSpec, open};
use limen::decode::JpegHeader;
use limen::frame::FrameSize;
use limen::install;
use serde_json::json;

use super::enrol::read_picture;
use super::{Answer, Context};

/// Size of the frames that are timed.
const SIZE: FrameSize = FrameSize { width: 640, height: 480 };
/// Different frames; more would not fit the caches any worse.
const FRAMES: usize = 24;

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen bench                               all three, on the built-in scene
  limen bench frames --export /tmp/frames   keep the frames, for another program to be timed on
  limen bench frames --pictures frames/     frames of your own, JPEGs of one size
  limen bench search --templates 100000")]
pub(super) struct BenchArguments {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// CPU time of each stage for frames that show one face, one thread
    Frames {
        /// Folder of JPEGs of one size, instead of frames of the built-in scene
        #[arg(long, value_name = "FOLDER")]
        pictures: Option<PathBuf>,
        /// Write the frames that were timed to this folder
        #[arg(long, value_name = "FOLDER")]
        export: Option<PathBuf>,
        /// How often to process each frame
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rounds: u32,
    },
    /// Exact 1:N search among synthetic templates, one thread
    Search {
        /// Templates
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
        templates: u32,
    },
    /// From process start to the first recognised face
    Start {
        /// Starts to time
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
    },
}

pub(super) fn bench(context: &Context, arguments: &BenchArguments) -> Result<Answer> {
    match &arguments.what {
        None => {
            frames(context, None, None, 10)?;
            search(context, 100_000)?;
            start(context, 5)?;
        }
        Some(What::Frames { pictures, export, rounds }) => {
            frames(context, pictures.as_deref(), export.as_deref(), *rounds as usize)?;
        }
        Some(What::Search { templates }) => search(context, *templates as usize)?,
        Some(What::Start { rounds }) => start(context, *rounds as usize)?,
    }
    Ok(Answer::Yes)
}

fn frames(context: &Context, pictures: Option<&Path>, export: Option<&Path>, rounds: usize) -> Result<()> {
    let jpegs = match pictures {
        Some(folder) => jpegs_of(folder)?,
        None => scene_frames()?,
    };
    if let Some(folder) = export {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        for (number, jpeg) in jpegs.iter().enumerate() {
            let path = folder.join(format!("frame-{number:03}.jpg"));
            std::fs::write(&path, jpeg).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    let size = JpegHeader::read(&jpegs[0])?.size;
    let models = context.models()?;
    let runtime = models.runtime(&install::litert_library(&context.config))?;
    let timings = bench_frames(&models, &runtime, &context.config, size, &jpegs, rounds)?;
    context.output.result(&json!({ "frames": timings }), || timings.to_string())
}

/// Frames of the built-in scene that show exactly one person.
fn scene_frames() -> Result<Vec<Vec<u8>>> {
    let settings = CameraSettings {
        source: SourceSpec::Scene,
        size: SIZE,
        realtime: false,
        ..CameraSettings::default()
    };
    let scene = Scene::new(SIZE, settings.rate_hz)?;
    let mut source = open(&settings)?;
    let mut jpegs = Vec::new();
    while jpegs.len() < FRAMES {
        let frame = source.next_frame(Vec::new())?.context("the built-in scene ended")?;
        let number = frame.id.0;
        // Every fourth, so that the frames differ; a head of a fifth of the height is within reach.
        let visible = scene.visible(number);
        let alone = visible.len() == 1 && visible[0].height_px >= SIZE.height as f32 / 5.0;
        let inside = |x: f32| (SIZE.width as f32 * 0.2..SIZE.width as f32 * 0.8).contains(&x);
        if number.is_multiple_of(4) && alone && inside(visible[0].x_px) {
            jpegs.push(frame.bytes);
        }
    }
    Ok(jpegs)
}

fn jpegs_of(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jpg" || extension == "jpeg") {
            paths.push(path);
        }
    }
    ensure!(!paths.is_empty(), "{} holds no .jpg", folder.display());
    paths.sort();
    paths.iter().map(|path| read_picture(path).with_context(|| path.display().to_string())).collect()
}

fn search(context: &Context, templates: usize) -> Result<()> {
    let timings = bench_search(templates, 128, 100)?;
    context.output.result(&json!({ "search": timings }), || timings.to_string())
}

/// Starts this program over and over, on the built-in scene from the moment its first visitor is
/// fully there.
fn start(context: &Context, rounds: usize) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let folder = tempfile::tempdir().context("making a folder")?;
    let picture = folder.path().join("visitor.jpg");
    let first = scene_frames()?.swap_remove(0);
    std::fs::write(&picture, first)?;
    let models = install::models_folder(&context.config);
    let library = install::litert_library(&context.config);
    let timings = time_to_first_line(
        || {
            let mut command = Process::new(&program);
            command
                .args(["run", "--demo", "--json", "--source"])
                .arg(format!("replay:{}", folder.path().display()));
            command.env("LIMEN_MODELS__FOLDER", &models).env("LIMEN_LITERT__LIBRARY", &library);
            command
        },
        |line| line.contains("\"event\":\"identified\"") || line.contains("\"event\":\"unknown\""),
        rounds,
    )?;
    context.output.result(&json!({ "start": timings }), || timings.to_string())
}
