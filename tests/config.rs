//! The configuration as its readers meet it: files, drop-ins, environment, flags, messages.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use limen::camera::SourceSpec;
use limen::config::{
    Config, Layers, LogLevel, MAXIMUM_FILE_BYTES, SECTIONS, parse_layers, reference, template,
};
use limen::models::Thresholds;

fn parse(text: &str) -> Result<Config, String> {
    parse_layers(&[("limen.toml", text)]).map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text)
}

/// The values alone, without where they came from.
fn values(config: &Config) -> Vec<(String, serde_json::Value)> {
    let shown = config.to_json();
    SECTIONS
        .iter()
        .flat_map(|section| section.settings)
        .map(|setting| (setting.path(), shown[setting.section][setting.key]["value"].clone()))
        .collect()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn defaults_pass_their_own_checks() {
    assert!(Config::default().check().is_ok());
}

#[test]
fn template_changes_nothing_and_names_every_setting_once() {
    let template = template();
    assert_eq!(values(&parse(&template).unwrap()), values(&Config::default()));

    let uncommented: String = template
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse(&uncommented).unwrap();
    assert_eq!(values(&config), values(&Config::default()));
    let mut count = 0;
    for setting in SECTIONS.iter().flat_map(|section| section.settings) {
        let origin = config.origin(setting).to_string();
        assert!(origin.starts_with("limen.toml, line "), "{} comes from {origin}", setting.path());
        count += 1;
    }
    assert_eq!(count, values(&config).len());
    assert!(count >= 30, "{count} settings");
}

/// `make docs` writes the page: it runs this test with LIMEN_WRITE_DOCS set.
#[test]
fn reference_page_is_current() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    if std::env::var_os("LIMEN_WRITE_DOCS").is_some() {
        fs::write(&page, reference()).unwrap();
    }
    let written = fs::read_to_string(&page).unwrap();
    assert!(written == reference(), "docs/config.md differs from the code: run `make docs`");
}

#[test]
fn later_layers_win_and_each_value_knows_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limen.toml");
    fs::write(&file, "[camera]\nwidth = 1280\nheight = 720\nrate_hz = 10\n\n[log]\nlevel = \"warn\"\n")
        .unwrap();
    let drop_ins = folder.path().join("limen.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("20-later.toml"), "camera.height = 960\n").unwrap();
    fs::write(drop_ins.join("10-earlier.toml"), "camera.height = 600\ncamera.rate_hz = 12\n").unwrap();
    fs::write(drop_ins.join("30-not-ours.conf"), "this is no TOML").unwrap();

    let config = Layers::new()
        .file(Some(&file))
        .environment(variables(&[("LIMEN_LOG__LEVEL", "debug"), ("LIMEN_CAMERA__SOURCE", "/dev/video2")]))
        .flag("--source", "camera.source", "scene")
        .build()
        .unwrap();

    assert_eq!((config.camera.width, config.camera.height), (1280, 960));
    assert_eq!(config.camera.rate_hz, 12.0);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.camera.source, SourceSpec::Scene);
    let shown = config.show();
    for expected in [
        "limen.toml, line 2",
        "20-later.toml, line 1",
        "10-earlier.toml, line 2",
        "environment variable LIMEN_LOG__LEVEL",
        "command line, --source",
        "default",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
    assert_eq!(config.read().len(), 3);
}

