//! Files that only this program may read: user name and password, the client's private key.
//!
//! They are read anew for every connection, so that a renewed certificate or password needs no
//! restart. Blocking: called where that is allowed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use thiserror::Error;
use zeroize::Zeroizing;

use super::link::Login;

/// Name of the systemd credential.
pub(super) const CREDENTIAL_NAME: &str = "limen.mqtt";
/// Longest user name and password, each; the protocol's own limit.
const FIELD_BYTES: usize = 65_535;
/// Largest file of any kind here.
const FILE_BYTES: u64 = 1024 * 1024;

/// Why a file cannot be used. Holds nothing of its contents.
#[derive(Debug, Error)]
pub(crate) enum SecretError {
    #[error("cannot read {}: {source}; {remedy}", path.display())]
    Io { path: PathBuf, source: io::Error, remedy: &'static str },
    #[error("{} {found}; {remedy}", path.display())]
    Unfit { path: PathBuf, found: String, remedy: &'static str },
}

/// Reads a file whose contents others must not know.
pub(crate) fn read_private(path: &Path, setting: &'static str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (file, mode) = open(path, setting)?;
    if mode & 0o027 != 0 {
        return Err(SecretError::Unfit {
            path: path.into(),
            found: format!("has mode {mode:04o}, so others can use it"),
            remedy: "treat what is in it as known to them, or set mode 0600, or 0640 with the group of this program",
        });
    }
    read(file, path, setting)
}

/// Reads a file that anybody may read.
pub(crate) fn read_public(path: &Path, setting: &'static str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let (file, _) = open(path, setting)?;
    read(file, path, setting)
}

/// Opens a regular file, whatever lies there: neither a pipe nor a device holds the program up.
fn open(path: &Path, setting: &'static str) -> Result<(File, u32), SecretError> {
    let io = |error: rustix::io::Errno| SecretError::Io {
        path: path.into(),
        source: error.into(),
        remedy: setting,
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(io)?;
    let stat = rustix::fs::fstat(&file).map_err(io)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let found = "is not a regular file".to_owned();
        return Err(SecretError::Unfit { path: path.into(), found, remedy: setting });
    }
    Ok((File::from(file), stat.st_mode & 0o7777))
}

fn read(file: File, path: &Path, setting: &'static str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Allocated once: growing would leave copies behind.
    let size = file.metadata().map_or(0, |data| data.len()).min(FILE_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|source| SecretError::Io {
        path: path.into(),
        source,
        remedy: setting,
    })?;
    if bytes.len() as u64 > FILE_BYTES {
        let found = "is larger than 1 MiB".to_owned();
        return Err(SecretError::Unfit { path: path.into(), found, remedy: setting });
    }
    Ok(bytes)
}

/// User name and password: from the file the configuration names, else from systemd's credential in
/// `credentials`, else none.
pub(super) fn login(file: Option<&Path>, credentials: Option<&Path>) -> Result<Option<Login>, SecretError> {
    if let Some(path) = file {
        return parse(&read_private(path, "look at mqtt.credentials_file")?, path).map(Some);
    }
    let Some(path) = credentials.map(|folder| folder.join(CREDENTIAL_NAME)) else { return Ok(None) };
    match read_public(&path, "look at LoadCredential in the unit") {
        Ok(bytes) => parse(&bytes, &path).map(Some),
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether systemd has a credential for us in `credentials`.
pub(super) fn has_credential(credentials: Option<&Path>) -> bool {
    credentials.is_some_and(|folder| folder.join(CREDENTIAL_NAME).exists())
}

fn parse(bytes: &[u8], path: &Path) -> Result<Login, SecretError> {
    let unfit = |found: &str| SecretError::Unfit {
        path: path.into(),
        found: found.to_owned(),
        remedy: "write the user name in its first line, the password in its second, and nothing else",
    };
    let text = std::str::from_utf8(bytes).map_err(|_| unfit("is not UTF-8"))?;
    let mut lines = text.lines();
    let (Some(user), Some(password), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err(unfit("does not have two lines"));
    };
    if user.is_empty() || user.len() > FIELD_BYTES || password.len() > FIELD_BYTES {
        return Err(unfit("has an empty user name, or one of its lines is too long"));
    }
    if text.contains('\0') {
        return Err(unfit("has a NUL in it"));
    }
    Ok(Login { user: user.to_owned().into(), password: password.to_owned().into() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CREDENTIAL_NAME);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn said(result: Result<Option<Login>, SecretError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn two_lines_are_user_and_password() {
        for text in ["door\ns3cret\n", "door\ns3cret", "door\r\ns3cret\r\n"] {
            let (_folder, path) = write(text.as_bytes(), 0o600);
            let login = login(Some(&path), None).unwrap().unwrap();
            assert_eq!((login.user.as_str(), login.password.as_str()), ("door", "s3cret"));
        }
    }

    #[test]
    fn systemd_credential_is_taken_where_no_file_is_named() {
        let (folder, _) = write(b"door\ns3cret\n", 0o444);
        assert!(login(None, Some(folder.path())).unwrap().is_some());
        let empty = tempfile::tempdir().unwrap();
        assert!(login(None, Some(empty.path())).unwrap().is_none());
        assert!(login(None, None).unwrap().is_none());
    }

    #[test]
    fn files_that_others_can_use_are_refused() {
        for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false), (0o620, false), (0o601, false)] {
            let (_folder, path) = write(b"door\ns3cret\n", mode);
            assert_eq!(login(Some(&path), None).is_ok(), fine, "{mode:o}");
        }
    }

    #[test]
    fn bad_files_are_refused_without_repeating_them() {
        for text in [&b""[..], b"s3cret", b"a\ns3cret\nmore", b"\ns3cret", b"a\xff\ns3cret", b"a\ns3cret\0"] {
            let (_folder, path) = write(text, 0o600);
            let words = said(login(Some(&path), None));
            assert!(words.contains("first line") && !words.contains("s3cret"), "{words}");
        }
        let (folder, path) = write(b"", 0o600);
        assert!(said(login(Some(&path.with_extension("x")), None)).contains("mqtt.credentials_file"));
        assert!(said(login(Some(folder.path()), None)).contains("not a regular file"));
    }
}
