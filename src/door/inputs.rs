//! Buttons and contacts. Runs on the thread `gpio`, which sleeps until the kernel tells an edge.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::condition::DoorCondition;
use super::gpio::{Input, LineSpec};
use super::thread::{DoorHandle, DoorInput};
use crate::supervisor::Heartbeat;

/// How long the thread sleeps at most, so that it notices being told to end.
const SLEEP: Duration = Duration::from_millis(250);
/// Rounds after which a line that cannot be had is tried again: five seconds of them.
const AGAIN: u32 = 20;
/// Edges of one line read in a row: a line that flutters keeps no other waiting.
const EDGES: usize = 16;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputKind {
    /// The button inside, by which people leave. Active: pressed.
    ExitButton,
    /// The contact of the door. Active: the door is open.
    Contact,
    /// The bell. Active: pressed.
    Bell,
    /// The housing. Active: opened.
    Tamper,
}

impl InputKind {
    fn name(self) -> &'static str {
        match self {
            Self::ExitButton => "exit button",
            Self::Contact => "door contact",
            Self::Bell => "bell",
            Self::Tamper => "tamper switch",
        }
    }
}

/// The thread, not yet running.
pub struct InputThread {
    /// The lines.
    pub lines: Vec<(InputKind, LineSpec)>,
    /// How long a level has to be steady.
    pub debounce: Duration,
    /// Where edges go.
    pub door: DoorHandle,
    /// Where problems are told.
    pub condition: DoorCondition,
}

impl InputThread {
    /// Serves until told to end.
    pub fn run(self, beat: &Heartbeat, ending: &AtomicBool) -> anyhow::Result<()> {
        let mut open: Vec<Option<Input>> = self.lines.iter().map(|_| None).collect();
        let mut round = 0;
        while !ending.load(Ordering::Relaxed) {
            beat.beat();
            if round % AGAIN == 0 {
                for ((kind, spec), input) in self.lines.iter().zip(&mut open) {
                    if input.is_none() {
                        *input = self.take(*kind, spec);
                    }
                }
            }
            round += 1;
            let mut waited: Vec<PollFd<'_>> = open
                .iter()
                .flatten()
                .map(|input| PollFd::from_borrowed_fd(input.request().as_fd(), PollFlags::IN))
                .collect();
            let sleep = rustix::event::Timespec { tv_sec: 0, tv_nsec: SLEEP.subsec_nanos().into() };
            match poll(&mut waited, Some(&sleep)) {
                Ok(0) => continue,
                // Edges are there, or a chip has gone; which, the lines say themselves.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(anyhow::Error::new(error).context("waiting for GPIO lines")),
            }
            drop(waited);
            for ((kind, _), input) in self.lines.iter().zip(&mut open) {
                let Some(line) = input else { continue };
                for _ in 0..EDGES {
                    match line.edge() {
                        Ok(Some(active)) => self.door.tell(DoorInput::Edge(*kind, active)),
                        Ok(None) => break,
                        Err(error) => {
                            self.condition.fails(kind.name(), error.to_string());
                            *input = None;
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, kind: InputKind, spec: &LineSpec) -> Option<Input> {
        match Input::open(spec, self.debounce).and_then(|input| Ok((input.is_active()?, input))) {
            Ok((active, input)) => {
                self.condition.works(kind.name());
                // A button that is held down while the program starts is not being pressed.
                if matches!(kind, InputKind::Contact | InputKind::Tamper) {
                    self.door.tell(DoorInput::Edge(kind, active));
                }
                Some(input)
            }
            Err(error) => {
                self.condition.fails(kind.name(), error.to_string());
                None
            }
        }
    }
}
