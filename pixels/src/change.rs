//! Whether a frame differs from those before it, found out without decoding it. Pure; runs on the
//! thread `recogniser` while nobody is in view.
//!
//! * Raw formats: the mean luminance of a coarse grid of cells, a few pixels of each. Several cells
//!   must differ by more than the picture's own noise.
//! * MJPG: the length of the compressed frame. Whatever hides a part of the picture has its own
//!   detail, and the length is the sum of all detail.
//!
//! What it misses: in MJPG, somebody with just as much detail as what they hide; everybody, with a
//! camera that holds its frames at a constant length; a change as small as the noise (in 640x480 MJPG,
//! by the test below, a face of 60 px is noticed in noise of 3 levels and missed in one of 4, where
//! one of 80 px is noticed); one so slow that it is taken for the drift of daylight. Therefore nothing here keeps a frame from being looked at for
//! longer than `tracking.unchanged_look_hz` allows. What it sees although nobody came: light switched
//! on, exposure being adjusted, a waving branch. That costs a look, `tracking.idle_look_hz` at most.

use crate::frame::{FrameSize, PixelFormat, RawFrame};

/// What comparing a frame with those before it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something is different, or there is nothing to compare with yet.
    Changed,
    /// Nothing but noise.
    Unchanged,
}

/// Differences count from this many standard deviations of the noise. Of Gaussian noise one frame in
/// 50,000 lies beyond 4.2, and comparing two noisy values adds a factor of the root of two.
const DEVIATIONS: f32 = 6.0;
/// Frames after which the noise is known well enough; until then all are taken for changed.
pub const LEARNING: u32 = 8;
/// The reference is the mean of up to this many unchanged frames: two seconds at 15 Hz, so that it
/// follows daylight and not somebody who walks in.
const LONGEST_MEMORY: u32 = 32;
/// Share of a new value in the estimate of the noise: two seconds at 15 Hz too.
const NOISE_SHARE: f32 = 1.0 / 32.0;
/// Mean absolute difference of two values with Gaussian noise of deviation one: two over the root of pi.
const MEAN_DIFFERENCE: f32 = 1.128;
/// Median absolute difference of the same: 0.6745 times the root of two.
const MEDIAN_DIFFERENCE: f32 = 0.954;

/// Least change of a frame's length that counts, as a share of it: still pictures drawn without noise
/// differ by nothing, and a head of 60 px in a frame of 640x480 by several times that.
const LEAST_LENGTH_CHANGE: f32 = 0.002;
/// A change of length by this share counts however noisy the length is.
const ALWAYS_LENGTH_CHANGE: f32 = 0.02;

/// Cells of the grid.
const COLUMNS: usize = 32;
const ROWS: usize = 24;
/// Pixels read of each cell, in both directions.
const SAMPLES: usize = 4;
/// Cells that must differ: the smallest usable face at 640x480, 60 px wide, covers three by three.
const CELLS_CHANGED: usize = 4;
/// Least and most difference of a cell's mean that counts, in levels of luminance.
const LEAST_LEVELS: f32 = 3.0;
const ALWAYS_LEVELS: f32 = 16.0;

/// Compares each frame of one stream with those before it.
#[derive(Debug, Default)]
pub struct ChangeDetector {
    stream: Option<(PixelFormat, FrameSize)>,
    frames: u32,
    /// Frames that the reference is the mean of.
    agreed: u32,
    noise: f32,
    /// A length, or the grid; values of the present frame, the one before, and the reference.
    now: Vec<f32>,
    before: Vec<f32>,
    reference: Vec<f32>,
    differences: Vec<f32>,
}

