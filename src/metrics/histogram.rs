//! Counting durations without a lock: the threads that measure never wait for the one that reads.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, MetricEncoder, NoLabelSet};
use serde::Serialize;

/// Upper bounds for one stage of a frame: a fast board decodes in well under a millisecond, a slow
/// one embeds in tens.
pub(super) const STAGE_BOUNDS: [Duration; 12] =
    bounds_us([250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000]);
/// Upper bounds from capture to what somebody at the door notices: the promised 80 and 200 ms are bounds,
/// so that the share of events that keeps them is exact.
pub(super) const WAIT_BOUNDS: [Duration; 13] = bounds_us([
    10_000, 20_000, 40_000, 60_000, 80_000, 120_000, 200_000, 350_000, 500_000, 1_000_000, 2_000_000,
    10_000_000, 60_000_000,
]);

const fn bounds_us<const N: usize>(micros: [u64; N]) -> [Duration; N] {
    let mut bounds = [Duration::ZERO; N];
    let mut index = 0;
    while index < N {
        bounds[index] = Duration::from_micros(micros[index]);
        index += 1;
    }
    bounds
}

/// Durations by upper bound. Counts of one reading may be one observation apart from its sum.
pub(super) struct Histogram {
    bounds: &'static [Duration],
    /// One more than bounds, for what is above the last.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_ns: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, time: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < time);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        // Wraps after 584 years of measured time.
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9, count, buckets)
    }

    pub(super) fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let (sum, count, buckets) = self.read();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    pub(super) fn encode_with(
        &self,
        encoder: &mut MetricEncoder<'_>,
        labels: &impl EncodeLabelSet,
    ) -> fmt::Result {
        self.encode(encoder.encode_family(labels)?)
    }
}

/// Events that [`Percentiles`] speak of, at most.
const RECENT: usize = 256;

/// The newest durations.
pub(super) struct Recent {
    /// Microseconds and one: 0 is a place that was never filled.
    places: [AtomicU32; RECENT],
    next: AtomicUsize,
}

/// How long the newest events took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of them took at most this, milliseconds.
    pub p50_ms: f32,
    /// 99 of 100 took at most this, milliseconds.
    pub p99_ms: f32,
    /// How many there are to speak of, at most 256.
    pub of: usize,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { places: [const { AtomicU32::new(0) }; RECENT], next: AtomicUsize::new(0) }
    }

    pub(super) fn note(&self, time: Duration) {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % RECENT;
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.places[place].store(micros.saturating_add(1), Ordering::Relaxed);
    }

    /// Nearest-rank percentiles; `None` before the first event.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let mut micros: Vec<u32> =
            self.places.iter().filter_map(|place| place.load(Ordering::Relaxed).checked_sub(1)).collect();
        micros.sort_unstable();
        let rank = |percent: usize| micros.get((micros.len() * percent).div_ceil(100).saturating_sub(1));
        let ms = |micros: &u32| *micros as f32 / 1e3;
        Some(Percentiles { p50_ms: ms(rank(50)?), p99_ms: ms(rank(99)?), of: micros.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_below_them() {
        let histogram = Histogram::new(&WAIT_BOUNDS);
        histogram.observe(Duration::from_millis(80));
        histogram.observe(Duration::from_micros(80_001));
        histogram.observe(Duration::from_secs(61));
        let (sum, count, buckets) = histogram.read();
        let filled: Vec<(f64, u64)> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.08, 1), (0.12, 1), (f64::INFINITY, 1)]);
        assert_eq!(count, 3);
        assert!((sum - 61.160_001).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn bounds_ascend() {
        assert!(STAGE_BOUNDS.is_sorted_by(|left, right| left < right));
        assert!(WAIT_BOUNDS.is_sorted_by(|left, right| left < right));
    }

    #[test]
    fn percentiles_are_those_of_the_newest_events() {
        let recent = Recent::new();
        assert_eq!(recent.percentiles(), None);
        recent.note(Duration::ZERO);
        assert_eq!(recent.percentiles(), Some(Percentiles { p50_ms: 0.0, p99_ms: 0.0, of: 1 }));
        (1..=1000).for_each(|ms| recent.note(Duration::from_millis(ms)));
        // 745 to 1000 remain: the 128th and the 254th of them.
        assert_eq!(recent.percentiles(), Some(Percentiles { p50_ms: 872.0, p99_ms: 998.0, of: 256 }));
    }

    #[test]
    fn observations_of_several_threads_are_all_counted() {
        let histogram = Histogram::new(&STAGE_BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| histogram.observe(Duration::from_millis(1))));
            }
        });
        let (sum, count, _) = histogram.read();
        assert_eq!(count, 40_000);
        assert!((sum - 40.0).abs() < 1e-9, "{sum}");
    }
}
