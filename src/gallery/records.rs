//! What the gallery keeps, as values: identifiers, names, samples, and the receipts of changes.
//! Pure data, used on any thread.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::clock::UnixMillis;
use crate::embedding::Embedding;
use crate::frame::RgbImage;
use crate::score::QualityScore;
use crate::vault::hex;

/// Identifies a subject: 128 random bits, shown as 32 hex digits.
///
/// Random and not counted up, so that an id written down elsewhere (an event, a message, a log
/// line) can never come to mean somebody else after an erasure or after restoring a backup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId([u8; 16]);

impl SubjectId {
    /// Takes the bytes as the database holds them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as the database holds them.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A short name for it in what outlives the subject: the beginning of its mark.
    pub fn alias(&self) -> String {
        format!("~{}", hex(&self.mark().0[..8]))
    }

    /// What is kept of it when the subject is erased.
    pub fn mark(&self) -> ErasureMark {
        let mut hash = Sha256::new();
        hash.update(b"limen/1/erased");
        hash.update(self.0);
        ErasureMark(hash.finalize().into())
    }
}

/// SHA-256 of the id of a subject: recognises an id, and gives none away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErasureMark(pub [u8; 32]);

impl fmt::Display for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not the id of a subject.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the id of a subject is 32 hexadecimal digits")]
pub struct IdError;

impl FromStr for SubjectId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdError);
        }
        u128::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| IdError)
    }
}

impl Serialize for SubjectId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SubjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Identifies a template on this device. Counted up and never given twice by one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateId(pub i64);

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies a sample on this device. Counted up and never given twice by one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleId(pub i64);

/// Identifies a group of subjects. Counted up and never given twice by one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub i64);

/// Why a name was refused. Never repeats the name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// Nothing is left after trimming.
    #[error("a name needs at least one visible character")]
    Empty,
    /// Longer than [`SubjectName::MAX_CHARS`].
    #[error("a name has at most {} characters, this one has {found}", SubjectName::MAX_CHARS)]
    TooLong {
        /// Characters of the refused name.
        found: usize,
    },
    /// A line break, a control character, or one that reverses the direction of the text around it.
    #[error("a name is one line of text without control characters")]
    Control,
}

/// The name of a subject: one line of 1 to 120 characters, trimmed, inner runs of white space made
/// one space. Personal data: wiped when dropped and not shown by `Debug`; there is no `Display`, so
/// that printing it is always a decision.
#[derive(Clone, PartialEq, Eq)]
pub struct SubjectName(String);

impl SubjectName {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 120;

    /// Tidies and checks a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        tidied(text).map(Self)
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes two names the same: their lower case. Composed and decomposed accents are told
    /// apart; that would need Unicode's normalisation tables.
    pub(crate) fn key(&self) -> String {
        self.0.to_lowercase()
    }

    /// The words by whose beginnings it is found, in lower case.
    pub(crate) fn words(&self) -> BTreeSet<String> {
        words(&self.0)
    }
}

/// Signs within names that part words. The step to version 3 of the schema does the same in SQL.
const SIGNS: &str = "-.,;:'’\"()/_&+";

/// The words of a text, in lower case.
pub(crate) fn words(text: &str) -> BTreeSet<String> {
    let lower = Zeroizing::new(text.to_lowercase());
    let parts = lower.split(|c: char| c.is_whitespace() || SIGNS.contains(c));
    parts.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// One line of 1 to 120 characters, trimmed, inner runs of white space made one space.
fn tidied(text: &str) -> Result<String, NameError> {
    const MAX_CHARS: usize = SubjectName::MAX_CHARS;
    // Bounded before any work: outside text may be of any length.
    if text.len() > 16 * MAX_CHARS {
        return Err(NameError::TooLong { found: text.chars().count() });
    }
    if text.trim().chars().any(is_unfit) {
        return Err(NameError::Control);
    }
    let mut name = Zeroizing::new(String::with_capacity(text.len()));
    for word in text.split_whitespace() {
        if !name.is_empty() {
            name.push(' ');
        }
        name.push_str(word);
    }
    match name.chars().count() {
        0 => Err(NameError::Empty),
        found if found > MAX_CHARS => Err(NameError::TooLong { found }),
        _ => Ok(std::mem::take(&mut *name)),
    }
}

/// The name of a group, under the same rules as a subject's.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupName(String);

impl GroupName {
    /// Tidies and checks a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        tidied(text).map(Self)
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupName(..)")
    }
}

fn is_unfit(c: char) -> bool {
    // U+2028/2029 break lines; U+202A..202E and U+2066..2069 turn the text around them, so that a
    // name could disguise what is printed beside it; U+FEFF and U+200B are invisible.
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{200b}')
}

