//! The appliance from the outside: the built-in scene against its own ground truth, and the running
//! program with its signals, its JSON lines and other processes beside it.

#![allow(clippy::print_stdout, reason = "a gate says how many cases it ran")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use limen::appearance::AppearanceThresholds;
use limen::camera::scene::{Scene, ScenePerson, VisibleHead, people};
use limen::camera::{CameraSettings, Cancel, SourceSpec, open, open_with};
use limen::clock::{Clock, SimulatedClock, SystemClock, UnixMillis};
use limen::config::Config;
use limen::event::{EndVerdict, IdentityEvent, Outcome};
use limen::frame::{FrameId, FrameSize, PixelFormat, RawFrame, RgbImage};
use limen::gallery::{
    Enrolment, EnrolmentTarget, Gallery, GallerySnapshot, GalleryStore, NewSample, SampleOrigin,
    SampleQuality, SubjectName,
};
use limen::models::ModelSet;
use limen::reason::Reason;
use limen::recognise::Perception;
use limen::recogniser::{Recogniser, RecogniserSettings, SeenLabel};
use limen::sample::{FaceChoice, Sample};
use limen::score::{ComparisonScore, QualityScore};
use limen::track::TrackId;
use limen::vault::{RootKey, StateFolder};
use program::{Program, Running, litert_library, models_folder, portrait};
use rustix::process::Signal;
use serde_json::Value;

const SIZE: FrameSize = FrameSize { width: 640, height: 480 };
const RATE_HZ: f32 = 15.0;
/// One whole loop of the scene, 52.5 s.
const FRAMES: u64 = 788;

/// For whatever the running program has to do; it does it in a fraction of that.
const SOON: Duration = Duration::from_secs(30);

fn settings() -> CameraSettings {
    CameraSettings {
        source: SourceSpec::Scene,
        size: SIZE,
        rate_hz: RATE_HZ,
        realtime: false,
        ..CameraSettings::default()
    }
}

/// Every frame of the loop, drawn once, stamped from 0 s on.
fn frames() -> &'static [RawFrame] {
    static FRAMES_OF_THE_LOOP: OnceLock<Vec<RawFrame>> = OnceLock::new();
    FRAMES_OF_THE_LOOP.get_or_init(|| {
        let clock: Arc<dyn Clock> = Arc::new(SimulatedClock::new(UnixMillis(0)));
        let mut source = open_with(&settings(), &Cancel::new().unwrap(), clock).unwrap();
        (0..FRAMES).map(|_| source.next_frame(Vec::new()).unwrap().unwrap()).collect()
    })
}

/// One person in view without a break.
#[derive(Debug)]
struct Appearance {
    person: &'static str,
    enrolled: bool,
    first: u64,
    last: u64,
}

fn appearances(scene: &Scene) -> Vec<Appearance> {
    let mut found: Vec<Appearance> = Vec::new();
    for number in 0..FRAMES {
        for VisibleHead { person, enrolled, .. } in scene.visible(number) {
            match found.iter_mut().find(|seen| seen.person == person && seen.last + 1 == number) {
                Some(seen) => seen.last = number,
                None => found.push(Appearance { person, enrolled, first: number, last: number }),
            }
        }
    }
    found
}

/// Enrols people from their own pictures, under the names that `name_of` gives.
fn gallery(
    perception: &mut Perception,
    name_of: impl Fn(&ScenePerson) -> Option<&'static str>,
) -> GallerySnapshot {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
    let (key, _) = RootKey::load(&state, None).unwrap();
    let mut store = GalleryStore::open(&state, &key, Arc::new(SystemClock)).unwrap();
    for person in people() {
        let Some(name) = name_of(person) else { continue };
        let sample = |picture: &&[u8]| {
            let sample = Sample::take(perception, picture, FaceChoice::Only, QualityScore::MIN).unwrap();
            let quality = SampleQuality::from(&sample.shape.quality);
            NewSample { origin: SampleOrigin::File, quality, embedding: sample.embedding, picture: None }
        };
        let samples = person.pictures.iter().map(sample).collect();
        let subject = EnrolmentTarget::New(SubjectName::new(name).unwrap());
        store.enrol(&Enrolment { subject, samples }).unwrap();
    }
    store.load_snapshot(perception.embedding_space()).unwrap()
}

