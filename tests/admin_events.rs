//! Live view, events and settings of the running program, as a browser would use them.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use limen::bench::client::{Answer, Client, Content, LiveFrame, free_address};
use limen::camera::scene::Scene;
use limen::decode::still;
use limen::frame::FrameSize;
use program::{Program, Running, portrait};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";
const NAME: &str = "Owner";
/// Whatever is waited for comes long before, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon on the built-in scene, with somebody signed in as owner.
struct Device {
    client: Client,
    running: Running,
    program: Program,
    address: SocketAddr,
}

impl Device {
    fn start() -> Self {
        let address = free_address().unwrap();
        let program = Program::new().with("LIMEN_HTTP__LISTEN", address.to_string());
        program.ends(0, &["enrol", "Barack Obama", &portrait("barack_obama_1"), &portrait("barack_obama_2")]);
        program.ends(0, &["enrol", "Eileen Collins", &portrait("eileen_collins_1")]);
        let running = program.start(&["run", "--source", "scene", "--json"]);
        let mut client = Client::at(address).unwrap();
        let code = program.json(0, &["users", "setup-code"])["code"].as_str().unwrap().to_owned();
        client.set_up(&code, NAME, PASSWORD).unwrap();
        Self { client, running, program, address }
    }

    fn get(&self, path: &str) -> Value {
        self.client.get(path).unwrap()
    }

    fn change(&self, changes: Value) -> Answer {
        self.client.send("PATCH", "/api/settings", Content::Json(&json!({ "changes": changes }))).unwrap()
    }

