//! What was set on the admin page: a layer of its own between the files of the device and its
//! environment, kept as `settings.toml` in the state folder. And the recipe by which all layers are put
//! together, again whenever that layer changes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Config;
use super::declare::{Effect, Setting, find};
use super::error::{ConfigError, Origin, Problem, quoted};
use super::layers::{Layers, line_of, read_bounded};

/// Name in the state folder.
pub const PAGE_FILE: &str = "settings.toml";

const HEADER: &str = "\
# What was set on the admin page. It wins over the configuration files of the device; the environment and
# the command line win over it. Written by the program: comments in it do not last.
";

/// Where settings come from, apart from the values: what it takes to read them all again.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    /// Flag, path, value.
    flags: Vec<(String, String, String)>,
    page: Option<PathBuf>,
}

impl Sources {
    /// The file, or the default one when none is named, and its drop-ins.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }

    /// Adds those of the variables that are ours.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let ours = |name: &OsString| name.to_string_lossy().starts_with("LIMEN_");
        self.environment.extend(variables.into_iter().filter(|(name, _)| ours(name)));
        self
    }

    /// Adds one value given on the command line: the flag for messages, `section.key`, the value.
    #[must_use]
    pub fn flag(mut self, flag: &str, path: &str, value: &str) -> Self {
        self.flags.push((flag.to_owned(), path.to_owned(), value.to_owned()));
        self
    }

    /// Takes what was set on the admin page from this file, instead of the one in the state folder.
    #[must_use]
    pub fn page_file(mut self, path: PathBuf) -> Self {
        self.page = Some(path);
        self
    }

    /// Where the settings of the admin page are.
    pub fn page_path(&self) -> PathBuf {
        // The folder is a setting itself, which the page cannot change. Whatever is wrong with the layers
        // is said when they are read in earnest.
        self.page.clone().unwrap_or_else(|| {
            let folder = self.upper(Layers::new().file(self.file.as_deref())).state_folder();
            folder.join(PAGE_FILE)
        })
    }

    /// Reads every layer and checks the whole.
    pub fn build(&self) -> Result<Config, ConfigError> {
        let path = self.page_path();
        let mut layers = Layers::new().file(self.file.as_deref());
        match read_bounded(&path) {
            Ok(text) => layers.apply_page(&path.to_string_lossy(), &text),
            Err(Problem::Unreadable { source, .. }) if is_absent(&source) => {}
            Err(problem) => layers.report(problem),
        }
        self.upper(layers).build()
    }

    /// The same with other settings of the admin page than those on the disk.
    pub fn build_with(&self, page: &PageSettings) -> Result<Config, ConfigError> {
        let mut layers = Layers::new().file(self.file.as_deref());
        layers.apply_page(&self.page_path().to_string_lossy(), &page.text());
        self.upper(layers).build()
    }

    fn upper(&self, layers: Layers) -> Layers {
        let layers = layers.environment(self.environment.iter().cloned());
        self.flags.iter().fold(layers, |layers, (flag, path, value)| layers.flag(flag, path, value))
    }
}

/// There is none; or the state folder is closed to this account, to which a command that needs it is
/// refused anyway.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// What was set on the admin page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageSettings(toml::Table);

impl PageSettings {
    /// Reads what is there; nothing where there is no file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(Problem::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(problem) => return Err(problem.into()),
        };
        let name = path.to_string_lossy().into_owned();
        text.parse().map(Self).map_err(|error: toml::de::Error| {
            let message = quoted(error.message());
            let line = line_of(&text, error.span().map_or(0, |span| span.start));
            Problem::Syntax { message, origin: Origin::File { name, line } }.into()
        })
    }

    /// Sets one setting, or takes back what was set when there is no value. Whether the value is allowed
    /// turns out when all layers are read together.
    pub fn set(&mut self, path: &str, value: Option<&serde_json::Value>) -> Result<(), Problem> {
        let unknown = || Problem::Unknown {
            key: quoted(path),
            nearest: None,
            origin: Origin::File { name: "admin page".to_owned(), line: 1 },
        };
        let setting =
            path.split_once('.').and_then(|(section, key)| find(section, key)).ok_or_else(unknown)?;
        let Some(value) = value else {
            if let Some(toml::Value::Table(section)) = self.0.get_mut(setting.section) {
                section.remove(setting.key);
            }
            return Ok(());
        };
        let value = toml_of(value, 0).ok_or_else(|| Problem::Value {
            key: setting.path(),
            found: "a value of no kind that settings have".to_owned(),
            allowed: setting.allowed(),
            origin: Origin::File { name: "admin page".to_owned(), line: 1 },
        })?;
        let section = self
            .0
            .entry(setting.section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(unknown)?;
        section.insert(setting.key.to_owned(), value);
        Ok(())
    }

    /// As the file has it.
    pub fn text(&self) -> String {
        // A section that has become empty says nothing.
        let kept = self.0.iter().filter(|(_, value)| value.as_table().is_none_or(|table| !table.is_empty()));
        let table: toml::Table = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        format!("{HEADER}\n{table}")
    }
}