/// What the appliance made of the loop.
struct Played {
    events: Vec<IdentityEvent>,
    /// Who stood where each track was, by the scene's own account.
    shown: BTreeMap<TrackId, BTreeSet<usize>>,
    appearances: Vec<Appearance>,
    looks: u64,
}

/// A recogniser with the people of the scene enrolled under the names given.
fn recogniser(name_of: impl Fn(&ScenePerson) -> Option<&'static str>) -> (Recogniser, Arc<SimulatedClock>) {
    let config = Config::default();
    let models = ModelSet::load(&models_folder()).unwrap();
    let runtime = models.runtime(&litert_library()).unwrap();
    let mut perception = Perception::new(&models, &runtime, &config).unwrap();
    let gallery = Arc::new(Gallery::new(gallery(&mut perception, name_of)));
    let in_force = config.thresholds(&models.manifest.embedder.thresholds).unwrap();
    let clock = Arc::new(SimulatedClock::new(UnixMillis(0)));
    let recogniser_settings = RecogniserSettings::new(&config, &in_force);
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    (Recogniser::new(perception, gallery, recogniser_settings, shared), clock)
}

fn play(name_of: impl Fn(&ScenePerson) -> Option<&'static str>) -> Played {
    let (mut recogniser, clock) = recogniser(name_of);
    let scene = Scene::new(SIZE, RATE_HZ).unwrap();
    let appearances = appearances(&scene);
    let mut played = Played { events: Vec::new(), shown: BTreeMap::new(), appearances, looks: 0 };
    for frame in frames() {
        clock.advance(frame.captured_at.since(clock.monotonic()));
        let mut look = None;
        recogniser.frame(frame, &mut played.events, Some(&mut look)).unwrap();
        let heads = scene.visible(frame.id.0);
        for face in look.into_iter().flat_map(|look| look.faces) {
            let middle = face.detection.bbox.centre();
            let shown = played.shown.entry(face.track).or_default();
            for head in &heads {
                let (x, y) = (middle.x - head.x_px, middle.y - head.y_px);
                if x.hypot(y) < head.height_px / 2.0 {
                    let who = |seen: &Appearance| {
                        seen.person == head.person && (seen.first..=seen.last).contains(&frame.id.0)
                    };
                    shown.insert(played.appearances.iter().position(who).unwrap());
                }
            }
        }
    }
    played.looks = recogniser.stats().looks;
    played
}

impl Played {
    /// The events about the tracks that showed one appearance.
    fn about(&self, appearance: usize) -> Vec<&IdentityEvent> {
        let theirs = |event: &&IdentityEvent| {
            self.shown.get(&event.track).is_some_and(|shown| shown.contains(&appearance))
        };
        self.events.iter().filter(theirs).collect()
    }

    /// Every name said at the first sight of a track, with the person who stood there.
    fn named(&self) -> Vec<(&str, Vec<&'static str>)> {
        let who = |track: &TrackId| -> Vec<_> {
            self.shown[track].iter().map(|appearance| self.appearances[*appearance].person).collect()
        };
        let name = |event: &'_ IdentityEvent| match &event.outcome {
            Outcome::Identified { name, .. } => Some((name.as_str().to_owned(), who(&event.track))),
            _ => None,
        };
        let names = self.events.iter().filter_map(name);
        names.map(|(name, who)| (known_name(&name), who)).collect()
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(&event.outcome)).count()
    }
}

/// The constant of the same text.
fn known_name(name: &str) -> &'static str {
    people().iter().map(|person| person.name).find(|known| *known == name).unwrap()
}

fn is_identified(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Identified { .. })
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown { .. })
}

fn is_ended(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Ended { .. })
}

