//! AVI files whose video is JPEGs. The index is not used: chunks are walked in file order, which
//! also reads recordings that were cut off by a power failure, and OpenDML files beyond 4 GB.
//! Format: Microsoft's "AVI RIFF File Reference" and the OpenDML AVI extensions 1.02.

use std::io::{BufRead, Read, Seek, SeekFrom};

use super::{ContainerError, FrameReader, FrameShape, MAX_ENCODED_BYTES, jpeg};
use crate::frame::PixelFormat;

/// Stream headers are tens of bytes; more is padding or an attack.
const MAX_HEADER_BYTES: u32 = 4096;

/// Streams looked at before the first frame.
const MAX_STREAMS: u32 = 32;

type FourCc = [u8; 4];

/// Reads the first JPEG video stream of an AVI file.
#[derive(Debug)]
pub struct AviReader<R> {
    input: R,
    /// Bytes in the file: no chunk can honestly reach beyond.
    length: u64,
    movie_at: u64,
    /// The two digits in front of the stream's chunk names.
    stream: [u8; 2],
    rate_hz: Option<f32>,
    discarded: u64,
}

/// What the walk came to.
enum Chunk {
    /// The payload lies ahead.
    Data {
        id: FourCc,
        size: u32,
    },
    /// The list's contents lie ahead.
    List {
        kind: FourCc,
    },
    End,
}

impl<R: BufRead + Seek> AviReader<R> {
    /// Reads the headers up to the first list of frames.
    pub fn new(mut input: R) -> Result<Self, ContainerError> {
        let length = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let mut start = [0; 12];
        let got = read_up_to(&mut input, &mut start)?;
        if got < 12 || &start[..4] != b"RIFF" || &start[8..] != b"AVI " {
            return Err(ContainerError::Broken { at: 0, what: "no AVI file".into() });
        }
        let mut reader = Self { input, length, movie_at: 0, stream: *b"--", rate_hz: None, discarded: 0 };
        reader.read_headers()?;
        Ok(reader)
    }

    /// The next chunk or list. Lists are entered and not remembered, so nesting costs nothing, and
    /// every step moves at least 8 bytes on, so the walk ends with the file.
    fn next_chunk(&mut self) -> Result<Chunk, ContainerError> {
        let mut header = [0; 8];
        if read_up_to(&mut self.input, &mut header)? < header.len() {
            return Ok(Chunk::End);
        }
        let (id, size) = header.split_at(4);
        let id: FourCc = id.try_into().expect("split at 4");
        let size = u32::from_le_bytes(size.try_into().expect("8 - 4 bytes"));
        if !matches!(&id, b"LIST" | b"RIFF") {
            return Ok(Chunk::Data { id, size });
        }
        let mut kind = [0; 4];
        if read_up_to(&mut self.input, &mut kind)? < kind.len() {
            return Ok(Chunk::End);
        }
        Ok(Chunk::List { kind })
    }

    /// Passes over a payload and its padding byte. Never beyond the end of the file.
    fn skip(&mut self, size: u32) -> Result<(), ContainerError> {
        if size == 0 {
            return Ok(());
        }
        let at = self.input.stream_position()?;
        let padded = u64::from(size) + u64::from(size & 1);
        let target = at.saturating_add(padded).min(self.length);
        // Relative, so that a skip within what is already buffered costs no system call.
        self.input.seek_relative((target - at) as i64)?;
        Ok(())
    }

    fn payload(&mut self, size: u32) -> Result<Vec<u8>, ContainerError> {
        let kept = size.min(MAX_HEADER_BYTES);
        let mut bytes = Vec::new();
        let got = (&mut self.input).take(u64::from(kept)).read_to_end(&mut bytes)? as u32;
        // Odd sizes are padded; what was read is subtracted from the padded whole.
        let rest = u64::from(size) + u64::from(size & 1) - u64::from(got);
        let at = self.input.stream_position()?;
        self.input.seek_relative((at.saturating_add(rest).min(self.length) - at) as i64)?;
        Ok(bytes)
    }

