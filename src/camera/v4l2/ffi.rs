//! The kernel's V4L2 calls and the mapping of its buffers. The only file of the camera that holds
//! `unsafe`; raw pointers do not leave it.
//!
//! Structures and numbers are those of `linux/videodev2.h`, whose binary interface the kernel keeps
//! stable. The layouts below are the ones of 64-bit machines; the assertions compare them with what
//! a C compiler makes of the header.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags};

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("the V4L2 structures are laid out for 64-bit little-endian machines");

/// Most memory planes a frame can have (`VIDEO_MAX_PLANES`).
pub(super) const MAX_PLANES: usize = 8;

const MEMORY_MMAP: u32 = 1;

/// Which of the two families of calls a stream uses (`enum v4l2_buf_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum BufferType {
    /// `V4L2_BUF_TYPE_VIDEO_CAPTURE`
    Single = 1,
    /// `V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE`
    Multi = 9,
}

pub(super) mod capability {
    pub(in super::super) const VIDEO_CAPTURE: u32 = 0x1;
    pub(in super::super) const VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
    pub(in super::super) const STREAMING: u32 = 0x0400_0000;
    pub(in super::super) const DEVICE_CAPS: u32 = 0x8000_0000;
}

/// `V4L2_CAP_TIMEPERFRAME`: the frame rate can be set.
pub(super) const CAN_SET_RATE: u32 = 0x1000;
/// `V4L2_BUF_FLAG_ERROR`
pub(super) const BUFFER_ERROR: u32 = 0x40;
/// `V4L2_BUF_FLAG_TIMESTAMP_MASK` and `V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC`
pub(super) const TIMESTAMP_MASK: u32 = 0xE000;
pub(super) const TIMESTAMP_MONOTONIC: u32 = 0x2000;
/// `V4L2_FRMSIZE_TYPE_DISCRETE`, `V4L2_FRMIVAL_TYPE_DISCRETE`
pub(super) const DISCRETE: u32 = 1;

/// `struct v4l2_capability`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Capability {
    pub(super) driver: [u8; 16],
    pub(super) card: [u8; 32],
    pub(super) bus_info: [u8; 32],
    version: u32,
    pub(super) capabilities: u32,
    pub(super) device_caps: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_fmtdesc`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct FormatDescription {
    index: u32,
    buffer_type: u32,
    flags: u32,
    description: [u8; 32],
    pub(super) fourcc: [u8; 4],
    mbus_code: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_frmsizeenum`; `size` is the union of `discrete` and `stepwise`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct FrameSizes {
    index: u32,
    fourcc: [u8; 4],
    pub(super) kind: u32,
    /// Width, height; or least, greatest and step of the width, then of the height.
    pub(super) size: [u32; 6],
    reserved: [u32; 2],
}

/// `struct v4l2_frmivalenum`; `interval` is the union of `discrete` and `stepwise`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct FrameIntervals {
    index: u32,
    fourcc: [u8; 4],
    width: u32,
    height: u32,
    pub(super) kind: u32,
    /// Seconds as numerator and denominator; when stepwise, the shortest interval comes first.
    pub(super) interval: [u32; 6],
    reserved: [u32; 2],
}

/// `struct v4l2_pix_format`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct PixFormat {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fourcc: [u8; 4],
    pub(super) field: u32,
    pub(super) bytes_per_line: u32,
    pub(super) size_image: u32,
    rest: [u32; 6],
}

/// `struct v4l2_plane_pix_format`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct PlanePixFormat {
    pub(super) size_image: u32,
    pub(super) bytes_per_line: u32,
    reserved: [u16; 6],
}

/// `struct v4l2_pix_format_mplane`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct PixFormatMulti {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fourcc: [u8; 4],
    pub(super) field: u32,
    colour_space: u32,
    pub(super) planes: [PlanePixFormat; MAX_PLANES],
    pub(super) plane_count: u8,
    rest: [u8; 11],
}

/// `struct v4l2_format` with one of the members of its union, and what the union is larger by.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Format<Member, const REST: usize> {
    buffer_type: u32,
    padding: u32,
    member: Member,
    rest: [u8; REST],
}