#[test]
fn everybody_enrolled_is_named_once_a_visit_and_nobody_else_is() {
    let played = play(|person| person.enrolled.then_some(person.name));
    let mut cases = (0, 0);
    for (index, appearance) in played.appearances.iter().enumerate() {
        let events = played.about(index);
        let tracks: BTreeSet<_> = events.iter().map(|event| event.track).collect();
        assert_eq!(tracks.len(), 1, "{appearance:?}: {events:?}");
        let [decided, ended] = events.as_slice() else { panic!("{appearance:?}: {events:?}") };
        let Outcome::Ended { verdict, name: name_at_end, reason, .. } = &ended.outcome else {
            panic!("{events:?}")
        };
        match (&decided.outcome, appearance.enrolled) {
            (Outcome::Identified { name, .. }, true) => {
                assert_eq!(name.as_str(), appearance.person);
                assert_eq!(*verdict, EndVerdict::Identified);
                assert_eq!(name_at_end.as_ref().map(SubjectName::as_str), Some(appearance.person));
                cases.0 += 1;
            }
            (Outcome::Unknown { .. }, false) => {
                assert_eq!((*verdict, name_at_end.is_none()), (EndVerdict::Unknown, true));
                assert_eq!(*reason, Some(Reason::BelowThreshold));
                cases.1 += 1;
            }
            _ => panic!("{appearance:?}: {events:?}"),
        }
    }
    assert_eq!(cases, (3, 3), "visits of enrolled people and of strangers");
    // No event is about anything else than these visits, and no track shows two people.
    assert_eq!(played.events.len(), 2 * played.appearances.len(), "{:?}", played.events);
    assert!(played.shown.values().all(|shown| shown.len() <= 1), "{:?}", played.shown);
    assert!((200..FRAMES).contains(&played.looks), "{} looks", played.looks);
    println!("scene: {cases:?} visits in {FRAMES} frames, {} looks", played.looks);
}

#[test]
fn exchanged_names_give_no_right_name() {
    let played = play(|person| match person.name {
        "Barack Obama" => Some("Eileen Collins"),
        "Eileen Collins" => Some("Barack Obama"),
        _ => None,
    });
    let named = played.named();
    let right = named.iter().filter(|(name, who)| who.contains(name)).count();
    assert_eq!((right, named.len()), (0, 3), "{named:?}");
}

#[test]
fn empty_gallery_gives_no_name_at_all() {
    let played = play(|_| None);
    assert_eq!(played.count(is_identified), 0);
    assert_eq!((played.count(is_unknown), played.count(is_ended)), (6, 6), "{:?}", played.events);
}

/// Draws `portrait` over `frame`, its middle at `x`, `width` pixels wide.
fn pasted(frame: &mut RgbImage, portrait: &RgbImage, x: f32, width: f32) {
    let scale = portrait.width() as f32 / width;
    let (left, top) = (x - width / 2.0, 240.0 - portrait.height() as f32 / scale / 2.0);
    for row in 0..frame.height() {
        for column in 0..frame.width() {
            let (u, v) = ((column as f32 - left) * scale, (row as f32 - top) * scale);
            if u >= 0.0 && v >= 0.0 && u < portrait.width() as f32 && v < portrait.height() as f32 {
                let at = (row as usize * frame.width() as usize + column as usize) * 3;
                frame.pixels_mut()[at..at + 3].copy_from_slice(&portrait.pixel(u as u32, v as u32));
            }
        }
    }
}

#[test]
fn being_watched_changes_no_event() {
    let run = |watched: bool| {
        let (mut recogniser, clock) = recogniser(|person| person.enrolled.then_some(person.name));
        let (mut events, mut shown) = (Vec::new(), 0);
        for frame in frames() {
            clock.advance(frame.captured_at.since(clock.monotonic()));
            let mut look = None;
            recogniser.frame(frame, &mut events, watched.then_some(&mut look)).unwrap();
            if let Some(look) = look {
                assert_eq!(look.frame, frame.id, "the overlay belongs to another frame");
                shown += 1;
            }
        }
        recogniser.end_all(&mut events);
        // Identifiers are random, and the wall time of a frame is known to some milliseconds only.
        let plain = |event: &IdentityEvent| {
            let mut value = serde_json::to_value(event).unwrap();
            let fields = value.as_object_mut().unwrap();
            for random in ["id", "subject", "captured_at"] {
                fields.remove(random);
            }
            value
        };
        let events: Vec<_> = events.iter().map(plain).collect();
        (events, shown, recogniser.stats().clone())
    };
    let (watched, shown, stats) = run(true);
    let (alone, _, of_alone) = run(false);
    assert!(watched.len() > 10, "{}", watched.len());
    assert_eq!(watched, alone);
    assert_eq!((stats.looks, stats.probes), (of_alone.looks, of_alone.probes));
    // Every frame is shown at 15 Hz, and those between two looks cost those who decide nothing.
    assert_eq!((shown, of_alone.glances), (frames().len() as u64, 0));
    assert_eq!(stats.looks + stats.glances, stats.frames);
}

