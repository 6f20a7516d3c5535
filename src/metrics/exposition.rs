//! The metrics as OpenMetrics text, which Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::{Dashboard, Stage};
use crate::event_store::EventKind;
use crate::machine::{temperature_c, usage};
use crate::mqtt::CommandOutcome;
use crate::retention::KeptClass;
use crate::status::{Condition, Part};

/// The media type of [`Dashboard::exposition`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the program starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations by upper bound.
    Histogram,
    /// Always 1; its labels say something.
    Info,
}

/// One metric, as it is announced and documented.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name with the unit, without the suffix (`_total`, `_bucket`) that samples get.
    pub name: &'static str,
    /// The unit, with which `name` then ends.
    unit: Option<fn() -> Unit>,
    /// What kind of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    encode: fn(&Dashboard, MetricEncoder<'_>) -> fmt::Result,
}

/// Declares metrics with where each is read: a list of labelled samples, or one without a label.
macro_rules! metrics {
    ($($name:literal $(in $unit:ident)? ($kind:ident $(, $label:literal)*) $help:literal = $encode:expr;)*) => {
        /// Every metric, in the order in which they are told.
        pub static METRICS: &[Metric] = &[$(Metric {
            name: $name,
            unit: metrics!(@unit $($unit)?),
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            encode: $encode,
        }),*];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(|| Unit::$unit) };
}

