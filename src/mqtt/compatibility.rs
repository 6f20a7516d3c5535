//! Messages in the form of Frigate and of Double Take, for automations made for them. Pure: what was
//! seen becomes messages.
//!
//! Each program's messages go out under a prefix of the operator's choice, with QoS 0, and only what
//! is fresh: neither program's own form can tell a late one. Scores here are comparison scores,
//! which are not what those programs call a score.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::link::Message;
use super::payload;
use super::settings::MqttSettings;
use crate::clock::{Monotonic, UnixMillis};
use crate::event_store::{EventKind, RecordedEvent};
use crate::live::{Attempt, AttemptOutcome};

/// Faces followed at a time; the oldest is forgotten when there are more.
const MAXIMUM_TRACKS: usize = 32;
/// Double Take sets its count back after this long.
const PERSON_RESET: Duration = Duration::from_secs(30);

/// A name looked up in the gallery.
pub(super) type Name<'n> = Option<&'n str>;

/// What both need to remember.
#[derive(Debug, Default)]
pub(super) struct Compatibility {
    tracks: BTreeMap<u64, Followed>,
    /// When Double Take's count goes back to zero.
    person_until: Option<Monotonic>,
}

/// One face in view.
#[derive(Debug)]
struct Followed {
    last: Attempt,
    /// What was last said to Frigate about it.
    before: Option<Value>,
}

impl Compatibility {
    /// A face was looked at. `name`: of the subject it matched.
    pub(super) fn attempt(
        &mut self,
        settings: &MqttSettings,
        attempt: &Attempt,
        name: Name<'_>,
    ) -> Vec<Message> {
        let track = attempt.track.0;
        let before = self.tracks.remove(&track).and_then(|followed| followed.before);
        if self.tracks.len() == MAXIMUM_TRACKS {
            self.tracks.pop_first();
        }
        let mut messages = Vec::new();
        let mut now = before.clone();
        if let Some(prefix) = &settings.frigate_prefix {
            messages.push(plain(
                format!("{prefix}/tracked_object_update"),
                &face_update(settings, attempt, name),
            ));
            if before.is_none() {
                let after = tracked(settings, attempt, None, None);
                let message = json!({ "type": "new", "before": after, "after": after });
                messages.push(plain(format!("{prefix}/events"), &message));
                now = Some(after);
            }
        }
        self.tracks.insert(track, Followed { last: attempt.clone(), before: now });
        messages
    }

    /// An event went out fresh.
    pub(super) fn event(
        &mut self,
        settings: &MqttSettings,
        event: &RecordedEvent,
        name: Name<'_>,
        now: Monotonic,
    ) -> Vec<Message> {
        let Some(track) = event.track else { return Vec::new() };
        let mut messages = Vec::new();
        let Some(followed) = self.tracks.get_mut(&track) else { return messages };
        let ended = event.kind == EventKind::Ended;
        if let Some(prefix) = &settings.frigate_prefix {
            let label = name.map(|name| json!([name, rounded(event.score)]));
            // A face that was named stays named until the end.
            let label = label.or_else(|| followed.before.as_ref().map(|before| before["sub_label"].clone()));
            let end = ended.then_some(event.captured_at);
            let after = tracked(settings, &followed.last, label, end);
            let before = followed.before.replace(after.clone()).unwrap_or_else(|| after.clone());
            let kind = if ended { "end" } else { "update" };
            messages.push(plain(
                format!("{prefix}/events"),
                &json!({ "type": kind, "before": before, "after": after }),
            ));
        }
        if let (Some(prefix), false) = (&settings.double_take_prefix, ended) {
            messages.extend(double_take(settings, prefix, event, &followed.last, name));
            self.person_until = Some(now + PERSON_RESET);
        }
        if ended {
            self.tracks.remove(&track);
        }
        messages
    }

    /// Nobody is counted any more: said at the end, and at the beginning for a run that could not say it.
    pub(super) fn nobody(&mut self, settings: &MqttSettings) -> Option<Message> {
        self.person_until = None;
        settings.double_take_prefix.as_ref().map(|prefix| person(settings, prefix, 0))
    }

    /// Time has passed.
    pub(super) fn passed(&mut self, settings: &MqttSettings, now: Monotonic) -> Option<Message> {
        let prefix = settings.double_take_prefix.as_ref()?;
        self.person_until.take_if(|until| *until <= now)?;
        Some(person(settings, prefix, 0))
    }
}

fn plain(topic: String, message: &Value) -> Message {
    Message { topic, payload: payload::bytes(message), ..Message::default() }
}

fn rounded(score: Option<f32>) -> f64 {
    score.map_or(0.0, |score| (f64::from(score) * 100.0).round() / 100.0)
}

fn seconds(time: UnixMillis) -> f64 {
    time.0 as f64 / 1000.0
}

/// Six letters of a track's number, as the other program's identifiers end in.
fn letters(track: u64) -> String {
    (0..6).map(|n| char::from(b'a' + (track / 26_u64.pow(n) % 26) as u8)).rev().collect()
}