/// Two enrolled people stand apart, change places, one before the other, and stand again: events, and
/// the names beside them on the left and on the right in the last look.
fn crossing(appearance: Option<AppearanceThresholds>) -> (Vec<IdentityEvent>, Vec<String>) {
    let config = Config::default();
    let models = ModelSet::load(&models_folder()).unwrap();
    let runtime = models.runtime(&litert_library()).unwrap();
    let mut perception = Perception::new(&models, &runtime, &config).unwrap();
    let snapshot = gallery(&mut perception, |person| person.enrolled.then_some(person.name));
    let in_force = config.thresholds(&models.manifest.embedder.thresholds).unwrap();
    let mut settings = RecogniserSettings::new(&config, &in_force);
    settings.visitors.appearance = appearance.unwrap_or(settings.visitors.appearance);
    let clock = Arc::new(SimulatedClock::new(UnixMillis(0)));
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut recogniser = Recogniser::new(perception, Arc::new(Gallery::new(snapshot)), settings, shared);

    let [far, near] = ["barack_obama_3", "eileen_collins_1"]
        .map(|name| limen::decode::still(&fs::read(portrait(name)).unwrap()).unwrap());
    let (mut events, mut last) = (Vec::new(), Vec::new());
    for number in 0..75_u32 {
        let share = ((number as f32 - 25.0) / 20.0).clamp(0.0, 1.0);
        let mut frame = RgbImage::from_pixels(640, 480, vec![128; 640 * 480 * 3]).unwrap();
        pasted(&mut frame, &far, 140.0 + 360.0 * share, 230.0);
        pasted(&mut frame, &near, 500.0 - 360.0 * share, 250.0);
        let raw = RawFrame {
            id: FrameId(number.into()),
            captured_at: clock.monotonic(),
            format: PixelFormat::Rgb3,
            size: SIZE,
            stride: 640 * 3,
            bytes: frame.into_pixels(),
        };
        let mut look = None;
        recogniser.frame(&raw, &mut events, Some(&mut look)).unwrap();
        if let Some(mut look) = look {
            look.faces.sort_by(|a, b| a.detection.bbox.left.total_cmp(&b.detection.bbox.left));
            last = look.faces.iter().map(|face| format!("{:?}", NameOf(&face.label))).collect();
        }
        clock.advance(Duration::from_micros(66_667));
    }
    recogniser.end_all(&mut events);
    (events, last)
}

/// Prints the name, which the label itself does not.
struct NameOf<'a>(&'a SeenLabel);

impl std::fmt::Debug for NameOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            SeenLabel::Subject(_, name) => f.write_str(name.as_str()),
            other => write!(f, "{other:?}"),
        }
    }
}

#[test]
fn two_people_who_change_places_keep_their_visits() {
    let (events, last) = crossing(None);
    let lines: Vec<_> = events.iter().map(IdentityEvent::line).collect();
    assert_eq!(last, ["Eileen Collins", "Barack Obama"], "{lines:#?}");
    let kinds = |wanted: fn(&Outcome) -> bool| events.iter().filter(|event| wanted(&event.outcome)).count();
    assert_eq!((kinds(is_identified), kinds(is_ended), events.len()), (2, 2, 4), "{lines:#?}");
}

#[test]
fn by_boxes_alone_they_would_be_taken_for_each_other() {
    let (alike, unlike) = (ComparisonScore::MAX, ComparisonScore::MIN);
    let (events, _) = crossing(Some(AppearanceThresholds { alike, unlike, lead: 0.05 }));
    let identified = events.iter().filter(|event| is_identified(&event.outcome)).count();
    assert!(identified > 2, "{events:?}");
}

