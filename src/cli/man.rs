//! `limen man`, which packages call: the manual pages, made from the command line itself.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Command;

/// One page for `command` and one for each of its commands, all in section 1.
pub(super) fn write(command: Command, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("cannot write manual pages to {}", folder.display()))
}
