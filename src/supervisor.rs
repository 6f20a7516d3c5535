//! The supervisor: named threads, their heartbeats, and what their ends mean.
//!
//! A thread that ends although nobody told it to ends the program: something is wrong that only a
//! new start can mend. A thread that no longer moves is dead too; nothing can be done about it from
//! the inside, so the program says which it is and lets the watchdog have it. What merely does not
//! work for a while, a camera or a broker, is none of this: see [`crate::status`].
//!
//! Runs on the thread that starts the daemon. That thread may itself come to wait for what a thread
//! that no longer moves holds; the [`LastResort`] waits for nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{Clock, Monotonic};

/// A sign of life. The thread or task it was made for beats it whenever it moves.
#[derive(Clone)]
pub struct Heartbeat(Arc<Beat>);

struct Beat {
    name: String,
    limit: Duration,
    /// Microseconds of the monotonic clock.
    last: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heartbeat({})", self.0.name)
    }
}

impl Heartbeat {
    fn new(name: &str, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        let beat = Self(Arc::new(Beat { name: name.to_owned(), limit, last: AtomicU64::new(0), clock }));
        beat.beat();
        beat
    }

    /// Of a thread that nobody watches.
    pub(crate) fn unwatched(clock: Arc<dyn Clock>) -> Self {
        Self::new("unwatched", Duration::MAX, clock)
    }

    /// I am alive.
    pub fn beat(&self) {
        let now = self.0.clock.monotonic().since(Monotonic::default());
        self.0.last.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn silent(&self, now: Monotonic) -> Duration {
        now.since(Monotonic::from_duration(Duration::from_micros(self.0.last.load(Ordering::Relaxed))))
    }
}

/// A thread or task that no longer moves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` has not moved for {:.1} s, more than the {} s it may take", silent.as_secs_f32(), limit.as_secs())]
pub struct Stuck {
    /// Which.
    pub name: String,
    /// For how long.
    pub silent: Duration,
    /// For how long it may be.
    pub limit: Duration,
}

/// How a thread ended.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub name: String,
    /// What it says about it.
    pub result: anyhow::Result<()>,
}

/// All threads of the daemon.
pub struct Supervisor {
    clock: Arc<dyn Clock>,
    beats: Vec<Heartbeat>,
    threads: Vec<(String, JoinHandle<()>)>,
    /// Threads whose end somebody has heard of.
    reported: Vec<String>,
    ended: Receiver<Ended>,
    ending: Sender<Ended>,
}

