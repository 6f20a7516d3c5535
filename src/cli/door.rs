//! `limen door`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::{ArgGroup, Args, Subcommand};
use limen::clock::{Clock, SystemClock, UnixMillis, rfc3339};
use limen::door::credential::{CredentialId, CredentialKind};
use limen::door::gpio::{LineSpec, Output as Line, list_lines};
use limen::door::passes::draw_code;
use limen::door::policy::{Policy, PolicyDocument};
use limen::gallery::{GalleryStore, GroupId, GroupName, NewCredential, SubjectName};
use serde_json::json;

use super::{Answer, Context, Usage};

/// Pixels of one module of a code.
const CODE_SCALE: u32 = 10;
/// A relay takes some milliseconds to fall off; until then, and with room, nobody else may have its line.
const FALLS_OFF: Duration = Duration::from_millis(100);
/// A policy is a few kilobytes.
const MOST_POLICY_BYTES: u64 = 1 << 20;

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen door policy example > policy.json       # then edit it
  limen door policy set policy.json
  limen door policy show
  limen door pin --name \"Cleaner\" --group Staff --days 30
  limen door pass --name \"Plumber\" --group Visitors --hours 8 --to plumber.png
  limen door list
  limen door revoke 7
  limen door lines
  limen door release")]
pub(super) struct DoorArguments {
    #[command(subcommand)]
    action: DoorAction,
}

#[derive(Subcommand)]
enum DoorAction {
    /// Who may enter, when and with what
    Policy {
        #[command(subcommand)]
        action: PolicyAction,
    },
    /// Make a PIN; it is told once
    Pin(HolderArguments),
    /// Make a pass, a QR code for the camera; one that works once, unless said otherwise
    Pass(PassArguments),
    /// List PINs and passes
    List,
    /// Take a PIN or pass back
    Revoke {
        /// Its number, as `limen door list` shows it
        number: i64,
    },
    /// List the GPIO lines of this machine
    Lines,
    /// Release the relay; what systemd runs when the service has ended in any way
    Release,
}

#[derive(Subcommand)]
enum PolicyAction {
    /// Print a policy to begin with
    Example,
    /// Print the one in force
    Show,
    /// Say what is wrong with a file, and change nothing
    Check {
        /// JSON
        file: PathBuf,
    },
    /// Put a file in the place of the policy in force
    Set {
        /// JSON
        file: PathBuf,
    },
}

#[derive(Args)]
#[command(group(ArgGroup::new("holder").required(true).args(["subject", "name"])))]
struct HolderArguments {
    /// The subject it belongs to
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// What a visitor is called, who is not enrolled
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The group whose rules hold for the visitor
    #[arg(long, value_name = "GROUP", requires = "name")]
    group: Option<String>,
    /// Valid for so many hours from now
    #[arg(long, conflicts_with = "days", value_parser = clap::value_parser!(u32).range(1..=87_600))]
    hours: Option<u32>,
    /// Valid for so many days from now
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: Option<u32>,
    /// How often it may be used
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    uses: Option<u32>,
}

#[derive(Args)]
struct PassArguments {
    #[command(flatten)]
    holder: HolderArguments,
    /// As often as one likes: whoever photographs it has it too
    #[arg(long, conflicts_with = "uses")]
    unlimited: bool,
    /// The PNG to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(super) fn run(context: &Context, arguments: DoorArguments) -> Result<Answer> {
    let output = &context.output;
    match arguments.action {
        DoorAction::Policy { action } => policy(context, action),
        DoorAction::Pin(holder) => {
            let mut store = context.store()?;
            let new = NewCredential { is_pin: true, ..of(&store, &holder)? };
            let made = store.add_credential(&new)?;
            let pin = made.pin.ok_or_else(|| anyhow!("a PIN was asked for and none was made"))?;
            output.result(&json!({ "number": made.id, "pin": pin }), || {
                format!("PIN {pin}  (number {}; it is not told again)", made.id.0)
            })?;
            Ok(Answer::Yes)
        }
        DoorAction::Pass(pass) => make_pass(context, &pass),
        DoorAction::List => list(context),
        DoorAction::Revoke { number } => {
            context.store()?.remove_credential(CredentialId(number))?;
            output.result(&json!({ "revoked": number }), || {
                format!("number {number} opens nothing any more")
            })?;
            Ok(Answer::Yes)
        }
        DoorAction::Lines => lines(context),
        DoorAction::Release => release(context),
    }
}

