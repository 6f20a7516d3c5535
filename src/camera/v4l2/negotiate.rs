//! Which of a device's formats, sizes and rates to ask for. Values only; no device is touched.
//!
//! The nearest size comes first, then a sufficient rate, then the encoding:
//!
//! - Up to 1279 columns NV12, YUYV, MJPG, GREY. Raw pixels need no JPEG decoding (1.1 ms of CPU a
//!   frame at 640x480) and have no compression artefacts; YUYV at 640x480 and 15 frames a second is
//!   9 MB/s, well inside the 24 MB/s that USB 2 carries isochronously.
//! - From 1280 columns MJPG, NV12, YUYV, GREY. YUYV at 1280x720 and 15 frames a second is 28 MB/s:
//!   cameras then offer 5 to 10 frames a second, or starve others on the same bus.
//!
//! GREY is last because recognition was measured on colour.

use crate::frame::{FrameSize, PixelFormat};

/// Encodings by their codes on the device. NV12 may come in one memory plane or in two.
pub(super) const KNOWN: [([u8; 4], PixelFormat); 6] = [
    (*b"NV12", PixelFormat::Nv12),
    (*b"NM12", PixelFormat::Nv12),
    (*b"YUYV", PixelFormat::Yuyv),
    (*b"MJPG", PixelFormat::Mjpg),
    (*b"JPEG", PixelFormat::Mjpg),
    (*b"GREY", PixelFormat::Grey),
];

/// From this width on, raw frames need more of USB 2 than it has.
const WIDE_PX: u32 = 1280;

/// The encoding known under a code.
pub(super) fn known(fourcc: [u8; 4]) -> Option<PixelFormat> {
    KNOWN.iter().find(|(code, _)| *code == fourcc).map(|&(_, format)| format)
}

/// Sizes a device has for one encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    /// These.
    Listed(Vec<FrameSize>),
    /// From the least to the greatest, in steps.
    Stepped { least: FrameSize, greatest: FrameSize, step: FrameSize },
    /// The driver does not say; it is asked for what is wanted.
    Unstated,
}

impl Sizes {
    /// The size nearest to what is wanted; of two equally near, the larger.
    pub(super) fn nearest(&self, wanted: FrameSize) -> Option<FrameSize> {
        match self {
            Self::Unstated => Some(wanted),
            Self::Listed(sizes) => {
                let far = |size: &FrameSize| {
                    u64::from(size.width.abs_diff(wanted.width))
                        + u64::from(size.height.abs_diff(wanted.height))
                };
                let area = |size: &FrameSize| u64::from(size.width) * u64::from(size.height);
                sizes.iter().copied().min_by_key(|size| (far(size), std::cmp::Reverse(area(size))))
            }
            Self::Stepped { least, greatest, step } => {
                let side = |wanted: u32, least: u32, greatest: u32, step: u32| {
                    let steps = wanted.clamp(least, greatest.max(least)).saturating_sub(least) / step.max(1);
                    least + steps * step.max(1)
                };
                Some(FrameSize {
                    width: side(wanted.width, least.width, greatest.width, step.width),
                    height: side(wanted.height, least.height, greatest.height, step.height),
                })
            }
        }
    }
}

/// One way the device could stream: an encoding at the size nearest to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Offer {
    pub(super) fourcc: [u8; 4],
    pub(super) format: PixelFormat,
    pub(super) size: FrameSize,
    /// Highest rate at this size; `None` when the driver does not say.
    pub(super) fastest_hz: Option<f32>,
}

/// The best of the offers, `None` when none is allowed.
pub(super) fn choose(
    offers: &[Offer],
    wanted: FrameSize,
    rate_hz: f32,
    only: Option<PixelFormat>,
) -> Option<Offer> {
    let allowed = offers.iter().filter(|offer| only.is_none_or(|format| format == offer.format));
    allowed.copied().min_by(|a, b| {
        rank(a, wanted, rate_hz).partial_cmp(&rank(b, wanted, rate_hz)).unwrap_or(std::cmp::Ordering::Equal)
    })
}