    fn read_headers(&mut self) -> Result<(), ContainerError> {
        let (mut streams, mut chosen, mut wanted) = (0u32, None, false);
        let mut found = Vec::new();
        loop {
            match self.next_chunk()? {
                Chunk::End => {
                    let what = "the file ends before its list of frames (`movi`)".into();
                    return Err(ContainerError::Broken { at: self.length, what });
                }
                Chunk::List { kind } if &kind == b"movi" => break,
                Chunk::List { .. } => {}
                Chunk::Data { id, size } => match &id {
                    b"avih" => {
                        let micros = word(&self.payload(size)?, 0);
                        self.rate_hz = micros.filter(|&micros| micros > 0).map(|micros| 1e6 / micros as f32);
                    }
                    b"strh" => {
                        let header = self.payload(size)?;
                        streams += 1;
                        wanted = chosen.is_none() && header.starts_with(b"vids");
                        if wanted && let (Some(scale), Some(rate)) = (word(&header, 20), word(&header, 24)) {
                            let stated = rate as f32 / scale as f32;
                            self.rate_hz = if stated.is_normal() { Some(stated) } else { self.rate_hz };
                        }
                        if streams > MAX_STREAMS {
                            let what = format!("has more than {MAX_STREAMS} streams");
                            return Err(ContainerError::Unsupported(what));
                        }
                    }
                    b"strf" => {
                        let format = self.payload(size)?;
                        if std::mem::take(&mut wanted) {
                            let codec = format.get(16..20).unwrap_or_default().to_ascii_uppercase();
                            match &codec[..] {
                                b"MJPG" | b"JPEG" => chosen = Some(streams.saturating_sub(1)),
                                _ => found.push(String::from_utf8_lossy(&codec).escape_debug().to_string()),
                            }
                        }
                    }
                    _ => self.skip(size)?,
                },
            }
        }
        let Some(index) = chosen else {
            let found = if found.is_empty() { "none".into() } else { found.join(", ") };
            let what = format!("has no JPEG video stream (video streams: {found}); MJPG is needed");
            return Err(ContainerError::Unsupported(what));
        };
        let digit = |value: u32| b"0123456789"[value as usize % 10];
        self.stream = [digit(index / 10), digit(index)];
        self.movie_at = self.input.stream_position()?;
        Ok(())
    }
}

