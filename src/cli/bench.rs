//! `limen bench`.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use limen::admin::accounts::AccountStore;
use limen::bench::client::free_address;
use limen::bench::frames::{bench_frames, scene_frames};
use limen::bench::idle::{Motion, bench_idle, record as record_idle};
use limen::bench::import::{Import, ImportTimings, archive, bare, pictures, watch};
use limen::bench::latency::{Broker, LOST_AFTER_MS, RATE_HZ, bench_latency, record as record_visits};
use limen::bench::lists::bench_lists;
use limen::bench::live::bench_live;
use limen::bench::search::bench_search;
use limen::bench::site::{Site, SiteError};
use limen::bench::standby::bench_standby;
use limen::bench::start::{enrol_synthetic, is_result, time_to_first_line};
use limen::clock::SystemClock;
use limen::decode::JpegHeader;
use limen::enrol::EnrolmentRules;
use limen::frame::FrameSize;
use limen::gallery::GalleryStore;
use limen::install;
use serde_json::json;

use super::enrol::{enrol_scene, read_picture};
use super::{Answer, Context, Usage};

/// Size of the frames that are timed.
const SIZE: FrameSize = FrameSize { width: 640, height: 480 };
/// Subjects enrolled for `bench start`.
const SUBJECTS: u32 = 1_000;

/// Defaults: how often to process each frame, templates to search, starts to time, seconds to watch.
const ROUNDS: u32 = 3;
const TEMPLATES: u32 = 100_000;
const STARTS: u32 = 5;
/// Long enough for twenty forced looks.
const IDLE_SECONDS: u32 = 20;
const VISITS: u32 = 500;
const LIVE_SECONDS: u32 = 60;
const EVENTS: u32 = 1_000_000;
const PICTURES: u32 = 1_000;
/// How long recognition is watched without an import: about forty visits.
const ALONE: Duration = Duration::from_secs(55);
/// What a daemon under measurement is called.
const DEVICE: &str = "bench";

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen bench                               all but those with a broker, on the built-in scene
  limen bench frames --export /tmp/frames   keep the frames, for another program to be timed on
  limen bench frames --pictures frames/     frames of your own, JPEGs of one size
  limen bench search --templates 100000
  limen bench idle --seconds 600            whether memory stays as it is
  limen bench standby --seconds 600         the same of the whole daemon, with a broker
  limen bench live --seconds 180            what viewers of the live view get, and what it costs
  limen bench import --pictures 1000        an import, and recognition in the meantime
  limen bench lists --events 1000000        lists and charts of the events page
  limen bench latency --visits 500          from the camera to a subscriber of mosquitto; ten minutes")]
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
        #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rounds: u32,
    },
    /// Exact 1:N search among synthetic templates, one thread
    Search {
        /// Templates
        #[arg(long, default_value_t = TEMPLATES, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
        templates: u32,
    },
    /// From process start to the first result, and memory
    Start {
        /// Starts to time
        #[arg(long, default_value_t = STARTS, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// People enrolled, with three templates each
        #[arg(long, default_value_t = SUBJECTS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        subjects: u32,
    },
    /// CPU time and memory of capture and recogniser while nobody is in view: 640x480 MJPG at 15 Hz
    Idle {
        /// How long to watch
        #[arg(long, default_value_t = IDLE_SECONDS, value_parser = clap::value_parser!(u32).range(2..=86_400))]
        seconds: u32,
    },
    /// CPU time and memory of the whole daemon while nobody is in view, connected to a mosquitto that is
    /// started for it: 640x480 MJPG at 15 Hz
    Standby {
        /// How long to watch
        #[arg(long, default_value_t = IDLE_SECONDS, value_parser = clap::value_parser!(u32).range(2..=86_400))]
        seconds: u32,
    },
    /// The live view of the whole daemon with 0, 1 and 4 viewers: frames a second, their age on arrival,
    /// and what being watched costs recognition
    Live {
        /// How long to watch with each number of viewers, in three turns
        #[arg(long, default_value_t = LIVE_SECONDS, value_parser = clap::value_parser!(u32).range(5..=86_400))]
        seconds: u32,
    },
    /// Listing, summing up and exporting very many events
    Lists {
        /// Events
        #[arg(long, default_value_t = EVENTS, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
        events: u32,
    },
    /// Import of an archive of pictures beside what the networks alone manage, its memory, and recognition
    /// in the meantime, over the whole daemon
    Import {
        /// Pictures to import, twice
        #[arg(long, default_value_t = PICTURES, value_parser = clap::value_parser!(u32).range(8..=20_000))]
        pictures: u32,
    },
    /// From capturing a frame to a subscriber of a broker, over the whole daemon: 640x480 at 15 Hz
    Latency {
        /// Visits to time, of 1.3 s each
        #[arg(long, default_value_t = VISITS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        visits: u32,
        /// A running broker; without, a mosquitto is started on a free port of the loopback interface
        #[arg(long, value_name = "HOST:PORT")]
        broker: Option<String>,
    },
}