type SingleFormat = Format<PixFormat, 152>;
type MultiFormat = Format<PixFormatMulti, 8>;

/// `struct v4l2_streamparm` with `struct v4l2_captureparm`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct StreamParameters {
    buffer_type: u32,
    pub(super) capability: u32,
    mode: u32,
    /// Seconds a frame, as numerator and denominator.
    pub(super) time_per_frame: [u32; 2],
    extended_mode: u32,
    read_buffers: u32,
    reserved: [u32; 4],
    rest: [u32; 40],
}

/// `struct v4l2_requestbuffers`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RequestBuffers {
    count: u32,
    buffer_type: u32,
    memory: u32,
    capabilities: u32,
    flags: u8,
    reserved: [u8; 3],
}

/// `V4L2_CTRL_FLAG_DISABLED`, `V4L2_CTRL_FLAG_READ_ONLY`
pub(super) const CONTROL_DISABLED: u32 = 0x1;
pub(super) const CONTROL_READ_ONLY: u32 = 0x4;

/// `struct v4l2_queryctrl`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct QueriedControl {
    id: u32,
    kind: u32,
    pub(super) name: [u8; 32],
    pub(super) minimum: i32,
    pub(super) maximum: i32,
    pub(super) step: i32,
    pub(super) default_value: i32,
    pub(super) flags: u32,
    reserved: [u32; 2],
}

/// `struct v4l2_control`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Control {
    id: u32,
    value: i32,
}

/// `struct v4l2_plane`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawPlane {
    bytes_used: u32,
    length: u32,
    /// Union; with mmap buffers its first half is the offset to map.
    memory: u64,
    data_offset: u32,
    reserved: [u32; 11],
}

/// `struct v4l2_buffer`
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RawBuffer {
    index: u32,
    buffer_type: u32,
    bytes_used: u32,
    flags: u32,
    field: u32,
    padding: u32,
    seconds: i64,
    microseconds: i64,
    timecode: [u32; 4],
    sequence: u32,
    memory: u32,
    /// Union; the offset to map in its first half, or the address of the planes.
    location: u64,
    length: u32,
    reserved: u32,
    request: u32,
    padding_end: u32,
}

const _: () = {
    assert!(size_of::<Capability>() == 104);
    assert!(size_of::<FormatDescription>() == 64);
    assert!(size_of::<FrameSizes>() == 44);
    assert!(size_of::<FrameIntervals>() == 52);
    assert!(size_of::<PixFormat>() == 48);
    assert!(size_of::<PlanePixFormat>() == 20);
    assert!(size_of::<PixFormatMulti>() == 192);
    assert!(size_of::<SingleFormat>() == 208 && size_of::<MultiFormat>() == 208);
    assert!(std::mem::offset_of!(SingleFormat, member) == 8);
    assert!(std::mem::offset_of!(MultiFormat, member) == 8);
    assert!(size_of::<StreamParameters>() == 204);
    assert!(size_of::<RequestBuffers>() == 20);
    assert!(size_of::<QueriedControl>() == 68 && size_of::<Control>() == 8);
    assert!(std::mem::offset_of!(QueriedControl, minimum) == 40);
    assert!(size_of::<RawPlane>() == 64);
    assert!(std::mem::offset_of!(RawPlane, data_offset) == 16);
    assert!(size_of::<RawBuffer>() == 88);
    assert!(std::mem::offset_of!(RawBuffer, seconds) == 24);
    assert!(std::mem::offset_of!(RawBuffer, sequence) == 56);
    assert!(std::mem::offset_of!(RawBuffer, location) == 64);
    assert!(std::mem::offset_of!(RawBuffer, length) == 72);
};