    /// Asks until the answer is as wanted.
    #[track_caller]
    fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.get(path);
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "{path}: {found:#}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn faces(frame: &LiveFrame) -> &[Value] {
    frame.json["faces"].as_array().unwrap()
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

#[test]
fn viewer_is_shown_frames_with_the_faces_of_those_very_frames() {
    let device = Device::start();
    let mut socket = device.client.socket("/api/live").unwrap();
    let scene = Scene::new(FrameSize { width: 640, height: 480 }, 15.0).unwrap();
    let (mut names, mut placed, mut frames, mut last) = (BTreeSet::new(), 0, 0, None);
    let deadline = Instant::now() + PATIENCE;
    // The scene shows everybody within a minute; somebody enrolled comes sooner.
    while frames < 150 || names.is_empty() {
        assert!(Instant::now() < deadline, "{frames} frames, {names:?}");
        let frame = socket.next_frame().unwrap();
        socket.say("next").unwrap();
        let picture = still(&frame.jpeg).unwrap();
        assert_eq!(number(&frame.json["width"]) as u32, picture.width());
        assert_eq!(number(&frame.json["height"]) as u32, picture.height());
        let id = frame.json["frame"].as_u64().unwrap();
        assert!(last.is_none_or(|last| id > last), "{id} after {last:?}");
        last = Some(id);
        // The scene says itself who was where in this frame, but for those who are fading in or out.
        let heads = scene.visible(id);
        for face in faces(&frame) {
            let bbox = &face["bbox"];
            let x = number(&bbox["x"]) + number(&bbox["width"]) / 2.0;
            let y = number(&bbox["y"]) + number(&bbox["height"]) / 2.0;
            let at = heads.iter().find(|head| (x - head.x_px).hypot(y - head.y_px) < head.height_px / 2.0);
            placed += usize::from(at.is_some());
            if face["state"] == "identified" {
                let name = face["name"].as_str().unwrap();
                assert!(number(&face["score"]) > 0.3 && number(&face["quality"]) > 0.0, "{face}");
                assert!(at.is_none_or(|head| head.person == name), "{face} in frame {id}");
                if at.is_some() {
                    names.insert(name.to_owned());
                }
            } else if face["state"] == "undecided" && !face["reason"].is_null() {
                assert!(face["reason"]["message"].as_str().unwrap().len() > 3);
            }
        }
        frames += 1;
    }
    assert!(placed > 20, "{placed} faces in {frames} frames");
}

#[test]
fn viewer_who_signs_out_sees_no_more() {
    let device = Device::start();
    let mut socket = device.client.socket("/api/live").unwrap();
    socket.next_frame().unwrap();
    assert_eq!(device.client.send("POST", "/api/sign-out", Content::None).unwrap().status, 204);
    let deadline = Instant::now() + PATIENCE;
    while socket.say("next").and_then(|()| socket.next_frame()).is_ok() {
        assert!(Instant::now() < deadline, "it goes on");
    }
    assert!(device.client.socket("/api/live").is_err());
}

#[test]
fn events_are_listed_filtered_exported_and_summed_up() {
    let device = Device::start();
    let mut live = device.client.socket("/api/events/live").unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        let tungstenite::Message::Text(text) = live.receive().unwrap() else { panic!("text is told") };
        let message: Value = serde_json::from_str(&text).unwrap();
        if !message["event"].is_null() {
            told.push(message["event"].clone());
        }
    }
    let listed = device.until("/api/events?limit=200", |found| {
        let ids: Vec<_> = found["events"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
        told.iter().all(|event| ids.contains(&&event["id"]))
    });
    let events = listed["events"].as_array().unwrap();
    // One event has one number, wherever it is met.
    let printed = device.running.wait_for("event", PATIENCE, |line| !line["id"].is_null());
    assert_eq!(device.get(&format!("/api/events/{}", printed["id"].as_str().unwrap()))["id"], printed["id"]);
    let identified =
        device.until("/api/events?kind=identified", |found| found["events"][0]["name"].is_string());
    let one = &identified["events"][0];
    assert_eq!(device.get(&format!("/api/events/{}", one["id"].as_str().unwrap())), *one);
    let subject = one["subject"].as_str().unwrap();
    let of_subject = device.get(&format!("/api/events?subject={subject}"));
    assert!(of_subject["events"].as_array().unwrap().iter().all(|event| event["subject"] == subject));

    // Page by page it is the same list.
    let first = device.get("/api/events?limit=1");
    let next = first["next"].as_str().unwrap();
    let second = device.get(&format!("/api/events?limit=1&after={next}"));
    assert_ne!(first["events"][0]["id"], second["events"][0]["id"]);
    assert!(first["events"][0]["captured_at"].as_i64() >= second["events"][0]["captured_at"].as_i64());

    let csv = device.client.ask("GET", "/api/events/export?format=csv", Content::None).unwrap();
    assert!(csv.head.to_ascii_lowercase().contains("content-disposition: attachment"), "{}", csv.head);
    let csv = String::from_utf8(csv.body).unwrap();
    assert!(csv.starts_with("id,kind,") && csv.lines().count() > events.len(), "{csv}");
    let exported = device.get("/api/events/export?format=json&kind=identified");
    assert!(exported.as_array().unwrap().iter().any(|event| event["id"] == one["id"]));
    assert!(device.get("/api/events/export?format=json&kind=ring").as_array().unwrap().is_empty());

    let summary = device.until("/api/events/summary", |found| {
        found["hours"].as_array().unwrap().iter().any(|hour| hour["identified"].as_u64() > Some(0))
    });
    assert!(summary["latency"]["count"].as_u64().unwrap() > 0);
    assert!(summary["latency"]["median_ms"].as_f64().unwrap() > 0.0);

    for (path, status) in [
        ("/api/events?limit=0", 400),
        ("/api/events?limit=201", 400),
        ("/api/events?after=x", 400),
        ("/api/events?kind=nothing", 400),
        ("/api/events?wanted=1", 400),
        ("/api/events?subject=../../x", 400),
        ("/api/events/export?format=xml", 400),
        ("/api/events/summary?from=9&to=1", 400),
        ("/api/events/no-event", 404),
        ("/api/events/00000000-0000-7000-8000-000000000000", 404),
        ("/api/events/00000000-0000-7000-8000-000000000000/picture", 404),
    ] {
        let answer = device.client.send("GET", path, Content::None).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
    }
}

#[test]
fn settings_take_effect_while_everything_runs() {
    let device = Device::start();
    device.until("/api/events?kind=identified", |found| found["events"][0]["name"].is_string());

    // Nobody is like that: whoever is checked again or comes from now on is unknown.
    let from = device.get("/api/events?limit=1")["events"][0]["captured_at"].as_i64().unwrap() + 1;
    let answer = device.change(json!({ "identification.threshold": 0.95 }));
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(device.get("/api/device")["thresholds"]["identification"], 0.95);
    let unknown = format!("/api/events?kind=unknown&reason=below_threshold&from={from}");
    let found = device.until(&unknown, |found| {
        found["events"].as_array().unwrap().iter().any(|event| event["score"].as_f64() > Some(0.48))
    });
    assert!(found["events"][0]["name"].is_null());

    // A mask over everything hides everybody from the page and from recognition.
    let mut socket = device.client.socket("/api/live").unwrap();
    let brightest = |frame: &LiveFrame| *still(&frame.jpeg).unwrap().pixels().iter().max().unwrap();
    assert!(brightest(&socket.next_frame().unwrap()) > 60);
    assert_eq!(device.change(json!({ "camera.masks": [[0, 0, 1, 1]] })).status, 200);
    let deadline = Instant::now() + PATIENCE;
    loop {
        socket.say("next").unwrap();
        let frame = socket.next_frame().unwrap();
        if brightest(&frame) < 8 && faces(&frame).is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{}", frame.json);
    }
    // Another size of the camera, without a restart.
    let camera =
        json!({ "camera.masks": null, "camera.width": 320, "camera.height": 240, "camera.rotate": "90" });
    assert_eq!(device.change(camera).status, 200);
    let deadline = Instant::now() + PATIENCE;
    loop {
        socket.say("next").unwrap();
        let frame = socket.next_frame().unwrap();
        if (&frame.json["width"], &frame.json["height"]) == (&json!(240), &json!(320)) {
            break;
        }
        assert!(Instant::now() < deadline, "{}", frame.json);
    }
    let settings = device.get("/api/settings");
    let section = |name: &str| {
        let sections = settings["sections"].as_array().unwrap();
        sections.iter().find(|section| section["name"] == name).unwrap()["settings"]
            .as_array()
            .unwrap()
            .clone()
    };
    let find =
        |name: &str, key: &str| section(name).into_iter().find(|setting| setting["key"] == key).unwrap();
    assert_eq!(find("camera", "width")["origin"], "admin page");
    assert_eq!(
        (&find("http", "listen")["locked"], &find("camera", "source")["locked"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(find("mqtt", "password")["kind"], "secret");
}

#[test]
fn impossible_settings_are_refused_with_everything_that_is_wrong() {
    let device = Device::start();
    let answer = device.change(json!({
        "camera.rate_hz": 900,
        "camera.speed": 1,
        "http.listen": "127.0.0.1:1",
        "litert.library": "/tmp/library.so",
        "camera.masks": [[0, 0, 2, 2]],
    }));
    assert_eq!(answer.status, 422);
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "settings");
    let keys: BTreeSet<_> =
        error["details"]["problems"].as_array().unwrap().iter().filter_map(|p| p["key"].as_str()).collect();
    let all = ["camera.masks", "camera.rate_hz", "camera.speed", "http.listen", "litert.library"];
    assert_eq!(keys, BTreeSet::from(all));
    assert_eq!(device.get("/api/settings")["restart_needed"], false);

    let test = |changes: Value| {
        let body = json!({ "changes": changes });
        device.client.send("POST", "/api/settings/test-broker", Content::Json(&body)).unwrap()
    };
    let nobody = free_address().unwrap();
    let answer = test(json!({ "mqtt.host": "127.0.0.1", "mqtt.port": nobody.port() })).json();
    assert_eq!(answer["ok"], false);
    assert!(answer["message"].as_str().unwrap().contains("nothing listens there"), "{answer}");
    let answer = test(json!({})).json();
    assert!(answer["message"].as_str().unwrap().contains("mqtt.host is empty"), "{answer}");
    assert_eq!(test(json!({ "mqtt.port": 0 })).status, 422);
}

#[test]
fn program_starts_itself_again_with_what_was_set() {
    let mut device = Device::start();
    assert_eq!(device.change(json!({ "device.name": "Front door" })).status, 200);
    assert_eq!(device.get("/api/settings")["restart_needed"], true);
    let uptime = |device: &Device| device.get("/api/device")["health"]["uptime_s"].as_u64().unwrap();
    device.until("/api/device", |found| found["health"]["uptime_s"].as_u64() >= Some(2));
    let pid = device.running.pid();
    assert_eq!(device.client.send("POST", "/api/restart", Content::None).unwrap().status, 202);
    device.running.wait_for("the end of the first run", PATIENCE, |line| line["event"] == "stopped");
    device.running.wait_for("a stream of the second", PATIENCE, |line| line["event"] == "streaming");
    device.client.sign_in(NAME, PASSWORD).unwrap();
    assert!(uptime(&device) < 60 && !device.running.has_ended());
    assert_eq!(device.running.pid(), pid);
    assert_eq!(device.get("/api/device")["name"], "Front door");
    assert_eq!(device.get("/api/settings")["restart_needed"], false);
    // The locks of the first run are gone, and the second holds them: a third is turned away.
    let third = device.program.run(&["run", "--source", "scene", "--seconds", "1"]);
    assert_eq!(third.code, Some(1), "{}", third.err);
    assert_eq!(device.address.ip().to_string(), "127.0.0.1");
}

#[test]
fn cameras_and_device_are_described() {
    let device = Device::start();
    let found = device.until("/api/device", |found| found["health"]["parts"]["camera"]["state"] == "working");
    assert_eq!(found["camera"]["size"], json!({ "width": 640, "height": 480 }));
    assert_eq!(found["gallery"]["subjects"], 2);
    assert_eq!(found["models"]["embedder"]["sha256"].as_str().unwrap().len(), 64);
    assert!(device.get("/api/cameras")["cameras"].is_array());
}
