//! Events from the store to the broker, in order, and their acknowledgements back.

use tokio::time::Instant;

use super::super::inflight::Token;
use super::super::link::Message;
use super::super::memory::Told;
use super::super::payload::{self, Saying};
use super::{BATCH, Session};
use crate::event_store::{Age, EventKind, RecordedEvent};
use crate::status::Part;

impl Session<'_> {
    pub(super) fn acknowledged(&mut self, packet: u16, refused: Option<String>) {
        let Some(token) = self.flight.acknowledged(packet) else { return };
        match (token, refused) {
            (Token::Event { sequence, expired, captured }, None) => {
                self.memory.acknowledged.push((sequence, expired));
                let stats = &self.parts.stats;
                if expired {
                    stats.late.add(1)
                } else {
                    stats.acknowledged.add(1)
                }
                if let (Some(captured), false) = (captured, expired) {
                    (self.parts.hooks.published)(self.parts.clock.monotonic().since(captured));
                }
                if self.refused_until.is_none() && self.memory.deaf_until.is_none() {
                    self.parts.status.working(Part::Broker);
                }
            }
            (Token::Event { .. }, Some(reason)) => {
                self.parts.stats.refused.add(1);
                self.refused_until = Some(Instant::now() + self.parts.timing.refused_pause);
                let words = format!(
                    "broker {}: it refuses events ({reason}): permit this client to publish on {} in its access rules",
                    self.parts.settings.address(),
                    self.topics.event()
                );
                self.parts.status.degraded(Part::Broker, words);
            }
            (Token::Goodbye, _) => self.close(),
            (Token::Other, Some(reason)) => {
                if Told::first(&mut self.memory.told.publication) {
                    tracing::warn!(%reason, "the broker refuses a message: look at its access rules");
                }
            }
            (Token::Other, None) => {}
        }
    }

    /// Whether the next events are to be asked for.
    pub(super) fn wants_events(&self) -> bool {
        let asked = self.fetch_at.is_some() || self.refused_until.is_some();
        self.more && self.ready.len() < BATCH && !asked
    }

    /// Hands over what there is room for: first what waits, then events.
    pub(super) fn pump(&mut self, fetching: bool) {
        self.tell_store();
        loop {
            while let Some((message, token)) = self.outgoing.front() {
                if (message.acknowledged && !self.flight.has_room()) || self.client.publish(message).is_err()
                {
                    return;
                }
                if message.acknowledged {
                    self.flight.submitted(*token);
                }
                self.outgoing.pop();
            }
            if self.refused_until.is_some() || !self.flight.has_room() {
                return;
            }
            let Some(event) = self.ready.pop_front() else { break };
            if !self.submit(&event) {
                self.ready.push_front(event);
                return;
            }
        }
        // While a backlog goes out, only its last face matters.
        if !fetching && !self.more {
            self.say_last_visits();
        }
    }

    /// Sends one event; false when there is no room.
    fn submit(&mut self, event: &RecordedEvent) -> bool {
        let parts = self.parts;
        let (monotonic, wall) = (parts.clock.monotonic(), parts.clock.wall());
        let left = event.remaining(monotonic);
        let gallery = parts.store.gallery().current();
        let name =
            event.subject.and_then(|subject| gallery.subject(subject)).map(|subject| subject.name.as_str());
        let saying = Saying {
            device: &parts.settings.device.id,
            name,
            now: wall,
            expired: left.is_none(),
            face_unlock: *parts.store.face_unlock().borrow(),
        };
        let topic = match (left, event.kind) {
            (None, _) => self.topics.late_event(),
            (Some(_), EventKind::Ring) => self.topics.doorbell(),
            (Some(_), kind) if !kind.is_recognition() => self.topics.door_event(),
            (Some(_), _) => self.topics.event(),
        };
        let message = Message {
            topic,
            payload: payload::event(event, &saying),
            acknowledged: true,
            expiry_s: left.map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1)),
            ..Message::default()
        };
        if self.client.publish(&message).is_err() {
            return false;
        }
        let captured = match event.age {
            Age::ThisBoot(captured) => Some(captured),
            Age::EarlierBoot => None,
        };
        self.flight.submitted(Token::Event { sequence: event.sequence, expired: left.is_none(), captured });
        if event.sequence <= self.memory.highest {
            parts.stats.repeated.add(1);
        }
        self.memory.highest = self.memory.highest.max(event.sequence);
        if self.memory.note(event) {
            self.last_face_is_due = true;
            self.seen.extend(event.subject);
        }
        if left.is_some() {
            for message in self.memory.compatibility.event(&parts.settings, event, name, monotonic) {
                self.push(message, Token::Other);
            }
            if event.has_crop && parts.settings.pictures {
                self.memory.picture = Some(event.id);
                self.say_picture();
            }
        }
        true
    }

    /// Passes acknowledgements on, many at a time while there are many: each time is a transaction. What
    /// the store has no room for is said again.
    fn tell_store(&mut self) {
        let in_a_row = self.flight.has_events() && self.memory.acknowledged.len() < BATCH / 2;
        if !in_a_row {
            self.memory.tell(&self.parts.store);
        }
    }
}
