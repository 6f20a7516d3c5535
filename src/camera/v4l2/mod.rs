//! Capturing from a V4L2 device with buffers mapped from the driver.
//!
//! Owned here rather than taken from a crate: single-planar and multi-planar streams, time-outs, and
//! a clean end after every error are needed together. `ffi` holds the kernel's structures and the
//! only `unsafe`; `device` asks a device what it can do; `negotiate` decides what to ask it for.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::cancel::Woken;
use super::{CameraError, CameraSettings, Cancel, FrameSource, MAX_SIDE_PX, StreamDescription, Transport};
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::frame::{FrameId, FrameSize, PixelFormat, RawFrame};

mod controls;
mod device;
mod ffi;
mod negotiate;

pub use controls::ControlInfo;
pub use device::{DeviceInfo, FormatInfo, list_devices};

use device::Device;
use ffi::{BufferType, Filled, Mapping};
use negotiate::Layout;

/// One being filled, one filled next, one being copied out, one for a late wake-up.
const BUFFERS: u32 = 4;

/// A stream that gives no frame for this long, or five frame intervals, is dead.
const PATIENCE: Duration = Duration::from_secs(2);

/// A buffer's time is believed when it lies this far back at most; some USB cameras stamp frames
/// with a clock that wanders off.
const OLDEST_STAMP: Duration = Duration::from_secs(1);

/// A running stream.
pub(super) struct V4l2Source {
    buffers: Vec<Vec<Mapping>>,
    device: Device,
    layout: Layout,
    stream: StreamDescription,
    cancel: Cancel,
    patience: Duration,
    discarded: u64,
    last: Option<(u32, FrameId)>,
}

/// Why a filled buffer gives no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spoilt;

impl V4l2Source {
    /// Opens the first device that streams.
    pub(super) fn open_first(settings: &CameraSettings, cancel: &Cancel) -> Result<Self, CameraError> {
        let mut tried = Vec::new();
        for path in device::device_files() {
            match Self::open(&path, settings, cancel) {
                Ok(source) => return Ok(source),
                Err(error) => tried.push(error.to_string()),
            }
        }
        let tried = if tried.is_empty() { "there is none".into() } else { tried.join("; ") };
        Err(CameraError::NoneFound { tried })
    }

    /// Negotiates, maps the buffers and starts the stream.
    pub(super) fn open(path: &Path, settings: &CameraSettings, cancel: &Cancel) -> Result<Self, CameraError> {
        let device = Device::open(path)?;
        let offers = device.offers(settings.size)?;
        Self::open_one_of(device, &offers, settings, cancel)
    }

    fn open_one_of(
        device: Device,
        offers: &[negotiate::Offer],
        settings: &CameraSettings,
        cancel: &Cancel,
    ) -> Result<Self, CameraError> {
        let offer =
            negotiate::choose(offers, settings.size, settings.rate_hz, settings.format).ok_or_else(|| {
                let wanted = settings.format.map(|format| format.to_string()).unwrap_or_default();
                let has: Vec<String> = offers.iter().map(|offer| offer.format.to_string()).collect();
                device.unusable(format!("does not offer {wanted}, only {}", has.join(", ")))
            })?;
        let layout = set_format(&device, &offer)?;
        let rate_hz = set_rate(&device, settings.rate_hz)?;
        let notes = controls::apply(&device, &settings.controls);
        let buffers = map_buffers(&device, layout.plane_count())?;
        for index in 0..buffers.len() as u32 {
            ffi::queue(device.fd(), device.kind, index)
                .map_err(|errno| device.failed("VIDIOC_QBUF", errno))?;
        }
        ffi::stream_on(device.fd(), device.kind).map_err(|errno| device.failed("VIDIOC_STREAMON", errno))?;
        let stream = StreamDescription {
            label: device.label(),
            format: layout.format,
            size: layout.size,
            rate_hz,
            transport: match device.kind {
                BufferType::Single => Transport::SinglePlanar,
                BufferType::Multi => Transport::MultiPlanar(layout.plane_count() as u8),
            },
            notes,
        };
        let interval = Duration::from_secs_f32(1.0 / rate_hz.unwrap_or(settings.rate_hz).max(0.1));
        let patience = PATIENCE.max(interval * 5);
        let cancel = cancel.clone();
        Ok(Self { buffers, device, layout, stream, cancel, patience, discarded: 0, last: None })
    }