fn of(store: &GalleryStore, holder: &HolderArguments) -> Result<NewCredential> {
    let subject = match &holder.subject {
        Some(name) => {
            let name = SubjectName::new(name)?;
            let found =
                store.subject_named(&name)?.ok_or_else(|| anyhow!("nobody of that name is enrolled"))?;
            Some(found.id)
        }
        None => None,
    };
    let group = match &holder.group {
        Some(name) => {
            let wanted = GroupName::new(name)?;
            let groups = store.groups()?;
            let same = |known: &str| known.to_lowercase() == wanted.as_str().to_lowercase();
            let found = groups.into_iter().find(|group| same(group.name.as_str()));
            Some(found.ok_or_else(|| anyhow!("there is no group of that name"))?.id)
        }
        None => None,
    };
    let hours = holder.hours.map(u64::from).or(holder.days.map(|days| u64::from(days) * 24));
    let valid_until = hours.map(|hours| {
        let lasts = Duration::from_secs(hours * 3600).as_millis() as i64;
        UnixMillis(SystemClock.wall().0.saturating_add(lasts))
    });
    Ok(NewCredential {
        subject,
        group,
        label: holder.name.as_deref().map(SubjectName::new).transpose()?,
        valid_until,
        uses: holder.uses,
        ..NewCredential::default()
    })
}

fn make_pass(context: &Context, pass: &PassArguments) -> Result<Answer> {
    let mut store = context.store()?;
    let once = (!pass.unlimited).then_some(1);
    let new = of(&store, &pass.holder)?;
    let new = NewCredential { uses: new.uses.or(once), ..new };
    // Before the pass is made, so that none is left that nobody can show.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&pass.to)
        .with_context(|| format!("making {}", pass.to.display()))?;
    let made = store.add_credential(&new)?;
    let code = made.code.ok_or_else(|| anyhow!("a pass was asked for and none was made"))?;
    let text = store.door_secret()?.pass_text(code, 0);
    let png = draw_code(&text, CODE_SCALE).and_then(|image| image.to_png());
    let png = png.ok_or_else(|| anyhow!("the code of the pass cannot be drawn"))?;
    std::io::Write::write_all(&mut file, &png).with_context(|| format!("writing {}", pass.to.display()))?;
    context.output.result(&json!({ "number": made.id, "file": pass.to, "uses": new.uses }), || {
        format!("pass {} in {}", made.id.0, pass.to.display())
    })?;
    if new.uses.is_none() {
        context.output.warning(
            "whoever photographs this pass can use it too, for as long as it is valid; one that works once is safer",
        );
    }
    Ok(Answer::Yes)
}

fn list(context: &Context) -> Result<Answer> {
    let store = context.store()?;
    let all = store.credentials()?;
    let subjects = store.subjects()?;
    let mut lines = Vec::new();
    let mut values = Vec::new();
    for listed in &all {
        let credential = &listed.credential;
        let subject = credential.subject.and_then(|id| subjects.iter().find(|subject| subject.id == id));
        let name = listed.label.as_ref().or(subject.map(|subject| &subject.name));
        let name = name.map_or("", SubjectName::as_str);
        let kind = match credential.kind {
            CredentialKind::Pin(_) => "PIN",
            CredentialKind::Pass { rotating: false, .. } => "pass",
            CredentialKind::Pass { rotating: true, .. } => "rotating pass",
        };
        let until = credential.valid_until.map_or_else(|| "without end".to_owned(), rfc3339);
        let uses = credential.uses_left.map_or_else(|| "any number".to_owned(), |uses| uses.to_string());
        lines.push(format!(
            "{:>5}  {kind:<13}  {name:<30}  until {until}, uses left: {uses}",
            credential.id.0
        ));
        values.push(json!({
            "number": credential.id,
            "kind": kind,
            "name": name,
            "valid_until": credential.valid_until,
            "uses_left": credential.uses_left,
        }));
    }
    if lines.is_empty() {
        lines.push("no PINs and no passes; `limen door pin` and `limen door pass` make some".to_owned());
    }
    context.output.result(&json!(values), || lines.join("\n"))?;
    Ok(Answer::Yes)
}