pub(super) fn bench(context: &Context, arguments: &BenchArguments) -> Result<Answer> {
    match &arguments.what {
        None => {
            frames(context, None, None, ROUNDS)?;
            search(context, TEMPLATES)?;
            start(context, STARTS, SUBJECTS)?;
            idle(context, IDLE_SECONDS)?;
        }
        Some(What::Frames { pictures, export, rounds }) => {
            frames(context, pictures.as_deref(), export.as_deref(), *rounds)?;
        }
        Some(What::Search { templates }) => search(context, *templates)?,
        Some(What::Start { rounds, subjects }) => start(context, *rounds, *subjects)?,
        Some(What::Idle { seconds }) => idle(context, *seconds)?,
        Some(What::Standby { seconds }) => standby(context, *seconds)?,
        Some(What::Live { seconds }) => live(context, *seconds)?,
        Some(What::Lists { events }) => lists(context, *events)?,
        Some(What::Import { pictures }) => import(context, *pictures as usize)?,
        Some(What::Latency { visits, broker }) => latency(context, *visits, broker.as_deref())?,
    }
    Ok(Answer::Yes)
}

fn frames(context: &Context, pictures: Option<&Path>, export: Option<&Path>, rounds: u32) -> Result<()> {
    let jpegs = match pictures {
        Some(folder) => jpegs_of(folder)?,
        None => scene_frames(SIZE)?,
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
    let timings = bench_frames(&models, &runtime, &context.config, size, &jpegs, rounds as usize)?;
    context.output.result(&json!({ "frames": timings }), || timings.to_string())
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

fn search(context: &Context, templates: u32) -> Result<()> {
    let timings = bench_search(templates as usize, 128, 200)?;
    context.output.result(&json!({ "search": timings }), || timings.to_string())
}

/// Starts this program over and over, on a recording in which somebody stands before the camera
/// from the first frame on.
fn start(context: &Context, rounds: u32, subjects: u32) -> Result<()> {
    let models = context.models()?;
    let embedder = &models.manifest.embedder;
    let folder = tempfile::tempdir().context("making a folder")?;
    let state = folder.path().join("state");
    let (opened, key, _) = super::open_state(&state, None, |_| ())?;
    let mut store = GalleryStore::open(&opened, &key, Arc::new(SystemClock))?;
    enrol_synthetic(&mut store, &embedder.embedding_space, embedder.dimensions, subjects as usize)?;
    drop(store);
    let recording = folder.path().join("visit.mjpeg");
    std::fs::write(&recording, scene_frames(SIZE)?.concat())
        .with_context(|| format!("writing {}", recording.display()))?;
    let program = std::env::current_exe().context("finding this program")?;
    let (models, library) =
        (install::models_folder(&context.config), install::litert_library(&context.config));
    let command = || {
        let mut command = Process::new(&program);
        command.arg("--json").arg("--state").arg(&state);
        command.args(["run", "--source"]).arg(format!("replay:{}", recording.display()));
        command.env("LIMEN_MODELS__FOLDER", &models).env("LIMEN_LITERT__LIBRARY", &library);
        command
    };
    let timings = time_to_first_line(command, is_result, rounds as usize)?;
    context.output.result(&json!({ "start": timings, "subjects": subjects }), || {
        format!("{subjects} subjects enrolled\n{timings}")
    })
}

fn idle(context: &Context, seconds: u32) -> Result<()> {
    let models = context.models()?;
    let runtime = models.runtime(&install::litert_library(&context.config))?;
    let watched = Duration::from_secs(seconds.into());
    let timings = bench_idle(&models, &runtime, &context.config, SIZE, watched)?;
    context.output.result(&json!({ "idle": timings }), || timings.to_string())
}

/// What a daemon of this program needs that is started for a measurement.
struct Bench {
    folder: tempfile::TempDir,
    state: PathBuf,
}

impl Bench {
    /// With the people of the built-in scene enrolled.
    fn new(context: &Context) -> Result<Self> {
        let models = context.models()?;
        let thresholds = context.thresholds(&models)?;
        let mut perception = context.perception(&models)?;
        let folder = tempfile::tempdir().context("making a folder")?;
        let state = folder.path().join("state");
        let (opened, key, _) = super::open_state(&state, None, |_| ())?;
        let mut store = GalleryStore::open(&opened, &key, Arc::new(SystemClock))?;
        let rules = EnrolmentRules::new(&context.config, &thresholds);
        enrol_scene(&mut store, &mut perception, &rules, &context.output)?;
        Ok(Self { folder, state })
    }

    /// The recording, for `--source`.
    fn replay(&self) -> String {
        format!("replay:{}", self.recording().display())
    }

    fn recording(&self) -> PathBuf {
        self.folder.path().join("recording.mjpeg")
    }

    /// The command of the daemon, with settings of its own: whatever this machine is configured for
    /// does not matter here.
    fn daemon(&self, context: &Context, source: &str, more: &str) -> Result<Process> {
        let settings = self.folder.path().join("limen.toml");
        let text = format!("[device]\nid = \"{DEVICE}\"\n[camera]\nrate_hz = {RATE_HZ:.1}\n{more}");
        std::fs::write(&settings, text).with_context(|| format!("writing {}", settings.display()))?;
        let mut command = Process::new(std::env::current_exe().context("finding this program")?);
        command.arg("--config").arg(&settings).arg("--state").arg(&self.state);
        command.args(["run", "--source"]).arg(source);
        let ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("LIMEN_");
        for (variable, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(variable);
        }
        command.env("LIMEN_MODELS__FOLDER", install::models_folder(&context.config));
        command.env("LIMEN_LITERT__LIBRARY", install::litert_library(&context.config));
        command.env("LIMEN_LOG__LEVEL", "error");
        Ok(command)
    }

    /// The daemon on the recording, with its owner at the admin page.
    fn site(&self, context: &Context, more: &str) -> Result<Site> {
        let address = free_address()?;
        let listen = format!("[http]\nlisten = \"{address}\"\n{more}");
        let command = self.daemon(context, &self.replay(), &listen)?;
        let setup_code = || self.setup_code().map_err(|error| SiteError::SetupCode(format!("{error:#}")));
        Ok(Site::start(command, address, setup_code)?)
    }

    /// A code by which the first owner is made.
    fn setup_code(&self) -> Result<String> {
        let (opened, key, _) = super::open_state(&self.state, None, |_| ())?;
        let mut accounts = AccountStore::open(&opened, &key, Arc::new(SystemClock))?;
        Ok(accounts.new_setup_code()?.expose().to_owned())
    }
}

/// Runs this program as the daemon twice: on a recording of nobody, and on one of people who come and go.
fn import(context: &Context, count: usize) -> Result<()> {
    let given = pictures(count)?;
    let whole = archive(&given)?;
    let models = context.models()?;
    let runtime = models.runtime(&install::litert_library(&context.config))?;
    let bare_per_s = bare(&models, &runtime, &context.config, &given)?;
    drop(given);
    let quiet = Bench::new(context)?;
    record_idle(&quiet.recording(), SIZE, Motion::Still)?;
    let site = quiet.site(context, "")?;
    let memory_before = site.memory()?;
    let alone = Import::run(&site.client, &whole, count)?;
    let memory_after = site.memory()?;
    drop(site);
    let busy = Bench::new(context)?;
    record_visits(&busy.recording(), SIZE)?;
    let site = busy.site(context, &visits_settings())?;
    let live_alone = watch(&site, ALONE)?;
    let beside = Import::run(&site.client, &whole, count)?;
    let timings = ImportTimings {
        pictures: count,
        archive_bytes: whole.len(),
        bare_per_s,
        import_per_s: alone.per_s,
        import_busy_per_s: beside.per_s,
        memory_before,
        memory_after,
        live_alone,
        live_meanwhile: beside.live(&site.client)?,
    };
    context.output.result(&json!({ "import": timings }), || timings.to_string())
}

/// So that people who come one after the other in a recording of visits are visits of their own.
fn visits_settings() -> String {
    format!("[tracking]\nlost_after_ms = {LOST_AFTER_MS}\n")
}

fn broker_settings(host: &str, port: u16) -> String {
    format!("[mqtt]\nhost = \"{host}\"\nport = {port}\n")
}

fn live(context: &Context, seconds: u32) -> Result<()> {
    let bench = Bench::new(context)?;
    record_visits(&bench.recording(), SIZE)?;
    let site = bench.site(context, &visits_settings())?;
    let timings = bench_live(&site, Duration::from_secs(seconds.into()))?;
    context.output.result(&json!({ "live": timings }), || timings.to_string())
}

fn lists(context: &Context, events: u32) -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder")?;
    let (state, key, _) = super::open_state(&folder.path().join("state"), None, |_| ())?;
    let timings = bench_lists(&state, &key, events.into())?;
    context.output.result(&json!({ "lists": timings }), || timings.to_string())
}

fn standby(context: &Context, seconds: u32) -> Result<()> {
    let bench = Bench::new(context)?;
    record_idle(&bench.recording(), SIZE, Motion::Still)?;
    let broker = Broker::start()?;
    let (host, port) = broker.address();
    let more = format!("{}[http]\nlisten = \"127.0.0.1:0\"\n", broker_settings(&host, port));
    let command = bench.daemon(context, &bench.replay(), &more)?;
    let standby = bench_standby(command, Duration::from_secs(seconds.into()))?;
    context.output.result(&json!({ "standby": standby }), || standby.to_string())
}

/// Runs this program as the daemon on a recording of people who come and go.
fn latency(context: &Context, visits: u32, broker: Option<&str>) -> Result<()> {
    let bench = Bench::new(context)?;
    record_visits(&bench.recording(), SIZE)?;
    let mut own = None;
    let (host, port) = match broker {
        None => own.insert(Broker::start()?).address(),
        Some(given) => {
            let (host, port) =
                given.rsplit_once(':').ok_or_else(|| Usage::error("--broker takes HOST:PORT"))?;
            (host.to_owned(), port.parse().map_err(|_| Usage::error("--broker takes HOST:PORT"))?)
        }
    };
    let settings = broker_settings(&host, port);
    let more = format!("{settings}[http]\nlisten = \"\"\n{}", visits_settings());
    let command = bench.daemon(context, &bench.replay(), &more)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let topic = format!("limen/{DEVICE}/event");
    let timings = runtime.block_on(bench_latency((host, port), &topic, command, visits as usize))?;
    context.output.result(&json!({ "latency": timings }), || timings.to_string())
}