/// Less is better, the first number first.
fn rank(offer: &Offer, wanted: FrameSize, rate_hz: f32) -> (u32, f32, usize) {
    let far = offer.size.width.abs_diff(wanted.width) + offer.size.height.abs_diff(wanted.height);
    // Cameras say 14.985 and 29.97 and mean 15 and 30.
    let missing_hz = offer.fastest_hz.map_or(0.0, |fastest| (rate_hz * 0.95 - fastest).max(0.0));
    let order = match offer.size.width >= WIDE_PX {
        true => [PixelFormat::Mjpg, PixelFormat::Nv12, PixelFormat::Yuyv, PixelFormat::Grey],
        false => [PixelFormat::Nv12, PixelFormat::Yuyv, PixelFormat::Mjpg, PixelFormat::Grey],
    };
    let place = order.iter().position(|format| *format == offer.format).unwrap_or(order.len());
    (far, missing_hz, place)
}

/// How the bytes of one raw frame lie in memory, as negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: PixelFormat,
    pub(super) size: FrameSize,
    /// Bytes from row to row of the first plane, 0 for JPEG.
    pub(super) stride: u32,
    /// For each memory plane: bytes from row to row, and rows. Empty for JPEG.
    pub(super) planes: Vec<(usize, usize)>,
}

impl Layout {
    /// Checks what the driver answered: `lines` holds its bytes a row for each memory plane, 0
    /// where it leaves that open.
    pub(super) fn new(format: PixelFormat, size: FrameSize, lines: &[u32]) -> Result<Self, String> {
        if format == PixelFormat::Mjpg {
            return match lines.len() {
                1 => Ok(Self { format, size, stride: 0, planes: Vec::new() }),
                count => Err(format!("gives a JPEG in {count} memory planes; 1 is needed")),
            };
        }
        let least = match format {
            PixelFormat::Yuyv => size.width.next_multiple_of(2) * 2,
            PixelFormat::Nv12 => size.width.next_multiple_of(2),
            _ => size.width,
        };
        let mut strides = lines.iter().map(|&line| if line == 0 { least } else { line });
        if let Some(short) =
            strides.clone().find(|&stride| stride < least || stride > least.saturating_mul(8))
        {
            return Err(format!(
                "states {short} bytes a row for {format} {size}; at least {least} are needed"
            ));
        }
        let rows = size.height as usize;
        let chroma_rows = rows.div_ceil(2);
        let stride = strides.next().unwrap_or(least);
        let planes = match (format, strides.next()) {
            (PixelFormat::Nv12, None) => vec![(stride as usize, rows + chroma_rows)],
            (PixelFormat::Nv12, Some(chroma)) => {
                vec![(stride as usize, rows), (chroma as usize, chroma_rows)]
            }
            (_, None) => vec![(stride as usize, rows)],
            (_, Some(_)) => Vec::new(),
        };
        if planes.len() != lines.len() {
            return Err(format!("gives {format} in {} memory planes, which is not understood", lines.len()));
        }
        Ok(Self { format, size, stride, planes })
    }

