//! The settings on the page: all of them with their meaning and origin, and the desk at which they are
//! changed: checked as a whole, written, applied, in this order and one change at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::access::{Access, AuditDetail, Role};
use super::operation::{Given, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::config::{
    Config, ConfigError, Effect, Kind, Origin, PAGE_FILE, PageSettings, Problem as SettingProblem, SECTIONS,
    Setting, Sources, find,
};
use crate::daemon::camera_settings;
use crate::models::Thresholds;
use crate::mqtt::{MqttSettings, probe};
use crate::vault::{StateFolder, VaultError};

/// Settings changed by one request.
const MOST_CHANGES: usize = 200;
/// A broker that does not answer is given up before that.
const TEST_WITHIN: Duration = Duration::from_secs(20);

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/settings", Access::Role(Role::Admin), "list_settings", list)
            .about("Every setting with its meaning, value and origin. Secrets are not shown.")
            .gives::<SettingsView>(StatusCode::OK),
        Operation::patch("/api/settings", Role::Admin, "change_settings", change)
            .about(
                "Changes settings, all of them or none: `section.key` and value, or null for what the device's \
                 files say. What cannot be is told with every problem there is.",
            )
            .takes::<ChangeBody>()
            .gives::<SettingsView>(StatusCode::OK)
            .refuses(&[422]),
        Operation::post("/api/settings/test-broker", Role::Admin, "test_broker", test_broker)
            .about("Logs in to the broker once with these changes, without making them.")
            .takes::<ChangeBody>()
            .gives::<TestView>(StatusCode::OK)
            .refuses(&[422, 503])
            .within(TEST_WITHIN),
        Operation::post("/api/restart", Role::Admin, "restart", restart)
            .about("Ends the program in order and starts it again.")
            .gives::<RestartView>(StatusCode::ACCEPTED),
    ]
}

/// Why settings could not be changed.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// What is wrong with them.
    Settings(Vec<WrongSetting>),
    /// They are right and could not be kept.
    Storage(VaultError),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct WrongSetting {
    /// `section.key`, where it is about one.
    pub(crate) key: Option<String>,
    /// What, and what is allowed.
    pub(crate) message: String,
}

impl From<&SettingProblem> for WrongSetting {
    fn from(problem: &SettingProblem) -> Self {
        Self { key: problem.key().map(str::to_owned), message: problem.to_string() }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self::Settings(error.problems().iter().map(WrongSetting::from).collect())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Settings(problems) => {
                let message = problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>();
                Self::unusable("settings", message.join("; ")).with(json!({ "problems": problems }))
            }
            Refusal::Storage(error) => Self::failed("keeping the settings", &error),
        }
    }
}

/// Applies a configuration to the running program, as far as it takes effect at once.
pub(crate) type Apply = Box<dyn Fn(&Config) + Send + Sync>;

/// Where settings are changed.
pub(crate) struct SettingsDesk {
    sources: Sources,
    state: StateFolder,
    /// What the networks' own thresholds are.
    model: Thresholds,
    /// As the program was started.
    started: Config,
    /// In force, but for what waits for a restart.
    current: ArcSwap<Config>,
    /// One change at a time.
    turn: Mutex<()>,
    apply: Apply,
    restart: Arc<AtomicBool>,
    /// One broker is tried at a time.
    testing: Semaphore,
}

impl SettingsDesk {
    /// `config` is what `sources` gave at the start; `restart` is set to end the program and start anew.
    pub(crate) fn new(
        sources: Sources,
        state: StateFolder,
        config: &Config,
        model: Thresholds,
        apply: Apply,
        restart: Arc<AtomicBool>,
    ) -> Self {
        let current = ArcSwap::from_pointee(config.clone());
        let (turn, testing) = (Mutex::new(()), Semaphore::new(1));
        Self { sources, state, model, started: config.clone(), current, turn, apply, restart, testing }
    }

