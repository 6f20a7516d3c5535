//! The running appliance: builds every stage in pipeline order and wires every queue.
//!
//! | thread | does | input | when full or slow |
//! | --- | --- | --- | --- |
//! | `capture` | waits for frames, copies them out | the device's own buffers | overwrites the latest slot, counts it |
//! | `recogniser` | decode to verdict, owns the networks | latest slot, one deep | newest frame wins |
//! | `store` | notices enrolments by other processes | a clock | – |
//! | the caller's | hands out reports | [`REPORTS`] deep queue | the recogniser waits: frames are lost, events are not |
//!
//! The gallery is read as an immutable snapshot swapped at commit, so that recognition never waits
//! on the database. Shutdown goes down the pipeline: capture, recogniser, store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::camera::capture::{Capture, CaptureShared, CaptureState, CaptureStats, Waited};
use crate::camera::{CameraSettings, StreamDescription};
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::config::Config;
use crate::embedding::EmbeddingSpaceId;
use crate::event::IdentityEvent;
use crate::frame::FrameSize;
use crate::gallery::{Gallery, GalleryStore};
use crate::models::ModelSet;
use crate::recognise::Perception;
use crate::recogniser::{Look, Recogniser, RecogniserSettings, RecogniserStats};

/// Reports that may wait for whoever prints or publishes them.
const REPORTS: usize = 64;
/// How often the store thread looks for enrolments by another process.
const STORE_POLL: Duration = Duration::from_secs(1);
/// How long a thread waits before it looks whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How long shutdown waits for a thread that is stuck in the driver.
const PATIENCE: Duration = Duration::from_secs(3);
/// Frames in a row that inference may fail on before the program gives up.
const FAILURES_IN_A_ROW: u32 = 10;

/// What the daemon tells its caller.
#[derive(Debug)]
pub enum Report {
    /// Frames are coming.
    Streaming(StreamDescription),
    /// They have stopped coming; opening is tried again.
    CameraLost {
        /// Why.
        error: String,
    },
    /// Somebody came or left.
    Event(IdentityEvent),
}

/// Counts over the whole run.
#[derive(Debug, serde::Serialize)]
pub struct Summary {
    /// Of the capture thread.
    pub capture: CaptureStats,
    /// Of the recogniser.
    pub recogniser: RecogniserStats,
}

/// The newest look, for whoever wants to see it. One deep; nobody waits for anybody.
pub type LookSlot = Arc<Mutex<Option<Look>>>;

/// What the daemon is made of.
pub struct Parts {
    /// The settings.
    pub config: Config,
    /// The verified models; dropped once the networks are compiled.
    pub models: ModelSet,
    /// The compiled networks.
    pub perception: Perception,
    /// The opened gallery.
    pub store: GalleryStore,
    /// Receives looks, when anybody is interested.
    pub looks: Option<LookSlot>,
}

/// Camera settings as configured.
pub fn camera_settings(config: &Config) -> CameraSettings {
    let camera = &config.camera;
    CameraSettings {
        source: camera.source.clone(),
        size: FrameSize { width: camera.width, height: camera.height },
        rate_hz: camera.rate_hz,
        format: camera.format.wanted(),
        looping: camera.r#loop,
        realtime: true,
    }
}

/// Runs until `stop` is set, the recording ends, or a thread ends that should not.
pub fn run(parts: Parts, stop: &AtomicBool, mut report: impl FnMut(Report)) -> Result<Summary> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Parts { config, models, perception, store, looks } = parts;
    let space = perception.embedding_space().clone();
    let settings =
        RecogniserSettings::new(&config, &config.thresholds(&models.manifest.embedder.thresholds)?);
    // The files' bytes that the networks need are held by them.
    drop(models);

    let snapshot = store.load_snapshot(&space).context("loading the gallery")?;
    let gallery = Arc::new(Gallery::new(snapshot));
    let ending = Arc::new(AtomicBool::new(false));

    let capture = Capture::spawn(camera_settings(&config), Arc::clone(&clock))?;
    let frames = Arc::clone(capture.shared());
    let (reports, inbox) = sync_channel(REPORTS);
    let recogniser = Recogniser::new(perception, Arc::clone(&gallery), settings, Arc::clone(&clock));
    let recogniser = spawn("recogniser", {
        let frames = Arc::clone(&frames);
        move || recognise(recogniser, &frames, &reports, looks.as_ref())
    })?;
    let store = spawn("store", {
        let ending = Arc::clone(&ending);
        move || watch_store(store, &gallery, &space, clock.as_ref(), &ending)
    })?;

    let result = supervise(stop, &frames, &inbox, &recogniser, &store, &mut report);

    // Down the pipeline: no new frames, the recogniser ends its visits and closes the queue.
    let stats = frames.stats();
    if !capture.stop(PATIENCE) {
        tracing::warn!("the camera driver does not let go; leaving it behind");
        frames.slot().close();
    }
    for left in inbox.iter() {
        report(left);
    }
    let recogniser = recogniser.join().map_err(|_| anyhow::anyhow!("the recogniser panicked"))?;
    ending.store(true, Ordering::Relaxed);
    let stored = store.join().map_err(|_| anyhow::anyhow!("the store thread panicked"))?;
    result?;
    stored?;
    Ok(Summary { capture: stats, recogniser: recogniser? })
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .with_context(|| format!("starting the thread {name}"))
}

