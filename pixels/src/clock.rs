//! Time, as the stages see it: a monotonic instant for latencies and lifetimes, and wall-clock
//! time for what is stored or shown. Both come from a [`Clock`] that is passed in, so that tests
//! run in simulated time.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// An instant of the machine's monotonic clock. V4L2 stamps frames with the same clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The instant `since_boot` after the clock's own zero.
    pub const fn from_duration(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Time from `earlier` to `self`; zero when `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

/// Where the stages get the time from.
pub trait Clock: Send + Sync {
    /// The monotonic clock.
    fn monotonic(&self) -> Monotonic;
    /// The wall clock; it may jump.
    fn wall(&self) -> UnixMillis;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic(&self) -> Monotonic {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Monotonic(Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32))
    }

    fn wall(&self) -> UnixMillis {
        // A clock set before 1970 reads as 1970: nothing here depends on telling them apart.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct SimulatedClock(Mutex<(Duration, i64)>);

impl SimulatedClock {
    /// Starts at monotonic zero and the given wall time.
    pub fn new(wall: UnixMillis) -> Self {
        Self(Mutex::new((Duration::ZERO, wall.0)))
    }

    /// Sets the wall clock alone, as a time server does.
    pub fn set_wall(&self, wall: UnixMillis) {
        self.0.lock().expect("no holder of this lock can panic").1 = wall.0;
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().expect("no holder of this lock can panic");
        now.0 += by;
        now.1 += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    }
}

impl Clock for SimulatedClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.lock().expect("no holder of this lock can panic").0)
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(self.0.lock().expect("no holder of this lock can panic").1)
    }
}

/// Time as text: RFC 3339 in UTC with milliseconds, `2026-11-23T04:05:06.789Z`.
pub fn rfc3339(time: UnixMillis) -> String {
    let day_ms = 86_400_000;
    let (day, ms) = (time.0.div_euclid(day_ms), time.0.rem_euclid(day_ms));
    let (year, month, day) = civil(day);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar:
/// years begin in March here, so that the leap day comes last, and repeat every 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_era_start = days + 719_468;
    let era = since_era_start.div_euclid(146_097);
    let day = since_era_start.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_clock_moves_only_when_advanced() {
        let clock = SimulatedClock::new(UnixMillis(1_000));
        let start = clock.monotonic();
        assert_eq!(clock.monotonic(), start);
        clock.advance(Duration::from_millis(250));
        assert_eq!(clock.monotonic().since(start), Duration::from_millis(250));
        assert_eq!(clock.wall(), UnixMillis(1_250));
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let later = Monotonic::from_duration(Duration::from_secs(9));
        assert_eq!(Monotonic::default().since(later), Duration::ZERO);
    }
}
