//! The real program with the real networks, on a state folder of its own, and nothing from this
//! machine's settings.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

pub(crate) mod http;
pub(crate) mod socket;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No command of these tests takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A path of the package, or the variable that `make test` sets; relative ones belong to the package.
fn setting(variable: &str, default: &str) -> PathBuf {
    let value = std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(value)
}

pub(crate) fn models_folder() -> PathBuf {
    setting("LIMEN_MODELS__FOLDER", "models")
}

pub(crate) fn litert_library() -> PathBuf {
    setting("LIMEN_LITERT__LIBRARY", ".setup/lib/libLiteRt.so")
}

/// Path of a fixture portrait, for a command line.
pub(crate) fn portrait(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/portraits");
    let path = folder.join(format!("{name}.jpg"));
    assert!(path.is_file(), "{}", path.display());
    path.to_str().unwrap().to_owned()
}

/// One device: a folder that goes away with it.
pub(crate) struct Program {
    folder: tempfile::TempDir,
    variables: Vec<(String, PathBuf)>,
}

impl Program {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A file of its own, so that none of this machine's is read.
        std::fs::write(folder.path().join("limen.toml"), "").unwrap();
        let variables = vec![
            ("LIMEN_MODELS__FOLDER".to_owned(), models_folder()),
            ("LIMEN_LITERT__LIBRARY".to_owned(), litert_library()),
        ];
        Self { folder, variables }
    }

    /// With one more environment variable, or another value for one.
    pub(crate) fn with(mut self, variable: &str, value: impl Into<PathBuf>) -> Self {
        self.variables.push((variable.to_owned(), value.into()));
        self
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A path in the device's folder, for a command line.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_limen"));
        for (variable, _) in std::env::vars_os() {
            let theirs = variable.to_string_lossy().starts_with("LIMEN_");
            if theirs
                || variable == "CREDENTIALS_DIRECTORY"
                || variable == "JOURNAL_STREAM"
                || variable == "NOTIFY_SOCKET"
            {
                command.env_remove(&variable);
            }
        }
        command.env("LIMEN_STATE__FOLDER", self.state());
        command.envs(self.variables.iter().map(|(variable, value)| (variable, value)));
        if !arguments.contains(&"--config") {
            command.args(["--config", &self.path("limen.toml")]);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = assert_cmd::Command::from_std(self.command(arguments));
        let output = command.timeout(PATIENCE).output().unwrap();
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must end with `code`.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?} said: {}{}", ended.out, ended.err);
        ended
    }

    /// The one JSON value that a command with `--json` prints.
    #[track_caller]
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.ends(code, &arguments).out).unwrap()
    }

    /// Names and numbers of templates of everybody enrolled.
    #[track_caller]
    pub(crate) fn enrolled(&self) -> Vec<(String, u64)> {
        let list = self.json(0, &["subjects", "list"]);
        let subjects = list["subjects"].as_array().unwrap();
        let entry = |subject: &Value| {
            (subject["name"].as_str().unwrap().to_owned(), subject["templates"].as_u64().unwrap())
        };
        subjects.iter().map(entry).collect()
    }

    /// Starts a command that ends when told to.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut err = child.stderr.take().unwrap();
        let err = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        });
        Running { child, lines, err: Some(err) }
    }
}

/// What a command left behind.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Every line of standard output as JSON.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts that all of `parts` stand in standard error.
    #[track_caller]
    pub(crate) fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in: {}", self.err);
        }
    }
}

/// A command that is running; ended at once when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    err: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // A process that has ended already is for the caller to find out.
        let _ = rustix::process::kill_process(pid, signal);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for a line of standard output that is JSON and fulfils `wanted`.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + within;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let value: Value = serde_json::from_str(&line).unwrap();
                    if wanted(&value) {
                        return value;
                    }
                    seen.push(line);
                }
                Err(error) => panic!("no {what} within {within:?} ({error}); seen: {seen:#?}"),
            }
        }
    }

    /// Waits for its end; returns what had not been read of standard output, and standard error.
    #[track_caller]
    pub(crate) fn wait(mut self, within: Duration) -> (ExitStatus, Vec<String>, String) {
        let deadline = Instant::now() + within;
        let mut rest = Vec::new();
        // Standard output closes when the process ends.
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it has not ended within {within:?}: {rest:#?}"),
            }
        }
        let status = self.child.wait().unwrap();
        (status, rest, self.err.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
