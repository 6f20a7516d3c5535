//! `limen subjects`.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use limen::clock::{Clock, SystemClock, UnixMillis};
use limen::erasure::search;
use limen::gallery::{Consent, ConsentWay, EnrolledSubject, GalleryStore, SubjectId, SubjectName};
use limen::subject_export::export_subject;
use serde_json::{Value, json};

use super::{Answer, Context, Usage};

#[derive(Args)]
#[command(after_help = "\
Examples:
  limen subjects list
  limen subjects show \"Ada Lovelace\"
  limen subjects expire \"Window cleaner\" --days 1
  limen subjects announce \"Ada Lovelace\"
  limen subjects consent \"Ada Lovelace\" --given-by \"Ada Lovelace\" --way written
  limen subjects export \"Ada Lovelace\" --to ada.zip
  limen subjects remove --yes \"Ada Lovelace\"")]
pub(super) struct SubjectsArguments {
    #[command(subcommand)]
    action: Action,
}

/// By what way somebody agreed.
#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// Signed on paper
    Written,
    /// Confirmed on a screen
    Screen,
    /// Said to whoever enrolled them
    Spoken,
}

impl From<Way> for ConsentWay {
    fn from(way: Way) -> Self {
        match way {
            Way::Written => Self::Written,
            Way::Screen => Self::Screen,
            Way::Spoken => Self::Spoken,
        }
    }
}

