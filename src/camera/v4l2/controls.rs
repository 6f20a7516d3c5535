//! Exposure, gain and backlight compensation of a V4L2 device. A camera that lacks a control, or refuses
//! a value, goes on without: that is a note to whoever set it, never an end of the stream.

use rustix::io::Errno;
use serde::Serialize;

use super::device::Device;
use super::ffi::{self, QueriedControl};
use crate::camera::{Controls, Wish};

/// `V4L2_CID_EXPOSURE_AUTO`, and the choice of it that leaves the time to `V4L2_CID_EXPOSURE_ABSOLUTE`.
const EXPOSURE_AUTO: u32 = 0x009a_0901;
const EXPOSURE_MANUAL: i32 = 1;
/// `V4L2_CID_EXPOSURE_ABSOLUTE`, in units of 100 µs.
const EXPOSURE: u32 = 0x009a_0902;
const EXPOSURE_UNIT_US: u32 = 100;
/// `V4L2_CID_AUTOGAIN`, `V4L2_CID_GAIN`, `V4L2_CID_BACKLIGHT_COMPENSATION`
const AUTOGAIN: u32 = 0x0098_0912;
const GAIN: u32 = 0x0098_0913;
const BACKLIGHT: u32 = 0x0098_091c;

/// A control that a camera has, in the unit of its setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ControlInfo {
    /// The setting that sets it.
    pub setting: &'static str,
    /// What the driver calls it.
    pub name: String,
    /// Least value.
    pub minimum: i64,
    /// Greatest value.
    pub maximum: i64,
    /// Between two values.
    pub step: i64,
    /// What the camera starts with.
    pub default: i64,
    /// What is set now, where the driver tells.
    pub value: Option<i64>,
}

/// One control that can be set here.
struct Settable {
    setting: &'static str,
    id: u32,
    /// The setting's units in one of the driver's.
    unit: u32,
    /// Set to the value before, so that the camera does not choose for itself.
    by_hand: Option<(u32, i32)>,
}

const SETTABLE: [Settable; 3] = [
    Settable {
        setting: "camera.exposure_us",
        id: EXPOSURE,
        unit: EXPOSURE_UNIT_US,
        by_hand: Some((EXPOSURE_AUTO, EXPOSURE_MANUAL)),
    },
    Settable { setting: "camera.gain", id: GAIN, unit: 1, by_hand: Some((AUTOGAIN, 0)) },
    Settable { setting: "camera.backlight_compensation", id: BACKLIGHT, unit: 1, by_hand: None },
];

/// Those that the device has.
pub(super) fn list(device: &Device) -> Vec<ControlInfo> {
    let describe = |control: &Settable| {
        let queried = usable(device, control.id)?;
        let (unit, value) = (i64::from(control.unit), ffi::get_control(device.fd(), control.id).ok());
        Some(ControlInfo {
            setting: control.setting,
            name: super::device::text(&queried.name),
            minimum: i64::from(queried.minimum) * unit,
            maximum: i64::from(queried.maximum) * unit,
            step: i64::from(queried.step) * unit,
            default: i64::from(queried.default_value) * unit,
            value: value.map(|value| i64::from(value) * unit),
        })
    };
    SETTABLE.iter().filter_map(describe).collect()
}

/// Sets what is wished for; says what could not be.
pub(super) fn apply(device: &Device, controls: &Controls) -> Vec<String> {
    let wishes = [controls.exposure_us, controls.gain, controls.backlight_compensation];
    let set = |(control, wish): (&Settable, Wish)| match wish {
        Wish::Leave => None,
        Wish::Set(value) => set(device, control, value).err(),
        Wish::Reset => {
            reset(device, control);
            None
        }
    };
    SETTABLE.iter().zip(wishes).filter_map(set).collect()
}

fn usable(device: &Device, id: u32) -> Option<QueriedControl> {
    let queried = ffi::query_control(device.fd(), id).ok()?;
    (queried.flags & (ffi::CONTROL_DISABLED | ffi::CONTROL_READ_ONLY) == 0).then_some(queried)
}

fn set(device: &Device, control: &Settable, value: u32) -> Result<(), String> {
    let Settable { setting, id, unit, by_hand } = *control;
    let queried = usable(device, id)
        .ok_or_else(|| format!("{setting} has no effect: this camera has no such control; empty it"))?;
    let wanted = i32::try_from(value / unit).unwrap_or(i32::MAX);
    if !(queried.minimum..=queried.maximum).contains(&wanted) {
        let unit = i64::from(unit);
        return Err(format!(
            "{setting} has no effect: this camera takes {} to {}, and {value} is set",
            i64::from(queried.minimum) * unit,
            i64::from(queried.maximum) * unit
        ));
    }
    let refused = |errno: Errno| format!("{setting} has no effect: the camera's driver refused it: {errno}");
    // A camera that never chooses for itself has no such switch.
    if let Some((switch, manual)) = by_hand
        && usable(device, switch).is_some()
    {
        ffi::set_control(device.fd(), switch, manual).map_err(refused)?;
    }
    ffi::set_control(device.fd(), id, wanted).map_err(refused)
}

/// Back to what the camera starts with, the choosing for itself included.
fn reset(device: &Device, control: &Settable) {
    let ids = [Some(control.id), control.by_hand.map(|(switch, _)| switch)];
    for id in ids.into_iter().flatten() {
        if let Some(queried) = usable(device, id)
            && let Err(errno) = ffi::set_control(device.fd(), id, queried.default_value)
        {
            tracing::debug!(control = control.setting, %errno, "a control could not be put back");
        }
    }
}
