//! The log as journald takes it: each message with its priority and its fields, so that
//! `journalctl -p warning LIMEN_PART=camera` finds what it should.
//!
//! The form is journald's own, described in systemd's "Native Journal Protocol": lines of `FIELD=value` in
//! one datagram; a value of several lines is preceded by its length. Where the socket is not there or
//! takes nothing, the message goes to standard error, which is journald's too, with its priority in
//! front (sd-daemon(3)).

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// A longer value is cut: whatever says so much has gone wrong, and a datagram has its limits.
const MAX_VALUE_BYTES: usize = 8 << 10;

/// Whether a stream of this program is journald's: it has told the device and inode of the stream it made in
/// `JOURNAL_STREAM`, and a program that was started with another stream inherits the variable
/// all the same.
pub(super) fn is_journal(journal_stream: &str, stream: impl AsFd) -> bool {
    let parts = journal_stream.split_once(':');
    let Some((Ok(device), Ok(inode))) = parts.map(|(device, inode)| (device.parse(), inode.parse())) else {
        return false;
    };
    rustix::fs::fstat(stream).is_ok_and(|stream| (stream.st_dev, stream.st_ino) == (device, inode))
}

/// The priority of syslog(3).
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        // syslog knows nothing below.
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Sends every message to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// `None` where nobody listens at `path`.
    pub(super) fn at(path: &Path) -> Option<Self> {
        // Asks whether anybody is there. Messages are sent by name all the same, for the socket is made
        // anew when its unit is restarted.
        UnixDatagram::unbound().ok()?.connect(path).ok()?;
        let socket = UnixDatagram::unbound().ok()?;
        // A journald that does not read holds nobody up: the message goes to standard error then.
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, path: path.into() })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let entry = Entry::of(event);
        if self.socket.send_to(&entry.datagram(), &self.path).is_err() {
            // With standard error gone too there is nobody left to tell.
            let _ = writeln!(std::io::stderr().lock(), "<{}>{}", entry.priority, entry.message());
        }
    }
}

/// One message.
struct Entry {
    priority: u8,
    metadata: &'static Metadata<'static>,
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Entry {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let priority = priority(*metadata.level());
        let mut entry = Self { priority, metadata, text: String::new(), fields: Vec::new() };
        event.record(&mut entry);
        entry
    }

    /// For people: the fields stand behind the text.
    fn message(&self) -> String {
        let mut message = self.text.clone();
        for (name, value) in &self.fields {
            // Writing to a string cannot fail.
            let _ = write!(message, " {name}={value}");
        }
        message
    }

    fn datagram(&self) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(512);
        put(&mut datagram, "MESSAGE", &self.message());
        put(&mut datagram, "PRIORITY", &self.priority.to_string());
        put(&mut datagram, "SYSLOG_IDENTIFIER", "limen");
        put(&mut datagram, "LIMEN_TARGET", self.metadata.target());
        for (name, value) in &self.fields {
            let name: String = name
                .chars()
                .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' })
                .collect();
            put(&mut datagram, &format!("LIMEN_{name}"), value);
        }
        datagram
    }
}

fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    let end = (0..=MAX_VALUE_BYTES.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
    let value = &value[..end.unwrap_or(0)];
    datagram.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.text = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// What journald would get for what `speak` says.
    fn sent(speak: impl FnOnce()) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::at(&path).unwrap());
        tracing::subscriber::with_default(subscriber, speak);
        let mut datagram = vec![0; 64 << 10];
        let length = journald.recv(&mut datagram).unwrap();
        datagram.truncate(length);
        datagram
    }

    #[test]
    fn message_carries_its_priority_and_fields() {
        let datagram = sent(|| tracing::warn!(part = "camera", reason = %"no cable", tries = 3, "degraded"));
        assert_eq!(
            String::from_utf8(datagram).unwrap(),
            "MESSAGE=degraded part=camera reason=no cable tries=3\nPRIORITY=4\nSYSLOG_IDENTIFIER=limen\n\
             LIMEN_TARGET=limen::cli::journal::tests\nLIMEN_PART=camera\nLIMEN_REASON=no cable\nLIMEN_TRIES=3\n"
        );
    }

    #[test]
    fn value_with_a_line_end_cannot_pose_as_a_field() {
        let datagram = sent(|| tracing::error!(reason = "a\nPRIORITY=0", "x"));
        let text = String::from_utf8_lossy(&datagram);
        assert!(text.contains("\nPRIORITY=3\n"), "{text}");
        let mut field = b"LIMEN_REASON\n".to_vec();
        field.extend_from_slice(&12u64.to_le_bytes());
        field.extend_from_slice(b"a\nPRIORITY=0\n");
        assert!(datagram.windows(field.len()).any(|window| window == field), "{text}");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let datagram = sent(|| tracing::info!(reason = "ä".repeat(10_000), "x"));
        assert!(datagram.len() < 3 * MAX_VALUE_BYTES, "{}", datagram.len());
        assert!(String::from_utf8(datagram).is_ok());
    }

    #[test]
    fn urgency_is_what_syslog_calls_it() {
        let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE].map(priority);
        assert_eq!(all, [3, 4, 6, 7, 7]);
    }

    #[test]
    fn nobody_listening_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Journal::at(&folder.path().join("socket")).is_none());
    }

    #[test]
    fn what_is_no_stream_of_ours_is_none() {
        for text in ["", ":", "1", "0:0", "a:b", "-1:-1", "99999999999999999999:1"] {
            assert!(!is_journal(text, std::io::stderr()), "{text}");
        }
    }
}
