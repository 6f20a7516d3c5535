//! Capture against a real Linux kernel: its virtual camera `vivid`, and `v4l2loopback` fed with
//! JPEGs. Run by `tests/lab/run.sh` inside a virtual machine, as root, one test after the other;
//! ignored everywhere else, because they load and unload kernel modules.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on ends, and says what it saw"
)]

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use limen::camera::capture::{Capture, CaptureState, CaptureStats, Waited};
use limen::camera::{CameraError, CameraSettings, FrameSource, SourceSpec, Transport, list_devices, open};
use limen::clock::SystemClock;
use limen::frame::{FrameSize, PixelFormat, RawFrame};

const VGA: FrameSize = FrameSize { width: 640, height: 480 };

/// Emulated, a second of the machine is a fraction of one outside.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command).args(arguments).status().unwrap();
    assert!(status.success(), "{command} {arguments:?}: {status}");
}

fn lab_program() -> String {
    std::env::var("LIMEN_LAB_PROGRAM").expect("tests/lab/run.sh sets it")
}

fn set(control: &str, value: u32) {
    run(&lab_program(), &["set", "/dev/video0", control, &value.to_string()]);
}

/// The virtual camera, unloaded again at the end.
struct Vivid;

impl Vivid {
    fn load(options: &[&str]) -> Self {
        run("modprobe", &[&["vivid", "n_devs=1", "node_types=0x1"], options].concat());
        wait_until("the device file", || Path::new("/dev/video0").exists());
        Self
    }

    fn bind(&self, how: &str) {
        std::fs::write(format!("/sys/bus/platform/drivers/vivid/{how}"), "vivid.0").unwrap();
    }
}

