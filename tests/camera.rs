//! The capture thread from the outside: the built-in scene and a recording, in real time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use limen::camera::capture::{Capture, CaptureState, Waited};
use limen::camera::{CameraSettings, SourceSpec};
use limen::clock::SystemClock;
use limen::frame::{FrameId, FrameSize, PixelFormat, RawFrame};

const PATIENCE: Duration = Duration::from_secs(30);

fn spawn(source: SourceSpec, rate_hz: f32) -> Capture {
    let size = FrameSize { width: 320, height: 240 };
    let settings = CameraSettings { source, size, rate_hz, ..CameraSettings::default() };
    Capture::spawn(settings, Arc::new(SystemClock), || ()).unwrap()
}

fn next(capture: &Capture) -> Option<RawFrame> {
    match capture.shared().slot().wait(PATIENCE) {
        Waited::Frame(frame) => Some(frame),
        Waited::Closed => None,
        Waited::TimedOut => panic!("no frame for {PATIENCE:?}: {:?}", capture.shared().stats()),
    }
}

#[test]
fn the_scene_streams_until_told_to_stop() {
    let capture = spawn(SourceSpec::Scene, 60.0);
    let frames: Vec<RawFrame> = (0..3).map(|_| next(&capture).unwrap()).collect();
    assert!(frames.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert!(frames.iter().all(|frame| frame.format == PixelFormat::Mjpg));
    let stats = capture.shared().stats();
    assert!(matches!(stats.state, CaptureState::Streaming(stream) if stream.size.width == 320));
    let shared = capture.shared().clone();
    assert!(capture.stop(PATIENCE));
    assert_eq!(shared.stats().state, CaptureState::Stopped);
}

#[test]
fn a_recording_is_delivered_to_its_end_and_every_frame_is_accounted_for() {
    let portraits = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/portraits");
    let recording = tempfile::NamedTempFile::with_suffix(".mjpeg").unwrap();
    let picture = std::fs::read(portraits.join("eileen_collins_1.jpg")).unwrap();
    std::fs::write(recording.path(), picture.repeat(7)).unwrap();
    let capture = spawn(SourceSpec::Replay(recording.path().into()), 100.0);
    let mut last = None;
    let mut taken = 0;
    while let Some(frame) = next(&capture) {
        assert!(frame.bytes == picture);
        assert!(last < Some(frame.id));
        last = Some(frame.id);
        taken += 1;
        capture.shared().slot().recycle(frame.bytes);
    }
    assert_eq!(last, Some(FrameId(6)));
    let stats = capture.shared().stats();
    assert_eq!((stats.delivered, stats.overwritten + taken, stats.discarded), (7, 7, 0));
    assert_eq!(stats.state, CaptureState::Ended);
}

#[test]
fn settings_that_no_source_can_meet_are_refused_before_the_thread_starts() {
    let settings = CameraSettings { rate_hz: 0.0, ..CameraSettings::default() };
    assert!(Capture::spawn(settings, Arc::new(SystemClock), || ()).is_err());
}
