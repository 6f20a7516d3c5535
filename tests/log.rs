//! What the log looks like where it ends up: under systemd, in a file, on another program's stream.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use program::{Program, portrait};
use serde_json::Value;

/// What a short run writes to a standard error that is a file, with `JOURNAL_STREAM` naming that file or
/// something else.
fn log(format: &str, journal_stream: impl Fn(u64, u64) -> Option<String>) -> String {
    let program = Program::new().with("LIMEN_LOG__FORMAT", format);
    let recording = program.path("door.mjpeg");
    fs::write(&recording, fs::read(portrait("barack_obama_3")).unwrap().repeat(3)).unwrap();
    let log = program.path("log");
    let stream = File::create(&log).unwrap();
    let file = stream.metadata().unwrap();
    let source = format!("replay:{recording}");
    let mut command = program.command(&["run", "--source", &source, "--once", "--json"]);
    if let Some(variable) = journal_stream(file.dev(), file.ino()) {
        command.env("JOURNAL_STREAM", variable);
    }
    assert!(command.stderr(stream).output().unwrap().status.success());
    fs::read_to_string(&log).unwrap()
}

fn matching(device: u64, inode: u64) -> Option<String> {
    Some(format!("{device}:{inode}"))
}

fn of_something_else(device: u64, inode: u64) -> Option<String> {
    Some(format!("{device}:{}", inode + 1))
}

fn none(_: u64, _: u64) -> Option<String> {
    None
}

/// The line that says that the camera is open. Notes of the command line are no log messages.
#[track_caller]
fn opened(log: &str) -> &str {
    log.lines().find(|line| line.contains("camera stream opened")).unwrap_or_else(|| panic!("{log}"))
}

#[test]
fn journal_sees_the_priority_of_text_and_json() {
    let text = log("text", matching);
    assert!(opened(&text).starts_with("<6> INFO camera stream opened"), "{text}");
    let json = log("json", matching);
    let line = opened(&json).strip_prefix("<6>").unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "INFO");
}

#[test]
fn stream_that_is_not_the_journal_gets_no_priorities() {
    for variable in [none, of_something_else] {
        let text = log("text", variable);
        assert!(opened(&text).starts_with(" INFO camera stream opened"), "{text}");
        let automatic = log("auto", variable);
        assert!(opened(&automatic).starts_with(" INFO camera stream opened"), "{automatic}");
        let json = log("json", variable);
        let line: Value = serde_json::from_str(opened(&json)).unwrap();
        assert_eq!(line["fields"]["message"], "camera stream opened");
    }
}

#[test]
fn automatic_form_falls_back_to_priorities_without_the_journal() {
    if Path::new("/run/systemd/journal/socket").exists() {
        eprintln!("SKIPPED: this machine has a journal, and the messages are in it");
        return;
    }
    let text = log("auto", matching);
    assert!(opened(&text).starts_with("<6> INFO camera stream opened"), "{text}");
}

/// What `limen run --demo` writes to both streams until somebody is named, standard output being the
/// journal or not.
fn both_streams(is_journal: bool) -> String {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let (out, err) = (program.path("out"), program.path("err"));
    let stream = File::create(&out).unwrap();
    let file = stream.metadata().unwrap();
    let mut command = program.command(&["run", "--demo", "--seconds", "4"]);
    if is_journal {
        command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
    }
    command.stdout(stream).stderr(File::create(&err).unwrap());
    assert!(command.status().unwrap().success());
    fs::read_to_string(&out).unwrap() + &fs::read_to_string(&err).unwrap()
}

#[test]
fn no_name_reaches_the_journal() {
    let text = both_streams(true);
    assert!(text.contains("stopped after") && !text.contains("Obama"), "{text}");
    let elsewhere = both_streams(false);
    assert!(elsewhere.contains("identified  Barack Obama"), "the same run names somebody: {elsewhere}");
}
