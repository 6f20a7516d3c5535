//! The live view as its viewers have it: frames a second and their age when they arrive, and what being
//! watched costs recognition.
//!
//! The whole daemon runs as a process of its own on the built-in scene, and the viewers are WebSocket
//! clients on the same machine: all share its processors. Times are wall times of one machine, to the
//! millisecond. Decision latencies are those of the events themselves.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use thiserror::Error;

use super::client::{Client, ClientError};
use super::latency::Spread;
use super::process::Ending;

/// Viewers in one phase after the other.
pub const VIEWERS: [usize; 3] = [0, 1, 4];
/// Frames before a phase counts: viewers connect one after the other.
const SETTLE: Duration = Duration::from_secs(2);

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum LiveError {
    /// The daemon does not start.
    #[error("cannot start the daemon: {0}")]
    Spawn(std::io::Error),
    /// The daemon, as a viewer finds it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nothing came of what is to be measured.
    #[error("{0}")]
    Nothing(String),
}

/// What was measured with so many viewers.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Viewers.
    pub viewers: usize,
    /// Frames a second of the viewer that got the fewest.
    pub frames_per_second: Option<f64>,
    /// From capturing a frame until a viewer had all of it.
    pub captured_to_viewer: Option<Spread>,
    /// Size of a message, median, bytes.
    pub message_bytes: Option<usize>,
    /// Decisions in that time.
    pub decisions: usize,
    /// From capture to decision.
    pub captured_to_decision: Spread,
}

/// All phases.
#[derive(Clone, Debug, Serialize)]
pub struct LiveTimings {
    /// How long each was watched, seconds.
    pub seconds: f64,
    /// In their order.
    pub phases: Vec<Phase>,
}

impl std::fmt::Display for LiveTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "live view, 640x480 at 15 Hz, {:.0} s each", self.seconds)?;
        for phase in &self.phases {
            let Spread { median_ms, p99_ms, .. } = phase.captured_to_decision;
            write!(
                f,
                "\n{} viewers: {} decisions, captured to decided median {median_ms:.1} ms, p99 {p99_ms:.1} ms",
                phase.viewers, phase.decisions
            )?;
            if let (Some(rate), Some(delay), Some(bytes)) =
                (phase.frames_per_second, phase.captured_to_viewer, phase.message_bytes)
            {
                write!(
                    f,
                    "\n           {rate:.1} frames/s, captured to received median {:.0} ms, p99 {:.0} ms, most \
                     {:.0} ms, {} kB each",
                    delay.median_ms,
                    delay.p99_ms,
                    delay.greatest_ms,
                    bytes / 1_000
                )?;
            }
        }
        Ok(())
    }
}

/// What one viewer saw.
struct Watched {
    delays_ms: Vec<f64>,
    bytes: Vec<usize>,
    seconds: f64,
}

fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

fn watch(client: &Client, time: Duration) -> Result<Watched, ClientError> {
    let mut socket = client.socket("/api/live")?;
    let begin = Instant::now() + SETTLE;
    let mut watched = Watched { delays_ms: Vec::new(), bytes: Vec::new(), seconds: 0.0 };
    loop {
        let frame = socket.next_frame()?;
        socket.say("next")?;
        let elapsed = Instant::now().saturating_duration_since(begin);
        if elapsed > time {
            return Ok(watched);
        }
        if Instant::now() >= begin {
            let captured = frame.json["captured_at"].as_f64().unwrap_or_default();
            watched.delays_ms.push(wall_ms() - captured);
            watched.bytes.push(frame.jpeg.len());
            watched.seconds = elapsed.as_secs_f64();
        }
    }
}

/// Starts the daemon that `command` describes, lets `sign_in` make somebody who may watch, and measures
/// with each number of [`VIEWERS`] for `time`: best a whole number of minutes, for the scene repeats itself
/// after one.
pub fn bench_live(
    mut command: Command,
    sign_in: impl FnOnce() -> Result<Client, LiveError>,
    time: Duration,
) -> Result<LiveTimings, LiveError> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(LiveError::Spawn)?;
    let _daemon = Ending(child);
    let client = sign_in()?;
    let mut phases = Vec::new();
    for viewers in VIEWERS {
        let from = wall_ms();
        let watched = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..viewers).map(|_| scope.spawn(|| watch(&client, time))).collect();
            if viewers == 0 {
                std::thread::sleep(time + SETTLE);
            }
            threads
                .into_iter()
                .map(|thread| {
                    let panicked = |_| LiveError::Nothing("a viewer panicked".to_owned());
                    Ok(thread.join().map_err(panicked)??)
                })
                .collect::<Result<Vec<_>, LiveError>>()
        })?;
        phases.push(phase(&client, viewers, (from, wall_ms()), &watched)?);
    }
    Ok(LiveTimings { seconds: time.as_secs_f64(), phases })
}

fn phase(
    client: &Client,
    viewers: usize,
    (from, to): (f64, f64),
    watched: &[Watched],
) -> Result<Phase, LiveError> {
    let mut decisions = Vec::new();
    for kind in ["identified", "unknown"] {
        let path = format!("/api/events?limit=200&kind={kind}&from={from:.0}&to={to:.0}");
        let found = client.get(&path)?;
        let latencies = found["events"].as_array().into_iter().flatten();
        decisions.extend(latencies.filter_map(|event| event["latency_ms"].as_f64()));
    }
    if decisions.is_empty() || watched.iter().any(|watched| watched.delays_ms.is_empty()) {
        return Err(LiveError::Nothing(format!("nothing to measure with {viewers} viewers: watch longer")));
    }
    let rates = watched.iter().map(|watched| watched.delays_ms.len() as f64 / watched.seconds);
    let mut bytes: Vec<_> = watched.iter().flat_map(|watched| watched.bytes.iter().copied()).collect();
    bytes.sort_unstable();
    let delays: Vec<_> = watched.iter().flat_map(|watched| watched.delays_ms.iter().copied()).collect();
    Ok(Phase {
        viewers,
        frames_per_second: rates.reduce(f64::min),
        captured_to_viewer: (!delays.is_empty()).then(|| Spread::of(delays)),
        message_bytes: bytes.get(bytes.len() / 2).copied(),
        decisions: decisions.len(),
        captured_to_decision: Spread::of(decisions),
    })
}