impl Drop for Vivid {
    fn drop(&mut self) {
        let _ = Command::new("modprobe").args(["-r", "vivid"]).status();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn settings(format: Option<PixelFormat>) -> CameraSettings {
    let source = SourceSpec::Device("/dev/video0".into());
    CameraSettings { source, size: VGA, rate_hz: 10.0, format, ..CameraSettings::default() }
}

fn capture(source: &mut dyn FrameSource, count: usize) -> Vec<RawFrame> {
    let frames: Vec<RawFrame> = (0..count).map(|_| source.next_frame(Vec::new()).unwrap().unwrap()).collect();
    assert!(frames.windows(2).all(|pair| pair[0].id < pair[1].id), "numbers must rise");
    assert!(frames.windows(2).all(|pair| pair[0].captured_at < pair[1].captured_at), "time must pass");
    frames
}

/// Luminance of the lower half, where the test pattern stands still and no counter is printed.
fn lower_luma(frame: &RawFrame) -> Vec<u8> {
    let step = if frame.format == PixelFormat::Yuyv { 2 } else { 1 };
    let (width, height) = (frame.size.width as usize, frame.size.height as usize);
    let rows = frame.bytes.chunks_exact(frame.stride as usize).take(height).skip(height / 2);
    rows.flat_map(|row| row[..width * step].iter().copied().step_by(step)).collect()
}

/// Captures in one format; gives the luminance and the mean of the colour bytes.
fn check_vivid(format: PixelFormat, transport: Transport, expected_bytes: usize) -> Vec<u8> {
    let mut source = open(&settings(Some(format))).unwrap();
    let stream = source.stream().clone();
    println!("{stream}");
    assert_eq!((stream.format, stream.size, stream.transport), (format, VGA, transport));
    assert!(stream.rate_hz.is_some_and(|rate| (5.0..=30.0).contains(&rate)), "{stream}");
    let frames = capture(source.as_mut(), 8);
    for frame in &frames {
        assert_eq!((frame.bytes.len(), frame.format, frame.size), (expected_bytes, format, VGA));
    }
    assert!(frames[0].bytes != frames[7].bytes, "the counter in the picture must run");
    let luma = lower_luma(&frames[7]);
    let levels: HashSet<u8> = luma.iter().copied().collect();
    assert!(levels.len() >= 6, "colour bars have at least 6 levels, these {levels:?}");
    luma
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn vivid_single_planar_gives_the_same_picture_in_every_format() {
    let _vivid = Vivid::load(&["multiplanar=1"]);
    let yuyv = check_vivid(PixelFormat::Yuyv, Transport::SinglePlanar, 640 * 480 * 2);
    let nv12 = check_vivid(PixelFormat::Nv12, Transport::SinglePlanar, 640 * 480 * 3 / 2);
    let grey = check_vivid(PixelFormat::Grey, Transport::SinglePlanar, 640 * 480);
    assert!(largest_difference(&yuyv, &nv12) <= 1);
    // vivid weighs colours differently for GREY, so its eight bars have other values, but each bar
    // still has one value of its own, and they rise together.
    let pairs: BTreeSet<(u8, u8)> = nv12.iter().copied().zip(grey).collect();
    println!("luminance as NV12 and as GREY: {pairs:?}");
    assert_eq!(pairs.len(), 8);
    assert!(pairs.iter().zip(pairs.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 < b.1));
    // Negative control: the same picture moved by eight columns is not the same picture.
    assert!(largest_difference(&yuyv[8..], &yuyv[..yuyv.len() - 8]) > 20);
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn vivid_multi_planar_gives_the_same_picture_in_every_format() {
    let _vivid = Vivid::load(&["multiplanar=2"]);
    let yuyv = check_vivid(PixelFormat::Yuyv, Transport::MultiPlanar(1), 640 * 480 * 2);
    let nv12 = check_vivid(PixelFormat::Nv12, Transport::MultiPlanar(1), 640 * 480 * 3 / 2);
    check_vivid(PixelFormat::Grey, Transport::MultiPlanar(1), 640 * 480);
    assert!(largest_difference(&yuyv, &nv12) <= 1);
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn the_nearest_size_and_the_default_format_are_negotiated() {
    let _vivid = Vivid::load(&[]);
    let ask = |width, height| {
        let size = FrameSize { width, height };
        open(&CameraSettings { source: SourceSpec::Auto, size, ..settings(None) }).unwrap().stream().clone()
    };
    let near = ask(700, 400);
    println!("{near}");
    assert_eq!((near.size, near.format), (FrameSize { width: 640, height: 360 }, PixelFormat::Nv12));
    let wide = ask(1280, 720);
    assert_eq!(wide.size, FrameSize { width: 1280, height: 720 });
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn devices_are_listed_with_what_they_can_do() {
    assert!(list_devices().is_empty());
    let _vivid = Vivid::load(&[]);
    let devices = list_devices();
    assert_eq!(devices.len(), 1);
    assert_eq!((devices[0].driver.as_str(), &devices[0].problem), ("vivid", &None));
    let yuyv = devices[0].formats.iter().find(|format| format.fourcc == "YUYV").unwrap();
    assert_eq!(yuyv.format, Some(PixelFormat::Yuyv));
    assert!(yuyv.sizes.contains(&VGA));
    let unknown = devices[0].formats.iter().find(|format| format.fourcc == "RGB3").unwrap();
    assert_eq!(unknown.format, None);
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn a_format_the_camera_lacks_and_a_busy_camera_are_explained() {
    let _vivid = Vivid::load(&[]);
    let lacking = open(&settings(Some(PixelFormat::Mjpg))).err().unwrap().to_string();
    assert!(lacking.contains("MJPG") && lacking.contains("YUYV"), "{lacking}");
    let mut first = open(&settings(None)).unwrap();
    let busy = open(&settings(None)).err().unwrap();
    println!("{busy}");
    assert!(matches!(busy, CameraError::Device { .. }));
    assert!(busy.to_string().contains(&format!("process {}", std::process::id())), "{busy}");
    capture(first.as_mut(), 3);
}

/// Feeds `v4l2loopback`, unloaded again at the end.
struct Loopback(Child);

impl Loopback {
    fn feed(pictures: &[PathBuf]) -> Self {
        run("modprobe", &["videodev"]);
        run("insmod", &[&std::env::var("LIMEN_LAB_LOOPBACK").unwrap(), "video_nr=0", "exclusive_caps=1"]);
        wait_until("the device file", || Path::new("/dev/video0").exists());
        // Slowly: the loopback writes into a buffer that a reader still holds when that takes longer than a few frames.
        let feed = ["feed", "/dev/video0", "512", "640", "3"];
        Self(Command::new(lab_program()).args(feed).args(pictures).spawn().unwrap())
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = Command::new("rmmod").arg("v4l2loopback").status();
    }
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn jpegs_arrive_just_as_the_camera_sent_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/portraits");
    let names = ["barack_obama_3.jpg", "joe_biden_1.jpg", "grace_hopper_1.jpg"];
    let pictures = names.map(|name| folder.join(name));
    let originals = pictures.clone().map(|path| std::fs::read(path).unwrap());
    let _loopback = Loopback::feed(&pictures);
    let mut opened = Err(CameraError::Cancelled);
    wait_until("the feeder", || {
        opened = open(&settings(None));
        opened.is_ok()
    });
    let mut source = opened.unwrap();
    println!("{}", source.stream());
    assert_eq!(source.stream().format, PixelFormat::Mjpg);
    let (mut seen, mut padded) = (HashSet::new(), 0);
    for frame in capture(source.as_mut(), 12) {
        let which = originals.iter().position(|original| frame.bytes.starts_with(original));
        seen.insert(which.expect("every frame is one of the pictures"));
        padded += usize::from(frame.bytes.len() != originals[which.unwrap()].len());
    }
    assert_eq!(seen.len(), 3);
    // The first buffers of v4l2loopback are reported as full whatever they hold.
    assert!(padded <= 4, "{padded} of 12 frames had bytes after their end");
}

/// The capture thread on `/dev/video0`.
fn spawn() -> Capture {
    Capture::spawn(settings(Some(PixelFormat::Yuyv)), Arc::new(SystemClock), || ()).unwrap()
}

/// Waits for frames beyond those already counted.
fn wait_for_frames(capture: &Capture) -> CaptureStats {
    let before = capture.shared().stats().delivered;
    wait_until("frames", || capture.shared().stats().delivered >= before + 3);
    capture.shared().stats()
}

/// Waits until the camera is lost; gives the reason.
fn wait_for_loss(capture: &Capture) -> String {
    let mut reason = String::new();
    wait_until("the loss to be noticed", || match capture.shared().stats().state {
        CaptureState::Lost { error } => {
            reason = error;
            true
        }
        _ => false,
    });
    println!("{reason}");
    reason
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn a_camera_missing_at_start_is_reported_and_taken_when_it_appears() {
    let capture = spawn();
    assert!(wait_for_loss(&capture).contains("plug the camera in"));
    let _vivid = Vivid::load(&[]);
    let stats = wait_for_frames(&capture);
    assert!(matches!(stats.state, CaptureState::Streaming(_)));
    assert_eq!(stats.rebuilds, 0);
    assert!(capture.stop(PATIENCE));
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn a_camera_unplugged_and_plugged_in_again_streams_on() {
    let vivid = Vivid::load(&[]);
    let capture = spawn();
    let first = wait_for_frames(&capture);
    vivid.bind("unbind");
    let reason = wait_for_loss(&capture);
    assert!(reason.contains("/dev/video0"), "{reason}");
    vivid.bind("bind");
    let second = wait_for_frames(&capture);
    assert_eq!(second.rebuilds, 1);
    assert!(second.last_id > first.last_id);
    let Waited::Frame(frame) = capture.shared().slot().wait(PATIENCE) else { panic!("frames come in") };
    assert!(Some(frame.id) > first.last_id);
    assert!(capture.stop(PATIENCE));
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn a_disconnected_camera_is_lost_and_comes_back_with_its_driver() {
    let vivid = Vivid::load(&[]);
    let capture = spawn();
    wait_for_frames(&capture);
    set("Disconnect", 1);
    assert!(!wait_for_loss(&capture).is_empty());
    vivid.bind("unbind");
    vivid.bind("bind");
    assert!(wait_for_frames(&capture).rebuilds >= 1);
    assert!(capture.stop(PATIENCE));
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn frames_flagged_as_broken_are_counted_and_the_stream_goes_on() {
    let _vivid = Vivid::load(&[]);
    let capture = spawn();
    wait_for_frames(&capture);
    set("Inject V4L2_BUF_FLAG_ERROR", 1);
    wait_until("a discarded frame", || capture.shared().stats().discarded >= 1);
    let stats = wait_for_frames(&capture);
    assert_eq!(stats.rebuilds, 0);
    assert!(capture.stop(PATIENCE));
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn a_fatal_streaming_error_rebuilds_the_stream() {
    let _vivid = Vivid::load(&[]);
    let capture = spawn();
    wait_for_frames(&capture);
    set("Inject Fatal Streaming Error", 1);
    wait_until("a new stream", || capture.shared().stats().rebuilds == 1);
    wait_for_frames(&capture);
    assert!(capture.stop(PATIENCE));
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn a_camera_that_falls_silent_is_lost_and_taken_again_when_it_speaks() {
    let _vivid = Vivid::load(&[]);
    let capture = spawn();
    wait_for_frames(&capture);
    set("Percentage of Dropped Buffers", 100);
    let reason = wait_for_loss(&capture);
    assert!(reason.contains("no frame for"), "{reason}");
    set("Percentage of Dropped Buffers", 0);
    assert!(wait_for_frames(&capture).rebuilds >= 1);
    assert!(capture.stop(PATIENCE));
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn refused_calls_name_the_call_and_are_tried_again() {
    let _vivid = Vivid::load(&[]);
    for (control, call) in [
        ("Inject VIDIOC_REQBUFS Error", "VIDIOC_REQBUFS"),
        ("Inject VIDIOC_QBUF Error", "VIDIOC_QBUF"),
        ("Inject VIDIOC_STREAMON Error", "VIDIOC_STREAMON"),
    ] {
        set(control, 1);
        let refused = open(&settings(None)).err().unwrap_or_else(|| panic!("{call} was not refused"));
        println!("{refused}");
        assert!(refused.to_string().contains(call), "{refused}");
        capture(open(&settings(None)).unwrap().as_mut(), 2);
    }
}

#[test]
#[ignore = "needs the kernel lab: tests/lab/run.sh"]
fn capture_waiting_for_a_silent_camera_stops_at_once() {
    let _vivid = Vivid::load(&[]);
    let capture = spawn();
    wait_for_frames(&capture);
    set("Percentage of Dropped Buffers", 100);
    let asked = Instant::now();
    assert!(capture.stop(PATIENCE));
    // The dead-stream time is 2 s; the rest is what stopping a stream takes under emulation.
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
}
