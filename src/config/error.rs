//! What can be wrong with a configuration, and where it stood.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Problems reported at once; a hostile file has no more say than this.
pub(super) const MAXIMUM_PROBLEMS: usize = 20;

/// Characters of foreign text repeated in a message.
const MAXIMUM_QUOTED: usize = 60;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A file, by the name it was opened with, and the line.
    File {
        /// Path or name of the layer.
        name: String,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{}, line {line}", quoted(name)),
            Self::Environment(variable) => write!(f, "environment variable {}", quoted(variable)),
            Self::Flag(flag) => write!(f, "command line, {}", quoted(flag)),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Error)]
pub enum Problem {
    /// A file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is no file, or there are too many, or it is too large.
    #[error("the configuration {name} is refused: {reason}")]
    Unusable {
        /// Path or name of the layer.
        name: String,
        /// What was found and what is allowed.
        reason: String,
    },
    /// Not TOML.
    #[error("not valid TOML: {message} ({origin})")]
    Syntax {
        /// What the TOML reader expected.
        message: String,
        /// Where.
        origin: Origin,
    },
    /// No such section or key.
    #[error("there is no setting {key} ({origin}){}", suggestion(nearest.as_deref()))]
    Unknown {
        /// As it was written, shortened.
        key: String,
        /// The known name that looks most like it.
        nearest: Option<String>,
        /// Where.
        origin: Origin,
    },
    /// Wrong type or out of range.
    #[error("{key}: found {found} where {allowed} is allowed ({origin})")]
    Value {
        /// `section.key`.
        key: String,
        /// As it was written, shortened; never the text of a secret.
        found: String,
        /// Range and unit.
        allowed: String,
        /// Where.
        origin: Origin,
    },
    /// The admin page may not change it.
    #[error(
        "{key} names files that are read or run: it is taken from a file of the device, the environment \
             or the command line, not from the admin page ({origin})"
    )]
    NotByPage {
        /// `section.key`.
        key: String,
        /// Where.
        origin: Origin,
    },
    /// Each value is possible, together they are not.
    #[error("{0}")]
    Contradiction(String),
}

impl Problem {
    /// `section.key` of the setting that it is about, or the first of several.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Unreadable { .. } | Self::Unusable { .. } | Self::Syntax { .. } => None,
            Self::Unknown { key, .. } | Self::Value { key, .. } | Self::NotByPage { key, .. } => Some(key),
            // Said as `section.key = value (origin) is …`.
            Self::Contradiction(text) => text.split([' ', ':']).next().filter(|word| {
                word.split_once('.').is_some_and(|(section, key)| super::find(section, key).is_some())
            }),
        }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem], more: false }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// Everything that is wrong with a configuration; at least one problem.
#[derive(Debug)]
pub struct ConfigError {
    pub(super) problems: Vec<Problem>,
    pub(super) more: bool,
}

impl ConfigError {
    /// The problems, in the order they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is refused")?;
        match &self.problems[..] {
            [only] => write!(f, ": {only}")?,
            several => {
                for problem in several {
                    write!(f, "\n  - {problem}")?;
                }
            }
        }
        if self.more {
            f.write_str("\n  - and more of the kind")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Foreign text for a message: shortened, and control characters made visible.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAXIMUM_QUOTED).flat_map(char::escape_debug).collect();
    // `escape_debug` also escapes quotes, which are harmless here and common in TOML.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(MAXIMUM_QUOTED).is_some() {
        shown.push('…');
    }
    shown
}