    /// The settings in force; what waits for a restart is in it already.
    pub(crate) fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// The thresholds in force.
    pub(crate) fn thresholds(&self) -> Thresholds {
        // Checked before they came into force.
        self.current().thresholds(&self.model).unwrap_or(self.model)
    }

    /// What the settings would be with these changes.
    fn preview(&self, changes: &BTreeMap<String, Value>) -> Result<(Config, PageSettings), Refusal> {
        if changes.len() > MOST_CHANGES {
            let message =
                format!("{} settings are changed at once; {MOST_CHANGES} are allowed", changes.len());
            return Err(Refusal::Settings(vec![WrongSetting { key: None, message }]));
        }
        let mut page = PageSettings::load(&self.sources.page_path())?;
        let current = self.current();
        let mut wrong = Vec::new();
        for (path, value) in changes {
            let setting = path.split_once('.').and_then(|(section, key)| find(section, key));
            let locked = setting.and_then(|setting| locked(&current, setting));
            if let Some(why) = locked.or_else(|| beyond_the_page(path, value)) {
                wrong.push(WrongSetting { key: Some(path.clone()), message: format!("{path} {why}") });
            } else if let Err(problem) = page.set(path, Some(value).filter(|value| !value.is_null())) {
                wrong.push((&problem).into());
            }
        }
        match self.sources.build_with(&page) {
            Err(error) => wrong.extend(error.problems().iter().map(WrongSetting::from)),
            Ok(config) if wrong.is_empty() => {
                config.thresholds(&self.model)?;
                if let Err(error) = camera_settings(&config).check() {
                    wrong.push(WrongSetting { key: None, message: error.to_string() });
                } else {
                    return Ok((config, page));
                }
            }
            Ok(_) => {}
        }
        Err(Refusal::Settings(wrong))
    }

    /// Whether the broker's login may go where `config` says, given what is in force and what was changed
    /// in the same request: to another place only as far as it was typed for it. Otherwise whoever may
    /// change the place could have the login sent to a place of their own.
    fn check_login(&self, config: &Config, changes: &BTreeMap<String, Value>) -> Result<(), Refusal> {
        // Where there is no broker, nothing is sent anywhere.
        let Some(next) = MqttSettings::new(config) else { return Ok(()) };
        let place = |mqtt: &MqttSettings| (mqtt.address(), mqtt.tls.is_some());
        if MqttSettings::new(&self.current()).is_some_and(|now| place(&now) == place(&next)) {
            return Ok(());
        }
        let refused = |message: &str| {
            Err(Refusal::Settings(vec![WrongSetting {
                key: Some("mqtt.host".to_owned()),
                message: message.to_owned(),
            }]))
        };
        let password = find("mqtt", "password");
        if next.has_login_of_the_device()
            || password.is_some_and(|password| locked(config, password).is_some())
        {
            return refused(
                "mqtt: the login of the broker was not set here but comes from the device (a file, a systemd \
                 credential or the environment), and is not sent to another place from here: change mqtt.host, \
                 mqtt.port and mqtt.tls in the configuration file",
            );
        }
        let typed = changes.get("mqtt.password").is_some_and(Value::is_string);
        if next.login.is_some_and(|(_, password)| password.is_some()) && !typed {
            return refused("mqtt: type the password again to try or use another broker");
        }
        Ok(())
    }