impl ChangeDetector {
    /// Nothing to compare with yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares one frame. One that is damaged counts as changed, so that decoding it says why.
    pub fn observe(&mut self, raw: &RawFrame) -> Change {
        if self.stream != Some((raw.format, raw.size)) {
            *self = Self { stream: Some((raw.format, raw.size)), ..Self::default() };
        }
        self.now.clear();
        let compressed = raw.format == PixelFormat::Mjpg;
        let read = if compressed { length(&raw.bytes, &mut self.now) } else { grid(raw, &mut self.now) };
        if read.is_none() {
            return Change::Changed;
        }
        let change = if self.frames == 0 {
            Change::Changed
        } else if compressed {
            self.compare_length()
        } else {
            self.compare_grid()
        };
        match change {
            Change::Changed => {
                self.reference.clone_from(&self.now);
                self.agreed = 1;
            }
            Change::Unchanged => {
                self.agreed = (self.agreed + 1).min(LONGEST_MEMORY);
                let share = 1.0 / self.agreed as f32;
                for (reference, now) in self.reference.iter_mut().zip(&self.now) {
                    *reference += (now - *reference) * share;
                }
            }
        }
        std::mem::swap(&mut self.now, &mut self.before);
        self.frames = self.frames.saturating_add(1);
        change
    }

    /// Takes in the noise of one frame and gives the estimate.
    fn learn(&mut self, noise: f32) -> f32 {
        let share = (1.0 / self.frames as f32).max(NOISE_SHARE);
        self.noise += (noise - self.noise) * share;
        self.noise
    }

    fn compare_length(&mut self) -> Change {
        let (now, before, reference) = (self.now[0], self.before[0], self.reference[0]);
        let always = ALWAYS_LENGTH_CHANGE * reference;
        // From frame to frame, so that neither a drift nor a single jump is taken for noise.
        let noise = self.learn((now - before).abs().min(always) / MEAN_DIFFERENCE);
        let counts = (DEVIATIONS * noise).clamp(LEAST_LENGTH_CHANGE * reference, always);
        self.judge((now - reference).abs() > counts)
    }

    fn compare_grid(&mut self) -> Change {
        self.differences.clear();
        self.differences.extend(self.now.iter().zip(&self.before).map(|(now, before)| (now - before).abs()));
        let middle = self.differences.len() / 2;
        // The median: less than half of a picture moves at a time.
        let (_, median, _) = self.differences.select_nth_unstable_by(middle, f32::total_cmp);
        let median = *median;
        let noise = self.learn(median.min(ALWAYS_LEVELS) / MEDIAN_DIFFERENCE);
        let counts = (DEVIATIONS * noise).clamp(LEAST_LEVELS, ALWAYS_LEVELS);
        let differs = |(now, reference): &(&f32, &f32)| (*now - *reference).abs() > counts;
        let changed = self.now.iter().zip(&self.reference).filter(differs).count();
        self.judge(changed >= CELLS_CHANGED)
    }

    fn judge(&self, differs: bool) -> Change {
        if differs || self.frames < LEARNING { Change::Changed } else { Change::Unchanged }
    }
}

/// Bytes up to the end-of-image marker: some drivers hand out the whole buffer, whatever the camera
/// put into it. `None` where there is no such marker.
fn length(bytes: &[u8], values: &mut Vec<f32>) -> Option<()> {
    let end = bytes.windows(2).rposition(|pair| pair == [0xff, 0xd9])?;
    values.push(end as f32);
    Some(())
}

/// Mean luminance of each cell, 0 to 255. `None` where the frame is shorter than it says.
fn grid(raw: &RawFrame, values: &mut Vec<f32>) -> Option<()> {
    // Bytes from pixel to pixel, and where in a pixel its luminance is; of RGB, green will do.
    let (step, offset) = match raw.format {
        PixelFormat::Mjpg => return None,
        PixelFormat::Yuyv => (2, 0),
        PixelFormat::Nv12 | PixelFormat::Grey => (1, 0),
        PixelFormat::Rgb3 => (3, 1),
    };
    let (width, height) = (raw.size.width as usize, raw.size.height as usize);
    let stride = if raw.stride == 0 { width.checked_mul(step)? } else { raw.stride as usize };
    let place = |index: usize, cells: usize, length: usize| (2 * index + 1) * length / (2 * cells * SAMPLES);
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let mut sum = 0_u32;
            for y in 0..SAMPLES {
                let line = place(row * SAMPLES + y, ROWS, height).checked_mul(stride)?;
                for x in 0..SAMPLES {
                    let at = place(column * SAMPLES + x, COLUMNS, width) * step + offset;
                    sum += u32::from(*raw.bytes.get(line.checked_add(at)?)?);
                }
            }
            values.push(sum as f32 / (SAMPLES * SAMPLES) as f32);
        }
    }
    Some(())
}
