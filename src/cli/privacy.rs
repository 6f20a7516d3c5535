//! `limen privacy`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use limen::clock::{Clock, SystemClock};
use limen::privacy::{Facts, Language, missing, notice, sheet};
use serde_json::json;

use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen privacy notice --to notice.html          # print it, and put it up before the camera sees anybody
  limen privacy sheet --language de --to sheet.html

Both are made of the configuration in force. What only people know stands in privacy.responsible,
privacy.contact, privacy.purpose, privacy.legal_basis and privacy.alternative.")]
pub(super) struct PrivacyArguments {
    #[command(subcommand)]
    action: PrivacyAction,
}

#[derive(Subcommand)]
enum PrivacyAction {
    /// Write the notice for the door
    Notice(PageArguments),
    /// Write the data sheet: what is kept, where, for how long, and who gets it
    Sheet(PageArguments),
}

#[derive(Args)]
struct PageArguments {
    /// In which language
    #[arg(long, value_enum, default_value_t = LanguageArgument::En)]
    language: LanguageArgument,
    /// The file to write, HTML; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum LanguageArgument {
    /// English
    En,
    /// German
    De,
}

pub(super) fn run(context: &Context, arguments: &PrivacyArguments) -> Result<Answer> {
    let (output, config, now) = (&context.output, &context.config, SystemClock.wall());
    let language = |page: &PageArguments| match page.language {
        LanguageArgument::En => Language::En,
        LanguageArgument::De => Language::De,
    };
    let (page, html) = match &arguments.action {
        PrivacyAction::Notice(page) => (page, notice(config, now, language(page))),
        PrivacyAction::Sheet(page) => {
            let (_, _, source) = context.vault()?;
            let space = context.models()?.manifest.embedder.embedding_space.to_string();
            let facts = Facts::new(&source, space, now);
            (page, sheet(config, &facts, language(page)))
        }
    };
    std::fs::write(&page.to, html).with_context(|| format!("writing {}", page.to.display()))?;
    let missing = missing(config);
    output
        .result(&json!({ "file": page.to, "missing": missing }), || format!("wrote {}", page.to.display()))?;
    if !missing.is_empty() {
        output.warning(&format!("not set, and left to be filled in by hand: {}", missing.join(", ")));
    }
    Ok(Answer::Yes)
}