    /// Waits for a filled buffer until `deadline`.
    fn dequeue(&self, deadline: Instant) -> Result<Filled, CameraError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let woken = self
                .cancel
                .wait_for(Some(self.device.fd()), left)
                .map_err(|errno| self.device.failed("poll", errno))?;
            match woken {
                Woken::Cancelled => return Err(CameraError::Cancelled),
                Woken::TimedOut => {
                    let (device, waited_ms) = (self.device.path().into(), self.patience.as_millis());
                    return Err(CameraError::Silent { device, waited_ms });
                }
                Woken::Ready => {}
            }
            match ffi::dequeue(self.device.fd(), self.device.kind) {
                Ok(filled) => return Ok(filled),
                // Ready without a buffer: a driver in an error state says so without end.
                Err(Errno::AGAIN) => {
                    self.cancel.wait(Duration::from_millis(5));
                }
                Err(errno) => return Err(self.device.failed("VIDIOC_DQBUF", errno)),
            }
        }
    }

    /// Copies the picture out of a filled buffer.
    fn copy(&self, filled: &Filled, out: &mut Vec<u8>) -> Result<(), Spoilt> {
        out.clear();
        let planes = self.buffers.get(filled.index as usize).ok_or(Spoilt)?;
        if filled.flags & ffi::BUFFER_ERROR != 0 {
            return Err(Spoilt);
        }
        if self.layout.format == PixelFormat::Mjpg {
            let (plane, place) = (planes.first().ok_or(Spoilt)?, filled.planes[0]);
            let range = place.data_offset as usize..(place.bytes_used as usize).min(plane.length());
            let whole = plane.append_to(range, out) && out.starts_with(&[0xFF, 0xD8]);
            return if whole { Ok(()) } else { Err(Spoilt) };
        }
        let stride = self.layout.stride as usize;
        for ((plane, place), &(line, rows)) in planes.iter().zip(&filled.planes).zip(&self.layout.planes) {
            let (start, end) = (place.data_offset as usize, place.bytes_used as usize);
            if end < start.saturating_add(line * rows) {
                return Err(Spoilt);
            }
            // The chroma plane gets the rows of the luminance plane where the driver's differ.
            let copied = if line == stride {
                plane.append_to(start..start + line * rows, out)
            } else {
                let kept = line.min(stride);
                (0..rows).all(|row| {
                    let from = start + row * line;
                    let copied = plane.append_to(from..from + kept, out);
                    out.resize(out.len() + (stride - kept), 0);
                    copied
                })
            };
            if !copied {
                return Err(Spoilt);
            }
        }
        Ok(())
    }

    /// Counts on from the driver's number, so that a gap in the one is a gap in the other. Drivers
    /// that repeat a number or jump far are counted as one frame on.
    fn number(&mut self, sequence: u32) -> FrameId {
        let id = match self.last {
            None => FrameId(0),
            Some((before, FrameId(id))) => match sequence.wrapping_sub(before) {
                step @ 1..=1000 => FrameId(id + u64::from(step)),
                _ => FrameId(id + 1),
            },
        };
        self.last = Some((sequence, id));
        id
    }
}

/// When a buffer was filled.
fn stamp(filled: &Filled, now: Monotonic) -> Monotonic {
    if filled.flags & ffi::TIMESTAMP_MASK != ffi::TIMESTAMP_MONOTONIC {
        return now;
    }
    let (Ok(seconds), Ok(micros)) = (u64::try_from(filled.seconds), u32::try_from(filled.microseconds))
    else {
        return now;
    };
    let micros = Duration::from_micros(u64::from(micros));
    let stamp = Monotonic::from_duration(Duration::from_secs(seconds).saturating_add(micros));
    if stamp > now || now.since(stamp) > OLDEST_STAMP { now } else { stamp }
}