metrics! {
    "limen_build" (Info, "version")
        "The running program"
        = |_, mut to| to.encode_info(&[("version", env!("CARGO_PKG_VERSION"))]);
    "limen_uptime_seconds" in Seconds (Gauge)
        "Time since the daemon started"
        = |board, to| gauge(to, board.uptime().as_secs_f64());
    "limen_part_working" (Gauge, "part")
        "1 while the part works, 0 while it is starting or degraded; parts that are not configured are left out"
        = |board, mut to| {
            for (part, condition) in board.sources.status.conditions() {
                let working = match condition {
                    Condition::Off => continue,
                    Condition::Working { .. } => 1,
                    Condition::Starting | Condition::Degraded { .. } => 0,
                };
                gauge_of(&mut to, "part", Part::name(part), working)?;
            }
            Ok(())
        };
    "limen_frames" (Counter, "fate")
        "Frames of the camera: taken by the recogniser, overwritten by a newer one before that, discarded as \
         broken, or undecodable"
        = |board, mut to| {
            let (capture, recogniser) = (board.sources.capture.stats(), board.recogniser());
            let taken = capture.delivered.saturating_sub(capture.overwritten + recogniser.undecodable);
            counter_of(&mut to, "fate", "taken", taken)?;
            counter_of(&mut to, "fate", "overwritten", capture.overwritten)?;
            counter_of(&mut to, "fate", "discarded", capture.discarded)?;
            counter_of(&mut to, "fate", "undecodable", recogniser.undecodable)
        };
    "limen_camera_rebuilds" (Counter)
        "Streams opened after the first one"
        = |board, to| counter(to, board.sources.capture.stats().rebuilds);
    "limen_looks" (Counter)
        "Frames that faces were searched in"
        = |board, to| counter(to, board.recogniser().looks);
    "limen_skipped_frames" (Counter, "reason")
        "Frames that were not looked at, and why"
        = |board, mut to| {
            let skipped = board.recogniser().skipped;
            counter_of(&mut to, "reason", "not_due", skipped.not_due)?;
            counter_of(&mut to, "reason", "unchanged", skipped.unchanged)
        };
    "limen_probes" (Counter)
        "Embeddings made and searched"
        = |board, to| counter(to, board.recogniser().probes);
    "limen_events" (Counter, "kind")
        "Events by kind"
        = |board, mut to| {
            let stats = board.recogniser();
            for kind in [EventKind::Identified, EventKind::Unknown, EventKind::Ended].map(EventKind::name) {
                counter_of(&mut to, "kind", kind, stats.events.get(kind).copied().unwrap_or(0))?;
            }
            counter_of(&mut to, "kind", EventKind::Ring.name(), board.metrics.rings.load(Ordering::Relaxed))
        };
    "limen_inconclusive_looks" (Counter, "reason")
        "Closer looks at a face that did not tell who it is, and why"
        = |board, to| counters_of(to, "reason", &board.recogniser().inconclusive);
    "limen_no_match_probes" (Counter, "reason")
        "Probes that matched nobody, and why"
        = |board, to| counters_of(to, "reason", &board.recogniser().no_match);
    "limen_undecided_visits" (Counter, "reason")
        "Visits that ended without a verdict, and the main reason"
        = |board, to| counters_of(to, "reason", &board.recogniser().undecided);
    "limen_backup_last_seconds" in Seconds (Gauge)
        "When the last backup was made and checked, since 1970; left out where there is none"
        = |board, to| match board.metrics.backups().last {
            Some(last) => gauge(to, last.at.0 as f64 / 1000.0),
            None => Ok(()),
        };
    "limen_backup_last_bytes" in Bytes (Gauge)
        "Bytes of the last backup; left out where there is none"
        = |board, to| match board.metrics.backups().last {
            Some(last) => gauge(to, last.bytes),
            None => Ok(()),
        };
    "limen_retention_erased" (Counter, "class")
        "What was erased because it was kept for long enough, or because there was too much of it"
        = |board, mut to| {
            for class in KeptClass::ALL {
                counter_of(&mut to, "class", class.name(), board.metrics.retention.of(class).erased)?;
            }
            Ok(())
        };
    "limen_faces" (Gauge)
        "Faces in view now"
        = |board, to| gauge(to, board.metrics.faces.load(Ordering::Relaxed));
    "limen_stage_seconds" in Seconds (Histogram, "stage")
        "Time of one stage for one frame, or for one face of it"
        = |board, mut to| {
            for stage in Stage::ALL {
                board.metrics.stages[stage as usize].encode_with(&mut to, &[("stage", stage.name())])?;
            }
            Ok(())
        };
    "limen_decision_seconds" in Seconds (Histogram)
        "From capturing the decisive frame to the event that somebody was identified or is unknown"
        = |board, to| board.metrics.decision.encode(to);
    "limen_publish_seconds" in Seconds (Histogram)
        "From capturing the decisive frame to the broker's acknowledgement, for events that went out fresh"
        = |board, to| board.metrics.publish.encode(to);
    "limen_store_commit_seconds" in Seconds (Histogram)
        "Time to bring an event to the disk"
        = |board, to| board.metrics.commit.encode(to);
    "limen_door_relay_seconds" in Seconds (Histogram)
        "From the ruling that somebody may enter to the relay's line being switched"
        = |board, to| board.metrics.relay.encode(to);
    "limen_door_granted" (Counter, "way")
        "How often somebody might enter, by what they showed"
        = |board, to| counters_of(to, "way", &board.metrics.door().granted);
    "limen_door_denied" (Counter, "reason")
        "How often somebody was kept out, and why"
        = |board, to| counters_of(to, "reason", &board.metrics.door().denied);
    "limen_door_alarms" (Counter, "alarm")
        "Alarms of the door"
        = |board, to| counters_of(to, "alarm", &board.metrics.door().alarms);
    "limen_door_dropped_inputs" (Counter)
        "What happened at the door faster than it could be taken in"
        = |board, to| counter(to, board.metrics.door_dropped.load(Ordering::Relaxed));
    "limen_queue_length" (Gauge, "queue")
        "Frames, requests to the store, or events for the broker that wait"
        = |board, mut to| {
            gauge_of(&mut to, "queue", "frame", u64::from(board.sources.capture.slot().is_full()))?;
            gauge_of(&mut to, "queue", "store", board.metrics.store_waiting())?;
            gauge_of(&mut to, "queue", "outbox", board.sources.outbox.borrow().waiting)
        };
    "limen_outbox_expired" (Counter)
        "Events that had expired before the broker took them"
        = |board, to| counter(to, board.sources.outbox.borrow().expired);
    "limen_outbox_lost" (Counter)
        "Events that neither disk nor memory could take"
        = |board, to| counter(to, board.sources.outbox.borrow().lost);
    "limen_mqtt_connections" (Counter, "outcome")
        "Connections to the broker: made, and failed or lost"
        = |board, mut to| {
            let mqtt = &board.sources.mqtt;
            counter_of(&mut to, "outcome", "made", mqtt.connects.get())?;
            counter_of(&mut to, "outcome", "failed", mqtt.failures.get())
        };
    "limen_mqtt_messages" (Counter, "direction")
        "Messages to and from the broker"
        = |board, mut to| {
            let mqtt = &board.sources.mqtt;
            counter_of(&mut to, "direction", "sent", mqtt.sent.get())?;
            counter_of(&mut to, "direction", "received", mqtt.received.get())
        };
    "limen_mqtt_events" (Counter, "fate")
        "Events the broker acknowledged fresh or late, sent again because no acknowledgement had come, or refused \
         by the broker and sent again"
        = |board, mut to| {
            let mqtt = &board.sources.mqtt;
            counter_of(&mut to, "fate", "fresh", mqtt.acknowledged.get())?;
            counter_of(&mut to, "fate", "late", mqtt.late.get())?;
            counter_of(&mut to, "fate", "repeated", mqtt.repeated.get())?;
            counter_of(&mut to, "fate", "refused", mqtt.refused.get())
        };
    "limen_mqtt_dropped_messages" (Counter, "reason")
        "Messages other than events that were dropped: too many to the broker, from the broker, or between threads"
        = |board, mut to| {
            let mqtt = &board.sources.mqtt;
            counter_of(&mut to, "reason", "sending", mqtt.dropped.get())?;
            counter_of(&mut to, "reason", "receiving", mqtt.overflowed.get())?;
            counter_of(&mut to, "reason", "live", mqtt.live_missed.get())
        };
    "limen_mqtt_commands" (Counter, "outcome")
        "Commands from the broker and what became of them"
        = |board, mut to| {
            CommandOutcome::ALL.into_iter().try_for_each(|outcome| {
                counter_of(&mut to, "outcome", outcome.name(), board.sources.mqtt.commands(outcome))
            })
        };
    "limen_http_requests" (Counter, "status")
        "Requests to the web server by the kind of answer"
        = |board, mut to| counters(&mut to, "status", &["ok", "refused", "failed"], &board.metrics.http_requests);
    "limen_http_refused_connections" (Counter)
        "Connections turned away because too many were open"
        = |board, to| counter(to, board.metrics.http_refused.load(Ordering::Relaxed));
    "limen_gallery_subjects" (Gauge)
        "Subjects that are searched"
        = |board, to| gauge(to, board.sources.gallery.current().report().subjects as u64);
    "limen_gallery_templates" (Gauge)
        "Templates that are searched"
        = |board, to| gauge(to, board.sources.gallery.current().report().templates as u64);
    "limen_board_temperature_celsius" in Celsius (Gauge)
        "The board's hottest sensor; left out where there is none"
        = |_, to| temperature_c(Path::new("/sys")).map_or(Ok(()), |degrees| gauge(to, f64::from(degrees)));
    "process_resident_memory_bytes" in Bytes (Gauge)
        "Resident memory of the daemon"
        = |_, to| usage().map_or(Ok(()), |usage| gauge(to, usage.memory_bytes));
    "process_cpu_seconds" in Seconds (Counter)
        "Processor time of the daemon"
        = |_, mut to| usage().map_or(Ok(()), |usage| counter_of_f64(&mut to, usage.cpu.as_secs_f64()));
    "process_start_time_seconds" in Seconds (Gauge)
        "When the daemon started, seconds since 1970 by the clock of that moment"
        = |board, to| gauge(to, board.started_at.0 as f64 / 1e3);
}

