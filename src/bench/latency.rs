//! From the camera to somebody who listens: how long after the capture of the decisive frame a
//! subscriber of a real broker has the event in hand.
//!
//! The whole daemon runs as a process of its own on a recording played in real time, a mosquitto
//! carries its events over loopback, and a subscriber takes the time at which each arrives. All three
//! share the processors with whatever else runs. Times are wall times of one machine, to the
//! millisecond.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::process::Ending;
use crate::camera::CameraError;
use crate::camera::scene::Scene;
use crate::frame::{FrameSize, RgbImage};

/// Frames a second.
pub const RATE_HZ: f32 = 15.0;
/// Somebody stands before the camera for this many frames: half a second.
const VISIT_FRAMES: usize = 8;
/// Then nobody for this many, longer than a track outlives its face.
const GAP_FRAMES: usize = 11;
/// What `tracking.lost_after_ms` is set to for the bench.
pub const LOST_AFTER_MS: u32 = 400;
/// No visit takes that long to be announced; the daemon has ended or stands still.
const PATIENCE: Duration = Duration::from_secs(30);
const MILLIS_PER_DAY: i64 = 86_400_000;

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum LatencyError {
    /// The recording could not be drawn.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The scene does not show what is needed.
    #[error("the built-in scene has no {0}")]
    Scene(&'static str),
    /// A file or a process.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The broker is missing or does not come up.
    #[error("{0}; install the package mosquitto, or name a running broker with --broker HOST:PORT")]
    Broker(String),
    /// An event did not come, or was not what the recording shows.
    #[error("{0}")]
    Visit(String),
}

/// Some figures of one kind, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// Half of them were no more.
    pub median_ms: f64,
    /// 99 of 100 were no more.
    pub p99_ms: f64,
    /// The largest.
    pub greatest_ms: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() as f64 * share).ceil() as usize).max(1) - 1];
        Self { median_ms: at(0.5), p99_ms: at(0.99), greatest_ms: at(1.0) }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// Visits, each announced by exactly one event.
    pub visits: usize,
    /// From capturing the decisive frame until the subscriber had the message.
    pub capture_to_subscriber: Spread,
    /// Of this: from capture to decision.
    pub capture_to_decision: Spread,
    /// Of this: from the decision until it was published, the disk included.
    pub decision_to_publish: Spread,
    /// Of this: over the broker to the subscriber.
    pub publish_to_subscriber: Spread,
    /// Frames looked at until somebody was named, the first included: how often each number came up.
    pub frames_needed: Vec<(u64, usize)>,
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} visits, 640x480 at {RATE_HZ} Hz, ms           median     p99    most", self.visits)?;
        for (name, spread) in [
            ("captured to received by a subscriber", self.capture_to_subscriber),
            ("  captured to decided", self.capture_to_decision),
            ("  decided to published, disk included", self.decision_to_publish),
            ("  published to received", self.publish_to_subscriber),
        ] {
            let Spread { median_ms, p99_ms, greatest_ms } = spread;
            writeln!(f, "{name:<45} {median_ms:>7.1} {p99_ms:>7.1} {greatest_ms:>7.1}")?;
        }
        let needed: Vec<_> = self.frames_needed.iter().map(|(n, c)| format!("{n} ({c} visits)")).collect();
        write!(f, "frames looked at until named: {}", needed.join(", "))
    }
}

