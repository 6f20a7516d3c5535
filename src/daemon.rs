//! The running appliance: builds every stage in pipeline order and wires every queue.
//!
//! | thread | does | input | when full or slow | may be silent for |
//! | --- | --- | --- | --- | --- |
//! | `capture` | waits for frames, copies them out | the device's own buffers | overwrites the latest slot, counts it | 15 s |
//! | `recogniser` | decode to verdict, owns the networks | latest slot, one deep | newest frame wins | 10 s |
//! | `store` | owns the databases of gallery, events and unknown faces | 256 requests, half of them for events only | the recogniser waits, others are told to come again | 30 s |
//! | `door` | rules who may enter, has it switched and recorded | 64 things that happen at the door | dropped and counted: a face is told again at the next look | 5 s |
//! | `relay` | holds the relay's line, releases it in time | 8 orders | refused | 5 s |
//! | `gpio` | sleeps until a button or contact changes | edges in the kernel's queue | the kernel drops the oldest | 5 s |
//! | `display` | draws the screen beside the door, when something changed | what the others tell | misses some, and draws the next | 5 s |
//! | `passes` | reads codes shown to the camera | one frame | not even offered | 10 s |
//! | `examiner-N` | still pictures of uploads and imports, at a lower priority | 8 that somebody waits for, 2 each of long work | refused; the caller waits | 180 s |
//! | `job-KIND` | imports, re-embedding, backups | one at work and two waiting of each kind | further ones are refused | not watched |
//! | `network` | MQTT and the web server, as tasks | the outbox on the disk | oldest expire first | 10 s |
//! | `reports` | hands events to the caller | 256 reports | dropped and counted: events are safe in the store | – |
//! | the caller's | supervises, talks to systemd | – | – | the watchdog |
//!
//! The gallery is read as an immutable snapshot swapped at commit, so that recognition never waits
//! on the database. Shutdown goes down the pipeline: capture, recogniser, network, jobs and examiners, store.

mod broker;
mod commands;
mod door;
mod network;
mod recognition;
mod switchboard;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use network::NetworkParts;
use recognition::{RecogniserThread, Reports};
use switchboard::Switchboard;

use crate::admin::faces::Faces;
use crate::admin::jobs::JobDesk;
use crate::admin::overview::ModelsView;
use crate::admin::settings::{Apply, SettingsDesk};
use crate::backup::{BackupSchedule, BackupSource};
use crate::camera::capture::{Capture, CaptureState, CaptureStats};
use crate::camera::{CameraSettings, Controls, StreamDescription, Wish};
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::config::{self, Config, LogLevel};
use crate::enrol::EnrolmentRules;
use crate::event::IdentityEvent;
use crate::event_store::{EVENTS_FILE, EventStore, Retention, StoreParts, StoreThread};
use crate::examiner::{self, Examiner};
use crate::frame::FrameSize;
use crate::gallery::{Gallery, GalleryStore};
use crate::jobs::{JobKind, Jobs};
use crate::live::{LiveChannel, LookChannel};
use crate::metrics::{Dashboard, Metrics, Sources};
use crate::models::ModelSet;
use crate::mqtt::MqttStats;
use crate::networks::NextNetworks;
use crate::recognise::Perception;
use crate::recogniser::{Recogniser, RecogniserSettings, RecogniserStats};
use crate::reembed::ReembedParts;
use crate::rekey::{RekeyParts, rekey_accounts};
use crate::sightings;
use crate::status::{Condition, Part, Status};
use crate::supervisor::{Heartbeat, Supervisor};
use crate::vault::{KeyPurpose, KeyRing, KeySource, RootKey, StateFolder};
use crate::watchdog::Watchdog;

