//! Where log messages go: standard error, or straight to the journal as a systemd service. Results
//! go to standard output.

use std::io::{IsTerminal, Stderr, Write};
use std::path::Path;

use limen::config::{Log, LogFormat, LogLevel};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use super::journal::{self, Journal};

/// Starts the log. What is returned sets the least urgent messages that are written from then on.
pub(super) fn start(settings: &Log) -> impl Fn(LogLevel) + Send + Sync + 'static {
    let (filter, control) = reload::Layer::new(EnvFilter::new(settings.level.as_str()));
    let is_journal =
        std::env::var("JOURNAL_STREAM").is_ok_and(|stream| journal::is_journal(&stream, std::io::stderr()));
    let journal = is_journal.then(|| Journal::at(Path::new(journal::SOCKET))).flatten();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Lines { with_priority: is_journal })
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // Each fails only when a log was started before, which nothing here does.
    let _ = match (settings.format, journal) {
        (LogFormat::Auto, Some(journal)) => registry.with(journal).try_init(),
        (LogFormat::Json, _) => registry.with(lines.json()).try_init(),
        (LogFormat::Text | LogFormat::Auto, _) => registry.with(lines.without_time()).try_init(),
    };
    move |level| {
        // Fails only when the log is gone, and then nothing is written anyway.
        let _ = control.reload(EnvFilter::new(level.as_str()));
    }
}

/// Lines to standard error; for journald with their priority in front (sd-daemon(3)), which it takes off.
struct Lines {
    with_priority: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { stderr: std::io::stderr(), priority: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let level: Level = *metadata.level();
        Line { stderr: std::io::stderr(), priority: self.with_priority.then(|| journal::priority(level)) }
    }
}

struct Line {
    stderr: Stderr,
    priority: Option<u8>,
}

impl Write for Line {
    /// The formatter hands over a whole message at once.
    fn write(&mut self, message: &[u8]) -> std::io::Result<usize> {
        let mut stderr = self.stderr.lock();
        match self.priority {
            None => stderr.write_all(message)?,
            Some(priority) => {
                // In one piece, so that no other process's line comes between; and on every line of it,
                // for each is an entry of its own to journald.
                let mut lines = Vec::with_capacity(message.len() + 16);
                for line in message.split_inclusive(|byte| *byte == b'\n') {
                    write!(lines, "<{priority}>")?;
                    lines.extend_from_slice(line);
                }
                stderr.write_all(&lines)?;
            }
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stderr.flush()
    }
}
