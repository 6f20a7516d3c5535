//! Every topic, by name. Pure.

/// The topics of one device, all below `PREFIX/ID/` but for Home Assistant's own.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    prefix: String,
    root: String,
    status: Option<String>,
    discovery: Option<String>,
}

/// What a message from the broker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inbound<'t> {
    /// `request/NAME`.
    Request(&'t str),
    /// Home Assistant's switch.
    FaceUnlock,
    /// Home Assistant's lock.
    Lock,
    /// Home Assistant starts or ends.
    HomeAssistant,
    /// What this device has announced before.
    Announcement,
    /// Nothing that was asked for.
    Other,
}

/// Home Assistant's identifiers of this device begin so.
pub(super) fn object_prefix(device: &str) -> String {
    format!("limen_{device}")
}

impl Topics {
    pub(super) fn new(prefix: &str, device: &str, home_assistant: Option<&str>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            root: format!("{prefix}/{device}"),
            status: home_assistant.map(|prefix| format!("{prefix}/status")),
            discovery: home_assistant
                .map(|prefix| format!("{prefix}/device/{}/config", object_prefix(device))),
        }
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.root)
    }

    pub(super) fn availability(&self) -> String {
        self.at("availability")
    }

    pub(super) fn info(&self) -> String {
        self.at("info")
    }

    pub(super) fn health(&self) -> String {
        self.at("health")
    }

    pub(super) fn event(&self) -> String {
        self.at("event")
    }

    pub(super) fn late_event(&self) -> String {
        self.at("event/late")
    }

    pub(super) fn doorbell(&self) -> String {
        self.at("doorbell")
    }

    pub(super) fn occupancy(&self) -> String {
        self.at("state/occupancy")
    }

    pub(super) fn last_face(&self) -> String {
        self.at("state/last_face")
    }

    pub(super) fn face_unlock(&self) -> String {
        self.at("state/face_unlock")
    }

    pub(super) fn update(&self) -> String {
        self.at("state/update")
    }

    pub(super) fn picture(&self) -> String {
        self.at("picture/url")
    }

    pub(super) fn last_seen(&self, subject: &str) -> String {
        self.at(&format!("subject/{subject}/last_seen"))
    }

    pub(super) fn door_availability(&self) -> String {
        self.at("door/availability")
    }

    pub(super) fn door_contact(&self) -> String {
        self.at("door/contact")
    }

    /// How the door is, whole.
    pub(super) fn door_state(&self) -> String {
        self.at("door/state")
    }

    /// Who may enter and who not, and alarms.
    pub(super) fn door_event(&self) -> String {
        self.at("door/event")
    }

    pub(super) fn door_lock(&self) -> String {
        self.at("door/lock")
    }

    pub(super) fn set_face_unlock(&self) -> String {
        self.at("face_unlock/set")
    }

    pub(super) fn set_lock(&self) -> String {
        self.at("lock/set")
    }

    pub(super) fn requests(&self) -> String {
        self.at("request/+")
    }

    /// Where a command is answered. The name comes from outside, so it is used only where it could be
    /// one of a command.
    pub(super) fn response(&self, command: &str) -> String {
        let plain = !command.is_empty()
            && command.len() <= 32
            && command.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        self.at(&format!("response/{}", if plain { command } else { "error" }))
    }

    /// Whether an answer may go to a topic that the caller names. Else this device would say on other
    /// devices' topics, in its own name, whatever a caller likes.
    pub(super) fn may_answer_on(&self, topic: &str) -> bool {
        let below = |prefix: &str| topic.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let own = self.at("response/");
        let ours = below(&self.prefix);
        let home_assistant = self.status.as_ref().and_then(|s| s.strip_suffix("/status")).is_some_and(below);
        !topic.is_empty()
            && topic.len() <= 256
            && !topic.starts_with('$')
            && !topic.contains(['+', '#', '\0'])
            && (topic.starts_with(&own) || !(ours || home_assistant))
    }

    pub(super) fn home_assistant_status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    pub(super) fn discovery(&self) -> Option<&str> {
        self.discovery.as_deref()
    }

    pub(super) fn inbound<'t>(&self, topic: &'t str) -> Inbound<'t> {
        if Some(topic) == self.home_assistant_status() {
            return Inbound::HomeAssistant;
        }
        if Some(topic) == self.discovery() {
            return Inbound::Announcement;
        }
        match topic.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix('/')) {
            Some("face_unlock/set") => Inbound::FaceUnlock,
            Some("lock/set") => Inbound::Lock,
            Some(rest) => rest.strip_prefix("request/").map_or(Inbound::Other, Inbound::Request),
            None => Inbound::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new("limen", "door", Some("homeassistant"))
    }

    #[test]
    fn topics_from_the_broker_are_told_apart() {
        let topics = topics();
        assert_eq!(topics.inbound("limen/door/request/ring"), Inbound::Request("ring"));
        assert_eq!(topics.inbound("limen/door/face_unlock/set"), Inbound::FaceUnlock);
        assert_eq!(topics.inbound("limen/door/lock/set"), Inbound::Lock);
        assert_eq!(topics.inbound("homeassistant/status"), Inbound::HomeAssistant);
        assert_eq!(topics.inbound("homeassistant/device/limen_door/config"), Inbound::Announcement);
        for other in ["limen/door2/request/ring", "limen/door", "limen/doorrequest/ring", ""] {
            assert_eq!(topics.inbound(other), Inbound::Other, "{other}");
        }
    }

    #[test]
    fn answer_goes_to_no_topic_made_of_foreign_text() {
        let topics = topics();
        assert_eq!(topics.response("ring"), "limen/door/response/ring");
        for bad in ["", "a/b", "Ring", "+", &"x".repeat(33)] {
            assert_eq!(topics.response(bad), "limen/door/response/error", "{bad}");
        }
    }

    #[test]
    fn caller_cannot_have_the_device_speak_to_other_devices() {
        let topics = topics();
        for good in ["limen/door/response/ring", "callers/7/answers"] {
            assert!(topics.may_answer_on(good), "{good}");
        }
        for bad in [
            "",
            "limen/other/request/face_unlock",
            "limen/door/availability",
            "homeassistant/device/x/config",
            "$SYS/x",
            "a/+",
            "a/#",
            &"x".repeat(257),
        ] {
            assert!(!topics.may_answer_on(bad), "{bad}");
        }
    }
}