impl Supervisor {
    /// Nothing to watch yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (ending, ended) = channel();
        Self { clock, beats: Vec::new(), threads: Vec::new(), reported: Vec::new(), ended, ending }
    }

    /// Watches something that has to beat at least every `limit`.
    pub fn watch(&mut self, name: &str, limit: Duration) -> Heartbeat {
        let beat = Heartbeat::new(name, limit, Arc::clone(&self.clock));
        self.beats.push(beat.clone());
        beat
    }

    /// Starts a thread that has to beat at least every `limit`. Its end, by a panic too, is reported by
    /// [`ended_within`](Self::ended_within).
    pub fn spawn(
        &mut self,
        name: &str,
        limit: Duration,
        work: impl FnOnce(&Heartbeat) -> anyhow::Result<()> + Send + 'static,
    ) -> std::io::Result<()> {
        let beat = self.watch(name, limit);
        let ending = self.ending.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Whatever the panic broke is not used again: the program ends.
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(&beat)))
                .unwrap_or_else(|panic| Err(anyhow::anyhow!("it panicked: {}", panic_text(panic.as_ref()))));
            // An error means that the supervisor is gone, and with it the question.
            let _ = ending.send(Ended { name: beat.0.name.clone(), result });
        })?;
        self.threads.push((name.to_owned(), thread));
        Ok(())
    }

    /// Waits for a thread to end, at most `patience`.
    pub fn ended_within(&mut self, patience: Duration) -> Option<Ended> {
        let ended = self.ended.recv_timeout(patience).ok()?;
        self.reported.push(ended.name.clone());
        Some(ended)
    }

    /// An error if anything watched no longer moves.
    pub fn check(&self) -> Result<(), Stuck> {
        let now = self.clock.monotonic();
        for beat in &self.beats {
            let (silent, limit) = (beat.silent(now), beat.0.limit);
            // A thread that has ended beats no more; its end is reported, not its silence.
            let gone = self.threads.iter().any(|(name, thread)| *name == beat.0.name && thread.is_finished());
            if silent > limit && !gone {
                return Err(Stuck { name: beat.0.name.clone(), silent, limit });
            }
        }
        Ok(())
    }

    /// Aborts the process once anything watched so far has been silent for `patience` longer than it
    /// may be: by then the supervisor should have ended it, and cannot. Until what is returned is dropped.
    pub fn last_resort(&self, patience: Duration) -> std::io::Result<LastResort> {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, clock) = (Arc::clone(&over), Arc::clone(&self.clock));
        // Written now, since a thread that stands still may hold the allocator.
        let mut beats: Vec<_> = self
            .beats
            .iter()
            .map(|beat| {
                let (name, limit) = (&beat.0.name, beat.0.limit.saturating_add(patience));
                let said = format!(
                    "`{name}` has not moved for {} s, and nothing else can end the program\n",
                    limit.as_secs()
                );
                (beat.clone(), limit, said, 0)
            })
            .collect();
        std::thread::Builder::new().name("last-resort".into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                let now = clock.monotonic();
                for (beat, limit, said, overdue) in &mut beats {
                    *overdue = if beat.silent(now) > *limit { *overdue + 1 } else { 0 };
                    if *overdue > LOOKS && !ended.load(Ordering::Relaxed) {
                        // Not through the log, which has locks. What cannot be said is no reason to stay.
                        let _ = rustix::io::write(rustix::stdio::stderr(), said.as_bytes());
                        std::process::abort();
                    }
                }
            }
        })?;
        Ok(LastResort(over))
    }

    /// Waits for one thread to end, at most `patience`: what it said, unless that was reported
    /// before. An error if it does not end.
    pub fn join(&mut self, name: &str, patience: Duration) -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + patience;
        while !self.reported.iter().any(|reported| reported == name) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let Some(ended) = self.ended_within(left) else {
                anyhow::bail!("the thread `{name}` did not end within {:.1} s", patience.as_secs_f32());
            };
            match ended.result {
                Err(error) if ended.name == name => return Err(error),
                Err(error) => {
                    tracing::error!(thread = ended.name, "failed while ending: {error:#}");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// How often the last resort looks, and how many times in a row it has to see the same: a process that was stopped as a
/// whole has a moment to move again.
const LOOK: Duration = Duration::from_secs(1);
const LOOKS: u32 = 2;

/// The watch of [`Supervisor::last_resort`], as long as this lives.
#[derive(Debug)]
pub struct LastResort(Arc<AtomicBool>);

impl Drop for LastResort {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SimulatedClock, UnixMillis};

    fn supervisor() -> (Arc<SimulatedClock>, Supervisor) {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(0)));
        (clock.clone(), Supervisor::new(clock))
    }

    #[test]
    fn silent_part_is_named_once_its_limit_is_over() {
        let (clock, mut supervisor) = supervisor();
        let beat = supervisor.watch("recogniser", Duration::from_secs(10));
        let other = supervisor.watch("store", Duration::from_secs(60));
        clock.advance(Duration::from_secs(10));
        assert_eq!(supervisor.check(), Ok(()));
        clock.advance(Duration::from_secs(1));
        let stuck = supervisor.check().unwrap_err();
        assert_eq!((stuck.name.as_str(), stuck.silent), ("recogniser", Duration::from_secs(11)));
        beat.beat();
        other.beat();
        assert_eq!(supervisor.check(), Ok(()));
    }

    #[test]
    fn end_of_a_thread_is_reported_with_what_it_said() {
        let (_, mut supervisor) = supervisor();
        supervisor.spawn("a", Duration::from_secs(1), |_| anyhow::bail!("no more")).unwrap();
        let error = supervisor.join("a", Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.to_string(), "no more");
        assert!(supervisor.join("a", Duration::ZERO).is_ok(), "told once");
    }

    #[test]
    fn panic_is_the_end_of_its_thread_with_its_message() {
        let (_, mut supervisor) = supervisor();
        supervisor.spawn("a", Duration::from_secs(1), |_| panic!("on purpose")).unwrap();
        let error = supervisor.join("a", Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.to_string(), "it panicked: on purpose");
    }

    #[test]
    fn thread_that_does_not_end_is_not_waited_for_beyond_patience() {
        let (clock, mut supervisor) = supervisor();
        let (hold, held) = channel::<()>();
        supervisor
            .spawn("a", Duration::from_secs(1), move |_| {
                // Ends when the test lets go.
                let _ = held.recv();
                Ok(())
            })
            .unwrap();
        assert!(supervisor.join("a", Duration::from_millis(1)).is_err());
        clock.advance(Duration::from_secs(2));
        assert_eq!(supervisor.check().unwrap_err().name, "a");
        drop(hold);
        assert!(supervisor.join("a", Duration::from_secs(10)).is_ok());
    }
}