/// Reports that may wait for whoever prints them.
const REPORTS: usize = 256;
/// How long a thread waits before it looks whether it should stop, and the supervisor between two
/// rounds.
const TICK: Duration = Duration::from_millis(100);
/// A camera may take this long for a frame, the slowest allowed rate and its own time-out included.
const CAPTURE_SILENCE: Duration = Duration::from_secs(15);
/// A frame takes milliseconds; this is for a board that swaps.
const RECOGNISER_SILENCE: Duration = Duration::from_secs(10);
/// SQLite waits 5 s for another process's lock.
const STORE_SILENCE: Duration = Duration::from_secs(30);
/// They look around ten times a second.
const DOOR_SILENCE: Duration = Duration::from_secs(5);
/// A picture made to confuse the reader of codes takes it a second or two on a slow board.
const PASSES_SILENCE: Duration = Duration::from_secs(10);
/// A round takes a [`TICK`].
const SUPERVISOR_SILENCE: Duration = Duration::from_secs(10);
/// More than shutdown takes.
const LAST_RESORT: Duration = Duration::from_secs(15);
/// Tasks beat every half second.
const NETWORK_SILENCE: Duration = Duration::from_secs(10);
/// The whole of shutdown. What has not ended by then is left behind; systemd waits 20 s.
const DRAIN: Duration = Duration::from_secs(10);
/// Of this, at most: a driver that does not let go, and a recogniser that is stuck, must leave time for
/// the last events to reach the broker and the disk.
const CAPTURE_DRAIN: Duration = Duration::from_secs(2);
const RECOGNISER_DRAIN: Duration = Duration::from_secs(2);
const EXAMINER_DRAIN: Duration = Duration::from_millis(500);
/// A transaction and what the disk takes for it.
const JOBS_DRAIN: Duration = Duration::from_secs(2);
/// Releasing a line.
const DOOR_DRAIN: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(1);
/// Whoever reads the reports has this long for the last of them.
const REPORTS_DRAIN: Duration = Duration::from_secs(1);
/// How often the machine's own figures are read.
const MACHINE: Duration = Duration::from_secs(5);
/// How often is looked whether a backup is due.
const SCHEDULE: Duration = Duration::from_secs(10);
/// The start counts as done after this long without a frame: the state is then told as degraded.
const FIRST_FRAME: Duration = Duration::from_secs(10);

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
    /// Nobody reads what is reported; the thread that reports waits for that and was left behind.
    #[serde(skip)]
    pub unread: bool,
    /// The admin page asked for a new start.
    #[serde(skip)]
    pub restart: bool,
}

/// What the daemon is made of.
pub struct Parts {
    /// The settings.
    pub config: Config,
    /// Where they come from, for reading them again.
    pub sources: config::Sources,
    /// Sets the least urgent messages that are written.
    pub log_level: Box<dyn Fn(LogLevel) + Send + Sync>,
    /// The verified models; dropped once the networks are compiled.
    pub models: ModelSet,
    /// The compiled networks.
    pub perception: Perception,
    /// The state folder.
    pub state: StateFolder,
    /// The root key of what is in it.
    pub key: RootKey,
    /// Where that came from.
    pub key_source: KeySource,
    /// The opened gallery.
    pub gallery_store: GalleryStore,
    /// Where looks are shown, when anybody watches.
    pub looks: LookChannel,
    /// Networks that follow those in use once the gallery has templates of them.
    pub next: Option<NextNetworks>,
}

/// Camera settings as configured.
pub fn camera_settings(config: &Config) -> CameraSettings {
    let camera = &config.camera;
    CameraSettings {
        source: camera.source.clone(),
        size: FrameSize { width: camera.width, height: camera.height },
        rate_hz: camera.rate_hz,
        format: camera.format.wanted(),
        controls: Controls {
            exposure_us: Wish::of(camera.exposure_us),
            gain: Wish::of(camera.gain),
            backlight_compensation: Wish::of(camera.backlight_compensation),
        },
        looping: camera.r#loop,
        realtime: true,
    }
}

fn retention(config: &Config) -> Retention {
    let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
    Retention {
        keep: days(config.events.keep_days),
        count: config.events.keep_count.into(),
        keep_crops: days(config.events.keep_crops_days),
        crops: config.events.keep_crops_count.into(),
        keep_pictures: config.enrolment.keep_pictures,
    }
}

/// A change of the root key that was cut off, or that a key given from outside asks for, goes on. The
/// databases were brought under the present key as they were opened, where nobody else had them.
fn go_on_changing(jobs: &Jobs, rekey: RekeyParts, key: RootKey) {
    if !key.is_changing() {
        return;
    }
    let started = jobs.start(JobKind::Rekey, "the start".to_owned(), move |control| {
        let state = rekey.state.clone();
        rekey.run(control, |key| rekey_accounts(&state, key))
    });
    if let Err(error) = started {
        tracing::warn!(%error, "the change of the root key goes on at the next start");
    }
}