    /// Memory planes a frame.
    pub(super) fn plane_count(&self) -> usize {
        self.planes.len().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VGA: FrameSize = FrameSize { width: 640, height: 480 };
    const HD: FrameSize = FrameSize { width: 1280, height: 720 };

    fn offer(fourcc: &[u8; 4], size: FrameSize, fastest_hz: f32) -> Offer {
        Offer { fourcc: *fourcc, format: known(*fourcc).unwrap(), size, fastest_hz: Some(fastest_hz) }
    }

    fn chosen(offers: &[Offer], wanted: FrameSize, rate: f32) -> [u8; 4] {
        choose(offers, wanted, rate, None).unwrap().fourcc
    }

    #[test]
    fn raw_pixels_are_taken_at_vga_and_jpeg_at_hd() {
        let at = |size| [offer(b"MJPG", size, 30.0), offer(b"YUYV", size, 30.0)];
        assert_eq!(chosen(&at(VGA), VGA, 15.0), *b"YUYV");
        assert_eq!(chosen(&at(HD), HD, 15.0), *b"MJPG");
    }

    #[test]
    fn a_format_too_slow_loses_to_one_that_is_fast_enough() {
        let offers = [offer(b"YUYV", VGA, 10.0), offer(b"MJPG", VGA, 30.0)];
        assert_eq!(chosen(&offers, VGA, 15.0), *b"MJPG");
        assert_eq!(chosen(&offers, VGA, 10.0), *b"YUYV");
        assert_eq!(chosen(&[offer(b"YUYV", VGA, 29.97), offer(b"MJPG", VGA, 60.0)], VGA, 30.0), *b"YUYV");
    }

    #[test]
    fn the_nearest_size_comes_before_everything_else() {
        let offers = [offer(b"NV12", HD, 60.0), offer(b"GREY", VGA, 5.0)];
        assert_eq!(chosen(&offers, VGA, 30.0), *b"GREY");
    }

    #[test]
    fn a_format_asked_for_by_name_is_taken_or_nothing() {
        let offers = [offer(b"NV12", VGA, 30.0), offer(b"MJPG", VGA, 30.0)];
        let only = |format| choose(&offers, VGA, 15.0, Some(format)).map(|offer| offer.fourcc);
        assert_eq!(only(PixelFormat::Mjpg), Some(*b"MJPG"));
        assert_eq!(only(PixelFormat::Grey), None);
    }

    #[test]
    fn nearest_size_of_lists_and_steps() {
        let size = |width, height| FrameSize { width, height };
        let listed = Sizes::Listed(vec![size(320, 240), size(1280, 720), size(800, 600)]);
        assert_eq!(listed.nearest(VGA), Some(size(800, 600)));
        assert_eq!(Sizes::Listed(vec![]).nearest(VGA), None);
        let (least, greatest) = (size(48, 32), size(1920, 1080));
        let stepped = Sizes::Stepped { least, greatest, step: size(16, 8) };
        assert_eq!(stepped.nearest(size(650, 481)), Some(size(640, 480)));
        assert_eq!(stepped.nearest(size(9, 9000)), Some(size(48, 1080)));
        // A driver that reports nonsense costs no panic.
        let broken = Sizes::Stepped { least: size(100, 100), greatest: size(0, 0), step: size(0, 0) };
        assert_eq!(broken.nearest(VGA), Some(size(100, 100)));
    }

    #[test]
    fn layout_follows_the_strides_of_the_driver() {
        let layout = |format, lines: &[u32]| Layout::new(format, VGA, lines);
        assert_eq!(layout(PixelFormat::Yuyv, &[1408]).unwrap().planes, [(1408, 480)]);
        assert_eq!(layout(PixelFormat::Nv12, &[0]).unwrap().planes, [(640, 720)]);
        assert_eq!(layout(PixelFormat::Nv12, &[704, 768]).unwrap().planes, [(704, 480), (768, 240)]);
        assert_eq!(layout(PixelFormat::Mjpg, &[0]).unwrap().stride, 0);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        assert!(Layout::new(PixelFormat::Yuyv, VGA, &[640]).unwrap_err().contains("1280"));
        assert!(Layout::new(PixelFormat::Grey, VGA, &[u32::MAX]).is_err());
        assert!(Layout::new(PixelFormat::Grey, VGA, &[640, 640]).is_err());
        assert!(Layout::new(PixelFormat::Nv12, VGA, &[640; 3]).is_err());
        assert!(Layout::new(PixelFormat::Mjpg, VGA, &[0, 0]).is_err());
    }
}
