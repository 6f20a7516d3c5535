//! A device without camera and networks: the real store and the real MQTT tasks, told what a camera
//! would have seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use limen::clock::Clock;
use limen::config::{Config, MqttProtocol};
use limen::door::condition::DoorCondition;
use limen::door::thread::{DoorHandle, DoorParts, DoorThread};
use limen::embedding::{Embedding, EmbeddingSpaceId};
use limen::enrol::EnrolmentRules;
use limen::event::{EndVerdict, IdentityEvent, Outcome};
use limen::event_store::{EventId, EventStore, Retention, StoreHandle, StoreParts, StoreThread};
use limen::gallery::{
    Enrolment, EnrolmentTarget, Gallery, GalleryStore, NewSample, SampleOrigin, SampleQuality, SubjectId,
    SubjectName,
};
use limen::live::LiveChannel;
use limen::models::Thresholds;
use limen::mqtt::{CommandRequest, Hooks, MqttError, MqttParts, MqttSettings, MqttStats, Timing};
use limen::reason::Reason;
use limen::score::{ComparisonScore, QualityScore};
use limen::status::{Condition, Part, Status};
use limen::supervisor::Supervisor;
use limen::track::TrackId;
use limen::vault::{RootKey, StateFolder};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Broker, PATIENCE};

const LIFETIME: Duration = Duration::from_secs(10);

/// The settings of a device named `door` for one broker.
pub(crate) fn config(broker: &Broker) -> Config {
    let mut config = Config::default();
    config.device.name = "door".to_owned();
    config.mqtt.host = Some("127.0.0.1".to_owned());
    config.mqtt.port = Some(broker.port.into());
    config.mqtt.keep_alive_s = 5;
    config
}

/// A state folder with an empty gallery.
pub(crate) struct State {
    pub(crate) folder: tempfile::TempDir,
}

impl State {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
}

/// The running tasks. Ends without a word when dropped, like a process that is killed.
pub(crate) struct Device {
    state: StateFolder,
    key: RootKey,
    clock: Arc<dyn Clock>,
    pub(crate) store: StoreHandle,
    pub(crate) door: DoorHandle,
    pub(crate) live: LiveChannel,
    pub(crate) status: Status,
    pub(crate) stats: Arc<MqttStats>,
    /// Latencies told for acknowledged events.
    pub(crate) published: Arc<Mutex<Vec<Duration>>>,
    pub(crate) beats: Arc<[AtomicU64; 2]>,
    cancel: CancellationToken,
    kill: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
    mqtt: Option<JoinHandle<Option<Result<(), MqttError>>>>,
    threads: Vec<JoinHandle<()>>,
}

fn space() -> EmbeddingSpaceId {
    EmbeddingSpaceId::new("test/1")
}

impl Device {
    pub(crate) fn start(state: &State, config: &Config, clock: Arc<dyn Clock>) -> Self {
        let device = Self::without_mqtt(state, clock);
        device.connect(config)
    }

    /// Only the store, so that events can be there before anything is sent.
    pub(crate) fn without_mqtt(state: &State, clock: Arc<dyn Clock>) -> Self {
        let folder = StateFolder::open_or_create(&state.folder.path().join("state")).unwrap();
        let (key, _) = RootKey::load(&folder, None).unwrap();
        let status = Status::new(Arc::clone(&clock));
        let gallery_store = GalleryStore::open(&folder, &key, Arc::clone(&clock)).unwrap();
        let gallery = Arc::new(Gallery::new(gallery_store.load_snapshot(&space()).unwrap()));
        let events = EventStore::open(&folder, &key, Arc::clone(&clock), LIFETIME).unwrap();
        let day = Duration::from_secs(86_400);
        let thresholds = Thresholds { identification: 0.5, verification: 0.4, margin: 0.1, conflict: 0.5 };
        let (thread, store) = StoreThread::new(StoreParts {
            gallery_store,
            events,
            gallery,
            space: space(),
            rules: EnrolmentRules::new(&Config::default(), &thresholds),
            retention: Retention {
                keep: day,
                count: 100_000,
                keep_crops: day,
                crops: 100_000,
                keep_pictures: true,
            },
            status: status.clone(),
            metrics: Arc::default(),
            clock: Arc::clone(&clock),
        })
        .unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let beat = Supervisor::new(Arc::clone(&clock)).watch("store", PATIENCE);
        let thread = std::thread::spawn({
            let ending = Arc::clone(&ending);
            move || thread.run(&beat, &ending).unwrap()
        });
        let parts = DoorParts {
            pulse: Duration::from_millis(100),
            held_open_after: PATIENCE,
            clock_file: None,
            buzzer: None,
            status_led: None,
            infrared: None,
            has_contact: false,
        };
        let condition = DoorCondition::new(status.clone());
        let (keeper, door) =
            DoorThread::new(parts, None, condition, store.clone(), Arc::default(), Arc::clone(&clock));
        let beat = Supervisor::new(Arc::clone(&clock)).watch("door", PATIENCE);
        let keeper = std::thread::spawn({
            let ending = Arc::clone(&ending);
            move || keeper.run(&beat, &ending).unwrap()
        });
        Self {
            state: folder,
            key,
            clock,
            store,
            door,
            live: LiveChannel::new(),
            status,
            stats: Arc::default(),
            published: Arc::default(),
            beats: Arc::default(),
            cancel: CancellationToken::new(),
            kill: Arc::default(),
            ending,
            mqtt: None,
            threads: vec![keeper, thread],
        }
    }

