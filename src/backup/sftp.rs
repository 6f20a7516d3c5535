//! Backups on another machine, by OpenSSH's own `sftp`: its keys, its known hosts, its ciphers.
//!
//! A file is sent under a name of its own, fetched back and compared, and renamed only then. What is told to
//! `sftp` are names that this program made and a folder that stands in the configuration. Nobody can answer a
//! question, so none is asked: the host has to be known, and the key must have no passphrase.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::Config;
use crate::vault::credentials_directory;

/// Name of the systemd credential that may hold the private key.
const CREDENTIAL: &str = "limen.sftp";
/// What one session may take: a slow line and gigabytes.
const PATIENCE: Duration = Duration::from_secs(4 * 3_600);
/// How often is looked whether somebody wants it to end.
const TICK: Duration = Duration::from_millis(100);
/// Of what `sftp` says, at most.
const MAX_SAID: u64 = 256 << 10;
const DEFAULT_PORT: u16 = 22;

/// Why a place is none, or cannot be reached.
#[derive(Debug, Error)]
pub enum SftpError {
    /// The text names no place.
    #[error(
        "`{0}` is no place for backups: write it like sftp://backup@nas.local/volume/limen, with letters, digits and ./_- only"
    )]
    Place(String),
    /// There is no such program.
    #[error("`sftp` does not start: {0}; install the package openssh-client")]
    NoProgram(std::io::Error),
    /// It ended with an error.
    #[error("sftp to {place}: {said}{advice}")]
    Failed {
        /// Where to.
        place: String,
        /// What it said last.
        said: String,
        /// What to do, where that is known.
        advice: &'static str,
    },
    /// What came back is not what was sent.
    #[error("{place} gave back other bytes than were sent there: its storage may be failing")]
    Changed {
        /// Where to.
        place: String,
    },
    /// A file of this device cannot be used.
    #[error("cannot compare what was sent: {0}")]
    Io(#[from] std::io::Error),
    /// Somebody wanted it to end.
    #[error("cancelled")]
    Cancelled,
}

/// A folder on another machine, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpPlace {
    user: String,
    host: String,
    port: u16,
    folder: String,
    identity: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sftp://{}@{}", self.user, self.host)?;
        if self.port != DEFAULT_PORT {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "{}", self.folder)
    }
}

