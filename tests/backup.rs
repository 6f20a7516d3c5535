//! Backups as an operator meets them: `limen backup`, a folder, and another machine over SFTP, which is
//! OpenSSH's own server on loopback.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use program::{Program, portrait};

/// An SSH server of its own; ended when dropped.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ran(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn make_key(path: &Path) {
    ran(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make_key(&path("host"));
        make_key(&path("client"));
        std::fs::create_dir(path("kept")).unwrap();
        std::fs::copy(path("client.pub"), path("authorized")).unwrap();
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shown = folder.path().display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nPidFile none\n\
             AuthorizedKeysFile {shown}/authorized\nStrictModes no\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
        );
        std::fs::write(path("config"), config).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where a server that root starts leaves its rights behind.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path("config"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the server does not answer: {}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn known_hosts(&self) -> std::path::PathBuf {
        let key = std::fs::read_to_string(self.path("host.pub")).unwrap();
        let path = self.path("known");
        std::fs::write(&path, format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
        path
    }

    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("kept")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A device that sends its backups here.
    fn device(&self) -> Program {
        let user = ran(Command::new("id").arg("-un"));
        let place = format!("sftp://{}@127.0.0.1:{}{}", user.trim(), self.port, self.path("kept").display());
        Program::new()
            .with("LIMEN_DEVICE__NAME", "Door")
            .with("LIMEN_BACKUP__KEEP", "1")
            .with("LIMEN_BACKUP__SFTP", place)
            .with("LIMEN_BACKUP__SFTP_IDENTITY_FILE", self.path("client"))
            .with("LIMEN_BACKUP__SFTP_KNOWN_HOSTS_FILE", self.known_hosts())
    }
}

#[test]
fn backup_goes_to_another_machine_and_comes_back_on_a_new_device() {
    let server = Server::start();
    let device = server.device();
    device.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
    std::fs::write(server.path("kept").join("limen-door-19990101T000000Z.backup"), "old").unwrap();
    std::fs::write(server.path("kept").join("notes.txt"), "not ours").unwrap();
    let made = device.json(0, &["backup", "now"]);
    let file = made["file"].as_str().unwrap().to_owned();
    assert_eq!((made["subjects"].as_u64(), made["pictures"].as_u64()), (Some(1), Some(1)));
    assert_eq!(server.kept(), [file.as_str(), "notes.txt"], "{}", server.log());
    let told = |device: &Program| {
        let report = device.run(&["doctor", "--json"]).out;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|finding| finding["check"] == "backup").unwrap()
    };
    assert_eq!(told(&device)["level"], "ok", "{}", told(&device));

    let key = device.json(0, &["backup", "key"]);
    let new = Program::new();
    std::fs::write(new.path("key"), key["recovery_key"].as_str().unwrap().to_lowercase()).unwrap();
    let backup = server.path("kept").join(&file);
    let backup = backup.to_str().unwrap();
    let found = device.json(0, &["backup", "verify", backup]);
    assert_eq!(found["pictures"], 1);
    new.ends(0, &["restore", backup, "--passphrase-file", &new.path("key")]);
    assert_eq!(new.enrolled(), [("Joe".to_owned(), 1)]);
    assert_eq!(new.json(0, &["backup", "key"])["id"], key["id"]);
    // A backup has nothing to read in it.
    let bytes = std::fs::read(backup).unwrap();
    assert!(!bytes.windows(3).any(|some| some == b"\xff\xd8\xff" || some == b"Joe"));
}

#[test]
fn host_that_is_not_known_or_does_not_let_in_gets_nothing() {
    let server = Server::start();
    let device = server.device();
    device.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
    // Somebody else's key stands under that name.
    make_key(&server.path("other"));
    let other = std::fs::read_to_string(server.path("other.pub")).unwrap();
    let known = server.known_hosts();
    std::fs::write(&known, format!("[127.0.0.1]:{} {other}", server.port)).unwrap();
    device
        .ends(1, &["backup", "now"])
        .says(&["Host key verification failed", "backup.sftp_known_hosts_file"]);
    server.known_hosts();
    std::fs::write(server.path("authorized"), other).unwrap();
    device.ends(1, &["backup", "now"]).says(&["Permission denied", "authorized keys"]);
    assert!(server.kept().is_empty());
    assert!(device.ends(3, &["doctor"]).out.contains("the last one failed: sftp to"));
    let state = std::fs::read_dir(device.state()).unwrap();
    let left: Vec<_> = state.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.contains("backup.") && name.ends_with("copy") || name.contains("outgoing")),
        "{left:?}"
    );
}

#[test]
fn folder_is_filled_listed_and_checked() {
    let device = Program::new();
    let to = device.path("stick");
    let device = device.with("LIMEN_BACKUP__FOLDER", to.clone());
    device.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
    device.ends(1, &["backup", "now"]).says(&["stick", "mount"]);
    std::fs::create_dir(&to).unwrap();
    let made = device.json(0, &["backup", "now"]);
    let file = Path::new(&to).join(made["file"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = device.ends(0, &["backup", "list", "--json"]).json_lines();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["recovery_key"], made["recovery_key"]);
    device.ends(0, &["backup", "verify", file.to_str().unwrap()]);
    let renewed = device.json(0, &["backup", "key", "--renew"]);
    assert_ne!(renewed["id"], made["recovery_key"]);
    device
        .ends(1, &["backup", "verify", file.to_str().unwrap()])
        .says(&[made["recovery_key"].as_str().unwrap()]);
    std::fs::File::options().append(true).open(&file).unwrap().write_all(b"more").unwrap();
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
}

#[test]
fn settings_for_backups_are_checked() {
    let device = Program::new().with("LIMEN_BACKUP__SFTP", "nas.local:/volume");
    device.ends(2, &["config", "check"]).says(&["backup.sftp", "sftp://"]);
    let device = Program::new().with("LIMEN_BACKUP__FOLDER", "stick");
    device.ends(2, &["config", "check"]).says(&["backup.folder"]);
}

#[test]
fn nothing_else_works_on_a_folder_where_a_restore_was_cut_off() {
    let device = Program::new();
    device.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
    std::fs::write(device.state().join("restore.unfinished"), "").unwrap();
    device.ends(1, &["subjects", "list"]).says(&["limen restore"]);
}