#[test]
fn what_is_shown_reads_back_the_same() {
    let config = parse("identification.threshold = 0.41\n[camera]\nsource = \"replay:a b\\\"c\"\n").unwrap();
    assert_eq!(values(&parse(&config.show()).unwrap()), values(&config));
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest_known_key() {
    for (text, expected) in [
        ("[camera]\nwith = 640\n", ["camera.with", "line 2", "did you mean camera.width?"]),
        ("[camra]\nwidth = 640\n", ["camra", "line 1", "did you mean [camera]?"]),
        ("[camera]\nminimum_score = 0.5\n", ["camera.minimum_score", "line 2", "detection.minimum_score?"]),
        ("\n\nthreads = 2\n", ["threads", "line 3", "did you mean litert.threads?"]),
    ] {
        let message = refusal(text);
        for part in expected {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }
    let message = refusal("[camera]\nzzzzzzzzzzzz = 1\n");
    assert!(!message.contains("did you mean"), "{message}");
}

#[test]
fn unknown_variables_are_refused_with_the_nearest_and_others_left_alone() {
    let build = |pairs| Layers::new().environment(variables(pairs)).build();
    let message = build(&[("LIMEN_LOG__LEVL", "info")]).unwrap_err().to_string();
    assert!(message.contains("did you mean LIMEN_LOG__LEVEL?"), "{message}");
    assert!(build(&[("LIMEN_EVAL_DATA", "/data"), ("LIMEN", "x"), ("PATH__", "y")]).is_ok());
}

#[test]
fn variables_are_toml_or_else_plain_text() {
    let build = |name, value| Layers::new().environment(variables(&[(name, value)])).build().unwrap();
    assert_eq!(build("LIMEN_DEVICE__NAME", "back door").device.name, "back door");
    assert_eq!(build("LIMEN_DEVICE__NAME", "\"back door\"").device.name, "back door");
    assert_eq!(build("LIMEN_DEVICE__NAME", "42").device.name, "42");
    assert!(!build("LIMEN_CAMERA__LOOP", "false").camera.r#loop);
    assert_eq!(build("LIMEN_IDENTIFICATION__THRESHOLD", "0.4").identification.threshold, Some(0.4));
    assert_eq!(build("LIMEN_IDENTIFICATION__THRESHOLD", "").identification.threshold, None);
}

#[test]
fn wrong_values_are_refused_with_key_found_allowed_and_layer() {
    for (text, expected) in [
        (
            "[camera]\nrate_hz = 500\n",
            "camera.rate_hz: found 500 where a number from 0.5 to 120 Hz is allowed (limen.toml, line 2)",
        ),
        (
            "[camera]\nwidth = \"640\"\n",
            "camera.width: found \"640\" where a whole number from 160 to 3840 px is allowed",
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            "log.level: found \"loud\" where one of \"error\", \"warn\", \"info\", \"debug\", \"trace\" is allowed",
        ),
        (
            "[identification]\nthreshold = 0.97\n",
            "identification.threshold: found 0.97 where \"\" or a number from 0 to 0.95 is allowed",
        ),
        ("camera = 3\n", "camera: found 3 where a section, [camera], is allowed (limen.toml, line 1)"),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected), "{expected}\nis missing in\n{message}");
    }
}

#[test]
fn every_setting_refuses_a_value_of_another_kind() {
    for setting in SECTIONS.iter().flat_map(|section| section.settings) {
        let message = refusal(&format!("{} = [1979-05-27]\n", setting.path()));
        assert!(message.contains(&setting.path()) && message.contains(&setting.allowed()), "{message}");
    }
}

#[test]
fn all_problems_are_reported_together() {
    let message = refusal("[camera]\nwidth = 1\nheight = 1\n[lgo]\n");
    for part in ["camera.width", "camera.height", "[log]?"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

#[test]
fn invalid_toml_is_refused_with_its_line() {
    let message = refusal("[camera]\nwidth = 640\nheight =\n");
    assert!(message.contains("not valid TOML") && message.contains("limen.toml, line 3"), "{message}");
}

#[test]
fn contradicting_settings_are_refused_and_their_neighbours_are_not() {
    for (refused, allowed, reason) in [
        (
            "identification.agreeing_probes = 5",
            "identification.agreeing_probes = 4",
            "before a subject could be named",
        ),
        ("tracking.idle_look_hz = 15.5", "tracking.idle_look_hz = 15", "no such frames"),
        ("camera.rate_hz = 4.5", "camera.rate_hz = 5", "no such frames"),
        (
            "quality.minimum_eye_distance_px = 193",
            "quality.minimum_eye_distance_px = 192",
            "larger than the frame",
        ),
        ("quality.minimum_exposure = 220", "quality.minimum_exposure = 219", "too dark or too bright"),
        ("tracking.lost_after_ms = 199", "tracking.lost_after_ms = 200", "lost between two looks"),
        ("tracking.recheck_after_ms = 199", "tracking.recheck_after_ms = 200", "no look comes that soon"),
        (
            "identification.threshold = 0.4\nenrolment.conflict_threshold = 0.41",
            "identification.threshold = 0.4\nenrolment.conflict_threshold = 0.4",
            "enrolled unnoticed",
        ),
        (
            "camera.format = \"yuyv\"\ncamera.width = 641",
            "camera.format = \"yuyv\"\ncamera.width = 642",
            "make it even",
        ),
        ("http.listen = \"localhost:8480\"", "http.listen = \"[::1]:8480\"", "no address and port"),
        ("http.listen = \"127.0.0.1\"", "http.listen = \"127.0.0.1:80\"", "no address and port"),
        (
            "http.public_url = \"door.local:8480\"",
            "http.public_url = \"http://door.local:8480/\"",
            "could reach this device by",
        ),
        (
            "http.public_url = \"https://door/?a\"",
            "http.public_url = \"https://door/limen\"",
            "could reach this device by",
        ),
        ("http.public_url = \"http:///\"", "http.public_url = \"http://door\"", "could reach this device by"),
        ("device.id = \"front/door\"", "device.id = \"front_door-1\"", "stands in topics"),
        ("mqtt.prefix = \"a/#\"", "mqtt.prefix = \"site/limen\"", "begins topics"),
        ("mqtt.prefix = \"$SYS\"", "mqtt.prefix = \"SYS$\"", "begins topics"),
        ("home_assistant.prefix = \"ha//x\"", "home_assistant.prefix = \"ha/x\"", "begins topics"),
        (
            "compatibility.frigate_prefix = \"limen\"",
            "compatibility.frigate_prefix = \"frigate\"",
            "topics of its own",
        ),
        (
            "mqtt.tls = true\nmqtt.client_key_file = \"/k\"",
            "mqtt.tls = true\nmqtt.client_key_file = \"/k\"\nmqtt.client_certificate_file = \"/c\"",
            "of no use without the other",
        ),
        ("mqtt.ca_file = \"/ca\"", "mqtt.tls = true\nmqtt.ca_file = \"/ca\"", "would not be encrypted"),
        ("mqtt.host = \"mqtt://broker\"", "mqtt.host = \"broker.local\"", "no host name"),
        ("mqtt.host = \"fe80::1\"", "mqtt.host = \"192.0.2.1\"", "no host name"),
    ] {
        let message = refusal(refused);
        assert!(message.contains(reason), "{reason} is missing in: {message}");
        assert!(parse(allowed).is_ok(), "{allowed}: {:?}", parse(allowed));
    }
}

#[test]
fn thresholds_come_from_the_settings_or_else_the_model_and_are_checked_together() {
    let model = Thresholds { identification: 0.48, verification: 0.43, margin: 0.05, conflict: 0.43 };
    assert_eq!(Config::default().thresholds(&model).unwrap(), model);
    let config = parse("identification.threshold = 0.5\nidentification.margin = 0.1\n").unwrap();
    let expected = Thresholds { identification: 0.5, margin: 0.1, ..model };
    assert_eq!(config.thresholds(&model).unwrap(), expected);

    let refused = |config: &Config, model| config.thresholds(model).unwrap_err().to_string();
    let lowered = refused(&parse("identification.threshold = 0.4\n").unwrap(), &model);
    assert!(lowered.contains("enrolment.conflict_threshold is 0.43 in force (model manifest)"), "{lowered}");
    let unreachable = refused(&Config::default(), &Thresholds { identification: 0.96, ..model });
    assert!(unreachable.contains("nobody would match"), "{unreachable}");
    assert!(Config::default().thresholds(&Thresholds { identification: f32::NAN, ..model }).is_err());
}

#[test]
fn a_named_file_must_exist_and_be_a_readable_file() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| Layers::new().file(Some(path)).build().map_err(|error| error.to_string());

    let missing = load(&folder.path().join("missing.toml")).unwrap_err();
    assert!(missing.contains("missing.toml"), "{missing}");
    let not_a_file = load(folder.path()).unwrap_err();
    assert!(not_a_file.contains("not a regular file"), "{not_a_file}");
    let endless = load(Path::new("/dev/zero")).unwrap_err();
    assert!(endless.contains("not a regular file"), "{endless}");
    let latin1 = folder.path().join("latin1.toml");
    fs::write(&latin1, b"# \xe9\n").unwrap();
    let latin1 = load(&latin1).unwrap_err();
    assert!(latin1.contains("not UTF-8 from byte 2 on"), "{latin1}");
}

#[test]
fn files_above_the_limit_are_refused_and_at_the_limit_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.toml");
    let load = || Layers::new().file(Some(&file)).build().map_err(|error| error.to_string());
    fs::write(&file, "#".repeat(MAXIMUM_FILE_BYTES)).unwrap();
    assert!(load().is_ok());
    fs::write(&file, "#".repeat(MAXIMUM_FILE_BYTES + 1)).unwrap();
    let message = load().unwrap_err();
    assert!(message.contains("1048577 bytes and 1048576 are allowed"), "{message}");
    assert!(refusal(&"#".repeat(MAXIMUM_FILE_BYTES + 1)).contains("1048577 bytes"));
}

#[test]
fn more_drop_ins_than_allowed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limen.toml");
    fs::write(&file, "").unwrap();
    fs::create_dir(folder.path().join("limen.toml.d")).unwrap();
    let load = || Layers::new().file(Some(&file)).build().map_err(|error| error.to_string());
    for number in 0..64 {
        fs::write(folder.path().join(format!("limen.toml.d/{number}.toml")), "").unwrap();
    }
    assert_eq!(load().unwrap().read().len(), 65);
    fs::write(folder.path().join("limen.toml.d/64.toml"), "").unwrap();
    assert!(load().unwrap_err().contains("more than 64 drop-ins"));
}

