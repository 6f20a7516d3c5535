//! The running daemon as systemd sees it: ready, status, watchdog, signals, exit codes.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use program::{Program, Running, portrait};
use rustix::process::Signal;

/// The socket that systemd would listen on.
struct Manager {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, _folder: folder, path }
    }

    /// What comes within a time, until `enough`: when, and what.
    fn hear(&self, within: Duration, mut enough: impl FnMut(&str) -> bool) -> Vec<(Duration, String)> {
        let start = Instant::now();
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while let Some(left) = within.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = self.socket.recv(&mut buffer) else { break };
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let done = enough(&text);
            heard.push((start.elapsed(), text));
            if done {
                break;
            }
        }
        heard
    }

    #[track_caller]
    fn expect(&self, wanted: &str, within: Duration) -> Vec<(Duration, String)> {
        let heard = self.hear(within, |text| text.contains(wanted));
        assert!(heard.last().is_some_and(|(_, text)| text.contains(wanted)), "no {wanted}: {heard:?}");
        heard
    }
}

/// `PREFIX=` messages among what was heard.
fn those<'h>(heard: &'h [(Duration, String)], prefix: &str) -> Vec<&'h str> {
    heard.iter().filter_map(|(_, text)| text.trim().strip_prefix(prefix)).collect()
}

fn under(manager: &Manager, watchdog_ms: u64) -> Program {
    Program::new()
        .with("NOTIFY_SOCKET", &manager.path)
        .with("WATCHDOG_USEC", (watchdog_ms * 1_000).to_string())
        .with("LIMEN_HTTP__LISTEN", "")
}

#[test]
fn systemd_hears_ready_status_watchdog_and_stopping() {
    let manager = Manager::new();
    let program = under(&manager, 1_000);
    let running = program.start(&["run", "--source", "scene"]);
    let start = manager.expect("READY=1", Duration::from_secs(20));
    // Ready comes after the self-test and a frame, which the status line tells of before or then.
    assert!(those(&start, "READY=").len() == 1);
    let life = manager.hear(Duration::from_secs(4), |_| false);
    let fed = those(&life, "WATCHDOG=").len();
    // Every half second, give or take a busy machine.
    assert!((5..=9).contains(&fed), "{fed} in 4 s: {life:?}");
    assert!(those(&life, "READY=").is_empty(), "told once");
    let status: Vec<_> = those(&start, "STATUS=").into_iter().chain(those(&life, "STATUS=")).collect();
    assert!(status.iter().any(|line| line.contains("640x480 at 15 Hz")), "{status:?}");
    running.signal(Signal::TERM);
    manager.expect("STOPPING=1", Duration::from_secs(5));
    let (end, _, err) = running.wait(Duration::from_secs(10));
    assert!(end.success(), "{end}: {err}");
}

#[test]
fn missing_camera_is_degraded_and_not_dead() {
    let manager = Manager::new();
    let program = under(&manager, 1_000);
    let running = program.start(&["run", "--source", "/dev/video-that-is-not-there"]);
    let heard = manager.expect("READY=1", Duration::from_secs(30));
    let waited = heard.last().unwrap().0;
    assert!(waited >= Duration::from_secs(9), "ready after {waited:?} without a frame");
    let status = those(&heard, "STATUS=").join("\n");
    assert!(status.contains("no camera") && status.contains("camera degraded"), "{status}");
    let life = manager.hear(Duration::from_secs(3), |_| false);
    assert!(those(&life, "WATCHDOG=").len() >= 4, "{life:?}");
    running.signal(Signal::TERM);
    let (end, _, err) = running.wait(Duration::from_secs(10));
    assert!(end.success() && err.contains("degraded"), "{end}: {err}");
}

