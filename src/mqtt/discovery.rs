//! What Home Assistant is told about this device: one message that holds every entity. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::settings::MqttSettings;
use super::topics::{Topics, object_prefix};
use crate::gallery::GallerySubject;

/// Subjects with a sensor of their own at most, and bytes that all entities together may take: the
/// message has to stay small enough to be read back.
pub(super) const MAXIMUM_SUBJECTS: usize = 100;
const COMPONENT_BYTES: usize = 56 * 1024;
/// Entities taken from a message that was read back.
const MAXIMUM_READ: usize = 512;
/// Seconds between two reports of health.
pub(super) const HEALTH_EVERY_S: u32 = 30;
/// Three reports missed.
pub(super) const HEALTH_EXPIRES_S: u32 = 3 * HEALTH_EVERY_S;

/// Entities by key, with the platform of each.
pub(super) type Announced = BTreeMap<String, String>;

/// The message on `PREFIX/device/ID/config`.
pub(super) fn message(settings: &MqttSettings, topics: &Topics, subjects: &[GallerySubject]) -> Value {
    let device = &settings.device;
    let mut about = json!({
        "identifiers": [object_prefix(&device.id)],
        "name": device.name,
        "manufacturer": "limen",
        "model": "Face recognition",
        "sw_version": device.version,
    });
    if let Some(board) = &device.board {
        about["hw_version"] = json!(board);
    }
    if let Some(url) = &device.url {
        about["configuration_url"] = json!(url);
    }
    json!({
        "device": about,
        "origin": { "name": "limen", "sw_version": device.version },
        "availability": [{ "topic": topics.availability() }],
        "qos": 1,
        "components": Builder { settings, topics, components: Map::new() }.all(subjects),
    })
}

/// Which entities a message announces; one that is not ours to understand announces none.
pub(super) fn announced(message: &Value) -> Announced {
    let plain = |text: &str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let components = message["components"].as_object().into_iter().flatten();
    components
        .filter_map(|(key, component)| Some((key, component["platform"].as_str()?)))
        .filter(|(key, platform)| plain(key) && plain(platform))
        .map(|(key, platform)| (key.clone(), platform.to_owned()))
        .take(MAXIMUM_READ)
        .collect()
}

/// The message by which Home Assistant removes entities: they stand in it with nothing but their
/// platform. The plain message has to follow it. None where there is nothing to remove.
pub(super) fn removing(message: &Value, before: &Announced) -> Option<Value> {
    let now = message["components"].as_object()?;
    let gone: Vec<_> = before.iter().filter(|(key, _)| !now.contains_key(*key)).collect();
    let mut message = message.clone();
    for (key, platform) in &gone {
        message["components"][key.as_str()] = json!({ "platform": platform });
    }
    (!gone.is_empty()).then_some(message)
}

struct Builder<'a> {
    settings: &'a MqttSettings,
    topics: &'a Topics,
    components: Map<String, Value>,
}