const QUERYCAP: Opcode = opcode::read::<Capability>(b'V', 0);
const ENUM_FMT: Opcode = opcode::read_write::<FormatDescription>(b'V', 2);
const S_FMT: Opcode = opcode::read_write::<SingleFormat>(b'V', 5);
const REQBUFS: Opcode = opcode::read_write::<RequestBuffers>(b'V', 8);
const QUERYBUF: Opcode = opcode::read_write::<RawBuffer>(b'V', 9);
const QBUF: Opcode = opcode::read_write::<RawBuffer>(b'V', 15);
const DQBUF: Opcode = opcode::read_write::<RawBuffer>(b'V', 17);
const STREAMON: Opcode = opcode::write::<u32>(b'V', 18);
const STREAMOFF: Opcode = opcode::write::<u32>(b'V', 19);
const G_PARM: Opcode = opcode::read_write::<StreamParameters>(b'V', 21);
const S_PARM: Opcode = opcode::read_write::<StreamParameters>(b'V', 22);
const G_CTRL: Opcode = opcode::read_write::<Control>(b'V', 27);
const S_CTRL: Opcode = opcode::read_write::<Control>(b'V', 28);
const QUERYCTRL: Opcode = opcode::read_write::<QueriedControl>(b'V', 36);
const ENUM_FRAMESIZES: Opcode = opcode::read_write::<FrameSizes>(b'V', 74);
const ENUM_FRAMEINTERVALS: Opcode = opcode::read_write::<FrameIntervals>(b'V', 75);

const _: () = {
    assert!(QUERYCAP == 0x8068_5600 && ENUM_FMT == 0xC040_5602 && S_FMT == 0xC0D0_5605);
    assert!(REQBUFS == 0xC014_5608 && QUERYBUF == 0xC058_5609);
    assert!(QBUF == 0xC058_560F && DQBUF == 0xC058_5611);
    assert!(STREAMON == 0x4004_5612 && STREAMOFF == 0x4004_5613);
    assert!(G_PARM == 0xC0CC_5615 && S_PARM == 0xC0CC_5616);
    assert!(G_CTRL == 0xC008_561B && S_CTRL == 0xC008_561C && QUERYCTRL == 0xC044_5624);
    assert!(ENUM_FRAMESIZES == 0xC02C_564A && ENUM_FRAMEINTERVALS == 0xC034_564B);
};

/// Structures that the kernel may fill with any bytes, and that hold no address it would follow.
trait Plain: Copy {}
impl Plain for Capability {}
impl Plain for FormatDescription {}
impl Plain for FrameSizes {}
impl Plain for FrameIntervals {}
impl Plain for SingleFormat {}
impl Plain for MultiFormat {}
impl Plain for StreamParameters {}
impl Plain for RequestBuffers {}
impl Plain for QueriedControl {}
impl Plain for Control {}

/// Calls with a structure that is read and written in place.
fn update<const CODE: Opcode, T: Plain>(fd: BorrowedFd<'_>, value: &mut T) -> Result<(), Errno> {
    const { assert!(size_of::<T>() == (CODE as usize >> 16) & 0x3FFF, "the number states another size") };
    // SAFETY: the kernel reads and writes exactly the bytes whose count stands in CODE, which is the
    // size of `value` by the assertion above; every bit pattern is a valid `Plain`.
    unsafe { ioctl(fd, Updater::<CODE, T>::new(value)) }
}

pub(super) fn query_capability(fd: BorrowedFd<'_>) -> Result<Capability, Errno> {
    let mut value = Capability::default();
    update::<QUERYCAP, _>(fd, &mut value).map(|()| value)
}

pub(super) fn enum_format(
    fd: BorrowedFd<'_>,
    buffer_type: BufferType,
    index: u32,
) -> Result<FormatDescription, Errno> {
    let buffer_type = buffer_type as u32;
    let mut value = FormatDescription { index, buffer_type, ..FormatDescription::default() };
    update::<ENUM_FMT, _>(fd, &mut value).map(|()| value)
}

pub(super) fn enum_size(fd: BorrowedFd<'_>, fourcc: [u8; 4], index: u32) -> Result<FrameSizes, Errno> {
    let mut value = FrameSizes { index, fourcc, ..FrameSizes::default() };
    update::<ENUM_FRAMESIZES, _>(fd, &mut value).map(|()| value)
}

