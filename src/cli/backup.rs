//! `limen backup`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use limen::backup::{BackupPlan, BackupSource, backups_in, verify};
use limen::clock::{Clock, SystemClock, rfc3339};
use limen::jobs::{JobKind, JobState, Jobs};
use limen::vault::KeyRing;
use serde_json::json;
use zeroize::Zeroizing;

use super::restore::read_passphrase;
use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen backup key                 # write it down, and keep it away from the device
  limen backup now
  limen backup list
  limen backup verify /mnt/stick/limen-door-20261127T031200Z.backup

Where backups go is configured: backup.folder, backup.sftp. The service makes one every
backup.every_hours; all of this may run beside it.")]
pub(super) struct BackupArguments {
    #[command(subcommand)]
    action: BackupAction,
}

#[derive(Subcommand)]
enum BackupAction {
    /// Print the recovery key, under which the device's own backups are encrypted
    Key {
        /// Make a new one: backups made until now stay under the old one
        #[arg(long)]
        renew: bool,
    },
    /// Make a backup now, and check it
    Now,
    /// List the backups in the configured folder, newest first
    List,
    /// Open a backup and check all of it; nothing is put back
    Verify {
        /// The backup
        file: PathBuf,
        /// Read the passphrase or recovery key from this file; without it, the device's own recovery key is tried
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Read the passphrase or recovery key from standard input
        #[arg(long, conflicts_with = "passphrase_file")]
        passphrase: bool,
    },
}

pub(super) fn run(context: &Context, arguments: BackupArguments) -> Result<Answer> {
    let output = &context.output;
    let (state, key) = context.state()?;
    let source = BackupSource::new(state.clone(), KeyRing::new(key.clone()));
    match arguments.action {
        BackupAction::Key { renew } => {
            let recovery = source.recovery_key(renew)?;
            let text = recovery.text();
            context.audited(if renew { "renew_recovery_key" } else { "show_recovery_key" }, recovery.id());
            output.result(&json!({ "recovery_key": text.as_str(), "id": recovery.id() }), || {
                text.to_string()
            })?;
            output.note(&format!(
                "write it down and keep it away from the device: without it nobody can read the backups that the \
                 device makes by itself. Its id, which each of them names, is {}",
                recovery.id()
            ));
            if renew {
                output.note(
                    "backups made until now stay under the key before: keep that one, or throw them away",
                );
            }
        }
        BackupAction::Now => {
            let plan = BackupPlan::new(&context.config).ok_or_else(|| {
                anyhow!("no place for backups is configured: set backup.folder or backup.sftp")
            })?;
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let (jobs, now) = (Jobs::new(Arc::clone(&clock)), clock.wall());
            let job = jobs.start(JobKind::Backup, "command line".to_owned(), move |control| {
                source.run_plan(&plan, now, control)
            })?;
            let ended = jobs.wait(job.id);
            let Some(job) = ended.filter(|job| job.state == JobState::Done) else {
                let why = jobs.get(job.id).and_then(|job| job.message);
                bail!("the backup was not made: {}", why.unwrap_or_default());
            };
            context.audited("make_scheduled_backup", String::new());
            let result = job.result.unwrap_or_default();
            output.result(&result, || {
                format!(
                    "{}: {} bytes, {} subjects, {} pictures, opened and checked",
                    result["file"].as_str().unwrap_or_default(),
                    result["bytes"],
                    result["subjects"],
                    result["pictures"]
                )
            })?;
        }
        BackupAction::List => {
            let Some(folder) = context.config.backup.folder.as_deref() else {
                bail!("no folder for backups is configured: set backup.folder")
            };
            let ours = source.recovery_key(false)?.id();
            for backup in backups_in(folder)? {
                let under = match &backup.recovery_key {
                    None => "a passphrase".to_owned(),
                    Some(id) if *id == ours => "the recovery key".to_owned(),
                    Some(id) => format!("the recovery key with the id {id}"),
                };
                output.result(&json!(backup), || {
                    let (at, bytes) = (rfc3339(backup.made_at), backup.bytes);
                    format!("{at}  {bytes:>12} bytes  {}  under {under}", backup.path.display())
                })?;
            }
        }
        BackupAction::Verify { file, passphrase_file, passphrase } => {
            let secret = if passphrase || passphrase_file.is_some() {
                read_passphrase(output, passphrase_file.as_deref())?
            } else {
                Zeroizing::new(source.recovery_key(false)?.text().to_string())
            };
            let found = verify(&file, &secret, &state)?;
            output.result(&json!(found), || {
                format!(
                    "of {}, version {}: {} subjects, {} pictures, every page and picture is as it was written",
                    rfc3339(found.made_at),
                    found.version,
                    found.subjects,
                    found.pictures
                )
            })?;
            if found.pictures_missing > 0 {
                output.warning(&format!("{} pictures are missing in it or damaged", found.pictures_missing));
                return Ok(Answer::No);
            }
        }
    }
    Ok(Answer::Yes)
}
