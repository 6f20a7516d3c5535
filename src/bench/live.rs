//! The live view as its viewers have it: frames a second and their age when they arrive, and what being
//! watched costs recognition.
//!
//! The whole daemon runs as a process of its own on a recording in which people come and go, and the
//! viewers are WebSocket clients on the same machine: all share its processors. Times are wall times of one machine, to the
//! millisecond. Decision latencies are those of the events themselves.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{Client, ClientError, wall_ms};
use super::latency::{RATE_HZ, Spread};
use super::site::{Site, SiteError};

/// Viewers in one phase after the other.
pub const VIEWERS: [usize; 3] = [0, 1, 4];
/// Each phase is watched in so many turns, so that what else the machine does falls on all of them.
const TURNS: u32 = 3;
/// Frames before a turn counts: viewers connect one after the other.
const SETTLE: Duration = Duration::from_secs(2);

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
        write!(f, "live view, 640x480 at {RATE_HZ:.0} Hz, {:.0} s each", self.seconds)?;
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
        if let [alone, .., watched] = self.phases.as_slice() {
            let slower = watched.captured_to_decision.median_ms / alone.captured_to_decision.median_ms;
            write!(f, "\nmedian decision with {} viewers: {slower:.2} times as long", watched.viewers)?;
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

/// What a phase has gathered in its turns.
#[derive(Default)]
struct Gathered {
    watched: Vec<Watched>,
    decisions_ms: Vec<f64>,
}

/// Measures the live view of `site` with each number of [`VIEWERS`] for `time` in all.
pub fn bench_live(site: &Site, time: Duration) -> Result<LiveTimings, SiteError> {
    let mut gathered: [Gathered; VIEWERS.len()] = Default::default();
    for _ in 0..TURNS {
        for (viewers, gathered) in VIEWERS.into_iter().zip(&mut gathered) {
            let from = wall_ms();
            gathered.watched.extend(turn(&site.client, viewers, time / TURNS)?);
            gathered.decisions_ms.extend(site.client.decision_latencies(from, wall_ms())?);
        }
    }
    let phases = VIEWERS.into_iter().zip(gathered).map(|(viewers, gathered)| phase(viewers, gathered));
    Ok(LiveTimings { seconds: time.as_secs_f64(), phases: phases.collect::<Result<_, _>>()? })
}

fn turn(client: &Client, viewers: usize, time: Duration) -> Result<Vec<Watched>, SiteError> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..viewers).map(|_| scope.spawn(|| watch(client, time))).collect();
        if viewers == 0 {
            std::thread::sleep(time + SETTLE);
        }
        threads
            .into_iter()
            .map(|thread| {
                let panicked = |_| SiteError::Nothing("a viewer panicked".to_owned());
                Ok(thread.join().map_err(panicked)??)
            })
            .collect()
    })
}

fn phase(viewers: usize, Gathered { watched, decisions_ms }: Gathered) -> Result<Phase, SiteError> {
    if decisions_ms.is_empty() || watched.iter().any(|watched| watched.delays_ms.is_empty()) {
        return Err(SiteError::Nothing(format!("nothing to measure with {viewers} viewers: watch longer")));
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
        decisions: decisions_ms.len(),
        captured_to_decision: Spread::of(decisions_ms),
    })
}
