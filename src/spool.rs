//! Bytes too large for memory, encrypted on the disk: uploads and finished backups.
//!
//! A spool is a file without a name in the state folder, so that nothing of it is left after a crash,
//! and it is encrypted under a key that never leaves memory, so that not even its freed blocks can be
//! read. It is written once, front to back, and then read in any order.
//!
//! On the disk: chunks of 64 KiB, each sealed with AES-256-GCM under the number of the chunk as nonce.
//! A key seals one spool only, so that no nonce occurs twice. How many bytes there are is kept in memory;
//! a file that was cut or changed is an error, never other bytes.
//!
//! Blocking; used on threads of jobs and of the blocking pool.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::vault::StateFolder;

/// Plain bytes of a chunk.
const CHUNK: usize = 64 << 10;
const SEALED: u64 = (CHUNK + MAX_TAG_LEN) as u64;
/// What an upload leaves free on the disk, for the databases: events of some weeks.
const RESERVE: u64 = 64 << 20;
/// Chunks a reader keeps. An archive is read in two places by turns: its directory and one entry.
const CACHED: usize = 4;

/// Why something could not be spooled.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// More bytes than were allowed.
    #[error("there are more than {limit} bytes; that is the most taken here")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// The disk has no room for it.
    #[error(
        "the storage of the device has {free} bytes free that no other upload was promised, of which {RESERVE} are kept for its databases; make room, or give fewer bytes at a time"
    )]
    NoRoom {
        /// Bytes.
        free: u64,
    },
    /// The file could not be made or written.
    #[error("cannot keep the bytes in the state folder for now: {0}")]
    Io(#[from] io::Error),
    /// The system gives no random numbers for a key.
    #[error("the system gives no random numbers for a key: {0}")]
    NoRandomness(getrandom::Error),
}

/// Bytes that all writers together have announced and not written yet: they count as taken, since all of
/// them write to the one state folder of the program.
static PROMISED: AtomicU64 = AtomicU64::new(0);

/// One writer's part of [`PROMISED`].
#[derive(Default)]
struct Promise(u64);

impl Promise {
    fn make(bytes: u64) -> Self {
        PROMISED.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }

    /// So many bytes are written.
    fn keep(&mut self, bytes: u64) {
        let kept = self.0.min(bytes);
        PROMISED.fetch_sub(kept, Ordering::Relaxed);
        self.0 -= kept;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.keep(self.0);
    }
}

/// A spool being written.
pub struct SpoolWriter {
    file: File,
    key: LessSafeKey,
    /// Of the present chunk, with room for its tag.
    buffer: Zeroizing<Vec<u8>>,
    chunks: u64,
    bytes: u64,
    limit: u64,
    promise: Promise,
}

/// Finished: so many bytes, to be read by any number of [`SpoolReader`]s.
pub struct Spool {
    file: File,
    key: LessSafeKey,
    bytes: u64,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spool {{ {} bytes }}", self.bytes)
    }
}

impl std::fmt::Debug for SpoolWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpoolWriter {{ {} of {} bytes }}", self.bytes, self.limit)
    }
}

impl SpoolWriter {
    /// Makes one in the state folder that takes at most `limit` bytes.
    pub fn create(state: &StateFolder, limit: u64) -> Result<Self, SpoolError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(SpoolError::NoRandomness)?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).expect("the key has 32 bytes");
        // Unnamed from the first on where the file system can do that, else unlinked at once; mode 0600.
        let file = tempfile::tempfile_in(state.path())?;
        let writer = Self {
            file,
            key: LessSafeKey::new(key),
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK + MAX_TAG_LEN)),
            chunks: 0,
            bytes: 0,
            limit,
            promise: Promise::default(),
        };
        writer.check_room(0)?;
        Ok(writer)
    }

    /// Refuses early what is known to be too much.
    pub fn expect(&mut self, bytes: u64) -> Result<(), SpoolError> {
        if bytes > self.limit {
            return Err(SpoolError::TooLarge { limit: self.limit });
        }
        self.check_room(bytes)?;
        // Looked at again once it is promised, so that of two who ask at once one at least sees the other.
        self.promise = Promise::make(bytes);
        self.check_room(bytes)
    }

    /// Takes more bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), SpoolError> {
        let total = self.bytes.saturating_add(bytes.len() as u64);
        if total > self.limit {
            return Err(SpoolError::TooLarge { limit: self.limit });
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK {
                self.seal()?;
            }
        }
        self.bytes = total;
        Ok(())
    }

    /// No more bytes come.
    pub fn finish(mut self) -> Result<Spool, SpoolError> {
        if !self.buffer.is_empty() {
            self.seal()?;
        }
        Ok(Spool { file: self.file, key: self.key, bytes: self.bytes })
    }

    fn seal(&mut self) -> Result<(), SpoolError> {
        // The room left changes while others write too: looked at each MiB.
        if self.chunks % 16 == 15 {
            self.check_room(CHUNK as u64)?;
        }
        self.promise.keep(CHUNK as u64);
        self.key
            .seal_in_place_append_tag(nonce(self.chunks), Aad::empty(), &mut *self.buffer)
            .expect("a chunk is far shorter than AES-GCM can seal");
        self.file.write_all_at(&self.buffer, self.chunks * SEALED)?;
        self.buffer.clear();
        self.chunks += 1;
        Ok(())
    }

    fn check_room(&self, bytes: u64) -> Result<(), SpoolError> {
        let room = rustix::fs::fstatvfs(&self.file).map_err(io::Error::from)?;
        let others = PROMISED.load(Ordering::Relaxed).saturating_sub(self.promise.0);
        let free = room.f_bavail.saturating_mul(room.f_frsize).saturating_sub(others);
        if free < RESERVE.saturating_add(bytes) { Err(SpoolError::NoRoom { free }) } else { Ok(()) }
    }
}

