//! The networks that the templates of this gallery were made with, kept in the state folder, so that recognition goes
//! on with them while an update's are new to it.
//!
//! A start with other networks finds that the gallery has pictures of which there is no template yet. Then everything
//! works with the networks that were kept, and a job makes the templates of the new ones beside it. When it has made
//! them all, the new networks take the place of those that were kept, and the program starts again with them. Without
//! pictures there is nothing to wait for, and the new ones are used at once.

use std::path::{Path, PathBuf};

use crate::embedding::EmbeddingSpaceId;
use crate::gallery::{GalleryError, GalleryStore};
use crate::models::{MANIFEST, ModelSet};
use crate::vault::{StateFolder, VaultError};

/// Folder in the state folder.
const FOLDER: &str = "networks";

/// Networks that are to follow those in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextNetworks {
    /// Where they are.
    pub folder: PathBuf,
    /// The space of their embeddings.
    pub space: EmbeddingSpaceId,
}

/// Where the networks are that go on working until those configured, `models`, have their templates; none where these
/// can be used at once.
pub fn go_on_with(
    state: &StateFolder,
    configured: &Path,
    models: &ModelSet,
    gallery: &GalleryStore,
) -> Result<Option<PathBuf>, GalleryError> {
    let space = &models.manifest.embedder.embedding_space;
    let folder = state.path().join(FOLDER);
    if are_kept(&folder, configured) {
        return Ok(None);
    }
    // Networks that are not whole are none.
    let Ok(kept) = ModelSet::load(&folder) else { return Ok(None) };
    let before = &kept.manifest.embedder.embedding_space;
    if before == space || gallery.staleness(space)?.renewable == 0 {
        return Ok(None);
    }
    Ok((gallery.load_snapshot(before)?.report().templates > 0).then_some(folder))
}

/// Whether the networks in these two folders are the same: their manifests have the files' digests.
fn are_kept(kept: &Path, folder: &Path) -> bool {
    let manifest = |folder: &Path| std::fs::read(folder.join(MANIFEST)).ok();
    manifest(kept).is_some_and(|kept| Some(kept) == manifest(folder))
}

/// Keeps the networks in `folder`, `models`, in the place of those kept until now. Without them the next update makes
/// templates while nobody is recognised by those of now.
pub fn keep(state: &StateFolder, folder: &Path, models: &ModelSet) -> Result<(), KeepError> {
    let kept = state.path().join(FOLDER);
    if are_kept(&kept, folder) {
        return Ok(());
    }
    let manifest = std::fs::read(folder.join(MANIFEST))?;
    let new = state.path().join(format!("{FOLDER}.new"));
    for old in [&new, &kept] {
        match std::fs::remove_dir_all(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let to = state.subfolder(&format!("{FOLDER}.new"))?;
    for (name, bytes) in models.contents() {
        to.replace(name, bytes)?;
    }
    // Last: what has no manifest is no set of networks.
    to.replace(MANIFEST, &manifest)?;
    state.rename(&format!("{FOLDER}.new"), FOLDER)?;
    Ok(())
}

/// Why networks could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The state folder cannot be written.
    #[error(transparent)]
    State(#[from] VaultError),
    /// A file cannot be read or removed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