    /// Changes settings. They are on the disk and in force when this returns. Blocks.
    pub(crate) fn change(&self, changes: &BTreeMap<String, Value>) -> Result<(), Refusal> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (config, page) = self.preview(changes)?;
        self.check_login(&config, changes)?;
        self.state.replace(PAGE_FILE, page.text().as_bytes()).map_err(Refusal::Storage)?;
        (self.apply)(&config);
        self.current.store(Arc::new(config));
        Ok(())
    }

    /// Whether a setting was changed that waits for the program to start again.
    fn restart_needed(&self) -> bool {
        let current = self.current();
        let settings = SECTIONS.iter().flat_map(|section| section.settings);
        settings
            .filter(|setting| setting.effect != Effect::Now)
            .any(|setting| setting.json(&self.started) != setting.json(&current))
    }

    fn view(&self) -> SettingsView {
        let (config, defaults, page) = (self.current(), Config::default(), self.sources.page_path());
        let page = page.to_string_lossy();
        let idle: BTreeMap<_, _> = config.without_effect().into_iter().collect();
        let describe = |setting: &'static Setting| {
            let shape = setting.shape();
            let json = |config| Some(setting.json(config)).filter(|_| !setting.is_secret());
            let origin = match config.origin(setting) {
                Origin::File { name, .. } if name == page => "admin page".to_owned(),
                origin => origin.to_string(),
            };
            SettingView {
                path: setting.path(),
                key: setting.key,
                doc: setting.doc.split_whitespace().collect::<Vec<_>>().join(" "),
                unit: setting.unit,
                allowed: setting.allowed(),
                kind: shape.kind,
                optional: shape.optional,
                choices: (!shape.choices.is_empty()).then_some(shape.choices),
                minimum: shape.range.map(|(minimum, _)| minimum),
                maximum: shape.range.map(|(_, maximum)| maximum),
                value: json(&config).unwrap_or_default(),
                default: json(&defaults).unwrap_or_default(),
                set: setting.is_secret().then(|| !setting.json(&config).is_null()),
                origin,
                locked: locked(&config, setting).is_some(),
                effect: setting.effect,
                note: idle.get(setting.path().as_str()).map(|why| format!("has no effect now: {why}")),
            }
        };
        let sections = SECTIONS.iter().map(|section| SectionView {
            name: section.name,
            doc: section.doc.split_whitespace().collect::<Vec<_>>().join(" "),
            settings: section.settings.iter().map(describe).collect(),
        });
        SettingsView { sections: sections.collect(), restart_needed: self.restart_needed() }
    }
}

/// Why the page cannot change a setting.
fn locked(config: &Config, setting: &'static Setting) -> Option<String> {
    match config.origin(setting) {
        Origin::Environment(variable) => {
            Some(format!("is set by the environment variable {variable}, which wins over the page"))
        }
        Origin::Flag(flag) => Some(format!("is set on the command line by {flag}, which wins over the page")),
        _ if !setting.is_for_the_page() => {
            Some("names files that are read or run: set it in a file of the device".to_owned())
        }
        _ => None,
    }
}

/// What a setting may be in a file of the device, and not here.
fn beyond_the_page(path: &str, value: &Value) -> Option<String> {
    let text = value.as_str().filter(|_| path == "camera.source")?;
    let name = text.strip_prefix("v4l2:").unwrap_or(text);
    let is_camera = name.starts_with("/dev/video") || name.starts_with("/dev/v4l/");
    let plain = name.split('/').all(|part| part != "..") && !name.contains('\0');
    let allowed = matches!(text, "auto" | "scene") || (is_camera && plain);
    (!allowed).then(|| {
        "may be `auto`, `scene`, or a camera below /dev/video* or /dev/v4l/ when it is set here; recordings and \
         other paths are set in the configuration file only"
            .to_owned()
    })
}

/// All settings.
#[derive(Serialize, JsonSchema)]
struct SettingsView {
    sections: Vec<SectionView>,
    /// Something was changed that takes hold when the program starts the next time.
    restart_needed: bool,
}

/// Settings of one kind.
#[derive(Serialize, JsonSchema)]
struct SectionView {
    name: &'static str,
    doc: String,
    settings: Vec<SettingView>,
}

