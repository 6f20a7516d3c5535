//! How long to wait before the next attempt at what is away: a camera, a broker. Pure, but for
//! [`random_fraction`].

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// The longest wait: what comes back is to be found within three seconds, on a busy board too.
const LONGEST: Duration = Duration::from_millis(1500);

/// Doubles from attempt to attempt, from 0.1 s to 1.5 s, and forgets when something has lasted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// Starts with the shortest wait.
    pub(crate) fn new() -> Self {
        Self { ceiling: FIRST }
    }

    /// The next wait: from half of the present ceiling to all of it, by `jitter` from 0 to 1, so
    /// that several cameras behind one failing hub, or many devices of a restarted broker, do not
    /// come back in step.
    pub(crate) fn next_wait(&mut self, jitter: f32) -> Duration {
        let wait = self.ceiling.mul_f32(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        wait
    }

    /// Tells how long the last attempt held; from `enough` on it was a good one.
    pub(crate) fn lasted(&mut self, time: Duration, enough: Duration) {
        if time >= enough {
            *self = Self::new();
        }
    }
}

/// From 0 to 1; half when the system has no randomness: a wait is then merely not spread.
pub(crate) fn random_fraction() -> f32 {
    getrandom::u32().map_or(0.5, |number| number as f32 / u32::MAX as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Duration = Duration::from_secs(3);

    #[test]
    fn backoff_doubles_to_its_limit_and_forgets_after_a_lasting_stream() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..7).map(|_| backoff.next_wait(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1500, 1500, 1500]);
        assert_eq!(backoff.next_wait(0.0).as_millis(), 750);
        backoff.lasted(Duration::from_secs(2), ENOUGH);
        assert_eq!(backoff.next_wait(1.0).as_millis(), 1500);
        backoff.lasted(Duration::from_secs(3), ENOUGH);
        assert_eq!(backoff.next_wait(1.0).as_millis(), 100);
    }

    #[test]
    fn pauses_double_to_a_bound_and_keep_to_their_upper_half() {
        let (mut short, mut long) = (Backoff::new(), Backoff::new());
        let millis = |pause: Duration| pause.as_millis();
        let pauses: Vec<_> =
            (0..7).map(|_| (millis(short.next_wait(0.0)), millis(long.next_wait(1.0)))).collect();
        assert_eq!(
            pauses,
            [(50, 100), (100, 200), (200, 400), (400, 800), (750, 1500), (750, 1500), (750, 1500)]
        );
        long.lasted(ENOUGH, ENOUGH);
        assert_eq!(millis(long.next_wait(1.0)), 100);
    }
}
