//! Events, commands and Home Assistant over a real mosquitto, read with mosquitto_sub.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "figures for whoever runs them")]

mod broker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use limen::clock::{Clock, SimulatedClock, SystemClock, UnixMillis};
use limen::config::Config;
use limen::frame::FrameSize;
use limen::geometry::PixelBox;
use limen::live::{Attempt, AttemptOutcome, Live};
use limen::mqtt::CommandOutcome;
use limen::score::ComparisonScore;
use limen::track::TrackId;
use serde_json::{Value, json};

use broker::device::{Device, State, config, older};
use broker::schema;
use broker::{Broker, Guard, Message, Subscriber, write_private};

const AVAILABILITY: &str = "limen/door/availability";
const DISCOVERY: &str = "homeassistant/device/limen_door/config";

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn start(state: &State, config: &Config) -> Device {
    Device::start(state, config, system())
}

fn sequences<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<u64> {
    messages.into_iter().map(|message| message.json()["sequence"].as_u64().unwrap()).collect()
}

/// Sends a command and waits for its answer.
fn ask(broker: &Broker, messages: &mut Subscriber, command: &str, payload: &str) -> Value {
    broker.publish(&format!("limen/door/request/{command}"), payload, &[]);
    messages.on(&format!("limen/door/response/{command}")).json()
}

#[test]
fn first_words_say_who_the_device_is_and_last_words_that_it_is_gone() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let device = start(&state, &config(&broker));
    let online = messages.on(AVAILABILITY);
    assert!(online.payload == "online" && online.retained && online.qos == 1);
    messages.on(DISCOVERY);
    for (topic, retained) in [
        ("info", true),
        ("state/occupancy", true),
        ("state/face_unlock", true),
        ("state/update", true),
        ("door/availability", true),
        ("state/last_face", false),
        ("health", false),
    ] {
        let topic = format!("limen/door/{topic}");
        if messages.seen_on(&topic).is_empty() {
            messages.on(&topic);
        }
        assert_eq!(messages.seen_on(&topic)[0].retained, retained, "{topic}");
    }
    device.stop();
    let offline = messages.on(AVAILABILITY);
    assert!(offline.payload == "offline" && offline.retained);
    assert!(schema::check_all(&messages.seen) >= 10);
    // A session that ended in order leaves no will behind.
    assert_eq!(messages.seen_on(AVAILABILITY).len(), 2);
}

#[test]
fn broken_connection_is_told_by_the_last_will() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let device = start(&state, &config(&broker));
    let mut messages = broker.listen();
    messages.wait_for("online", |m| m.topic == AVAILABILITY && m.payload == "online");
    drop(device);
    let will = messages.on(AVAILABILITY);
    assert!(will.payload == "offline" && will.retained);
}

#[test]
fn event_arrives_fresh_once_and_in_full() {
    for older_protocol in [false, true] {
        let (broker, state) = (Broker::new(Guard::Open), State::new());
        let mut messages = broker.listen();
        let config = if older_protocol { older(config(&broker)) } else { config(&broker) };
        let device = start(&state, &config);
        let ada = device.enrol("Ada Lovelace", true);
        messages.on(DISCOVERY);
        device.identified(ada);
        let event = messages.on("limen/door/event");
        assert!(event.qos == 1 && !event.retained);
        let said = event.json();
        assert_eq!((&said["event_type"], &said["name"]), (&json!("identified"), &json!("Ada Lovelace")));
        assert_eq!((&said["sequence"], &said["expired"]), (&json!(1), &json!(false)));
        let expiry = event.properties["message-expiry-interval"].as_u64();
        if older_protocol {
            assert_eq!(expiry, None);
        } else {
            assert!(expiry.is_some_and(|seconds| (5..=10).contains(&seconds)), "{expiry:?}");
        }
        let last =
            messages.wait_for("last face", |m| m.topic.ends_with("/last_face") && m.payload.contains("Ada"));
        assert!(!last.retained);
        messages.on(&format!("limen/door/subject/{ada}/last_seen"));
        device.unknown();
        device.ended();
        assert_eq!(messages.on("limen/door/event").json()["event_type"], "unknown");
        let ended = messages.on("limen/door/event").json();
        assert_eq!((&ended["verdict"], &ended["reasons"]), (&json!("undecided"), &json!({ "too_far": 7 })));
        device.until("acknowledgements", || device.waiting() == 0);
        assert_eq!(device.published.lock().unwrap().len(), 3);
        assert_eq!((device.stats.acknowledged.get(), device.stats.late.get()), (3, 0));
        schema::check_all(&messages.seen);
        device.stop();
        drop(messages);
        // Nothing that names somebody stays on the broker.
        let mut retained = broker.listen();
        retained.on(AVAILABILITY);
        retained.on(DISCOVERY);
        let named: Vec<_> =
            retained.seen.iter().filter(|m| m.payload.contains("Ada") && m.topic != DISCOVERY).collect();
        assert!(named.is_empty(), "{named:?}");
    }
}