impl SftpPlace {
    /// Of `sftp://USER@HOST[:PORT]/FOLDER`.
    pub fn parse(text: &str) -> Result<Self, SftpError> {
        let wrong = || SftpError::Place(text.chars().filter(|letter| !letter.is_control()).collect());
        let (whole, folder) =
            text.strip_prefix("sftp://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let (user, address) = whole.split_once('@').ok_or_else(wrong)?;
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?),
            None => (address, DEFAULT_PORT),
        };
        // They are arguments and lines of another program: nothing that means something there.
        let plain = |text: &str, more: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
        };
        if !plain(user, "._-") || !plain(host, ".-") || !plain(folder, "./_-") {
            return Err(wrong());
        }
        Ok(Self {
            user: user.to_owned(),
            host: host.to_owned(),
            port,
            folder: format!("/{folder}"),
            identity: None,
            known_hosts: None,
        })
    }

    /// As configured; none where no place is named. The configuration has been checked.
    pub fn new(config: &Config) -> Option<Self> {
        let place = Self::parse(config.backup.sftp.as_deref()?).ok()?;
        let credential = || {
            let path = credentials_directory()?.join(CREDENTIAL);
            path.is_file().then_some(path)
        };
        Some(Self {
            identity: config.backup.sftp_identity_file.clone().or_else(credential),
            known_hosts: config.backup.sftp_known_hosts_file.clone(),
            ..place
        })
    }

    /// Sends a file, fetches it back into `fetched`, and gives it its name where both are the same. Of the names
    /// there then, those that `old` picks are removed.
    pub(super) fn keep(
        &self,
        file: &Path,
        name: &str,
        fetched: &Path,
        old: impl Fn(Vec<String>) -> Vec<String>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<(), SftpError> {
        let part = format!("{name}.part");
        let (from, back) = (quoted(file)?, quoted(fetched)?);
        self.run(&format!("put {from} {part}\nget {part} {back}\n"), is_cancelled)?;
        if !same(file, fetched)? {
            return Err(SftpError::Changed { place: self.to_string() });
        }
        let said = self.run(&format!("rename {part} {name}\nls -1\n"), is_cancelled)?;
        let there: Vec<String> = said.lines().map(|line| line.trim().to_owned()).collect();
        let gone: String = old(there).iter().map(|name| format!("rm {name}\n")).collect();
        if !gone.is_empty() {
            self.run(&gone, is_cancelled)?;
        }
        Ok(())
    }

    /// Runs a few commands in the folder; what they print. The first that fails ends it.
    fn run(&self, commands: &str, is_cancelled: &dyn Fn() -> bool) -> Result<String, SftpError> {
        let mut sftp = Command::new("sftp");
        // Nothing of the account's own configuration, which may be nobody's.
        sftp.args(["-F", "none", "-b", "-", "-P", &self.port.to_string()]);
        for option in [
            "LogLevel=ERROR",
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "ConnectTimeout=20",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
        ] {
            sftp.args(["-o", option]);
        }
        if let Some(file) = &self.known_hosts {
            sftp.arg("-o").arg(format!("UserKnownHostsFile={}", quoted(file)?));
        }
        if let Some(file) = &self.identity {
            sftp.arg("-i").arg(file);
        }
        sftp.arg(format!("{}@{}", self.user, self.host));
        sftp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = sftp.spawn().map_err(SftpError::NoProgram)?;
        let outputs = (child.stdout.take(), child.stderr.take());
        let said = std::thread::scope(|scope| {
            let read = |pipe: Option<Box<dyn Read + Send>>| {
                scope.spawn(move || {
                    let mut text = Vec::new();
                    if let Some(mut pipe) = pipe {
                        // What is beyond is read too, so that the program is not held up by a full pipe.
                        let _ = pipe.by_ref().take(MAX_SAID).read_to_end(&mut text);
                        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
                    }
                    String::from_utf8_lossy(&text).into_owned()
                })
            };
            let said = read(outputs.0.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
            let complained = read(outputs.1.map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
            if let Some(mut stdin) = child.stdin.take() {
                // One that ended at once says why below.
                let _ = write!(stdin, "cd {}\n{commands}", self.folder);
            }
            let ended = wait(&mut child, is_cancelled);
            let text = |thread: std::thread::ScopedJoinHandle<'_, String>| thread.join().unwrap_or_default();
            let (said, complained) = (text(said), text(complained));
            match ended? {
                status if status.success() => Ok(said),
                _ => Err(self.failed(&complained)),
            }
        })?;
        // Batches repeat each command behind a prompt.
        Ok(said.lines().filter(|line| !line.starts_with("sftp> ")).collect::<Vec<_>>().join("\n"))
    }

    fn failed(&self, complained: &str) -> SftpError {
        let lines: Vec<&str> = complained
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('@'))
            .collect();
        let told = lines.iter().rev().find(|line| !line.starts_with("Connection closed")).or(lines.last());
        let said: String =
            told.map_or("it ended without a word".to_owned(), |line| line.chars().take(300).collect());
        let advice = if complained.contains("Host key verification failed") {
            "; put the host's key, as `ssh-keyscan` prints it and as you checked it, into backup.sftp_known_hosts_file"
        } else if complained.contains("Permission denied") {
            "; look whether the public half of backup.sftp_identity_file is among that account's authorized keys, and whether it may write to the folder"
        } else {
            ""
        };
        SftpError::Failed { place: self.to_string(), said, advice }
    }
}

fn wait(child: &mut Child, is_cancelled: &dyn Fn() -> bool) -> Result<std::process::ExitStatus, SftpError> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if is_cancelled() || Instant::now() >= until {
            // It may have ended meanwhile.
            let _ = child.kill();
            child.wait()?;
            return Err(SftpError::Cancelled);
        }
        std::thread::sleep(TICK);
    }
}

/// A path as `sftp` and `ssh` read it as one word.
fn quoted(path: &Path) -> Result<String, SftpError> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\', '\n', '\r', '*', '?', '[', '%', '$']));
    text.map(|text| format!("\"{text}\"")).ok_or_else(|| SftpError::Place(path.display().to_string()))
}

fn same(a: &Path, b: &Path) -> Result<bool, SftpError> {
    let (mut a, mut b) = (std::fs::File::open(a)?, std::fs::File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_read_and_nothing_else_passes() {
        let place = SftpPlace::parse("sftp://backup@nas.local:2222/volume/limen").unwrap();
        assert_eq!((place.user.as_str(), place.host.as_str(), place.port), ("backup", "nas.local", 2222));
        assert_eq!(place.to_string(), "sftp://backup@nas.local:2222/volume/limen");
        assert_eq!(SftpPlace::parse("sftp://a@h/b").unwrap().to_string(), "sftp://a@h/b");
        for wrong in [
            "",
            "nas.local",
            "sftp://nas.local/x",
            "sftp://a@h",
            "sftp://a@h/",
            "sftp://-oProxyCommand=x@h/b",
            "sftp://a@-h/b",
            "sftp://a@h:0/b",
            "sftp://a@h:x/b",
            "sftp://a@h/b c",
            "sftp://a@h/b\nrm x",
            "sftp://a@h/b\"",
            "sftp://a@h/*",
            "scp://a@h/b",
        ] {
            assert!(SftpPlace::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_that_differ_anywhere_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let long = vec![7; 200_000];
        let mut other = long.clone();
        other[199_999] = 8;
        let a = file("a", &long);
        assert!(same(&a, &file("b", &long)).unwrap());
        assert!(!same(&a, &file("c", &other)).unwrap());
        assert!(!same(&a, &file("d", &long[1..])).unwrap());
    }
}
