//! Checks payloads against `docs/mqtt.schema.json`.

use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::Value;

use super::Message;

const ADDRESS: &str = "https://limen.invalid/mqtt.schema.json";

/// What a payload of one definition is found to be.
pub(crate) fn check(definition: &str, payload: &Value) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mqtt.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(schema["$defs"].get(definition).is_some(), "there is no definition {definition}");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource(ADDRESS, schema).unwrap();
    let index = compiler.compile(&format!("{ADDRESS}#/$defs/{definition}"), &mut schemas).unwrap();
    schemas.validate(payload, index).map_err(|error| format!("{error:#}"))
}

/// The definition for a topic of the device `door`.
fn definition(topic: &str) -> Option<&'static str> {
    if let Some(rest) = topic.strip_prefix("homeassistant/") {
        return rest.starts_with("device/").then_some("ha_discovery");
    }
    if topic.starts_with("double-take/matches/") {
        return Some("double_take_match");
    }
    match topic {
        "frigate/tracked_object_update" => return Some("frigate_face"),
        "frigate/events" => return Some("frigate_event"),
        "double-take/cameras/door" => return Some("double_take_camera"),
        _ => {}
    }
    Some(match topic.strip_prefix("limen/door/")? {
        "availability" | "door/availability" => "availability",
        "info" => "info",
        "health" => "health",
        "event" => "event",
        "door/event" => "door_event",
        "door/state" => "door_state",
        "door/lock" => "door_lock",
        "event/late" => "late_event",
        "doorbell" => "doorbell",
        "state/occupancy" | "state/face_unlock" | "door/contact" => "on_off",
        "state/last_face" => "last_face",
        "state/update" => "update",
        rest if rest.starts_with("response/") => "response",
        rest if rest.ends_with("/last_seen") => "last_seen",
        "picture/url" => return None,
        rest if rest.starts_with("request/") || rest.ends_with("/set") => return None,
        other => panic!("the schema does not tell of {other}"),
    })
}

/// Checks every message of a device, and says how many that were.
#[track_caller]
pub(crate) fn check_all(messages: &[Message]) -> usize {
    let mut checked = 0;
    for message in messages {
        let Some(definition) = definition(&message.topic) else { continue };
        let payload = match definition {
            "availability" | "on_off" => Value::String(message.payload.clone()),
            _ => message.json(),
        };
        if let Err(error) = check(definition, &payload) {
            panic!("{} is not a {definition}: {error}\n{}", message.topic, message.payload);
        }
        checked += 1;
    }
    checked
}