fn counter(mut to: MetricEncoder<'_>, value: u64) -> fmt::Result {
    to.encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

fn counter_of_f64(to: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
    to.encode_counter::<NoLabelSet, f64, f64>(&value, None)
}

fn counters_of(mut to: MetricEncoder<'_>, label: &str, counts: &BTreeMap<&'static str, u64>) -> fmt::Result {
    counts.iter().try_for_each(|(word, count)| counter_of(&mut to, label, word, *count))
}

fn counter_of(to: &mut MetricEncoder<'_>, label: &str, word: &str, value: u64) -> fmt::Result {
    counter(to.encode_family(&[(label, word)])?, value)
}

fn counters(to: &mut MetricEncoder<'_>, label: &str, words: &[&str], values: &[AtomicU64]) -> fmt::Result {
    words
        .iter()
        .zip(values)
        .try_for_each(|(word, value)| counter_of(to, label, word, value.load(Ordering::Relaxed)))
}

fn gauge(mut to: MetricEncoder<'_>, value: impl EncodeGaugeValue) -> fmt::Result {
    to.encode_gauge(&value)
}

fn gauge_of(to: &mut MetricEncoder<'_>, label: &str, word: &str, value: u64) -> fmt::Result {
    gauge(to.encode_family(&[(label, word)])?, value)
}

impl Metric {
    /// The name that its samples have, for a query: with `_total`, `_bucket` or `_info` where it has
    /// one.
    pub fn sample(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Histogram => "_bucket",
            Kind::Info => "_info",
        };
        format!("{}{suffix}", self.name)
    }
}

