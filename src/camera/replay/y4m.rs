//! YUV4MPEG2: a text line about the stream, then for every frame a text line and raw planes.
//! 8-bit 4:2:0, 4:2:2 and luminance are read, and given as NV12, YUYV and GREY. An odd last column
//! or row is dropped, because the packed formats have no place for half a chroma sample.
//! Format: the yuv4mpeg(5) manual page of mjpegtools.

use std::io::{BufRead, Read, Seek, SeekFrom};

use super::{ContainerError, FrameReader, FrameShape};
use crate::camera::MAX_SIDE_PX;
use crate::frame::{FrameSize, PixelFormat};

/// Longest header line accepted; the longest one in use is under 100 bytes.
const MAX_LINE_BYTES: u64 = 1024;

const MAGIC: &[u8] = b"YUV4MPEG2";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sampling {
    Yuv420,
    Yuv422,
    Mono,
}

/// What the stream's first line says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    size: FrameSize,
    rate_hz: Option<f32>,
    sampling: Sampling,
}

/// Reads a Y4M stream.
#[derive(Debug)]
pub struct Y4mReader<R> {
    input: R,
    header: Header,
    first_frame_at: u64,
    planes: Vec<u8>,
    discarded: u64,
}

impl<R: BufRead + Seek> Y4mReader<R> {
    /// Reads the first line.
    pub fn new(mut input: R) -> Result<Self, ContainerError> {
        let line = read_line(&mut input)?;
        let header = parse_header(&line)?;
        let first_frame_at = input.stream_position()?;
        Ok(Self { input, header, first_frame_at, planes: Vec::new(), discarded: 0 })
    }

    fn broken(&mut self, what: &str) -> ContainerError {
        let at = self.input.stream_position().unwrap_or_default();
        ContainerError::Broken { at, what: what.into() }
    }
}

/// One line without its end; fails when it is too long or the input ends first.
fn read_line(input: &mut impl BufRead) -> Result<Vec<u8>, ContainerError> {
    let mut line = Vec::new();
    input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        None => Ok(line),
        Some(_) => {
            let what = format!("a header line has no end within {MAX_LINE_BYTES} bytes of file");
            Err(ContainerError::Broken { at: 0, what })
        }
    }
}

fn parse_header(line: &[u8]) -> Result<Header, ContainerError> {
    let broken = |what: String| ContainerError::Broken { at: 0, what };
    let mut fields = line.split(|&byte| byte == b' ');
    if fields.next() != Some(MAGIC) {
        return Err(broken("no YUV4MPEG2 file".into()));
    }
    let (mut width, mut height, mut rate_hz, mut sampling) = (0, 0, None, Sampling::Yuv420);
    for field in fields {
        let Some((&tag, value)) = field.split_first() else { continue };
        let text = String::from_utf8_lossy(value);
        let side = || text.parse::<u32>().ok().filter(|side| (2..=MAX_SIDE_PX).contains(side));
        let bad_side = || broken(format!("size `{text}` is not a number from 2 to {MAX_SIDE_PX}"));
        match tag {
            b'W' => width = side().ok_or_else(bad_side)?,
            b'H' => height = side().ok_or_else(bad_side)?,
            b'F' => rate_hz = parse_rate(&text),
            b'I' if !matches!(value, b"p" | b"?") => {
                return Err(ContainerError::Unsupported(format!("is interlaced (I{text})")));
            }
            b'C' => sampling = parse_sampling(&text)?,
            _ => {}
        }
    }
    if width == 0 || height == 0 {
        return Err(broken("the first line states no width or no height".into()));
    }
    Ok(Header { size: FrameSize { width, height }, rate_hz, sampling })
}

fn parse_rate(text: &str) -> Option<f32> {
    let (frames, seconds) = text.split_once(':')?;
    let rate = frames.parse::<u32>().ok()? as f32 / seconds.parse::<u32>().ok()? as f32;
    rate.is_finite().then_some(rate)
}

fn parse_sampling(text: &str) -> Result<Sampling, ContainerError> {
    match text {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(Sampling::Yuv420),
        "422" => Ok(Sampling::Yuv422),
        "mono" => Ok(Sampling::Mono),
        other => {
            let known = "8-bit C420, C420jpeg, C420mpeg2, C420paldv, C422 or Cmono is needed";
            Err(ContainerError::Unsupported(format!("has the colour space C{other}; {known}")))
        }
    }
}