/// One setting.
#[derive(Serialize, JsonSchema)]
struct SettingView {
    /// `section.key`.
    path: String,
    key: &'static str,
    doc: String,
    unit: Option<&'static str>,
    /// What it may be, in words.
    allowed: String,
    kind: Kind,
    /// It may be unset, by an empty text.
    optional: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<f64>,
    /// Null for a secret, and for what is unset.
    value: Value,
    default: Value,
    /// Of a secret: whether there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<bool>,
    /// Where the value comes from.
    origin: String,
    /// The page cannot change it.
    locked: bool,
    effect: Effect,
    /// Why it changes nothing, while other settings are as they are.
    note: Option<String>,
}

/// Changes to settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    /// `section.key` and value; null takes back what was set on the page.
    changes: BTreeMap<String, Value>,
}

async fn list(State(site): State<Arc<Site>>) -> Result<Json<SettingsView>, Problem> {
    view(&site).await
}

async fn view(site: &Arc<Site>) -> Result<Json<SettingsView>, Problem> {
    let desk = Arc::clone(&site.settings);
    blocking(move || desk.view()).await.map(Json)
}

/// Reads and writes files.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::failed("changing settings", &error))
}

async fn change(
    State(site): State<Arc<Site>>,
    Given(body): Given<ChangeBody>,
) -> Result<(AuditDetail, Json<SettingsView>), Problem> {
    let desk = Arc::clone(&site.settings);
    // Their values may be secret.
    let detail = AuditDetail::new(body.changes.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    blocking(move || desk.change(&body.changes)).await??;
    Ok((detail, view(&site).await?))
}

/// What became of the attempt.
#[derive(Serialize, JsonSchema)]
struct TestView {
    /// The broker has let this device in.
    ok: bool,
    /// What was found, or why not.
    message: String,
}

async fn test_broker(
    State(site): State<Arc<Site>>,
    Given(body): Given<ChangeBody>,
) -> Result<Json<TestView>, Problem> {
    let desk = Arc::clone(&site.settings);
    let _turn = site
        .settings
        .testing
        .try_acquire()
        .map_err(|_| Problem::busy("a broker is being tried already; try again in some seconds"))?;
    let tried = move || {
        let (config, _) = desk.preview(&body.changes)?;
        desk.check_login(&config, &body.changes)?;
        Ok::<_, Refusal>(match MqttSettings::new(&config) {
            None => Err("mqtt.host is empty: there is no broker to try".to_owned()),
            Some(settings) => probe(&settings),
        })
    };
    Ok(Json(match blocking(tried).await?? {
        Ok(message) => TestView { ok: true, message },
        Err(message) => TestView { ok: false, message },
    }))
}

/// What happens next.
#[derive(Serialize, JsonSchema)]
struct RestartView {
    /// In words.
    message: &'static str,
}

async fn restart(State(site): State<Arc<Site>>) -> (StatusCode, Json<RestartView>) {
    tracing::info!("told to start again on the admin page");
    site.settings.restart.store(true, Ordering::Relaxed);
    (StatusCode::ACCEPTED, Json(RestartView { message: "the program ends in order and starts again" }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A desk on a state folder of its own; what was applied lies in the second.
    pub(in super::super) fn desk(
        folder: &std::path::Path,
        file: &str,
    ) -> (SettingsDesk, Arc<Mutex<Vec<Config>>>) {
        let state = StateFolder::open_or_create(&folder.join("state")).unwrap();
        let path = folder.join("limen.toml");
        std::fs::write(&path, file).unwrap();
        let sources = Sources::new(Some(path))
            .flag("--state", "state.folder", &state.path().to_string_lossy())
            .environment([("LIMEN_DETECTION__MAXIMUM_FACES".into(), "4".into())]);
        let config = sources.build().unwrap();
        let model = Thresholds { identification: 0.48, verification: 0.43, margin: 0.05, conflict: 0.43 };
        let applied = Arc::new(Mutex::new(Vec::new()));
        let apply: Apply = {
            let applied = Arc::clone(&applied);
            Box::new(move |config| applied.lock().unwrap().push(config.clone()))
        };
        (SettingsDesk::new(sources, state, &config, model, apply, Arc::default()), applied)
    }

    fn changes<const N: usize>(changes: [(&str, Value); N]) -> BTreeMap<String, Value> {
        changes.into_iter().map(|(path, value)| (path.to_owned(), value)).collect()
    }

    fn wrong(desk: &SettingsDesk, wanted: BTreeMap<String, Value>) -> Vec<WrongSetting> {
        match desk.change(&wanted) {
            Err(Refusal::Settings(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    fn found<'v>(view: &'v SettingsView, path: &str) -> &'v SettingView {
        view.sections.iter().flat_map(|section| &section.settings).find(|s| s.path == path).unwrap()
    }

    #[test]
    fn change_is_kept_applied_and_shown_with_its_origin() {
        let folder = tempfile::tempdir().unwrap();
        let (desk, applied) = desk(folder.path(), "[camera]\nrate_hz = 10\n");
        desk.change(&changes([
            ("identification.threshold", json!(0.7)),
            ("mqtt.password", json!("hunter2")),
            ("mqtt.user_name", json!("door")),
        ]))
        .unwrap();
        assert_eq!(applied.lock().unwrap().len(), 1);
        assert_eq!(desk.thresholds().identification, 0.7);
        let view = desk.view();
        let threshold = found(&view, "identification.threshold");
        assert_eq!((&threshold.value, threshold.origin.as_str()), (&json!(0.7), "admin page"));
        assert_eq!((threshold.minimum, threshold.maximum, threshold.locked), (Some(0.0), Some(0.95), false));
        let rate = found(&view, "camera.rate_hz");
        assert!(rate.origin.ends_with("limen.toml, line 2"), "{}", rate.origin);
        let password = found(&view, "mqtt.password");
        assert_eq!((&password.value, password.set), (&Value::Null, Some(true)));
        assert!(!serde_json::to_string(&view).unwrap().contains("hunter2"));
        assert!(found(&view, "mqtt.port").note.as_deref().unwrap().contains("mqtt.host is empty"));
        let file = std::fs::metadata(desk.sources.page_path()).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
        // Read again as at the next start.
        assert_eq!(desk.sources.build().unwrap().identification.threshold, Some(0.7));
        desk.change(&changes([("identification.threshold", Value::Null)])).unwrap();
        assert_eq!(desk.thresholds().identification, 0.48);
    }

    #[test]
    fn every_problem_is_told_and_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (desk, applied) = desk(folder.path(), "");
        let problems = wrong(
            &desk,
            changes([
                ("camera.rate_hz", json!(900)),
                ("camera.speed", json!(1)),
                ("detection.maximum_faces", json!(2)),
                ("litert.library", json!("/tmp/x.so")),
                ("state.folder", json!("/")),
                ("identification.threshold", json!({ "a": 1 })),
            ]),
        );
        let keys: Vec<_> = problems.iter().filter_map(|problem| problem.key.as_deref()).collect();
        for key in [
            "camera.rate_hz",
            "camera.speed",
            "detection.maximum_faces",
            "litert.library",
            "state.folder",
            "identification.threshold",
        ] {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
        // Possible one by one, not together; and against the networks' own thresholds.
        let problems = wrong(&desk, changes([("identification.agreeing_probes", json!(9))]));
        assert_eq!(problems[0].key.as_deref(), Some("identification.agreeing_probes"));
        let problems = wrong(&desk, changes([("enrolment.conflict_threshold", json!(0.6))]));
        assert!(problems[0].message.contains("enrolment.conflict_threshold"), "{problems:?}");
        assert!(applied.lock().unwrap().is_empty());
        assert!(!desk.sources.page_path().exists());
    }

    #[test]
    fn login_of_the_broker_goes_nowhere_it_was_not_typed_for() {
        let folder = tempfile::tempdir().unwrap();
        let (desk, _) = desk(folder.path(), "[mqtt]\nhost = \"broker\"\n");
        let login = [("mqtt.user_name", json!("door")), ("mqtt.password", json!("hunter2"))];
        desk.change(&changes(login.clone())).unwrap();
        let may_go = |wanted: &BTreeMap<String, Value>| {
            let (config, _) = desk.preview(wanted).unwrap();
            desk.check_login(&config, wanted).is_ok()
        };
        let elsewhere =
            [("mqtt.host", json!("elsewhere")), ("mqtt.port", json!(1884)), ("mqtt.tls", json!(true))];
        for (path, value) in elsewhere {
            let mut wanted = changes([(path, value)]);
            assert!(!may_go(&wanted), "{path}");
            let problems = wrong(&desk, wanted.clone());
            assert!(problems[0].message.contains("type the password again"), "{problems:?}");
            // The name alone is not enough.
            wanted.insert("mqtt.user_name".to_owned(), json!("door"));
            assert!(!may_go(&wanted), "{path}");
            wanted.insert("mqtt.password".to_owned(), json!("hunter3"));
            assert!(may_go(&wanted), "{path}");
        }
        // The same place in other words, and no place at all.
        assert!(may_go(&changes([("mqtt.port", json!(1883))])));
        assert!(may_go(&changes([("mqtt.host", json!(""))])));
        assert!(may_go(&changes([("mqtt.prefix", json!("door"))])));
        // Without a password there is nothing to send.
        let without = [("mqtt.password", Value::Null), ("mqtt.host", json!("elsewhere"))];
        assert!(may_go(&changes(without)));
        desk.change(&changes(login).into_iter().chain(changes([("mqtt.host", json!("b2"))])).collect())
            .unwrap();
        assert_eq!(desk.current().mqtt.host.as_deref(), Some("b2"));
    }

    #[test]
    fn login_in_a_file_of_the_device_stays_with_its_broker() {
        let folder = tempfile::tempdir().unwrap();
        let file = "[mqtt]\nhost = \"broker\"\ncredentials_file = \"/etc/limen/broker\"\n";
        let (desk, _) = desk(folder.path(), file);
        let problems = wrong(&desk, changes([("mqtt.host", json!("elsewhere"))]));
        assert!(problems[0].message.contains("configuration file"), "{problems:?}");
        assert!(desk.change(&changes([("mqtt.prefix", json!("door"))])).is_ok());
    }

    #[test]
    fn page_opens_no_file_as_a_camera() {
        let folder = tempfile::tempdir().unwrap();
        let (desk, applied) = desk(folder.path(), "[camera]\nsource = \"replay:/srv/door\"\n");
        for source in [
            "replay:/etc",
            "/etc/passwd",
            "v4l2:/etc/passwd",
            "/dev/sda",
            "/dev/video/../sda",
            "/dev/v4l/../../etc/passwd",
            "frames.y4m",
        ] {
            let problems = wrong(&desk, changes([("camera.source", json!(source))]));
            assert!(problems[0].message.contains("configuration file"), "{source}: {problems:?}");
        }
        assert!(applied.lock().unwrap().is_empty());
        for source in ["auto", "scene", "/dev/video0", "v4l2:/dev/video2", "/dev/v4l/by-id/usb-cam-index0"] {
            desk.change(&changes([("camera.source", json!(source))])).unwrap();
        }
        // What the file says may always come back.
        desk.change(&changes([("camera.source", Value::Null)])).unwrap();
        assert_eq!(desk.current().camera.source.to_string(), "replay:/srv/door");
    }

    #[test]
    fn what_waits_for_a_restart_is_said_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (desk, _) = desk(folder.path(), "");
        desk.change(&changes([("camera.rate_hz", json!(10))])).unwrap();
        assert!(!desk.view().restart_needed);
        desk.change(&changes([("device.name", json!("Front door"))])).unwrap();
        assert!(desk.view().restart_needed);
        desk.change(&changes([("device.name", Value::Null)])).unwrap();
        assert!(!desk.view().restart_needed);
    }
}