fn is(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |line| line["event"] == kind
}

fn started(program: &Program, arguments: &[&str]) -> Running {
    program.start(&[&["run", "--json"], arguments].concat())
}

#[test]
fn demo_prints_events_with_the_documented_fields() {
    let program = Program::new();
    let picture = program.path("seen.png");
    let ended = program.ends(0, &["run", "--demo", "--json", "--seconds", "7", "--picture", &picture]);
    assert_eq!(image::open(&picture).unwrap().into_rgb8().dimensions(), (640, 480));
    let lines = ended.json_lines();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let common = ["event", "id", "track", "captured_at", "latency_ms", "looks", "probes"];

    let kinds: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["streaming", "identified", "ended", "stopped"], "{}", ended.out);
    let [streaming, identified, left, stopped] = lines.as_slice() else { unreachable!() };
    assert_eq!(keys(&streaming["stream"]), set(&["label", "format", "size", "rate_hz", "transport"]));
    assert_eq!(
        keys(identified),
        set(&[&common[..], &["subject", "name", "score", "margin", "agreeing_probes", "quality"]].concat())
    );
    assert_eq!(identified["name"], "Barack Obama");
    assert!(identified["score"].as_f64().unwrap() > 0.48, "{identified}");
    assert!(identified["latency_ms"].as_f64().unwrap() < 2_000.0, "{identified}");
    let of_the_end = ["seen_ms", "verdict", "subject", "name", "matches", "no_match", "inconclusive"];
    assert_eq!(keys(left), set(&[&common[..], &of_the_end].concat()));
    assert_eq!((&left["verdict"], &left["name"]), (&"identified".into(), &identified["name"]));
    assert_eq!(left["track"], identified["track"]);
    let recogniser = &stopped["summary"]["recogniser"];
    assert_eq!((&recogniser["events"]["identified"], &recogniser["events"]["ended"]), (&1.into(), &1.into()));
    assert!(recogniser["looks"].as_u64() <= stopped["summary"]["capture"]["delivered"].as_u64());
    // The demonstration leaves nothing behind, and says no name where logs go.
    assert!(!program.state().exists());
    assert!(!ended.err.contains("Obama") && !ended.err.contains("root.key"), "{}", ended.err);
}

#[test]
fn picture_that_cannot_be_written_ends_it_with_an_error() {
    let program = Program::new();
    let nowhere = program.path("no/such/folder.png");
    let running = started(&program, &["--demo", "--picture", &nowhere]);
    let (status, _, err) = running.wait(SOON);
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("cannot write") && err.contains("folder.png"), "{err}");
}

#[test]
fn first_signal_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let program = Program::new();
        let running = started(&program, &["--demo"]);
        running.wait_for("stream", SOON, is("streaming"));
        running.signal(signal);
        let asked = Instant::now();
        let (status, rest, _) = running.wait(Duration::from_secs(3));
        assert_eq!(status.code(), Some(0), "{rest:?}");
        let last: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
        assert_eq!(last["event"], "stopped");
        println!("{signal:?}: ended after {:?}", asked.elapsed());
    }
}

#[test]
fn second_signal_ends_it_at_once() {
    let program = Program::new();
    let mut running = started(&program, &["--demo"]);
    running.wait_for("stream", SOON, is("streaming"));
    // The order in which two pending signals arrive is the kernel's, so more are sent until it has
    // ended; an end in order takes longer than that.
    running.signal(Signal::TERM);
    let deadline = Instant::now() + Duration::from_secs(3);
    while !running.has_ended() {
        assert!(Instant::now() < deadline, "it goes on after many signals");
        running.signal(Signal::INT);
        std::thread::yield_now();
    }
    let (status, rest, _) = running.wait(SOON);
    assert_eq!(status.code(), Some(130));
    assert!(!rest.iter().any(|line| line.contains("\"stopped\"")), "{rest:?}");
}

