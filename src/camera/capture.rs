//! The thread `capture`: keeps a stream alive and the newest frame at hand.
//!
//! It owns the source and is the only one to touch it. Recognition takes frames from a
//! [`LatestSlot`] when it has time; a frame nobody took is overwritten by the next and counted.
//! A lost camera is no reason to end: the stream is opened again until [`Cancel`] says stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cancel::Woken;
use super::{CameraError, CameraSettings, Cancel, Controls, FrameSource, StreamDescription};
use crate::backoff::{Backoff, random_fraction};
use crate::clock::{Clock, Monotonic};
use crate::frame::{FrameId, RawFrame};

/// One frame, the newest. Hands byte buffers round so that a steady stream allocates nothing.
#[derive(Debug, Default)]
pub struct LatestSlot {
    state: Mutex<SlotState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    frame: Option<RawFrame>,
    spare: Vec<Vec<u8>>,
    overwritten: u64,
    closed: bool,
}

/// Buffers kept for reuse: one frame is being written, one lies in the slot, one is being looked
/// at, so two can be idle at once.
const SPARE_BUFFERS: usize = 2;

/// What waiting for a frame gave.
#[derive(Debug)]
pub enum Waited {
    /// The newest frame.
    Frame(RawFrame),
    /// None came in time.
    TimedOut,
    /// None will ever come.
    Closed,
}

impl LatestSlot {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    /// Puts a frame in; one that nobody took is lost and counted.
    pub fn publish(&self, frame: RawFrame) {
        let mut state = self.lock();
        if let Some(old) = state.frame.replace(frame) {
            state.overwritten += 1;
            state.keep(old.bytes);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the newest frame, waiting for one no longer than `timeout`.
    pub fn wait(&self, timeout: Duration) -> Waited {
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| state.frame.is_none() && !state.closed)
            .expect("no holder of this lock can panic");
        match state.frame.take() {
            Some(frame) => Waited::Frame(frame),
            None if state.closed => Waited::Closed,
            None => Waited::TimedOut,
        }
    }

    /// Gives the bytes of a frame back once they are no longer needed.
    pub fn recycle(&self, bytes: Vec<u8>) {
        self.lock().keep(bytes);
    }

    /// An empty buffer, one that was used before where there is one.
    pub fn spare(&self) -> Vec<u8> {
        let mut buffer = self.lock().spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Says that no frame will follow; one that is there can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether a frame waits to be taken.
    pub fn is_full(&self) -> bool {
        self.lock().frame.is_some()
    }

    /// Frames that were overwritten before anybody took them.
    pub fn overwritten(&self) -> u64 {
        self.lock().overwritten
    }
}

impl SlotState {
    fn keep(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && bytes.capacity() > 0 {
            self.spare.push(bytes);
        }
    }
}

/// How capture is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaptureStats {
    /// Frames put into the slot.
    pub delivered: u64,
    /// Of these, overwritten before anybody took them.
    pub overwritten: u64,
    /// Frames that were short, flagged as broken, or unreadable, and so never delivered.
    pub discarded: u64,
    /// Streams opened after the first one.
    pub rebuilds: u64,
    /// When the last frame was delivered.
    #[serde(skip)]
    pub last_frame_at: Option<Monotonic>,
    /// The last frame delivered.
    #[serde(skip)]
    pub last_id: Option<FrameId>,
    /// What goes on now.
    pub state: CaptureState,
}

/// What the capture thread is at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureState {
    /// No stream was ever open.
    Starting,
    /// Frames come in.
    Streaming(StreamDescription),
    /// The camera is gone or cannot be opened; it is tried again.
    Lost {
        /// The latest reason.
        error: String,
    },
    /// The recording reached its end.
    Ended,
    /// Told to stop.
    Stopped,
}

/// What the capture thread shares with the others.
#[derive(Debug)]
pub struct CaptureShared {
    slot: LatestSlot,
    counts: Mutex<CaptureStats>,
}

impl Default for CaptureShared {
    fn default() -> Self {
        let counts = CaptureStats {
            delivered: 0,
            overwritten: 0,
            discarded: 0,
            rebuilds: 0,
            last_frame_at: None,
            last_id: None,
            state: CaptureState::Starting,
        };
        Self { slot: LatestSlot::new(), counts: Mutex::new(counts) }
    }
}

impl CaptureShared {
    /// Where the frames are.
    pub fn slot(&self) -> &LatestSlot {
        &self.slot
    }

    /// Counts and state, as of now.
    pub fn stats(&self) -> CaptureStats {
        CaptureStats { overwritten: self.slot.overwritten(), ..self.counts().clone() }
    }

    fn counts(&self) -> MutexGuard<'_, CaptureStats> {
        self.counts.lock().expect("no holder of this lock can panic")
    }
}

