//! Reading the layers, lowest first, into one configuration.

use std::ffi::OsString;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::declare::{Setting, all, find};
use super::error::{ConfigError, MAXIMUM_PROBLEMS, Origin, Problem, quoted};
use super::{Config, SECTIONS};

/// Read when no other file is named; it may be missing.
pub const DEFAULT_FILE: &str = "/etc/limen/limen.toml";

/// Largest configuration file taken. The full template is under 10 kB.
pub const MAXIMUM_FILE_BYTES: usize = 1 << 20;

/// Most drop-ins taken.
const MAXIMUM_DROP_INS: usize = 64;

/// Longest name compared with the known ones in search of the nearest.
const MAXIMUM_COMPARED: usize = 64;

/// Builds a configuration from layers of TOML text, lowest first, and checks it as a whole.
///
/// Each layer is its name, for messages, and its text. Takes anything without panicking, in time
/// bounded by [`MAXIMUM_FILE_BYTES`] a layer.
pub fn parse_layers(layers: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut building = Layers::new();
    for (name, text) in layers {
        building.apply_text(name, text);
    }
    building.build()
}

/// A configuration being put together: call the layers from the lowest to the highest, then
/// [`build`](Self::build).
#[derive(Debug, Default)]
pub struct Layers {
    config: Config,
    problems: Vec<Problem>,
    more: bool,
    /// The layer being added was made on the admin page.
    by_page: bool,
}

impl Layers {
    /// Built-in defaults only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a configuration file and its drop-ins: every `*.toml` in the folder of the same name with
    /// `.d` appended, by file name. Without a path [`DEFAULT_FILE`], which may be missing.
    #[must_use]
    pub fn file(mut self, path: Option<&Path>) -> Self {
        let main = path.unwrap_or(Path::new(DEFAULT_FILE));
        self.apply_file(main, path.is_none());
        let mut folder = main.as_os_str().to_owned();
        folder.push(".d");
        for drop_in in self.drop_ins(Path::new(&folder)) {
            self.apply_file(&drop_in, false);
        }
        self
    }

