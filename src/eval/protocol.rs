//! The lists that say what is compared with what: `verification.csv` and `identification.csv`.
//!
//! Both are outside input: bounded, checked as a whole, and no path in them leaves the folder.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Name of the list of pairs.
pub const VERIFICATION: &str = "verification.csv";
/// Name of the list of gallery images and probes.
pub const IDENTIFICATION: &str = "identification.csv";

const MAX_LIST_BYTES: u64 = 16 << 20;
const MAX_ROWS: usize = 200_000;

/// Why the lists cannot be used.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// A list could not be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's own words.
        reason: String,
    },
    /// A line is not what it should be.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The lines are right, the list as a whole is not.
    #[error("{path}: {reason}")]
    Whole {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Position of an image in [`Protocol::images`].
pub type ImageIndex = usize;

/// Two images and whether they show one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedPair {
    /// One image.
    pub left: ImageIndex,
    /// The other.
    pub right: ImageIndex,
    /// One person or two.
    pub same: bool,
    /// The part of the list that it belongs to.
    pub fold: u8,
}

/// An image of a subject who is in the gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectImage {
    /// Position of the subject in [`Protocol::subjects`].
    pub subject: usize,
    /// Which image.
    pub image: ImageIndex,
}

/// Both lists, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Every image named, once, relative to the folder; sorted.
    pub images: Vec<PathBuf>,
    /// Who each image shows, as a number: images of one folder show one person.
    pub people: Vec<usize>,
    /// Pairs to verify.
    pub pairs: Vec<ListedPair>,
    /// Subjects of the gallery: how many there are is the N of every 1:N rate.
    pub subjects: usize,
    /// What is enrolled.
    pub gallery: Vec<SubjectImage>,
    /// Probes of people in the gallery.
    pub mated: Vec<SubjectImage>,
    /// Probes of people who are not.
    pub non_mated: Vec<ImageIndex>,
}

impl Protocol {
    /// Reads and checks both lists of `folder`.
    pub fn read(folder: &Path) -> Result<Self, ProtocolError> {
        let verification = read_bounded(&folder.join(VERIFICATION))?;
        let identification = read_bounded(&folder.join(IDENTIFICATION))?;
        Self::parse(&verification, &identification)
    }

    /// Checks the texts of both lists.
    pub fn parse(verification: &str, identification: &str) -> Result<Self, ProtocolError> {
        let pairs = rows(VERIFICATION, verification, ["left", "right", "same", "fold"], |fields| {
            let [left, right, same, fold] = fields;
            let same = match same {
                "1" => true,
                "0" => false,
                _ => return Err(format!("same is {}, it must be 0 or 1", quoted(same))),
            };
            let fold: u8 = fold.parse().map_err(|_| format!("fold {} is no number", quoted(fold)))?;
            Ok((inside(left)?, inside(right)?, same, fold))
        })?;
        let roles = rows(IDENTIFICATION, identification, ["role", "subject", "image"], |fields| {
            let [role, subject, image] = fields;
            let role = match role {
                "gallery" => Role::Gallery,
                "mated_probe" => Role::Mated,
                "non_mated_probe" => Role::NonMated,
                _ => return Err(format!("role {} is not known", quoted(role))),
            };
            Ok((role, subject.to_owned(), inside(image)?))
        })?;
        let listed = pairs.iter().flat_map(|(left, right, ..)| [left, right]);
        let mut images: Vec<_> = listed.chain(roles.iter().map(|(.., image)| image)).cloned().collect();
        images.sort_unstable();
        images.dedup();
        let index: HashMap<&Path, usize> =
            images.iter().enumerate().map(|(at, path)| (path.as_path(), at)).collect();
        let mut protocol = Self { people: people_of(&images), ..Self::default() };
        protocol.pairs = pairs
            .iter()
            .map(|(left, right, same, fold)| ListedPair {
                left: index[left.as_path()],
                right: index[right.as_path()],
                same: *same,
                fold: *fold,
            })
            .collect();
        protocol.take_roles(&roles, &index)?;
        protocol.images = images;
        protocol.check()?;
        Ok(protocol)
    }

