//! How the parts of the running daemon are doing: working, or degraded with a reason.
//!
//! A degraded part is one the daemon survives and recovers by itself: an unplugged camera, a broker that
//! is away, a full disk. Each is set by its owner, and read by the log, the notifications to
//! systemd, MQTT, the metrics and the health page. Changes are logged here, once each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::{Clock, UnixMillis};

/// A part that can be degraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Frames come in.
    Camera,
    /// The networks compute.
    Recognition,
    /// Events are written to the disk.
    Storage,
    /// The broker takes events.
    Broker,
    /// The web server answers.
    Http,
    /// Backups are made when they are due.
    Backup,
    /// The door's lines and policy can be used.
    Door,
    /// The display shows something.
    Display,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 8] = [
        Self::Camera,
        Self::Recognition,
        Self::Storage,
        Self::Broker,
        Self::Http,
        Self::Backup,
        Self::Door,
        Self::Display,
    ];

    /// Its name in messages, metrics and topics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Recognition => "recognition",
            Self::Storage => "storage",
            Self::Broker => "broker",
            Self::Http => "http",
            Self::Backup => "backup",
            Self::Door => "door",
            Self::Display => "display",
        }
    }
}

/// How one part is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Condition {
    /// Not known yet.
    Starting,
    /// As it should be.
    Working {
        /// Since when.
        since: UnixMillis,
    },
    /// Not as it should be; tried again.
    Degraded {
        /// Since when.
        since: UnixMillis,
        /// Why, and what to do about it.
        reason: String,
    },
    /// Not wanted by the configuration.
    Off,
}

/// The conditions of all parts, as of one moment.
pub type Conditions = BTreeMap<Part, Condition>;

/// The shared board. Cheap to clone.
#[derive(Clone)]
pub struct Status {
    parts: Arc<Mutex<Conditions>>,
    changes: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Status").field(&self.conditions()).finish()
    }
}

impl Status {
    /// Every part starting.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let parts = Part::ALL.map(|part| (part, Condition::Starting)).into();
        Self { parts: Arc::new(Mutex::new(parts)), changes: watch::Sender::new(0), clock }
    }

    /// The part works.
    pub fn working(&self, part: Part) {
        let since = self.clock.wall();
        self.set(part, Condition::Working { since });
    }

    /// The part does not work, for `reason`, which says what to do about it.
    pub fn degraded(&self, part: Part, reason: impl Into<String>) {
        let since = self.clock.wall();
        self.set(part, Condition::Degraded { since, reason: reason.into() });
    }

    /// The part is not wanted.
    pub fn off(&self, part: Part) {
        self.set(part, Condition::Off);
    }

    fn set(&self, part: Part, new: Condition) {
        let mut parts = self.lock();
        let old = parts.get(&part).expect("every part is on the board");
        let new = match (old, new) {
            (Condition::Working { .. }, Condition::Working { .. }) | (Condition::Off, Condition::Off) => {
                return;
            }
            (Condition::Degraded { reason: old, .. }, Condition::Degraded { reason, .. })
                if *old == reason =>
            {
                return;
            }
            // Another reason, but degraded for as long as before.
            (Condition::Degraded { since, .. }, Condition::Degraded { reason, .. }) => {
                Condition::Degraded { since: *since, reason }
            }
            (_, new) => new,
        };
        match &new {
            Condition::Degraded { reason, .. } => {
                tracing::warn!(part = part.name(), %reason, "degraded");
            }
            Condition::Working { .. } if matches!(old, Condition::Degraded { .. }) => {
                tracing::info!(part = part.name(), "working again");
            }
            _ => {}
        }
        parts.insert(part, new);
        drop(parts);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Conditions> {
        self.parts.lock().expect("no holder of this lock can panic")
    }

    /// All of them, now.
    pub fn conditions(&self) -> Conditions {
        self.lock().clone()
    }

    /// One of them, now.
    pub fn condition(&self, part: Part) -> Condition {
        self.lock().get(&part).expect("every part is on the board").clone()
    }

    /// Tells about every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::SimulatedClock;

    #[test]
    fn part_is_degraded_since_its_first_reason() {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(1_000)));
        let status = Status::new(clock.clone());
        status.working(Part::Camera);
        clock.advance(Duration::from_secs(1));
        status.degraded(Part::Camera, "unplugged");
        clock.advance(Duration::from_secs(1));
        status.degraded(Part::Camera, "no such device");
        let degraded = Condition::Degraded { since: UnixMillis(2_000), reason: "no such device".to_owned() };
        assert_eq!(status.condition(Part::Camera), degraded);
        status.working(Part::Camera);
        assert_eq!(status.condition(Part::Camera), Condition::Working { since: UnixMillis(3_000) });
    }

    #[test]
    fn what_stays_as_it_was_is_no_change() {
        let status = Status::new(Arc::new(SimulatedClock::new(UnixMillis(0))));
        let changes = status.changes();
        status.working(Part::Broker);
        status.working(Part::Broker);
        status.degraded(Part::Broker, "away");
        status.degraded(Part::Broker, "away");
        assert_eq!(*changes.borrow(), 2);
    }
}