pub(super) fn enum_interval(
    fd: BorrowedFd<'_>,
    fourcc: [u8; 4],
    (width, height): (u32, u32),
    index: u32,
) -> Result<FrameIntervals, Errno> {
    let mut value = FrameIntervals { index, fourcc, width, height, ..FrameIntervals::default() };
    update::<ENUM_FRAMEINTERVALS, _>(fd, &mut value).map(|()| value)
}

/// Sets the format of the single-planar calls; gives what the driver made of it.
pub(super) fn set_format(
    fd: BorrowedFd<'_>,
    (width, height): (u32, u32),
    fourcc: [u8; 4],
) -> Result<PixFormat, Errno> {
    let member = PixFormat { width, height, fourcc, ..PixFormat::default() };
    let mut value =
        SingleFormat { buffer_type: BufferType::Single as u32, padding: 0, member, rest: [0; 152] };
    update::<S_FMT, _>(fd, &mut value).map(|()| value.member)
}

/// Sets the format of the multi-planar calls; gives what the driver made of it.
pub(super) fn set_format_multi(
    fd: BorrowedFd<'_>,
    (width, height): (u32, u32),
    fourcc: [u8; 4],
) -> Result<PixFormatMulti, Errno> {
    let member = PixFormatMulti { width, height, fourcc, ..PixFormatMulti::default() };
    let mut value = MultiFormat { buffer_type: BufferType::Multi as u32, padding: 0, member, rest: [0; 8] };
    update::<S_FMT, _>(fd, &mut value).map(|()| value.member)
}

fn parameters(buffer_type: BufferType) -> StreamParameters {
    StreamParameters {
        buffer_type: buffer_type as u32,
        capability: 0,
        mode: 0,
        time_per_frame: [0; 2],
        extended_mode: 0,
        read_buffers: 0,
        reserved: [0; 4],
        rest: [0; 40],
    }
}

pub(super) fn get_rate(fd: BorrowedFd<'_>, buffer_type: BufferType) -> Result<StreamParameters, Errno> {
    let mut value = parameters(buffer_type);
    update::<G_PARM, _>(fd, &mut value).map(|()| value)
}

pub(super) fn set_rate(
    fd: BorrowedFd<'_>,
    buffer_type: BufferType,
    time_per_frame: [u32; 2],
) -> Result<StreamParameters, Errno> {
    let mut value = StreamParameters { time_per_frame, ..parameters(buffer_type) };
    update::<S_PARM, _>(fd, &mut value).map(|()| value)
}

/// What a control is called and takes; `INVAL` where there is none of this number.
pub(super) fn query_control(fd: BorrowedFd<'_>, id: u32) -> Result<QueriedControl, Errno> {
    let mut value = QueriedControl { id, ..QueriedControl::default() };
    update::<QUERYCTRL, _>(fd, &mut value).map(|()| value)
}

pub(super) fn get_control(fd: BorrowedFd<'_>, id: u32) -> Result<i32, Errno> {
    let mut control = Control { id, value: 0 };
    update::<G_CTRL, _>(fd, &mut control).map(|()| control.value)
}

pub(super) fn set_control(fd: BorrowedFd<'_>, id: u32, value: i32) -> Result<(), Errno> {
    update::<S_CTRL, _>(fd, &mut Control { id, value })
}

/// Asks for `count` buffers in the driver's memory; gives how many there are. 0 frees them.
pub(super) fn request_buffers(fd: BorrowedFd<'_>, buffer_type: BufferType, count: u32) -> Result<u32, Errno> {
    let buffer_type = buffer_type as u32;
    let mut value = RequestBuffers { count, buffer_type, memory: MEMORY_MMAP, ..RequestBuffers::default() };
    update::<REQBUFS, _>(fd, &mut value).map(|()| value.count)
}

/// Where in a buffer's plane the picture lies, as the driver says; nothing of it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FilledPlane {
    /// First byte of the picture.
    pub(super) data_offset: u32,
    /// First byte after it.
    pub(super) bytes_used: u32,
}

