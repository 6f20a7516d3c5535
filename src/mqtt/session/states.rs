//! What is said besides events: who and how this device is, and what Home Assistant shows of it.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::super::inflight::Token;
use super::super::link::Message;
use super::super::{discovery, payload};
use super::Session;
use crate::live::{AttemptOutcome, Live};
use crate::status::Part;

/// Time for the broker to send what Home Assistant was told before.
const READ_BACK: Duration = Duration::from_secs(1);
/// Health is not said more often than this, however often it changes.
const HEALTH_PAUSE: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// A retained state.
    pub(super) fn state(&self, topic: String, payload: Vec<u8>) -> Message {
        Message { topic, payload, acknowledged: true, retained: true, ..Message::default() }
    }

    /// A state that must not outlive what it names.
    fn passing(&self, topic: String, payload: Vec<u8>) -> Message {
        Message { topic, payload, acknowledged: true, ..Message::default() }
    }

    fn say(&mut self, message: Message) {
        if self.outgoing.push_state(message).is_err() {
            self.dropped();
        }
    }

    /// The first words on a new connection.
    pub(super) fn greet(&mut self, now: Instant) {
        self.memory.deaf_until.take_if(|until| *until <= now);
        self.subscribe_at = Some(self.memory.deaf_until.unwrap_or(now));
        if self.memory.deaf_until.is_none() {
            self.parts.status.working(Part::Broker);
        }
        if self.topics.discovery().is_some() {
            self.announce_at = Some(now + READ_BACK);
        }
        let message = self.state(self.topics.availability(), b"online".to_vec());
        self.say(message);
        let settings = &self.parts.settings;
        let info = payload::info(&settings.device, settings.protocol.as_str(), settings.commands);
        let message = self.state(self.topics.info(), info);
        self.say(message);
        self.say_states();
        if let Some(message) = self.memory.compatibility.nobody(settings) {
            self.push(message, Token::Other);
        }
    }

    pub(super) fn subscribe(&mut self) {
        let mut filters = Vec::new();
        if self.parts.settings.commands {
            filters.extend([self.topics.requests(), self.topics.set_face_unlock(), self.topics.set_lock()]);
        }
        filters.extend(self.topics.home_assistant_status().map(str::to_owned));
        if self.announce_at.is_some() {
            filters.extend(self.topics.discovery().map(str::to_owned));
        }
        if filters.is_empty() {
            return;
        }
        if self.client.subscribe(&filters).is_err() {
            self.subscribe_at = Some(Instant::now());
        } else if self.memory.deaf_until.take().is_some() {
            self.parts.status.working(Part::Broker);
        }
    }

    /// Every state, as it is now.
    pub(super) fn say_states(&mut self) {
        let update = payload::update(self.parts.settings.device.version);
        for (topic, payload) in [
            (self.topics.occupancy(), payload::on_off(self.memory.faces > 0)),
            (self.topics.update(), update),
        ] {
            let message = self.state(topic, payload);
            self.say(message);
        }
        self.say_door();
        self.say_face_unlock();
        self.seen = self.memory.last_seen.keys().copied().collect();
        self.last_face_is_due = true;
        self.say_picture();
    }

    /// How the door is. A device without relay and contact has none to tell about.
    pub(super) fn say_door(&mut self) {
        let Some(door) = &self.parts.hooks.door else {
            let message = self.state(self.topics.door_availability(), b"offline".to_vec());
            return self.say(message);
        };
        let state = door.state().borrow().clone();
        let there = state.relay || state.open.is_some();
        let mut said = vec![
            (self.topics.door_availability(), if there { b"online".to_vec() } else { b"offline".to_vec() }),
            (self.topics.door_state(), payload::bytes(&state)),
        ];
        if state.relay {
            let lock: &[u8] = if state.unlocked { b"UNLOCKED" } else { b"LOCKED" };
            said.push((self.topics.door_lock(), lock.to_vec()));
        }
        if let Some(open) = state.open {
            said.push((self.topics.door_contact(), payload::on_off(open)));
        }
        for (topic, payload) in said {
            let message = self.state(topic, payload);
            self.say(message);
        }
    }

    pub(super) fn say_face_unlock(&mut self) {
        let on = *self.parts.store.face_unlock().borrow();
        let message = self.state(self.topics.face_unlock(), payload::on_off(on));
        self.say(message);
    }

    /// Who was seen last, and when each subject that wants it told was.
    pub(super) fn say_last_visits(&mut self) {
        let gallery = self.parts.store.gallery().current();
        if std::mem::take(&mut self.last_face_is_due) {
            let last = self.memory.last_face;
            let name = last.and_then(|(subject, _)| gallery.subject(subject)).map(|s| s.name.as_str());
            let message = self.passing(self.topics.last_face(), payload::last_face(last, name));
            self.say(message);
        }
        for subject in std::mem::take(&mut self.seen) {
            let announced = gallery.subject(subject).is_some_and(|subject| subject.announced);
            if let (Some(at), true) = (self.memory.last_seen.get(&subject).copied(), announced) {
                let topic = self.topics.last_seen(&subject.to_string());
                let message = self.passing(topic, payload::last_seen(subject, at));
                self.say(message);
            }
        }
    }

    pub(super) fn say_picture(&mut self) {
        if self.parts.settings.pictures
            && let Some(url) = self.memory.picture.and_then(|event| (self.parts.hooks.picture_url)(event))
        {
            let message = self.passing(self.topics.picture(), url.into_bytes());
            self.say(message);
        }
    }

    pub(super) fn say_health(&mut self, now: Instant) {
        self.health_at = now + self.parts.timing.health_every;
        self.health_earliest = now + HEALTH_PAUSE;
        let message = Message {
            topic: self.topics.health(),
            payload: payload::bytes(&(self.parts.hooks.health)()),
            expiry_s: Some(discovery::HEALTH_EXPIRES_S),
            ..Message::default()
        };
        self.say(message);
    }

    /// Somebody was enrolled, erased or renamed.
    pub(super) fn gallery_changed(&mut self) {
        let gallery = self.parts.store.gallery().current();
        self.memory.forget_erased(&gallery);
        self.last_face_is_due = true;
        if self.announce_at.is_none() {
            self.announce();
        }
    }

    /// Now that it is known, or can no longer be hoped to be known, what was announced before.
    pub(super) fn first_announcement(&mut self) {
        self.announce();
        if let Some(topic) = self.topics.discovery()
            && self.client.unsubscribe(topic).is_err()
        {
            tracing::debug!("no room to end a subscription; what comes of it is ignored");
        }
    }

    /// Tells Home Assistant of every entity, where that has changed.
    pub(super) fn announce(&mut self) {
        let Some(topic) = self.topics.discovery().map(str::to_owned) else { return };
        let parts = self.parts;
        let subjects = parts.store.gallery().current();
        let message = discovery::message(&parts.settings, &self.topics, subjects.subjects());
        let text = message.to_string();
        if self.announced_text.as_ref() == Some(&text) {
            return;
        }
        if let Some(removing) = discovery::removing(&message, &self.announced) {
            let message = self.state(topic.clone(), payload::bytes(&removing));
            self.push(message, Token::Other);
        }
        let retained = self.state(topic, text.clone().into_bytes());
        self.push(retained, Token::Other);
        self.announced = discovery::announced(&message);
        self.announced_text = Some(text);
    }

    pub(super) fn live(&mut self, live: Result<Live, RecvError>) {
        let before = self.memory.faces > 0;
        let attempt = self.memory.hear(live, self.parts);
        let now = self.memory.faces > 0;
        if before != now {
            let message = self.state(self.topics.occupancy(), payload::on_off(now));
            self.say(message);
        }
        let Some(attempt) = attempt else { return };
        let gallery = self.parts.store.gallery().current();
        let name = match attempt.outcome {
            AttemptOutcome::Match { subject, .. } => gallery.subject(subject).map(|s| s.name.as_str()),
            AttemptOutcome::NoMatch { .. } | AttemptOutcome::Inconclusive(_) => None,
        };
        for message in self.memory.compatibility.attempt(&self.parts.settings, &attempt, name) {
            self.push(message, Token::Other);
        }
    }
}
