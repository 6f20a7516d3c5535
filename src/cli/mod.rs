//! Commands, flags and exit codes.

mod audit;
mod backup;
mod bench;
mod config;
mod doctor;
mod door;
mod enrol;
mod eval;
mod identify;
mod journal;
mod key;
mod log;
mod man;
mod output;
mod privacy;
mod restore;
mod run;
mod selftest;
mod subjects;
mod users;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{CommandFactory, Parser, Subcommand};
use limen::admin::accounts::AccountError;
use limen::backup::is_unfinished;
use limen::clock::SystemClock;
use limen::config::{Config, ConfigError, Sources};
use limen::event_store::EventStore;
use limen::gallery::{GalleryStore, NameError};
use limen::install;
use limen::models::{ModelError, ModelSet, Thresholds};
use limen::recognise::Perception;
use limen::vault::{KeySource, KeySources, RootKey, StateFolder, credentials_directory};

use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for `identify` and `verify`: a match
  1  failed; the message says what and what to do
  2  the command line or the configuration is wrong
  3  done, and the answer is no: nobody matched, or nothing usable was found";

/// Local face recognition for a mounted door or kiosk camera.
#[derive(Parser)]
#[command(name = "limen", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    /// Configuration file; without it /etc/limen/limen.toml, if there is one
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the gallery and its key; as state.folder in the configuration
    #[arg(long, global = true, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Print JSON, one value a line, instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Recognise faces in front of the camera; prints one line for each event
    Run(run::RunArguments),
    /// Make templates of a subject from pictures
    Enrol(enrol::EnrolArguments),
    /// Say who is in a picture (1:N)
    Identify(identify::IdentifyArguments),
    /// Say whether two pictures, or a picture and a subject, are the same person (1:1)
    Verify(identify::VerifyArguments),
    /// List and change who is enrolled
    Subjects(subjects::SubjectsArguments),
    /// List and change who may sign in to the admin page
    Users(users::UsersArguments),
    /// Print and check the audit log
    Audit(audit::AuditArguments),
    /// Show and change the root key, under which everything is encrypted
    Key(key::KeyArguments),
    /// Make, list and check backups, and show the key they are under
    Backup(backup::BackupArguments),
    /// Put a backup back on an empty state folder
    Restore(restore::RestoreArguments),
    /// Write the notice for the door and the data sheet
    Privacy(privacy::PrivacyArguments),
    /// The door: policy, PINs, passes, GPIO lines
    Door(door::DoorArguments),
    /// Measure accuracy on photographs with lists of what to compare
    Eval(eval::EvalArguments),
    /// Measure time per stage, search, start and memory
    Bench(bench::BenchArguments),
    /// Check models, runtime and recognition with a known face
    #[command(after_help = "\
Example: limen selftest && limen run

It needs neither a camera nor anybody enrolled, and takes less than a second.")]
    Selftest,
    /// Find what keeps an installation from working
    #[command(after_help = "\
Examples:
  limen doctor                            everything, in words
  sudo -u limen limen doctor              as the account of the service
  limen doctor --json | jq '.findings[] | select(.level != \"ok\")'

It changes nothing, may run beside the service, and takes some seconds. Exit code 3: there are
problems.")]
    Doctor,
    /// List the cameras that could be used
    #[command(after_help = "\
Example: limen cameras

`limen run --source` takes the path that stands at the start of each line.")]
    Cameras,
    /// Check, show or print the configuration
    Config(config::ConfigArguments),
    /// Print completions for a shell
    #[command(after_help = "Example: limen completions bash > /etc/bash_completion.d/limen")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for whoever makes a package
    #[command(hide = true)]
    Man {
        /// Where to; made if it is not there
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// Start this program again, with the same arguments.
    Again,
}

/// Something about the command line that its parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

impl Usage {
    fn error(text: impl Into<String>) -> anyhow::Error {
        Self(text.into()).into()
    }
}

fn is_wrong_input(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<Usage>()
        || error.is::<NameError>()
        || matches!(error.downcast_ref(), Some(AccountError::Name))
}

/// What every command gets.
struct Context {
    config: Config,
    output: Output,
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match dispatch(arguments, output.clone()) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(3),
        // Everything of the run before is closed by now.
        Ok(Answer::Again) => again(&output),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(if is_wrong_input(&error) { 2 } else { 1 })
        }
    }
}

/// Becomes this program anew, under the same process number, so that whoever started it need not know.
/// Returns only when that fails.
fn again(output: &Output) -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(PathBuf::from);
    // An update has put another file in the place of the one that runs: that is the one to start.
    let program = std::env::current_exe().ok().filter(|path| path.is_file()).or(name);
    let error = match program {
        Some(program) => std::process::Command::new(program).args(arguments).exec(),
        None => std::io::Error::other("the program does not know its own name"),
    };
    output.error(&anyhow!("cannot start this program again: {error}"));
    ExitCode::FAILURE
}

