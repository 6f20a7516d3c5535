//! `limen key`.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use limen::rekey::rekey_offline;
use limen::vault::new_key_text;
use serde_json::json;

use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen key status
  limen key new | systemd-creds encrypt --with-key=host+tpm2 --name=limen.root-key - \\
      /etc/credstore.encrypted/limen.root-key
  systemctl stop limen && sudo -u limen limen key rotate && systemctl start limen

While the service runs, an owner changes the key with POST /api/jobs/rekey, and nothing stops.")]
pub(super) struct KeyArguments {
    #[command(subcommand)]
    action: KeyAction,
}

#[derive(Subcommand)]
enum KeyAction {
    /// Say where the root key comes from, and what that protects from
    Status,
    /// Print a new key, for a credential; nothing is changed
    New,
    /// Make a new key and encrypt everything under it, while the service does not run
    Rotate,
}

pub(super) fn run(context: &Context, arguments: &KeyArguments) -> Result<Answer> {
    let output = &context.output;
    match arguments.action {
        KeyAction::New => {
            let key = new_key_text()?;
            // To a pipe, as a rule: no JSON, since what reads it wants the key alone.
            output.line(&key)?;
        }
        KeyAction::Status => {
            let (_, key, source) = context.vault()?;
            let (name, warning) = (source.name(), source.warning());
            output.result(
                &json!({ "source": name, "changing": key.is_changing(), "warning": warning }),
                || match key.is_changing() {
                    false => format!("the root key is {name}"),
                    true => format!(
                        "the root key is {name}; what was encrypted under the one before is being changed"
                    ),
                },
            )?;
            if let Some(warning) = warning {
                output.note(&warning);
            }
        }
        KeyAction::Rotate => {
            let (state, key, source) = context.vault()?;
            rekey_offline(&state, key, &source).context(
                "the key is changed here only while the service does not run; an owner changes it with POST /api/jobs/rekey",
            )?;
            context.audited("change_root_key", String::new());
            let (_, key, source) = context.vault()?;
            output.result(&json!({ "source": source.name(), "changing": key.is_changing() }), || {
                format!("everything in {} is encrypted under a new key", state.path().display())
            })?;
        }
    }
    Ok(Answer::Yes)
}