#[test]
fn reader_that_goes_away_ends_it_without_an_error() {
    let program = Program::new();
    let mut command = program.command(&["run", "--demo", "--json"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    // It notices with the first line, which is the one about the stream.
    let deadline = Instant::now() + SOON;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("it prints into the void");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn recording_played_once_ends_by_itself() {
    let program = Program::new();
    let recording = program.path("corridor.mjpeg");
    let mut source = open(&settings()).unwrap();
    let mut bytes = Vec::new();
    for number in 0..90 {
        let frame = source.next_frame(Vec::new()).unwrap().unwrap();
        // From the moment somebody is there.
        if number >= 30 {
            bytes.extend(frame.bytes);
        }
    }
    fs::write(&recording, bytes).unwrap();
    let source = format!("replay:{recording}");
    let arguments = ["run", "--demo", "--json", "--once", "--source", &source];
    let lines = program.ends(0, &arguments).json_lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["streaming", "identified", "ended", "stopped"]);
    assert_eq!(lines[3]["summary"]["capture"]["delivered"], 60);
}

#[test]
fn recording_that_cannot_be_read_is_refused_at_once() {
    let program = Program::new();
    let text = program.path("letter.avi");
    fs::write(&text, "Dear camera").unwrap();
    for path in [&text, &program.path("missing.mjpeg")] {
        let refused = program.ends(1, &["run", "--source", &format!("replay:{path}")]);
        refused.says(&[path]);
        assert_eq!(refused.out, "");
    }
}

#[test]
fn enrolment_and_erasure_by_another_process_are_noticed() {
    let program = Program::new().with("LIMEN_TRACKING__RECHECK_AFTER_MS", "200");
    let recording = program.path("door.mjpeg");
    fs::write(&recording, fs::read(portrait("barack_obama_3")).unwrap().repeat(30)).unwrap();
    let running = started(&program, &["--source", &format!("replay:{recording}")]);
    let stranger = running.wait_for("stranger", SOON, is("unknown"));
    assert_eq!(stranger.get("best_score"), None, "nobody is enrolled yet");

    program.ends(0, &["enrol", "Ada", &portrait("barack_obama_1"), &portrait("barack_obama_2")]);
    let enrolled = Instant::now();
    let named = running.wait_for("name", Duration::from_secs(6), is("identified"));
    println!("an enrolment was noticed after {:?}", enrolled.elapsed());
    assert_eq!((&named["name"], &named["track"]), (&"Ada".into(), &stranger["track"]));

    program.ends(0, &["subjects", "remove", "--yes", "Ada"]);
    let removed = Instant::now();
    running.wait_for("stranger again", Duration::from_secs(6), is("unknown"));
    println!("an erasure was noticed after {:?}", removed.elapsed());

    running.signal(Signal::TERM);
    let (status, rest, log) = running.wait(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0));
    assert!(rest.iter().any(|line| line.contains("\"ended\"")), "{rest:?}");
    for part in ["nobody is enrolled, so everybody", "the gallery has changed"] {
        assert!(log.contains(part) && !log.contains("Ada"), "{log}");
    }
}

#[test]
fn missing_camera_is_waited_for() {
    let program = Program::new();
    let running = started(&program, &["--source", "/dev/video99"]);
    let lost = running.wait_for("camera_lost", SOON, is("camera_lost"));
    assert!(lost["error"].as_str().unwrap().contains("/dev/video99"), "{lost}");
    running.signal(Signal::TERM);
    let (status, rest, _) = running.wait(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0));
    assert!(rest.last().unwrap().contains("\"stopped\""), "{rest:?}");
}

#[test]
fn missing_camera_is_tried_again() {
    let program = Program::new();
    let device = program.path("camera");
    let running = started(&program, &["--source", &format!("v4l2:{device}")]);
    let first = running.wait_for("camera_lost", SOON, is("camera_lost"));
    // What appears there is no camera: another error shows that it was tried again.
    fs::write(&device, "").unwrap();
    let second = running.wait_for("another camera_lost", SOON, is("camera_lost"));
    assert_ne!(first["error"], second["error"]);
    running.signal(Signal::TERM);
    let (status, ..) = running.wait(Duration::from_secs(3));
    assert_eq!(status.code(), Some(0));
}
