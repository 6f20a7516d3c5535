//! `limen bench`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use limen::bench::frames::{bench_frames, scene_frames};
use limen::bench::search::bench_search;
use limen::bench::start::{enrol_synthetic, time_to_first_line};
use limen::frame::FrameSize;
use limen::install;
use serde_json::Value;

use super::{Answer, Context};

/// Subjects in the gallery of `bench start`.
const SUBJECTS: usize = 1_000;

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen bench                       all of them
  limen bench frames --rounds 300   CPU time of a frame, stage by stage
  limen bench frames --save frames  also keep the frames, as JPEGs")]
pub(super) struct BenchArguments {
    #[command(subcommand)]
    what: Option<Bench>,
}

#[derive(Subcommand)]
enum Bench {
    /// CPU time of a frame, stage by stage, against the bare networks
    Frames(FramesArguments),
    /// Time of a search in large galleries
    Search,
    /// From the start of the program to its first result, and memory, with 1,000 subjects
    Start(StartArguments),
}

#[derive(Args)]
struct FramesArguments {
    /// Folder of 640x480 JPEGs that show one face each, instead of the built-in scene
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Frames processed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Write the frames of the built-in scene to this folder, which must be empty or missing
    #[arg(long, value_name = "FOLDER", conflicts_with = "folder")]
    save: Option<PathBuf>,
}

#[derive(Args)]
struct StartArguments {
    /// Starts timed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

const SIZE: FrameSize = FrameSize { width: 640, height: 480 };

pub(super) fn bench(context: &Context, arguments: BenchArguments) -> Result<Answer> {
    match arguments.what {
        Some(Bench::Frames(arguments)) => frames(context, &arguments)?,
        Some(Bench::Search) => search(context)?,
        Some(Bench::Start(arguments)) => start(context, &arguments)?,
        None => {
            frames(context, &FramesArguments { folder: None, rounds: 200, save: None })?;
            context.output.line("")?;
            search(context)?;
            context.output.line("")?;
            start(context, &StartArguments { rounds: 10 })?;
        }
    }
    Ok(Answer::Yes)
}

fn frames(context: &Context, arguments: &FramesArguments) -> Result<()> {
    let frames = match &arguments.folder {
        Some(folder) => read_frames(folder)?,
        None => scene_frames(SIZE)?,
    };
    if let Some(folder) = &arguments.save {
        save(folder, &frames)?;
    }
    let models = context.models()?;
    let runtime = models.runtime(&install::litert_library(&context.config))?;
    let rounds = arguments.rounds as usize;
    let timings = bench_frames(&models, &runtime, &context.config, SIZE, &frames, rounds)?;
    context.output.result(&timings, || timings.to_string())
}

fn read_frames(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let reading = || format!("reading the folder {}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.extension().is_some_and(|extension| extension == "jpg") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    if paths.is_empty() {
        bail!("there is no .jpg in {}", folder.display());
    }
    paths
        .iter()
        .map(|path| std::fs::read(path).with_context(|| format!("reading {}", path.display())))
        .collect()
}

fn save(folder: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let writing = || format!("writing to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(writing)?;
    if std::fs::read_dir(folder).with_context(writing)?.next().is_some() {
        bail!("{} is not empty", folder.display());
    }
    for (number, frame) in frames.iter().enumerate() {
        std::fs::write(folder.join(format!("{number:04}.jpg")), frame).with_context(writing)?;
    }
    Ok(())
}

fn search(context: &Context) -> Result<()> {
    for (templates, rounds) in [(1_000, 2_000), (10_000, 2_000), (100_000, 500)] {
        let timings = bench_search(templates, 128, rounds)?;
        context.output.result(&timings, || timings.to_string())?;
    }
    Ok(())
}

/// Runs this program on a recording in which somebody stands before the camera from the first frame.
fn start(context: &Context, arguments: &StartArguments) -> Result<()> {
    let models = context.models()?;
    let folder = tempfile::tempdir().context("making a folder for the measurement")?;
    let state = folder.path().join("state");
    let embedder = &models.manifest.embedder;
    let mut store = super::open_store(&state, &context.output)?;
    enrol_synthetic(&mut store, &embedder.embedding_space, embedder.dimensions, SUBJECTS)?;
    drop(store);
    let recording = folder.path().join("visit.mjpeg");
    std::fs::write(&recording, scene_frames(SIZE)?.concat()).context("writing the recording")?;
    let program = std::env::current_exe().context("finding this program")?;
    let models_folder = install::models_folder(&context.config);
    let library = install::litert_library(&context.config);
    let command = || {
        let mut command = Command::new(&program);
        let mut source = std::ffi::OsString::from("replay:");
        source.push(&recording);
        command.arg("--json").arg("--state").arg(&state).arg("run").arg("--source").arg(source);
        command.env("LIMEN_MODELS__FOLDER", &models_folder).env("LIMEN_LITERT__LIBRARY", &library);
        command
    };
    let timings = time_to_first_line(command, is_result, arguments.rounds as usize)?;
    context.output.result(&timings, || format!("{SUBJECTS} subjects enrolled\n{timings}"))
}

/// A line about a visitor, not about the camera.
fn is_result(line: &str) -> bool {
    let event = serde_json::from_str::<Value>(line).ok();
    let event = event.as_ref().and_then(|value| value.get("event")).and_then(Value::as_str);
    matches!(event, Some("identified" | "unknown"))
}
