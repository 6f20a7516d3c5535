//! Reading a zip of `NAME/picture.jpg` that somebody uploaded: hostile until proved otherwise. Pure but
//! for the reader it is given; used on the thread of an import.
//!
//! What is believed: nothing. The record at the end of the archive is checked before the directory is
//! read, the directory is bounded before memory is reserved for it, and an entry is read up to the limit
//! of a picture whatever size it claims. What all entries together inflate to is bounded too, since
//! pictures hardly shrink in a zip: an archive that grows more than [`MAX_GROWTH`] times is no collection
//! of pictures. A path in the archive is text to show and to take a name from; it is never a path.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use zip::{CompressionMethod, ZipArchive};

use crate::decode::MAX_STILL_BYTES;
use crate::gallery::{NameError, SubjectName};

/// Most entries of an archive.
pub const MAX_ENTRIES: usize = 20_000;
/// Most bytes of its directory: 400 for each of the most entries.
pub const MAX_DIRECTORY_BYTES: u64 = 8 << 20;
/// How many times its size an archive may inflate to.
pub const MAX_GROWTH: u64 = 4;
/// What an archive may inflate to however small it is.
const LEAST_INFLATED: u64 = 64 << 20;
/// Characters of a path that are shown.
const SHOWN_PATH: usize = 200;
/// The record at the end without its comment, and the most a comment can have.
const END_BYTES: usize = 22;
const MAX_COMMENT: usize = 0xffff;
/// Enough of a file to tell a picture.
const MAGIC_BYTES: usize = 16;

/// Why an archive cannot be read at all.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It has no end-of-central-directory record at its end.
    #[error("this is no zip archive, or it was cut off: its end record is missing")]
    NotAZip,
    /// More entries than are taken.
    #[error("the archive has {found} entries; at most {MAX_ENTRIES} are taken: split it")]
    TooManyEntries {
        /// What its end record says.
        found: usize,
    },
    /// A directory larger than is taken.
    #[error("the archive's directory has {found} bytes; at most {MAX_DIRECTORY_BYTES} are taken")]
    LargeDirectory {
        /// What its end record says.
        found: u64,
    },
    /// A kind of zip that is not read here.
    #[error("the archive {0}; make a plain zip of the pictures")]
    Unsupported(&'static str),
    /// It contradicts itself.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// It could not be read.
    #[error("reading the archive failed: {0}")]
    Io(#[from] io::Error),
}

/// Why an entry gives no picture.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EntryError {
    /// It lies in no folder.
    #[error("it lies in no folder; the folder's name is the subject's")]
    NoFolder,
    /// The name of its folder is no name.
    #[error("its folder does not name anybody: {0}")]
    Name(#[from] NameError),
    /// It climbs out of its folder.
    #[error("its path leads out of the archive")]
    Path,
    /// It is encrypted.
    #[error("it is encrypted; make the zip without a password")]
    Encrypted,
    /// It is compressed in another way than by deflate.
    #[error("it is packed by a method that is not read here; make a plain zip")]
    Method,
    /// No known picture format starts like this.
    #[error("this is not a JPEG, PNG or WebP picture")]
    NotAPicture,
    /// Larger than a picture may be.
    #[error("it has more than {MAX_STILL_BYTES} bytes")]
    TooLarge,
    /// What it unpacks to is not what was packed.
    #[error("it is damaged in the archive")]
    Damaged,
    /// All entries together have inflated to too much.
    #[error(
        "the archive inflates to more than {MAX_GROWTH} times its size, as no pictures do; the rest is not read"
    )]
    Bomb,
}

impl EntryError {
    /// A short constant name, for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoFolder => "no_folder",
            Self::Name(_) => "bad_name",
            Self::Path => "bad_path",
            Self::Encrypted => "encrypted",
            Self::Method => "packing_method",
            Self::NotAPicture => "not_a_picture",
            Self::TooLarge => "too_large",
            Self::Damaged => "damaged_entry",
            Self::Bomb => "archive_bomb",
        }
    }
}