/// Reads all of [`METRICS`] when asked.
#[derive(Debug)]
struct Everything(Arc<Dashboard>);

impl Collector for Everything {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let unit = metric.unit.map(|unit| unit());
            // The encoder puts the unit behind the name.
            let name = match &unit {
                Some(unit) => metric
                    .name
                    .strip_suffix(unit.as_str())
                    .and_then(|name| name.strip_suffix('_'))
                    .expect("a metric's name ends with its unit"),
                None => metric.name,
            };
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let descriptor = encoder.encode_descriptor(name, metric.help, unit.as_ref(), kind)?;
            (metric.encode)(&self.0, descriptor)?;
        }
        Ok(())
    }
}

impl Dashboard {
    /// Everything as text of the type [`CONTENT_TYPE`]. Reads a few files of `/proc` and `/sys`: not
    /// for a thread that must not wait.
    pub fn exposition(self: &Arc<Self>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything(Arc::clone(self))));
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &registry).expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::clock::Monotonic;
    use crate::frame::{FrameId, FrameSize, PixelFormat, RawFrame};
    use crate::metrics::tests::{Started, started};
    use crate::recogniser::RecogniserStats;

    /// Samples by name and labels, after checking the text as OpenMetrics wants it: each family is announced
    /// once with help and type, its samples follow at once, and the end is marked.
    fn samples(text: &str) -> BTreeMap<String, f64> {
        let body = text.strip_suffix("# EOF\n").expect("the end is marked");
        let (mut family, mut kind, mut seen) = (String::new(), "", BTreeSet::new());
        let mut samples = BTreeMap::new();
        for line in body.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..2] {
                ["#", "HELP"] => {
                    family = words[2].to_owned();
                    assert!(seen.insert(family.clone()), "{family} is announced twice");
                }
                ["#", "TYPE"] => {
                    assert_eq!(words[2], family);
                    kind = words[3];
                }
                ["#", "UNIT"] => assert!(family.ends_with(&format!("_{}", words[3])), "{line}"),
                [name, value] => {
                    let bare = name.split('{').next().unwrap();
                    let suffixes: &[&str] = match kind {
                        "counter" => &["_total"],
                        "gauge" => &[""],
                        "histogram" => &["_bucket", "_sum", "_count"],
                        "info" => &["_info"],
                        other => panic!("{other}"),
                    };
                    let fits = |suffix: &&str| bare == format!("{family}{suffix}");
                    assert!(suffixes.iter().any(fits), "{line} in {family}");
                    let value = value.parse().unwrap();
                    assert!(samples.insert((*name).to_owned(), value).is_none(), "{line} twice");
                }
                _ => panic!("{line}"),
            }
        }
        samples
    }

    #[test]
    fn every_metric_is_announced_and_follows_the_naming_conventions() {
        let text = started().dashboard.exposition();
        samples(&text);
        let announced: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        let declared: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(announced, declared);
        for metric in METRICS {
            assert!(metric.name.starts_with("limen_") || metric.name.starts_with("process_"));
            assert!(!metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            let personal = ["name", "subject", "id", "event", "track"];
            assert!(!metric.labels.iter().any(|label| personal.contains(label)), "{}", metric.name);
        }
    }

    #[test]
    fn what_was_counted_is_what_is_told() {
        let Started { metrics, dashboard, status, outbox, clock, capture, recogniser } = started();
        capture.slot().publish(RawFrame {
            id: FrameId(0),
            captured_at: Monotonic::default(),
            format: PixelFormat::Grey,
            size: FrameSize { width: 16, height: 16 },
            stride: 16,
            bytes: vec![0; 256],
        });
        clock.advance(Duration::from_secs(90));
        metrics.observe_decision(Duration::from_millis(70));
        metrics.observe_publish(Duration::from_millis(90));
        metrics.observe_commit(Duration::from_millis(3));
        dashboard.sources.mqtt.sent.add(2);
        dashboard.sources.mqtt.command(CommandOutcome::Retained);
        metrics.http_answered(404);
        metrics.http_refused();
        metrics.set_faces(2);
        metrics.rang();
        metrics.store_request_queued();
        metrics.store_request_queued();
        metrics.store_request_taken();
        *recogniser.lock().unwrap() = RecogniserStats {
            looks: 5,
            probes: 4,
            events: BTreeMap::from([("identified", 3)]),
            inconclusive: BTreeMap::from([("too_far", 9)]),
            ..RecogniserStats::default()
        };
        outbox.send_modify(|outbox| (outbox.waiting, outbox.expired, outbox.lost) = (7, 2, 1));
        status.working(Part::Camera);
        status.degraded(Part::Broker, "away");
        status.off(Part::Http);
        let samples = samples(&dashboard.exposition());
        for (name, expected) in [
            ("limen_uptime_seconds", 90.0),
            ("limen_decision_seconds_bucket{le=\"0.06\"}", 0.0),
            ("limen_decision_seconds_bucket{le=\"0.08\"}", 1.0),
            ("limen_decision_seconds_bucket{le=\"+Inf\"}", 1.0),
            ("limen_publish_seconds_sum", 0.09),
            ("limen_store_commit_seconds_count", 1.0),
            ("limen_mqtt_messages_total{direction=\"sent\"}", 2.0),
            ("limen_mqtt_messages_total{direction=\"received\"}", 0.0),
            ("limen_mqtt_commands_total{outcome=\"retained\"}", 1.0),
            ("limen_http_requests_total{status=\"refused\"}", 1.0),
            ("limen_http_refused_connections_total", 1.0),
            ("limen_faces", 2.0),
            ("limen_queue_length{queue=\"frame\"}", 1.0),
            ("limen_queue_length{queue=\"store\"}", 1.0),
            ("limen_queue_length{queue=\"outbox\"}", 7.0),
            ("limen_outbox_expired_total", 2.0),
            ("limen_outbox_lost_total", 1.0),
            ("limen_looks_total", 5.0),
            ("limen_events_total{kind=\"identified\"}", 3.0),
            ("limen_events_total{kind=\"unknown\"}", 0.0),
            ("limen_events_total{kind=\"ring\"}", 1.0),
            ("limen_inconclusive_looks_total{reason=\"too_far\"}", 9.0),
            ("limen_part_working{part=\"camera\"}", 1.0),
            ("limen_part_working{part=\"broker\"}", 0.0),
            ("limen_part_working{part=\"storage\"}", 0.0),
        ] {
            assert_eq!(samples.get(name), Some(&expected), "{name}");
        }
        assert!(!samples.contains_key("limen_part_working{part=\"http\"}"));
        assert!(samples["process_resident_memory_bytes"] > 1e6);
    }

    #[test]
    fn reference_table_is_current() {
        const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate.md");
        const MARKS: [&str; 2] = ["cargo test --lib metrics` -->\n", "<!-- end of metrics -->"];
        let mut table = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
        for metric in METRICS {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            table +=
                &format!("| `{}` | {kind} | {} | {} |\n", metric.sample(), labels.join(", "), metric.help);
        }
        let page = std::fs::read_to_string(PAGE).unwrap();
        let start = page.find(MARKS[0]).unwrap() + MARKS[0].len();
        let end = page.find(MARKS[1]).unwrap();
        if std::env::var_os("LIMEN_WRITE_DOCS").is_some() {
            std::fs::write(PAGE, format!("{}{table}{}", &page[..start], &page[end..])).unwrap();
        } else {
            assert!(page[start..end] == table, "docs/operate.md is not current: run `make docs`");
        }
    }
}
