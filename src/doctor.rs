//! What could keep this installation from working, looked at one by one: `limen doctor`.
//!
//! Each check takes what it looks at and returns findings: what was found, how bad that is, and what to do
//! about it. None changes a setting or leaves a file behind, and each is over within seconds, also
//! when a device or a network does not answer. Runs on the thread that starts, outside of the
//! daemon, and beside a running one.

mod board;
mod camera;
mod door;
mod network;
mod state;

use std::sync::mpsc::channel;
use std::time::Duration;

use serde::Serialize;

pub use board::{check_clock, check_memory, check_temperature};
pub use camera::check_camera;
pub use door::check_door;
pub use network::{Login, check_broker, check_http};
pub use state::{check_backups, check_gallery, check_key, check_storage};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The settings.
    Configuration,
    /// The state folder and the key in it.
    State,
    /// The file system of the state folder.
    Storage,
    /// The gallery.
    Gallery,
    /// Backups.
    Backup,
    /// The model files and the runtime library.
    Models,
    /// Whether known faces are recognised.
    Recognition,
    /// Whether frames come in.
    Camera,
    /// Whether the broker can be reached.
    Broker,
    /// Whether the web server has its port.
    Http,
    /// Whether the lines of the door are there.
    Door,
    /// The date and whether it is kept right.
    Clock,
    /// Memory of the board.
    Memory,
    /// Heat and supply of the board.
    Temperature,
}

impl Check {
    /// Its name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::State => "state",
            Self::Storage => "storage",
            Self::Gallery => "gallery",
            Self::Backup => "backup",
            Self::Models => "models",
            Self::Recognition => "recognition",
            Self::Camera => "camera",
            Self::Broker => "broker",
            Self::Http => "http",
            Self::Door => "door",
            Self::Clock => "clock",
            Self::Memory => "memory",
            Self::Temperature => "temperature",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as well or as long as it should.
    Warning,
    /// The device cannot do its work.
    Problem,
}

/// One answer of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it; `null` when there is nothing to do.
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: Check, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    /// Not as it should be, and bearable.
    pub fn warning(check: Check, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    /// Not as it must be.
    pub fn problem(check: Check, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Problem, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Does `work` on a thread of its own, and no longer waits for it after `patience`: a driver or a
/// name server may take as long as it likes. The thread is then left to the end of the process.
fn within<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = channel();
    let thread = std::thread::Builder::new().name("check".into()).spawn(move || {
        // Nobody waits any more when this fails.
        let _ = done.send(work());
    });
    thread.ok()?;
    result.recv_timeout(patience).ok()
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match kib {
        ..1024.0 => format!("{kib:.0} KiB"),
        ..1_048_576.0 => format!("{:.0} MiB", kib / 1024.0),
        _ => format!("{:.1} GiB", kib / 1_048_576.0),
    }
}
