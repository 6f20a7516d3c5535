//! The state folder and the private files in it: a key is as safe as they are.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{VaultError, io_error};

/// The folder of everything this device keeps. Private to its owner.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: PathBuf,
    pub(super) owner: u32,
}

impl StateFolder {
    /// Makes the folder (mode 0700) where it is missing, with the folders above it, and refuses one
    /// that others could write to.
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        let made = std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(path);
        made.map_err(|source| VaultError::Io { what: "make the folder", path: path.into(), source })?;
        // Links above and including the folder are the operator's choice; SQLite refuses them later.
        let path = path.canonicalize().map_err(|source| VaultError::Io {
            what: "find the folder",
            path: path.into(),
            source,
        })?;
        let mut folder = Self { path, owner: 0 };
        let stat = rustix::fs::fstat(folder.open()?).map_err(io_error("examine", &folder.path))?;
        folder.refuse_shared(stat.st_mode & 0o7777)?;
        folder.owner = stat.st_uid;
        Ok(folder)
    }

    /// A folder in this one, as private, made where it is missing.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Self, VaultError> {
        let path = self.path.join(name);
        let made = match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(io_error("make the folder", &path)(error)),
        };
        let folder = Self { path, owner: self.owner };
        let opened = folder.open()?;
        if made {
            if rustix::process::geteuid().is_root() && self.owner != 0 {
                let owner = rustix::fs::Uid::from_raw(self.owner);
                rustix::fs::fchown(&opened, Some(owner), None)
                    .map_err(io_error("give away", &folder.path))?;
            }
            self.sync()?;
        }
        let mode = rustix::fs::fstat(&opened).map_err(io_error("examine", &folder.path))?.st_mode & 0o7777;
        folder.refuse_shared(mode)?;
        Ok(folder)
    }

    fn refuse_shared(&self, mode: u32) -> Result<(), VaultError> {
        if mode & 0o022 == 0 {
            return Ok(());
        }
        Err(VaultError::Unsafe {
            path: self.path.clone(),
            found: format!("has mode {mode:04o}, so others could swap the files in it"),
            remedy: "set mode 0700".into(),
        })
    }

    /// Where it is, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps other processes from making the same files. Goes with what is returned, also after a
    /// crash.
    pub(crate) fn lock(&self) -> Result<OwnedFd, VaultError> {
        let folder = self.open()?;
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).map_err(io_error("lock", &self.path))?;
        Ok(folder)
    }

    /// Keeps a second daemon away, by a lock on one of the folder's files. Goes with what is returned,
    /// also after a crash. Not the lock that SQLite takes: commands beside the daemon are welcome.
    pub(crate) fn claim(&self, file: &str) -> Result<OwnedFd, VaultError> {
        let path = self.path.join(file);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let claimed = rustix::fs::open(&path, flags, Mode::empty()).map_err(io_error("open", &path))?;
        match rustix::fs::flock(&claimed, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(claimed),
            Err(Errno::WOULDBLOCK) => Err(VaultError::Claimed { path: self.path.clone() }),
            Err(error) => Err(io_error("lock", &path)(error)),
        }
    }

    /// Writes a file of mode 0600 whole or not at all; on the disk when this returns.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
        let new = format!("{name}.new");
        let path = self.path.join(&new);
        // Left behind by a crash.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(VaultError::Io { what: "remove", path, source: error });
            }
            _ => {}
        }
        let mut file = self.create_file(&new)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| VaultError::Io {
            what: "write",
            path,
            source,
        })?;
        self.rename(&new, name)
    }

    /// Gives a file its final name; on the disk when this returns.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), VaultError> {
        let folder = self.open()?;
        rustix::fs::renameat(&folder, from, &folder, to).map_err(io_error("make", &self.path.join(to)))?;
        rustix::fs::fsync(&folder).map_err(io_error("sync", &self.path))
    }

    /// Puts the names of its files on the disk.
    pub(crate) fn sync(&self) -> Result<(), VaultError> {
        rustix::fs::fsync(self.open()?).map_err(io_error("sync", &self.path))
    }

    fn open(&self) -> Result<OwnedFd, VaultError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&self.path, flags, Mode::empty()).map_err(io_error("open the folder", &self.path))
    }

    /// Makes a file of mode 0600 that must not exist yet. Root acting in the folder of the service's
    /// account leaves the file to that account, which could not open it otherwise.
    pub(crate) fn create_file(&self, name: &str) -> Result<File, VaultError> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io_error("make", &path))?;
        if rustix::process::geteuid().is_root() && self.owner != 0 {
            let owner = rustix::fs::Uid::from_raw(self.owner);
            rustix::fs::fchown(&file, Some(owner), None).map_err(io_error("give away", &path))?;
        }
        Ok(File::from(file))
    }
}