impl Builder<'_> {
    fn add(&mut self, key: &str, platform: &str, name: &str, rest: Value) {
        let device = &self.settings.device.id;
        let entity: String = format!("{device}_{key}").to_lowercase().replace('-', "_");
        let mut component = json!({
            "platform": platform,
            "unique_id": format!("{}_{key}", object_prefix(device)),
            "default_entity_id": format!("{platform}.{entity}"),
            "name": name,
        });
        if let (Some(component), Value::Object(rest)) = (component.as_object_mut(), rest) {
            component.extend(rest);
        }
        self.components.insert(key.to_owned(), component);
    }

    fn all(mut self, subjects: &[GallerySubject]) -> Map<String, Value> {
        self.recognition();
        self.door();
        self.diagnostics();
        let mut bytes = Value::Object(self.components.clone()).to_string().len();
        for subject in subjects.iter().filter(|subject| subject.announced).take(MAXIMUM_SUBJECTS) {
            let id = subject.id.to_string();
            let rest = json!({
                "state_topic": self.topics.last_seen(&id),
                "value_template": "{{ value_json.seen_at }}",
                "device_class": "timestamp",
                "icon": "mdi:account-clock",
            });
            let key = format!("subject_{id}");
            self.add(&key, "sensor", &format!("{} last seen", subject.name.as_str()), rest);
            bytes += key.len() + 4 + self.components[&key].to_string().len();
            if bytes > COMPONENT_BYTES {
                self.components.remove(&key);
                break;
            }
        }
        self.components
    }

    fn recognition(&mut self) {
        let topics = self.topics;
        let events = json!({
            "state_topic": topics.event(),
            "event_types": ["identified", "unknown", "ended"],
            "icon": "mdi:face-recognition",
        });
        self.add("face", "event", "Face", events);
        let doorbell = json!({
            "state_topic": topics.doorbell(),
            "event_types": ["ring"],
            "device_class": "doorbell",
        });
        self.add("doorbell", "event", "Doorbell", doorbell);
        let last = json!({
            "state_topic": topics.last_face(),
            "value_template": "{{ value_json.name }}",
            "json_attributes_topic": topics.last_face(),
            "icon": "mdi:face-man",
        });
        self.add("last_face", "sensor", "Last face", last);
        let occupancy = json!({ "state_topic": topics.occupancy(), "device_class": "occupancy" });
        self.add("occupancy", "binary_sensor", "Occupancy", occupancy);
        // Nothing is scanned by a stranger, nor when somebody leaves.
        let tag = json!({
            "topic": topics.event(),
            "value_template":
                "{{ value_json.subject if value_json.event_type == 'identified' else '' }}",
        });
        self.add("tag", "tag", "Tag", tag);
        if self.settings.pictures {
            self.add("picture", "image", "Picture", json!({ "url_topic": topics.picture() }));
        }
        let update = json!({
            "state_topic": topics.update(),
            "device_class": "firmware",
            "entity_category": "diagnostic",
        });
        self.add("update", "update", "Firmware", update);
    }

    fn door(&mut self) {
        let topics = self.topics;
        let availability = json!([
            { "topic": topics.availability() },
            { "topic": topics.door_availability() },
        ]);
        let contact = json!({
            "state_topic": topics.door_contact(),
            "device_class": "door",
            "availability": availability,
            "availability_mode": "all",
        });
        self.add("door", "binary_sensor", "Door", contact);
        let access = json!({
            "state_topic": topics.door_event(),
            "event_types": ["granted", "denied", "alarm"],
            "icon": "mdi:door",
        });
        self.add("access", "event", "Access", access);
        let alarm = json!({
            "state_topic": topics.door_state(),
            "value_template": "{{ 'ON' if value_json.alarms else 'OFF' }}",
            "json_attributes_topic": topics.door_state(),
            "device_class": "problem",
            "availability": availability,
            "availability_mode": "all",
        });
        self.add("door_alarm", "binary_sensor", "Door alarm", alarm);
        if !self.settings.commands {
            return;
        }
        let face_unlock = json!({
            "command_topic": topics.set_face_unlock(),
            "state_topic": topics.face_unlock(),
            "icon": "mdi:lock-smart",
        });
        self.add("face_unlock", "switch", "Face unlock", face_unlock);
        if !self.settings.open_door {
            return;
        }
        let lock = json!({
            "command_topic": topics.set_lock(),
            "state_topic": topics.door_lock(),
            "availability": availability,
            "availability_mode": "all",
        });
        self.add("lock", "lock", "Lock", lock);
    }

    fn diagnostics(&mut self) {
        for (key, name, template, rest) in [
            ("status", "Status", "{{ value_json.status }}", json!({})),
            ("camera", "Camera", "{{ value_json.parts.camera.state }}", json!({})),
            (
                "waiting",
                "Events waiting",
                "{{ value_json.outbox.waiting }}",
                json!({ "state_class": "measurement" }),
            ),
            (
                "uptime",
                "Uptime",
                "{{ value_json.uptime_s }}",
                json!({ "device_class": "duration", "unit_of_measurement": "s" }),
            ),
            (
                "memory",
                "Memory",
                "{{ (value_json.machine.memory_bytes / 1048576) | round(1) }}",
                json!({
                    "device_class": "data_size",
                    "unit_of_measurement": "MiB",
                    "state_class": "measurement",
                }),
            ),
            (
                "temperature",
                "Temperature",
                "{{ value_json.machine.temperature_c }}",
                json!({
                    "device_class": "temperature",
                    "unit_of_measurement": "°C",
                    "state_class": "measurement",
                }),
            ),
        ] {
            let mut sensor = json!({
                "state_topic": self.topics.health(),
                "value_template": template,
                "expire_after": HEALTH_EXPIRES_S,
                "entity_category": "diagnostic",
            });
            if let (Some(sensor), Value::Object(rest)) = (sensor.as_object_mut(), rest) {
                sensor.extend(rest);
            }
            self.add(key, "sensor", name, sensor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::gallery::{SubjectId, SubjectName};

    fn settings(commands: bool) -> MqttSettings {
        let mut config = Config::default();
        config.mqtt.host = Some("broker".to_owned());
        config.mqtt.commands = commands;
        config.device.name = "Front door".to_owned();
        MqttSettings::new(&config).unwrap()
    }

    fn subject(byte: u8, announced: bool) -> GallerySubject {
        let id = SubjectId::from_bytes([byte; 16]);
        GallerySubject { id, name: SubjectName::new("Ada").unwrap(), announced }
    }

    fn built(settings: &MqttSettings, subjects: &[GallerySubject]) -> Value {
        let topics = Topics::new(&settings.prefix, &settings.device.id, Some("homeassistant"));
        message(settings, &topics, subjects)
    }

    #[test]
    fn only_subjects_that_asked_for_it_get_a_sensor() {
        let message = built(&settings(true), &[subject(1, true), subject(2, false)]);
        let keys: Vec<_> =
            announced(&message).into_keys().filter(|key| key.starts_with("subject_")).collect();
        assert_eq!(keys, [format!("subject_{}", "01".repeat(16))]);
        let sensor = &message["components"][&keys[0]];
        assert_eq!(sensor["state_topic"], format!("limen/front-door/subject/{}/last_seen", "01".repeat(16)));
    }

    #[test]
    fn sensors_are_bounded_so_that_the_message_can_be_read_back() {
        let subjects: Vec<_> = (0..=255).map(|n| subject(n, true)).collect();
        let message = built(&settings(true), &subjects);
        let count = announced(&message).keys().filter(|key| key.starts_with("subject_")).count();
        assert_eq!(count, MAXIMUM_SUBJECTS);
        let long = SubjectName::new(&"😀".repeat(SubjectName::MAX_CHARS)).unwrap();
        let subjects: Vec<_> =
            subjects.into_iter().map(|s| GallerySubject { name: long.clone(), ..s }).collect();
        let bytes = built(&settings(true), &subjects).to_string().len();
        assert!(bytes < super::super::link::INCOMING_BYTES as usize, "{bytes}");
    }

    #[test]
    fn erased_subject_is_removed_by_its_platform_alone() {
        let settings = settings(true);
        let before = announced(&built(&settings, &[subject(1, true), subject(2, true)]));
        let now = built(&settings, &[subject(2, true)]);
        let key = format!("subject_{}", "01".repeat(16));
        let removal = removing(&now, &before).unwrap();
        assert_eq!(removal["components"][&key], json!({ "platform": "sensor" }));
        assert!(now["components"].get(&key).is_none());
        assert_eq!(removing(&now, &announced(&now)), None);
    }

    #[test]
    fn without_commands_there_is_nothing_to_switch() {
        let with = announced(&built(&settings(true), &[]));
        let without = announced(&built(&settings(false), &[]));
        let gone: Vec<_> = with.keys().filter(|key| !without.contains_key(*key)).collect();
        assert_eq!(gone, ["face_unlock"]);
    }

    #[test]
    fn foreign_message_in_the_place_of_ours_announces_nothing() {
        for text in
            ["null", "[]", "{}", r#"{"components":[1]}"#, r#"{"components":{"a":1,"b/c":{"platform":"x"}}}"#]
        {
            assert!(announced(&serde_json::from_str(text).unwrap()).is_empty(), "{text}");
        }
    }
}
