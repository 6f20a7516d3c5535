//! A device whose power goes, whose disk is full, and whose disk fails: on a real kernel with a real file
//! system. `make lab` runs these; see `tests/lab/run.sh`.
//!
//! The power cut runs outside of the virtual machine, since it ends it; the others run inside, as root.

#![allow(clippy::print_stdout, reason = "what was done is told")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod storage;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use storage::{Told, check, random, state_of, work_as_child, worker};

/// Folder with `vmlinuz` and `initrd` of the small machine.
const MACHINE_VARIABLE: &str = "LIMEN_LAB_MACHINE";
/// How often its power is cut; 20 in what docs/performance.md reports.
const CUTS_VARIABLE: &str = "LIMEN_LAB_CUTS";
/// A machine of emulated instructions on a busy host.
const BOOT: Duration = Duration::from_secs(240);

/// Ends what it holds when it goes out of scope, whatever the test does.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Already dead is as good; there is nothing else to do about an error here.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Brings an image's journal to its end, as mounting it would. A file system that needs more than that is damaged.
fn settle(image: &str) {
    // Exit code 1: the journal was played back.
    let played = Command::new("/usr/sbin/e2fsck").args(["-p", image]).output().unwrap();
    assert!(played.status.code().is_some_and(|code| code <= 1), "{played:?}");
    let clean = Command::new("/usr/sbin/e2fsck").args(["-f", "-n", image]).output().unwrap();
    assert_eq!(clean.status.code(), Some(0), "{}", String::from_utf8_lossy(&clean.stdout));
}

fn lines_of(reader: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    lines
}

/// Boots the machine on an image, lets it work, and cuts its power at some moment.
fn cut(machine: &Path, image: &str, seed: usize, moment: Duration, told: &mut Told) {
    let part = |name: &str| machine.join(name).display().to_string();
    let append = format!("console=ttyS0 quiet panic=-1 seed={seed}");
    let drive = format!("file={image},if=virtio,format=raw,cache=writeback");
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio", "-kernel", &part("vmlinuz"), "-initrd", &part("initrd")])
        .args(["-append", &append, "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut emulator = Ended(child);
    let lines = lines_of(emulator.0.stdout.take().unwrap());
    let mut said = Vec::new();
    let until = Instant::now() + BOOT;
    loop {
        let line = lines
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .unwrap_or_else(|error| panic!("the machine does not get to work ({error}): {said:#?}"));
        told.hear(&line);
        if line.contains("working") {
            break;
        }
        said.push(line);
    }
    let until = Instant::now() + moment;
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => told.hear(&line),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => panic!("the machine ended by itself: {:?}", told.failed),
        }
    }
    emulator.0.kill().unwrap();
    emulator.0.wait().unwrap();
    // What reached the line before the end was told.
    lines.iter().for_each(|line| told.hear(&line));
}

#[test]
#[ignore = "needs the kernel lab, outside of it"]
fn power_cut_at_any_moment_loses_nothing_acknowledged() {
    let machine = PathBuf::from(std::env::var_os(MACHINE_VARIABLE).expect("tests/lab/run.sh sets it"));
    let cuts: usize = std::env::var(CUTS_VARIABLE).map_or(4, |text| text.parse().unwrap());
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("image").display().to_string();
    run("truncate", &["-s", "64M", &image]);
    run("/usr/sbin/mkfs.ext4", &["-q", "-F", &image]);
    let (mut told, mut moments) = (Told::default(), random(std::process::id().into()));
    let mut lost = 0;
    for number in 0..cuts {
        let moment = Duration::from_millis(moments.next().unwrap() % 6_000);
        cut(&machine, &image, number, moment, &mut told);
        settle(&image);
        let copy = temp.path().join(format!("copy-{number}"));
        std::fs::create_dir(&copy).unwrap();
        let command = format!("rdump / {}", copy.display());
        run("/usr/sbin/debugfs", &["-R", &command, &image]);
        let state = copy.join("state");
        std::os::unix::fs::chown(&state, Some(rustix::process::geteuid().as_raw()), None).unwrap();
        check(&state_of(&state), &told, number);
        // Lines that were written without waiting for the disk, until the end: a cut that loses nothing of the
        // machine's memory would show nothing.
        let kept = std::fs::read_to_string(copy.join(format!("unsynced-{number}"))).unwrap_or_default();
        lost += usize::from(kept.lines().count() < told.unsynced);
    }
    println!(
        "{cuts} power cuts: {told} acknowledged, all there; of a file that was not synced the end was lost in {lost}"
    );
    assert_eq!(told.failed, Vec::<String>::new());
    assert!(told.enrolled.len() > cuts, "it hardly worked");
    assert!(lost > 0, "no cut lost what was in memory only");
}

#[test]
#[ignore = "child of the tests in this file"]
fn child_works_without_end() {
    work_as_child();
}

/// A file system of its own on a device that can be told to fail; gone when dropped.
struct Disk {
    folder: tempfile::TempDir,
    name: String,
    device: String,
    sectors: u64,
}

impl Disk {
    fn new(name: &str, megabytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image").display().to_string();
        run("truncate", &["-s", &format!("{megabytes}M"), &image]);
        run("modprobe", &["loop"]);
        run("modprobe", &["dm-flakey"]);
        run("modprobe", &["ext4"]);
        let device = run("/usr/sbin/losetup", &["--find", "--show", &image]).trim().to_owned();
        let disk = Self { folder, name: format!("limen-{name}"), device, sectors: megabytes * 2048 };
        run("/usr/sbin/dmsetup", &["create", "--noudevsync", &disk.name, "--table", &disk.table(false)]);
        // As boards have it. With smaller blocks, which small file systems get by themselves, a full disk can end the
        // program: SQLite's shared memory is a file whose blocks are not all there. `limen doctor` warns of that.
        run("/usr/sbin/mkfs.ext4", &["-q", "-b", "4096", &disk.path()]);
        std::fs::create_dir(disk.mountpoint()).unwrap();
        disk.mount();
        disk
    }

