//! V4L2 devices. Capturing from them is not built yet: opening one says so.

use std::path::Path;

use serde::Serialize;

use super::{CameraError, CameraSettings, Cancel, FrameSource, StreamDescription};
use crate::frame::RawFrame;

/// A camera of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {}

/// Cameras of this machine.
pub fn list_devices() -> Vec<DeviceInfo> {
    Vec::new()
}

/// A device being captured from; none can be made yet.
pub(super) enum V4l2Source {}

impl V4l2Source {
    pub(super) fn open_first(_: &CameraSettings, _: &Cancel) -> Result<Self, CameraError> {
        Err(CameraError::NoneFound { tried: "V4L2 is not built yet".into() })
    }

    pub(super) fn open(device: &Path, _: &CameraSettings, _: &Cancel) -> Result<Self, CameraError> {
        Err(CameraError::Unusable { device: device.into(), what: "V4L2 is not built yet".into() })
    }
}

impl FrameSource for V4l2Source {
    fn stream(&self) -> &StreamDescription {
        match *self {}
    }

    fn next_frame(&mut self, _: Vec<u8>) -> Result<Option<RawFrame>, CameraError> {
        match *self {}
    }

    fn discarded(&self) -> u64 {
        match *self {}
    }
}
