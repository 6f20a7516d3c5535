//! The whole daemon while what it depends on comes and goes: the camera, the broker, itself.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "a gate states its counts")]

mod broker;
mod program;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Guard};
use limen::bench::frames::scene_frames;
use limen::bench::latency;
use limen::clock::SystemClock;
use limen::event_store::{EventStore, Outbox};
use limen::frame::FrameSize;
use limen::vault::{RootKey, StateFolder};
use program::Program;
use rustix::process::Signal;

const SIZE: FrameSize = FrameSize { width: 320, height: 240 };
/// What comes back is found again within this.
const RECOVERY: Duration = Duration::from_secs(3);
const ROUNDS: u32 = 50;

fn pictures(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (number, jpeg) in scene_frames(SIZE).unwrap().iter().take(40).enumerate() {
        std::fs::write(folder.join(format!("{number:03}.jpg")), jpeg).unwrap();
    }
}

#[test]
fn camera_that_comes_and_goes_fifty_times_is_found_again_within_three_seconds() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let (there, away) = (program.path("camera"), program.path("unplugged"));
    pictures(Path::new(&there));
    let source = format!("replay:{there}");
    let running = program.start(&["run", "--json", "--source", &source]);
    let streaming = |line: &serde_json::Value| line["event"] == "streaming";
    running.wait_for("stream", Duration::from_secs(20), streaming);
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        std::fs::rename(&there, &away).unwrap();
        running.wait_for("loss", Duration::from_secs(10), |line| line["event"] == "camera_lost");
        std::fs::rename(&away, &there).unwrap();
        let back = Instant::now();
        running.wait_for("stream", Duration::from_secs(10), streaming);
        longest = longest.max(back.elapsed());
        assert!(back.elapsed() < RECOVERY, "round {round}: {:?}", back.elapsed());
    }
    running.signal(Signal::TERM);
    let (end, _, err) = running.wait(Duration::from_secs(20));
    assert!(end.success(), "{err}");
    println!("{ROUNDS} losses of the camera: found again after at most {longest:?}");
}

#[test]
fn camera_of_undecodable_frames_is_degraded_until_it_sends_pictures_again() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "127.0.0.1:0");
    let camera = program.path("camera");
    pictures(Path::new(&camera));
    let good: Vec<_> = std::fs::read_dir(&camera).unwrap().map(|entry| entry.unwrap().path()).collect();
    let saved: Vec<_> = good.iter().map(|path| (path, std::fs::read(path).unwrap())).collect();
    let running = program.start(&["run", "--json", "--source", &format!("replay:{camera}")]);
    running.wait_for("event", Duration::from_secs(20), |line| line["event"] == "unknown");
    // The header is that of a picture, and nothing after it makes one.
    for (path, bytes) in &saved {
        let mut broken = bytes.clone();
        let scan = broken.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
        broken.truncate(scan + 4);
        broken.extend([0xff, 0xd9]);
        std::fs::write(path, broken).unwrap();
    }
    running.wait_for("end of the visit", Duration::from_secs(20), |line| line["event"] == "ended");
    for (path, bytes) in &saved {
        std::fs::write(path, bytes).unwrap();
    }
    running.wait_for("event", Duration::from_secs(20), |line| line["event"] == "unknown");
    running.signal(Signal::TERM);
    let (end, _, err) = running.wait(Duration::from_secs(20));
    assert!(end.success(), "{err}");
    assert!(err.contains("cannot be decoded") && err.contains("working again"), "{err}");
}

/// What the device still owes the broker.
fn outbox(program: &Program) -> Outbox {
    let state = StateFolder::open_or_create(&program.state()).unwrap();
    let (key, _) = RootKey::load(&state, None).unwrap();
    EventStore::open(&state, &key, Arc::new(SystemClock), Duration::from_secs(10)).unwrap().outbox()
}

/// A daemon on a recording of people who come and go, with a broker to tell.
fn with_visits(broker: &Broker) -> (Program, String) {
    let program = Program::new()
        .with("LIMEN_HTTP__LISTEN", "")
        .with("LIMEN_DEVICE__ID", "door")
        .with("LIMEN_TRACKING__LOST_AFTER_MS", "400")
        .with("LIMEN_MQTT__HOST", "127.0.0.1")
        .with("LIMEN_MQTT__PORT", broker.port.to_string());
    let recording = program.path("visits.mjpeg");
    assert!(latency::record(Path::new(&recording), SIZE).unwrap() >= 4);
    let source = format!("replay:{recording}");
    (program, source)
}