fn identifier(attempt: &Attempt) -> String {
    let first = attempt.first_seen_at.0;
    format!("{}.{:03}000-{}", first.div_euclid(1000), first.rem_euclid(1000), letters(attempt.track.0))
}

fn face_update(settings: &MqttSettings, attempt: &Attempt, name: Name<'_>) -> Value {
    let score = match attempt.outcome {
        AttemptOutcome::Match { score, .. } => Some(score.get()),
        AttemptOutcome::NoMatch { best } => best.map(|best| best.get()),
        AttemptOutcome::Inconclusive(_) => None,
    };
    json!({
        "type": "face",
        "id": identifier(attempt),
        "name": name,
        "score": rounded(score),
        "camera": settings.device.id,
        "timestamp": seconds(attempt.captured_at),
    })
}

/// A face as Frigate's object. What this device does not know of is left at what it is there for an
/// object without zones, recordings and snapshots.
fn tracked(
    settings: &MqttSettings,
    attempt: &Attempt,
    label: Option<Value>,
    end: Option<UnixMillis>,
) -> Value {
    let b = attempt.bbox;
    let [left, top, right, bottom] = [b.left, b.top, b.right, b.bottom].map(|edge| edge.round() as i64);
    json!({
        "id": identifier(attempt),
        "camera": settings.device.id,
        "frame_time": seconds(attempt.captured_at),
        "label": "person",
        "sub_label": label,
        "start_time": seconds(attempt.first_seen_at),
        "end_time": end.map(seconds),
        "box": [left, top, right, bottom],
        "area": (right - left).max(0) * (bottom - top).max(0),
        "region": [0, 0, attempt.frame.width, attempt.frame.height],
        "false_positive": false,
        "active": end.is_none(),
        "stationary": false,
        "current_zones": [],
        "entered_zones": [],
        "has_clip": false,
        "has_snapshot": false,
        "attributes": {},
    })
}

/// A name as the last part of a topic, the way Double Take writes it. A subject whose name leaves
/// nothing, or reads like another topic, goes by its identifier.
fn topic_name(name: &str, event: &RecordedEvent) -> String {
    let kept: String =
        name.replace(' ', "-").chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if kept.trim_matches('-').is_empty() || kept == "unknown" {
        event.subject.map_or_else(|| "unknown".to_owned(), |subject| subject.to_string())
    } else {
        kept
    }
}

fn double_take(
    settings: &MqttSettings,
    prefix: &str,
    event: &RecordedEvent,
    last: &Attempt,
    name: Name<'_>,
) -> Vec<Message> {
    let camera = &settings.device.id;
    let b = last.bbox;
    let edges = json!({
        "top": b.top.round() as i64,
        "left": b.left.round() as i64,
        "width": (b.right - b.left).round() as i64,
        "height": (b.bottom - b.top).round() as i64,
    });
    let duration = f64::from(event.latency_ms.round()) / 1000.0;
    let face = json!({
        "name": name.unwrap_or("unknown"),
        "confidence": (rounded(event.score) * 100.0).round().clamp(0.0, 100.0),
        "match": name.is_some(),
        "box": edges,
        "type": "latest",
        "duration": duration,
        "detector": "limen",
        "filename": Value::Null,
    });
    let mut common = json!({
        "id": event.id,
        "duration": duration,
        "timestamp": crate::clock::rfc3339(event.captured_at),
        "attempts": event.looks,
        "camera": camera,
        "zones": [],
    });
    let matched = u32::from(name.is_some());
    let counts = json!({ "person": 1, "match": matched, "miss": 0, "unknown": 1 - matched });
    let mut report = common.clone();
    report["matches"] = if matched == 1 { json!([face]) } else { json!([]) };
    report["misses"] = json!([]);
    report["unknowns"] = if matched == 0 { json!([face]) } else { json!([]) };
    report["counts"] = counts;
    let who = name.map_or_else(|| "unknown".to_owned(), |name| topic_name(name, event));
    common[if matched == 1 { "match" } else { "unknown" }] = face;
    vec![
        plain(format!("{prefix}/matches/{who}"), &common),
        plain(format!("{prefix}/cameras/{camera}"), &report),
        person(settings, prefix, 1),
    ]
}

