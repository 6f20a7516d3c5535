//! JPEGs one after the other, as `.mjpeg` files and many cameras' HTTP streams hold them, and as
//! much of the JPEG syntax as finding their ends and sizes takes. Nothing is decoded here.
//! Markers and segments: ITU-T T.81, annex B.

use std::io::{BufRead, Seek, SeekFrom};

use super::{ContainerError, FrameReader, FrameShape, MAX_ENCODED_BYTES};
use crate::camera::MAX_SIDE_PX;
use crate::frame::{FrameSize, PixelFormat};

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// Whether a marker stands alone, without a length and payload.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xD0..=0xD9)
}

/// Size as the frame header of a JPEG states it; `None` when there is none before the pixels, or
/// its sides are zero or beyond [`MAX_SIDE_PX`].
pub fn jpeg_size(bytes: &[u8]) -> Option<FrameSize> {
    let mut rest = bytes.strip_prefix(&[0xFF, SOI])?;
    loop {
        rest = rest.strip_prefix(&[0xFF])?;
        let (&marker, tail) = rest.split_first()?;
        match marker {
            // Fill bytes may stand before a marker.
            0xFF => {}
            SOS => return None,
            _ if stands_alone(marker) => rest = tail,
            _ => {
                let length = usize::from(u16::from_be_bytes([*tail.first()?, *tail.get(1)?]));
                let segment = tail.get(2..length)?;
                // SOF0 to SOF15 without DHT, JPG and DAC, which share the range.
                if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
                    let side = |at: usize| {
                        let side = u32::from(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
                        (1..=MAX_SIDE_PX).contains(&side).then_some(side)
                    };
                    return Some(FrameSize { height: side(1)?, width: side(3)? });
                }
                rest = &tail[length..];
            }
        }
    }
}

/// Reads a stream of JPEGs. Bytes between them are passed over.
#[derive(Debug)]
pub struct JpegStreamReader<R> {
    input: R,
    discarded: u64,
}

/// How reading one JPEG ended.
enum Outcome {
    Whole,
    /// The input ended, or the syntax broke, before the end marker.
    Cut,
    TooLong,
}

impl<R: BufRead> JpegStreamReader<R> {
    /// Reads from the present position.
    pub fn new(input: R) -> Self {
        Self { input, discarded: 0 }
    }

    /// Passes over everything up to and including the next start marker; `false` at the end.
    fn seek_start(&mut self) -> Result<bool, ContainerError> {
        let mut previous = 0;
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(false);
            }
            let mut found = None;
            for (at, &byte) in chunk.iter().enumerate() {
                if previous == 0xFF && byte == SOI {
                    found = Some(at + 1);
                    break;
                }
                previous = byte;
            }
            let used = found.unwrap_or(chunk.len());
            self.input.consume(used);
            if found.is_some() {
                return Ok(true);
            }
        }
    }

    fn byte(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u8>, ContainerError> {
        let Some(&byte) = self.input.fill_buf()?.first() else { return Ok(None) };
        self.input.consume(1);
        buffer.push(byte);
        Ok(Some(byte))
    }

    /// Copies `count` bytes; `false` when the input ends before.
    fn copy(&mut self, buffer: &mut Vec<u8>, mut count: usize) -> Result<bool, ContainerError> {
        while count > 0 {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(false);
            }
            let used = chunk.len().min(count);
            buffer.extend_from_slice(&chunk[..used]);
            self.input.consume(used);
            count -= used;
        }
        Ok(true)
    }

    /// Copies entropy-coded bytes up to the next marker that ends them, and gives that marker.
    fn copy_entropy(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u8>, ContainerError> {
        let mut after_ff = false;
        while buffer.len() <= MAX_ENCODED_BYTES {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let mut end = None;
            for (at, &byte) in chunk.iter().enumerate() {
                // A stuffed zero and the restart markers belong to the data.
                if after_ff && !matches!(byte, 0x00 | 0xFF | 0xD0..=0xD7) {
                    end = Some((at + 1, byte));
                    break;
                }
                after_ff = byte == 0xFF;
            }
            let used = end.map_or(chunk.len(), |(used, _)| used);
            buffer.extend_from_slice(&chunk[..used]);
            self.input.consume(used);
            if let Some((_, marker)) = end {
                return Ok(Some(marker));
            }
        }
        Ok(None)
    }

    /// Copies one JPEG whose start marker has been read.
    fn copy_jpeg(&mut self, buffer: &mut Vec<u8>) -> Result<Outcome, ContainerError> {
        let mut marker = None;
        loop {
            if buffer.len() > MAX_ENCODED_BYTES {
                return Ok(Outcome::TooLong);
            }
            let code = match marker.take() {
                Some(code) => code,
                None => {
                    if self.byte(buffer)? != Some(0xFF) {
                        return Ok(Outcome::Cut);
                    }
                    let mut code = self.byte(buffer)?;
                    while code == Some(0xFF) && buffer.len() <= MAX_ENCODED_BYTES {
                        code = self.byte(buffer)?;
                    }
                    let Some(code) = code else { return Ok(Outcome::Cut) };
                    code
                }
            };
            match code {
                EOI => return Ok(Outcome::Whole),
                // A new picture begins before this one ended, or there is no marker at all.
                SOI | 0x00 => return Ok(Outcome::Cut),
                _ if stands_alone(code) => {}
                _ => {
                    let (Some(high), Some(low)) = (self.byte(buffer)?, self.byte(buffer)?) else {
                        return Ok(Outcome::Cut);
                    };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length < 2 || !self.copy(buffer, length - 2)? {
                        return Ok(Outcome::Cut);
                    }
                    if code == SOS {
                        marker = self.copy_entropy(buffer)?;
                        if marker.is_none() {
                            let long = buffer.len() > MAX_ENCODED_BYTES;
                            return Ok(if long { Outcome::TooLong } else { Outcome::Cut });
                        }
                    }
                }
            }
        }
    }
}