    /// Starts the MQTT tasks.
    pub(crate) fn connect(mut self, config: &Config) -> Self {
        config.check().unwrap();
        let (commands, mut asked) = tokio::sync::mpsc::channel(4);
        let beat = |n: usize| {
            let beats = Arc::clone(&self.beats);
            Arc::new(move || {
                beats[n].fetch_add(1, Ordering::Relaxed);
            }) as limen::mqtt::Beat
        };
        let health = json!({
            "status": "working", "at": 1, "version": "0", "uptime_s": 61,
            "parts": { "camera": { "state": "working", "since": 1 } },
        });
        let published = Arc::clone(&self.published);
        let parts = MqttParts {
            settings: MqttSettings::new(config).unwrap(),
            store: self.store.clone(),
            live: self.live.clone(),
            status: self.status.clone(),
            clock: Arc::clone(&self.clock),
            stats: Arc::clone(&self.stats),
            hooks: Hooks {
                door: Some(self.door.clone()),
                poll_beat: beat(0),
                publish_beat: beat(1),
                health: Arc::new(move || health.clone()),
                picture_url: Arc::new(|event| Some(format!("http://door.local/p/{event}?s=1"))),
                published: Arc::new(move |latency| published.lock().unwrap().push(latency)),
                commands: Some(commands),
            },
            timing: Timing {
                birth_delay: Duration::ZERO,
                refused_pause: Duration::from_millis(200),
                ..Timing::default()
            },
        };
        let (cancel, kill) = (self.cancel.clone(), Arc::clone(&self.kill));
        self.mqtt = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // What answers in the place of the camera.
                tokio::spawn(async move {
                    while let Some(request) = asked.recv().await {
                        let (CommandRequest::Identify { reply, .. } | CommandRequest::Snapshot { reply }) =
                            request;
                        let _ = reply.send(Ok(json!({ "asked": true })));
                    }
                });
                let killed = async {
                    while !kill.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    ended = limen::mqtt::run(parts, cancel) => Some(ended),
                    () = killed => None,
                }
            })
        }));
        self
    }

    /// Ends in order.
    pub(crate) fn stop(mut self) {
        self.cancel.cancel();
        assert_eq!(self.mqtt.take().unwrap().join().unwrap(), Some(Ok(())));
    }

    /// Somebody is enrolled by another process.
    pub(crate) fn enrol(&self, name: &str, announced: bool) -> SubjectId {
        let mut store = GalleryStore::open(&self.state, &self.key, Arc::clone(&self.clock)).unwrap();
        let embedding = Embedding::normalised((0..8).map(|n| n as f32 + 1.0).collect(), space()).unwrap();
        let quality = SampleQuality {
            score: QualityScore::new(0.9),
            eye_distance_px: 60.0,
            sharpness: 0.8,
            yaw_deg: 0.0,
            pitch_deg: 0.0,
            roll_deg: 0.0,
        };
        let sample = NewSample { origin: SampleOrigin::Camera, quality, embedding, picture: None };
        let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
        let receipt = store.enrol(&Enrolment { subject, samples: vec![sample] }).unwrap();
        store.set_announced(receipt.subject, announced).unwrap();
        let known = |subject: &limen::gallery::GallerySubject| {
            subject.id == receipt.subject && subject.announced == announced
        };
        self.until("the enrolment", || self.store.gallery().current().subjects().iter().any(known));
        receipt.subject
    }

    pub(crate) fn erase(&self, subject: SubjectId) {
        let mut store = GalleryStore::open(&self.state, &self.key, Arc::clone(&self.clock)).unwrap();
        store.remove(subject).unwrap();
    }

    fn event(&self, outcome: Outcome) -> IdentityEvent {
        IdentityEvent {
            id: EventId::new(self.clock.wall()).unwrap(),
            track: TrackId(3),
            captured_at: self.clock.wall(),
            captured: self.clock.monotonic(),
            latency_ms: 40.5,
            looks: 5,
            probes: 2,
            crop: None,
            sighting: None,
            outcome,
        }
    }

    pub(crate) fn identified(&self, subject: SubjectId) {
        let name = SubjectName::new("whatever").unwrap();
        let (score, margin) = (ComparisonScore::new(0.75), Some(0.5));
        let (agreeing_probes, quality) = (2, QualityScore::new(0.5));
        let event =
            self.event(Outcome::Identified { subject, name, score, margin, agreeing_probes, quality });
        assert!(self.store.record(event));
    }

    pub(crate) fn unknown(&self) {
        let reason = Reason::BelowThreshold;
        assert!(self.store.record(self.event(Outcome::Unknown { best_score: None, reason })));
    }

    pub(crate) fn ended(&self) {
        let event = self.event(Outcome::Ended {
            seen_ms: 2_400,
            verdict: EndVerdict::Undecided,
            subject: None,
            name: None,
            reason: Some(Reason::TooFar),
            matches: 0,
            no_match: 0,
            inconclusive: BTreeMap::from([(Reason::TooFar, 7)]),
        });
        assert!(self.store.record(event));
    }

    /// Waits for something that no message tells.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what} did not come; {:?}", self.status);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.status.condition(Part::Broker), Condition::Working { .. })
    }

    /// Waits until the broker is degraded for a reason with this text in it.
    #[track_caller]
    pub(crate) fn until_degraded(&self, part: &str) -> String {
        let reason = || match self.status.condition(Part::Broker) {
            Condition::Degraded { reason, .. } => reason,
            _ => String::new(),
        };
        self.until(part, || reason().contains(part));
        reason()
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.store.outbox().borrow().waiting
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill.store(true, Ordering::Relaxed);
        if let Some(mqtt) = self.mqtt.take() {
            let _ = mqtt.join();
        }
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The protocol's older version.
pub(crate) fn older(mut config: Config) -> Config {
    config.mqtt.protocol = MqttProtocol::V311;
    config
}
