//! How often frames are looked at. Pure: time and what was noticed are passed in.
//!
//! While nobody is in view, a frame that differs from the last one looked at is looked at once, and
//! without any difference one is looked at from time to time all the same, since what compares frames
//! may miss something. While somebody's verdict is open every frame is looked at, and once everybody
//! is settled a few frames a second. Somebody who watches on the admin page is shown frames at a steady
//! rate of their own; that changes nothing about which frames decide.

use std::time::Duration;

use serde::Serialize;

use crate::change::Change;
use crate::clock::Monotonic;

/// The longest time between two looks for each need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cadence {
    /// Between two looks while nobody is in view and the picture keeps changing.
    pub idle: Duration,
    /// Between two looks while nobody is in view and the picture stays as it is. Never shorter in
    /// effect than `idle`.
    pub unchanged: Duration,
    /// Between two looks while everybody in view is settled.
    pub settled: Duration,
    /// Between two frames shown to whoever watches.
    pub watched: Duration,
}

/// How much attention the scene needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Nobody in view.
    Idle,
    /// Everybody in view is decided about.
    Settled,
    /// Somebody's verdict is open.
    Full,
}

/// Why a frame is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Enough frames are looked at as it is.
    NotDue,
    /// Nobody is in view, and nothing has changed.
    Unchanged,
}

/// Half a millisecond of grace, so that a camera at just the wanted rate is not halved by jitter.
const GRACE: Duration = Duration::from_micros(500);

/// Says for each frame whether it is looked at.
#[derive(Clone, Debug)]
pub struct Pacer {
    cadence: Cadence,
    last_look: Option<Monotonic>,
    /// The last look that a change called for.
    last_prompted: Option<Monotonic>,
    /// A change was seen that no look has followed yet.
    change_waits: bool,
    last_shown: Option<Monotonic>,
}

impl Pacer {
    /// No look yet.
    pub fn new(cadence: Cadence) -> Self {
        Self { cadence, last_look: None, last_prompted: None, change_waits: false, last_shown: None }
    }

    /// Looks as often as `cadence` says from now on.
    pub fn set_cadence(&mut self, cadence: Cadence) {
        self.cadence = cadence;
    }

    /// Whether the frame captured at `now` is to be shown, asked only while somebody watches; notes that
    /// it is. Has no influence on [`skip`](Self::skip).
    pub fn shows(&mut self, now: Monotonic) -> bool {
        let shown = is_due(self.last_shown, self.cadence.watched, now);
        if shown {
            self.last_shown = Some(now);
        }
        shown
    }

    /// `None` when the frame captured at `now` is to be looked at, and notes that it is. `change` is
    /// asked for only while nobody is in view.
    pub fn skip(
        &mut self,
        attention: Attention,
        now: Monotonic,
        change: impl FnOnce() -> Change,
    ) -> Option<Skip> {
        let due = |last, between| is_due(last, between, now);
        let skip = match attention {
            Attention::Full => None,
            Attention::Settled => (!due(self.last_look, self.cadence.settled)).then_some(Skip::NotDue),
            Attention::Idle => {
                self.change_waits |= change() == Change::Changed;
                let forced = due(self.last_look, self.cadence.unchanged.max(self.cadence.idle));
                // Counted from the last change and not from the last look, so that whoever comes just
                // after a forced look does not wait.
                let prompted = self.change_waits && due(self.last_prompted, self.cadence.idle);
                match (forced, prompted) {
                    (_, true) => {
                        self.last_prompted = Some(now);
                        None
                    }
                    (true, false) => None,
                    (false, false) if self.change_waits => Some(Skip::NotDue),
                    (false, false) => Some(Skip::Unchanged),
                }
            }
        };
        if skip.is_none() {
            self.last_look = Some(now);
            self.change_waits = false;
        }
        skip
    }
}

