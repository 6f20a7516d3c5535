//! What commands print: results to standard output, notes and errors to standard error, colours
//! only on a terminal.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use serde::Serialize;

/// Where results go.
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints `value` as one line of JSON, or what `text` says.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        let line = if self.json { serde_json::to_string(value)? } else { text() };
        self.line(&line)
    }

    /// Prints one line or several.
    pub(crate) fn line(&self, line: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    /// Something worth knowing that is no result.
    pub(crate) fn note(&self, note: &str) {
        self.aside("note", "\x1b[1;34m", note);
    }

    /// Something that may not be as the operator wants it.
    pub(crate) fn warning(&self, warning: &str) {
        self.aside("warning", "\x1b[1;33m", warning);
    }

    /// Why the command failed, with every cause that adds something.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        self.aside("error", "\x1b[1;31m", &format!("{error:#}"));
    }

    fn aside(&self, word: &str, colour: &str, text: &str) {
        let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (start, end) = if coloured { (colour, "\x1b[0m") } else { ("", "") };
        let line = if self.json {
            serde_json::json!({ word: text }).to_string()
        } else {
            format!("{start}{word}{end}: {text}")
        };
        // With standard error gone there is nobody left to tell.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Text in a colour, on a terminal.
    pub(crate) fn coloured(&self, colour: Colour, text: &str) -> String {
        let wanted = !self.json && std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        if wanted { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }

    /// A progress bar on a terminal, nothing elsewhere.
    pub(crate) fn progress(&self, length: usize, what: &str) -> indicatif::ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return indicatif::ProgressBar::hidden();
        }
        let style = indicatif::ProgressStyle::with_template("{msg} {bar:32} {pos}/{len} {eta}")
            .expect("the template is a constant");
        indicatif::ProgressBar::new(length as u64).with_style(style).with_message(what.to_owned())
    }
}

/// Colours of results.
#[derive(Clone, Copy)]
pub(crate) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Grey = 90,
}

/// Whoever read our output has had enough, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
