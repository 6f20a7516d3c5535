//! An open V4L2 device, what it says it can do, and words for what it refuses.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use super::controls::{self, ControlInfo};
use super::ffi::{self, BufferType, capability};
use super::negotiate::{self, Offer, Sizes};
use crate::camera::{CameraError, MAX_SIDE_PX};
use crate::frame::{FrameSize, PixelFormat};

/// Bounds on what a device may list, so that a driver that never says stop costs little. The kernel's
/// own virtual camera lists more than 64 formats.
const MAX_FORMATS: u32 = 256;
const MAX_SIZES: u32 = 128;
const MAX_INTERVALS: u32 = 64;

/// A camera of this machine, as far as it can be asked.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// Device file.
    pub path: PathBuf,
    /// Name of the camera; empty when it could not be asked.
    pub card: String,
    /// Kernel driver.
    pub driver: String,
    /// Where it is plugged in.
    pub bus: String,
    /// What it can give.
    pub formats: Vec<FormatInfo>,
    /// What of it can be set.
    pub controls: Vec<ControlInfo>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// One encoding of a device.
#[derive(Clone, Debug, Serialize)]
pub struct FormatInfo {
    /// Its V4L2 code.
    pub fourcc: String,
    /// What that is here; `None` when it is not understood.
    pub format: Option<PixelFormat>,
    /// Sizes, where the device lists them; the least and the greatest, where it has a range.
    pub sizes: Vec<FrameSize>,
}

/// An open device that captures.
pub(super) struct Device {
    path: PathBuf,
    fd: OwnedFd,
    pub(super) kind: BufferType,
    card: String,
    driver: String,
    bus: String,
}