/// Writes a recording in which the enrolled people of the scene come and go, one after the other.
/// Returns how many visits it shows.
pub fn record(path: &Path, size: FrameSize) -> Result<usize, LatencyError> {
    let scene = Scene::new(size, RATE_HZ)?;
    let mut picture = RgbImage::black(0, 0);
    // Nobody stays out of view for a minute: all visits are in this.
    let period = 0..60 * RATE_HZ as u64;
    let empty = period
        .clone()
        .find(|n| scene.present(*n) == 0)
        .ok_or(LatencyError::Scene("moment without anybody"))?;
    let mut frames = Vec::new();
    let (mut visits, mut run, mut last) = (0, Vec::new(), None);
    for number in period {
        let near = match scene.visible(number).as_slice() {
            [head] if head.enrolled && head.height_px >= size.height as f32 * 0.3 => Some(head.person),
            _ => None,
        };
        let alone = near.filter(|_| scene.present(number) == 1);
        if alone.is_none() || alone != last {
            run.clear();
        }
        last = alone;
        if alone.is_none() {
            continue;
        }
        run.push(number);
        if run.len() == VISIT_FRAMES {
            frames.append(&mut run);
            frames.extend(std::iter::repeat_n(empty, GAP_FRAMES));
            visits += 1;
        }
    }
    if visits == 0 {
        return Err(LatencyError::Scene("enrolled person who stands near and alone"));
    }
    let mut recording = Vec::new();
    for number in frames {
        let mut jpeg = Vec::new();
        scene.encode(number, &mut picture, &mut jpeg)?;
        recording.extend(jpeg);
    }
    std::fs::write(path, recording).map_err(io("write the recording"))?;
    Ok(visits)
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> LatencyError + '_ {
    move |source| LatencyError::Io { what: what.to_owned(), source }
}

/// A broker of our own on a free port of the loopback interface; ends when dropped.
pub struct Broker {
    _process: Ending,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Starts mosquitto and waits until it answers.
    pub fn start() -> Result<Self, LatencyError> {
        let folder = tempfile::tempdir().map_err(io("make a folder"))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(io("find a free port"))?;
        let port = listener.local_addr().map_err(io("find a free port"))?.port();
        drop(listener);
        let settings = folder.path().join("mosquitto.conf");
        std::fs::write(
            &settings,
            format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"),
        )
        .map_err(io("write the broker's settings"))?;
        // Debian puts it where not every path looks.
        let debian = Path::new("/usr/sbin/mosquitto");
        let program = if debian.is_file() { debian } else { Path::new("mosquitto") };
        let process = Command::new(program)
            .arg("-c")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| LatencyError::Broker(format!("mosquitto does not start: {error}")))?;
        let broker = Self { _process: Ending(process), port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() >= deadline {
                return Err(LatencyError::Broker("mosquitto does not answer".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    /// Where it listens.
    pub fn address(&self) -> (String, u16) {
        ("127.0.0.1".to_owned(), self.port)
    }
}

/// One event as it arrived.
struct Arrival {
    received: i64,
    event: Value,
}

/// Starts the daemon that `command` describes and listens on `topic` until `visits` people were
/// named. Anything but one `identified` and one `ended` for each visit is an error: then the figures
/// would not be about visits.
pub async fn bench_latency(
    (host, port): (String, u16),
    topic: &str,
    mut command: Command,
    visits: usize,
) -> Result<Latencies, LatencyError> {
    let mut options = MqttOptions::new("latency-subscriber", host, port);
    options.set_keep_alive(Duration::from_secs(15));
    let (client, mut connection) = AsyncClient::new(options, 16);
    client.try_subscribe(topic, QoS::AtLeastOnce).map_err(|error| LatencyError::Visit(error.to_string()))?;
    until_subscribed(&mut connection).await?;

    let daemon =
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(io("start the daemon"))?;
    let _daemon = Ending(daemon);
    let mut arrivals: Vec<Arrival> = Vec::with_capacity(visits);
    let mut open = 0_usize;
    while arrivals.len() < visits {
        let message = tokio::time::timeout(PATIENCE, next(&mut connection)).await;
        let (received, payload) = message.map_err(|_| {
            LatencyError::Visit(format!(
                "no event for {} s after {} visits",
                PATIENCE.as_secs(),
                arrivals.len()
            ))
        })??;
        let event: Value = serde_json::from_slice(&payload)
            .map_err(|error| LatencyError::Visit(format!("an event is not JSON: {error}")))?;
        match event["event_type"].as_str() {
            Some("identified") if open == 0 => {
                open = 1;
                arrivals.push(Arrival { received, event });
            }
            Some("ended") if event["verdict"] == "identified" => open = 0,
            other => {
                return Err(LatencyError::Visit(format!(
                    "after {} visits came an event {other:?} that the recording does not show",
                    arrivals.len()
                )));
            }
        }
    }
    summary(&arrivals)
}

async fn until_subscribed(connection: &mut EventLoop) -> Result<(), LatencyError> {
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::SubAck(_))) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(LatencyError::Broker(format!("the broker does not answer: {error}"))),
        }
    }
}