    /// Adds the variables that are named `LIMEN_SECTION__KEY`. A value is TOML, or else plain text.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.strip_prefix("LIMEN_").is_some_and(|rest| rest.contains("__")))
            .collect();
        ours.sort();
        for (name, value) in ours {
            let origin = Origin::Environment(name.clone());
            let Some(setting) = all().find(|setting| setting.variable() == name) else {
                if self.is_full() {
                    continue;
                }
                let (section, key) = name["LIMEN_".len()..].split_once("__").unwrap_or_default();
                let nearest = nearest_setting(section, key).map(Setting::variable);
                let key = quoted(&format!("{section}.{key}").to_lowercase());
                self.report(Problem::Unknown { key, nearest, origin });
                continue;
            };
            match value.into_string() {
                Ok(value) => self.apply_plain(setting, &value, origin),
                Err(_) => self.report(Problem::Value {
                    key: setting.path(),
                    found: "bytes that are not UTF-8".to_owned(),
                    allowed: setting.allowed(),
                    origin,
                }),
            }
        }
        self
    }

    /// Adds one value given on the command line: the flag for messages, `section.key`, the value as
    /// TOML or plain text.
    #[must_use]
    pub fn flag(mut self, flag: &str, path: &str, value: &str) -> Self {
        let origin = Origin::Flag(flag.to_owned());
        match path.split_once('.').and_then(|(section, key)| find(section, key)) {
            Some(setting) => self.apply_plain(setting, value, origin),
            None => self.unknown(path, origin),
        }
        self
    }

    /// Checks the whole, and returns it or everything that is wrong.
    pub fn build(mut self) -> Result<Config, ConfigError> {
        // Values that were refused leave defaults behind, of which nothing should be said.
        if self.problems.is_empty() {
            for problem in self.config.contradictions() {
                self.report(problem);
            }
        }
        if self.problems.is_empty() {
            Ok(self.config)
        } else {
            Err(ConfigError { problems: self.problems, more: self.more })
        }
    }

    pub(super) fn report(&mut self, problem: Problem) {
        if self.problems.len() < MAXIMUM_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.more = true;
        }
    }

    fn apply_file(&mut self, path: &Path, may_be_missing: bool) {
        match read_bounded(path) {
            Ok(text) => self.apply_text(&path.to_string_lossy(), &text),
            Err(Problem::Unreadable { source, .. })
                if may_be_missing && source.kind() == std::io::ErrorKind::NotFound => {}
            Err(problem) => self.report(problem),
        }
    }

    fn drop_ins(&mut self, folder: &Path) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .filter(|path| path.as_ref().is_ok_and(|p| p.extension().is_some_and(|e| e == "toml")))
                // One more than is allowed tells that there are too many.
                .take(MAXIMUM_DROP_INS + 1)
                .collect::<Result<Vec<_>, _>>()
        });
        match listed {
            Ok(mut paths) if paths.len() <= MAXIMUM_DROP_INS => {
                paths.sort();
                paths
            }
            Ok(_) => {
                self.report(Problem::Unusable {
                    name: quoted(&folder.to_string_lossy()),
                    reason: format!("it holds more than {MAXIMUM_DROP_INS} drop-ins"),
                });
                Vec::new()
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => {
                self.report(Problem::Unreadable { path: folder.to_owned(), source });
                Vec::new()
            }
        }
    }

    /// Where the state folder is, as far as is known by now.
    pub(super) fn state_folder(self) -> PathBuf {
        self.config.state.folder
    }

    /// Adds what was set on the admin page, which may not set everything.
    pub(super) fn apply_page(&mut self, name: &str, text: &str) {
        self.by_page = true;
        self.apply_text(name, text);
        self.by_page = false;
    }

    fn apply_text(&mut self, name: &str, text: &str) {
        self.config.read.push(name.to_owned());
        if text.len() > MAXIMUM_FILE_BYTES {
            return self.report(too_large(name, text.len()));
        }
        let at = |span: Option<Range<usize>>| Origin::File {
            name: name.to_owned(),
            line: line_of(text, span.map_or(0, |span| span.start)),
        };
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let message = quoted(error.message());
                return self.report(Problem::Syntax { message, origin: at(error.span()) });
            }
        };
        for (section, content) in document.get_ref() {
            let origin = at(Some(section.span()));
            let known = SECTIONS.iter().find(|known| known.name == section.get_ref());
            match (known, content.get_ref()) {
                (Some(_), DeValue::Table(settings)) => {
                    for (key, value) in settings {
                        let origin = at(Some(key.span()));
                        match find(section.get_ref(), key.get_ref()) {
                            Some(setting) => self.apply_value(setting, value.get_ref(), origin),
                            None => self.unknown(&format!("{}.{}", section.get_ref(), key.get_ref()), origin),
                        }
                        // Finding the line of each is a walk through the text.
                        if self.more {
                            return;
                        }
                    }
                }
                (Some(_), other) => self.report(Problem::Value {
                    key: quoted(section.get_ref()),
                    found: shown(other),
                    allowed: format!("a section, [{}],", quoted(section.get_ref())),
                    origin,
                }),
                (None, _) => self.unknown(section.get_ref(), origin),
            }
            if self.more {
                return;
            }
        }
    }

    /// Whether no further problem would be said; notes that there is one. Asked before looking for
    /// the nearest known name, which takes a comparison with every one of them.
    fn is_full(&mut self) -> bool {
        self.more |= self.problems.len() >= MAXIMUM_PROBLEMS;
        self.more
    }

    fn unknown(&mut self, name: &str, origin: Origin) {
        if self.is_full() {
            return;
        }
        let nearest = match name.split_once('.') {
            Some((section, key)) => nearest_setting(section, key).map(Setting::path),
            // A bare name is a section, or a key outside its section.
            None => nearest_section(name)
                .map(|section| format!("[{section}]"))
                .or_else(|| nearest_setting("", name).map(Setting::path)),
        };
        self.report(Problem::Unknown { key: quoted(name), nearest, origin });
    }

    /// A value that stands alone: TOML where it is TOML of the right kind, else plain text.
    fn apply_plain(&mut self, setting: &'static Setting, value: &str, origin: Origin) {
        if value.len() > MAXIMUM_FILE_BYTES {
            return self.report(too_large(&origin.to_string(), value.len()));
        }
        let plain = DeValue::String(value.into());
        match DeValue::parse(value) {
            Ok(toml) if !setting.text || toml.get_ref().is_str() => {
                self.apply_value(setting, toml.get_ref(), origin);
            }
            _ => self.apply_value(setting, &plain, origin),
        }
    }

    fn apply_value(&mut self, setting: &'static Setting, value: &DeValue<'_>, origin: Origin) {
        if self.by_page && !setting.is_for_the_page() {
            return self.report(Problem::NotByPage { key: setting.path(), origin });
        }
        match (setting.read)(&mut self.config, value) {
            Ok(()) => self.config.origins.set(setting, origin),
            Err(_) => self.report(Problem::Value {
                key: setting.path(),
                found: if setting.secret { "a value (not shown)".to_owned() } else { shown(value) },
                allowed: setting.allowed(),
                origin,
            }),
        }
    }
}