/// Stops one thread of a process as a fault in a driver would, and leaves the others alone.
fn freeze(running: &Running, thread: &str) {
    let tasks = format!("/proc/{}/task", running.pid());
    let named = |folder: &std::fs::DirEntry| {
        std::fs::read_to_string(folder.path().join("comm")).is_ok_and(|name| name.trim() == thread)
    };
    let task = std::fs::read_dir(tasks).unwrap().map(Result::unwrap).find(named).unwrap();
    let task = Pid::from_raw(task.file_name().to_str().unwrap().parse().unwrap());
    let leads = task.as_raw().cast_unsigned() == running.pid();
    let (frozen, wait) = std::sync::mpsc::channel();
    // Whoever traces a thread also has to take note of its end, or the process never ends.
    std::thread::spawn(move || {
        ptrace::seize(task, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(task).unwrap();
        loop {
            match waitpid(task, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => break,
                // Stopped, and not told to go on. The test may have ended by then.
                Ok(_) => _ = frozen.send(()),
            }
            if leads {
                // The end of the first thread is that of the program, which the test wants to hear of as well.
                let end = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
                let _ = waitid(Id::Pid(task), end);
                break;
            }
        }
    });
    wait.recv_timeout(Duration::from_secs(10)).unwrap();
}

#[test]
fn stuck_thread_starves_the_watchdog_and_is_named() {
    let manager = Manager::new();
    let program = under(&manager, 1_000);
    let running = program.start(&["run", "--source", "scene"]);
    manager.expect("READY=1", Duration::from_secs(20));
    freeze(&running, "recogniser");
    let heard = manager.expect("STATUS=dead", Duration::from_secs(20));
    let dead = those(&heard, "STATUS=dead").join("");
    assert!(dead.contains("`recogniser` has not moved"), "{dead}");
    let after = manager.hear(Duration::from_secs(3), |_| false);
    assert!(those(&after, "WATCHDOG=").is_empty(), "{after:?}");
}

#[test]
fn stuck_thread_without_a_watchdog_ends_the_program_with_a_reason() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let running = program.start(&["run", "--source", "scene", "--json"]);
    running.wait_for("stream", Duration::from_secs(20), |line| line["event"] == "streaming");
    freeze(&running, "recogniser");
    let (end, _, err) = running.wait(Duration::from_secs(60));
    // Where it was stopped while it held what others wait for, the last resort had to end the program.
    assert!(end.code() == Some(1) || end.signal() == Some(Signal::ABORT.as_raw()), "{end}: {err}");
    assert!(err.contains("`recogniser` has not moved for"), "{err}");
}

#[test]
fn supervisor_that_is_stuck_itself_is_ended_with_a_reason() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let running = program.start(&["run", "--source", "scene", "--json"]);
    running.wait_for("stream", Duration::from_secs(20), |line| line["event"] == "streaming");
    freeze(&running, "limen");
    let (end, _, err) = running.wait(Duration::from_secs(60));
    assert_eq!(end.signal(), Some(Signal::ABORT.as_raw()), "{end}: {err}");
    assert!(err.contains("`supervisor` has not moved for"), "{err}");
}

#[test]
fn first_signal_drains_and_second_ends_at_once() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let running = program.start(&["run", "--demo", "--json"]);
    running.wait_for("event", Duration::from_secs(20), |line| line["event"] == "identified");
    // Stopped in the middle of shutdown by a thread that does not end.
    freeze(&running, "recogniser");
    running.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::TERM);
    let (end, _, _) = running.wait(Duration::from_secs(3));
    assert_eq!(end.code(), Some(130));
}

#[test]
fn visitor_in_view_is_reported_as_gone_when_the_program_ends() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let running = program.start(&["run", "--demo", "--json"]);
    running.wait_for("event", Duration::from_secs(20), |line| line["event"] == "identified");
    running.signal(Signal::TERM);
    let (end, rest, err) = running.wait(Duration::from_secs(10));
    assert!(end.success(), "{err}");
    assert!(rest.iter().any(|line| line.contains("\"event\":\"ended\"")), "{rest:?}");
}

#[test]
fn nobody_reading_the_output_does_not_keep_the_program_from_ending() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let (reader, writer) = std::io::pipe().unwrap();
    // Full, and nobody empties it.
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    let manager = Manager::new();
    let mut child = program
        .command(&["run", "--demo", "--json"])
        .env("NOTIFY_SOCKET", &manager.path)
        .stdout(writer)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    manager.expect("READY=1", Duration::from_secs(20));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let deadline = Instant::now() + Duration::from_secs(12);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(reader);
}

#[test]
fn second_daemon_on_one_state_folder_is_refused_and_commands_are_not() {
    let program = Program::new().with("LIMEN_HTTP__LISTEN", "");
    let running = program.start(&["run", "--json", "--source", "scene"]);
    running.wait_for("stream", Duration::from_secs(20), |line| line["event"] == "streaming");
    let second = program.ends(1, &["run", "--source", "scene", "--seconds", "5"]);
    second.says(&["another limen is running on", "--state"]);
    program.ends(0, &["enrol", "Ada", &portrait("eileen_collins_1")]);
    program.ends(0, &["subjects", "remove", "--yes", "Ada"]);
    running.signal(Signal::KILL);
    running.wait(Duration::from_secs(10));
    program.ends(0, &["run", "--source", "scene", "--seconds", "1"]);
}