fn dispatch(arguments: Arguments, output: Output) -> Result<Answer> {
    if let Command::Completions { shell } = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "limen", &mut std::io::stdout());
        return Ok(Answer::Yes);
    }
    if let Command::Man { folder } = &arguments.command {
        man::write(Arguments::command(), folder)?;
        return Ok(Answer::Yes);
    }
    if let Command::Config(config::ConfigArguments { action: config::ConfigAction::Template }) =
        arguments.command
    {
        return config::template(&output);
    }
    let mut sources = Sources::new(arguments.config.clone()).environment(std::env::vars_os());
    if let Some(folder) = &arguments.state {
        sources = sources.flag("--state", "state.folder", &folder.to_string_lossy());
    }
    if let Command::Run(run) = &arguments.command {
        sources = run.settings(sources);
    }
    let config = match (sources.build(), &arguments.command) {
        (Err(error), Command::Doctor) => return doctor::without_configuration(&output, &error),
        (built, _) => built?,
    };
    let log_level = log::start(&config.log);
    let context = Context { config, output };
    match arguments.command {
        Command::Run(run) => run::run(context, sources, Box::new(log_level), &run),
        Command::Enrol(enrol) => enrol::enrol(&context, &enrol),
        Command::Identify(identify) => identify::identify(&context, &identify),
        Command::Verify(verify) => identify::verify(&context, &verify),
        Command::Subjects(subjects) => subjects::subjects(&context, subjects),
        Command::Users(users) => users::users(&context, users),
        Command::Audit(arguments) => audit::run(&context, &arguments),
        Command::Key(arguments) => key::run(&context, &arguments),
        Command::Backup(arguments) => backup::run(&context, arguments),
        Command::Restore(arguments) => restore::run(&context, &arguments),
        Command::Privacy(arguments) => privacy::run(&context, &arguments),
        Command::Door(arguments) => door::run(&context, arguments),
        Command::Eval(eval) => eval::eval(&context, &eval),
        Command::Bench(bench) => bench::bench(&context, &bench),
        Command::Selftest => selftest::selftest(&context),
        Command::Doctor => doctor::doctor(&context),
        Command::Cameras => run::cameras(&context),
        Command::Config(config) => config::show(&context, &config),
        Command::Completions { .. } | Command::Man { .. } => unreachable!("handled above"),
    }
}

impl Context {
    fn models(&self) -> Result<ModelSet> {
        ModelSet::load(&install::models_folder(&self.config)).map_err(|error| match error {
            ModelError::Unreadable { .. } => anyhow!(
                "{error}; set models.folder, or LIMEN_MODELS__FOLDER, to the folder that holds \
                 manifest.toml and the files it lists; in a checkout `make run` does that"
            ),
            error => error.into(),
        })
    }

    fn perception(&self, models: &ModelSet) -> Result<Perception> {
        let runtime = models.runtime(&install::litert_library(&self.config))?;
        Ok(Perception::new(models, &runtime, &self.config)?)
    }

    /// The model's thresholds with those of the configuration in their place.
    fn thresholds(&self, models: &ModelSet) -> Result<Thresholds> {
        Ok(self.config.thresholds(&models.manifest.embedder.thresholds)?)
    }

    fn store(&self) -> Result<GalleryStore> {
        let (state, key) = self.state()?;
        Ok(GalleryStore::open(&state, &key, Arc::new(SystemClock))?)
    }

    fn events(&self) -> Result<EventStore> {
        let (state, key) = self.state()?;
        let lifetime = Duration::from_millis(self.config.events.expire_after_ms.into());
        Ok(EventStore::open(&state, &key, Arc::new(SystemClock), lifetime)?)
    }

    fn state(&self) -> Result<(StateFolder, RootKey)> {
        self.vault().map(|(state, key, _)| (state, key))
    }

    /// The state folder, its key, and where that came from.
    fn vault(&self) -> Result<(StateFolder, RootKey, KeySource)> {
        let opened = self.unrestored()?;
        ensure!(
            !is_unfinished(&opened.0),
            "a restore into {} was begun and has not ended: run `limen restore` with the backup again",
            opened.0.path().display()
        );
        Ok(opened)
    }

    /// The same, also where a restore was cut off, for whoever begins it anew.
    fn unrestored(&self) -> Result<(StateFolder, RootKey, KeySource)> {
        let command = self.config.vault.key_command.as_deref();
        open_state(&self.config.state.folder, command, |warning| self.output.note(warning))
    }
}

/// `warn` hears what a key that was made just now does not protect from.
fn open_state(
    folder: &Path,
    command: Option<&Path>,
    warn: impl FnOnce(&str),
) -> Result<(StateFolder, RootKey, KeySource)> {
    let state = StateFolder::open_or_create(folder)
        .with_context(|| format!("opening the state folder {}", folder.display()))?;
    let credentials = credentials_directory();
    let sources = KeySources { credentials: credentials.as_deref(), command };
    let (key, source) = RootKey::load_from(&state, sources)?;
    if let KeySource::File { created: true, .. } = &source
        && let Some(warning) = source.warning()
    {
        warn(&warning);
    }
    Ok((state, key, source))
}