/// Runs until `stop` is set, the recording ends, or a thread ends or stands still that should not.
/// `report` is called on a thread of its own.
pub fn run(parts: Parts, stop: &AtomicBool, report: impl FnMut(Report) + Send + 'static) -> Result<Summary> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Parts {
        config,
        sources: settings_sources,
        log_level,
        models,
        perception,
        state,
        key,
        key_source,
        gallery_store,
        looks,
        next,
    } = parts;
    let status = Status::new(Arc::clone(&clock));
    let (metrics, mqtt_stats, live) =
        (Arc::new(Metrics::new()), Arc::<MqttStats>::default(), LiveChannel::new());
    let mut supervisor = Supervisor::new(Arc::clone(&clock));
    let space = perception.embedding_space().clone();
    let model_thresholds = models.manifest.embedder.thresholds;
    let thresholds = config.thresholds(&model_thresholds)?;
    let models_view = ModelsView::from(&models.manifest);
    // The files' bytes that the networks need are held by them.
    drop(models);

    // The store first, for it knows the gallery: its databases have one thread.
    let snapshot = gallery_store.load_snapshot(&space).context("loading the gallery")?;
    // Networks follow only because templates of them can be made. Otherwise counting reads every sample, and a start
    // must not wait for it: without templates of other networks none is missing.
    let reembeds = next.is_some()
        || snapshot.report().other_space > 0
            && gallery_store.staleness(&space).context("looking for missing templates")?.renewable > 0;
    let gallery = Arc::new(Gallery::new(snapshot));
    let lifetime = Duration::from_millis(config.events.expire_after_ms.into());
    let mut events = EventStore::open(&state, &key, Arc::clone(&clock), lifetime)?;
    // Two of them would give the same numbers to different events.
    let _claim = state.claim(EVENTS_FILE)?;
    if config.mqtt.host.is_none() {
        events = events.without_broker();
    }
    // Its threads load networks of their own when they have work.
    let (examiner, examiner_threads) = Examiner::new(&config, &space, &clock);
    let used = space.clone();
    let (store_thread, store) = StoreThread::new(StoreParts {
        gallery_store,
        events,
        gallery: Arc::clone(&gallery),
        space,
        rules: EnrolmentRules::new(&config, &thresholds),
        retention: retention(&config),
        status: status.clone(),
        metrics: Arc::clone(&metrics),
        clock: Arc::clone(&clock),
    })?;
    store.keep_unseen(config.privacy.erase_unseen_days)?;
    let store_thread = store_thread.with_sightings(
        state.clone(),
        key.subkeys(KeyPurpose::Sightings),
        sightings::limits(&config, &thresholds),
    );
    let ending = Arc::new(AtomicBool::new(false));
    supervisor.spawn("store", STORE_SILENCE, {
        let ending = Arc::clone(&ending);
        move |beat| store_thread.run(beat, &ending)
    })?;

    // The door before the lens, so that its relay is released before anything can open it.
    let (mut door, eye) = door::spawn(&mut supervisor, &config, &store, &status, &metrics, &clock)?;

    // Lens to verdict.
    let capture_beat = supervisor.watch("capture", CAPTURE_SILENCE);
    let capture = Capture::spawn(camera_settings(&config), Arc::clone(&clock), move || capture_beat.beat())?;
    let frames = Arc::clone(capture.shared());
    let (reports, inbox) = sync_channel(REPORTS);
    let stats = Arc::new(Mutex::new(RecogniserStats::default()));
    let (recogniser_settings, settings) = watch::channel(RecogniserSettings::new(&config, &thresholds));
    let first = settings.borrow().clone();
    let mut recogniser = Recogniser::new(perception, Arc::clone(&gallery), first, Arc::clone(&clock));
    recogniser.report_to(live.clone(), Arc::clone(&metrics));
    recogniser.show_passes_to(eye);
    let recogniser = RecogniserThread {
        recogniser,
        frames: Arc::clone(&frames),
        store: store.clone(),
        door: door.handle.clone(),
        reports: Reports { queue: reports.clone(), dropped: Arc::default() },
        looks: looks.clone(),
        status: status.clone(),
        stats: Arc::clone(&stats),
        settings,
        rubbish: false,
        faces: 0,
    };
    supervisor.spawn("recogniser", RECOGNISER_SILENCE, move |beat| recogniser.run(&thresholds, beat))?;

    // Still pictures to faces.
    let mut examiner_names = Vec::new();
    for thread in examiner_threads {
        let name = thread.name().to_owned();
        supervisor.spawn(&name, examiner::SILENCE, move |beat| thread.run(beat))?;
        examiner_names.push(name);
    }
    let faces = Arc::new(Faces::new(examiner.clone(), &config, thresholds, Arc::clone(&clock)));

    door.spawn_display(&mut supervisor, &config, &live, &gallery, &status, &clock)?;

    // What the admin page changes.
    let (network_config, config_in_force) = watch::channel(Arc::new(config.clone()));
    let switchboard = Switchboard {
        model: model_thresholds,
        recogniser: recogniser_settings,
        capture: capture.control(),
        store: store.clone(),
        faces: Arc::clone(&faces),
        network: network_config,
        log_level,
    };
    let restart = Arc::<AtomicBool>::default();
    let apply: Apply = Box::new(move |config| switchboard.apply(config));
    let desk = SettingsDesk::new(
        settings_sources,
        state.clone(),
        &config,
        model_thresholds,
        apply,
        Arc::clone(&restart),
    );

    // Long work, at the pace the examiners allow.
    let jobs = Jobs::new(Arc::clone(&clock));
    let ring = KeyRing::new(key.clone());
    let backup = Arc::new(BackupSource::new(state.clone(), ring.clone()));
    let schedule = BackupSchedule::new(
        Arc::clone(&backup),
        jobs.clone(),
        config_in_force.clone(),
        status.clone(),
        Arc::clone(&metrics),
        Arc::clone(&clock),
    );
    let next = next.map(|next| {
        let mut config = config.clone();
        config.models.folder = Some(next.folder.clone());
        (next, Arc::new(config))
    });
    let reembed = ReembedParts {
        examiner: examiner.clone(),
        store: store.clone(),
        space: used,
        state: state.clone(),
        next,
        restart: Arc::clone(&restart),
        clock: Arc::clone(&clock),
    };
    let rekey =
        RekeyParts { state: state.clone(), ring: ring.clone(), source: key_source, store: store.clone() };

    // Verdict to broker and web.
    let sources = Sources {
        clock: Arc::clone(&clock),
        status: status.clone(),
        capture: Arc::clone(&frames),
        recogniser: Arc::clone(&stats),
        gallery,
        outbox: store.outbox(),
        mqtt: Arc::clone(&mqtt_stats),
    };
    let cancel = CancellationToken::new();
    let dashboard = Arc::new(Dashboard::new(Arc::clone(&metrics), sources));
    let network = NetworkParts {
        dashboard: Arc::clone(&dashboard),
        metrics: Arc::clone(&metrics),
        mqtt_stats,
        store: store.clone(),
        live,
        looks,
        faces,
        door: door.handle.clone(),
        status: status.clone(),
        clock: Arc::clone(&clock),
        config: config_in_force.clone(),
        settings: Arc::new(desk),
        models: models_view,
        work: JobDesk {
            jobs: jobs.clone(),
            state: state.clone(),
            examiner: examiner.clone(),
            store: store.clone(),
            config: config_in_force,
            backup,
            rekey: rekey.clone(),
            reembed: reembed.clone(),
        },
    };
    network.spawn(&mut supervisor, NETWORK_SILENCE, &config, &state, &key, cancel.clone())?;
    go_on_changing(&jobs, rekey, key);
    if reembeds
        && let Err(error) =
            jobs.start(JobKind::Reembed, "the start".to_owned(), move |control| reembed.run(control))
    {
        tracing::warn!(%error, "missing templates are made at the next start");
    }

    let printed = Arc::new(AtomicBool::new(false));
    let printer = std::thread::Builder::new().name("reports".into()).spawn({
        let printed = Arc::clone(&printed);
        move || hand_out(&inbox, &printed, report)
    })?;
    let mut round = Round {
        started: clock.monotonic(),
        watchdog: Watchdog::new(),
        known: CaptureState::Starting,
        reports,
        metrics,
        dashboard,
        machine_at: None,
        schedule,
        schedule_at: None,
    };
    let watched = Watched { capture: &capture, status: &status, stats: &stats, clock: clock.as_ref() };
    // What the loop below waits for may be held by what stands still.
    let beat = supervisor.watch("supervisor", SUPERVISOR_SILENCE);
    let _last_resort = supervisor.last_resort(LAST_RESORT)?;
    let result = supervise(&[stop, &restart], &mut supervisor, &watched, &mut round, &beat);
    let restart = restart.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed);
    if restart {
        round.watchdog.reloading(clock.monotonic());
    } else {
        round.watchdog.stopping();
    }

    // Down the pipeline: no new frames, the recogniser ends its visits, what happened goes to the
    // broker, and what could not stays in the outbox.
    let deadline = Instant::now() + DRAIN;
    let left = || deadline.saturating_duration_since(Instant::now());
    let last_capture = frames.stats();
    if !capture.stop(CAPTURE_DRAIN) {
        tracing::warn!("the camera driver does not let go; leaving it behind");
        frames.slot().close();
    }
    let recognised = supervisor.join("recogniser", RECOGNISER_DRAIN);
    // Whoever is in is told of the last events; whoever is outside finds the door shut.
    door.ending.store(true, Ordering::Relaxed);
    // The broker is to have what the recogniser said last.
    if !store.settle(SETTLE) {
        tracing::warn!("the last events are not on the disk yet");
    }
    cancel.cancel();
    let published = supervisor.join("network", left());
    // Between two subjects; what waits for an examiner is told that it has ended.
    jobs.cancel_all();
    // What they are at is nobody's any more; the process ends without them if it takes long.
    examiner.end();
    for name in &examiner_names {
        if let Err(error) = supervisor.join(name, EXAMINER_DRAIN.min(left())) {
            tracing::warn!("{error:#}; leaving it behind");
        }
    }
    if !jobs.end(JOBS_DRAIN.min(left())) {
        tracing::warn!("long work does not end; leaving it behind");
    }
    for name in door.threads {
        if let Err(error) = supervisor.join(name, DOOR_DRAIN.min(left())) {
            tracing::warn!("{error:#}; leaving it behind");
        }
    }
    ending.store(true, Ordering::Relaxed);
    let stored = supervisor.join("store", left());
    printed.store(true, Ordering::Relaxed);
    let patience = Instant::now() + REPORTS_DRAIN;
    while !printer.is_finished() && Instant::now() < patience {
        std::thread::sleep(TICK / 10);
    }
    result.and(recognised).and(published).and(stored)?;
    let recogniser = stats.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    Ok(Summary { capture: last_capture, recogniser, unread: !printer.is_finished(), restart })
}

