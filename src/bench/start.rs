//! Times a program from its start to its first line, as somebody waiting for it would.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

/// Longest wait for the line.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct StartTimings {
    /// Starts timed.
    pub rounds: usize,
    /// Fastest, milliseconds.
    pub fastest_ms: f64,
    /// Median, milliseconds.
    pub median_ms: f64,
    /// Slowest, milliseconds.
    pub slowest_ms: f64,
}

/// Why a start could not be timed.
#[derive(Debug, Error)]
pub enum StartError {
    /// The program did not start.
    #[error("cannot start {program}: {reason}")]
    Spawn {
        /// Which program.
        program: String,
        /// The system's own words.
        reason: std::io::Error,
    },
    /// It ended without the awaited line.
    #[error("{program} ended without the awaited line")]
    Ended {
        /// Which program.
        program: String,
    },
    /// It took too long.
    #[error("{program} gave no such line within {} s", PATIENCE.as_secs())]
    Late {
        /// Which program.
        program: String,
    },
}

/// Starts the program `rounds` times and times each from just before its process is made to the
/// first line on its standard output that `awaited` accepts; the process is ended then. The first
/// round brings the files into memory and is not counted.
pub fn time_to_first_line(
    mut command: impl FnMut() -> Command,
    awaited: impl Fn(&str) -> bool + Clone + Send + 'static,
    rounds: usize,
) -> Result<StartTimings, StartError> {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..=rounds.max(1) {
        let time = one(command(), awaited.clone())?;
        if round > 0 {
            times.push(time);
        }
    }
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    Ok(StartTimings {
        rounds: times.len(),
        fastest_ms: ms(0),
        median_ms: ms(times.len() / 2),
        slowest_ms: ms(times.len() - 1),
    })
}

fn one(
    mut command: Command,
    awaited: impl Fn(&str) -> bool + Send + 'static,
) -> Result<Duration, StartError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|reason| StartError::Spawn { program: program.clone(), reason })?;
    let output = child.stdout.take().expect("standard output was asked for");
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // Nobody listens any more when the wait was given up.
        let _ = tell.send(first_line(output, awaited).then(Instant::now));
    });
    let answer = told.recv_timeout(PATIENCE);
    end(&mut child);
    let joined = reader.join();
    match (answer, joined) {
        (Ok(Some(seen)), Ok(())) => Ok(seen - start),
        (Err(mpsc::RecvTimeoutError::Timeout), _) => Err(StartError::Late { program }),
        _ => Err(StartError::Ended { program }),
    }
}

fn first_line(output: ChildStdout, awaited: impl Fn(&str) -> bool) -> bool {
    BufReader::new(output).lines().map_while(Result::ok).any(|line| awaited(&line))
}

/// Ends the process; one that has ended by itself is as good.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl std::fmt::Display for StartTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, fastest_ms, median_ms, slowest_ms } = self;
        write!(
            f,
            "first result after {median_ms:.0} ms (fastest {fastest_ms:.0}, slowest {slowest_ms:.0}, {rounds} starts)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &'static str) -> impl FnMut() -> Command {
        move || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        }
    }

    #[test]
    fn only_the_awaited_line_stops_the_clock() {
        let timings = time_to_first_line(shell("echo other; echo found; cat"), |line| line == "found", 2);
        let timings = timings.unwrap();
        assert_eq!(timings.rounds, 2);
        assert!(timings.fastest_ms > 0.0 && timings.fastest_ms <= timings.slowest_ms);
    }

    #[test]
    fn program_that_ends_silently_is_an_error() {
        let result = time_to_first_line(shell("echo other"), |line| line == "found", 1);
        assert!(matches!(result, Err(StartError::Ended { .. })));
    }

    #[test]
    fn program_that_is_missing_is_an_error() {
        let result = time_to_first_line(|| Command::new("./no such program"), |_| true, 1);
        assert!(matches!(result, Err(StartError::Spawn { .. })));
    }
}
