//! What the running daemon counts and measures, and the two forms in which it tells: the metrics that
//! Prometheus reads, and the health object on MQTT and the web server.
//!
//! Owned here: every metric's name, labels and buckets. Not here: when something is measured, which
//! the stages decide, and how it travels ([`crate::http`], MQTT). Any thread may call the methods
//! that count: they take no lock and never wait. What its owner counts already is not pushed at all but
//! read from there when somebody asks ([`Dashboard`]).
//!
//! No label carries anything about a person: label values are fixed words of the code.

mod exposition;
mod health;
mod histogram;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::backup::BackupLog;
use crate::camera::StreamDescription;
use crate::camera::capture::{CaptureShared, CaptureState};
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::event_store::Outbox;
use crate::gallery::Gallery;
use crate::mqtt::MqttStats;
use crate::recogniser::RecogniserStats;
use crate::retention::RetentionLog;
use crate::status::Status;

pub use exposition::{CONTENT_TYPE, Kind, METRICS, Metric};
pub use health::{CameraHealth, Health, MachineHealth, Overall, Queues, RecognitionHealth};
pub use histogram::Percentiles;

use histogram::{Histogram, Recent, STAGE_BOUNDS, WAIT_BOUNDS};

/// A stage of the way of one frame that is timed for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The camera's bytes to pixels.
    Decode,
    /// The detector, with scaling the picture to its input.
    Detect,
    /// Landmarks, quality and alignment of one face.
    Examine,
    /// The embedding of one face.
    Embed,
    /// The search of one probe in the gallery.
    Search,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Self; 5] = [Self::Decode, Self::Detect, Self::Examine, Self::Embed, Self::Search];

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Detect => "detect",
            Self::Examine => "examine",
            Self::Embed => "embed",
            Self::Search => "search",
        }
    }
}

/// Everything that is counted and measured. Shared by all parts of the daemon behind an `Arc`.
pub struct Metrics {
    stages: [Histogram; Stage::ALL.len()],
    decision: Histogram,
    publish: Histogram,
    commit: Histogram,
    relay: Histogram,
    /// Rulings of the door by way and reason, and alarms.
    door: Mutex<DoorCounts>,
    door_dropped: AtomicU64,
    recent_decisions: Recent,
    recent_publishes: Recent,
    faces: AtomicU32,
    rings: AtomicU64,
    stuck: ArcSwapOption<String>,
    store_in: AtomicU64,
    store_out: AtomicU64,
    http_requests: [AtomicU64; 3],
    http_refused: AtomicU64,
    backups: Mutex<BackupLog>,
    /// What was erased because its time was over.
    pub retention: RetentionLog,
}