impl fmt::Debug for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectName(..)")
    }
}

impl Drop for SubjectName {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Where a sample came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleOrigin {
    /// A picture file given by the operator.
    File,
    /// A frame of this device's camera.
    Camera,
}

impl SampleOrigin {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Camera => "camera",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "file" => Some(Self::File),
            "camera" => Some(Self::Camera),
            _ => None,
        }
    }
}

/// How usable a sample was, as measured when it was enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleQuality {
    /// The verdict of the quality stage.
    pub score: QualityScore,
    /// Distance between the centres of the eyes, in source-image pixels.
    pub eye_distance_px: f32,
    /// Sharpness, in the unit of the quality stage.
    pub sharpness: f32,
    /// Turn of the head to the side, degrees.
    pub yaw_deg: f32,
    /// Nod of the head, degrees.
    pub pitch_deg: f32,
    /// Tilt of the head in the image plane, degrees.
    pub roll_deg: f32,
}

impl SampleQuality {
    /// Of a sample that nobody measured: a face that looks straight ahead. For benchmarks and tests.
    pub const fn unmeasured(score: QualityScore) -> Self {
        Self { score, eye_distance_px: 60.0, sharpness: 0.5, yaw_deg: 0.0, pitch_deg: 0.0, roll_deg: 0.0 }
    }
}

/// The picture of a sample as it is kept: a square around the face, encoded here.
#[derive(Clone, PartialEq, Eq)]
pub struct SamplePicture(Arc<[u8]>);

impl SamplePicture {
    /// Largest picture, in bytes.
    pub const MAX_BYTES: usize = 256 << 10;

    /// Encodes a crop as JPEG, a little worse until it fits; `None` where no quality fits.
    pub fn encode(crop: &RgbImage) -> Option<Self> {
        [90, 75, 50, 25]
            .into_iter()
            .filter_map(|quality| crop.to_jpeg(quality))
            .find(|jpeg| (1..=Self::MAX_BYTES).contains(&jpeg.len()))
            .map(|jpeg| Self(jpeg.into()))
    }

    /// Takes a JPEG that was encoded here before; `None` where it is too large.
    pub(crate) fn of_jpeg(jpeg: Vec<u8>) -> Option<Self> {
        (1..=Self::MAX_BYTES).contains(&jpeg.len()).then(|| Self(jpeg.into()))
    }

    /// The JPEG.
    pub fn jpeg(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SamplePicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SamplePicture {{ {} bytes }}", self.0.len())
    }
}

/// One sample to enrol, with the embedding made from it.
#[derive(Clone, Debug)]
pub struct NewSample {
    /// Where it came from.
    pub origin: SampleOrigin,
    /// How usable it was.
    pub quality: SampleQuality,
    /// Becomes the template.
    pub embedding: Embedding,
    /// Kept with it, where pictures are kept.
    pub picture: Option<SamplePicture>,
}

/// Whom an enrolment is for.
#[derive(Clone, Debug)]
pub enum EnrolmentTarget {
    /// Makes a new subject of this name.
    New(SubjectName),
    /// Adds to a subject that is known already.
    Existing(SubjectId),
}

/// An enrolment: carried out wholly or not at all.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// Whom it is for.
    pub subject: EnrolmentTarget,
    /// At least one sample.
    pub samples: Vec<NewSample>,
}

/// What an enrolment left in the gallery. It is on the disk when this is returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnrolmentReceipt {
    /// The subject, new or known.
    pub subject: SubjectId,
    /// Whether the subject was made by this enrolment.
    pub created: bool,
    /// The templates, in the order of the samples.
    pub templates: Vec<TemplateId>,
    /// When.
    pub enrolled_at: UnixMillis,
}

/// What a removal took out of the gallery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemovalReceipt {
    /// Subjects removed.
    pub subjects: u64,
    /// Samples removed.
    pub samples: u64,
    /// Templates removed, of every embedding space.
    pub templates: u64,
    /// Pictures removed.
    pub pictures: u64,
    /// Whether the write-ahead log was emptied too. If not, another connection was reading; the
    /// (encrypted) pages leave the log at the next removal, or when the database is closed.
    pub log_emptied: bool,
    /// Picture files that could not be taken away. Their key is erased with the subject, and they go at the
    /// next start.
    pub files_left: u64,
}

