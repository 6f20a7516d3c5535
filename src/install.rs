//! Where the parts of an installation lie when the configuration does not say.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::models::MANIFEST;

const SHARED_MODELS: &str = "/usr/share/limen/models";
const SHARED_LIBRARY: &str = "/usr/lib/limen/libLiteRt.so";

fn beside_executable(name: &str) -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.join(name))
}

/// The folder with the model manifest: as configured, else `models` beside the executable, else
/// the shared one. The last is returned even if it is not there, for the error to name.
pub fn models_folder(config: &Config) -> PathBuf {
    let has_manifest = |folder: &PathBuf| folder.join(MANIFEST).is_file();
    config
        .models
        .folder
        .clone()
        .or_else(|| beside_executable("models").filter(has_manifest))
        .unwrap_or_else(|| SHARED_MODELS.into())
}

/// The runtime library: as configured, else beside the executable, else the shared one. A bare name
/// is never handed to the dynamic linker, which would search folders that others may write to.
pub fn litert_library(config: &Config) -> PathBuf {
    config
        .litert
        .library
        .clone()
        .or_else(|| beside_executable("libLiteRt.so").filter(|path| Path::is_file(path)))
        .unwrap_or_else(|| SHARED_LIBRARY.into())
}
