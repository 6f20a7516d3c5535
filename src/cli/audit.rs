//! `limen audit`, and what commands add to the audit log.

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use limen::admin::accounts::{AccountStore, AuditEntry, AuditRetention, NewAuditEntry};
use serde_json::json;

use super::{Answer, Context};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen audit list --limit 20
  limen audit verify
  limen audit verify --expect 3f6c…

`verify` reads the whole log and finds what was changed, put in or taken out past the program.
Whoever has the root key can make a whole log anew: note the head that it prints, and give it to a
later run. The service writes it to its journal once a day.")]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print what was done, the newest first
    List {
        /// Entries at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
    },
    /// Check that nothing in the log was changed, put in or taken out; exit code 3: something was
    Verify {
        /// A head that was noted before, 64 hexadecimal digits: it has to be in the chain
        #[arg(long, value_name = "HEAD")]
        expect: Option<String>,
    },
}

pub(super) fn run(context: &Context, arguments: &AuditArguments) -> Result<Answer> {
    let output = &context.output;
    let store = context.accounts()?;
    match &arguments.action {
        Action::List { limit } => {
            for entry in store.audit(None, *limit)? {
                output.result(&json!(entry), || as_line(&entry))?;
            }
        }
        Action::Verify { expect } => {
            if let Some(head) = expect {
                let whole = head.len() == 64 && head.bytes().all(|byte| byte.is_ascii_hexdigit());
                ensure!(whole, "a head has 64 hexadecimal digits");
            }
            let report = store.verify_audit(expect.as_deref(), AuditRetention::new(&context.config))?;
            output.result(&json!(report), || {
                let mut text = match &report.fault {
                    None => format!("{} entries are as they were written", report.entries),
                    Some(fault) => format!("the audit log is not whole: {fault}"),
                };
                if report.erased > 0 {
                    text += &format!("; {} were erased for their age or number", report.erased);
                }
                if report.before > 0 {
                    text += &format!("; {} are older than the chain", report.before);
                }
                text + &format!("\nhead {}", report.head)
            })?;
            if report.fault.is_some() {
                return Ok(Answer::No);
            }
        }
    }
    Ok(Answer::Yes)
}

fn as_line(entry: &AuditEntry) -> String {
    let AuditEntry { id, at, who, what, target, outcome, address, detail, times } = entry;
    let who = who.as_deref().unwrap_or("nobody");
    let detail = detail.as_deref().map(|detail| format!(", {detail}")).unwrap_or_default();
    let times = if *times > 1 { format!(", {times} times") } else { String::new() };
    format!(
        "{id} {}: {who} {what} {target} {outcome} from {address}{detail}{times}",
        limen::clock::rfc3339(*at)
    )
}

impl Context {
    /// Adds what a command did to the audit log. What was done is done: a full disk must not make it look undone.
    pub(super) fn audited(&self, what: &'static str, target: String) {
        let noted = self.accounts().and_then(|mut store| Ok(note(&mut store, what, target)?));
        if let Err(error) = noted {
            self.output.warning(&format!("the audit log could not be written: {error:#}"));
        }
    }
}

/// Adds what a command did.
pub(super) fn note(
    store: &mut AccountStore,
    what: &'static str,
    target: String,
) -> Result<(), limen::admin::accounts::AccountError> {
    store.note(&NewAuditEntry::done_by("command line", what, target))
}
