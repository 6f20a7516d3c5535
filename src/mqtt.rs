//! The broker: events out, commands in, Home Assistant's entities.
//!
//! Owned here: the connection and everything said over it. Not here: what has been delivered, which
//! the outbox of [`crate::event_store`] knows. Two tasks: `mqtt-poll` moves the client and does nothing
//! else; `mqtt-publish`, which is [`run`], is the only one that publishes. [`run`] is a loop around
//! one connection: a broker that is away, or refuses this device, is a degraded state that is told
//! and tried again, never the end of the program.
//!
//! Every topic and payload is documented in `docs/mqtt.md` and `docs/mqtt.schema.json`.

mod commands;
mod compatibility;
mod discovery;
mod failure;
mod inflight;
mod link;
mod memory;
mod orders;
mod outgoing;
mod payload;
mod probe;
pub(crate) mod secrets;
mod session;
mod settings;
mod stats;
mod tls;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, random_fraction};
use crate::clock::Clock;
use crate::door::thread::DoorHandle;
use crate::event_store::{EventId, StoreHandle};
use crate::live::LiveChannel;
use crate::status::{Part, Status};

pub use commands::CommandRequest;
pub use probe::probe;
pub use settings::{DeviceIdentity, MqttSettings, TlsFiles, is_id};
pub use stats::{CommandOutcome, Counter, MqttStats};

use memory::Memory;
use session::End;

/// Called whenever a task has moved, at least once a second.
pub type Beat = Arc<dyn Fn() + Send + Sync>;

/// A connection that held this long was a good one.
const STEADY: Duration = Duration::from_secs(10);
/// Both tasks show a sign of life that often.
const BEAT: Duration = Duration::from_millis(250);

/// What the tasks need of the rest of the daemon.
pub struct MqttParts {
    /// Where the broker is and what is said there.
    pub settings: MqttSettings,
    /// Events, the outbox, the gallery, face unlock.
    pub store: StoreHandle,
    /// Presence and attempts.
    pub live: LiveChannel,
    /// Where the broker's condition is told, and everybody's is read.
    pub status: Status,
    /// Freshness is told by it.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub stats: Arc<MqttStats>,
    /// Calls into other parts.
    pub hooks: Hooks,
    /// How long things take.
    pub timing: Timing,
}

/// Calls into other parts. Cheap to clone; none of them may block.
#[derive(Clone)]
pub struct Hooks {
    /// `mqtt-poll` has moved.
    pub poll_beat: Beat,
    /// `mqtt-publish` has moved.
    pub publish_beat: Beat,
    /// What `health` says.
    pub health: Arc<dyn Fn() -> Value + Send + Sync>,
    /// A short-lived address of an event's picture.
    pub picture_url: Arc<dyn Fn(EventId) -> Option<String> + Send + Sync>,
    /// The broker acknowledged a fresh event, this long after its frame was captured.
    pub published: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Who carries out the commands that need the camera; without, they are answered with an error.
    pub commands: Option<mpsc::Sender<CommandRequest>>,
    /// The door, where there is one to tell about.
    pub door: Option<DoorHandle>,
}

/// How long things take. The default is what runs; tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// At the end, waiting events have so long to get out.
    pub flush: Duration,
    /// After Home Assistant has started, everything is said again within this time, at random.
    pub birth_delay: Duration,
    /// Between two reports of health.
    pub health_every: Duration,
    /// After the broker has refused an event, the next attempt comes so much later.
    pub refused_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            flush: Duration::from_secs(2),
            birth_delay: Duration::from_secs(10),
            health_every: Duration::from_secs(discovery::HEALTH_EVERY_S.into()),
            refused_pause: Duration::from_secs(5),
        }
    }
}

/// Why the tasks ended before they were told to.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MqttError {
    /// Without the store there is nothing to publish.
    #[error("mqtt: the event store has ended")]
    StoreEnded,
}

/// Keeps up a connection to the broker until cancelled: then waiting events are given a little time,
/// `offline` is said and the connection ended in order.
pub async fn run(parts: MqttParts, cancel: CancellationToken) -> Result<(), MqttError> {
    let mut memory = Memory::new(parts.live.listen());
    let mut backoff = Backoff::new();
    while !cancel.is_cancelled() {
        let started = Instant::now();
        match session::run_once(&parts, &mut memory, &cancel).await {
            End::Stopped => {
                memory.tell(&parts.store);
                return Ok(());
            }
            End::StoreEnded => return Err(MqttError::StoreEnded),
            End::Lost(failure) => {
                parts.stats.failures.add(1);
                let address = parts.settings.address();
                parts.status.degraded(Part::Broker, format!("broker {address}: {failure}"));
            }
        }
        backoff.lasted(started.elapsed(), STEADY);
        pause(&parts, &mut memory, &cancel, backoff.next_wait(random_fraction())).await;
    }
    memory.tell(&parts.store);
    Ok(())
}

/// Waits, and goes on listening to what goes on.
async fn pause(parts: &MqttParts, memory: &mut Memory, cancel: &CancellationToken, time: Duration) {
    let until = Instant::now() + time;
    let mut beats = beats();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sleep_until(until) => return,
            live = memory.live.recv() => drop(memory.hear(live, parts)),
            _ = beats.tick() => (parts.hooks.publish_beat)(),
        }
        // Between two connections the poll task has nothing to do, which is no reason to call it dead.
        (parts.hooks.poll_beat)();
    }
}

fn beats() -> tokio::time::Interval {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beats
}