/// Retained: a count is no name.
fn person(settings: &MqttSettings, prefix: &str, count: u32) -> Message {
    let topic = format!("{prefix}/cameras/{}/person", settings.device.id);
    Message { topic, payload: count.to_string().into_bytes(), retained: true, ..Message::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::frame::FrameSize;
    use crate::gallery::SubjectId;
    use crate::geometry::PixelBox;
    use crate::score::ComparisonScore;
    use crate::track::TrackId;

    fn settings() -> MqttSettings {
        let mut config = Config::default();
        config.mqtt.host = Some("broker".to_owned());
        config.device.name = "front_door".to_owned();
        config.compatibility.frigate_prefix = Some("frigate".to_owned());
        config.compatibility.double_take_prefix = Some("double-take".to_owned());
        MqttSettings::new(&config).unwrap()
    }

    fn attempt() -> Attempt {
        Attempt {
            track: TrackId(3),
            captured_at: UnixMillis(1_607_123_958_748),
            first_seen_at: UnixMillis(1_607_123_955_475),
            latency_ms: 40.0,
            outcome: AttemptOutcome::Match {
                subject: SubjectId::from_bytes([1; 16]),
                score: ComparisonScore::new(0.95),
            },
            bbox: PixelBox { left: 10.0, top: 20.0, right: 110.0, bottom: 140.0 },
            frame: FrameSize { width: 640, height: 480 },
            attempts: 4,
        }
    }

    fn event(kind: EventKind) -> RecordedEvent {
        RecordedEvent { kind, ..payload::tests::identified(7) }
    }

    fn json_of(message: &Message) -> Value {
        serde_json::from_slice(&message.payload).unwrap()
    }

    fn topics(messages: &[Message]) -> Vec<&str> {
        messages.iter().map(|message| message.topic.as_str()).collect()
    }

    #[test]
    fn frigate_hears_of_every_attempt_and_of_a_new_face_once() {
        let mut compatibility = Compatibility::default();
        let first = compatibility.attempt(&settings(), &attempt(), Some("John"));
        assert_eq!(topics(&first), ["frigate/tracked_object_update", "frigate/events"]);
        assert_eq!(
            json_of(&first[0]),
            json!({
                "type": "face", "id": "1607123955.475000-aaaaad", "name": "John", "score": 0.95,
                "camera": "front_door", "timestamp": 1_607_123_958.748,
            })
        );
        let second = compatibility.attempt(&settings(), &attempt(), None);
        assert_eq!(topics(&second), ["frigate/tracked_object_update"]);
        assert_eq!(json_of(&second[0])["name"], Value::Null);
    }

    #[test]
    fn frigate_event_goes_from_new_over_update_to_end() {
        let (settings, mut compatibility) = (settings(), Compatibility::default());
        compatibility.attempt(&settings, &attempt(), None);
        let update =
            compatibility.event(&settings, &event(EventKind::Identified), Some("John"), Monotonic::default());
        let update = json_of(&update[0]);
        assert_eq!((&update["type"], &update["before"]["sub_label"]), (&json!("update"), &Value::Null));
        assert_eq!(update["after"]["sub_label"], json!(["John", 0.7]));
        let end = compatibility.event(&settings, &event(EventKind::Ended), None, Monotonic::default());
        assert_eq!(topics(&end), ["frigate/events"]);
        let end = json_of(&end[0]);
        assert_eq!((&end["type"], &end["after"]["sub_label"]), (&json!("end"), &json!(["John", 0.7])));
        assert!(end["after"]["end_time"].is_number() && compatibility.tracks.is_empty());
    }

    #[test]
    fn double_take_gets_match_camera_and_a_count_that_goes_back() {
        let (settings, mut compatibility) = (settings(), Compatibility::default());
        compatibility.attempt(&settings, &attempt(), None);
        let start = Monotonic::default();
        let messages =
            compatibility.event(&settings, &event(EventKind::Identified), Some("John Smith"), start);
        assert_eq!(
            topics(&messages)[1..],
            [
                "double-take/matches/John-Smith",
                "double-take/cameras/front_door",
                "double-take/cameras/front_door/person"
            ]
        );
        let found = json_of(&messages[1]);
        assert_eq!(found["match"]["box"], json!({ "top": 20, "left": 10, "width": 100, "height": 120 }));
        assert_eq!(found["match"]["confidence"], 70.0);
        assert_eq!(
            json_of(&messages[2])["counts"],
            json!({ "person": 1, "match": 1, "miss": 0, "unknown": 0 })
        );
        assert!(messages[3].retained && messages[3].payload == b"1");
        assert_eq!(compatibility.passed(&settings, start + Duration::from_secs(29)), None);
        assert_eq!(compatibility.passed(&settings, start + PERSON_RESET).unwrap().payload, b"0");
        assert_eq!(compatibility.passed(&settings, start + PERSON_RESET * 2), None);
    }

    #[test]
    fn no_name_makes_a_topic_of_another_meaning() {
        let event = event(EventKind::Identified);
        let id = "01".repeat(16);
        for (name, topic) in
            [("John Smith", "John-Smith"), ("a/+#b", "ab"), ("unknown", &id), ("門", &id), ("é", &id)]
        {
            assert_eq!(topic_name(name, &event), topic, "{name}");
        }
    }

    #[test]
    fn faces_followed_are_bounded() {
        let (settings, mut compatibility) = (settings(), Compatibility::default());
        for track in 0..100 {
            compatibility.attempt(&settings, &Attempt { track: TrackId(track), ..attempt() }, None);
        }
        assert_eq!(compatibility.tracks.len(), MAXIMUM_TRACKS);
    }
}
