//! `limen restore`.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use limen::admin::accounts::ACCOUNTS_FILE;
use limen::backup::{MAX_PASSPHRASE_BYTES, restore};
use serde_json::json;
use zeroize::Zeroizing;

use super::output::Output;
use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen restore limen-1795500000000.backup
  limen restore /mnt/stick/limen-door-20261127T031200Z.backup
  limen restore --passphrase-file /run/secrets/backup door.backup --state /var/lib/limen

The passphrase, or the recovery key of a backup that the device made by itself, is read from standard
input, one line, unless a file is given. The state folder
must have no gallery and no accounts. The restored device has a root key of its own.")]
pub(super) struct RestoreArguments {
    /// A backup
    file: PathBuf,
    /// Read the passphrase from this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Another backup under the same passphrase, which says who was erased since; those in the folder of FILE
    /// are asked anyway
    #[arg(long, value_name = "FILE")]
    erasures: Vec<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: &RestoreArguments) -> Result<Answer> {
    let output = &context.output;
    let passphrase = read_passphrase(output, arguments.passphrase_file.as_deref())?;
    let (state, key, _) = context.unrestored()?;
    let restored = restore(&arguments.file, &passphrase, &arguments.erasures, &state, &key)?;
    output.result(&json!(restored), || {
        format!("restored {} into {}", restored.files.join(" and "), state.path().display())
    })?;
    context.audited("restore", String::new());
    if restored.pictures_missing > 0 {
        output.warning(&format!(
            "{} pictures are not in the backup or damaged in it: their subjects are recognised all the same",
            restored.pictures_missing
        ));
    }
    if restored.erased_again > 0 {
        output.note(&format!(
            "{} people of this backup were erased since, as later backups say, and were erased again",
            restored.erased_again
        ));
    }
    if restored.files.iter().any(|file| file == ACCOUNTS_FILE) {
        output.note(
            "accounts and API tokens are those of the backup: look on the page Users for any that should be \
             gone by now; sessions, invitations and the setup code did not come back",
        );
    }
    Ok(Answer::Yes)
}

/// The passphrase or recovery key of a backup, from a file or from standard input.
pub(super) fn read_passphrase(output: &Output, file: Option<&Path>) -> Result<Zeroizing<String>> {
    match file {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
            first_line(std::io::BufReader::new(file)).with_context(|| format!("reading {}", path.display()))
        }
        None => {
            if std::io::stdin().is_terminal() {
                output.note(
                    "the passphrase or recovery key of the backup, and return (it is shown as you type):",
                );
            }
            first_line(std::io::stdin().lock()).context("reading the passphrase")
        }
    }
}

fn first_line(reader: impl BufRead) -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(MAX_PASSPHRASE_BYTES + 2));
    reader.take(MAX_PASSPHRASE_BYTES as u64 + 2).read_line(&mut line)?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    ensure!(!line.is_empty(), "there is no passphrase");
    Ok(line)
}
