//! The camera: is it there, may it be used, does it deliver.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Check, Finding, within};
use crate::camera::{CameraError, CameraSettings, DeviceInfo, FrameSource, SourceSpec, list_devices, open};

/// From opening to the first frame: cameras that adjust their exposure first take about a second.
const FRAME_WITHIN: Duration = Duration::from_secs(3);
/// A driver that takes longer to open or to give up than this is stuck.
const DRIVER_WITHIN: Duration = Duration::from_secs(8);

/// What one source did.
enum Tried {
    Delivers { stream: String, first_frame: Duration },
    Busy(String),
    Failed(String),
}

/// Opens the source and waits for one frame.
pub fn check_camera(settings: &CameraSettings) -> Finding {
    let settings = CameraSettings { looping: false, realtime: true, ..settings.clone() };
    let devices = match &settings.source {
        SourceSpec::Auto => list_devices(),
        source => return finding(source, try_within(&settings)),
    };
    if devices.is_empty() {
        return Finding::problem(
            Check::Camera,
            "there is no camera: no /dev/video*",
            "plug one in; for a ribbon-cable camera, see the board's manual for enabling it. `camera.source = \"scene\"` \
             tries everything else without one",
        );
    }
    let (usable, others): (Vec<_>, Vec<_>) = devices.into_iter().partition(|device| device.problem.is_none());
    let mut failed = others.into_iter().filter_map(|device| device.problem).collect::<Vec<_>>();
    for DeviceInfo { path, .. } in usable {
        let source = SourceSpec::Device(path);
        match try_within(&CameraSettings { source: source.clone(), ..settings.clone() }) {
            Tried::Failed(reason) => failed.push(reason),
            tried => return finding(&source, tried),
        }
    }
    finding(&SourceSpec::Auto, Tried::Failed(failed.join("; ")))
}

fn try_within(settings: &CameraSettings) -> Tried {
    let settings = settings.clone();
    let source = settings.source.clone();
    within(DRIVER_WITHIN, move || try_source(&settings)).unwrap_or_else(|| {
        Tried::Failed(format!("{source}: the driver has not answered for {} s", DRIVER_WITHIN.as_secs()))
    })
}

fn try_source(settings: &CameraSettings) -> Tried {
    let started = Instant::now();
    let frame = open(settings).and_then(|mut source: Box<dyn FrameSource>| {
        let frame = source.next_frame(Vec::new())?;
        Ok((source.stream().to_string(), frame))
    });
    match frame {
        Ok((stream, Some(_))) => Tried::Delivers { stream, first_frame: started.elapsed() },
        Ok((stream, None)) => Tried::Failed(format!("{stream}: it holds no frame")),
        Err(CameraError::Device { device, errno, .. }) if errno.raw_os_error() == Some(EBUSY) => {
            Tried::Busy(device.display().to_string())
        }
        Err(error) => Tried::Failed(error.to_string()),
    }
}

const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();

fn finding(source: &SourceSpec, tried: Tried) -> Finding {
    match tried {
        Tried::Delivers { stream, first_frame } => {
            let found = format!("{stream}; the first frame came after {} ms", first_frame.as_millis());
            if first_frame > FRAME_WITHIN {
                let advice = "a camera should deliver within 3 s: check its cable and supply, or ask for a lower rate \
                              or size";
                return Finding::warning(Check::Camera, found, advice);
            }
            Finding::ok(Check::Camera, found)
        }
        Tried::Busy(device) => Finding::ok(
            Check::Camera,
            format!(
                "{device} is in use, by a running limen it seems, so it was not tried; `systemctl status limen` tells"
            ),
        ),
        Tried::Failed(reason) => Finding::problem(Check::Camera, reason, advice(source)),
    }
}

fn advice(source: &SourceSpec) -> &'static str {
    match source {
        SourceSpec::Replay(_) => {
            "give camera.source a folder of pictures or a recording that this account can read"
        }
        SourceSpec::Scene => "the program may be damaged: install it again",
        SourceSpec::Device(path) if !Path::exists(path) => {
            "plug the camera in, or give camera.source the right device: `limen cameras` lists them, and a path under \
             /dev/v4l/by-id stays the same when cables are swapped"
        }
        SourceSpec::Device(_) | SourceSpec::Auto => {
            "the account that limen runs under must be in the group `video`: `usermod -aG video limen`, then start the \
             service again; `limen cameras` shows what each device can do"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn check(source: &str) -> Finding {
        check_camera(&CameraSettings { source: source.parse().unwrap(), ..CameraSettings::default() })
    }

    #[test]
    fn source_that_delivers_is_ok_with_what_it_is() {
        let finding = check("scene");
        assert_eq!(finding.level, Level::Ok, "{finding:?}");
        assert!(finding.found.contains("640x480"), "{}", finding.found);
    }

    #[test]
    fn source_that_does_not_is_a_problem_with_what_to_do() {
        for (source, expected) in [
            ("/dev/video-that-is-not-there", "by-id"),
            ("/dev/null", "group `video`"),
            ("replay:/nowhere", "camera.source"),
        ] {
            let finding = check(source);
            assert_eq!(finding.level, Level::Problem);
            assert!(finding.advice.as_ref().unwrap().contains(expected), "{finding:?}");
        }
    }
}