impl Device {
    pub(super) fn open(path: &Path) -> Result<Self, CameraError> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(path, "open", errno))?;
        let about =
            ffi::query_capability(fd.as_fd()).map_err(|errno| failed(path, "VIDIOC_QUERYCAP", errno))?;
        // Of the whole hardware, or of this device file alone where the driver tells them apart.
        let abilities = match about.capabilities & capability::DEVICE_CAPS {
            0 => about.capabilities,
            _ => about.device_caps,
        };
        let unusable = |what: &str| {
            let card = text(&about.card);
            Err(CameraError::Unusable { device: path.into(), what: format!("`{card}` {what}") })
        };
        let kind = if abilities & capability::VIDEO_CAPTURE != 0 {
            BufferType::Single
        } else if abilities & capability::VIDEO_CAPTURE_MPLANE != 0 {
            BufferType::Multi
        } else {
            return unusable("does not capture video; a camera often has a second device file that does");
        };
        if abilities & capability::STREAMING == 0 {
            return unusable("has no streaming transfer, which is needed");
        }
        let (card, driver, bus) = (text(&about.card), text(&about.driver), text(&about.bus_info));
        Ok(Self { path: path.into(), fd, kind, card, driver, bus })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn label(&self) -> String {
        format!("{} ({})", self.path.display(), self.card)
    }

    /// The error of a call on this device.
    pub(super) fn failed(&self, call: &'static str, errno: Errno) -> CameraError {
        failed(&self.path, call, errno)
    }

    /// The error of a device that works in a way not understood.
    pub(super) fn unusable(&self, what: String) -> CameraError {
        CameraError::Unusable { device: self.path.clone(), what }
    }

    fn fourccs(&self) -> Result<Vec<[u8; 4]>, CameraError> {
        let mut codes = Vec::new();
        for index in 0..MAX_FORMATS {
            match ffi::enum_format(self.fd(), self.kind, index) {
                Ok(description) => codes.push(description.fourcc),
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(self.failed("VIDIOC_ENUM_FMT", errno)),
            }
        }
        Ok(codes)
    }

    fn sizes(&self, fourcc: [u8; 4]) -> Sizes {
        let plausible = |size: &FrameSize| {
            (1..=MAX_SIDE_PX).contains(&size.width) && (1..=MAX_SIDE_PX).contains(&size.height)
        };
        let mut listed = Vec::new();
        for index in 0..MAX_SIZES {
            // Drivers that cannot list their sizes answer NOTTY or INVAL at once.
            let Ok(found) = ffi::enum_size(self.fd(), fourcc, index) else { break };
            let [a, b, c, d, e, f] = found.size;
            if found.kind != ffi::DISCRETE {
                return Sizes::Stepped {
                    least: FrameSize { width: a, height: d },
                    greatest: FrameSize { width: b.min(MAX_SIDE_PX), height: e.min(MAX_SIDE_PX) },
                    step: FrameSize { width: c, height: f },
                };
            }
            listed.push(FrameSize { width: a, height: b });
        }
        listed.retain(plausible);
        if listed.is_empty() { Sizes::Unstated } else { Sizes::Listed(listed) }
    }

    fn fastest_hz(&self, fourcc: [u8; 4], size: FrameSize) -> Option<f32> {
        let mut fastest: Option<f32> = None;
        for index in 0..MAX_INTERVALS {
            let Ok(found) = ffi::enum_interval(self.fd(), fourcc, (size.width, size.height), index) else {
                break;
            };
            // Listed or stepped, the first pair is an interval; stepped, it is the shortest.
            let rate = rate_of([found.interval[0], found.interval[1]]);
            fastest = fastest.into_iter().chain(rate).reduce(f32::max);
            if found.kind != ffi::DISCRETE {
                break;
            }
        }
        fastest
    }

    /// Every encoding understood here, at its size nearest to what is wanted.
    pub(super) fn offers(&self, wanted: FrameSize) -> Result<Vec<Offer>, CameraError> {
        let codes = self.fourccs()?;
        let mut offers = Vec::new();
        for &fourcc in &codes {
            let Some(format) = negotiate::known(fourcc) else { continue };
            let Some(size) = self.sizes(fourcc).nearest(wanted) else { continue };
            offers.push(Offer { fourcc, format, size, fastest_hz: self.fastest_hz(fourcc, size) });
        }
        if offers.is_empty() {
            let found: Vec<String> = codes.iter().map(|code| code_text(*code)).collect();
            let found = if found.is_empty() { "nothing".into() } else { found.join(", ") };
            return Err(self.unusable(format!("offers {found}; MJPG, YUYV, NV12 or GREY is needed")));
        }
        Ok(offers)
    }

    fn formats(&self) -> Result<Vec<FormatInfo>, CameraError> {
        let describe = |fourcc| {
            let sizes = match self.sizes(fourcc) {
                Sizes::Listed(sizes) => sizes,
                Sizes::Stepped { least, greatest, .. } => vec![least, greatest],
                Sizes::Unstated => Vec::new(),
            };
            FormatInfo { fourcc: code_text(fourcc), format: negotiate::known(fourcc), sizes }
        };
        Ok(self.fourccs()?.into_iter().map(describe).collect())
    }
}

/// Frames a second of an interval in seconds, numerator and denominator.
pub(super) fn rate_of([numerator, denominator]: [u32; 2]) -> Option<f32> {
    let rate = denominator as f32 / numerator as f32;
    rate.is_normal().then_some(rate)
}

/// The device files `/dev/video*`, by number.
pub(super) fn device_files() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/dev") else { return Vec::new() };
    let numbered = entries.flatten().filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()?;
        Some((number, entry.path()))
    });
    let mut files: Vec<(u32, PathBuf)> = numbered.collect();
    files.sort();
    files.into_iter().map(|(_, path)| path).collect()
}

/// All of this machine's video devices, and for those that cannot be used, why not.
pub fn list_devices() -> Vec<DeviceInfo> {
    device_files().into_iter().map(describe).collect()
}

