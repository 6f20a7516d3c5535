//! `limen doctor`.

use std::path::Path;

use anyhow::Result;
use limen::clock::{Clock, SystemClock};
use limen::config::{Config, ConfigError};
use limen::daemon::camera_settings;
use limen::doctor::{
    Check, Finding, Level, check_backups, check_broker, check_camera, check_clock, check_door, check_gallery,
    check_http, check_key, check_memory, check_storage, check_temperature,
};
use limen::door::gpio::list_lines;
use limen::machine;
use limen::mqtt::{MqttSettings, probe};
use limen::score::ComparisonScore;
use limen::selftest;
use limen::vault::{KeySources, credentials_directory};
use serde_json::json;

use super::output::{Colour, Output};
use super::{Answer, Context};

pub(super) fn doctor(context: &Context) -> Result<Answer> {
    let config = &context.config;
    let mut findings =
        vec![Finding::ok(Check::Configuration, "every setting is known and they fit together")];
    let credentials = credentials_directory();
    let sources =
        KeySources { credentials: credentials.as_deref(), command: config.vault.key_command.as_deref() };
    let (finding, opened) = check_key(&config.state.folder, sources);
    findings.push(finding);
    findings.push(check_storage(&config.state.folder));
    if let Some((state, key)) = opened {
        findings.push(check_gallery(&state, &key));
    }
    findings.push(check_backups(config, SystemClock.wall()));
    findings.extend(recognition(context));
    findings.push(check_camera(&camera_settings(config)));
    findings.push(check_broker(config, &log_in));
    findings.push(check_http(config));
    findings.push(check_door(config, &list_lines()));
    findings.extend(board());
    report(&context.output, &findings)
}

/// What can be said when the configuration is not usable: everything else depends on it.
pub(super) fn without_configuration(output: &Output, error: &ConfigError) -> Result<Answer> {
    let advice = "correct it; `limen config show` says where each setting comes from. What depends on the \
                  configuration was not checked";
    let mut findings = vec![Finding::problem(Check::Configuration, error.to_string(), advice)];
    findings.extend(board());
    report(output, &findings)
}

fn log_in(config: &Config) -> std::result::Result<String, String> {
    let settings = MqttSettings::new(config).ok_or("no broker is configured")?;
    probe(&settings)
}

fn board() -> [Finding; 3] {
    let sys = Path::new("/sys");
    [
        check_clock(SystemClock.wall()),
        check_memory(machine::memory()),
        check_temperature(machine::temperature_c(sys), &machine::slowed(sys)),
    ]
}

/// The files as the manifest says, and then what they compute.
fn recognition(context: &Context) -> Vec<Finding> {
    const MODELS: &str = "put back the models and the runtime library that came with this program, readable for the \
                          account that limen runs under, or set models.folder and litert.library";
    let loaded = context.models().and_then(|models| {
        let perception = context.perception(&models)?;
        Ok((models, perception))
    });
    let (models, mut perception) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return vec![Finding::problem(Check::Models, format!("{error:#}"), MODELS)],
    };
    let version = &models.manifest.runtime.version;
    let verified =
        Finding::ok(Check::Models, format!("models and LiteRT {version} are those of the manifest"));
    let threshold = ComparisonScore::new(models.manifest.embedder.thresholds.verification);
    let recognised = match selftest::run(&mut perception, threshold) {
        Ok(report) => Finding::ok(
            Check::Recognition,
            format!(
                "known faces are told apart; one recognition took {:.0} ms",
                report.recognition.as_secs_f64() * 1e3
            ),
        ),
        Err(error) => Finding::problem(
            Check::Recognition,
            error.to_string(),
            "this board or this build computes wrongly: nobody must be let in by it. Install again; then try another board",
        ),
    };
    vec![verified, recognised]
}

fn report(output: &Output, findings: &[Finding]) -> Result<Answer> {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let value = json!({ "problems": problems, "warnings": warnings, "findings": findings });
    output.result(&value, || {
        let mut lines: Vec<String> = findings.iter().map(|finding| text(output, finding)).collect();
        lines.push(format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning")));
        lines.join("\n")
    })?;
    Ok(if problems == 0 { Answer::Yes } else { Answer::No })
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn text(output: &Output, finding: &Finding) -> String {
    let (colour, word) = match finding.level {
        Level::Ok => (Colour::Green, "ok     "),
        Level::Warning => (Colour::Yellow, "warning"),
        Level::Problem => (Colour::Red, "problem"),
    };
    let found = finding.found.replace('\n', "\n         ");
    let mut line = format!("{}  {}: {found}", output.coloured(colour, word), finding.check.name());
    if let Some(advice) = &finding.advice {
        line.push_str(&format!("\n         -> {advice}"));
    }
    line
}