/// A stream that lasted this long was a working one.
const LASTED: Duration = Duration::from_secs(3);

/// What [`run`] needs from outside, so that tests can stand in for chance and time.
pub struct Surroundings<'a> {
    /// Opens the source.
    pub open: &'a mut dyn FnMut() -> Result<Box<dyn FrameSource>, CameraError>,
    /// Waits, unless told to stop.
    pub pause: &'a mut dyn FnMut(Duration) -> Woken,
    /// A number from 0 to 1.
    pub jitter: &'a mut dyn FnMut() -> f32,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Called whenever the thread moves: a frame, a failure, an attempt.
    pub moved: &'a mut dyn FnMut(),
    /// Asked after a wait was ended: whether a stream is wanted again, with other settings, rather than
    /// the end.
    pub again: &'a mut dyn FnMut() -> bool,
}

/// Captures until the recording ends or [`CameraError::Cancelled`] comes back from the source or
/// the pause.
pub fn run(shared: &CaptureShared, around: &mut Surroundings<'_>) {
    let (mut backoff, mut streams) = (Backoff::new(), 0);
    let end = loop {
        (around.moved)();
        let started = around.clock.monotonic();
        match run_once(shared, around, &mut streams) {
            Ok(()) => break CaptureState::Ended,
            Err(CameraError::Cancelled) if (around.again)() => {
                backoff = Backoff::new();
                continue;
            }
            Err(CameraError::Cancelled) => break CaptureState::Stopped,
            Err(error) => {
                let lasted = shared.counts().last_frame_at.map_or(Duration::ZERO, |at| at.since(started));
                backoff.lasted(lasted, LASTED);
                note_loss(shared, &error);
            }
        }
        if (around.pause)(backoff.next_wait((around.jitter)())) == Woken::Cancelled {
            if (around.again)() {
                backoff = Backoff::new();
                continue;
            }
            break CaptureState::Stopped;
        }
    };
    shared.counts().state = end;
    shared.slot.close();
}

/// Opens one stream and delivers its frames to the end or the first error.
fn run_once(
    shared: &CaptureShared,
    around: &mut Surroundings<'_>,
    streams: &mut u64,
) -> Result<(), CameraError> {
    let mut source = (around.open)()?;
    let discarded_before = {
        let mut counts = shared.counts();
        counts.rebuilds = *streams;
        *streams += 1;
        counts.state = CaptureState::Streaming(source.stream().clone());
        counts.discarded
    };
    // Each stream counts from 0; across streams the numbers go on, so that no frame looks older than
    // one before it.
    let first = shared.counts().last_id.map_or(0, |FrameId(last)| last + 1);
    tracing::info!(stream = %source.stream(), "camera stream opened");
    loop {
        let next = source.next_frame(shared.slot.spare());
        (around.moved)();
        let mut counts = shared.counts();
        counts.discarded = discarded_before + source.discarded();
        let Some(mut frame) = next? else { return Ok(()) };
        frame.id = FrameId(first + frame.id.0);
        counts.last_id = Some(frame.id);
        counts.delivered += 1;
        counts.last_frame_at = Some(around.clock.monotonic());
        drop(counts);
        shared.slot.publish(frame);
    }
}

/// Reports a loss once, not at every attempt to open the camera again.
fn note_loss(shared: &CaptureShared, error: &CameraError) {
    let lost = CaptureState::Lost { error: error.to_string() };
    let mut counts = shared.counts();
    if counts.state != lost {
        tracing::warn!(%error, "camera lost; trying again");
        counts.state = lost;
    }
}

/// Changes what a running capture captures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CaptureControl {
    settings: Arc<Mutex<CameraSettings>>,
    cancel: Cancel,
    stopping: Arc<AtomicBool>,
}

