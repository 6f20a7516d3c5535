//! How long to wait before the next attempt at the broker. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// With the time a connection takes this bounds how late a broker's return is noticed: three seconds
/// are promised, on a busy board too.
const LONGEST: Duration = Duration::from_millis(1500);

/// Doubles from attempt to attempt.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next pause. `random` spreads it over the upper half, so that many devices do not come back
    /// to a restarted broker all at once.
    pub(super) fn next(&mut self, random: u8) -> Duration {
        let longest = self.0;
        self.0 = (longest * 2).min(LONGEST);
        longest / 2 + longest * u32::from(random) / 510
    }

    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_keep_to_their_upper_half() {
        let (mut short, mut long) = (Backoff::default(), Backoff::default());
        let millis = |pause: Duration| pause.as_millis();
        let pauses: Vec<_> = (0..7).map(|_| (millis(short.next(0)), millis(long.next(255)))).collect();
        assert_eq!(
            pauses,
            [(50, 100), (100, 200), (200, 400), (400, 800), (750, 1500), (750, 1500), (750, 1500)]
        );
        long.reset();
        assert_eq!(millis(long.next(255)), 100);
    }
}
