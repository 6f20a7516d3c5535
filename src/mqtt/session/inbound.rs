//! What comes from the broker: commands, Home Assistant's start, our own announcement.

use serde_json::Value;
use tokio::time::Instant;

use super::super::commands::{Command, Refusal, parse};
use super::super::inflight::Token;
use super::super::link::{Message, Received};
use super::super::memory::Told;
use super::super::orders::{Answer, Reply};
use super::super::stats::CommandOutcome;
use super::super::topics::Inbound;
use super::super::{discovery, payload};
use super::Session;
use crate::backoff::random_fraction;

const NOT_OVER_MQTT: &str = "this device does not let the broker open the door: mqtt.open_door is off";
/// Longest correlation data that is sent back, bytes.
const CORRELATION_BYTES: usize = 256;

impl Session<'_> {
    pub(super) fn received(&mut self, message: Received) {
        let topic = message.topic.clone();
        match self.topics.inbound(&topic) {
            // A retained one is from before we subscribed, and all has been said since then.
            Inbound::HomeAssistant => {
                if !message.retained && message.payload == b"online" && self.say_again_at.is_none() {
                    let delay = self.parts.timing.birth_delay.mul_f32(random_fraction());
                    self.say_again_at = Some(Instant::now() + delay);
                }
            }
            Inbound::Announcement => {
                if message.retained && self.announce_at.is_some() {
                    let before = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
                    self.announced = discovery::announced(&before);
                    self.announce_at = Some(Instant::now());
                }
            }
            Inbound::Other => {}
            Inbound::Request(_) | Inbound::FaceUnlock | Inbound::Lock if message.retained => {
                self.parts.stats.command(CommandOutcome::Retained);
                if Told::first(&mut self.memory.told.retained_command) {
                    tracing::warn!(
                        "a retained command is ignored: it would be carried out anew at every connection; publish \
                         commands without the retain flag"
                    );
                }
            }
            Inbound::Request(name) => self.request(name, message),
            Inbound::FaceUnlock => match message.payload.as_slice() {
                b"ON" => self.switch_face_unlock(true),
                b"OFF" => self.switch_face_unlock(false),
                _ => self.parts.stats.command(CommandOutcome::Malformed),
            },
            Inbound::Lock => match message.payload.as_slice() {
                b"UNLOCK" | b"OPEN" if self.opens() => {
                    if self.memory.gate.has_room(self.parts.clock.monotonic()) {
                        self.start(Command::OpenDoor, Some(self.lock_reply()));
                    } else {
                        self.parts.stats.command(CommandOutcome::RateLimited);
                    }
                }
                payload => {
                    let error = match payload {
                        b"LOCK" => "the door locks by itself",
                        _ if self.parts.hooks.door.is_none() => "there is no lock on this device",
                        _ => NOT_OVER_MQTT,
                    };
                    let refusal = Refusal {
                        transaction: None,
                        outcome: CommandOutcome::Failed,
                        error: error.to_owned(),
                    };
                    self.refuse(refusal, self.lock_reply());
                }
            },
        }
    }

    /// Home Assistant gives no transaction with what it asks of a lock.
    fn lock_reply(&self) -> Reply {
        Reply { topic: self.topics.response("lock"), transaction: None, correlation: None }
    }

    fn request(&mut self, name: &str, message: Received) {
        let named = message.response_topic.filter(|topic| self.topics.may_answer_on(topic));
        let mut reply = Reply {
            topic: named.unwrap_or_else(|| self.topics.response(name)),
            transaction: None,
            correlation: message.correlation.filter(|data| data.len() <= CORRELATION_BYTES),
        };
        let now = self.parts.clock.monotonic();
        let order = parse(name, &message.payload).and_then(|order| self.memory.gate.admit(order, now));
        match order {
            Ok(order) if matches!(order.command, Command::OpenDoor | Command::Pin(_)) && !self.opens() => {
                let refusal = Refusal {
                    transaction: Some(order.transaction),
                    outcome: CommandOutcome::Failed,
                    error: NOT_OVER_MQTT.to_owned(),
                };
                self.refuse(refusal, reply);
            }
            Ok(order) => {
                reply.transaction = Some(order.transaction);
                self.start(order.command, Some(reply));
            }
            Err(refusal) => self.refuse(refusal, reply),
        }
    }

    /// Whether the broker may open the door.
    fn opens(&self) -> bool {
        self.parts.settings.open_door && self.parts.hooks.door.is_some()
    }

    fn switch_face_unlock(&mut self, on: bool) {
        if self.memory.gate.has_room(self.parts.clock.monotonic()) {
            self.start(Command::FaceUnlock(on), None);
        } else {
            self.parts.stats.command(CommandOutcome::RateLimited);
        }
    }

    fn start(&mut self, command: Command, reply: Option<Reply>) {
        if self.orders.has_room() {
            self.orders.start(command, reply, self.parts.store.clone(), self.parts.hooks.clone());
        } else {
            self.answered(Answer { reply, result: Err("the device is busy; try again".to_owned()) });
        }
    }

    fn refuse(&mut self, refusal: Refusal, mut reply: Reply) {
        self.parts.stats.command(refusal.outcome);
        if self.memory.gate.may_refuse(self.parts.clock.monotonic()) {
            reply.transaction = refusal.transaction;
            self.answer(reply, &Err(refusal.error));
        }
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        let outcome = if answer.result.is_ok() { CommandOutcome::Done } else { CommandOutcome::Failed };
        self.parts.stats.command(outcome);
        match (answer.reply, answer.result) {
            (Some(reply), result) => self.answer(reply, &result),
            (None, Err(error)) => {
                tracing::warn!(%error, "a command could not be carried out");
                // What is shown of it elsewhere is set right.
                self.say_face_unlock();
            }
            (None, Ok(_)) => {}
        }
    }

    fn answer(&mut self, reply: Reply, result: &Result<Value, String>) {
        let message = Message {
            topic: reply.topic,
            payload: payload::answer(reply.transaction.as_deref(), result),
            acknowledged: true,
            correlation: reply.correlation,
            ..Message::default()
        };
        self.push(message, Token::Other);
    }
}