/// A buffer that the driver has filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    pub(super) index: u32,
    pub(super) flags: u32,
    pub(super) sequence: u32,
    pub(super) seconds: i64,
    pub(super) microseconds: i64,
    pub(super) planes: [FilledPlane; MAX_PLANES],
}

/// One call on a buffer; the multi-planar calls find `planes` through the address in the buffer.
fn buffer_call<const CODE: Opcode>(
    fd: BorrowedFd<'_>,
    buffer: &mut RawBuffer,
    planes: &mut [RawPlane; MAX_PLANES],
) -> Result<(), Errno> {
    const { assert!(size_of::<RawBuffer>() == (CODE as usize >> 16) & 0x3FFF) };
    buffer.memory = MEMORY_MMAP;
    if buffer.buffer_type == BufferType::Multi as u32 {
        buffer.location = planes.as_mut_ptr().expose_provenance() as u64;
        buffer.length = MAX_PLANES as u32;
    }
    assert!(buffer.length as usize <= MAX_PLANES || buffer.buffer_type == BufferType::Single as u32);
    // SAFETY: the kernel reads and writes `buffer`, whose size stands in CODE by the assertion above.
    // It follows `location` only for the multi-planar type, to at most `length` planes, which
    // `planes` has by the assertion above; both outlive the call, and any bytes are valid in them.
    unsafe { ioctl(fd, Updater::<CODE, RawBuffer>::new(buffer)) }
}

fn raw_buffer(buffer_type: BufferType, index: u32) -> RawBuffer {
    RawBuffer { index, buffer_type: buffer_type as u32, ..RawBuffer::default() }
}

/// Maps the planes of one buffer, at most `planes` of them.
pub(super) fn map_buffer(
    fd: BorrowedFd<'_>,
    buffer_type: BufferType,
    index: u32,
    planes: usize,
) -> Result<Vec<Mapping>, Errno> {
    let (mut buffer, mut raw) = (raw_buffer(buffer_type, index), [RawPlane::default(); MAX_PLANES]);
    buffer_call::<QUERYBUF>(fd, &mut buffer, &mut raw)?;
    match buffer_type {
        BufferType::Single => Ok(vec![Mapping::new(fd, buffer.length, buffer.location as u32)?]),
        BufferType::Multi => {
            let count = planes.min(buffer.length as usize).min(MAX_PLANES);
            raw[..count].iter().map(|plane| Mapping::new(fd, plane.length, plane.memory as u32)).collect()
        }
    }
}

/// Gives a buffer to the driver to fill.
pub(super) fn queue(fd: BorrowedFd<'_>, buffer_type: BufferType, index: u32) -> Result<(), Errno> {
    let (mut buffer, mut raw) = (raw_buffer(buffer_type, index), [RawPlane::default(); MAX_PLANES]);
    buffer_call::<QBUF>(fd, &mut buffer, &mut raw)
}

/// Takes the oldest filled buffer from the driver; `AGAIN` when there is none.
pub(super) fn dequeue(fd: BorrowedFd<'_>, buffer_type: BufferType) -> Result<Filled, Errno> {
    let (mut buffer, mut raw) = (raw_buffer(buffer_type, 0), [RawPlane::default(); MAX_PLANES]);
    buffer_call::<DQBUF>(fd, &mut buffer, &mut raw)?;
    let mut planes =
        raw.map(|plane| FilledPlane { data_offset: plane.data_offset, bytes_used: plane.bytes_used });
    if buffer_type == BufferType::Single {
        planes[0] = FilledPlane { data_offset: 0, bytes_used: buffer.bytes_used };
    }
    let RawBuffer { index, flags, sequence, seconds, microseconds, .. } = buffer;
    Ok(Filled { index, flags, sequence, seconds, microseconds, planes })
}

/// Starts the stream.
pub(super) fn stream_on(fd: BorrowedFd<'_>, buffer_type: BufferType) -> Result<(), Errno> {
    // SAFETY: VIDIOC_STREAMON reads one `int`, which is what Setter passes the address of.
    unsafe { ioctl(fd, Setter::<STREAMON, u32>::new(buffer_type as u32)) }
}

