//! `limen config`.

use anyhow::Result;
use clap::{Args, Subcommand};
use limen::config;

use super::output::Output;
use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen config template > limen.toml
  limen --config limen.toml config check
  limen config show                         where does each value come from?
  LIMEN_CAMERA__WIDTH=1280 limen config show

Later ones win: defaults, the file, limen.toml.d/*.toml beside it, LIMEN_SECTION__KEY, flags.")]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    pub(super) action: ConfigAction,
}

#[derive(Clone, Copy, Subcommand)]
pub(super) enum ConfigAction {
    /// Say whether the configuration can be used
    Check,
    /// Print every setting in force and where it comes from
    Show,
    /// Print a configuration file with every setting explained
    Template,
}

pub(super) fn template(output: &Output) -> Result<Answer> {
    let text = config::template();
    output.result(&serde_json::json!({ "template": text }), || text.trim_end().to_owned())?;
    Ok(Answer::Yes)
}

/// Reaching this means that the configuration has been read and checked.
pub(super) fn show(context: &Context, arguments: &ConfigArguments) -> Result<Answer> {
    let Context { config, output } = context;
    match arguments.action {
        ConfigAction::Show => {
            output.result(&config.to_json(), || config.show().trim_end().to_owned())?;
        }
        _ => {
            let read = config.read();
            output.result(&serde_json::json!({ "ok": true, "read": read }), || match read {
                [] => "the built-in defaults are in force; no file was read".to_owned(),
                _ => format!("ok: {}", read.join(", ")),
            })?;
        }
    }
    Ok(Answer::Yes)
}
