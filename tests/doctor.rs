//! `limen doctor` from the outside: the real program on whole and on broken installations.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod broker;
mod program;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use broker::{Broker, Guard};
use program::{Program, models_folder, portrait};
use serde_json::Value;

/// A device with somebody enrolled, the built-in scene for a camera, and any free port for the web
/// server.
fn healthy() -> Program {
    let program =
        Program::new().with("LIMEN_CAMERA__SOURCE", "scene").with("LIMEN_HTTP__LISTEN", "127.0.0.1:0");
    program.ends(0, &["enrol", "Ada", &portrait("barack_obama_1")]);
    program
}

/// The one finding of a check.
#[track_caller]
fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    let mut of_check = findings.iter().filter(|finding| finding["check"] == check);
    let found = of_check.next().unwrap_or_else(|| panic!("nothing about {check}: {report:#}"));
    assert!(of_check.next().is_none(), "{check} twice: {report:#}");
    found
}

/// That `check`, and no other, is a problem, with `found` among the words and something to do.
#[track_caller]
fn only_problem(report: &Value, check: &str, found: &[&str]) {
    let findings = report["findings"].as_array().unwrap();
    let problems: Vec<&Value> = findings.iter().filter(|finding| finding["level"] == "problem").collect();
    assert_eq!(problems.len(), 1, "{report:#}");
    assert_eq!(report["problems"], 1);
    let problem = finding(report, check);
    assert_eq!(problem["level"], "problem", "{report:#}");
    for words in found {
        assert!(problem["found"].as_str().unwrap().contains(words), "`{words}` is not in {problem:#}");
    }
    assert!(problem["advice"].as_str().unwrap().len() > 10, "{problem:#}");
}

#[test]
fn whole_installation_has_no_problem() {
    let program = healthy();
    let report = program.json(0, &["doctor"]);
    assert_eq!(report["problems"], 0, "{report:#}");
    for check in [
        "configuration",
        "state",
        "storage",
        "gallery",
        "models",
        "recognition",
        "camera",
        "broker",
        "http",
        "clock",
        "memory",
        "temperature",
    ] {
        assert_ne!(finding(&report, check)["level"], "problem", "{report:#}");
    }
    // As far as they do not depend on the machine that runs the tests.
    for check in ["configuration", "state", "gallery", "models", "recognition", "camera", "broker", "http"] {
        assert_eq!(finding(&report, check)["level"], "ok", "{report:#}");
    }
    let text = program.ends(0, &["doctor"]).out;
    assert!(text.contains("ok       camera: ") && text.contains("\n0 problems, "), "{text}");
}

/// Everything that stands in the program's sources, as it is printed: without the breaks of long literals.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            for line in source.lines().map(str::trim_start) {
                text.push_str(line.strip_suffix('\\').unwrap_or(line));
            }
        }
    }
}

#[test]
fn troubleshooting_has_a_chapter_for_each_check_and_quotes_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let report = healthy().json(0, &["doctor"]);
    let checks: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    for check in &checks {
        assert!(page.contains(&format!("\n## {check}\n")), "docs/troubleshooting.md has no chapter {check}");
    }

    let mut printed = String::new();
    sources(&root.join("src"), &mut printed);
    let chapters =
        page.split("\n## ").filter(|chapter| checks.iter().any(|check| chapter.starts_with(check)));
    let quoted: Vec<&str> = chapters
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert!(quoted.len() > 20, "{quoted:?}");
    for words in quoted {
        // What the operating system says is not ours.
        assert!(printed.contains(words) || words == "Permission denied", "nothing prints `{words}`");
    }
    assert!(!printed.contains("words that nothing prints"));
}

#[test]
fn new_installation_is_no_problem_and_nothing_is_made() {
    let program =
        Program::new().with("LIMEN_CAMERA__SOURCE", "scene").with("LIMEN_HTTP__LISTEN", "127.0.0.1:0");
    let report = program.json(0, &["doctor"]);
    assert!(finding(&report, "state")["found"].as_str().unwrap().contains("first start"), "{report:#}");
    assert!(!program.state().exists());
}

#[test]
fn names_are_not_told() {
    let program = healthy();
    program.ends(0, &["enrol", "Zebedee Quuxington", &portrait("joe_biden_1")]);
    let ended = program.ends(0, &["doctor", "--json"]);
    assert!(!format!("{}{}", ended.out, ended.err).contains("Zebedee"));
}

#[test]
fn missing_camera_is_the_problem() {
    let program = healthy().with("LIMEN_CAMERA__SOURCE", "/dev/video-not-there");
    only_problem(&program.json(3, &["doctor"]), "camera", &["/dev/video-not-there", "plug the camera in"]);
    let text = program.ends(3, &["doctor"]).out;
    assert!(text.contains("problem  camera: ") && text.contains("\n         -> "), "{text}");
}

