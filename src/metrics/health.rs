//! The health object: what an operator, or Home Assistant, wants to know at a glance.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{Dashboard, Percentiles};
use crate::clock::UnixMillis;
use crate::event_store::Outbox;
use crate::machine::{Memory, Slowed, memory, slowed, temperature_c, usage};
use crate::status::{Condition, Conditions};

/// How the daemon is doing as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Some part has not said yet how it is doing; none is degraded.
    Starting,
    /// Every part that is configured works.
    Working,
    /// Some part does not work; the daemon goes on without it and tries again.
    Degraded,
    /// A thread is stuck: the watchdog is about to end the process.
    Dead,
}

/// The health object: `limen/ID/health` on MQTT and `/health` on the web server. Holds nothing about a
/// person. Fields may be added; those that are there keep their meaning.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    /// `starting`, `working`, `degraded` or `dead`.
    pub status: Overall,
    /// Which thread is stuck, when `status` is `dead`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
    /// When this was written, milliseconds since 1970.
    pub at: UnixMillis,
    /// Version of the program.
    pub version: &'static str,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Each part (`camera`, `recognition`, `storage`, `broker`, `http`) with its `state` (`starting`,
    /// `working`, `degraded` or `off`), `since` when (milliseconds since 1970), and the `reason` of a
    /// degraded one.
    pub parts: Conditions,
    /// Frames.
    pub camera: CameraHealth,
    /// What is made of them.
    pub recognition: RecognitionHealth,
    /// What waits where.
    pub queues: Queues,
    /// Events on their way to the broker: `newest` sequence number, `waiting`, and since the start
    /// `expired` and `lost`.
    pub outbox: Outbox,
    /// From capture to the broker's acknowledgement, of the newest events that went out fresh; `null`
    /// before the first.
    pub publish: Option<Percentiles>,
    /// The board and the process on it.
    pub machine: MachineHealth,
}

/// Frames since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraHealth {
    /// Frames a second since this was last asked, over at least a second; `null` in the first one.
    pub fps: Option<f64>,
    /// Frames delivered.
    pub delivered: u64,
    /// Of these, overwritten by a newer one before the recogniser took them.
    pub overwritten: u64,
    /// Frames that came broken or short and were not delivered.
    pub discarded: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
    /// Streams opened after the first one.
    pub rebuilds: u64,
}

/// Recognition since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecognitionHealth {
    /// Faces in view now.
    pub faces: u32,
    /// Frames that faces were searched in.
    pub looks: u64,
    /// Embeddings made and searched.
    pub probes: u64,
    /// Events that somebody was identified.
    pub identified: u64,
    /// Events that somebody is unknown.
    pub unknown: u64,
    /// Closer looks at a face that did not tell who it is, by reason.
    pub inconclusive: BTreeMap<&'static str, u64>,
    /// Probes that matched nobody, by reason.
    pub no_match: BTreeMap<&'static str, u64>,
    /// Visits that ended without a verdict, by their main reason.
    pub undecided: BTreeMap<&'static str, u64>,
    /// From capture to decision, of the newest events; `null` before the first.
    pub latency: Option<Percentiles>,
    /// Subjects that are searched.
    pub subjects: usize,
    /// Templates that are searched.
    pub templates: usize,
}

/// What waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queues {
    /// Frames for the recogniser, at most 1.
    pub frame: u64,
    /// Requests for the store.
    pub store: u64,
    /// Events for the broker.
    pub outbox: u64,
}

/// The process and the board. What the board does not tell is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachineHealth {
    /// Resident memory of the daemon.
    pub memory_bytes: Option<u64>,
    /// Processor time of the daemon, seconds.
    pub cpu_s: Option<f64>,
    /// Memory of the board that is still to be had.
    pub available_bytes: Option<u64>,
    /// The hottest sensor, degrees Celsius.
    pub temperature_c: Option<f32>,
    /// Why the board runs slower than it could, now: `heat`, `supply`.
    pub slowed_by: Vec<&'static str>,
}

impl MachineHealth {
    /// From `/proc` and `/sys`, where a slow sensor takes its time.
    pub(super) fn read() -> Self {
        let (usage, sys) = (usage(), Path::new("/sys"));
        let word = |slowed: &Slowed| match slowed {
            Slowed::Heat => "heat",
            Slowed::Supply => "supply",
        };
        Self {
            memory_bytes: usage.map(|usage| usage.memory_bytes),
            cpu_s: usage.map(|usage| usage.cpu.as_secs_f64()),
            available_bytes: memory().map(|Memory { available_bytes, .. }| available_bytes),
            temperature_c: temperature_c(sys),
            slowed_by: slowed(sys).iter().map(word).collect(),
        }
    }
}