#[derive(Subcommand)]
enum Action {
    /// List everybody enrolled
    List,
    /// Show one subject's templates and their quality
    Show {
        /// The subject's name
        name: String,
    },
    /// Give a subject another name
    Rename {
        /// The present name
        name: String,
        /// The new name
        new_name: String,
    },
    /// Stop recognising a subject after some time
    #[command(group(ArgGroup::new("when").required(true).args(["days", "never"])))]
    Expire {
        /// The subject's name
        name: String,
        /// Days from now
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
        /// Never expire
        #[arg(long)]
        never: bool,
    },
    /// Give a subject a sensor of its own in home automation, or take it away
    Announce {
        /// The subject's name
        name: String,
        /// Take it away
        #[arg(long)]
        off: bool,
    },
    /// Record that a subject agreed to being recognised, or take that record back
    #[command(group(ArgGroup::new("what").required(true).args(["given_by", "withdraw"])))]
    Consent {
        /// The subject's name
        name: String,
        /// Who agreed: the subject, or whoever may agree for them
        #[arg(long, value_name = "WHO", requires = "way")]
        given_by: Option<String>,
        /// How
        #[arg(long, value_enum)]
        way: Option<Way>,
        /// Version of the text that was agreed to [default: privacy.consent_text_version]
        #[arg(long, value_name = "VERSION", requires = "given_by")]
        text_version: Option<String>,
        /// Take the record back; the subject stays enrolled until it is removed
        #[arg(long)]
        withdraw: bool,
    },
    /// Write everything that is kept of a subject into a zip, for whoever asks what that is
    Export {
        /// The subject's name
        name: String,
        /// The zip; it must not be there yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Erase a subject with all templates, and from the events
    Remove {
        /// The subject's name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) fn subjects(context: &Context, arguments: SubjectsArguments) -> Result<Answer> {
    let output = &context.output;
    let mut store = context.store()?;
    match arguments.action {
        Action::List => {
            let subjects = store.subjects()?;
            let value: Vec<_> = subjects.iter().map(as_json).collect();
            output.result(&json!({ "subjects": value }), || match subjects.as_slice() {
                [] => "nobody is enrolled; `limen enrol NAME PICTURE…` enrols somebody".to_owned(),
                all => all.iter().map(as_line).collect::<Vec<_>>().join("\n"),
            })?;
        }
        Action::Show { name } => {
            let subject = find(&store, &name)?;
            let samples = store.samples_of(subject.id)?;
            let mut value = as_json(&subject);
            let templates: Vec<_> = samples
                .iter()
                .map(|sample| {
                    json!({
                        "template": sample.template,
                        "embedding_space": sample.space,
                        "enrolled_at": sample.enrolled_at,
                        "quality": sample.quality.score,
                        "eye_distance_px": sample.quality.eye_distance_px,
                        "sharpness": sample.quality.sharpness,
                        "yaw_deg": sample.quality.yaw_deg,
                        "pitch_deg": sample.quality.pitch_deg,
                        "roll_deg": sample.quality.roll_deg,
                        "picture": sample.picture,
                    })
                })
                .collect();
            value["samples"] = templates.into();
            output.result(&value, || {
                let mut lines = vec![as_line(&subject)];
                lines.extend(samples.iter().map(|sample| {
                    let quality = &sample.quality;
                    format!(
                        "  template {}: quality {}, {:.0} px between the eyes, yaw {:.0}, pitch {:.0}",
                        sample.template,
                        quality.score,
                        quality.eye_distance_px,
                        quality.yaw_deg,
                        quality.pitch_deg
                    )
                }));
                lines.join("\n")
            })?;
        }
        Action::Rename { name, new_name } => {
            let subject = find(&store, &name)?;
            let new_name = SubjectName::new(&new_name)?;
            store.rename(subject.id, &new_name)?;
            context.audited("edit_subject", target(subject.id));
            output
                .result(&json!({ "renamed": subject.id.to_string(), "name": new_name.as_str() }), || {
                    format!("{} is now {}", subject.name.as_str(), new_name.as_str())
                })?;
        }
        Action::Expire { name, days, never: _ } => {
            let subject = find(&store, &name)?;
            let after = |days: u32| Duration::from_secs(u64::from(days) * 86_400).as_millis() as i64;
            let at = days.map(|days| UnixMillis(SystemClock.wall().0 + after(days)));
            store.set_expiry(subject.id, at)?;
            context.audited("edit_subject", target(subject.id));
            output.result(
                &json!({ "subject": subject.id.to_string(), "expires_at": at }),
                || match days {
                    Some(1) => format!("{} is recognised for one more day", subject.name.as_str()),
                    Some(days) => format!("{} is recognised for {days} more days", subject.name.as_str()),
                    None => format!("{} does not expire", subject.name.as_str()),
                },
            )?;
        }
        Action::Announce { name, off } => {
            let subject = find(&store, &name)?;
            store.set_announced(subject.id, !off)?;
            context.audited("edit_subject", target(subject.id));
            output.result(&json!({ "subject": subject.id.to_string(), "announced": !off }), || {
                let now = if off { "has no sensor" } else { "has a sensor" };
                format!("{} {now} of its own in home automation", subject.name.as_str())
            })?;
        }
        Action::Consent { name, given_by: None, .. } => {
            let subject = find(&store, &name)?;
            let withdrawn = store.withdraw_consent(subject.id)?;
            context.audited("withdraw_consent", target(subject.id));
            output.result(&json!({ "subject": subject.id.to_string(), "withdrawn": withdrawn }), || {
                let name = subject.name.as_str();
                if withdrawn {
                    format!(
                        "the consent of {name} is no longer recorded; `limen subjects remove` erases them"
                    )
                } else {
                    format!("no consent of {name} was recorded")
                }
            })?;
        }
        Action::Consent { name, given_by: Some(given_by), way, text_version, .. } => {
            let subject = find(&store, &name)?;
            let (now, usual) = (SystemClock.wall(), &context.config.privacy.consent_text_version);
            let consent = Consent {
                given_at: now,
                given_by,
                way: way.expect("--given-by is refused without --way").into(),
                text_version: text_version.unwrap_or_else(|| usual.clone()),
                recorded_at: now,
                recorded_by: "command line".to_owned(),
            };
            store.record_consent(subject.id, &consent)?;
            context.audited("record_consent", target(subject.id));
            output.result(
                &json!({ "subject": subject.id.to_string(), "text_version": consent.text_version }),
                || format!("{} agreed to version {}", subject.name.as_str(), consent.text_version),
            )?;
        }
        Action::Export { name, to } => {
            let subject = find(&store, &name)?;
            let events = context.events()?;
            // For its owner only: it is all that this program keeps from others.
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to);
            let file = file.with_context(|| format!("making {}", to.display()))?;
            let exported = export_subject(subject.id, &store, &events, SystemClock.wall(), &file);
            let synced = exported.map_err(anyhow::Error::from).and_then(|done| Ok((done, file.sync_all()?)));
            let (done, ()) = synced.inspect_err(|_| {
                // Half of it would be taken for the whole; that it cannot be removed is no worse.
                let _ = std::fs::remove_file(&to);
            })?;
            context.audited("export_subject", target(subject.id));
            output.result(&json!({ "subject": subject.id.to_string(), "exported": done }), || {
                format!(
                    "wrote {}: {} samples, {} pictures, {} events of {}",
                    to.display(),
                    done.samples,
                    done.pictures,
                    done.events,
                    subject.name.as_str()
                )
            })?;
            if done.pictures_missing > 0 {
                output.warning(&format!(
                    "{} pictures could not be read and are not in it",
                    done.pictures_missing
                ));
            }
        }
        Action::Remove { name, yes } => {
            let subject = find(&store, &name)?;
            if !yes && !confirmed(&format!("Erase {} with all templates?", subject.name.as_str()))? {
                output.note("nothing was erased");
                return Ok(Answer::No);
            }
            let traces = store.traces_of(subject.id)?;
            let receipt = store.remove(subject.id)?;
            context.audited("erase_subject", target(subject.id));
            // A daemon beside this does the same when it notices; whoever comes first does it.
            let mut events = context.events()?;
            let events = events.forget_all_but(&store.subject_ids()?)?;
            let (state, key) = context.state()?;
            let search = search(&state, &key, &traces);
            output.result(
                &json!({
                    "subjects": receipt.subjects, "samples": receipt.samples,
                    "templates": receipt.templates, "pictures": receipt.pictures, "events": events, "log_emptied": receipt.log_emptied, "search": search,
                }),
                || {
                    let plural = |n: u64| if n == 1 { "" } else { "s" };
                    format!(
                        "erased {} with {} template{} and from {events} event{}",
                        subject.name.as_str(),
                        receipt.templates,
                        plural(receipt.templates),
                        plural(events)
                    )
                },
            )?;
            match search.found.as_slice() {
                [] if search.not_searched.is_empty() => output.note(&format!(
                    "looked for them in {} files and in {} databases decrypted: nothing is left",
                    search.files,
                    search.databases + search.databases_by_value
                )),
                found => {
                    for trace in found {
                        output.warning(&format!("{:?} still found in {}", trace.kind, trace.place));
                    }
                    for reason in &search.not_searched {
                        output.warning(&format!("could not be looked at: {reason}"));
                    }
                }
            }
            if !receipt.log_emptied {
                output.warning("another process is reading the database; the erased rows leave its log when that process lets go");
            }
        }
    }
    Ok(Answer::Yes)
}

/// As the page names it in the audit log.
fn target(id: SubjectId) -> String {
    format!("/api/subjects/{id}")
}

fn find(store: &GalleryStore, name: &str) -> Result<EnrolledSubject> {
    let name = SubjectName::new(name)?;
    match store.subject_named(&name)? {
        Some(subject) => Ok(subject),
        None => bail!("nobody is enrolled as {}; `limen subjects list` shows who is", name.as_str()),
    }
}

pub(super) fn confirmed(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Usage::error("there is no terminal to ask on; pass --yes to erase without being asked"));
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn as_json(subject: &EnrolledSubject) -> Value {
    json!({
        "id": subject.id.to_string(),
        "name": subject.name.as_str(),
        "groups": subject.groups.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(),
        "templates": subject.templates,
        "created_at": subject.created_at,
        "updated_at": subject.updated_at,
        "expires_at": subject.expires_at,
        "announced": subject.announced,
    })
}

fn as_line(subject: &EnrolledSubject) -> String {
    let plural = if subject.templates == 1 { "" } else { "s" };
    let expiry = match subject.expires_at {
        None => String::new(),
        Some(at) => {
            let hours = (at.0 - SystemClock.wall().0) as f64 / 3.6e6;
            if hours <= 0.0 {
                ", expired".to_owned()
            } else {
                format!(", expires in {:.1} days", hours / 24.0)
            }
        }
    };
    let groups: Vec<_> = subject.groups.iter().map(|(_, name)| name.as_str()).collect();
    let groups = if groups.is_empty() { String::new() } else { format!(", in {}", groups.join(" and ")) };
    format!("{}: {} template{plural}{expiry}{groups}", subject.name.as_str(), subject.templates)
}