/// Hands reports out until told to stop, or until a thread ends that should not.
fn supervise(
    stop: &AtomicBool,
    frames: &CaptureShared,
    inbox: &Receiver<Report>,
    recogniser: &JoinHandle<Result<RecogniserStats>>,
    store: &JoinHandle<Result<()>>,
    report: &mut impl FnMut(Report),
) -> Result<()> {
    let mut known = CaptureState::Starting;
    while !stop.load(Ordering::Relaxed) {
        match inbox.recv_timeout(STOP_POLL) {
            Ok(new) => report(new),
            Err(RecvTimeoutError::Timeout) => {}
            // The recogniser has seen the end of the recording, or failed; joining it tells.
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if recogniser.is_finished() {
            continue;
        }
        if store.is_finished() {
            bail!("the store thread ended");
        }
        let state = frames.stats().state;
        if state != known {
            match &state {
                CaptureState::Streaming(stream) => report(Report::Streaming(stream.clone())),
                CaptureState::Lost { error, .. } => report(Report::CameraLost { error: error.clone() }),
                _ => {}
            }
            known = state;
        }
    }
    Ok(())
}

/// The thread `recogniser`.
fn recognise(
    mut recogniser: Recogniser,
    frames: &CaptureShared,
    reports: &SyncSender<Report>,
    looks: Option<&LookSlot>,
) -> Result<RecogniserStats> {
    let mut events = Vec::new();
    let mut failures = 0;
    loop {
        let frame = match frames.slot().wait(STOP_POLL) {
            Waited::Frame(frame) => frame,
            Waited::TimedOut => {
                if matches!(frames.stats().state, CaptureState::Lost { .. }) {
                    recogniser.end_all(&mut events);
                    send(reports, &mut events);
                }
                continue;
            }
            Waited::Closed => break,
        };
        let mut look = None;
        match recogniser.frame(&frame, &mut events, looks.is_some().then_some(&mut look)) {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                tracing::error!(%error, failures, "a frame could not be recognised");
                if failures >= FAILURES_IN_A_ROW {
                    return Err(error).context("recognition keeps failing");
                }
            }
        }
        frames.slot().recycle(frame.bytes);
        if let (Some(slot), Some(look)) = (looks, look) {
            *slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(look);
        }
        send(reports, &mut events);
    }
    recogniser.end_all(&mut events);
    send(reports, &mut events);
    Ok(recogniser.stats().clone())
}

fn send(reports: &SyncSender<Report>, events: &mut Vec<IdentityEvent>) {
    for event in events.drain(..) {
        // The receiver goes away only when the program ends.
        if reports.send(Report::Event(event)).is_err() {
            return;
        }
    }
}

/// The thread `store`: keeps the snapshot current when another process enrols or removes, or when a
/// subject expires.
fn watch_store(
    mut store: GalleryStore,
    gallery: &Gallery,
    space: &EmbeddingSpaceId,
    clock: &dyn Clock,
    ending: &AtomicBool,
) -> Result<()> {
    let mut due = Instant::now() + STORE_POLL;
    while !ending.load(Ordering::Relaxed) {
        std::thread::sleep(STOP_POLL);
        if Instant::now() < due {
            continue;
        }
        due = Instant::now() + STORE_POLL;
        let expired = |at: UnixMillis| clock.wall() >= at;
        match store.changed_by_others() {
            Ok(changed) if changed || gallery.current().report().next_expiry.is_some_and(expired) => {
                match store.load_snapshot(space) {
                    Ok(snapshot) => {
                        let report = snapshot.report();
                        gallery.replace(snapshot);
                        tracing::info!(
                            subjects = report.subjects,
                            templates = report.templates,
                            "the gallery has changed"
                        );
                    }
                    Err(error) => {
                        tracing::error!(%error, "the changed gallery cannot be read; the old one stays")
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the gallery database does not answer; the loaded one stays")
            }
        }
    }
    Ok(())
}