/// One file of a subject.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the archive, for [`Archive::read`].
    pub index: usize,
    /// Its path as it is shown: personal data, since it holds a name.
    pub path: String,
}

/// The files of one subject, in the order of the archive.
#[derive(Clone, Debug)]
pub struct Group {
    /// Whom they show.
    pub name: SubjectName,
    /// At least one.
    pub entries: Vec<Entry>,
}

/// What an archive holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// By subject, in the order of their first entries.
    pub groups: Vec<Group>,
    /// Files that belong to nobody: paths as they are shown, and why.
    pub refused: Vec<(String, EntryError)>,
}

impl Contents {
    /// All files, refused ones included.
    pub fn files(&self) -> usize {
        self.refused.len() + self.groups.iter().map(|group| group.entries.len()).sum::<usize>()
    }
}

/// An archive whose directory has been read.
pub struct Archive<R> {
    zip: ZipArchive<Metered<R>>,
    /// Bytes that may still be inflated.
    budget: u64,
}

impl<R: Read + Seek> std::fmt::Debug for Archive<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive {{ {} entries }}", self.zip.len())
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Checks the end record and reads the directory.
    pub fn open(mut reader: R) -> Result<Self, ArchiveError> {
        let end = EndRecord::read(&mut reader)?;
        // Whatever the crate does to find the directory, it does it within these bytes.
        let allowed = 2 * (end.directory_bytes + (END_BYTES + MAX_COMMENT) as u64) + (256 << 10);
        let left = Arc::new(AtomicU64::new(allowed));
        let zip = ZipArchive::new(Metered { inner: reader, left: Arc::clone(&left) }).map_err(in_words)?;
        left.store(u64::MAX, Ordering::Relaxed);
        // Duplicate names are one entry to the crate, as to whoever unpacks the archive.
        if zip.central_directory_start() != end.directory_at || zip.len() > end.entries || zip.offset() != 0 {
            return Err(ArchiveError::Damaged("it has more than one directory".to_owned()));
        }
        // Many entries over the same bytes would be unpacked again and again, for hours.
        let packed = (0..zip.len()).try_fold(0_u64, |sum, index| {
            zip.by_index_data(index).map(|entry| sum.saturating_add(entry.compressed_size()))
        });
        if packed.map_err(in_words)? > end.archive_bytes {
            return Err(ArchiveError::Damaged("its entries overlap".to_owned()));
        }
        let budget = end.archive_bytes.saturating_mul(MAX_GROWTH).max(LEAST_INFLATED);
        Ok(Self { zip, budget })
    }

    /// Who and what is in it. Folders, and what systems leave beside files, are passed over silently.
    pub fn contents(&self) -> Result<Contents, ArchiveError> {
        let mut contents = Contents::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_data(index).map_err(in_words)?;
            // Some archivers write UTF-8 without saying so.
            let path = match std::str::from_utf8(entry.name_raw()) {
                Ok(path) => Cow::Borrowed(path),
                Err(_) => entry.name().map_err(in_words)?,
            };
            if entry.is_dir() || is_litter(&path) {
                continue;
            }
            let subject = if entry.encrypted() {
                Err(EntryError::Encrypted)
            } else if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated)
            {
                Err(EntryError::Method)
            } else {
                subject_of(&path)
            };
            match subject {
                Ok(name) => {
                    let at = *known.entry(name.key()).or_insert(contents.groups.len());
                    if at == contents.groups.len() {
                        contents.groups.push(Group { name, entries: Vec::new() });
                    }
                    contents.groups[at].entries.push(Entry { index, path: shown(&path) });
                }
                Err(why) => contents.refused.push((shown(&path), why)),
            }
        }
        Ok(contents)
    }

    /// The bytes of one entry, if they may be a picture. Costs at most a picture's memory and what is
    /// left of the whole archive's bound.
    pub fn read(&mut self, index: usize) -> Result<Vec<u8>, EntryError> {
        let most = self.budget.min(MAX_STILL_BYTES as u64);
        if most < MAGIC_BYTES as u64 {
            return Err(EntryError::Bomb);
        }
        let Ok(file) = self.zip.by_index(index) else { return Err(EntryError::Damaged) };
        let mut bytes = Vec::new();
        let mut file = file.take(MAGIC_BYTES as u64);
        if file.read_to_end(&mut bytes).is_err() {
            self.budget = self.budget.saturating_sub(bytes.len() as u64);
            return Err(EntryError::Damaged);
        }
        let is_picture = matches!(
            image::guess_format(&bytes),
            Ok(image::ImageFormat::Jpeg | image::ImageFormat::Png | image::ImageFormat::WebP)
        );
        if !is_picture {
            self.budget = self.budget.saturating_sub(bytes.len() as u64);
            return Err(EntryError::NotAPicture);
        }
        file.set_limit(most + 1 - bytes.len() as u64);
        let result = file.read_to_end(&mut bytes);
        self.budget = self.budget.saturating_sub(bytes.len() as u64);
        match result {
            Err(_) => Err(EntryError::Damaged),
            Ok(_) if bytes.len() > MAX_STILL_BYTES => Err(EntryError::TooLarge),
            Ok(_) if bytes.len() as u64 > most => Err(EntryError::Bomb),
            Ok(_) => Ok(bytes),
        }
    }
}

