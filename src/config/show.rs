//! The configuration for readers: the template, the reference, and what is in force.

use std::fmt::Write as _;

use serde_json::{Map, json};

use super::declare::Setting;
use super::{Config, Origin, SECTIONS};

/// A configuration file that changes nothing: every setting with its meaning, unit, range and
/// default, commented out.
pub fn template() -> String {
    let defaults = Config::default();
    let mut out = String::from(
        "# Configuration of limen. Every setting stands here at its default; remove the # in front of\n\
         # one to change it. Check with `limen config check`, see what is in force with `limen config show`.\n",
    );
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.doc);
        writeln!(out, "[{}]", section.name).expect("writing to a String cannot fail");
        for setting in section.settings {
            out.push('\n');
            comment(&mut out, setting.doc);
            writeln!(out, "# Allowed: {}.", setting.allowed()).expect("writing to a String cannot fail");
            writeln!(out, "#{} = {}", setting.key, (setting.write)(&defaults).toml)
                .expect("writing to a String cannot fail");
        }
    }
    out
}

fn comment(out: &mut String, doc: &str) {
    for line in doc.lines() {
        writeln!(out, "# {}", line.trim()).expect("writing to a String cannot fail");
    }
}

/// The reference in Markdown; `docs/config.md` is this text.
pub fn reference() -> String {
    let defaults = Config::default();
    let mut out = String::from(
        "# Configuration\n\n\
         Made from the code by `make docs`; change `src/config.rs` instead of this page.\n\n\
         Settings are read in layers, and later layers win:\n\n\
         1. the defaults below,\n\
         2. `/etc/limen/limen.toml`, or the file named with `--config`,\n\
         3. its drop-ins, `limen.toml.d/*.toml` beside it, by file name,\n\
         4. what was set on the admin page, `settings.toml` in the state folder,\n\
         5. environment variables `LIMEN_SECTION__KEY`, e.g. `LIMEN_CAMERA__SOURCE=/dev/video2`,\n\
         6. command-line flags.\n\n\
         Unknown settings are refused. `limen config check` says everything that is wrong, \
         `limen config show` prints what is in force and where it came from, `limen config template` \
         prints a file to start from.\n",
    );
    for section in SECTIONS {
        write!(out, "\n## [{}]\n\n{}\n", section.name, one_line(section.doc))
            .expect("writing to a String cannot fail");
        out.push_str("\n| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n");
        for setting in section.settings {
            writeln!(
                out,
                "| `{}` | `{}` | {} | {} |",
                setting.key,
                (setting.write)(&defaults).toml,
                setting.allowed().replace('|', "\\|"),
                one_line(setting.doc).replace('|', "\\|")
            )
            .expect("writing to a String cannot fail");
        }
    }
    out
}

fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Config {
    /// The files and texts that were read, lowest first.
    pub fn read(&self) -> &[String] {
        &self.read
    }

    /// Where the value of a setting came from.
    pub fn origin(&self, setting: &Setting) -> Origin {
        self.origins.of(setting)
    }

    /// What is in force, as TOML that reads back the same, each value with its origin. Secrets are
    /// not shown.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for name in &self.read {
            writeln!(out, "# read: {}", name.escape_debug()).expect("writing to a String cannot fail");
        }
        for section in SECTIONS {
            if !out.is_empty() {
                out.push('\n');
            }
            writeln!(out, "[{}]", section.name).expect("writing to a String cannot fail");
            let lines: Vec<_> = section
                .settings
                .iter()
                .map(|setting| {
                    let hidden = if setting.secret { "# " } else { "" };
                    (format!("{hidden}{} = {}", setting.key, (setting.write)(self).toml), setting)
                })
                .collect();
            let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
            for (line, setting) in lines {
                writeln!(out, "{line:width$}  # {}", self.origin(setting))
                    .expect("writing to a String cannot fail");
            }
        }
        out
    }

    /// What is in force, as JSON: `{section: {key: {value, unit, origin}}}`. Secrets are not shown.
    pub fn to_json(&self) -> serde_json::Value {
        let mut sections = Map::new();
        for section in SECTIONS {
            let mut settings = Map::new();
            for setting in section.settings {
                let entry = json!({
                    "value": (setting.write)(self).json,
                    "unit": setting.unit,
                    "origin": self.origin(setting).to_string(),
                });
                settings.insert(setting.key.to_owned(), entry);
            }
            sections.insert(section.name.to_owned(), settings.into());
        }
        sections.into()
    }
}
