//! `limen run` and `limen cameras`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use limen::camera::{ControlInfo, DeviceInfo, SourceSpec};
use limen::clock::SystemClock;
use limen::config::{LogLevel, PAGE_FILE, Sources};
use limen::daemon::{Parts, Report, camera_settings, run as run_daemon};
use limen::draw::{Annotation, Tone, annotate};
use limen::enrol::EnrolmentRules;
use limen::event::Outcome;
use limen::gallery::GalleryStore;
use limen::install;
use limen::live::LookChannel;
use limen::networks::{self, NextNetworks};
use limen::recogniser::{Look, SeenLabel};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::sync::watch;

use super::enrol::enrol_scene;
use super::identify::write_png;
use super::journal::is_journal;
use super::output::{Colour, Output};
use super::{Answer, Context};

/// How often the picture of `--picture` is written.
const PICTURE_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen run --demo                        recognise people in a built-in moving scene
  limen run --source /dev/video0          a camera
  limen run --source replay:visit.avi --once --json
  limen run --picture last.png            see what the camera sees, twice a second

SIGTERM or Ctrl-C ends it in order, a second one at once.")]
pub(super) struct RunArguments {
    /// Where frames come from; as camera.source in the configuration
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
    /// Use a gallery of its own, gone afterwards, in which some people of the built-in scene are
    /// enrolled; without --source also show that scene
    #[arg(long)]
    demo: bool,
    /// End with the recording instead of starting it again
    #[arg(long)]
    once: bool,
    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Keep writing the newest frame with boxes and names to this PNG
    #[arg(long, value_name = "FILE.png")]
    picture: Option<PathBuf>,
}

impl RunArguments {
    /// The flags that stand for settings.
    pub(super) fn settings(&self, mut sources: Sources) -> Sources {
        match &self.source {
            Some(source) => sources = sources.flag("--source", "camera.source", source),
            None if self.demo => sources = sources.flag("--demo", "camera.source", "scene"),
            None => {}
        }
        if self.demo {
            // Its state folder is not the configured one, and nothing is set on its page yet.
            sources = sources.page_file(PathBuf::new());
        }
        if self.once {
            sources = sources.flag("--once", "camera.loop", "false");
        }
        sources
    }
}

pub(super) fn run(
    mut context: Context,
    mut sources: Sources,
    log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    arguments: &RunArguments,
) -> Result<Answer> {
    let start = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag unset and sets it, the second one ends.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // A camera may be plugged in later; a recording that cannot be read now is a mistake.
    if matches!(context.config.camera.source, SourceSpec::Replay(_)) {
        limen::camera::open(&camera_settings(&context.config))?;
    }
    let mut models = context.models()?;
    let thresholds = context.thresholds(&models)?;
    let mut perception = context.perception(&models)?;
    // Removed with everything in it when this function returns.
    let demo_folder =
        arguments.demo.then(|| tempfile::tempdir().context("making a folder for the demo")).transpose()?;
    let (state, key, key_source) = match &demo_folder {
        // The demo's key protects nobody and is gone in a minute.
        Some(folder) => super::open_state(folder.path(), None, |_| ())?,
        None => context.vault()?,
    };
    let mut gallery_store = GalleryStore::open(&state, &key, Arc::new(SystemClock))?;
    let mut next = None;
    if !arguments.demo {
        let configured = install::models_folder(&context.config);
        if let Some(before) = networks::go_on_with(&state, &configured, &models, &gallery_store)? {
            // As a flag, so that it stays whatever is set while it runs.
            let sources_before =
                sources.clone().flag("the networks of before", "models.folder", &before.to_string_lossy());
            let config = sources_before.build()?;
            let before = Context { config, output: context.output.clone() };
            match before.models().and_then(|models| Ok((before.perception(&models)?, models))) {
                Ok((perception_before, models_before)) => {
                    context.output.note(
                        "these networks are new to the gallery: those of before recognise until every template is made anew",
                    );
                    let space = models.manifest.embedder.embedding_space.clone();
                    next = Some(NextNetworks { folder: configured, space });
                    (models, perception) = (models_before, perception_before);
                    (context, sources) = (before, sources_before);
                }
                Err(error) => context.output.warning(&format!(
                    "the networks of before cannot be used any more ({error:#}): until templates are made anew, nobody is recognised"
                )),
            }
        } else if let Err(error) = networks::keep(&state, &configured, &models) {
            context
                .output
                .warning(&format!("the networks could not be kept for the time after an update: {error}"));
        }
    }
    if arguments.demo {
        let rules = EnrolmentRules::new(&context.config, &thresholds);
        enrol_scene(&mut gallery_store, &mut perception, &rules, &context.output)?;
    } else if gallery_store.statistics()?.subjects == 0 {
        context.output.note(
            "nobody is enrolled, so everybody is going to be unknown; \
             `limen enrol NAME PICTURE…` enrols somebody, also while this runs",
        );
    }
    let Context { config, output } = context;

    let looks = LookChannel::new();
    let painter = arguments.picture.clone().map(|path| {
        let looks = looks.watch();
        let stop = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("picture".into())
            .spawn(move || paint(&path, looks, &stop).inspect_err(|_| stop.store(true, Ordering::Relaxed)))
    });
    let painter = painter.transpose().context("starting the thread picture")?;
    if let Some(seconds) = arguments.seconds {
        let stop = Arc::clone(&stop);
        let end = start + Duration::from_secs(seconds.into());
        std::thread::Builder::new().name("timer".into()).spawn(move || {
            while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
            stop.store(true, Ordering::Relaxed);
        })?;
    }

    let printed = Arc::new(Mutex::new(Ok(())));
    let sources = sources.page_file(state.path().join(PAGE_FILE));
    let parts = Parts {
        config,
        sources,
        log_level,
        models,
        perception,
        state,
        key,
        key_source,
        gallery_store,
        looks,
        next,
    };
    let print = {
        let (output, stop, printed) = (output.clone(), Arc::clone(&stop), Arc::clone(&printed));
        // Names belong to whoever asked for them on a terminal or in a pipe, never in the system's log.
        let in_log = std::env::var("JOURNAL_STREAM").is_ok_and(|s| is_journal(&s, std::io::stdout()));
        move |report| {
            if in_log {
                return;
            }
            // Whoever read our output is gone: end in order, then say so.
            if let Err(error) = tell(&output, report, start) {
                stop.store(true, Ordering::Relaxed);
                *printed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Err(error);
            }
        }
    };
    let summary = run_daemon(parts, &stop, print);
    stop.store(true, Ordering::Relaxed);
    if let Some(painter) = painter {
        painter.join().map_err(|_| anyhow::anyhow!("the thread picture panicked"))??;
    }
    let summary = summary?;
    if summary.unread {
        // The output is locked by whoever waits for its reader.
        output.warning("nobody reads the output; it ends in the middle");
        return Ok(if summary.restart { Answer::Again } else { Answer::Yes });
    }
    std::mem::replace(&mut *printed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), Ok(()))?;
    let again = summary.restart;
    output.result(&json!({ "event": "stopped", "summary": summary }), || {
        let (capture, recogniser) = (&summary.capture, &summary.recogniser);
        format!(
            "stopped after {:.1} s: {} frames, {} looked at, {} embeddings, {} overwritten, {} discarded",
            start.elapsed().as_secs_f32(),
            capture.delivered,
            recogniser.looks,
            recogniser.probes,
            capture.overwritten,
            capture.discarded
        )
    })?;
    Ok(if again { Answer::Again } else { Answer::Yes })
}