fn describe(path: PathBuf) -> DeviceInfo {
    let empty = |problem: &CameraError| DeviceInfo {
        path: path.clone(),
        card: String::new(),
        driver: String::new(),
        bus: String::new(),
        formats: Vec::new(),
        controls: Vec::new(),
        problem: Some(problem.to_string()),
    };
    let device = match Device::open(&path) {
        Ok(device) => device,
        Err(error) => return empty(&error),
    };
    let usable = device.offers(FrameSize { width: 640, height: 480 });
    let (formats, unlisted) = match device.formats() {
        Ok(formats) => (formats, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let controls = controls::list(&device);
    DeviceInfo {
        path: device.path,
        card: device.card,
        driver: device.driver,
        bus: device.bus,
        formats,
        controls,
        problem: unlisted.or(usable.err()).map(|error| error.to_string()),
    }
}

/// Text up to its NUL, with anything that would disturb a terminal or a log escaped.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().escape_debug().to_string()
}

fn code_text(fourcc: [u8; 4]) -> String {
    String::from_utf8_lossy(&fourcc).trim_end().escape_debug().to_string()
}

/// Says which call failed, how, and what somebody in front of the device can do.
fn failed(path: &Path, call: &'static str, errno: Errno) -> CameraError {
    let advice = match errno {
        Errno::NOENT => "there is no such device file: plug the camera in, or name another".into(),
        Errno::NODEV | Errno::NXIO => "the camera is gone: check its cable and power".into(),
        Errno::ACCESS => "not allowed: add the account this runs under to the group `video`".into(),
        // Its file would let this account in.
        Errno::PERM => {
            "what this runs in does not let it: a systemd service needs DeviceAllow= for it, a container the device".into()
        }
        Errno::BUSY => format!("another program uses it: {}", holders(path)),
        Errno::NOTTY => "it is no V4L2 video device".into(),
        Errno::NOSPC => "the bus has no bandwidth left: ask for a smaller size, a lower rate or MJPG, or use another USB port".into(),
        Errno::NOMEM => "the driver found no memory for frames: ask for a smaller size, or give the kernel more contiguous memory (cma=)".into(),
        Errno::IO | Errno::PROTO | Errno::PIPE => {
            "the camera or its bus reported a fault: check cable and power; the kernel log says more".into()
        }
        Errno::MFILE | Errno::NFILE => "too many open files".into(),
        _ => "the driver refused; the kernel log may say more".into(),
    };
    CameraError::Device { device: path.into(), call, errno: errno.into(), advice }
}

/// Names the processes that have a device file open, as far as this process may see them.
fn holders(path: &Path) -> String {
    let own = std::process::id().to_string();
    let unknown = || "which one cannot be seen from this account; `fuser` as root shows it".to_string();
    let (Ok(path), Ok(processes)) = (path.canonicalize(), std::fs::read_dir("/proc")) else {
        return unknown();
    };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        if files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == path)) {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let own = if pid == own { ", this one" } else { "" };
            found.push(format!("{} (process {pid}{own})", command.trim().escape_debug()));
        }
    }
    if found.is_empty() { unknown() } else { found.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &str) -> String {
        Device::open(Path::new(path)).err().unwrap().to_string()
    }

    #[test]
    fn a_missing_device_says_so() {
        let message = message("/dev/video-that-is-not-there");
        assert!(message.contains("open failed") && message.contains("plug the camera in"), "{message}");
    }

    #[test]
    fn a_device_that_is_no_camera_says_so() {
        let message = message("/dev/null");
        assert!(message.contains("VIDIOC_QUERYCAP") && message.contains("no V4L2"), "{message}");
    }

    #[test]
    fn the_program_that_holds_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(holders(file.path()).contains(&format!("process {}, this one", std::process::id())));
    }

    #[test]
    fn names_from_a_device_cannot_disturb_a_terminal() {
        assert_eq!(text(b"Cam\x1b[2J\0junk"), "Cam\\u{1b}[2J");
        assert_eq!(code_text(*b"Y8\0 "), "Y8\\0");
    }

    #[test]
    fn rate_of_an_impossible_interval_is_unknown() {
        assert_eq!(rate_of([1, 30]), Some(30.0));
        assert_eq!(rate_of([0, 30]), None);
        assert_eq!(rate_of([1, 0]), None);
        assert_eq!(rate_of([0, 0]), None);
    }
}