impl FrameSource for V4l2Source {
    fn stream(&self) -> &StreamDescription {
        &self.stream
    }

    fn next_frame(&mut self, mut bytes: Vec<u8>) -> Result<Option<RawFrame>, CameraError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let filled = self.dequeue(deadline)?;
            let captured_at = stamp(&filled, SystemClock.monotonic());
            let copied = self.copy(&filled, &mut bytes);
            ffi::queue(self.device.fd(), self.device.kind, filled.index)
                .map_err(|errno| self.device.failed("VIDIOC_QBUF", errno))?;
            let id = self.number(filled.sequence);
            if copied.is_err() {
                self.discarded += 1;
                continue;
            }
            let Layout { format, size, stride, .. } = self.layout;
            return Ok(Some(RawFrame { id, captured_at, format, size, stride, bytes }));
        }
    }

    fn discarded(&self) -> u64 {
        self.discarded
    }
}

impl Drop for V4l2Source {
    fn drop(&mut self) {
        // Both fail on a device that is gone, and closing it then does the same.
        let _ = ffi::stream_off(self.device.fd(), self.device.kind);
        self.buffers.clear();
        let _ = ffi::request_buffers(self.device.fd(), self.device.kind, 0);
    }
}

/// Asks for an offer and checks what the driver made of it.
fn set_format(device: &Device, offer: &negotiate::Offer) -> Result<Layout, CameraError> {
    let wanted = (offer.size.width, offer.size.height);
    let refused = |errno| device.failed("VIDIOC_S_FMT", errno);
    let (fourcc, width, height, lines) = match device.kind {
        BufferType::Single => {
            let set = ffi::set_format(device.fd(), wanted, offer.fourcc).map_err(refused)?;
            (set.fourcc, set.width, set.height, vec![set.bytes_per_line])
        }
        BufferType::Multi => {
            let set = ffi::set_format_multi(device.fd(), wanted, offer.fourcc).map_err(refused)?;
            let planes = usize::from(set.plane_count).min(ffi::MAX_PLANES);
            let lines = set.planes[..planes].iter().map(|plane| plane.bytes_per_line).collect();
            (set.fourcc, set.width, set.height, lines)
        }
    };
    let size = FrameSize { width, height };
    if fourcc != offer.fourcc {
        let got = String::from_utf8_lossy(&fourcc).escape_debug().to_string();
        return Err(device.unusable(format!("was asked for {} and set {got}", offer.format)));
    }
    if !(16..=MAX_SIDE_PX).contains(&width) || !(16..=MAX_SIDE_PX).contains(&height) {
        return Err(
            device.unusable(format!("set the size {size}; 16x16 to {MAX_SIDE_PX}x{MAX_SIDE_PX} is usable"))
        );
    }
    Layout::new(offer.format, size, &lines).map_err(|what| device.unusable(what))
}

/// Asks for a rate; gives the one that is set, where the driver tells.
fn set_rate(device: &Device, rate_hz: f32) -> Result<Option<f32>, CameraError> {
    let now = match ffi::get_rate(device.fd(), device.kind) {
        Ok(now) => now,
        // Cameras on a CSI bus set their rate at the sensor and have no such call.
        Err(Errno::NOTTY | Errno::INVAL) => return Ok(None),
        Err(errno) => return Err(device.failed("VIDIOC_G_PARM", errno)),
    };
    if now.capability & ffi::CAN_SET_RATE == 0 {
        return Ok(device::rate_of(now.time_per_frame));
    }
    let interval = [1000, (rate_hz * 1000.0) as u32];
    match ffi::set_rate(device.fd(), device.kind, interval) {
        Ok(set) => Ok(device::rate_of(set.time_per_frame)),
        Err(Errno::NOTTY | Errno::INVAL) => Ok(device::rate_of(now.time_per_frame)),
        Err(errno) => Err(device.failed("VIDIOC_S_PARM", errno)),
    }
}