impl CaptureControl {
    /// Ends the stream and opens one by these settings. Nothing happens where they are the same.
    pub fn reopen(&self, settings: CameraSettings) -> Result<(), CameraError> {
        settings.check()?;
        let mut now = self.lock();
        if *now != settings {
            *now = settings;
            self.cancel.cancel();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, CameraSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread is to go on after a wait was ended. In this order: a stop that comes in between
    /// is seen, or ends the next wait.
    fn goes_on(&self) -> bool {
        self.cancel.clear();
        !self.stopping.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.cancel.cancel();
    }
}

/// The running thread.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<CaptureShared>,
    control: CaptureControl,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Capture {
    /// Starts the thread `capture`. Settings that no source can meet are refused here; a camera
    /// that is not there yet is waited for. `moved` is called by the thread whenever it moves.
    pub fn spawn(
        settings: CameraSettings,
        clock: Arc<dyn Clock>,
        mut moved: impl FnMut() + Send + 'static,
    ) -> Result<Self, CameraError> {
        settings.check()?;
        let refused = |what: &str, error: std::io::Error| CameraError::Settings(format!("{what}: {error}"));
        let cancel = Cancel::new().map_err(|error| refused("eventfd", error))?;
        let shared = Arc::new(CaptureShared::default());
        let control =
            CaptureControl { settings: Arc::new(Mutex::new(settings)), cancel, stopping: Arc::default() };
        let thread = std::thread::Builder::new().name("capture".into()).spawn({
            let (shared, control) = (shared.clone(), control.clone());
            let mut controls = Controls::default();
            move || {
                run(
                    &shared,
                    &mut Surroundings {
                        open: &mut || {
                            let mut settings = control.lock().clone();
                            // What was set before and is no longer is put back.
                            controls = settings.controls.after(&controls);
                            settings.controls = controls;
                            super::open_with(&settings, &control.cancel, clock.clone())
                        },
                        pause: &mut |time| control.cancel.wait(time),
                        jitter: &mut random_fraction,
                        clock: clock.as_ref(),
                        moved: &mut moved,
                        again: &mut || control.goes_on(),
                    },
                );
            }
        });
        let thread = Some(thread.map_err(|error| refused("thread `capture`", error))?);
        Ok(Self { shared, control, thread })
    }

    /// Changes what is captured.
    pub fn control(&self) -> CaptureControl {
        self.control.clone()
    }

    /// Frames, counts and state.
    pub fn shared(&self) -> &Arc<CaptureShared> {
        &self.shared
    }

    /// Whether the thread has ended without having been told to and without the recording having ended:
    /// it panicked.
    pub fn has_died(&self) -> bool {
        let orderly = matches!(self.shared.counts().state, CaptureState::Ended | CaptureState::Stopped);
        !orderly && self.thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished)
    }

    /// Tells the thread to stop and waits for it, at most `patience`; `false` when it is stuck in
    /// the driver, which then only the end of the process resolves.
    pub fn stop(mut self, patience: Duration) -> bool {
        self.control.stop();
        let Some(thread) = self.thread.take() else { return true };
        let deadline = Instant::now() + patience;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        thread.join().is_ok()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.control.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::Transport;
    use crate::clock::{SimulatedClock, UnixMillis};
    use crate::frame::{FrameSize, PixelFormat};

    const SIZE: FrameSize = FrameSize { width: 16, height: 16 };

    fn frame(id: u64, bytes: Vec<u8>) -> RawFrame {
        let (captured_at, format) = (Monotonic::default(), PixelFormat::Grey);
        RawFrame { id: FrameId(id), captured_at, format, size: SIZE, stride: 16, bytes }
    }

    #[test]
    fn slot_gives_the_newest_frame_and_counts_the_lost_ones() {
        let slot = LatestSlot::new();
        (1..=3).for_each(|id| slot.publish(frame(id, vec![0])));
        let Waited::Frame(newest) = slot.wait(Duration::ZERO) else { panic!("a frame is there") };
        assert_eq!(newest.id, FrameId(3));
        assert_eq!(slot.overwritten(), 2);
        assert!(matches!(slot.wait(Duration::ZERO), Waited::TimedOut));
    }

    #[test]
    fn slot_hands_overwritten_and_recycled_buffers_out_again() {
        let slot = LatestSlot::new();
        let (first, second) = (vec![7; 100], vec![8; 100]);
        let addresses = [first.as_ptr(), second.as_ptr()];
        slot.publish(frame(1, first));
        slot.publish(frame(2, second));
        let Waited::Frame(newest) = slot.wait(Duration::ZERO) else { panic!("a frame is there") };
        slot.recycle(newest.bytes);
        let spares = [slot.spare(), slot.spare()];
        assert!(spares.iter().all(|buffer| buffer.is_empty() && addresses.contains(&buffer.as_ptr())));
        assert_eq!(slot.spare().capacity(), 0);
    }

    #[test]
    fn slot_gives_its_last_frame_after_closing() {
        let slot = LatestSlot::new();
        slot.publish(frame(1, vec![0]));
        slot.close();
        assert!(matches!(slot.wait(Duration::from_secs(60)), Waited::Frame(_)));
        assert!(matches!(slot.wait(Duration::from_secs(60)), Waited::Closed));
    }

    /// Delivers some frames, a second apart, then fails or ends.
    struct Scripted {
        frames: std::ops::Range<u64>,
        ends: bool,
        stream: StreamDescription,
        clock: Arc<SimulatedClock>,
    }

    impl FrameSource for Scripted {
        fn stream(&self) -> &StreamDescription {
            &self.stream
        }

        fn next_frame(&mut self, buffer: Vec<u8>) -> Result<Option<RawFrame>, CameraError> {
            let Some(id) = self.frames.next() else {
                let device = "/dev/video9".into();
                return if self.ends { Ok(None) } else { Err(CameraError::Silent { device, waited_ms: 1 }) };
            };
            self.clock.advance(Duration::from_secs(1));
            Ok(Some(frame(id, buffer)))
        }

        fn discarded(&self) -> u64 {
            1
        }
    }

    /// Runs streams of these lengths, the last of which ends; gives the pauses between them.
    fn run_streams(lengths: &[Option<u64>]) -> (CaptureShared, Vec<u128>) {
        let clock = Arc::new(SimulatedClock::new(UnixMillis(0)));
        let (shared, mut pauses, mut next) = (CaptureShared::default(), vec![], 0);
        run(
            &shared,
            &mut Surroundings {
                open: &mut || {
                    let Some(Some(frames)) = lengths.get(next).copied() else {
                        next += 1;
                        return Err(CameraError::NoneFound { tried: "nothing".into() });
                    };
                    next += 1;
                    let stream = StreamDescription {
                        label: "scripted".into(),
                        format: PixelFormat::Grey,
                        size: SIZE,
                        rate_hz: None,
                        transport: Transport::Recording,
                        notes: Vec::new(),
                    };
                    let (ends, clock) = (next == lengths.len(), clock.clone());
                    Ok(Box::new(Scripted { frames: 0..frames, ends, stream, clock }))
                },
                pause: &mut |time| {
                    pauses.push(time.as_millis());
                    if pauses.len() < 10 { Woken::TimedOut } else { Woken::Cancelled }
                },
                jitter: &mut || 1.0,
                clock: clock.as_ref(),
                moved: &mut || (),
                again: &mut || false,
            },
        );
        (shared, pauses)
    }

    #[test]
    fn any_error_builds_a_new_stream() {
        let (shared, pauses) = run_streams(&[Some(1), None, Some(4), Some(2)]);
        assert_eq!(pauses, [100, 200, 100]);
        let stats = shared.stats();
        assert_eq!((stats.delivered, stats.rebuilds, stats.discarded), (7, 2, 3));
        assert_eq!(stats.overwritten, 6);
        assert_eq!(stats.last_id, Some(FrameId(6)));
        assert_eq!(stats.state, CaptureState::Ended);
    }

    #[test]
    fn a_camera_that_never_appears_is_tried_until_told_to_stop() {
        let (shared, pauses) = run_streams(&[]);
        assert_eq!(pauses, [100, 200, 400, 800, 1500, 1500, 1500, 1500, 1500, 1500]);
        assert_eq!(shared.stats().state, CaptureState::Stopped);
        assert!(matches!(shared.slot().wait(Duration::from_secs(60)), Waited::Closed));
    }

    fn streaming(capture: &Capture, wanted: FrameSize) {
        // Nothing takes longer than these ten minutes of waiting, however busy the machine is.
        for _ in 0..6_000 {
            let frame = capture.shared().slot().wait(Duration::from_millis(100));
            if matches!(capture.shared().stats().state, CaptureState::Streaming(stream) if stream.size == wanted)
                && matches!(frame, Waited::Frame(frame) if frame.size == wanted)
            {
                return;
            }
        }
        panic!("{:?}", capture.shared().stats());
    }

    #[test]
    fn stream_is_opened_anew_with_other_settings_and_still_stops() {
        let size = |width, height| FrameSize { width, height };
        let settings = |size| CameraSettings {
            source: crate::camera::SourceSpec::Scene,
            size,
            rate_hz: 60.0,
            ..CameraSettings::default()
        };
        let clock = Arc::new(crate::clock::SystemClock);
        let capture = Capture::spawn(settings(size(160, 120)), clock, || ()).unwrap();
        streaming(&capture, size(160, 120));
        let control = capture.control();
        control.reopen(settings(size(320, 240))).unwrap();
        streaming(&capture, size(320, 240));
        assert!(control.reopen(CameraSettings { rate_hz: 0.0, ..settings(size(320, 240)) }).is_err());
        assert_eq!(capture.shared().stats().rebuilds, 1);
        assert!(capture.stop(Duration::from_secs(20)));
    }

    #[test]
    fn control_that_was_set_is_put_back_when_it_is_set_no_longer() {
        use crate::camera::Wish;
        let gain = |gain| Controls { gain, ..Controls::default() };
        let set = gain(Wish::Set(3)).after(&Controls::default());
        assert_eq!(set, gain(Wish::Set(3)));
        let unset = Controls::default().after(&set);
        assert_eq!(unset, gain(Wish::Reset));
        assert_eq!(
            Controls::default().after(&unset),
            gain(Wish::Reset),
            "until the camera was there to take it"
        );
        assert_eq!(Controls::default().after(&Controls::default()), Controls::default());
    }
}