    fn table(&self, fails: bool) -> String {
        let (sectors, device) = (self.sectors, &self.device);
        match fails {
            false => format!("0 {sectors} linear {device} 0"),
            true => format!("0 {sectors} flakey {device} 0 0 3600 1 error_writes"),
        }
    }

    /// From now on every write fails, or none does.
    fn fail(&self, fails: bool) {
        run("/usr/sbin/dmsetup", &["reload", &self.name, "--table", &self.table(fails)]);
        // What waits in memory must not be written first: that would be a disk that still works.
        run("/usr/sbin/dmsetup", &["suspend", "--noudevsync", "--noflush", "--nolockfs", &self.name]);
        run("/usr/sbin/dmsetup", &["resume", "--noudevsync", &self.name]);
    }

    fn path(&self) -> String {
        // Nobody makes names for devices there.
        let arguments = ["info", "--columns", "--noheadings", "-o", "blkdevname", &self.name];
        format!("/dev/{}", run("/usr/sbin/dmsetup", &arguments).trim())
    }

    fn mountpoint(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&self) {
        run("mount", &["-t", "ext4", &self.path(), self.mountpoint().to_str().unwrap()]);
    }

    fn unmount(&self) {
        run("umount", &[self.mountpoint().to_str().unwrap()]);
    }

    fn state(&self) -> PathBuf {
        self.mountpoint().join("state")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Each fails only where the step before it does; the machine ends soon.
        let _ = Command::new("umount").arg(self.mountpoint()).status();
        let _ = Command::new("/usr/sbin/dmsetup").args(["remove", "--noudevsync", &self.name]).status();
        let _ = Command::new("/usr/sbin/losetup").args(["--detach", &self.device]).status();
    }
}

/// How a child ended, and what it complained of.
fn end_of(mut child: Ended, complaints: &Path) -> String {
    let status = child.0.wait().unwrap();
    format!("{status}; {}", std::fs::read_to_string(complaints).unwrap_or_default())
}

/// A child at work, and what it tells. What it complains of goes to a file beside the file system that fails.
fn child(state: &Path, seed: usize, complaints: &Path) -> (Ended, Receiver<String>) {
    let mut child = worker(state, seed)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(complaints).unwrap())
        .spawn()
        .unwrap();
    let lines = lines_of(child.stdout.take().unwrap());
    (Ended(child), lines)
}

/// Hears a child until it ends by itself, `at` being called once after `moment`.
fn hear_until_the_end(lines: &Receiver<String>, told: &mut Told, moment: Duration, at: impl FnOnce()) {
    let (begun, mut at) = (Instant::now(), Some(at));
    let until = begun + BOOT;
    loop {
        if begun.elapsed() >= moment
            && let Some(at) = at.take()
        {
            at();
        }
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => told.hear(&line),
            Err(RecvTimeoutError::Timeout) => assert!(Instant::now() < until, "it goes on and on"),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[test]
#[ignore = "needs the kernel lab, inside of it"]
fn disk_whose_writes_fail_loses_nothing_acknowledged() {
    let disk = Disk::new("failing", 48);
    let (mut told, mut moments) = (Told::default(), random(std::process::id().into()));
    for round in 0..6 {
        let complaints = disk.folder.path().join("complaints");
        let (child, lines) = child(&disk.state(), round, &complaints);
        let moment = Duration::from_millis(1_500 + moments.next().unwrap() % 1_500);
        hear_until_the_end(&lines, &mut told, moment, || disk.fail(true));
        let end = end_of(child, &complaints);
        assert_eq!(
            told.failed.len(),
            round + 1,
            "each round ends by an error that is told, this one by {end}"
        );
        // As a disk that is replugged: what did not reach it is gone.
        disk.fail(false);
        disk.unmount();
        settle(&disk.path());
        disk.mount();
        check(&state_of(&disk.state()), &told, round);
    }
    println!("6 failures of the disk: {told} acknowledged, all there; it said: {}", told.failed[0]);
    assert!(told.enrolled.len() > 3, "it hardly worked");
}

#[test]
#[ignore = "needs the kernel lab, inside of it"]
fn disk_that_is_full_loses_nothing_acknowledged() {
    let disk = Disk::new("full", 24);
    let mut told = Told::default();
    let filler = disk.mountpoint().join("filler");
    for round in 0..8 {
        let complaints = disk.folder.path().join("complaints");
        let (child, lines) = child(&disk.state(), round, &complaints);
        hear_until_the_end(&lines, &mut told, Duration::from_millis(1_500), || {
            // Until there is no room for another byte.
            let filled = Command::new("dd")
                .args(["if=/dev/zero", "bs=4k", &format!("of={}", filler.display())])
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert!(!filled.success());
        });
        let end = end_of(child, &complaints);
        assert_eq!(
            told.failed.len(),
            round + 1,
            "each round ends by an error that is told, this one by {end}"
        );
        std::fs::remove_file(&filler).unwrap();
        check(&state_of(&disk.state()), &told, round);
    }
    println!("8 times full: {told} acknowledged, all there; it said: {}", told.failed[0]);
    assert!(told.enrolled.len() > 2, "it hardly worked");
}