#[test]
fn hostile_texts_are_refused_with_short_printable_messages() {
    let long_key = format!("{} = 1", "a".repeat(900_000));
    let many_keys: String = (0..60_000).map(|n| format!("k{n} = 1\n")).collect();
    let many_in_section: String = format!("[camera]\n{many_keys}");
    let deep = format!("camera = {}{}", "[".repeat(400_000), "]".repeat(400_000));
    let dotted = format!("{}a = 1", "a.".repeat(400_000));
    let long_value = format!("[device]\nname = \"{}\"", "x".repeat(900_000));
    let escape = "[log]\nlevel = \"\\u001b[31m\\u202e\"".to_owned();
    for text in [long_key, many_keys, many_in_section, deep, dotted, long_value, escape] {
        let message = refusal(&text);
        assert!(message.len() < 8_000, "{} bytes: {}", message.len(), &message[..400]);
        assert!(message.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{message:?}");
    }
}

#[test]
fn flood_of_unknown_variables_is_refused_without_comparing_each_with_every_setting() {
    let name = |n: u32| (format!("LIMEN_CAMERA__{}{n}", "X".repeat(40)).into(), "1".into());
    // Only the time this takes tells whether the names behind the twentieth were compared too.
    let message = Layers::new().environment((0..20_000).map(name)).build().unwrap_err().to_string();
    assert_eq!(message.matches("LIMEN_CAMERA__X").count(), 20, "{message}");
    assert!(message.contains("and more of the kind"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}", section in 0usize..12, key in 0usize..12, value in "[\\[\\]{}\"'0-9a-fx_.eE+\\-:, ]{0,40}") {
        let section = &SECTIONS[section % SECTIONS.len()];
        let setting = &section.settings[key % section.settings.len()];
        let line = format!("{} = {value}", setting.path());
        for layers in [&[("a", &text[..])][..], &[("a", &line[..]), ("b", &text[..])]] {
            if let Ok(config) = parse_layers(layers) {
                proptest::prop_assert!(parse_layers(&[("again", &config.show())]).is_ok());
            }
        }
    }
}
