//! The macro that turns the declaration of the settings into structs and into the table that
//! reading, checking and documenting work from.

use toml::de::DeValue;

use super::value::{Refused, Shape, Written};
use super::{Config, Origin};

/// One section of the configuration file.
#[derive(Debug)]
pub struct Section {
    /// Name in the file.
    pub name: &'static str,
    /// What it is about; lines end in a line feed.
    pub doc: &'static str,
    /// Its settings, in the order of their declaration.
    pub settings: &'static [Setting],
}

/// When a changed value takes hold, and who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// At once.
    Now,
    /// When the program starts the next time.
    Restart,
    /// When the program starts the next time; and only where somebody on the device says so, in a file,
    /// the environment or a flag, since it names files that are read or run.
    File,
}

/// One setting, apart from its value.
#[derive(Debug)]
pub struct Setting {
    /// Section it stands in.
    pub section: &'static str,
    /// Name within the section.
    pub key: &'static str,
    /// What it means; lines end in a line feed.
    pub doc: &'static str,
    /// Unit of the value.
    pub unit: Option<&'static str>,
    /// When a changed value takes hold.
    pub effect: Effect,
    pub(super) shape: fn() -> Shape,
    pub(super) allowed: fn() -> String,
    pub(super) text: bool,
    pub(super) secret: bool,
    pub(super) read: fn(&mut Config, &DeValue<'_>) -> Result<(), Refused>,
    pub(super) write: fn(&Config) -> Written,
}

impl Setting {
    /// The values it may take, in words, with the unit.
    pub fn allowed(&self) -> String {
        let allowed = (self.allowed)();
        match self.unit {
            Some(unit) => format!("{allowed} {unit}"),
            None => allowed,
        }
    }

    /// The kind of value and its bounds.
    pub fn shape(&self) -> Shape {
        (self.shape)()
    }

    /// Its value as JSON; null when unset, and no secret's own.
    pub fn json(&self, config: &Config) -> serde_json::Value {
        (self.write)(config).json
    }

    /// Whether its value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.secret
    }

    /// `section.key`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("LIMEN_{}__{}", self.section, self.key).to_uppercase()
    }
}

/// Looks a setting up by its section and key.
pub(crate) fn find(section: &str, key: &str) -> Option<&'static Setting> {
    SECTIONS.iter().find(|s| s.name == section)?.settings.iter().find(|s| s.key == key)
}

/// Every setting, in the order of declaration.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

use super::SECTIONS;

/// Where each value came from; a setting that no layer names is at its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Origins(Vec<(&'static str, &'static str, Origin)>);

impl Origins {
    pub(super) fn set(&mut self, setting: &'static Setting, origin: Origin) {
        self.0.retain(|(section, key, _)| (*section, *key) != (setting.section, setting.key));
        self.0.push((setting.section, setting.key, origin));
    }

    pub(super) fn of(&self, setting: &Setting) -> Origin {
        let found = self.0.iter().find(|(s, k, _)| (*s, *k) == (setting.section, setting.key));
        found.map_or(Origin::Default, |(_, _, origin)| origin.clone())
    }
}

/// A field name as the file writes it: Rust needs `r#` before its own keywords.
pub(super) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Declares the settings: `key: Type = default, unit "px", within RANGE, effect now;` in sections. Without
/// an effect, a change waits for the next start.
macro_rules! settings {
    (@within $kind:ty,) => { <$kind as $crate::config::value::Value>::Allowed::default() };
    (@within $kind:ty, $within:expr) => { $within };
    (@effect) => { $crate::config::declare::Effect::Restart };
    (@effect now) => { $crate::config::declare::Effect::Now };
    (@effect file) => { $crate::config::declare::Effect::File };
    (@unit) => { None };
    (@unit $unit:literal) => { Some($unit) };

    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $kind:ty = $default:expr
                    $(, unit $unit:literal)? $(, within $within:expr)? $(, effect $effect:ident)?;
            )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $name {
                $(
                    $(#[doc = $doc])+
                    $(#[doc = concat!("\n\nUnit: ", $unit, ".")])?
                    pub $key: $kind,
                )+
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($key: $default,)+ }
                }
            }
        )+

        /// All settings.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config {
            $(
                $(#[doc = $section_doc])+
                pub $section: $name,
            )+
            origins: $crate::config::declare::Origins,
            read: Vec<String>,
        }

        /// Every section and setting, in the order of declaration.
        pub static SECTIONS: &[Section] = &[$(
            Section {
                name: $crate::config::declare::plain(stringify!($section)),
                doc: concat!($($section_doc, "\n"),+),
                settings: &[$(
                    Setting {
                        section: $crate::config::declare::plain(stringify!($section)),
                        key: $crate::config::declare::plain(stringify!($key)),
                        doc: concat!($($doc, "\n"),+),
                        unit: settings!(@unit $($unit)?),
                        effect: settings!(@effect $($effect)?),
                        shape: || {
                            <$kind as $crate::config::value::Value>::shape(
                                &settings!(@within $kind, $($within)?)
                            )
                        },
                        allowed: || {
                            <$kind as $crate::config::value::Value>::allowed(
                                &settings!(@within $kind, $($within)?)
                            )
                        },
                        text: <$kind as $crate::config::value::Value>::TEXT,
                        secret: <$kind as $crate::config::value::Value>::SECRET,
                        read: |config, found| {
                            config.$section.$key = $crate::config::value::Value::read(
                                found,
                                &settings!(@within $kind, $($within)?),
                            )?;
                            Ok(())
                        },
                        write: |config| {
                            $crate::config::value::Value::write(&config.$section.$key)
                        },
                    },
                )+],
            },
        )+];
    };
}