/// A JSON value as TOML; `None` for what no setting takes.
fn toml_of(value: &serde_json::Value, depth: u8) -> Option<toml::Value> {
    use serde_json::Value as Json;
    match value {
        Json::Bool(value) => Some((*value).into()),
        Json::Number(number) => {
            number.as_i64().map(toml::Value::from).or_else(|| number.as_f64().map(toml::Value::from))
        }
        Json::String(text) => Some(text.as_str().into()),
        // A list of rectangles is the deepest there is.
        Json::Array(values) if depth < 2 => {
            values.iter().map(|value| toml_of(value, depth + 1)).collect::<Option<Vec<_>>>().map(Into::into)
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

impl Setting {
    /// Whether the admin page may change it.
    pub fn is_for_the_page(&self) -> bool {
        self.effect != Effect::File
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sources(folder: &Path, file: &str) -> Sources {
        let path = folder.join("limen.toml");
        std::fs::write(&path, format!("[state]\nfolder = {:?}\n{file}", folder.to_str().unwrap())).unwrap();
        Sources::new(Some(path))
    }

    fn said(result: Result<Config, ConfigError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn page_wins_over_files_and_loses_to_environment_and_flags() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path(), "[camera]\nrate_hz = 10\nwidth = 320\nheight = 240\n");
        let text = "[camera]\nrate_hz = 11\nwidth = 640\n[events]\nkeep_days = 3\n";
        std::fs::write(folder.path().join(PAGE_FILE), text).unwrap();
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let sources = sources
            .environment([variable("LIMEN_CAMERA__RATE_HZ", "12"), variable("OTHER", "1")])
            .flag("--width", "camera.width", "800");
        let config = sources.build().unwrap();
        assert_eq!((config.camera.rate_hz, config.camera.width, config.camera.height), (12.0, 800, 240));
        assert_eq!(config.events.keep_days, 3);
        let origin = config.origin(find("events", "keep_days").unwrap()).to_string();
        assert!(origin.ends_with("settings.toml, line 5"), "{origin}");
    }

    #[test]
    fn what_is_wrong_in_the_file_of_the_page_is_said_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path(), "");
        for (text, found) in [
            ("[camera]\nrate_hz = 900\n", "settings.toml, line 2"),
            ("camera\n", "not valid TOML"),
            ("[state]\nfolder = \"/\"\n", "state.folder"),
            ("[litert]\nlibrary = \"/x.so\"\n", "not from the admin page"),
        ] {
            std::fs::write(folder.path().join(PAGE_FILE), text).unwrap();
            let said = said(sources.build());
            assert!(said.contains(found), "{text}: {said}");
        }
    }

    #[test]
    fn changes_are_kept_as_toml_and_taken_back() {
        let mut page = PageSettings::default();
        page.set("camera.rate_hz", Some(&json!(12))).unwrap();
        page.set("camera.masks", Some(&json!([[0, 0, 0.5, 0.5]]))).unwrap();
        page.set("mqtt.host", Some(&json!("broker \"x\"\n"))).unwrap();
        page.set("detection.minimum_score", Some(&json!(""))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(PAGE_FILE);
        std::fs::write(&path, page.text()).unwrap();
        assert_eq!(PageSettings::load(&path).unwrap(), page);
        for path in ["camera.rate_hz", "camera.masks", "mqtt.host", "detection.minimum_score"] {
            page.set(path, None).unwrap();
        }
        assert_eq!(page.text().trim(), HEADER.trim());
        for (path, value) in [
            ("camera.speed", json!(1)),
            ("camera", json!(1)),
            ("camera.masks", json!([[[0]]])),
            ("camera.region", json!({ "x": 0 })),
        ] {
            assert!(page.set(path, Some(&value)).is_err(), "{path}");
        }
    }

    #[test]
    fn whole_configuration_is_checked_with_the_changes() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path(), "");
        let mut page = PageSettings::default();
        page.set("quality.minimum_exposure", Some(&json!(230))).unwrap();
        page.set("identification.agreeing_probes", Some(&json!(9))).unwrap();
        let error = sources.build_with(&page).unwrap_err();
        assert_eq!(error.problems().len(), 2, "{error}");
        let keys: Vec<_> = error.problems().iter().filter_map(Problem::key).collect();
        assert_eq!(keys, ["quality.minimum_exposure", "identification.agreeing_probes"]);
        page.set("quality.minimum_exposure", None).unwrap();
        page.set("identification.agreeing_probes", Some(&json!(3))).unwrap();
        assert_eq!(sources.build_with(&page).unwrap().identification.agreeing_probes, 3);
    }
}
