//! Times a program from its start to its first result, as somebody waiting for it would, and reads
//! how much memory it then holds.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use crate::embedding::EmbeddingSpaceId;
use crate::gallery::{
    Enrolment, EnrolmentTarget, GalleryError, GalleryStore, NewSample, SampleOrigin, SampleQuality,
    SubjectName,
};
use crate::score::QualityScore;

use super::memory::ResidentMemory;
use super::process::end;
use super::random::Random;
use super::search::{BenchError, direction};

/// Longest wait for the line.
const PATIENCE: Duration = Duration::from_secs(30);
/// From the first result to the reading of the memory, in the last round.
const SETTLING: Duration = Duration::from_secs(3);

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
    /// Memory of the last one, some seconds after its first result.
    pub memory: Option<ResidentMemory>,
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

/// Enrols subjects whose templates point anywhere, three each, through the store as any other.
pub fn enrol_synthetic(
    store: &mut GalleryStore,
    space: &EmbeddingSpaceId,
    dimensions: usize,
    subjects: usize,
) -> Result<(), SyntheticError> {
    let mut random = Random::new(0x73_74_61_72);
    for number in 0..subjects {
        let name = SubjectName::new(&format!("synthetic {number}")).expect("words and digits are a name");
        let sample = |_| {
            Ok(NewSample {
                origin: SampleOrigin::File,
                quality: SampleQuality::unmeasured(QualityScore::MAX),
                embedding: direction(&mut random, dimensions, space).map_err(BenchError::from)?,
                picture: None,
            })
        };
        let samples = (0..3).map(sample).collect::<Result<_, SyntheticError>>()?;
        store.enrol(&Enrolment { subject: EnrolmentTarget::New(name), samples })?;
    }
    Ok(())
}

/// Whether a line of `limen run --json` is about a visitor, not about the camera.
pub fn is_result(line: &str) -> bool {
    let value = serde_json::from_str::<serde_json::Value>(line).ok();
    let event = value.as_ref().and_then(|value| value.get("event")?.as_str());
    matches!(event, Some("identified" | "unknown"))
}

/// Why there is no synthetic gallery.
#[derive(Debug, Error)]
pub enum SyntheticError {
    /// Its embeddings could not be made.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// It could not be stored.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

/// Starts the program `rounds` times and times each from just before its process is made to the
/// first line on its standard output that `awaited` accepts; the process is ended then, the last one
/// after its memory has been read. The round before the first brings the files into memory.
pub fn time_to_first_line(
    mut command: impl FnMut() -> Command,
    awaited: impl Fn(&str) -> bool + Clone + Send + 'static,
    rounds: usize,
) -> Result<StartTimings, StartError> {
    one(command(), awaited.clone(), Duration::ZERO)?;
    let (mut times, mut memory) = (Vec::with_capacity(rounds), None);
    let last = rounds.max(1) - 1;
    for round in 0..=last {
        let settling = if round == last { SETTLING } else { Duration::ZERO };
        let (time, found) = one(command(), awaited.clone(), settling)?;
        times.push(time);
        memory = found;
    }
    times.sort_unstable();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    Ok(StartTimings {
        rounds: times.len(),
        fastest_ms: ms(0),
        median_ms: ms(times.len() / 2),
        slowest_ms: ms(times.len() - 1),
        memory,
    })
}

fn one(
    mut command: Command,
    awaited: impl Fn(&str) -> bool + Send + 'static,
    settling: Duration,
) -> Result<(Duration, Option<ResidentMemory>), StartError> {
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
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let seen = lines.any(|line| awaited(&line)).then(Instant::now);
        // Nobody listens any more when the wait was given up.
        let _ = tell.send(seen);
        // The program may go on talking; nothing must keep it from that.
        lines.for_each(drop);
    });
    let answer = told.recv_timeout(PATIENCE);
    if answer.as_ref().is_ok_and(Option::is_some) {
        std::thread::sleep(settling);
    }
    let memory = ResidentMemory::of_process(child.id());
    end(&mut child);
    // It has read to the end of a pipe that nobody writes to any more.
    let joined = reader.join();
    match (answer, joined) {
        (Ok(Some(seen)), Ok(())) => Ok((seen - start, memory)),
        (Err(mpsc::RecvTimeoutError::Timeout), _) => Err(StartError::Late { program }),
        _ => Err(StartError::Ended { program }),
    }
}

impl std::fmt::Display for StartTimings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, fastest_ms, median_ms, slowest_ms, memory } = self;
        write!(
            f,
            "first result   {median_ms:.0} ms after the start (fastest {fastest_ms:.0}, slowest {slowest_ms:.0}; \
             {rounds} starts)"
        )?;
        memory.iter().try_for_each(|memory| write!(f, "\nmemory         {memory}"))
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
        assert!(timings.memory.is_none(), "it has ended before its memory is read");
    }

    #[test]
    fn lines_about_the_camera_are_no_result() {
        assert!(is_result(r#"{"id":1,"event":"unknown","best_score":0.1}"#));
        assert!(!is_result(r#"{"event":"streaming","stream":{"label":"identified"}}"#));
        assert!(!is_result("note: \"event\":\"identified\""));
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