impl Header {
    /// Rows and columns of one chroma plane.
    fn chroma(&self) -> (usize, usize) {
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        match self.sampling {
            Sampling::Yuv420 => (width.div_ceil(2), height.div_ceil(2)),
            Sampling::Yuv422 => (width.div_ceil(2), height),
            Sampling::Mono => (0, 0),
        }
    }

    /// Bytes of all planes as they lie in the file: at most 128 MB at the largest size.
    fn plane_bytes(&self) -> usize {
        let (chroma_width, chroma_height) = self.chroma();
        self.size.width as usize * self.size.height as usize + 2 * chroma_width * chroma_height
    }

    /// Rewrites the file's planes as the format they are given in.
    fn repack(&self, planes: &[u8], out: &mut Vec<u8>) -> FrameShape {
        let FrameSize { width, height } = self.size;
        let (luma_width, rows) = (width as usize, height as usize);
        let (chroma_width, chroma_height) = self.chroma();
        let (luma, chroma) = planes.split_at(luma_width * rows);
        let (blue, red) = chroma.split_at(chroma_width * chroma_height);
        let (even_width, even_height) = (width & !1, height & !1);
        let pairs = even_width as usize / 2;
        out.clear();
        match self.sampling {
            Sampling::Mono => {
                out.extend_from_slice(luma);
                FrameShape { format: PixelFormat::Grey, size: self.size, stride: width }
            }
            Sampling::Yuv420 => {
                for row in luma.chunks_exact(luma_width).take(even_height as usize) {
                    out.extend_from_slice(&row[..pairs * 2]);
                }
                let rows = blue.chunks_exact(chroma_width).zip(red.chunks_exact(chroma_width));
                for (blue, red) in rows.take(even_height as usize / 2) {
                    out.extend(blue[..pairs].iter().zip(&red[..pairs]).flat_map(|(&u, &v)| [u, v]));
                }
                let size = FrameSize { width: even_width, height: even_height };
                FrameShape { format: PixelFormat::Nv12, size, stride: even_width }
            }
            Sampling::Yuv422 => {
                let chroma = blue.chunks_exact(chroma_width).zip(red.chunks_exact(chroma_width));
                for (row, (blue, red)) in luma.chunks_exact(luma_width).zip(chroma) {
                    let pixels = row.chunks_exact(2).zip(&blue[..pairs]).zip(&red[..pairs]);
                    out.extend(pixels.flat_map(|((y, &u), &v)| [y[0], u, y[1], v]));
                }
                let size = FrameSize { width: even_width, height };
                FrameShape { format: PixelFormat::Yuyv, size, stride: even_width * 2 }
            }
        }
    }
}