fn in_words(error: zip::result::ZipError) -> ArchiveError {
    match error {
        zip::result::ZipError::Io(error) => ArchiveError::Io(error),
        other => ArchiveError::Damaged(other.to_string()),
    }
}

/// Files that operating systems put beside others.
fn is_litter(path: &str) -> bool {
    let mut parts = path.split(['/', '\\']);
    parts.clone().any(|part| part == "__MACOSX")
        || parts.next_back().is_some_and(|file| {
            (file.starts_with('.') && file != "..") || matches!(file, "Thumbs.db" | "desktop.ini")
        })
}

/// Whom a file shows: the last folder of its path.
fn subject_of(path: &str) -> Result<SubjectName, EntryError> {
    let mut parts: Vec<_> = path.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(EntryError::Path);
    }
    parts.pop();
    let folder = parts.pop().ok_or(EntryError::NoFolder)?;
    Ok(SubjectName::new(folder)?)
}

/// A path as a report shows it: one line of bounded length, its end kept where it is too long.
fn shown(path: &str) -> String {
    let length = path.chars().count();
    let cut = length.saturating_sub(SHOWN_PATH);
    let kept = path.chars().skip(cut).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    if cut > 0 { std::iter::once('…').chain(kept).collect() } else { kept.collect() }
}

/// What the record at the end of the archive says (APPNOTE 4.3.16).
struct EndRecord {
    entries: usize,
    directory_at: u64,
    directory_bytes: u64,
    archive_bytes: u64,
}

