//! Passes shown to the camera: QR codes in frames. Runs on the thread `passes`, at a few frames a second, so that
//! recognition never waits for it and a picture made to confuse the reader costs nobody else anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::credential::PASS_PREFIX;
use super::thread::{DoorHandle, DoorInput};
use crate::clock::Monotonic;
use crate::frame::{PooledImage, RgbImage};
use crate::supervisor::Heartbeat;

/// Between two frames that are looked at for codes.
const EVERY: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(250);
/// A code that stays in view is told once; after so long without it, it is a new one.
const SAME: Duration = Duration::from_secs(3);
/// Codes looked at in one frame.
const CODES: usize = 4;
/// No pass is longer; other codes may be.
const LONGEST: usize = 128;

/// The recogniser's end: decides which frames go to the reader. Never waits.
#[derive(Debug)]
pub struct PassEye {
    frames: SyncSender<(PooledImage, Monotonic)>,
    door: DoorHandle,
    busy: Arc<AtomicBool>,
    last: Option<Monotonic>,
}

impl PassEye {
    /// Whether this frame is wanted.
    pub fn wants(&self, captured: Monotonic) -> bool {
        self.last.is_none_or(|last| captured.since(last) >= EVERY)
            && !self.busy.load(Ordering::Relaxed)
            && self.door.takes_passes()
    }

    /// Hands a frame over.
    pub fn show(&mut self, image: PooledImage, captured: Monotonic) {
        self.last = Some(captured);
        self.busy.store(true, Ordering::Relaxed);
        // Full or ended: the next frame shows the same code.
        if self.frames.try_send((image, captured)).is_err() {
            self.busy.store(false, Ordering::Relaxed);
        }
    }
}

/// The thread, not yet running.
pub struct PassThread {
    frames: Receiver<(PooledImage, Monotonic)>,
    door: DoorHandle,
    busy: Arc<AtomicBool>,
    /// The text told last, and when it was last in view.
    seen: Option<(String, Monotonic)>,
}

impl PassThread {
    /// The thread, and the recogniser's end.
    pub fn new(door: DoorHandle) -> (Self, PassEye) {
        let (sender, frames) = sync_channel(1);
        let busy = Arc::<AtomicBool>::default();
        let eye = PassEye { frames: sender, door: door.clone(), busy: Arc::clone(&busy), last: None };
        (Self { frames, door, busy, seen: None }, eye)
    }

    /// Serves until told to end.
    pub fn run(mut self, beat: &Heartbeat, ending: &AtomicBool) -> anyhow::Result<()> {
        while !ending.load(Ordering::Relaxed) {
            beat.beat();
            match self.frames.recv_timeout(TICK) {
                Ok((image, captured)) => {
                    let texts = read_codes(&image);
                    drop(image);
                    self.busy.store(false, Ordering::Relaxed);
                    for text in texts {
                        self.tell(text, captured);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
            }
        }
        Ok(())
    }

    fn tell(&mut self, text: String, captured: Monotonic) {
        let same = self.seen.as_ref().is_some_and(|(seen, at)| *seen == text && captured.since(*at) < SAME);
        self.seen = Some((text.clone(), captured));
        if !same {
            self.door.tell(DoorInput::Pass(text));
        }
    }
}

/// Texts of the codes in a picture that begin like a pass.
pub fn read_codes(image: &RgbImage) -> Vec<String> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = image.pixels();
    // The reader is a library that follows whatever lines it is shown; should it ever fail over them, there is no
    // code in this picture.
    let read = catch_unwind(AssertUnwindSafe(|| {
        let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let at = 3 * (y * width + x);
            let [r, g, b] = [pixels[at], pixels[at + 1], pixels[at + 2]].map(u32::from);
            ((77 * r + 150 * g + 29 * b) >> 8) as u8
        });
        let grids = prepared.detect_grids();
        let texts = grids.iter().take(CODES).filter_map(|grid| grid.decode().ok()).map(|(_, text)| text);
        texts.filter(|text| text.len() <= LONGEST && text.starts_with(PASS_PREFIX)).collect()
    }));
    read.unwrap_or_default()
}

/// A code as a picture in black and white, `scale` pixels a module, with the quiet zone that readers need. None
/// where the text does not fit into a code.
pub fn draw_code(text: &str, scale: u32) -> Option<RgbImage> {
    const QUIET: u32 = 4;
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::M).ok()?;
    let modules = u32::try_from(code.width()).ok()?;
    let side = (modules + 2 * QUIET) * scale;
    let colors = code.to_colors();
    let mut image = RgbImage::black(side, side);
    let pixels = image.pixels_mut();
    for y in 0..side {
        for x in 0..side {
            let module = |at: u32| (at / scale).checked_sub(QUIET).filter(|module| *module < modules);
            let dark = module(x).zip(module(y)).is_some_and(|(column, row)| {
                colors[(row * modules + column) as usize] == qrcode::Color::Dark
            });
            let at = 3 * (y * side + x) as usize;
            pixels[at..at + 3].fill(if dark { 0 } else { 255 });
        }
    }
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::credential::{DoorSecret, PassCode};

    fn pass() -> String {
        DoorSecret::from_bytes([7; 32]).pass_text(PassCode([1, 2, 3, 4, 5, 6, 7, 8]), 0)
    }

    /// The code as a camera may see it: smaller, off centre, on grey, with some noise.
    fn seen(text: &str, scale: u32) -> RgbImage {
        let code = draw_code(text, scale).unwrap();
        let mut frame = RgbImage::black(640, 480);
        let (width, pixels) = (640, frame.pixels_mut());
        pixels.fill(110);
        for y in 0..code.height().min(400) as usize {
            for x in 0..code.width().min(600) as usize {
                let (from, to) = (3 * (y * code.width() as usize + x), 3 * ((y + 40) * width + x + 25));
                let noise = ((x * 31 + y * 17) % 23) as u8;
                let value = if code.pixels()[from] > 0 { 200 + noise } else { 30 + noise };
                pixels[to..to + 3].fill(value);
            }
        }
        frame
    }

    #[test]
    fn pass_is_read_from_a_picture_of_it() {
        for scale in [3, 4, 6, 8] {
            assert_eq!(read_codes(&seen(&pass(), scale)), [pass()], "{scale} pixels a module");
        }
    }

    #[test]
    fn other_codes_and_pictures_without_any_are_no_passes() {
        assert!(read_codes(&seen("https://example.org/", 6)).is_empty());
        assert!(read_codes(&seen(&format!("LIMEN:{}", "A".repeat(400)), 4)).is_empty());
        assert!(read_codes(&RgbImage::black(640, 480)).is_empty());
        assert!(read_codes(&RgbImage::black(1, 1)).is_empty());
    }
}