#[test]
fn expired_event_goes_to_the_late_topic_and_never_to_the_fresh_one() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let clock = Arc::new(SimulatedClock::new(UnixMillis(1_795_406_706_000)));
    let device = Device::without_mqtt(&state, clock.clone());
    device.unknown();
    device.until("the event", || device.waiting() == 1);
    clock.advance(Duration::from_secs(11));
    device.unknown();
    device.until("the event", || device.waiting() == 2);
    let device = device.connect(&config(&broker));
    let late = messages.on("limen/door/event/late");
    let fresh = messages.on("limen/door/event");
    assert_eq!((&late.json()["sequence"], &late.json()["expired"]), (&json!(1), &json!(true)));
    assert_eq!((&fresh.json()["sequence"], &fresh.json()["expired"]), (&json!(2), &json!(false)));
    assert!(!late.retained && late.properties.get("message-expiry-interval").is_none());
    device.until("acknowledgements", || device.waiting() == 0);
    assert_eq!((device.stats.late.get(), device.stats.acknowledged.get()), (1, 1));
    assert_eq!(device.store.outbox().borrow().expired, 1);
    schema::check_all(&messages.seen);
}

#[test]
fn password_is_needed_and_a_corrected_one_is_taken_without_a_restart() {
    let (broker, state) = (Broker::new(Guard::Password), State::new());
    let file = broker.path("credentials");
    let mut config = config(&broker);
    let device = start(&state, &config);
    device.until_degraded("mqtt.credentials_file");
    drop(device);
    config.mqtt.credentials_file = Some(file.clone());
    for protocol in [config.clone(), older(config)] {
        write_private(&file, "door\nguess\n");
        let device = start(&state, &protocol);
        let reason = device.until_degraded("refuses this user name and password");
        assert!(!reason.contains("guess"), "{reason}");
        write_private(&file, "door\ns3cret\n");
        device.until("a connection", || device.is_connected());
        device.stop();
    }
}

#[test]
fn certificates_are_checked_on_both_sides() {
    let state = State::new();
    for clients in [false, true] {
        let broker = Broker::new(Guard::Tls(clients));
        let mut config = config(&broker);
        config.mqtt.tls = true;
        config.mqtt.ca_file = Some(broker.path("other.pem"));
        let device = start(&state, &config);
        device.until_degraded("signed by none of the authorities");
        drop(device);
        config.mqtt.ca_file = Some(broker.path("ca.pem"));
        if clients {
            let device = start(&state, &config);
            device.until_degraded("mqtt.client_certificate_file");
            drop(device);
            config.mqtt.client_certificate_file = Some(broker.path("client.pem"));
            config.mqtt.client_key_file = Some(broker.path("client.key"));
        }
        for config in [config.clone(), older(config.clone())] {
            let mut messages = broker.listen();
            let device = start(&state, &config);
            messages.wait_for("online", |m| m.topic == AVAILABILITY && m.payload == "online");
            device.stop();
        }
        let mut named = config.clone();
        named.mqtt.host = Some("localhost".to_owned());
        let device = start(&state, &named);
        device.until_degraded("made for another name");
        drop(device);
        let mut plain = config;
        (plain.mqtt.tls, plain.mqtt.ca_file) = (false, None);
        (plain.mqtt.client_certificate_file, plain.mqtt.client_key_file) = (None, None);
        let device = start(&state, &plain);
        device.until_degraded("mqtt.tls");
    }
}