impl EndRecord {
    fn read<R: Read + Seek>(reader: &mut R) -> Result<Self, ArchiveError> {
        let archive_bytes = reader.seek(SeekFrom::End(0))?;
        let tail_bytes = archive_bytes.min((END_BYTES + MAX_COMMENT) as u64);
        reader.seek(SeekFrom::Start(archive_bytes - tail_bytes))?;
        let mut tail = Vec::with_capacity(tail_bytes as usize);
        reader.take(tail_bytes).read_to_end(&mut tail)?;
        // The last one whose comment reaches exactly to the end.
        let at = (0..=tail.len().saturating_sub(END_BYTES)).rev().find(|at| {
            let record = &tail[*at..];
            record.starts_with(b"PK\x05\x06")
                && record.len() >= END_BYTES
                && END_BYTES + usize::from(u16_at(record, 20)) == record.len()
        });
        let at = at.ok_or(ArchiveError::NotAZip)?;
        let record = &tail[at..];
        let (disk, first_disk) = (u16_at(record, 4), u16_at(record, 6));
        let (here, entries) = (u16_at(record, 8), u16_at(record, 10));
        let (directory_bytes, directory_at) = (u32_at(record, 12), u32_at(record, 16));
        let locator = at.checked_sub(20).is_some_and(|locator| tail[locator..].starts_with(b"PK\x06\x07"));
        if locator || entries == u16::MAX || directory_bytes == u32::MAX || directory_at == u32::MAX {
            return Err(ArchiveError::Unsupported("is a zip64, for archives of more than 4 GiB"));
        }
        if disk != 0 || first_disk != 0 || here != entries {
            return Err(ArchiveError::Unsupported("is one part of several"));
        }
        let entries = usize::from(entries);
        if entries > MAX_ENTRIES {
            return Err(ArchiveError::TooManyEntries { found: entries });
        }
        let (directory_bytes, directory_at) = (u64::from(directory_bytes), u64::from(directory_at));
        if directory_bytes > MAX_DIRECTORY_BYTES {
            return Err(ArchiveError::LargeDirectory { found: directory_bytes });
        }
        let end_at = archive_bytes - tail_bytes + at as u64;
        if directory_at + directory_bytes != end_at {
            return Err(ArchiveError::Damaged("its directory is not where its end record says".to_owned()));
        }
        Ok(Self { entries, directory_at, directory_bytes, archive_bytes })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Ends with an error after so many bytes.
struct Metered<R> {
    inner: R,
    left: Arc<AtomicU64>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its directory is larger than it says"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let read = self.inner.read(&mut into[..most])?;
        if left != u64::MAX {
            self.left.store(left - read as u64, Ordering::Relaxed);
        }
        Ok(read)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0 the rest of a picture";

    fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, bytes) in files {
            writer.start_file(*path, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn open(bytes: Vec<u8>) -> Result<Archive<Cursor<Vec<u8>>>, ArchiveError> {
        Archive::open(Cursor::new(bytes))
    }

    fn end_of(bytes: &[u8]) -> usize {
        bytes.windows(4).rposition(|four| four == b"PK\x05\x06").unwrap()
    }

    #[test]
    fn files_are_grouped_by_their_last_folder_in_order() {
        let bytes = zip(&[
            ("Ada/2.jpg", JPEG),
            ("photos/Grace Hopper/a.jpg", JPEG),
            ("Ada/1.jpg", JPEG),
            ("other\\ADA\\3.jpg", JPEG),
        ]);
        let mut archive = open(bytes).unwrap();
        let contents = archive.contents().unwrap();
        let groups: Vec<_> = contents
            .groups
            .iter()
            .map(|group| {
                let paths: Vec<_> = group.entries.iter().map(|entry| entry.path.as_str()).collect();
                (group.name.as_str().to_owned(), paths.join(" "))
            })
            .collect();
        assert_eq!(groups[0], ("Ada".to_owned(), "Ada/2.jpg Ada/1.jpg other\\ADA\\3.jpg".to_owned()));
        assert_eq!(groups[1], ("Grace Hopper".to_owned(), "photos/Grace Hopper/a.jpg".to_owned()));
        assert_eq!((contents.groups.len(), contents.files()), (2, 4));
        assert_eq!(archive.read(contents.groups[0].entries[1].index).unwrap(), JPEG);
    }

    #[test]
    fn what_belongs_to_nobody_is_told_and_litter_is_not() {
        let bytes = zip(&[
            ("loose.jpg", JPEG),
            ("../../etc/x.jpg", JPEG),
            ("/etc/passwd", JPEG),
            ("\u{202e}evil/x.jpg", JPEG),
            ("__MACOSX/Ada/._1.jpg", JPEG),
            ("Ada/.DS_Store", JPEG),
            ("Ada/", b""),
        ]);
        let contents = open(bytes).unwrap().contents().unwrap();
        let codes: Vec<_> = contents.refused.iter().map(|(_, why)| why.code()).collect();
        assert_eq!(codes, ["no_folder", "bad_path", "bad_name"]);
        assert_eq!(contents.groups.len(), 1, "an absolute path is a folder's name like any other");
        assert_eq!(contents.groups[0].name.as_str(), "etc");
    }

    #[test]
    fn shown_path_is_one_bounded_line() {
        let long = format!("Ada/{}\n.jpg", "x".repeat(60_000));
        let contents = open(zip(&[(&long, JPEG)])).unwrap().contents().unwrap();
        let path = &contents.groups[0].entries[0].path;
        assert_eq!(path.chars().count(), SHOWN_PATH + 1);
        assert!(path.starts_with('…') && path.ends_with("\u{fffd}.jpg"));
    }

    #[test]
    fn names_in_utf8_are_read_whether_they_are_marked_or_not() {
        let mut bytes = zip(&[("Jürgen/1.jpg", JPEG)]);
        // The language flag of the local and the central header.
        let central = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        assert_eq!((bytes[7] & 8, bytes[central + 9] & 8), (8, 8));
        bytes[7] &= !8;
        bytes[central + 9] &= !8;
        let contents = open(bytes).unwrap().contents().unwrap();
        assert_eq!(contents.groups[0].name.as_str(), "Jürgen");
    }

    #[test]
    fn entries_over_the_same_bytes_are_refused() {
        // What cannot be packed any further, as pictures are.
        let noise: Vec<u8> = (0..3_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let picture = [JPEG, noise.as_slice()].concat();
        let honest = zip(&[("Ada/1.jpg", &picture), ("Ada/2.jpg", &picture)]);
        assert!(open(honest.clone()).is_ok());
        let u32_at = |at: usize| u32::from_le_bytes(honest[at..at + 4].try_into().unwrap());
        let end = honest.windows(4).position(|four| four == b"PK\x05\x06").unwrap();
        let directory = u32_at(end + 16) as usize;
        let entry = &honest[directory..directory + (end - directory) / 2];
        // The directory names the first file a hundred times, each time otherwise.
        let mut bytes = honest[..directory].to_vec();
        for number in 0..100 {
            let at = bytes.len();
            bytes.extend_from_slice(entry);
            let name = format!("{number:09}");
            bytes[at + 46..at + 55].copy_from_slice(name.as_bytes());
        }
        let size = (bytes.len() - directory) as u32;
        let mut record = honest[end..].to_vec();
        for at in [8, 10] {
            record[at..at + 2].copy_from_slice(&100_u16.to_le_bytes());
        }
        record[12..16].copy_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&record);
        let refused = open(bytes).unwrap_err();
        assert!(refused.to_string().contains("overlap"), "{refused}");
    }

    #[test]
    fn other_files_are_told_by_their_first_bytes() {
        let mut archive = open(zip(&[("Ada/notes.jpg", b"dear diary"), ("Ada/empty.jpg", b"")])).unwrap();
        assert_eq!(archive.read(0), Err(EntryError::NotAPicture));
        assert_eq!(archive.read(1), Err(EntryError::NotAPicture));
    }

    #[test]
    fn picture_above_the_limit_is_cut_there_and_one_that_lies_about_it_is_damaged() {
        // 40 MiB of zeros behind a picture's first bytes, in 40 KiB.
        let mut bomb = JPEG.to_vec();
        bomb.resize(40 << 20, 0);
        let mut bytes = zip(&[("Ada/1.jpg", &bomb)]);
        assert!(bytes.len() < 1 << 20);
        let mut honest = open(bytes.clone()).unwrap();
        assert_eq!(honest.read(0), Err(EntryError::TooLarge));
        assert!(honest.budget <= LEAST_INFLATED - (32 << 20), "what was inflated counts");
        // Both headers claim twenty bytes.
        let central = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        bytes[22..26].copy_from_slice(&20_u32.to_le_bytes());
        bytes[central + 24..central + 28].copy_from_slice(&20_u32.to_le_bytes());
        assert_eq!(open(bytes).unwrap().read(0), Err(EntryError::Damaged));
    }

    #[test]
    fn many_small_bombs_together_are_one() {
        let mut bomb = JPEG.to_vec();
        bomb.resize(30 << 20, 0);
        let mut archive =
            open(zip(&[("A/1", &bomb), ("A/2", &bomb), ("A/3", &bomb), ("A/4", &bomb)])).unwrap();
        assert!(archive.read(0).is_ok());
        assert!(archive.read(1).is_ok());
        assert_eq!(archive.read(2), Err(EntryError::Bomb));
        assert_eq!(archive.read(3), Err(EntryError::Bomb));
    }

    #[test]
    fn entry_with_a_wrong_checksum_is_damaged() {
        let mut bytes = zip(&[("Ada/1.jpg", JPEG)]);
        let central = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        bytes[central + 16] ^= 1;
        assert_eq!(open(bytes).unwrap().read(0), Err(EntryError::Damaged));
    }

    #[test]
    fn encrypted_and_oddly_packed_entries_are_refused_each() {
        let bytes = zip(&[("Ada/1.jpg", JPEG)]);
        let central = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        let mut encrypted = bytes.clone();
        encrypted[6] |= 1;
        encrypted[central + 8] |= 1;
        let mut packed = bytes;
        packed[8] = 12;
        packed[central + 10] = 12;
        for (bytes, why) in [(encrypted, EntryError::Encrypted), (packed, EntryError::Method)] {
            let contents = open(bytes).unwrap().contents().unwrap();
            assert_eq!(contents.refused[0].1, why);
        }
    }

    #[test]
    fn archives_cut_off_anywhere_are_refused() {
        let bytes = zip(&[("Ada/1.jpg", JPEG), ("Ada/2.jpg", JPEG)]);
        assert!(open(bytes.clone()).is_ok());
        for length in 0..bytes.len() {
            assert!(open(bytes[..length].to_vec()).is_err(), "{length}");
        }
    }

    #[test]
    fn more_entries_than_the_limit_are_refused_by_the_end_record() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for number in 0..=MAX_ENTRIES {
            writer.start_file(format!("a/{number}"), SimpleFileOptions::default()).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        assert!(
            matches!(open(bytes), Err(ArchiveError::TooManyEntries { found }) if found == MAX_ENTRIES + 1)
        );
    }

    #[test]
    fn end_record_that_lies_is_refused() {
        let bytes = zip(&[("Ada/1.jpg", JPEG), ("Ada/2.jpg", JPEG)]);
        let end = end_of(&bytes);
        let change = |at: usize, to: &[u8]| {
            let mut changed = bytes.clone();
            changed[end + at..end + at + to.len()].copy_from_slice(to);
            open(changed).unwrap_err()
        };
        assert!(matches!(change(4, &[1]), ArchiveError::Unsupported(_)), "part of several");
        assert!(matches!(change(8, &[0xff; 4]), ArchiveError::Unsupported(_)), "zip64");
        assert!(matches!(change(16, &[0xff; 4]), ArchiveError::Unsupported(_)), "zip64");
        assert!(matches!(change(12, &[0, 0, 0, 1]), ArchiveError::LargeDirectory { .. }));
        assert!(matches!(change(16, &[0; 4]), ArchiveError::Damaged(_)), "elsewhere");
        // Fewer than there are is an archive of fewer; more are not there.
        assert!(matches!(change(8, &[9, 0, 9, 0]), ArchiveError::Damaged(_) | ArchiveError::Io(_)));
    }

    #[test]
    fn directory_that_leads_astray_costs_no_more_than_it_may() {
        // The true end is broken, and a large one before it would be found by whoever searches on.
        let mut bytes = zip(&[("Ada/1.jpg", JPEG)]);
        let end = end_of(&bytes);
        bytes[end + 8..end + 12].copy_from_slice(&[2, 0, 2, 0]);
        let mut padded = vec![0_u8; 64 << 20];
        let shift = padded.len() as u32;
        let directory_at = u32_at(&bytes, end + 16) + shift;
        bytes[end + 16..end + 20].copy_from_slice(&directory_at.to_le_bytes());
        padded.extend_from_slice(&bytes);
        struct Counting(Cursor<Vec<u8>>, Arc<AtomicU64>);
        impl Read for Counting {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(into)?;
                self.1.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
        }
        impl Seek for Counting {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        let read = Arc::new(AtomicU64::new(0));
        assert!(Archive::open(Counting(Cursor::new(padded), Arc::clone(&read))).is_err());
        assert!(read.load(Ordering::Relaxed) < 1 << 20, "{read:?}");
    }
}