/// Fills `bytes` as far as the input reaches.
fn read_up_to(input: &mut impl Read, bytes: &mut [u8]) -> Result<usize, ContainerError> {
    let mut got = 0;
    while got < bytes.len() {
        match input.read(&mut bytes[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<R: BufRead + Seek + Send> FrameReader for AviReader<R> {
    fn read_frame(&mut self, buffer: &mut Vec<u8>) -> Result<Option<FrameShape>, ContainerError> {
        loop {
            let (id, size) = match self.next_chunk()? {
                Chunk::End => break,
                Chunk::List { .. } => continue,
                Chunk::Data { id, size } => (id, size),
            };
            if id[..2] != self.stream || !matches!(&id[2..], b"dc" | b"db") {
                self.skip(size)?;
                continue;
            }
            if size == 0 {
                // The recorder dropped a frame here and asks for the last one to stay.
                continue;
            }
            if size as usize > MAX_ENCODED_BYTES {
                self.discarded += 1;
                self.skip(size)?;
                continue;
            }
            buffer.clear();
            let got = (&mut self.input).take(u64::from(size)).read_to_end(buffer)?;
            if got < size as usize {
                self.discarded += 1;
                break;
            }
            if size % 2 == 1 {
                self.input.seek_relative(1)?;
            }
            match jpeg::jpeg_size(buffer) {
                Some(size) => return Ok(Some(FrameShape { format: PixelFormat::Mjpg, size, stride: 0 })),
                None => self.discarded += 1,
            }
        }
        buffer.clear();
        Ok(None)
    }

    fn rewind(&mut self) -> Result<(), ContainerError> {
        self.input.seek(SeekFrom::Start(self.movie_at))?;
        Ok(())
    }

    fn rate_hz(&self) -> Option<f32> {
        self.rate_hz
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

    const COLLINS: &[u8] = include_bytes!("../../../tests/fixtures/portraits/eileen_collins_1.jpg");

    fn chunk(id: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = [id, &(payload.len() as u32).to_le_bytes(), payload].concat();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    }

    fn list(kind: &[u8], parts: &[Vec<u8>]) -> Vec<u8> {
        chunk(b"LIST", &[kind, &parts.concat()].concat())
    }

    fn stream(kind: &[u8; 4], codec: &[u8; 4]) -> Vec<u8> {
        let mut header = vec![0; 56];
        header[..4].copy_from_slice(kind);
        header[20..24].copy_from_slice(&2u32.to_le_bytes());
        header[24..28].copy_from_slice(&25u32.to_le_bytes());
        let mut format = vec![0; 40];
        format[16..20].copy_from_slice(codec);
        list(b"strl", &[chunk(b"strh", &header), chunk(b"strf", &format)])
    }

    fn file(streams: &[Vec<u8>], movie: &[Vec<u8>]) -> Vec<u8> {
        let headers = [&[chunk(b"avih", &66_667u32.to_le_bytes())], streams].concat();
        let body = [list(b"hdrl", &headers), chunk(b"JUNK", &[1; 33]), list(b"movi", movie)].concat();
        chunk(b"RIFF", &[&b"AVI "[..], &body].concat())
    }

    fn open(bytes: &[u8]) -> Result<AviReader<Cursor<&[u8]>>, ContainerError> {
        AviReader::new(Cursor::new(bytes))
    }

    /// Number of frames, all of them [`COLLINS`], and of those thrown away.
    fn count(bytes: &[u8]) -> (usize, u64) {
        let (mut reader, mut buffer, mut frames) = (open(bytes).unwrap(), Vec::new(), 0);
        while reader.read_frame(&mut buffer).unwrap().is_some() {
            assert_eq!(buffer, COLLINS);
            frames += 1;
        }
        (frames, reader.discarded())
    }

    fn video() -> Vec<Vec<u8>> {
        vec![stream(b"vids", b"MJPG")]
    }

    #[test]
    fn frames_of_the_jpeg_stream_are_found_among_others() {
        let streams = [stream(b"auds", b"\0\0\0\0"), stream(b"vids", b"H264"), stream(b"vids", b"mjpg")];
        let movie = [
            chunk(b"00wb", &[3; 11]),
            chunk(b"02dc", COLLINS),
            list(b"rec ", &[chunk(b"01dc", &[9; 5]), chunk(b"02dc", &[]), chunk(b"02dc", COLLINS)]),
            chunk(b"ix02", &[0; 24]),
        ];
        let bytes = file(&streams, &movie);
        assert_eq!(count(&bytes), (2, 0));
        assert_eq!(open(&bytes).unwrap().rate_hz(), Some(12.5));
    }

    #[test]
    fn a_second_riff_of_a_long_recording_is_read_on() {
        let more = chunk(b"RIFF", &[&b"AVIX"[..], &list(b"movi", &[chunk(b"00dc", COLLINS)])].concat());
        let bytes = [file(&video(), &[chunk(b"00dc", COLLINS)]), more].concat();
        assert_eq!(count(&bytes), (2, 0));
        let mut reader = open(&bytes).unwrap();
        while reader.read_frame(&mut Vec::new()).unwrap().is_some() {}
        reader.rewind().unwrap();
        assert!(reader.read_frame(&mut Vec::new()).unwrap().is_some());
    }

    #[test]
    fn a_cut_recording_gives_its_whole_frames() {
        let bytes = file(&video(), &[chunk(b"00dc", COLLINS), chunk(b"00dc", COLLINS)]);
        assert_eq!(count(&bytes[..bytes.len() - 100]), (1, 1));
    }

    #[test]
    fn sizes_beyond_the_file_end_the_walk() {
        let mut lying = chunk(b"00dc", COLLINS);
        lying[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(count(&file(&video(), &[chunk(b"00dc", COLLINS), lying])), (1, 1));
        let mut lying = chunk(b"JUNK", &[0; 8]);
        lying[4..8].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
        assert_eq!(count(&file(&video(), &[lying, chunk(b"00dc", COLLINS)])), (0, 0));
    }

    #[test]
    fn lists_nested_a_million_times_and_empty_chunks_cost_only_their_bytes() {
        let mut movie = [&b"LIST"[..], &[0xFF; 4], b"rec "].concat().repeat(1_000_000);
        movie.extend(chunk(b"00dc", &[]).repeat(100_000));
        movie.extend(chunk(b"00dc", COLLINS));
        assert_eq!(count(&file(&video(), &[movie])), (1, 0));
    }

    #[test]
    fn a_giant_header_chunk_is_not_read_into_memory() {
        let mut streams = video();
        streams.push(list(b"strl", &[chunk(b"strh", &vec![1; 5_000_001])]));
        assert_eq!(count(&file(&streams, &[chunk(b"00dc", COLLINS)])), (1, 0));
    }

    #[test]
    fn frames_that_are_no_jpeg_are_skipped() {
        let movie = [chunk(b"00dc", b"not a picture"), chunk(b"00dc", COLLINS)];
        assert_eq!(count(&file(&video(), &movie)), (1, 1));
    }

    #[test]
    fn files_without_jpeg_video_say_what_they_have() {
        for (bytes, expected) in [
            (b"RIFF\0\0\0\0WAVE".to_vec(), "no AVI"),
            (vec![], "no AVI"),
            (file(&[stream(b"vids", b"H264")], &[]), "H264"),
            (file(&[], &[]), "none"),
            (file(&video(), &[])[..100].to_vec(), "movi"),
            (file(&vec![stream(b"auds", b"\0\0\0\0"); 40], &[]), "more than"),
        ] {
            let message = open(&bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_file_with_changed_bytes_never_panics(changes in proptest::collection::vec((0usize..500, any::<u8>()), 1..8)) {
            let mut bytes = file(&video(), &[chunk(b"00dc", &COLLINS[..200])]);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if let Ok(mut reader) = open(&bytes) {
                let mut frames = 0;
                while let Ok(Some(_)) = reader.read_frame(&mut Vec::new()) {
                    frames += 1;
                    prop_assert!(frames < 100);
                }
            }
        }
    }
}