fn policy(context: &Context, action: PolicyAction) -> Result<Answer> {
    let output = &context.output;
    match action {
        PolicyAction::Example => {
            let example = example();
            let text = serde_json::to_string_pretty(&example).context("writing the example")?;
            output.result(&example, || text)?;
            Ok(Answer::Yes)
        }
        PolicyAction::Show => {
            let kept = context.store()?.door_policy()?;
            let Some(text) = kept else {
                bail!(
                    "no policy has been written: the door opens for nobody; see `limen door policy example`"
                )
            };
            let value: serde_json::Value = serde_json::from_str(&text).context("reading the policy")?;
            let text = serde_json::to_string_pretty(&value).context("writing the policy")?;
            output.result(&value, || text)?;
            Ok(Answer::Yes)
        }
        PolicyAction::Check { file } => {
            let store = context.store()?;
            read(&store, &file)?;
            output.result(&json!({ "problems": [] }), || "nothing is wrong with it".to_owned())?;
            Ok(Answer::Yes)
        }
        PolicyAction::Set { file } => {
            let mut store = context.store()?;
            let policy = read(&store, &file)?;
            store.set_door_policy(policy.document())?;
            let (rules, dry_run) = (policy.rules().len(), policy.document().dry_run);
            output.result(&json!({ "rules": rules, "dry_run": dry_run }), || {
                let how = if dry_run { "in force as a dry run: nothing is switched" } else { "in force" };
                format!("a policy of {rules} rules is {how}")
            })?;
            Ok(Answer::Yes)
        }
    }
}

fn example() -> serde_json::Value {
    json!({
        "time_zone": "Europe/Berlin",
        "holidays": ["01-01", "12-25", "12-26"],
        "schedules": [
            {
                "name": "Office hours",
                "windows": [{ "days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00" }],
                "on_holidays": "closed",
            },
        ],
        "rules": [
            { "name": "Everybody in office hours", "everyone": true, "schedule": "Office hours", "needs": "face" },
            { "name": "Everybody at any hour", "everyone": true, "needs": "face_and_pin" },
        ],
        "dry_run": true,
    })
}

fn read(store: &GalleryStore, file: &std::path::Path) -> Result<Policy> {
    let size = file.metadata().with_context(|| format!("reading {}", file.display()))?.len();
    ensure!(size <= MOST_POLICY_BYTES, "{} has {size} bytes; a policy is far smaller", file.display());
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let document: PolicyDocument = serde_json::from_str(&text)
        .map_err(|error| Usage::error(format!("{} is no policy: {error}", file.display())))?;
    let groups: Vec<GroupId> = store.groups()?.into_iter().map(|group| group.id).collect();
    Policy::check(&document, &groups).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Usage::error(format!("{} is not usable:\n  {}", file.display(), all.join("\n  ")))
    })
}

fn lines(context: &Context) -> Result<Answer> {
    let found = list_lines();
    let values: Vec<_> = found
        .iter()
        .map(|line| {
            json!({
                "chip": line.chip, "line": line.number, "name": line.name,
                "used": line.used, "consumer": line.consumer,
            })
        })
        .collect();
    context.output.result(&json!(values), || {
        if found.is_empty() {
            return "no GPIO chip: there is no /dev/gpiochip0, or it may not be opened".to_owned();
        }
        let text = found.iter().map(|line| {
            let name = if line.name.is_empty() { "–" } else { &line.name };
            let used = match (line.used, line.consumer.as_str()) {
                (false, _) => "free".to_owned(),
                (true, "") => "in use".to_owned(),
                (true, consumer) => format!("in use by {consumer}"),
            };
            format!("{}:{:<4} {name:<24} {used}", line.chip, line.number)
        });
        text.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Answer::Yes)
}

/// Taking the line as an output that is inactive releases the relay, whatever left it energised.
fn release(context: &Context) -> Result<Answer> {
    let Some(relay) = &context.config.door.relay else {
        context.output.result(&json!({ "relay": null }), || "this device has no relay".to_owned())?;
        return Ok(Answer::Yes);
    };
    let spec = LineSpec::parse(relay).map_err(|error| anyhow!("door.relay: {error}"))?;
    let line = Line::open(&spec)?;
    std::thread::sleep(FALLS_OFF);
    drop(line);
    context.output.result(&json!({ "relay": "released" }), || "the relay is released".to_owned())?;
    Ok(Answer::Yes)
}