#[test]
fn daemon_outlives_fifty_kills_of_the_broker_and_owes_it_nothing() {
    let mut broker = Broker::new(Guard::Open);
    let (program, source) = with_visits(&broker);
    let running = program.start(&["run", "--json", "--source", &source]);
    running.wait_for("event", Duration::from_secs(30), |line| line["event"] == "unknown");
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        broker.kill();
        // Visits of 1.3 s go on meanwhile.
        running.wait_for("event", Duration::from_secs(30), |line| line["event"].is_string());
        broker.start();
        let back = Instant::now();
        // Without persistence a new broker knows nothing: whatever it says came from the daemon.
        let mut messages = broker.listen();
        messages.wait_within(RECOVERY, "the daemon", |message| {
            message.topic == "limen/door/availability" && message.payload == "online"
        });
        longest = longest.max(back.elapsed());
        assert!(back.elapsed() < RECOVERY, "round {round}: {:?}", back.elapsed());
    }
    running.signal(Signal::TERM);
    let (end, _, err) = running.wait(Duration::from_secs(20));
    assert!(end.success(), "{err}");
    let outbox = outbox(&program);
    assert!(outbox.newest >= u64::from(ROUNDS), "{outbox:?}");
    assert_eq!(outbox.waiting, 0, "{outbox:?}");
    println!(
        "{ROUNDS} kills of the broker: back after at most {longest:?}; {} events, all taken",
        outbox.newest
    );
}

#[test]
fn events_of_an_outage_outlive_kills_of_the_daemon_and_arrive_in_order() {
    let mut broker = Broker::new(Guard::Open);
    broker.stop();
    let (program, source) = with_visits(&broker);
    for _ in 0..3 {
        let running = program.start(&["run", "--json", "--source", &source]);
        for _ in 0..4 {
            running.wait_for("event", Duration::from_secs(30), |line| line["event"] == "unknown");
        }
        running.signal(Signal::KILL);
        running.wait(Duration::from_secs(10));
    }
    let kept = outbox(&program);
    // What was printed just before the kill may not have been on the disk yet.
    assert!(kept.waiting >= 9 && kept.waiting == kept.newest, "{kept:?}");
    broker.start();
    // Listening before the daemon speaks: the broker keeps no fresh event beyond its expiry.
    let mut witness = broker.listen();
    let running = program.start(&["run", "--json", "--source", &source, "--seconds", "4"]);
    let (end, _, err) = running.wait(Duration::from_secs(30));
    assert!(end.success(), "{err}");
    let outbox = outbox(&program);
    assert_eq!(outbox.waiting, 0, "{outbox:?}");
    let last = outbox.newest;
    witness.wait_for("the last event", |message| {
        message.topic.starts_with("limen/door/event") && message.json()["sequence"] == last
    });
    let events: Vec<_> = witness.seen.iter().filter(|m| m.topic.starts_with("limen/door/event")).collect();
    let mut said: Vec<_> = events
        .iter()
        .map(|m| (m.json()["sequence"].as_u64().unwrap(), m.json()["id"].as_str().unwrap().to_owned()))
        .collect();
    // A repeated one has the same id: only then are both the same here.
    said.dedup();
    let (sequences, ids): (Vec<_>, BTreeSet<_>) = said.into_iter().unzip();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>());
    assert_eq!(ids.len() as u64, last);
    println!("{last} events over three kills of the daemon, in order, none lost");
}

#[test]
fn killed_daemon_is_told_to_be_gone_by_its_last_will() {
    let broker = Broker::new(Guard::Open);
    let (program, source) = with_visits(&broker);
    let mut messages = broker.listen();
    let running = program.start(&["run", "--json", "--source", &source]);
    let availability = |payload: &'static str| {
        move |message: &broker::Message| {
            message.topic == "limen/door/availability" && message.payload == payload
        }
    };
    messages.wait_for("the daemon", availability("online"));
    running.signal(Signal::KILL);
    messages.wait_for("its last will", availability("offline"));
}