impl<R: BufRead + Seek + Send> FrameReader for JpegStreamReader<R> {
    fn read_frame(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameShape>, ContainerError> {
        let mut started = self.seek_start()?;
        while started {
            buffer.clear();
            buffer.extend([0xFF, SOI]);
            let outcome = self.copy_jpeg(buffer)?;
            if let (Outcome::Whole, Some(size)) = (&outcome, jpeg_size(buffer)) {
                return Ok(Some(FrameShape { format: PixelFormat::Mjpg, size, stride: 0 }));
            }
            self.discarded += 1;
            // The marker that cut this picture short may be the start of the next.
            let at_start =
                matches!(outcome, Outcome::Cut) && buffer.ends_with(&[0xFF, SOI]) && buffer.len() > 2;
            started = at_start || self.seek_start()?;
        }
        buffer.clear();
        Ok(None)
    }

    fn rewind(&mut self) -> Result<(), ContainerError> {
        self.input.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    fn rate_hz(&self) -> Option<f32> {
        None
    }

    fn discarded(&self) -> u64 {
        self.discarded
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::*;

    const COLLINS: &[u8] = include_bytes!("../../../tests/fixtures/portraits/eileen_collins_1.jpg");

    /// All frames of a stream, and how many were thrown away.
    fn frames(bytes: &[u8], chunk: usize) -> (Vec<Vec<u8>>, u64) {
        let mut reader = JpegStreamReader::new(BufReader::with_capacity(chunk, Cursor::new(bytes)));
        let (mut buffer, mut frames) = (Vec::new(), Vec::new());
        while reader.read_frame(&mut buffer).unwrap().is_some() {
            frames.push(buffer.clone());
        }
        (frames, reader.discarded())
    }

    /// A JPEG in syntax only, with restart markers, stuffing and an embedded picture in APP1.
    fn tricky() -> Vec<u8> {
        let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 8, 0xFF, 0xD8, 1, 2, 0xFF, 0xD9];
        jpeg.extend([0xFF, 0xFF, 0xC0, 0, 11, 8, 0, 4, 0, 6, 1, 1, 0x11, 0]);
        jpeg.extend([0xFF, 0xDA, 0, 2, 9, 0xFF, 0x00, 0xFF, 0xD3, 7, 0xFF, 0xDA, 0, 2, 5, 0xFF, 0xD9]);
        jpeg
    }

    #[test]
    fn stream_is_cut_at_its_pictures_whatever_the_read_size() {
        let stream = [COLLINS, &tricky(), b"--boundary\r\n\r\n", COLLINS].concat();
        for chunk in [1, 2, 7, 4096] {
            let (frames, discarded) = frames(&stream, chunk);
            assert_eq!(frames, [COLLINS.to_vec(), tricky(), COLLINS.to_vec()]);
            assert_eq!(discarded, 0);
        }
    }

    #[test]
    fn a_truncated_picture_is_skipped_and_the_next_one_found() {
        for cut in [3, 20, 700, COLLINS.len() / 2, COLLINS.len() - 1] {
            let (frames, discarded) = frames(&[&COLLINS[..cut], COLLINS, &COLLINS[..cut]].concat(), 512);
            // A cut inside a segment swallows the start of the next picture with it.
            assert!(frames.iter().all(|frame| frame == COLLINS), "cut at {cut}");
            assert!(discarded >= 1, "cut at {cut}");
        }
    }

    #[test]
    fn a_picture_cut_within_its_pixels_does_not_take_the_next_one_along() {
        let (frames, discarded) = frames(&[&COLLINS[..COLLINS.len() / 2], COLLINS].concat(), 512);
        assert_eq!((frames.len(), discarded), (1, 1));
    }

    #[test]
    fn size_comes_from_the_frame_header_and_not_from_an_embedded_picture() {
        assert_eq!(jpeg_size(&tricky()), Some(FrameSize { width: 6, height: 4 }));
        assert_eq!(jpeg_size(COLLINS), Some(FrameSize { width: 310, height: 388 }));
        assert_eq!(jpeg_size(&COLLINS[..100]), None);
        let mut huge = tricky();
        huge[19..21].copy_from_slice(&[0xFF, 0xFF]);
        assert_eq!(jpeg_size(&huge), None);
    }

    #[test]
    fn endless_pixels_are_given_up_at_the_size_limit() {
        let mut bomb = tricky();
        bomb.truncate(bomb.len() - 2);
        bomb.resize(MAX_ENCODED_BYTES + 100_000, 5);
        bomb.extend(tricky());
        let (frames, discarded) = frames(&bomb, 1 << 16);
        assert_eq!((frames, discarded), (vec![tricky()], 1));
    }

    proptest! {
        #[test]
        fn no_input_panics_or_gives_a_frame_without_a_size(
            bytes in proptest::collection::vec(prop_oneof![Just(0xFFu8), 0xC0u8..=0xE0, any::<u8>()], 0..600),
        ) {
            for frame in frames(&bytes, 16).0 {
                prop_assert!(jpeg_size(&frame).is_some());
            }
            let _ = jpeg_size(&bytes);
        }
    }
}
