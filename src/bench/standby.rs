//! What the whole daemon costs while nobody is in view: every thread of it, connected to a broker and
//! with its web server open, as the kernel accounts for the process.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use super::memory::ResidentMemory;
use super::process::Ending;

/// The start, with its self-test and the first connection, is not what is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux of today (`man 5 proc`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum StandbyError {
    /// The program did not start.
    #[error("cannot start the daemon: {0}")]
    Spawn(std::io::Error),
    /// It ended, or the system does not tell about it.
    #[error("the daemon has ended, or this system has no /proc: run it by hand to see why")]
    Ended,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Standby {
    /// Wall time watched.
    pub seconds: f64,
    /// CPU time of all threads, user and system, percent of one core.
    pub percent: f64,
    /// Memory when the measurement began.
    pub memory_at_start: ResidentMemory,
    /// And when it ended.
    pub memory_at_end: ResidentMemory,
}

impl std::fmt::Display for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "the whole daemon over {:.0} s, nobody in view: {:.2} % of one core",
            self.seconds, self.percent
        )?;
        write!(f, "at the start {}\nat the end   {}", self.memory_at_start, self.memory_at_end)
    }
}

/// Starts the daemon that `command` describes and watches it for a time.
pub fn bench_standby(mut command: Command, watched: Duration) -> Result<Standby, StandbyError> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(StandbyError::Spawn)?;
    let mut daemon = Ending(child);
    std::thread::sleep(WARM_UP);
    let (start, before, memory_at_start) = (Instant::now(), cpu(&mut daemon)?, memory(&daemon)?);
    std::thread::sleep(watched);
    let (seconds, after, memory_at_end) =
        (start.elapsed().as_secs_f64(), cpu(&mut daemon)?, memory(&daemon)?);
    Ok(Standby { seconds, percent: (after - before) / seconds * 100.0, memory_at_start, memory_at_end })
}

fn memory(daemon: &Ending) -> Result<ResidentMemory, StandbyError> {
    ResidentMemory::of_process(daemon.0.id()).ok_or(StandbyError::Ended)
}

/// Seconds of CPU time so far.
fn cpu(daemon: &mut Ending) -> Result<f64, StandbyError> {
    // An ended process still has its file until it is waited for.
    if daemon.0.try_wait().map_or(true, |ended| ended.is_some()) {
        return Err(StandbyError::Ended);
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.0.id()));
    stat.ok().and_then(|stat| cpu_seconds(&stat)).ok_or(StandbyError::Ended)
}

/// User and system time of `/proc/PID/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_fourteenth_and_fifteenth_field_whatever_the_name() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 5 0 12345 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("77 (a) S 1"), None);
    }

    #[test]
    fn daemon_that_ends_at_once_is_an_error() {
        let result = bench_standby(Command::new("true"), Duration::from_millis(1));
        assert!(matches!(result, Err(StandbyError::Ended)), "{result:?}");
    }
}