#[test]
fn plain_broker_is_told_from_an_encrypted_one_and_from_none() {
    let (mut broker, state) = (Broker::new(Guard::Open), State::new());
    let mut config = config(&broker);
    config.mqtt.tls = true;
    let device = start(&state, &config);
    device.until_degraded("broker 127.0.0.1");
    drop(device);
    config.mqtt.tls = false;
    broker.kill();
    let device = start(&state, &config);
    device.until_degraded("nothing listens there");
    broker.start();
    device.until("a connection", || device.is_connected());
}

#[test]
fn home_assistant_is_told_everything_again_when_it_starts() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    // Left behind by an earlier start: no reason to say anything twice.
    broker.publish("homeassistant/status", "online", &["-r"]);
    let device = start(&state, &config(&broker));
    let ada = device.enrol("Ada", true);
    messages.wait_for("sensor", |m| m.topic == DISCOVERY && m.payload.contains("Ada"));
    device.identified(ada);
    messages.on(&format!("limen/door/subject/{ada}/last_seen"));
    let before = messages.seen_on(DISCOVERY).len();
    broker.publish("homeassistant/status", "offline", &[]);
    broker.publish("homeassistant/status", "online", &[]);
    let again = messages.on(DISCOVERY);
    assert_eq!(again.payload, messages.seen_on(DISCOVERY)[before - 1].payload);
    messages.wait_for("last face", |m| m.topic.ends_with("last_face") && m.payload.contains("Ada"));
    messages.on(&format!("limen/door/subject/{ada}/last_seen"));
    schema::check_all(&messages.seen);
}

/// A sensor of a subject, in a message of discovery.
fn sensor<'v>(message: &'v Value, subject: &str) -> Option<&'v Value> {
    message["components"].get(format!("subject_{subject}"))
}

#[test]
fn subject_has_a_sensor_from_its_enrolment_to_its_erasure() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let device = start(&state, &config(&broker));
    messages.on(DISCOVERY);
    let ada = device.enrol("Ada Lovelace", true);
    let grace = device.enrol("Grace Hopper", true);
    device.enrol("Joe", false);
    let both = messages.wait_for("both", |m| m.topic == DISCOVERY && m.payload.contains("Grace Hopper"));
    assert!(sensor(&both.json(), &ada.to_string()).is_some() && !both.payload.contains("Joe"));
    device.identified(ada);
    messages.wait_for("last face", |m| m.topic.ends_with("last_face") && m.payload.contains("Ada"));

    device.erase(ada);
    let removing = messages.on(DISCOVERY).json();
    let nobody = messages.seen.iter().rev().find(|m| m.topic.ends_with("last_face"));
    assert!(nobody.is_some());
    assert_eq!(sensor(&removing, &ada.to_string()), Some(&json!({ "platform": "sensor" })));
    let without = messages.on(DISCOVERY);
    assert!(sensor(&without.json(), &ada.to_string()).is_none() && !without.payload.contains("Ada"));
    messages.wait_for("nobody", |m| m.topic.ends_with("last_face") && m.json()["name"].is_null());

    // Erased while nobody could be told: what the broker has kept says what to remove.
    drop(device);
    let device = Device::without_mqtt(&state, system());
    device.erase(grace);
    device.until("erasure", || device.store.gallery().current().subject(grace).is_none());
    let device = device.connect(&config(&broker));
    let removing = messages.on(DISCOVERY).json();
    assert_eq!(sensor(&removing, &grace.to_string()), Some(&json!({ "platform": "sensor" })));
    let without = messages.on(DISCOVERY);
    assert!(!without.payload.contains("Grace"));
    assert!(schema::check_all(&messages.seen) > 10);
    device.stop();
}