    fn take_roles(
        &mut self,
        roles: &[(Role, String, PathBuf)],
        index: &HashMap<&Path, usize>,
    ) -> Result<(), ProtocolError> {
        let mut subjects: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, subject, _) in roles.iter().filter(|(role, ..)| *role == Role::Gallery) {
            let next = subjects.len();
            subjects.entry(subject).or_insert(next);
        }
        self.subjects = subjects.len();
        for (number, (role, subject, image)) in roles.iter().enumerate() {
            let image = index[image.as_path()];
            // The heading is line 1.
            let wrong = |reason: &str| ProtocolError::Line {
                path: IDENTIFICATION.into(),
                line: number + 2,
                reason: reason.into(),
            };
            match (role, subjects.get(subject.as_str())) {
                (Role::Gallery, Some(&subject)) => self.gallery.push(SubjectImage { subject, image }),
                (Role::Mated, Some(&subject)) => self.mated.push(SubjectImage { subject, image }),
                (Role::NonMated, None) => self.non_mated.push(image),
                (Role::NonMated, Some(_)) => {
                    return Err(wrong("a non-mated probe's subject is in the gallery"));
                }
                (_, None) => return Err(wrong("a mated probe's subject is not in the gallery")),
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ProtocolError> {
        let verification =
            |reason: &str| Err(ProtocolError::Whole { path: VERIFICATION.into(), reason: reason.to_owned() });
        let folds = self.folds();
        if folds.len() < 2 {
            return verification("at least two folds are needed: one to set the threshold, one to test it");
        }
        if !self.pairs.iter().any(|pair| pair.same) || self.pairs.iter().all(|pair| pair.same) {
            return verification("both kinds of pairs are needed");
        }
        if self.pairs.iter().any(|pair| pair.same != (self.people[pair.left] == self.people[pair.right])) {
            return verification("same contradicts the folders: images of one person lie in one folder");
        }
        if self.mated.is_empty() || self.non_mated.is_empty() {
            let reason = "both mated and non-mated probes are needed".into();
            return Err(ProtocolError::Whole { path: IDENTIFICATION.into(), reason });
        }
        Ok(())
    }

    /// The folds there are, ascending.
    pub fn folds(&self) -> Vec<u8> {
        let mut folds: Vec<_> = self.pairs.iter().map(|pair| pair.fold).collect();
        folds.sort_unstable();
        folds.dedup();
        folds
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Gallery,
    Mated,
    NonMated,
}

fn people_of(images: &[PathBuf]) -> Vec<usize> {
    let mut known = HashMap::new();
    images
        .iter()
        .map(|image| {
            let next = known.len();
            *known.entry(image.parent()).or_insert(next)
        })
        .collect()
}

fn read_bounded(path: &Path) -> Result<String, ProtocolError> {
    let unreadable = |reason: String| ProtocolError::Unreadable { path: path.into(), reason };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(unreadable(format!("it has more than {MAX_LIST_BYTES} bytes")));
    }
    Ok(text)
}

/// The lists are plain: no quoting, no empty lines, the heading as given.
fn rows<T, const N: usize>(
    list: &str,
    text: &str,
    heading: [&str; N],
    row: impl Fn([&str; N]) -> Result<T, String>,
) -> Result<Vec<T>, ProtocolError> {
    let wrong = |line: usize, reason: String| ProtocolError::Line { path: list.into(), line, reason };
    let mut lines = text.lines();
    if lines.next() != Some(&heading.join(",")) {
        return Err(wrong(1, format!("the heading must be {}", heading.join(","))));
    }
    let mut found = Vec::new();
    for (number, line) in lines.enumerate() {
        let number = number + 2;
        if found.len() == MAX_ROWS {
            return Err(wrong(number, format!("at most {MAX_ROWS} rows are accepted")));
        }
        let fields: Vec<_> = line.splitn(N + 1, ',').collect();
        let count = fields.len();
        let fields = <[&str; N]>::try_from(fields).map_err(|_| {
            wrong(
                number,
                format!("{N} fields are expected, {} found", if count > N { "more" } else { "fewer" }),
            )
        })?;
        found.push(row(fields).map_err(|reason| wrong(number, reason))?);
    }
    if found.is_empty() {
        return Err(wrong(1, "no row follows the heading".into()));
    }
    Ok(found)
}

/// A path that stays inside the folder it is joined to.
fn inside(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if text.is_empty() || text.len() > 1024 || text.contains(['"', '\0']) || !plain {
        return Err(format!("{} is no plain path inside the data folder", quoted(text)));
    }
    Ok(path)
}

/// Text of unknown origin for a message: short and on one line.
fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: &str = "left,right,same,fold\r\na/1.jpg,a/2.jpg,1,0\r\na/1.jpg,b/1.jpg,0,1\r\n";
    const ROLES: &str =
        "role,subject,image\ngallery,A,a/1.jpg\nmated_probe,A,a/2.jpg\nnon_mated_probe,B,b/1.jpg\n";

    fn refusal(verification: &str, identification: &str) -> String {
        Protocol::parse(verification, identification).unwrap_err().to_string()
    }

    #[test]
    fn lists_with_either_line_ending_are_read() {
        let protocol = Protocol::parse(PAIRS, ROLES).unwrap();
        assert_eq!(protocol.images, ["a/1.jpg", "a/2.jpg", "b/1.jpg"].map(PathBuf::from));
        assert_eq!(protocol.people, [0, 0, 1]);
        assert_eq!(protocol.pairs[1], ListedPair { left: 0, right: 2, same: false, fold: 1 });
        assert_eq!(protocol.subjects, 1);
        assert_eq!(protocol.mated, [SubjectImage { subject: 0, image: 1 }]);
        assert_eq!(protocol.non_mated, [2]);
    }

    #[test]
    fn paths_out_of_the_folder_are_refused_with_their_line() {
        for path in ["/etc/shadow", "../x.jpg", "a/../../x.jpg", "./x.jpg", "", "a\0b"] {
            let text = format!("left,right,same,fold\n{path},b/1.jpg,0,0\n");
            let reason = refusal(&text, ROLES);
            assert!(reason.starts_with("verification.csv, line 2:"), "{reason}");
        }
    }

    #[test]
    fn malformed_rows_are_refused() {
        for row in ["a/1.jpg,a/2.jpg,1", "a/1.jpg,a/2.jpg,yes,0", "a/1.jpg,a/2.jpg,1,300", "a,b,1,0,5", ""] {
            let text = format!("left,right,same,fold\n{row}\n");
            assert!(refusal(&text, ROLES).starts_with("verification.csv, line 2:"), "{row}");
        }
        assert!(refusal("left,right\n", ROLES).contains("heading"));
        assert!(refusal(PAIRS, "role,subject,image\nfriend,A,a/1.jpg\n").contains("friend"));
    }

    #[test]
    fn lists_that_contradict_themselves_are_refused() {
        let swapped = PAIRS.replace("a/2.jpg,1,0", "a/2.jpg,0,0").replace("b/1.jpg,0,1", "b/1.jpg,1,1");
        assert!(refusal(&swapped, ROLES).contains("contradicts the folders"));
        assert!(refusal(&PAIRS.replace("0,1", "0,0"), ROLES).contains("two folds"));
        let enrolled = ROLES.replace("non_mated_probe,B", "non_mated_probe,A");
        assert!(refusal(PAIRS, &enrolled).starts_with("identification.csv, line 4:"));
        let stranger = ROLES.replace("mated_probe,A,a/2.jpg", "mated_probe,C,a/2.jpg");
        assert!(refusal(PAIRS, &stranger).starts_with("identification.csv, line 3:"));
    }
}