/// What was counted at the door, by constant names.
#[derive(Clone, Debug, Default)]
struct DoorCounts {
    granted: BTreeMap<&'static str, u64>,
    denied: BTreeMap<&'static str, u64>,
    alarms: BTreeMap<&'static str, u64>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        Self {
            stages: Stage::ALL.map(|_| Histogram::new(&STAGE_BOUNDS)),
            decision: Histogram::new(&WAIT_BOUNDS),
            publish: Histogram::new(&WAIT_BOUNDS),
            commit: Histogram::new(&STAGE_BOUNDS),
            relay: Histogram::new(&STAGE_BOUNDS),
            door: Mutex::default(),
            door_dropped: AtomicU64::new(0),
            recent_decisions: Recent::new(),
            recent_publishes: Recent::new(),
            faces: AtomicU32::new(0),
            rings: AtomicU64::new(0),
            stuck: ArcSwapOption::empty(),
            store_in: AtomicU64::new(0),
            store_out: AtomicU64::new(0),
            http_requests: Default::default(),
            http_refused: AtomicU64::new(0),
            backups: Mutex::default(),
            retention: RetentionLog::default(),
        }
    }

    /// Does `work` and counts how long it took.
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.stages[stage as usize].observe(start.elapsed());
        result
    }

    /// A visitor was identified or found unknown, this long after the decisive frame was captured.
    pub fn observe_decision(&self, since_capture: Duration) {
        self.decision.observe(since_capture);
        self.recent_decisions.note(since_capture);
    }

    /// The broker acknowledged an event, this long after its frame was captured. For events that went
    /// out fresh: what a broker's outage adds is no property of this device.
    pub fn observe_publish(&self, since_capture: Duration) {
        self.publish.observe(since_capture);
        self.recent_publishes.note(since_capture);
    }

    /// An event was committed to the disk.
    pub fn observe_commit(&self, took: Duration) {
        self.commit.observe(took);
    }

    /// The relay was energised, this long after the ruling.
    pub fn observe_relay(&self, took: Duration) {
        self.relay.observe(took);
    }

    /// Somebody may enter by a way, or not, for a reason.
    pub fn door_ruled(&self, way: &'static str, denied: Option<&'static str>) {
        let mut door = self.door.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *match denied {
            None => door.granted.entry(way).or_default(),
            Some(reason) => door.denied.entry(reason).or_default(),
        } += 1;
    }

    /// Something is wrong at the door.
    pub fn door_alarm(&self, alarm: &'static str) {
        let mut door = self.door.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *door.alarms.entry(alarm).or_default() += 1;
    }

    /// Something that happened at the door did not fit into its queue.
    pub fn door_input_dropped(&self) {
        self.door_dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn door(&self) -> DoorCounts {
        self.door.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Confirmed faces in view.
    pub fn set_faces(&self, faces: u32) {
        self.faces.store(faces, Ordering::Relaxed);
    }

    /// What came of the backups.
    pub fn set_backups(&self, log: BackupLog) {
        *self.backups.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = log;
    }

    fn backups(&self) -> BackupLog {
        self.backups.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Somebody rang, and the event of it was recorded.
    pub fn rang(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is about to be put into the queue of the thread `store`; how many waited in it until now.
    pub fn store_request_queued(&self) -> u64 {
        let queued = self.store_in.fetch_add(1, Ordering::Relaxed);
        queued.saturating_sub(self.store_out.load(Ordering::Relaxed))
    }

    /// It was not put there after all.
    pub fn store_request_refused(&self) {
        self.store_in.fetch_sub(1, Ordering::Relaxed);
    }

    /// The thread `store` has taken a request from its queue.
    pub fn store_request_taken(&self) {
        self.store_out.fetch_add(1, Ordering::Relaxed);
    }

    /// The web server has answered with this HTTP status.
    pub fn http_answered(&self, status: u16) {
        let class = match status {
            0..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.http_requests[class].fetch_add(1, Ordering::Relaxed);
    }

    /// The web server has turned a connection away because too many are open.
    pub fn http_refused(&self) {
        self.http_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Which thread stands still, as the supervisor found; `None` when all move.
    pub fn set_stuck(&self, stuck: Option<String>) {
        self.stuck.store(stuck.map(Arc::new));
    }

    /// Requests that wait for the thread `store`.
    pub(crate) fn store_waiting(&self) -> u64 {
        // Read in this order the difference cannot be negative, but for a request in between.
        let taken = self.store_out.load(Ordering::Relaxed);
        self.store_in.load(Ordering::Relaxed).saturating_sub(taken)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the rest comes from: what its owner counts already.
pub struct Sources {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the parts are doing.
    pub status: Status,
    /// What the camera delivers.
    pub capture: Arc<CaptureShared>,
    /// What recognition made of it.
    pub recogniser: Arc<Mutex<RecogniserStats>>,
    /// Who is enrolled; only how many.
    pub gallery: Arc<Gallery>,
    /// What waits for the broker.
    pub outbox: watch::Receiver<Outbox>,
    /// What went over the broker.
    pub mqtt: Arc<MqttStats>,
}

/// Everything that can be told, put together when somebody asks. Shared by the web server and MQTT
/// behind an `Arc`.
pub struct Dashboard {
    metrics: Arc<Metrics>,
    sources: Sources,
    started: Monotonic,
    started_at: UnixMillis,
    frame_rate: Mutex<FrameRate>,
    machine: Mutex<MachineHealth>,
}

impl std::fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dashboard(..)")
    }
}

impl Dashboard {
    /// The uptime counts from now.
    pub fn new(metrics: Arc<Metrics>, sources: Sources) -> Self {
        let (started, started_at) = (sources.clock.monotonic(), sources.clock.wall());
        let delivered = sources.capture.stats().delivered;
        let frame_rate = Mutex::new(FrameRate { since: started, delivered, per_second: None });
        let machine = Mutex::new(MachineHealth::read());
        Self { metrics, sources, started, started_at, frame_rate, machine }
    }

    /// What the camera streams; `None` while there is no stream.
    pub fn stream(&self) -> Option<StreamDescription> {
        match self.sources.capture.stats().state {
            CaptureState::Streaming(stream) => Some(stream),
            _ => None,
        }
    }

    /// Reads the machine's own figures anew, for a thread that may wait for a slow sensor.
    pub fn read_machine(&self) {
        let now = MachineHealth::read();
        *self.machine.lock().expect("no holder of this lock can panic") = now;
    }

    fn uptime(&self) -> Duration {
        self.sources.clock.monotonic().since(self.started)
    }

    fn recogniser(&self) -> RecogniserStats {
        // A recogniser that panicked ends the program; until then its last counts are as good as any.
        self.sources.recogniser.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn frames_per_second(&self) -> Option<f64> {
        let delivered = self.sources.capture.stats().delivered;
        let mut rate = self.frame_rate.lock().expect("no holder of this lock can panic");
        rate.read(self.sources.clock.monotonic(), delivered)
    }
}

/// Frames a second between two readings.
struct FrameRate {
    since: Monotonic,
    delivered: u64,
    per_second: Option<f64>,
}

/// Over less than this a rate says little.
const LEAST_RATE_INTERVAL: Duration = Duration::from_secs(1);

impl FrameRate {
    /// The average since the last reading; when that was just now, the average before it.
    fn read(&mut self, now: Monotonic, delivered: u64) -> Option<f64> {
        let time = now.since(self.since);
        if time >= LEAST_RATE_INTERVAL {
            let frames = delivered.saturating_sub(self.delivered);
            let per_second = frames as f64 / time.as_secs_f64();
            *self = Self { since: now, delivered, per_second: Some((per_second * 10.0).round() / 10.0) };
        }
        self.per_second
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::embedding::EmbeddingSpaceId;
    use crate::gallery::GallerySnapshot;

    /// A daemon that has just started, with all that a test may change of it.
    pub(crate) struct Started {
        pub(crate) metrics: Arc<Metrics>,
        pub(crate) dashboard: Arc<Dashboard>,
        pub(crate) clock: Arc<SimulatedClock>,
        pub(crate) status: Status,
        pub(crate) outbox: watch::Sender<Outbox>,
        pub(crate) capture: Arc<CaptureShared>,
        pub(crate) recogniser: Arc<Mutex<RecogniserStats>>,
    }

    pub(crate) fn started() -> Started {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(1_790_000_000_000)));
        let status = Status::new(clock.clone());
        let (outbox, waiting) = watch::channel(Outbox::default());
        let capture = Arc::new(CaptureShared::default());
        let recogniser = Arc::new(Mutex::new(RecogniserStats::default()));
        let sources = Sources {
            clock: clock.clone(),
            status: status.clone(),
            capture: capture.clone(),
            recogniser: recogniser.clone(),
            gallery: Arc::new(Gallery::new(GallerySnapshot::empty(EmbeddingSpaceId::new("test")))),
            outbox: waiting,
            mqtt: Arc::default(),
        };
        let metrics = Arc::new(Metrics::new());
        let dashboard = Arc::new(Dashboard::new(metrics.clone(), sources));
        Started { metrics, dashboard, clock, status, outbox, capture, recogniser }
    }

    #[test]
    fn frame_rate_is_the_average_since_the_last_reading() {
        let at = |ms| Monotonic::from_duration(Duration::from_millis(ms));
        let mut rate = FrameRate { since: at(0), delivered: 0, per_second: None };
        assert_eq!(rate.read(at(500), 7), None);
        assert_eq!(rate.read(at(2_000), 30), Some(15.0));
        assert_eq!(rate.read(at(2_100), 30), Some(15.0));
        assert_eq!(rate.read(at(12_000), 30), Some(0.0));
    }

    #[test]
    fn timing_a_stage_gives_its_result_and_counts_it() {
        let Started { metrics, dashboard, .. } = started();
        assert_eq!(metrics.time(Stage::Embed, || 7), 7);
        let text = dashboard.exposition();
        assert!(text.contains("limen_stage_seconds_count{stage=\"embed\"} 1\n"), "{text}");
        assert!(text.contains("limen_stage_seconds_count{stage=\"detect\"} 0\n"), "{text}");
    }
}
