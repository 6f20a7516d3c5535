//! What systemd is told: ready, how things are, and that the program is alive.
//!
//! The watchdog is fed only while everything that must move does: the supervisor's own loop calls
//! [`Watchdog::feed`] after [`Supervisor::check`](crate::supervisor::Supervisor::check) has found the
//! capture, recogniser, store and network threads moving, and the two MQTT tasks among them. A camera
//! that is away or a broker that does not answer is no reason to starve it: nothing would be gained by
//! starting again. Without systemd all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Monotonic;

/// The line to systemd.
#[derive(Debug)]
pub struct Watchdog {
    /// Between two feedings: half of what systemd allows, as its manual asks.
    interval: Option<Duration>,
    fed: Option<Monotonic>,
    ready: bool,
    status: String,
}

impl Watchdog {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn new() -> Self {
        let interval = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Self { interval, fed: None, ready: false, status: String::new() }
    }

    /// Whether systemd ends this program when it is not fed.
    pub fn is_set(&self) -> bool {
        self.interval.is_some()
    }

    /// The program does its work, or says that it is degraded. Told once.
    pub fn ready(&mut self) {
        if !std::mem::replace(&mut self.ready, true) {
            send(&[NotifyState::Ready]);
        }
    }

    /// The program ends in order and becomes itself again, under the same number: to systemd that is a
    /// service which reads its settings anew, and says so when it is ready.
    pub fn reloading(&mut self, now: Monotonic) {
        let at = i128::try_from(now.since(Monotonic::default()).as_micros()).unwrap_or(0);
        send(&[NotifyState::Reloading, NotifyState::MonotonicUsec(at)]);
    }

    /// The line that `systemctl status` shows.
    pub fn status(&mut self, line: &str) {
        if self.status != line {
            line.clone_into(&mut self.status);
            send(&[NotifyState::Status(line)]);
        }
    }

    /// Everything moves.
    pub fn feed(&mut self, now: Monotonic) {
        let due = |interval| self.fed.is_none_or(|fed| now.since(fed) >= interval);
        if self.interval.is_some_and(due) {
            self.fed = Some(now);
            send(&[NotifyState::Watchdog]);
        }
    }

    /// The program is ending in order.
    pub fn stopping(&mut self) {
        send(&[NotifyState::Stopping]);
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