fn overall(parts: &Conditions, stuck: bool) -> Overall {
    let any = |wanted: fn(&Condition) -> bool| parts.values().any(wanted);
    if stuck {
        Overall::Dead
    } else if any(|part| matches!(part, Condition::Degraded { .. })) {
        Overall::Degraded
    } else if any(|part| matches!(part, Condition::Starting)) {
        Overall::Starting
    } else {
        Overall::Working
    }
}

impl Dashboard {
    /// Health as of now, the machine's figures as they were read last. Waits for nobody.
    pub fn health(&self) -> Health {
        let sources = &self.sources;
        let parts = sources.status.conditions();
        let stuck = self.metrics.stuck.load().as_deref().cloned();
        let capture = sources.capture.stats();
        let stats = self.recogniser();
        let event = |kind| stats.events.get(kind).copied().unwrap_or(0);
        let gallery = sources.gallery.current().report();
        let outbox = *sources.outbox.borrow();
        Health {
            status: overall(&parts, stuck.is_some()),
            stuck,
            at: sources.clock.wall(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.uptime().as_secs(),
            parts,
            camera: CameraHealth {
                fps: self.frames_per_second(),
                delivered: capture.delivered,
                overwritten: capture.overwritten,
                discarded: capture.discarded,
                undecodable: stats.undecodable,
                rebuilds: capture.rebuilds,
            },
            recognition: RecognitionHealth {
                faces: self.metrics.faces.load(Ordering::Relaxed),
                looks: stats.looks,
                probes: stats.probes,
                identified: event("identified"),
                unknown: event("unknown"),
                inconclusive: stats.inconclusive,
                no_match: stats.no_match,
                undecided: stats.undecided,
                latency: self.metrics.recent_decisions.percentiles(),
                subjects: gallery.subjects,
                templates: gallery.templates,
            },
            queues: Queues {
                frame: u64::from(sources.capture.slot().is_full()),
                store: self.metrics.store_waiting(),
                outbox: outbox.waiting,
            },
            outbox,
            publish: self.metrics.recent_publishes.percentiles(),
            machine: self.machine.lock().expect("no holder of this lock can panic").clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::tests::{Started, started};
    use crate::recogniser::RecogniserStats;
    use crate::status::Part;

    #[test]
    fn worst_part_decides_and_a_stuck_thread_above_all() {
        let Started { metrics, dashboard, status, .. } = started();
        assert_eq!(dashboard.health().status, Overall::Starting);
        for part in Part::ALL {
            status.working(part);
        }
        status.off(Part::Broker);
        assert_eq!(dashboard.health().status, Overall::Working);
        status.degraded(Part::Camera, "unplugged");
        assert_eq!(dashboard.health().status, Overall::Degraded);
        metrics.set_stuck(Some("recogniser".to_owned()));
        let health = dashboard.health();
        assert_eq!((health.status, health.stuck.as_deref()), (Overall::Dead, Some("recogniser")));
    }

    #[test]
    fn json_has_the_documented_fields() {
        let Started { metrics, dashboard, status, clock, outbox, recogniser, .. } = started();
        clock.advance(Duration::from_secs(61));
        status.degraded(Part::Camera, "unplugged");
        status.off(Part::Http);
        outbox.send_modify(|outbox| (outbox.newest, outbox.waiting) = (9, 3));
        metrics.observe_decision(Duration::from_millis(70));
        *recogniser.lock().unwrap() = RecogniserStats {
            events: BTreeMap::from([("identified", 2), ("unknown", 1)]),
            inconclusive: BTreeMap::from([("too_far", 4)]),
            ..RecogniserStats::default()
        };
        let mut health = serde_json::to_value(dashboard.health()).unwrap();
        // What depends on the machine.
        let machine = health["machine"].take();
        let mut expected: serde_json::Value =
            serde_json::from_str(include_str!("health_example.json")).unwrap();
        for (key, value) in expected["machine"].take().as_object().unwrap() {
            let same_kind = std::mem::discriminant(value) == std::mem::discriminant(&machine[key]);
            assert!(same_kind || machine[key].is_null(), "{key}: {machine}");
        }
        expected["version"] = env!("CARGO_PKG_VERSION").into();
        assert_eq!(health, expected, "{health:#}");
    }

    #[test]
    fn example_stands_in_the_documentation_as_it_is() {
        let page = include_str!("../../docs/operate.md");
        assert!(page.contains(include_str!("health_example.json").trim()));
    }
}