impl<R: BufRead + Seek + Send> FrameReader for Y4mReader<R> {
    fn read_frame(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameShape>, ContainerError> {
        let line = read_line(&mut self.input)?;
        if line.is_empty() && self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        if line != b"FRAME" && !line.starts_with(b"FRAME ") {
            return Err(self.broken("a line `FRAME` should stand here"));
        }
        let wanted = self.header.plane_bytes();
        self.planes.clear();
        // `take` grows the buffer with what is really there, not with what the header claims.
        let read = (&mut self.input).take(wanted as u64).read_to_end(&mut self.planes)?;
        if read < wanted {
            self.discarded += 1;
            return Ok(None);
        }
        Ok(Some(self.header.repack(&self.planes, buffer)))
    }

    fn rewind(&mut self) -> Result<(), ContainerError> {
        self.input.seek(SeekFrom::Start(self.first_frame_at))?;
        Ok(())
    }

    fn rate_hz(&self) -> Option<f32> {
        self.header.rate_hz
    }

    fn discarded(&self) -> u64 {
        self.discarded
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn open(bytes: &[u8]) -> Result<Y4mReader<Cursor<&[u8]>>, ContainerError> {
        Y4mReader::new(Cursor::new(bytes))
    }

    fn only_frame(bytes: &[u8]) -> (FrameShape, Vec<u8>) {
        let (mut reader, mut buffer) = (open(bytes).unwrap(), Vec::new());
        let shape = reader.read_frame(&mut buffer).unwrap().unwrap();
        assert_eq!(reader.read_frame(&mut Vec::new()).unwrap(), None);
        (shape, buffer)
    }

    #[test]
    fn planar_420_becomes_nv12_and_drops_the_odd_column_and_row() {
        let mut file = b"YUV4MPEG2 W3 H3 F30000:1001 Ip A1:1 C420jpeg XCOMMENT\nFRAME\n".to_vec();
        file.extend([1, 2, 3, 4, 5, 6, 7, 8, 9]);
        file.extend([20, 21, 22, 23, 30, 31, 32, 33]);
        let (shape, bytes) = only_frame(&file);
        let size = FrameSize { width: 2, height: 2 };
        assert_eq!(shape, FrameShape { format: PixelFormat::Nv12, size, stride: 2 });
        assert_eq!(bytes, [1, 2, 4, 5, 20, 30]);
        assert!((open(&file).unwrap().rate_hz().unwrap() - 29.97).abs() < 0.001);
    }

    #[test]
    fn planar_422_becomes_yuyv() {
        let mut file = b"YUV4MPEG2 W4 H2 C422\nFRAME Xanything\n".to_vec();
        file.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        file.extend([20, 21, 22, 23, 30, 31, 32, 33]);
        let (shape, bytes) = only_frame(&file);
        assert_eq!((shape.format, shape.stride), (PixelFormat::Yuyv, 8));
        assert_eq!(bytes, [1, 20, 2, 30, 3, 21, 4, 31, 5, 22, 6, 32, 7, 23, 8, 33]);
    }

    #[test]
    fn luminance_only_becomes_grey() {
        let (shape, bytes) = only_frame(b"YUV4MPEG2 W2 H2 Cmono F0:0\nFRAME\n\x01\x02\x03\x04");
        assert_eq!((shape.format, bytes), (PixelFormat::Grey, vec![1, 2, 3, 4]));
    }

    #[test]
    fn rewinding_gives_the_first_frame_again_and_a_cut_frame_ends_the_recording() {
        let mut reader = open(b"YUV4MPEG2 W2 H2 Cmono\nFRAME\n\x01\x02\x03\x04FRAME\n\x05\x06").unwrap();
        let mut buffer = Vec::new();
        assert!(reader.read_frame(&mut buffer).unwrap().is_some());
        assert!(reader.read_frame(&mut buffer).unwrap().is_none());
        assert_eq!(reader.discarded(), 1);
        reader.rewind().unwrap();
        assert!(reader.read_frame(&mut buffer).unwrap().is_some());
        assert_eq!(buffer, [1, 2, 3, 4]);
    }

    #[test]
    fn headers_that_lie_or_are_not_understood_are_refused() {
        for (file, expected) in [
            (&b""[..], "no YUV4MPEG2"),
            (b"RIFF\n", "no YUV4MPEG2"),
            (b"YUV4MPEG2 W64 C420\n", "no height"),
            (b"YUV4MPEG2 W99999999999 H2\n", "size"),
            (b"YUV4MPEG2 W-4 H2\n", "size"),
            (b"YUV4MPEG2 W64 H64 C444p10\n", "C444p10"),
            (b"YUV4MPEG2 W64 H64 It\n", "interlaced"),
        ] {
            let message = open(file).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let endless = [MAGIC, &[b' '; 5000]].concat();
        assert!(open(&endless).unwrap_err().to_string().contains("no end"));
    }

    #[test]
    fn a_claimed_giant_frame_takes_no_more_memory_than_the_file_has() {
        let mut reader = open(b"YUV4MPEG2 W8192 H8192 C422\nFRAME\nshort").unwrap();
        assert!(reader.read_frame(&mut Vec::new()).unwrap().is_none());
        assert!(reader.planes.capacity() < 1 << 16);
    }

    proptest! {
        #[test]
        fn no_input_panics(tail in proptest::collection::vec(any::<u8>(), 0..200), width in 0u32..9, height in 0u32..9) {
            let mut file = format!("YUV4MPEG2 W{width} H{height}\nFRAME\n").into_bytes();
            file.extend(tail);
            if let Ok(mut reader) = open(&file) {
                while let Ok(Some(shape)) = reader.read_frame(&mut Vec::new()) {
                    prop_assert!(shape.size.width >= 2);
                }
            }
        }
    }
}
