//! The relay: a line that is active for a bounded time and never longer. Runs on the thread `relay`, which does
//! nothing else, so that nothing keeps it from releasing.
//!
//! It is released when the pulse is over; when the thread that decides has not ticked for [`DECIDER_SILENCE`]; and
//! when this program ends in any way in which its code still runs. When the program is killed, the kernel leaves
//! the line as it was: then whoever started it (systemd, by `ExecStopPost`) runs `limen door release`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::watch;

use super::condition::DoorCondition;
use super::gpio::{LineSpec, Output};
use crate::clock::{Clock, Monotonic};
use crate::supervisor::Heartbeat;

/// No pulse is longer, whatever is asked.
pub const LONGEST_PULSE: Duration = Duration::from_secs(30);
/// The thread that decides ticks ten times a second; an open door does not wait longer for it than this.
pub const DECIDER_SILENCE: Duration = Duration::from_secs(1);
/// How often the thread looks around while nothing is to be done.
const TICK: Duration = Duration::from_millis(100);
/// A line that cannot be had is tried again after this long.
const AGAIN: Duration = Duration::from_secs(5);
const ORDERS: usize = 8;

/// What the thread is told.
enum Order {
    /// Open for this long.
    Open(Duration, SyncSender<bool>),
    /// Close, whatever is left of the pulse.
    Close,
}

/// That the thread which decides is alive: when it ticked last, by the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It is alive now.
    pub fn tick(&self, now: Monotonic) {
        let ms = now.since(Monotonic::default()).as_millis();
        self.0.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn silent_for(&self, now: Monotonic) -> Duration {
        now.since(Monotonic::from_duration(Duration::from_millis(self.0.load(Ordering::Relaxed))))
    }
}

/// Reaches the thread.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    orders: SyncSender<Order>,
    energised: watch::Receiver<bool>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open(..) => "Open",
            Self::Close => "Close",
        })
    }
}

impl RelayHandle {
    /// Energises the relay; whether it is, when this returns. Waits for the line, at most 250 ms.
    pub fn open(&self, pulse: Duration) -> bool {
        let (reply, done) = sync_channel(1);
        self.orders.try_send(Order::Open(pulse, reply)).is_ok()
            && done.recv_timeout(Duration::from_millis(250)) == Ok(true)
    }

    /// Releases it at once.
    pub fn close(&self) {
        // A full queue is worked off within a millisecond, and every pulse ends by itself.
        let _ = self.orders.try_send(Order::Close);
    }

    /// Whether it is energised; changes when that does.
    pub fn energised(&self) -> watch::Receiver<bool> {
        self.energised.clone()
    }
}

/// The thread, not yet running.
pub struct RelayThread {
    line: LineSpec,
    orders: Receiver<Order>,
    energised: watch::Sender<bool>,
    decider: Pulse,
    condition: DoorCondition,
    clock: Arc<dyn Clock>,
}

impl RelayThread {
    /// The thread, how to reach it, and what shows it that the thread which decides is alive.
    pub fn new(
        line: LineSpec,
        condition: DoorCondition,
        clock: Arc<dyn Clock>,
    ) -> (Self, RelayHandle, Pulse) {
        let (sender, orders) = sync_channel(ORDERS);
        let energised = watch::Sender::new(false);
        let handle = RelayHandle { orders: sender, energised: energised.subscribe() };
        let decider = Pulse::default();
        (Self { line, orders, energised, decider: decider.clone(), condition, clock }, handle, decider)
    }

    /// Serves until told to end, and releases the relay then.
    pub fn run(self, beat: &Heartbeat, ending: &AtomicBool) -> anyhow::Result<()> {
        let mut line = self.take();
        let mut tried = self.clock.monotonic();
        // Until when the relay may stay energised.
        let mut until: Option<Monotonic> = None;
        while !ending.load(Ordering::Relaxed) {
            beat.beat();
            let now = self.clock.monotonic();
            let wait = until.map_or(TICK, |until| until.since(now).min(TICK));
            match self.orders.recv_timeout(wait) {
                Ok(Order::Open(pulse, reply)) => {
                    if line.is_none() {
                        line = self.take();
                    }
                    let done = self.switch(&mut line, true);
                    if done {
                        let end = self.clock.monotonic() + pulse.min(LONGEST_PULSE);
                        until = Some(until.map_or(end, |until| until.max(end)));
                    }
                    // Whoever asked may have given up waiting.
                    let _ = reply.try_send(done);
                }
                Ok(Order::Close) => until = until.and(Some(now)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = self.clock.monotonic();
            if let Some(end) = until {
                let silent = self.decider.silent_for(now) > DECIDER_SILENCE;
                if silent {
                    tracing::error!("the thread that decides is silent; the relay is released");
                }
                if (now >= end || silent) && self.switch(&mut line, false) {
                    until = None;
                }
            } else if line.is_none() && now.since(tried) >= AGAIN {
                tried = now;
                line = self.take();
            }
        }
        // Dropping the line releases it.
        drop(line);
        self.energised.send_replace(false);
        Ok(())
    }

    fn take(&self) -> Option<Output> {
        match Output::open(&self.line) {
            Ok(line) => {
                self.condition.works("relay");
                Some(line)
            }
            Err(error) => {
                self.condition.fails("relay", error.to_string());
                None
            }
        }
    }

    /// Switches; whether the line is as it was asked to be. A line that does not do what it is told is given back,
    /// and taken anew as released.
    fn switch(&self, line: &mut Option<Output>, active: bool) -> bool {
        let Some(output) = line.as_ref() else { return !active };
        match output.set(active) {
            Ok(()) => {
                self.energised.send_if_modified(|now| std::mem::replace(now, active) != active);
                true
            }
            Err(error) => {
                self.condition.fails("relay", error.to_string());
                *line = None;
                *line = self.take();
                let released = line.is_some();
                if released {
                    self.energised.send_if_modified(|now| std::mem::replace(now, false));
                }
                released && !active
            }
        }
    }
}