fn too_large(name: &str, bytes: usize) -> Problem {
    Problem::Unusable {
        name: quoted(name),
        reason: format!("it has {bytes} bytes and {MAXIMUM_FILE_BYTES} are allowed"),
    }
}

/// Reads a regular file of bounded size. A FIFO or a device would block or never end.
pub(super) fn read_bounded(path: &Path) -> Result<String, Problem> {
    let unreadable = |source| Problem::Unreadable { path: path.to_owned(), source };
    let name = || quoted(&path.to_string_lossy());
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Problem::Unusable { name: name(), reason: "it is not a regular file".to_owned() });
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAXIMUM_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAXIMUM_FILE_BYTES {
        let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX).max(bytes.len());
        return Err(too_large(&path.to_string_lossy(), size));
    }
    String::from_utf8(bytes).map_err(|error| Problem::Unusable {
        name: name(),
        reason: format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()),
    })
}

/// The line, counted from 1, that holds byte `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// Likeness of two names, 0 to 1, from which one is suggested for the other.
const SUGGESTED_FROM: f64 = 0.5;

fn likeness(name: &str, known: &str) -> f64 {
    let name: String = name.chars().take(MAXIMUM_COMPARED).collect();
    strsim::normalized_damerau_levenshtein(&name.to_lowercase(), known)
}

fn nearest_section(name: &str) -> Option<&'static str> {
    SECTIONS
        .iter()
        .map(|known| (likeness(name, known.name), known.name))
        .filter(|(likeness, _)| *likeness >= SUGGESTED_FROM)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name)
}

/// The setting whose key resembles `key` most; between equals the section decides, since keys are
/// as often looked for in the wrong section as misspelt.
fn nearest_setting(section: &str, key: &str) -> Option<&'static Setting> {
    all()
        .map(|known| ((likeness(key, known.key), likeness(section, known.section)), known))
        .filter(|((key, _), _)| *key >= SUGGESTED_FROM)
        .max_by(|((key, section), _), ((other_key, other_section), _)| {
            (key + 0.5 * section).total_cmp(&(other_key + 0.5 * other_section))
        })
        .map(|(_, known)| known)
}

/// A value as it stood in the file, kept short.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", quoted(text)),
        DeValue::Integer(digits) => quoted(&digits.to_string()),
        DeValue::Float(digits) => quoted(digits.as_str()),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