/// Stops the stream; all buffers come back.
pub(super) fn stream_off(fd: BorrowedFd<'_>, buffer_type: BufferType) -> Result<(), Errno> {
    // SAFETY: VIDIOC_STREAMOFF reads one `int`, which is what Setter passes the address of.
    unsafe { ioctl(fd, Setter::<STREAMOFF, u32>::new(buffer_type as u32)) }
}

/// One plane of one of the driver's buffers, readable here.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and a `Mapping` is its only owner.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, length: u32, offset: u32) -> Result<Self, Errno> {
        let length = length as usize;
        if length == 0 {
            return Err(Errno::INVAL);
        }
        // SAFETY: without a wanted address the kernel chooses one where nothing is mapped, so no
        // memory in use changes; the descriptor is borrowed for the call and not needed afterwards.
        let start = unsafe {
            let (flags, access) = (MapFlags::SHARED, ProtFlags::READ);
            rustix::mm::mmap(std::ptr::null_mut(), length, access, flags, fd.as_fd(), u64::from(offset))?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, length })
    }

    /// Bytes mapped.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Appends the bytes of `range` to `out`; `false`, and nothing appended, when the range is not
    /// inside the mapping.
    ///
    /// No reference into the mapping is made, because the device might write to it: the caller
    /// copies between taking the buffer from the driver and giving it back, when drivers do not.
    pub(super) fn append_to(&self, range: std::ops::Range<usize>, out: &mut Vec<u8>) -> bool {
        if range.start > range.end || range.end > self.length {
            return false;
        }
        let count = range.end - range.start;
        out.reserve(count);
        let filled = out.len();
        assert!(range.start + count <= self.length && out.capacity() - filled >= count);
        // SAFETY: by the assertion above the source lies inside the mapping, which lives as long as
        // `self`, and the target inside the spare capacity of `out`; one is the kernel's memory and
        // the other the allocator's, so they do not overlap. The first `filled + count` bytes of
        // `out` are initialised afterwards.
        unsafe {
            let source = self.start.as_ptr().add(range.start);
            std::ptr::copy_nonoverlapping(source, out.as_mut_ptr().add(filled), count);
            out.set_len(filled + count);
        }
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `length` are what mmap gave and was given, and nothing refers to the
        // mapping once its owner is dropped. An error would leave it mapped, which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(bytes: &[u8]) -> Mapping {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        Mapping::new(file.as_fd(), bytes.len() as u32, 0).unwrap()
    }

    #[test]
    fn a_mapping_is_read_inside_its_bounds_only() {
        let (mapping, mut out) = (mapped(b"0123456789"), b"x".to_vec());
        assert!(mapping.append_to(2..5, &mut out));
        assert!(mapping.append_to(10..10, &mut out));
        assert_eq!(out, b"x234");
        let reversed = std::ops::Range { start: 4, end: 3 };
        for range in [5..11, usize::MAX..usize::MAX, 0..usize::MAX, reversed] {
            assert!(!mapping.append_to(range, &mut out));
        }
        assert_eq!((out.as_slice(), mapping.length()), (&b"x234"[..], 10));
    }

    #[test]
    fn an_empty_plane_cannot_be_mapped() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Mapping::new(file.as_fd(), 0, 0).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn a_file_that_is_no_camera_refuses_every_call() {
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_fd();
        assert_eq!(query_capability(fd).err(), Some(Errno::NOTTY));
        assert_eq!(query_control(fd, 0x0098_0913).err(), Some(Errno::NOTTY));
        assert_eq!(get_control(fd, 0x0098_0913).err(), Some(Errno::NOTTY));
        assert_eq!(set_control(fd, 0x0098_0913, 1).err(), Some(Errno::NOTTY));
        for kind in [BufferType::Single, BufferType::Multi] {
            assert_eq!(dequeue(fd, kind).err(), Some(Errno::NOTTY));
            assert_eq!(map_buffer(fd, kind, 0, 2).err(), Some(Errno::NOTTY));
            assert_eq!(stream_on(fd, kind).err(), Some(Errno::NOTTY));
        }
    }
}