#[test]
fn unreadable_or_changed_models_are_the_problem() {
    let program = healthy().with("LIMEN_MODELS__FOLDER", "/nonexistent");
    let report = program.json(3, &["doctor"]);
    only_problem(&report, "models", &["/nonexistent/manifest.toml"]);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["check"] != "recognition"), "it was not tried");

    let folder = PathBuf::from(program.path("models"));
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(models_folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let file = folder.join("sface-int8.tflite");
    let mut bytes = fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    fs::write(&file, bytes).unwrap();
    let program = program.with("LIMEN_MODELS__FOLDER", &folder);
    only_problem(&program.json(3, &["doctor"]), "models", &["sface-int8.tflite", "sha256"]);
}

#[test]
fn key_that_others_can_read_is_the_problem() {
    let program = healthy();
    let key = program.state().join("root.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    only_problem(&program.json(3, &["doctor"]), "state", &["root.key", "0644"]);
}

#[test]
fn lost_key_is_the_problem_and_no_new_one_is_made() {
    let program = healthy();
    let key = program.state().join("root.key");
    fs::remove_file(&key).unwrap();
    only_problem(&program.json(3, &["doctor"]), "state", &["gallery.db is there but its key is not"]);
    assert!(!key.exists());
}

#[test]
fn damaged_gallery_is_the_problem() {
    let program = healthy();
    let gallery = program.state().join("gallery.db");
    let mut bytes = fs::read(&gallery).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0x5a);
    fs::write(&gallery, bytes).unwrap();
    only_problem(&program.json(3, &["doctor"]), "gallery", &["damaged"]);
}

#[test]
fn state_folder_that_cannot_be_written_is_the_problem() {
    // The kernel takes no files there, from nobody.
    let program = healthy().with("LIMEN_STATE__FOLDER", "/sys/kernel");
    only_problem(&program.json(3, &["doctor"]), "storage", &["/sys/kernel", "cannot be written"]);
}

/// Runs the doctor on a file system of its own, mounted in a namespace of its own; `None` where the
/// system does not allow that.
fn on_file_system(program: &Program, options: &str, then: &str) -> Option<Value> {
    fs::create_dir_all(program.state()).unwrap();
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this system gives no mount namespaces to this account");
        return None;
    }
    let doctor = program.command(&["doctor", "--json"]);
    let script = format!(r#"mount -t tmpfs -o mode=700,{options} limen "$0" && {{ {then}; }} && exec "$@""#);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(program.state());
    command.arg(doctor.get_program()).args(doctor.get_args());
    for (name, value) in doctor.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(3), "{out}{err}");
    Some(serde_json::from_str(&out).unwrap())
}

fn with_scene() -> Program {
    Program::new().with("LIMEN_CAMERA__SOURCE", "scene").with("LIMEN_HTTP__LISTEN", "127.0.0.1:0")
}

#[test]
fn full_disk_is_the_problem() {
    if let Some(report) = on_file_system(&with_scene(), "size=4m", "true") {
        only_problem(&report, "storage", &["4 MiB free"]);
    }
    // Room enough by its size, and no place for another file.
    if let Some(report) = on_file_system(&with_scene(), "size=64m,nr_inodes=2", r#": > "$0/a""#) {
        only_problem(&report, "storage", &["another file"]);
    }
}

#[test]
fn read_only_file_system_is_the_problem() {
    if let Some(report) = on_file_system(&with_scene(), "size=64m", r#"mount -o remount,ro "$0""#) {
        only_problem(&report, "storage", &["read-only"]);
    }
}

#[test]
fn broker_that_does_not_listen_is_the_problem() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let program = healthy().with("LIMEN_MQTT__HOST", "127.0.0.1").with("LIMEN_MQTT__PORT", &port);
    // Something that listens is not yet a broker.
    only_problem(&program.json(3, &["doctor"]), "broker", &["takes a connection, but"]);
    drop(taken);
    only_problem(&program.json(3, &["doctor"]), "broker", &[&port, "does not take a connection"]);
}

#[test]
fn port_of_another_program_is_the_problem() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let program = healthy().with("LIMEN_HTTP__LISTEN", &address);
    only_problem(&program.json(3, &["doctor"]), "http", &[&address]);
}

#[test]
fn wrong_configuration_is_the_problem_and_the_board_is_looked_at_all_the_same() {
    let program = healthy();
    fs::write(program.path("limen.toml"), "[camera]\nwidht = 640\n").unwrap();
    let report = program.json(3, &["doctor"]);
    only_problem(&report, "configuration", &["widht"]);
    finding(&report, "clock");
    assert!(Path::new(&program.path("limen.toml")).exists());
}

#[test]
fn broker_that_lets_the_device_in_is_told_from_one_that_does_not() {
    let broker = Broker::new(Guard::Password);
    let program =
        healthy().with("LIMEN_MQTT__HOST", "127.0.0.1").with("LIMEN_MQTT__PORT", broker.port.to_string());
    only_problem(&program.json(3, &["doctor"]), "broker", &["takes a connection, but"]);
    broker::write_private(&broker.path("login"), "door\ns3cret\n");
    let program = program.with("LIMEN_MQTT__CREDENTIALS_FILE", broker.path("login"));
    let report = program.json(0, &["doctor"]);
    let found = finding(&report, "broker")["found"].as_str().unwrap().to_owned();
    assert!(found.contains("has let this device in"), "{found}");
}