impl io::Write for SpoolWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes).map_err(|error| match error {
            SpoolError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::StorageFull, other),
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spool {
    /// How many bytes it holds.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Decrypts one chunk into `buffer`.
    fn open(&self, chunk: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let plain = (self.bytes - chunk * CHUNK as u64).min(CHUNK as u64) as usize;
        buffer.resize(plain + MAX_TAG_LEN, 0);
        self.file.read_exact_at(buffer, chunk * SEALED)?;
        let opened = self.key.open_in_place(nonce(chunk), Aad::empty(), buffer).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "the spooled bytes were changed on the disk")
        })?;
        let length = opened.len();
        buffer.truncate(length);
        Ok(())
    }
}

fn nonce(chunk: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&chunk.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Reads a spool in any order. Keeps a few chunks decrypted.
pub struct SpoolReader {
    spool: Arc<Spool>,
    at: u64,
    /// The chunk used last comes first.
    cache: Vec<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpoolReader {{ {} of {} }}", self.at, self.spool.bytes)
    }
}

impl SpoolReader {
    /// From the first byte on.
    pub fn new(spool: Arc<Spool>) -> Self {
        Self { spool, at: 0, cache: Vec::with_capacity(CACHED) }
    }

    fn chunk(&mut self, number: u64) -> io::Result<&[u8]> {
        if let Some(found) = self.cache.iter().position(|(cached, _)| *cached == number) {
            self.cache[..=found].rotate_right(1);
        } else {
            // The place that was used longest ago is used again.
            let mut buffer = match self.cache.len() {
                CACHED => self.cache.pop().map(|(_, buffer)| buffer).unwrap_or_default(),
                _ => Vec::with_capacity(CHUNK + MAX_TAG_LEN),
            };
            if let Err(error) = self.spool.open(number, &mut buffer) {
                buffer.zeroize();
                return Err(error);
            }
            self.cache.insert(0, (number, buffer));
        }
        Ok(&self.cache[0].1)
    }
}

impl Read for SpoolReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.spool.bytes || into.is_empty() {
            return Ok(0);
        }
        let (number, offset) = (self.at / CHUNK as u64, (self.at % CHUNK as u64) as usize);
        let chunk = self.chunk(number)?;
        let taken = into.len().min(chunk.len() - offset);
        into[..taken].copy_from_slice(&chunk[offset..offset + taken]);
        self.at += taken as u64;
        Ok(taken)
    }
}

