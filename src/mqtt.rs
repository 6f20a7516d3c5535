//! The broker: events out, commands in, Home Assistant's entities.
//!
//! Owned here: the connection and everything said over it. Not here: what has been delivered, which
//! the outbox of [`crate::event_store`] knows. Two tasks: `mqtt-poll` moves the client and does nothing
//! else; `mqtt-publish`, which is [`run`], is the only one that publishes. [`run`] is a loop around
//! one connection: a broker that is away, or refuses this device, is a degraded state that is told
//! and tried again, never the end of the program.
//!
//! Every topic and payload is documented in `docs/mqtt.md` and `docs/mqtt.schema.json`.

mod backoff;
mod failure;
mod inflight;
mod link;
mod payload;
mod secrets;
mod settings;
mod stats;
mod tls;
mod topics;

use std::sync::Arc;

pub use settings::{DeviceIdentity, MqttSettings, TlsFiles, is_id};
pub use stats::{CommandOutcome, Counter, MqttStats};

/// Called whenever a task has moved.
pub type Beat = Arc<dyn Fn() + Send + Sync>;
