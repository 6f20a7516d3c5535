//! The unit file, as systemd itself reads it.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// In tenths of systemd's measure. The unit has 13 with systemd 252; other versions weigh a little
/// otherwise. That everything works in it is shown by `tests/lab/appliance.sh`.
const MOST_EXPOSED: &str = "15";

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/limen.service")
}

/// What `systemd-analyze` says about a unit; `None` where there is none.
fn analyze(arguments: &[&str], unit: &Path) -> Option<(bool, String)> {
    let Ok(output) = Command::new("systemd-analyze").args(arguments).arg(unit).output() else {
        eprintln!("SKIPPED: this machine has no systemd-analyze");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// The unit with one line changed, in a folder of its own.
fn changed(from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let text = std::fs::read_to_string(unit()).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limen.service");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    (folder, path)
}

#[test]
fn unit_is_understood_without_a_complaint() {
    // The program is not installed where the tests run.
    let (_folder, path) = changed("ExecStart=/usr/bin/limen", "ExecStart=/bin/true");
    if let Some((fine, said)) = analyze(&["verify"], &path) {
        assert!(fine && said.is_empty(), "{said}");
        let (_folder, path) =
            changed("ExecStart=/usr/bin/limen", "ExecStart=/bin/true\nNoNewPrivilege=yes\n#");
        let (_, said) = analyze(&["verify"], &path).unwrap();
        assert!(said.contains("NoNewPrivilege"), "a misspelt line is told: {said}");
    }
}

#[test]
fn unit_exposes_little() {
    let threshold = format!("--threshold={MOST_EXPOSED}");
    let measure = ["security", "--offline=yes", &threshold];
    if let Some((fine, said)) = analyze(&measure, &unit()) {
        assert!(fine, "{said}");
        let (_folder, path) = changed("\nCapabilityBoundingSet=\n", "\n");
        let (fine, said) = analyze(&measure, &path).unwrap();
        assert!(!fine, "all capabilities are more than a little: {said}");
    }
}