/// The thread `reports`. Ends when told that nothing more comes: a recogniser that is stuck never
/// closes the queue. One that is stuck itself, because nobody reads what it prints, is left behind.
fn hand_out(inbox: &Receiver<Report>, done: &AtomicBool, mut report: impl FnMut(Report)) {
    loop {
        match inbox.recv_timeout(TICK) {
            Ok(new) => report(new),
            Err(RecvTimeoutError::Timeout) if done.load(Ordering::Relaxed) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What the supervising loop remembers between two rounds.
struct Round {
    started: Monotonic,
    watchdog: Watchdog,
    known: CaptureState,
    reports: SyncSender<Report>,
    metrics: Arc<Metrics>,
    dashboard: Arc<Dashboard>,
    /// When the machine's figures were read last.
    machine_at: Option<Monotonic>,
    schedule: BackupSchedule,
    /// When was looked last whether a backup is due.
    schedule_at: Option<Monotonic>,
}

/// What the supervising loop looks at.
struct Watched<'a> {
    capture: &'a Capture,
    status: &'a Status,
    stats: &'a Mutex<RecogniserStats>,
    clock: &'a dyn Clock,
}

/// Watches everything until told to stop, or until something ends or stands still that should not.
fn supervise(
    stop: &[&AtomicBool],
    supervisor: &mut Supervisor,
    watched: &Watched<'_>,
    round: &mut Round,
    beat: &Heartbeat,
) -> Result<()> {
    let Watched { capture, status, stats, clock } = *watched;
    let frames = capture.shared();
    while !stop.iter().any(|stop| stop.load(Ordering::Relaxed)) {
        beat.beat();
        if let Some(ended) = supervisor.ended_within(TICK) {
            // The recogniser ends with the recording; nobody else ends in order before shutdown.
            return match ended.result {
                Ok(()) if ended.name == "recogniser" => Ok(()),
                Ok(()) => bail!("the thread `{}` ended although nobody told it to", ended.name),
                Err(error) => Err(error).with_context(|| format!("the thread `{}`", ended.name)),
            };
        }
        if capture.has_died() {
            bail!("the thread `capture` panicked");
        }
        let seen = frames.stats();
        round.camera(&seen, status);
        let now = clock.monotonic();
        match supervisor.check() {
            Ok(()) => {
                round.metrics.set_stuck(None);
                round.watchdog.feed(now);
            }
            Err(stuck) if round.watchdog.is_set() => {
                // Not fed any more: systemd ends the program, with a core dump where that is wanted.
                round.metrics.set_stuck(Some(stuck.name.clone()));
                round.watchdog.status(&format!("dead: {stuck}"));
                tracing::error!("{stuck}; the watchdog is no longer fed");
                std::thread::sleep(TICK * 10);
                continue;
            }
            Err(stuck) => bail!("{stuck}; nothing but a new start can help"),
        }
        if round.machine_at.is_none_or(|last| now.since(last) >= MACHINE) {
            round.machine_at = Some(now);
            round.dashboard.read_machine();
        }
        if round.schedule_at.is_none_or(|last| now.since(last) >= SCHEDULE) {
            round.schedule_at = Some(now);
            round.schedule.look(now.since(round.started));
        }
        let recognises = matches!(status.condition(Part::Recognition), Condition::Working { .. });
        if recognises && (seen.delivered > 0 || now.since(round.started) >= FIRST_FRAME) {
            round.watchdog.ready();
        }
        round.watchdog.status(&status_line(&seen, status, stats));
    }
    Ok(())
}

impl Round {
    /// Tells about the camera when its state has changed.
    fn camera(&mut self, stats: &CaptureStats, status: &Status) {
        if stats.state == self.known {
            return;
        }
        match &stats.state {
            CaptureState::Streaming(stream) => {
                if stream.notes.is_empty() {
                    status.working(Part::Camera);
                } else {
                    status.degraded(Part::Camera, stream.notes.join("; "));
                }
                self.tell(Report::Streaming(stream.clone()));
            }
            CaptureState::Lost { error } => {
                status.degraded(Part::Camera, error.clone());
                self.tell(Report::CameraLost { error: error.clone() });
            }
            CaptureState::Starting | CaptureState::Ended | CaptureState::Stopped => {}
        }
        self.known = stats.state.clone();
    }

    fn tell(&self, report: Report) {
        // Whoever does not keep up with printing misses this; the log has it too.
        let _ = self.reports.try_send(report);
    }
}

/// One line for `systemctl status`.
fn status_line(capture: &CaptureStats, status: &Status, stats: &Mutex<RecogniserStats>) -> String {
    let camera = match &capture.state {
        CaptureState::Streaming(stream) => match stream.rate_hz {
            Some(rate) => format!("{} at {rate:.0} Hz", stream.size),
            None => stream.size.to_string(),
        },
        CaptureState::Starting => "waiting for the camera".to_owned(),
        CaptureState::Lost { .. } => "no camera".to_owned(),
        CaptureState::Ended | CaptureState::Stopped => "recording ended".to_owned(),
    };
    let count = |kind: &str| {
        let stats = stats.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        stats.events.get(kind).copied().unwrap_or(0)
    };
    let mut line = format!("{camera}; {} identified, {} unknown", count("identified"), count("unknown"));
    for (part, condition) in status.conditions() {
        if let Condition::Degraded { reason, .. } = condition {
            line.push_str(&format!("; {} degraded: {reason}", part.name()));
        }
    }
    // systemd takes one line.
    line.replace('\n', " ")
}