/// A subject as the operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrolledSubject {
    /// Its identifier.
    pub id: SubjectId,
    /// Its name.
    pub name: SubjectName,
    /// What the operator noted.
    pub notes: Option<String>,
    /// When the subject was first enrolled.
    pub created_at: UnixMillis,
    /// When anything about the subject last changed.
    pub updated_at: UnixMillis,
    /// When the subject stops being recognised.
    pub expires_at: Option<UnixMillis>,
    /// Whether it has a sensor of its own in home automation.
    pub announced: bool,
    /// When it was last recognised, to some hours, or enrolled.
    pub last_seen_at: UnixMillis,
    /// For how many days it is kept without being seen; none: as is usual.
    pub keep_unseen_days: Option<u32>,
    /// Templates of every embedding space.
    pub templates: u64,
    /// Samples.
    pub samples: u64,
    /// The oldest sample with a picture.
    pub picture: Option<SampleId>,
    /// The groups it is in, in the order of their names.
    pub groups: Vec<(GroupId, GroupName)>,
}

/// Which subjects are listed. All conditions hold together.
#[derive(Clone, Debug, Default)]
pub struct SubjectQuery {
    /// Behind the one with this [`SubjectPage::next`].
    pub after: Option<String>,
    /// Beginnings of words of the name, in any order.
    pub search: Option<String>,
    /// Members of this group.
    pub group: Option<GroupId>,
    /// At most this many.
    pub limit: usize,
}

/// A part of a list of subjects, in the order of their names.
#[derive(Clone, Debug)]
pub struct SubjectPage {
    /// The subjects.
    pub subjects: Vec<EnrolledSubject>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
    /// How many there are of this search or group altogether; `None` without either.
    pub total: Option<u64>,
}

/// What to change about a subject. `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct SubjectEdit {
    /// Another name.
    pub name: Option<SubjectName>,
    /// A note; blank text removes it.
    pub notes: Option<String>,
    /// The groups it is in from now on.
    pub groups: Option<Vec<GroupId>>,
    /// When it stops being recognised, or that it never does.
    pub expires_at: Option<Option<UnixMillis>>,
    /// Whether it has a sensor of its own in home automation.
    pub announced: Option<bool>,
    /// For how many days it is kept without being seen, 0 for good; or as is usual.
    pub keep_unseen_days: Option<Option<u32>>,
}

/// A group of subjects.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its identifier.
    pub id: GroupId,
    /// Its name.
    pub name: GroupName,
    /// How many subjects are in it.
    pub members: u64,
}

/// A sample of a subject and the template made from it, without the embedding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SampleRecord {
    /// The sample.
    pub id: SampleId,
    /// The template.
    pub template: TemplateId,
    /// Name of the embedding space.
    pub space: String,
    /// Where the sample came from.
    pub origin: SampleOrigin,
    /// How usable it was.
    pub quality: SampleQuality,
    /// When the template was made.
    pub enrolled_at: UnixMillis,
    /// Whether its picture is kept.
    pub picture: bool,
}

/// How much the gallery holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Subjects, expired ones included.
    pub subjects: u64,
    /// Samples.
    pub samples: u64,
    /// Pictures of samples.
    pub pictures: u64,
    /// Templates of each embedding space: name, dimensions, how many.
    pub templates: Vec<(String, u32, u64)>,
    /// Size of the database file in bytes.
    pub database_bytes: u64,
    /// Version of the schema.
    pub schema_version: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tidied_and_compared_without_case() {
        let name = SubjectName::new("  Jürgen   von\u{a0} Stein ").unwrap();
        assert_eq!(name.as_str(), "Jürgen von Stein");
        assert_eq!(name.key(), SubjectName::new("JÜRGEN VON STEIN").unwrap().key());
    }

    #[test]
    fn unfit_names_are_refused_with_the_reason() {
        assert_eq!(SubjectName::new(" \t "), Err(NameError::Empty));
        assert_eq!(SubjectName::new(&"é".repeat(121)), Err(NameError::TooLong { found: 121 }));
        assert!(SubjectName::new(&"é".repeat(120)).is_ok());
        assert_eq!(SubjectName::new(&"x".repeat(1 << 20)), Err(NameError::TooLong { found: 1 << 20 }));
        for text in ["a\nb", "a\0b", "a\u{202e}b", "a\u{1b}[2Jb"] {
            assert_eq!(SubjectName::new(text), Err(NameError::Control), "{text:?}");
        }
    }

    #[test]
    fn debug_output_shows_no_name() {
        let target = EnrolmentTarget::New(SubjectName::new("Ada").unwrap());
        assert_eq!(format!("{target:?}"), "New(SubjectName(..))");
    }

    #[test]
    fn subject_ids_round_trip_as_text() {
        let id = SubjectId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "0", "+00102030405060708090a0b0c0d0eff", "000102030405060708090a0b0c0d0efg"] {
            assert_eq!(text.parse::<SubjectId>(), Err(IdError), "{text}");
        }
    }
}