#[test]
fn commands_are_carried_out_and_answered() {
    for older_protocol in [false, true] {
        let (broker, state) = (Broker::new(Guard::Open), State::new());
        let mut messages = broker.listen();
        let config = if older_protocol { older(config(&broker)) } else { config(&broker) };
        let device = start(&state, &config);
        messages.on(DISCOVERY);
        let off = ask(&broker, &mut messages, "face_unlock", r#"{"transaction":"1","on":false}"#);
        assert_eq!(off, json!({ "transaction": "1", "status": "ok", "data": { "on": false } }));
        assert!(!*device.store.face_unlock().borrow());
        // State and answer come in either order.
        let shown = |m: &Message| m.topic.ends_with("state/face_unlock") && m.payload == "OFF";
        if !messages.seen.iter().any(shown) {
            messages.wait_for("switch", shown);
        }
        let rung = ask(&broker, &mut messages, "ring", r#"{"transaction":"2"}"#);
        let ring = messages
            .seen_on("limen/door/doorbell")
            .first()
            .map(|m| m.json())
            .unwrap_or_else(|| messages.on("limen/door/doorbell").json());
        assert_eq!((&ring["id"], &ring["event_type"]), (&rung["data"]["event"], &json!("ring")));
        assert_eq!(ring["face_unlock"], false);
        assert_eq!(ask(&broker, &mut messages, "reload", r#"{"transaction":"3"}"#)["data"]["subjects"], 0);
        assert_eq!(ask(&broker, &mut messages, "health", r#"{"transaction":"4"}"#)["data"]["uptime_s"], 61);
        for (n, command) in ["identify", "snapshot"].into_iter().enumerate() {
            let answer = ask(&broker, &mut messages, command, &format!(r#"{{"transaction":"5{n}"}}"#));
            assert_eq!(answer["data"], json!({ "asked": true }));
        }
        broker.publish("limen/door/face_unlock/set", "ON", &[]);
        messages.wait_for("switch", |m| m.topic.ends_with("state/face_unlock") && m.payload == "ON");
        broker.publish("limen/door/lock/set", "UNLOCK", &[]);
        let lock = messages.on("limen/door/response/lock").json();
        assert_eq!((&lock["transaction"], &lock["status"]), (&Value::Null, &json!("error")));
        assert!(schema::check_all(&messages.seen) > 10);
        assert_eq!(device.stats.commands(CommandOutcome::Done), 7);
        device.stop();
    }
}

#[test]
fn answer_goes_where_the_caller_asks_but_never_to_another_devices_topics() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let device = start(&state, &config(&broker));
    messages.on(DISCOVERY);
    let ring = "limen/door/request/ring";
    let named = ["-D", "publish", "response-topic", "callers/7", "-D", "publish", "correlation-data", "abc"];
    broker.publish(ring, r#"{"transaction":"1"}"#, &named);
    let answer = messages.on("callers/7");
    assert_eq!(answer.properties["correlation-data"], "abc");
    assert_eq!(answer.json()["status"], "ok");
    let foreign = ["-D", "publish", "response-topic", "limen/other/request/face_unlock"];
    broker.publish(ring, r#"{"transaction":"2"}"#, &foreign);
    messages.on("limen/door/response/ring");
    assert!(messages.seen_on("limen/other/request/face_unlock").is_empty());
    drop(device);
}

#[test]
fn hostile_commands_change_nothing() {
    for older_protocol in [false, true] {
        let (broker, state) = (Broker::new(Guard::Open), State::new());
        let mut messages = broker.listen();
        // Retained before the device subscribes: an old wish.
        broker.publish("limen/door/request/face_unlock", r#"{"transaction":"r","on":false}"#, &["-r"]);
        broker.publish("limen/door/face_unlock/set", "OFF", &["-r"]);
        // A clock that stands still refills no bucket.
        let clock = Arc::new(SimulatedClock::new(UnixMillis(1_795_406_706_000)));
        let config = if older_protocol { older(config(&broker)) } else { config(&broker) };
        let device = Device::start(&state, &config, clock.clone());
        messages.on(DISCOVERY);
        device.until("the retained commands", || device.stats.commands(CommandOutcome::Retained) == 2);
        let error = |answer: Value| {
            assert_eq!(answer["status"], "error", "{answer}");
            answer["transaction"].as_str().map(str::to_owned)
        };
        let huge = format!(r#"{{"transaction":"h","x":"{}"}}"#, "x".repeat(5000));
        for (command, payload, transaction) in [
            ("face_unlock", "not json", None),
            ("face_unlock", r#"{"transaction":"m","on":0}"#, Some("m")),
            ("face_unlock", r#"{"transaction":"u","on":false,"force":true}"#, Some("u")),
            ("face_unlock", huge.as_str(), None),
            ("open", r#"{"transaction":"o"}"#, Some("o")),
        ] {
            let answer = error(ask(&broker, &mut messages, command, payload));
            assert_eq!(answer.as_deref(), transaction, "{payload:.60}");
        }
        broker.publish("limen/door/face_unlock/set", "perhaps", &[]);
        assert_eq!(ask(&broker, &mut messages, "ring", r#"{"transaction":"1"}"#)["status"], "ok");
        assert_eq!(
            error(ask(&broker, &mut messages, "ring", r#"{"transaction":"1"}"#)).as_deref(),
            Some("1")
        );
        // One of ten has been taken.
        for n in 0..9 {
            let payload = format!(r#"{{"transaction":"f{n}"}}"#);
            assert_eq!(ask(&broker, &mut messages, "health", &payload)["status"], "ok");
        }
        let flood = r#"{"transaction":"g","on":false}"#;
        assert_eq!(error(ask(&broker, &mut messages, "face_unlock", flood)).as_deref(), Some("g"));
        broker.publish("limen/door/face_unlock/set", "OFF", &[]);
        device.until("the flood", || device.stats.commands(CommandOutcome::RateLimited) == 2);

        assert!(*device.store.face_unlock().borrow());
        device.until("the ring", || device.store.outbox().borrow().newest == 1 && device.waiting() == 0);
        let counted = |outcome| device.stats.commands(outcome);
        assert_eq!(counted(CommandOutcome::Malformed), 4);
        assert_eq!((counted(CommandOutcome::TooLarge), counted(CommandOutcome::Unknown)), (1, 1));
        assert_eq!((counted(CommandOutcome::Replayed), counted(CommandOutcome::Done)), (1, 10));
        schema::check_all(&messages.seen);
    }
}

#[test]
fn message_larger_than_a_packet_may_be_does_not_keep_the_device_away() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let file = broker.path("huge");
    std::fs::write(&file, vec![b'x'; 100_000]).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    broker.publish("limen/door/request/ring", &text, &["-r"]);
    // MQTT 5 tells the broker what is too much; 3.1.1 cannot.
    let device = start(&state, &config(&broker));
    messages.on(DISCOVERY);
    device.unknown();
    messages.on("limen/door/event");
    device.stop();
    let device = start(&state, &older(config(&broker)));
    device.until_degraded("larger than 64 KiB");
    device.unknown();
    messages.on("limen/door/event");
}

#[test]
fn without_commands_nothing_is_listened_to() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let mut config = config(&broker);
    config.mqtt.commands = false;
    let device = start(&state, &config);
    let announced = messages.on(DISCOVERY).json();
    assert!(announced["components"].get("face_unlock").is_none());
    broker.publish("limen/door/request/ring", r#"{"transaction":"1"}"#, &[]);
    broker.publish("limen/door/face_unlock/set", "OFF", &[]);
    // Whatever comes after these has overtaken nothing.
    broker.publish("homeassistant/status", "online", &[]);
    messages.on(DISCOVERY);
    assert!(messages.seen.iter().all(|m| !m.topic.contains("/response/")));
    assert!(*device.store.face_unlock().borrow());
}

#[test]
fn occupancy_follows_who_is_in_view() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let device = start(&state, &config(&broker));
    messages.on(DISCOVERY);
    let occupancy = |messages: &mut Subscriber, is: &str| {
        messages.wait_for(is, |m| m.topic.ends_with("state/occupancy") && m.payload == is && m.retained)
    };
    device.live.send(Live::Presence { faces: 2 });
    occupancy(&mut messages, "ON");
    device.live.send(Live::Presence { faces: 1 });
    device.live.send(Live::Presence { faces: 0 });
    occupancy(&mut messages, "OFF");
    assert_eq!(messages.seen_on("limen/door/state/occupancy").len(), 3);
}

#[test]
fn visit_is_told_in_the_words_of_other_programs_too() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let mut config = config(&broker);
    config.compatibility.frigate_prefix = Some("frigate".to_owned());
    config.compatibility.double_take_prefix = Some("double-take".to_owned());
    let device = start(&state, &config);
    let subject = device.enrol("Ada Lovelace", false);
    messages.on(DISCOVERY);
    let now = SystemClock.wall();
    device.live.send(Live::Attempt(Attempt {
        track: TrackId(3),
        captured_at: now,
        first_seen_at: UnixMillis(now.0 - 500),
        latency_ms: 40.0,
        outcome: AttemptOutcome::Match { subject, score: ComparisonScore::new(0.75) },
        bbox: PixelBox { left: 10.0, top: 20.0, right: 110.0, bottom: 140.0 },
        frame: FrameSize { width: 640, height: 480 },
        attempts: 4,
    }));
    let face = messages.on("frigate/tracked_object_update").json();
    assert_eq!((&face["name"], &face["camera"]), (&json!("Ada Lovelace"), &json!("door")));
    assert_eq!(messages.on("frigate/events").json()["type"], "new");
    device.identified(subject);
    let update = messages.on("frigate/events").json();
    assert_eq!(update["after"]["sub_label"], json!(["Ada Lovelace", 0.75]));
    assert_eq!(messages.on("double-take/matches/Ada-Lovelace").json()["match"]["confidence"], 75.0);
    let count = messages.on("double-take/cameras/door/person");
    assert!(count.payload == "1" && count.retained);
    device.ended();
    assert_eq!(messages.on("frigate/events").json()["type"], "end");
    assert!(schema::check_all(&messages.seen) > 15);
    let unfit =
        json!({ "type": "face", "id": "1-a", "name": null, "score": 0, "camera": "c", "timestamp": 1 });
    assert!(schema::check("frigate_face", &unfit).is_err());
}

#[test]
fn refused_event_is_kept_told_and_sent_once_it_is_permitted() {
    let (broker, state) = (Broker::stopped(Guard::Open), State::new());
    let all_but_events = ["availability", "info", "state/#", "door/#", "health"]
        .map(|topic| format!("topic write limen/door/{topic}\n"))
        .concat();
    broker.permit(&format!("topic readwrite homeassistant/#\ntopic read limen/#\n{all_but_events}"));
    let mut broker = broker;
    broker.start();
    let mut messages = broker.listen();
    let device = start(&state, &config(&broker));
    messages.wait_for("online", |m| m.topic == AVAILABILITY && m.payload == "online");
    device.unknown();
    // Some versions of the broker answer a refusal, others close the connection over it.
    device.until_degraded("access rules");
    assert_eq!(device.waiting(), 1);
    broker.permit("topic readwrite #");
    broker.reload();
    assert_eq!(messages.on("limen/door/event").json()["sequence"], 1);
    device.until("a working broker", || device.is_connected() && device.waiting() == 0);
}

#[test]
fn killed_broker_is_found_again_within_three_seconds() {
    let (mut broker, state) = (Broker::new(Guard::Open), State::new());
    let device = start(&state, &config(&broker));
    let mut longest = Duration::ZERO;
    let rounds = 50;
    for round in 0..rounds {
        device.until("a connection", || device.is_connected());
        device.unknown();
        broker.kill();
        device.until("the loss", || !device.is_connected());
        device.unknown();
        broker.start();
        let back = Instant::now();
        device.until("a connection", || device.is_connected());
        longest = longest.max(back.elapsed());
        assert!(back.elapsed() < Duration::from_secs(3), "round {round}: {:?}", back.elapsed());
    }
    device.until("every event", || device.waiting() == 0);
    let newest = device.store.outbox().borrow().newest;
    let stats = &device.stats;
    assert_eq!(newest, 2 * rounds);
    assert_eq!(stats.acknowledged.get() + stats.late.get(), newest);
    println!(
        "{rounds} kills: back after at most {longest:?}; {} events acknowledged, {} sent again",
        newest,
        stats.repeated.get()
    );
}

#[test]
fn ten_thousand_events_of_an_outage_arrive_in_order_and_none_is_lost() {
    let (mut broker, state) = (Broker::new(Guard::Open), State::new());
    // The broker keeps this session: nothing is missed while both find their way back.
    broker.keep_for("witness");
    broker.stop();
    let clock = Arc::new(SimulatedClock::new(UnixMillis(1_795_406_706_000)));
    let device = Device::start(&state, &config(&broker), clock.clone());
    device.until_degraded("nothing listens there");
    let (old, fresh) = (5_000, 5_000);
    for _ in 0..old {
        device.unknown();
    }
    device.until("the events", || device.waiting() == old);
    clock.advance(Duration::from_secs(11));
    for _ in 0..fresh {
        device.unknown();
    }
    device.until("the events", || device.waiting() == old + fresh);
    broker.start();
    let begun = Instant::now();
    device.until("every acknowledgement", || device.waiting() == 0);
    let took = begun.elapsed();
    let mut messages = broker.listen_as("witness", broker::KEPT);
    messages
        .wait_for("the last event", |m| m.topic == "limen/door/event" && m.json()["sequence"] == old + fresh);
    let late = sequences(messages.seen_on("limen/door/event/late"));
    let first = sequences(messages.seen_on("limen/door/event"));
    assert_eq!(late, (1..=old).collect::<Vec<_>>());
    assert_eq!(first, (old + 1..=old + fresh).collect::<Vec<_>>());
    let ids: std::collections::BTreeSet<_> = ["limen/door/event/late", "limen/door/event"]
        .iter()
        .flat_map(|topic| messages.seen_on(topic))
        .map(|message| message.json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len() as u64, old + fresh, "each its own id");
    println!("10000 events acknowledged {took:?} after the broker's return");
}

#[test]
fn waiting_events_get_out_before_the_last_words() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let device = start(&state, &config(&broker));
    messages.on(DISCOVERY);
    for _ in 0..200 {
        device.unknown();
    }
    device.until("the events", || device.store.outbox().borrow().newest == 200);
    device.stop();
    messages.wait_for("offline", |m| m.topic == AVAILABILITY && m.payload == "offline");
    assert_eq!(sequences(messages.seen_on("limen/door/event")), (1..=200).collect::<Vec<_>>());
}

#[test]
fn both_tasks_beat_with_and_without_a_broker() {
    let (mut broker, state) = (Broker::new(Guard::Open), State::new());
    let device = start(&state, &config(&broker));
    let beats = |n: usize| device.beats[n].load(std::sync::atomic::Ordering::Relaxed);
    let both_move = || {
        let before = (beats(0), beats(1));
        device.until("beats", || beats(0) > before.0 + 2 && beats(1) > before.1 + 2);
    };
    device.until("a connection", || device.is_connected());
    both_move();
    // A broker that is stuck is no reason to call the tasks dead.
    broker.signal(rustix::process::Signal::STOP);
    both_move();
    broker.signal(rustix::process::Signal::CONT);
    broker.kill();
    both_move();
}

#[test]
fn schema_refuses_what_home_assistant_would() {
    let (broker, state) = (Broker::new(Guard::Open), State::new());
    let mut messages = broker.listen();
    let mut config = config(&broker);
    config.mqtt.open_door = true;
    let device = start(&state, &config);
    device.enrol("Ada", true);
    let message = messages.wait_for("sensor", |m| m.topic == DISCOVERY && m.payload.contains("Ada")).json();
    schema::check("ha_discovery", &message).unwrap();
    let mut spoiled = 0;
    let mut refused = |pointer: &str, value: Option<Value>| {
        let mut message = message.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = message.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => drop(parent.insert(key.to_owned(), value)),
            None => drop(parent.remove(key).unwrap()),
        }
        assert!(schema::check("ha_discovery", &message).is_err(), "{pointer}");
        spoiled += 1;
    };
    refused("/device", None);
    refused("/origin", None);
    refused("/components", None);
    refused("/components", Some(json!({})));
    refused("/origin/name", None);
    refused("/device/identifiers", None);
    refused("/json_attributes_topic", Some(json!("x")));
    refused("/components/face/unique_id", None);
    refused("/components/face/platform", None);
    refused("/components/face/event_types", None);
    refused("/components/face/object_id", Some(json!("x")));
    refused("/components/face/default_entity_id", Some(json!("front_door_face")));
    refused("/components/doorbell/event_types", Some(json!(["pressed"])));
    refused("/components/tag/value_template", None);
    refused("/components/lock/command_topic", None);
    refused("/components/memory/expire_after", None);
    refused("/components/a b", Some(json!({ "platform": "sensor" })));
    assert_eq!(spoiled, 17);
}
