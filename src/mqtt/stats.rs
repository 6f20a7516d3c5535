//! Counters of what went over the broker, for the metrics. Written by the tasks here, read anywhere.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Carried out.
    Done,
    /// It could not be carried out.
    Failed,
    /// Not JSON, not an object, a field missing, unknown or out of range.
    Malformed,
    /// There is no such command.
    Unknown,
    /// Larger than a command can be.
    TooLarge,
    /// Its transaction was there before.
    Replayed,
    /// Too many at a time.
    RateLimited,
    /// Retained by the broker: an old wish, and ignored.
    Retained,
}

impl CommandOutcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Malformed,
        Self::Unknown,
        Self::TooLarge,
        Self::Replayed,
        Self::RateLimited,
        Self::Retained,
    ];

    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::TooLarge => "too_large",
            Self::Replayed => "replayed",
            Self::RateLimited => "rate_limited",
            Self::Retained => "retained",
        }
    }
}

/// One counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The count since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All of them, since the start.
#[derive(Debug, Default)]
pub struct MqttStats {
    /// Connections made.
    pub connects: Counter,
    /// Connections that failed or were lost.
    pub failures: Counter,
    /// Messages handed to the broker.
    pub sent: Counter,
    /// Messages taken from the broker.
    pub received: Counter,
    /// Events the broker acknowledged while they were fresh.
    pub acknowledged: Counter,
    /// Events the broker acknowledged on the late topic.
    pub late: Counter,
    /// Events sent again, since no acknowledgement had come.
    pub repeated: Counter,
    /// Events the broker refused; they are sent again.
    pub refused: Counter,
    /// Messages other than events that were dropped because too many waited.
    pub dropped: Counter,
    /// Messages from the broker that were dropped because too many waited.
    pub overflowed: Counter,
    /// Reports of what goes on that came too fast.
    pub live_missed: Counter,
    commands: [Counter; CommandOutcome::ALL.len()],
}

impl MqttStats {
    /// Commands with one outcome.
    pub fn commands(&self, outcome: CommandOutcome) -> u64 {
        self.commands[outcome as usize].get()
    }

    pub(crate) fn command(&self, outcome: CommandOutcome) {
        self.commands[outcome as usize].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let stats = MqttStats::default();
        for (n, outcome) in CommandOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, n);
            stats.command(outcome);
            assert_eq!(stats.commands(outcome), 1, "{}", outcome.name());
        }
    }
}