async fn next(connection: &mut EventLoop) -> Result<(i64, Vec<u8>), LatencyError> {
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                return Ok((now.as_millis() as i64, message.payload.to_vec()));
            }
            Ok(_) => {}
            Err(error) => return Err(LatencyError::Broker(format!("the connection was lost: {error}"))),
        }
    }
}

fn summary(arrivals: &[Arrival]) -> Result<Latencies, LatencyError> {
    let time = |arrival: &Arrival, key: &str| {
        let text = arrival.event[key].as_str().and_then(millis_of_day);
        text.ok_or_else(|| LatencyError::Visit(format!("an event has no time `{key}`")))
    };
    // Of the day: a visit over midnight is still a visit of milliseconds.
    let between = |from: i64, to: i64| (to - from).rem_euclid(MILLIS_PER_DAY) as f64;
    let mut parts: [Vec<f64>; 4] = Default::default();
    let mut needed = std::collections::BTreeMap::new();
    for arrival in arrivals {
        let (captured, published) = (time(arrival, "captured_at")?, time(arrival, "published_at")?);
        let decided = time(arrival, "decided_at")?;
        parts[0].push(between(captured, arrival.received));
        parts[1].push(between(captured, decided));
        parts[2].push(between(decided, published));
        parts[3].push(between(published, arrival.received));
        *needed.entry(arrival.event["looks"].as_u64().unwrap_or(0)).or_insert(0) += 1;
    }
    let [all, decision, publish, transport] = parts.map(Spread::of);
    Ok(Latencies {
        visits: arrivals.len(),
        capture_to_subscriber: all,
        capture_to_decision: decision,
        decision_to_publish: publish,
        publish_to_subscriber: transport,
        frames_needed: needed.into_iter().collect(),
    })
}

/// Of `2026-11-23T04:15:03.679Z`, the time of day in milliseconds.
fn millis_of_day(text: &str) -> Option<i64> {
    let time = text.split_once('T')?.1.strip_suffix('Z')?;
    let (clock, millis) = time.split_once('.')?;
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000 + millis.parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_day_is_read_to_the_millisecond() {
        assert_eq!(millis_of_day("2026-11-23T04:15:03.679Z"), Some(15_303_679));
        for bad in ["", "2026-11-23", "2026-11-23T04:15Z", "2026-11-23T04:15:03Z", "2026-11-23T0a:15:03.679Z"]
        {
            assert_eq!(millis_of_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn spread_takes_the_value_that_a_share_does_not_exceed() {
        let spread = Spread::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((spread.median_ms, spread.p99_ms, spread.greatest_ms), (100.0, 198.0, 200.0));
        assert_eq!(Spread::of(vec![7.0]).p99_ms, 7.0);
    }

    #[test]
    fn recording_shows_people_and_nobody_by_turns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("visits.mjpeg");
        let size = FrameSize { width: 320, height: 240 };
        let visits = record(&path, size).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let frames = bytes.windows(3).filter(|three| *three == [0xff, 0xd8, 0xff]).count();
        assert!(visits >= 2, "{visits}");
        assert_eq!(frames, visits * (VISIT_FRAMES + GAP_FRAMES));
    }
}