fn is_due(last: Option<Monotonic>, between: Duration, now: Monotonic) -> bool {
    last.is_none_or(|last| now.since(last) + GRACE >= between)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CADENCE: Cadence = Cadence {
        idle: Duration::from_millis(250),
        unchanged: Duration::from_millis(1_000),
        settled: Duration::from_millis(200),
        watched: Duration::from_micros(66_667),
    };

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    const CHANGED: fn() -> Change = || Change::Changed;
    const UNCHANGED: fn() -> Change = || Change::Unchanged;

    fn never() -> Change {
        panic!("frames are compared only while nobody is in view")
    }

    /// Looks of an idle stream with a frame every `interval_ms`.
    fn looks(interval_ms: u64, changes: &[Change]) -> Vec<u64> {
        let mut pacer = Pacer::new(CADENCE);
        let look = |(number, change): (usize, &Change)| {
            let ms = number as u64 * interval_ms;
            pacer.skip(Attention::Idle, at(ms), || *change).is_none().then_some(ms)
        };
        changes.iter().enumerate().filter_map(look).collect()
    }

    #[test]
    fn first_frame_is_always_looked_at() {
        assert_eq!(Pacer::new(CADENCE).skip(Attention::Idle, at(0), UNCHANGED), None);
    }

    #[test]
    fn unchanged_scene_is_looked_at_at_the_lower_rate() {
        assert_eq!(looks(100, &[Change::Unchanged; 35]), [0, 1_000, 2_000, 3_000]);
    }

    #[test]
    fn scene_that_always_changes_is_looked_at_at_the_idle_rate() {
        assert_eq!(looks(50, &[Change::Changed; 21]), [0, 250, 500, 750, 1_000]);
    }

    #[test]
    fn change_makes_a_look_at_once_even_just_after_a_forced_one() {
        let mut pacer = Pacer::new(CADENCE);
        assert_eq!(pacer.skip(Attention::Idle, at(0), UNCHANGED), None);
        assert_eq!(pacer.skip(Attention::Idle, at(66), UNCHANGED), Some(Skip::Unchanged));
        assert_eq!(pacer.skip(Attention::Idle, at(132), CHANGED), None);
        assert_eq!(pacer.skip(Attention::Idle, at(198), CHANGED), Some(Skip::NotDue));
    }

    #[test]
    fn change_that_came_too_early_is_looked_at_when_due() {
        let mut pacer = Pacer::new(CADENCE);
        assert_eq!(pacer.skip(Attention::Idle, at(0), CHANGED), None);
        assert_eq!(pacer.skip(Attention::Idle, at(66), CHANGED), Some(Skip::NotDue));
        assert_eq!(pacer.skip(Attention::Idle, at(132), UNCHANGED), Some(Skip::NotDue));
        assert_eq!(pacer.skip(Attention::Idle, at(260), UNCHANGED), None);
    }

    #[test]
    fn frames_between_two_looks_are_skipped_unless_somebody_is_undecided() {
        let mut pacer = Pacer::new(CADENCE);
        assert_eq!(pacer.skip(Attention::Full, at(0), never), None);
        assert_eq!(pacer.skip(Attention::Full, at(1), never), None);
        assert_eq!(pacer.skip(Attention::Settled, at(150), never), Some(Skip::NotDue));
        assert_eq!(pacer.skip(Attention::Settled, at(201), never), None);
    }

    #[test]
    fn camera_at_just_the_wanted_rate_is_not_halved() {
        let mut pacer = Pacer::new(CADENCE);
        assert_eq!(pacer.skip(Attention::Idle, at(0), CHANGED), None);
        let early = Monotonic::from_duration(Duration::from_micros(249_600));
        assert_eq!(pacer.skip(Attention::Idle, early, CHANGED), None);
    }

    #[test]
    fn showing_frames_is_paced_by_itself_and_changes_no_look() {
        let (mut watched, mut alone) = (Pacer::new(CADENCE), Pacer::new(CADENCE));
        let mut shown = 0;
        for number in 0..30 {
            let now = at(number * 33);
            shown += u64::from(watched.shows(now));
            let change = || if number % 7 == 0 { Change::Changed } else { Change::Unchanged };
            assert_eq!(watched.skip(Attention::Idle, now, change), alone.skip(Attention::Idle, now, change));
        }
        // Of a camera at 30 Hz every second or third frame.
        assert!((10..=15).contains(&shown), "{shown}");
    }

    /// Most looks in any second, and the longest time without one.
    fn extremes(looks: &[u64], end_ms: u64) -> (usize, u64) {
        let in_a_second = |from: &u64| looks.iter().filter(|ms| (*from..from + 1_000).contains(ms)).count();
        let most = looks.iter().map(in_a_second).max().unwrap_or(0);
        let ends = looks.iter().copied().skip(1).chain([end_ms]);
        (most, looks.iter().zip(ends).map(|(from, to)| to - from).max().unwrap_or(end_ms))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn idle_looks_stay_within_bounds_whatever_changes(
            interval_ms in 5_u64..200,
            changes in prop::collection::vec(prop_oneof![Just(Change::Changed), Just(Change::Unchanged)], 1..400),
        ) {
            let end = changes.len() as u64 * interval_ms;
            let (most, longest) = extremes(&looks(interval_ms, &changes), end);
            // Four that changes call for, one forced before the first of them.
            prop_assert!(most <= 5, "{most} looks in a second");
            prop_assert!(longest < 1_000 + interval_ms, "{longest} ms without a look");
        }
    }

    #[test]
    fn bounds_notice_too_many_and_too_few_looks() {
        let every_frame: Vec<_> = (0..30).map(|number| number * 66).collect();
        assert!(extremes(&every_frame, 2_000).0 > 5);
        assert!(extremes(&[0, 1_000, 3_000], 3_500).1 >= 1_066);
    }
}