/// Prints one report.
fn tell(output: &Output, report: Report, start: Instant) -> Result<()> {
    match report {
        Report::Streaming(stream) if output.is_json() => {
            output.result(&json!({ "event": "streaming", "stream": stream }), String::new)
        }
        Report::CameraLost { error } if output.is_json() => {
            output.result(&json!({ "event": "camera_lost", "error": error }), String::new)
        }
        // The log has said so.
        Report::Streaming(_) | Report::CameraLost { .. } => Ok(()),
        Report::Event(event) => output.result(&event, || {
            let colour = match event.outcome {
                Outcome::Identified { .. } => Colour::Green,
                Outcome::Unknown { .. } => Colour::Yellow,
                Outcome::Ended { .. } => Colour::Grey,
            };
            let seconds = start.elapsed().as_secs_f32();
            format!("{seconds:7.2}  {}", output.coloured(colour, &event.line()))
        }),
    }
}

/// The thread `picture`: writes the newest look, unless there is none since the last time. When the
/// first one cannot be written the path is wrong; later on a disk may be full for a while.
fn paint(
    path: &std::path::Path,
    mut looks: watch::Receiver<Option<Arc<Look>>>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut written = false;
    while !stop.load(Ordering::Relaxed) {
        // The other end goes with the daemon, which sets `stop` too.
        let look = match looks.has_changed() {
            Ok(true) => looks.borrow_and_update().clone(),
            _ => None,
        };
        if let Some(look) = look {
            match write_png(&painted(&look), path) {
                Ok(()) => written = true,
                Err(error) if written => tracing::warn!("{error:#}"),
                Err(error) => return Err(error),
            }
        }
        std::thread::sleep(PICTURE_INTERVAL);
    }
    Ok(())
}

fn painted(look: &Look) -> limen::frame::RgbImage {
    let mut picture = look.picture.clone();
    let annotations: Vec<_> = look
        .faces
        .iter()
        .map(|face| {
            let (title, tone) = match &face.label {
                SeenLabel::Subject(_, name) => (name.as_str().to_owned(), Tone::Match),
                SeenLabel::Unknown => ("unknown".to_owned(), Tone::NoMatch),
                SeenLabel::Undecided(Some(reason)) => (reason.to_string(), Tone::Inconclusive),
                SeenLabel::Undecided(None) => ("looking".to_owned(), Tone::Inconclusive),
            };
            let points = face.detection.keypoints.to_vec();
            Annotation { bbox: face.detection.bbox, points, title, detail: String::new(), tone }
        })
        .collect();
    annotate(&mut picture, &annotations);
    picture
}

pub(super) fn cameras(context: &Context) -> Result<Answer> {
    let devices = limen::camera::list_devices();
    context.output.result(&json!({ "cameras": devices }), || match devices.as_slice() {
        [] => "no camera was found; `limen run --source scene` needs none".to_owned(),
        all => all.iter().map(line).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(if devices.is_empty() { Answer::No } else { Answer::Yes })
}

fn line(device: &DeviceInfo) -> String {
    let path = device.path.display();
    if let Some(problem) = &device.problem {
        return format!("{path}: not usable: {problem}");
    }
    let formats: Vec<_> = device
        .formats
        .iter()
        .map(|format| {
            let sizes: Vec<_> = format.sizes.iter().map(ToString::to_string).collect();
            let known = if format.format.is_some() { "" } else { " (not understood)" };
            format!("  {}{known}: {}", format.fourcc, sizes.join(", "))
        })
        .collect();
    let control = |control: &ControlInfo| {
        let ControlInfo { setting, minimum, maximum, default, .. } = control;
        format!("  {setting}: {minimum} to {maximum}, by itself {default}")
    };
    let lines: Vec<_> = formats.into_iter().chain(device.controls.iter().map(control)).collect();
    format!("{path}: {} ({}, {})\n{}", device.card, device.driver, device.bus, lines.join("\n"))
}
