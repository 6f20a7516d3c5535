//! What is said on each topic. Pure: an event, a name and the time become bytes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::settings::DeviceIdentity;
use crate::clock::{UnixMillis, rfc3339};
use crate::door::record::DoorRecord;
use crate::event_store::{EventId, RecordedEvent};
use crate::gallery::SubjectId;

/// An event on `event`, `event/late` or `doorbell`.
#[derive(Serialize)]
struct EventMessage<'e> {
    event_type: &'static str,
    id: EventId,
    sequence: u64,
    device: &'e str,
    captured_at: String,
    decided_at: String,
    published_at: String,
    expires_at: String,
    expired: bool,
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    track: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reasons: &'e BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    door: Option<&'e DoorRecord>,
    face_unlock: bool,
}

/// How a number is written: four decimals are more than any of these is good for.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 10_000.0).round() / 10_000.0
}

/// What goes into a message besides the event.
pub(super) struct Saying<'s> {
    pub(super) device: &'s str,
    /// Under which the subject is known now.
    pub(super) name: Option<&'s str>,
    pub(super) now: UnixMillis,
    pub(super) expired: bool,
    pub(super) face_unlock: bool,
}

pub(super) fn event(event: &RecordedEvent, saying: &Saying<'_>) -> Vec<u8> {
    let of_a_face = event.kind.is_recognition();
    let message = EventMessage {
        event_type: event.kind.name(),
        id: event.id,
        sequence: event.sequence,
        device: saying.device,
        captured_at: rfc3339(event.captured_at),
        decided_at: rfc3339(event.decided_at),
        published_at: rfc3339(saying.now),
        expires_at: rfc3339(event.expires_at),
        expired: saying.expired,
        latency_ms: (f64::from(event.latency_ms) * 10.0).round() / 10.0,
        track: event.track,
        subject: event.subject.map(|subject| subject.to_string()),
        name: saying.name,
        score: event.score.map(rounded),
        margin: event.margin.map(rounded),
        quality: event.quality.map(rounded),
        looks: of_a_face.then_some(event.looks),
        probes: of_a_face.then_some(event.probes),
        seen_ms: event.seen_ms,
        verdict: event.verdict.as_deref(),
        reason: event.reason.as_deref(),
        reasons: &event.reasons,
        door: event.door.as_ref(),
        face_unlock: saying.face_unlock,
    };
    bytes(&message)
}

/// `info`: what this device is. Retained, so nothing secret and no name of a subject.
pub(super) fn info(device: &DeviceIdentity, protocol: &str, commands: bool) -> Vec<u8> {
    let mut info = serde_json::to_value(device).unwrap_or_default();
    info["software"] = json!("limen");
    info["mqtt"] = json!(protocol);
    info["commands"] = json!(commands);
    bytes(&info)
}

/// `state/last_face`: who was identified last; with neither subject nor name when that subject has been
/// erased, or nobody was identified since the start.
pub(super) fn last_face(last: Option<(SubjectId, UnixMillis)>, name: Option<&str>) -> Vec<u8> {
    bytes(&match (last, name) {
        (Some((subject, seen_at)), Some(name)) => {
            json!({ "subject": subject.to_string(), "name": name, "seen_at": rfc3339(seen_at) })
        }
        _ => json!({ "subject": null, "name": null, "seen_at": null }),
    })
}

/// `subject/ID/last_seen`.
pub(super) fn last_seen(subject: SubjectId, seen_at: UnixMillis) -> Vec<u8> {
    bytes(&json!({ "subject": subject.to_string(), "seen_at": rfc3339(seen_at) }))
}

/// `state/update`. Nothing here looks for newer versions, so none is named.
pub(super) fn update(version: &str) -> Vec<u8> {
    bytes(&json!({ "installed_version": version, "title": "limen" }))
}

/// An answer to a command.
pub(super) fn answer(transaction: Option<&str>, result: &Result<Value, String>) -> Vec<u8> {
    bytes(&match result {
        Ok(Value::Null) => json!({ "transaction": transaction, "status": "ok" }),
        Ok(data) => json!({ "transaction": transaction, "status": "ok", "data": data }),
        Err(error) => json!({ "transaction": transaction, "status": "error", "error": error }),
    })
}

pub(super) fn on_off(on: bool) -> Vec<u8> {
    if on { b"ON".to_vec() } else { b"OFF".to_vec() }
}

pub(super) fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and maps with text keys are always JSON")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock::Monotonic;
    use crate::event_store::{Age, EventKind};

    pub(in crate::mqtt) fn identified(sequence: u64) -> RecordedEvent {
        RecordedEvent {
            sequence,
            id: EventId::parse("01938c5e-7a5b-7cc1-8000-000000000001").unwrap(),
            kind: EventKind::Identified,
            track: Some(3),
            captured_at: UnixMillis(1_795_406_706_000),
            decided_at: UnixMillis(1_795_406_706_041),
            expires_at: UnixMillis(1_795_406_716_000),
            latency_ms: 41.3,
            subject: Some(SubjectId::from_bytes([1; 16])),
            score: Some(0.7),
            margin: None,
            quality: Some(0.81),
            looks: 4,
            probes: 2,
            seen_ms: None,
            verdict: None,
            reason: None,
            reasons: BTreeMap::new(),
            published_at: None,
            has_crop: false,
            door: None,
            age: Age::ThisBoot(Monotonic::default()),
        }
    }

    fn said(event: &RecordedEvent, name: Option<&str>) -> Value {
        let saying = Saying {
            device: "door",
            name,
            now: UnixMillis(1_795_406_706_055),
            expired: false,
            face_unlock: true,
        };
        serde_json::from_slice(&super::event(event, &saying)).unwrap()
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(UnixMillis(ms)), text);
        }
    }

    #[test]
    fn event_says_who_when_and_until_when() {
        let message = said(&identified(7), Some("Ada"));
        assert_eq!(message["event_type"], "identified");
        assert_eq!(message["name"], "Ada");
        assert_eq!(message["subject"], "01".repeat(16));
        assert_eq!(message["captured_at"], "2026-11-23T04:05:06.000Z");
        assert_eq!(message["published_at"], "2026-11-23T04:05:06.055Z");
        assert_eq!(message["expires_at"], "2026-11-23T04:05:16.000Z");
        assert_eq!((&message["score"], &message["latency_ms"]), (&json!(0.7), &json!(41.3)));
        assert!(message.get("margin").is_none() && message.get("reasons").is_none());
    }

    #[test]
    fn event_of_an_erased_subject_has_no_name() {
        let mut event = identified(7);
        event.subject = None;
        let message = said(&event, None);
        assert!(message.get("name").is_none() && message.get("subject").is_none());
    }

    #[test]
    fn last_face_of_an_erased_subject_is_nobody() {
        let last = Some((SubjectId::from_bytes([1; 16]), UnixMillis(0)));
        let message: Value = serde_json::from_slice(&last_face(last, None)).unwrap();
        assert_eq!(message, json!({ "subject": null, "name": null, "seen_at": null }));
    }
}