impl Seek for SpoolReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.spool.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the first byte"))?;
        Ok(self.at)
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        for (_, chunk) in &mut self.cache {
            chunk.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open_or_create(&folder.path().join("state")).unwrap();
        (folder, state)
    }

    fn spooled(state: &StateFolder, bytes: &[u8]) -> Spool {
        let mut writer = SpoolWriter::create(state, bytes.len() as u64).unwrap();
        for part in bytes.chunks(10_007) {
            writer.write(part).unwrap();
        }
        writer.finish().unwrap()
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    #[test]
    fn bytes_come_back_in_order_and_in_any_order() {
        let (_folder, state) = state();
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 13] {
            let bytes = pattern(length);
            let spool = Arc::new(spooled(&state, &bytes));
            assert_eq!(spool.len(), length as u64);
            let mut all = Vec::new();
            SpoolReader::new(Arc::clone(&spool)).read_to_end(&mut all).unwrap();
            assert!(all == bytes, "{length}");
            let mut reader = SpoolReader::new(spool);
            for at in (0..length).step_by(40_009).rev() {
                let mut here = vec![0; 100.min(length - at)];
                reader.seek(SeekFrom::Start(at as u64)).unwrap();
                reader.read_exact(&mut here).unwrap();
                assert!(here == bytes[at..at + here.len()], "{length} at {at}");
            }
        }
    }

    #[test]
    fn seeking_before_the_first_byte_is_an_error_and_behind_the_last_gives_none() {
        let (_folder, state) = state();
        let mut reader = SpoolReader::new(Arc::new(spooled(&state, b"abc")));
        assert!(reader.seek(SeekFrom::End(-4)).is_err());
        assert_eq!(reader.seek(SeekFrom::End(5)).unwrap(), 8);
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 2);
        assert_eq!(reader.read(&mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn nothing_is_left_in_the_folder_and_nothing_is_readable_in_the_file() {
        let (_folder, state) = state();
        let bytes = b"a face, a face, a face ".repeat(10_000);
        let spool = spooled(&state, &bytes);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "it has no name");
        let mut raw = vec![0; spool.file.metadata().unwrap().len() as usize];
        spool.file.read_exact_at(&mut raw, 0).unwrap();
        assert!(raw.len() > bytes.len());
        assert!(!raw.windows(6).any(|six| six == b"a face"));
    }

    #[test]
    fn changed_and_shortened_files_are_errors() {
        let (_folder, state) = state();
        let spool = spooled(&state, &pattern(3 * CHUNK));
        let mut byte = [0];
        spool.file.read_exact_at(&mut byte, SEALED + 5).unwrap();
        spool.file.write_all_at(&[byte[0] ^ 1], SEALED + 5).unwrap();
        spool.file.set_len(3 * SEALED - 1).unwrap();
        let mut reader = SpoolReader::new(Arc::new(spool));
        let mut part = vec![0; 16];
        reader.read_exact(&mut part).unwrap();
        reader.seek(SeekFrom::Start(CHUNK as u64)).unwrap();
        assert_eq!(reader.read_exact(&mut part).unwrap_err().kind(), io::ErrorKind::InvalidData);
        reader.seek(SeekFrom::Start(2 * CHUNK as u64)).unwrap();
        assert_eq!(reader.read_exact(&mut part).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn chunks_cannot_change_places() {
        let (_folder, state) = state();
        let spool = spooled(&state, &vec![7; 2 * CHUNK]);
        let mut first = vec![0; SEALED as usize];
        spool.file.read_exact_at(&mut first, 0).unwrap();
        spool.file.write_all_at(&first, SEALED).unwrap();
        let mut reader = SpoolReader::new(Arc::new(spool));
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn more_than_the_limit_is_refused_before_it_is_written() {
        let (_folder, state) = state();
        let mut writer = SpoolWriter::create(&state, 10).unwrap();
        assert!(matches!(writer.expect(11), Err(SpoolError::TooLarge { limit: 10 })));
        writer.write(&[1; 10]).unwrap();
        assert!(matches!(writer.write(&[1]), Err(SpoolError::TooLarge { limit: 10 })));
        assert_eq!(writer.finish().unwrap().len(), 10);
    }

    #[test]
    fn room_that_was_promised_to_one_is_not_there_for_another() {
        let (_folder, state) = state();
        let mut first = SpoolWriter::create(&state, u64::MAX).unwrap();
        let room = rustix::fs::fstatvfs(&first.file).unwrap();
        let most = room.f_bavail * room.f_frsize / 3 * 2;
        first.expect(most).unwrap();
        let mut second = SpoolWriter::create(&state, u64::MAX).unwrap();
        assert!(matches!(second.expect(most), Err(SpoolError::NoRoom { .. })));
        second.write(&[7; 3 * CHUNK]).unwrap();
        drop(first);
        second.expect(most).unwrap();
        second.write(&[7; CHUNK]).unwrap();
        assert_eq!(second.promise.0, most - CHUNK as u64);
    }

    #[test]
    fn more_than_the_disk_has_room_for_is_refused() {
        let (_folder, state) = state();
        let mut writer = SpoolWriter::create(&state, u64::MAX).unwrap();
        assert!(matches!(writer.expect(u64::MAX), Err(SpoolError::NoRoom { .. })));
    }
}