fn map_buffers(device: &Device, planes: usize) -> Result<Vec<Vec<Mapping>>, CameraError> {
    let count = ffi::request_buffers(device.fd(), device.kind, BUFFERS)
        .map_err(|errno| device.failed("VIDIOC_REQBUFS", errno))?;
    if count < 2 {
        return Err(device.unusable(format!("gives {count} buffers; at least 2 are needed")));
    }
    let map = |index| {
        let mapped = ffi::map_buffer(device.fd(), device.kind, index, planes)
            .map_err(|errno| device.failed("mapping a buffer", errno))?;
        match mapped.len() == planes {
            true => Ok(mapped),
            false => Err(device.unusable(format!("gives {} memory planes of {planes}", mapped.len()))),
        }
    };
    (0..count.min(32)).map(map).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(flags: u32, seconds: i64, microseconds: i64) -> Filled {
        Filled { index: 0, flags, sequence: 0, seconds, microseconds, planes: Default::default() }
    }

    #[test]
    fn only_a_plausible_monotonic_stamp_is_believed() {
        let at = |ms| Monotonic::from_duration(Duration::from_millis(ms));
        let now = at(10_000);
        let monotonic = ffi::TIMESTAMP_MONOTONIC;
        assert_eq!(stamp(&filled(monotonic, 9, 950_000), now), at(9950));
        assert_eq!(stamp(&filled(0, 9, 950_000), now), now);
        assert_eq!(stamp(&filled(monotonic, 11, 0), now), now);
        assert_eq!(stamp(&filled(monotonic, 2, 0), now), now);
        assert_eq!(stamp(&filled(monotonic, -1, -1), now), now);
        assert_eq!(stamp(&filled(monotonic, i64::MAX, i64::MAX), now), now);
    }

    #[test]
    fn a_device_named_by_mistake_is_refused() {
        let settings = CameraSettings::default();
        let cancel = Cancel::new().unwrap();
        let refused = V4l2Source::open(Path::new("/dev/null"), &settings, &cancel).err().unwrap();
        assert!(matches!(refused, CameraError::Device { call: "VIDIOC_QUERYCAP", .. }));
    }

    /// Loads the kernel's virtual camera; part of the kernel lab, like `tests/camera_lab.rs`, but with
    /// a choice that settings do not offer.
    #[test]
    #[ignore = "needs the kernel lab: tests/lab/run.sh"]
    fn nv12_in_two_memory_planes_is_the_picture_that_one_plane_gives() {
        let modprobe = |arguments: &[&str]| {
            assert!(std::process::Command::new("modprobe").args(arguments).status().unwrap().success());
        };
        modprobe(&["vivid", "n_devs=1", "node_types=0x1", "multiplanar=2"]);
        let picture = |fourcc: &[u8; 4]| {
            let settings = CameraSettings { rate_hz: 10.0, ..CameraSettings::default() };
            let device = Device::open(Path::new("/dev/video0")).unwrap();
            let offers = device.offers(settings.size).unwrap();
            let offer = *offers.iter().find(|offer| offer.fourcc == *fourcc).unwrap();
            let cancel = Cancel::new().unwrap();
            let mut source = V4l2Source::open_one_of(device, &[offer], &settings, &cancel).unwrap();
            (source.stream().transport, source.next_frame(vec![]).unwrap().unwrap())
        };
        let (one, two) = (picture(b"NV12"), picture(b"NM12"));
        modprobe(&["-r", "vivid"]);
        assert_eq!((one.0, two.0), (Transport::MultiPlanar(1), Transport::MultiPlanar(2)));
        assert_eq!(two.1.bytes.len(), 640 * 480 * 3 / 2);
        assert_eq!(one.1.stride, two.1.stride);
        // Below the printed counters the picture stands still: luminance from row 240 on, and
        // chroma from row 120 on.
        for rows in [640 * 240..640 * 480, 640 * 600..640 * 720] {
            assert!(one.1.bytes[rows.clone()] == two.1.bytes[rows]);
        }
    }
}
