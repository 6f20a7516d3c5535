//! Configuration: every setting of the appliance, declared once.
//!
//! The declaration below is the only place a setting is written down. The field, its default, the
//! unit, the allowed range, `limen config template` and `docs/config.md` all come from it.
//!
//! Later layers win: built-in defaults, the configuration file, its drop-ins
//! (`limen.toml.d/*.toml`, by file name), what was set on the admin page (`settings.toml` in the state
//! folder), the environment (`LIMEN_SECTION__KEY`), command-line flags.
//! Unknown keys are refused, values are checked one by one and then as a whole, and every problem
//! found is reported with the layer and line it came from.
//!
//! Owned here: reading, checking and showing settings. Not here: what they mean to a stage. Read on
//! the main thread before any stage is built, and anew when the admin page changes something
//! ([`Sources`]).

mod check;
#[macro_use]
mod declare;
mod error;
mod layers;
mod page;
mod show;
mod value;

use std::path::PathBuf;

pub(crate) use declare::find;
pub use declare::{Effect, Section, Setting};
pub use error::{ConfigError, Origin, Problem};
pub use layers::{DEFAULT_FILE, Layers, MAXIMUM_FILE_BYTES, parse_layers};
pub use page::{PAGE_FILE, PageSettings, Sources};
pub use show::{reference, template};
pub use value::{
    CameraFormat, DisplayDriver, DisplayLanguage, Kind, LogFormat, LogLevel, MqttProtocol, Rotation, Secret,
    Shape,
};

use crate::camera::SourceSpec;
use crate::view::Area;
use value::Text;

settings! {
    /// The device itself.
    device: Device {
        /// Name of this device, as it appears in events, in Home Assistant and in logs.
        name: String = "limen".to_owned(), within Text { bytes: 1..=64 };
        /// Identifier of this device in MQTT topics and Home Assistant: letters, digits, `-` and
        /// `_`. Empty: made from device.name. Two devices on one broker need different ones.
        id: Option<String> = None, within Text { bytes: 1..=64 };
    }

    /// What the device keeps.
    state: State {
        /// Folder of the gallery and its key. Created with mode 0700 when it is missing.
        folder: PathBuf = "/var/lib/limen".into(), effect file;
    }

    /// The root key, of which every other key is made.
    vault: Vault {
        /// Program that prints the root key, 64 hexadecimal digits, for a board that keeps one in its
        /// one-time-programmable memory. It is run without arguments at each start; only root and the account
        /// of the service may be able to change it. The systemd credential `limen.root-key` comes before it.
        /// Empty: that credential, or else a key file in the state folder.
        key_command: Option<PathBuf> = None, effect file;
    }

    /// Where frames come from.
    camera: Camera {
        /// `auto` (the first V4L2 device that captures), a device such as `/dev/video0` or
        /// `/dev/v4l/by-id/...`, `replay:PATH` (a folder of pictures or a recording), or `scene`
        /// (the built-in moving scene).
        source: SourceSpec = SourceSpec::Auto, effect now;
        /// Frame width asked of the camera; the nearest it offers is taken and reported.
        width: u32 = 640, unit "px", within 160..=3840, effect now;
        /// Frame height asked of the camera.
        height: u32 = 480, unit "px", within 120..=2160, effect now;
        /// Frame rate asked of the camera, and the pace of a replay.
        rate_hz: f32 = 15.0, unit "Hz", within 0.5..=120.0, effect now;
        /// Pixel format asked of the camera. `auto` takes the best of those it offers.
        format: CameraFormat = CameraFormat::Auto, effect now;
        /// By how much the picture is turned, clockwise.
        rotate: Rotation = Rotation::None, effect now;
        /// Swap left and right, as a mirror does.
        mirror: bool = false, effect now;
        /// Where faces are looked for: left, top, width and height as fractions of the picture as it is
        /// shown. Faces whose centre lies outside are not looked at. Empty: everywhere.
        region: Option<Area> = None, effect now;
        /// What must not be seen: each left, top, width and height as fractions of the picture as it is
        /// shown. It is black before anything looks at the picture, in the live view and in every
        /// picture that is kept.
        masks: Vec<Area> = Vec::new(), effect now;
        /// Time each frame is exposed for. Empty: the camera's own choice. Longer is brighter and
        /// blurs whoever moves. Of no effect on a camera without this control.
        exposure_us: Option<u32> = None, unit "µs", within 100..=1_000_000, effect now;
        /// Amplification, in the camera's own steps; `limen cameras` prints their range. Empty: the
        /// camera's own choice.
        gain: Option<u32> = None, within 0..=65_535, effect now;
        /// Brighten what stands before a bright background, in the camera's own steps; `limen cameras`
        /// prints their range. Empty: the camera's own choice.
        backlight_compensation: Option<u32> = None, within 0..=65_535, effect now;
        /// Start a replay again when it ends; `false` ends the program with it.
        r#loop: bool = true, effect now;
    }

    /// The networks.
    models: Models {
        /// Folder that holds `manifest.toml` and the model files. Empty: `models` beside the
        /// executable, then `/usr/share/limen/models`.
        folder: Option<PathBuf> = None, effect file;
    }

    /// The runtime that executes the networks.
    litert: Litert {
        /// Path of `libLiteRt.so`. Empty: beside the executable, then `/usr/lib/limen`.
        library: Option<PathBuf> = None, effect file;
        /// Threads each network may use.
        threads: u32 = 1, unit "threads", within 1..=8;
    }

    /// Finding faces in a frame.
    detection: Detection {
        /// Detection score from which a box counts as a face. Empty: the value measured for the
        /// detector, from the model manifest. Lower finds more distant faces and more things that
        /// are none.
        minimum_score: Option<f32> = None, within 0.3..=0.95, effect now;
        /// Faces followed at a time; the largest are kept.
        maximum_faces: u32 = 8, unit "faces", within 1..=32, effect now;
    }

    /// When a face sample is good enough to be searched for. Each limit has its own reason in the
    /// event.
    quality: Quality {
        /// Least distance between the eyes. With a 60 degree lens at 640x480 it is about 35 px at
        /// one metre and 18 px at two.
        minimum_eye_distance_px: f32 = 24.0, unit "px", within 8.0..=400.0, effect now;
        /// Greatest turn of the head to either side.
        maximum_yaw_deg: f32 = 35.0, unit "degrees", within 5.0..=90.0, effect now;
        /// Greatest nod of the head up or down.
        maximum_pitch_deg: f32 = 30.0, unit "degrees", within 5.0..=90.0, effect now;
        /// Greatest tilt of the head towards a shoulder.
        maximum_roll_deg: f32 = 60.0, unit "degrees", within 5.0..=180.0, effect now;
        /// Least sharpness of the aligned face, 0 (blurred) to 1.
        minimum_sharpness: f32 = 0.1, within 0.0..=0.95, effect now;
        /// Least mean luminance of the aligned face, of 255.
        minimum_exposure: f32 = 40.0, within 0.0..=255.0, effect now;
        /// Greatest mean luminance of the aligned face, of 255.
        maximum_exposure: f32 = 220.0, within 0.0..=255.0, effect now;
        /// Least probability, by the landmark network, that the region holds a face at all.
        minimum_face_presence: f32 = 0.5, within 0.0..=0.99, effect now;
    }

    /// When a face becomes a name.
    identification: Identification {
        /// Comparison score from which the best candidate matches. Empty: the value measured for the
        /// embedder, from the model manifest. Lower lets strangers match, higher turns subjects
        /// away; two pictures of one person seldom compare above 0.9.
        threshold: Option<f32> = None, within 0.0..=0.95, effect now;
        /// Lead in comparison score that the best candidate needs over the next subject. Empty: from
        /// the model manifest.
        margin: Option<f32> = None, within 0.0..=0.5, effect now;
        /// Probes of one track that must agree on a subject before it is named.
        agreeing_probes: u32 = 2, unit "probes", within 1..=10, effect now;
        /// Probes of one track that match nobody, or contradict each other, after which it is reported
        /// as unknown.
        unknown_after_probes: u32 = 4, unit "probes", within 1..=50, effect now;
    }

    /// Following faces over frames, and how often a frame is looked at.
    tracking: Tracking {
        /// A track ends when its face has not been found for this long.
        lost_after_ms: u32 = 1500, unit "ms", within 100..=60_000, effect now;
        /// Frames looked at per second while every face in view has its decision.
        settled_look_hz: f32 = 5.0, unit "Hz", within 0.2..=120.0, effect now;
        /// A decided track is recognised again after this long.
        recheck_after_ms: u32 = 3000, unit "ms", within 100..=3_600_000, effect now;
        /// Most frames looked at per second while no face is in view and the picture changes. It
        /// bounds how long an arriving face waits to be seen.
        idle_look_hz: f32 = 4.0, unit "Hz", within 0.2..=120.0, effect now;
        /// Frames looked at per second while no face is in view and nothing seems to change. It
        /// bounds the wait where a change was missed; from `idle_look_hz` on, changes are not waited
        /// for.
        unchanged_look_hz: f32 = 1.0, unit "Hz", within 0.1..=120.0, effect now;
    }

    /// Making templates of a subject.
    enrolment: Enrolment {
        /// Comparison score with another subject from which an enrolment warns that it looks
        /// like somebody already enrolled. Empty: from the model manifest.
        conflict_threshold: Option<f32> = None, within 0.0..=0.95, effect now;
        /// Least quality score of a sample.
        minimum_quality: f32 = 0.4, within 0.0..=0.95, effect now;
        /// Keep the face of each sample as a picture, encrypted, to be shown on the admin page and for
        /// making templates anew after a change of the model. `false` keeps templates only, and
        /// erases the pictures kept until then.
        keep_pictures: bool = true, effect now;
        /// Pictures taken in by one enrolment.
        maximum_pictures: u32 = 50, unit "pictures", within 1..=1000, effect now;
        /// Largest archive of pictures taken in by one import. While it is worked off it lies, encrypted,
        /// in the state folder.
        maximum_import_mb: u32 = 512, unit "MiB", within 1..=4000, effect now;
    }

    /// Faces of visitors nobody knows, to be named later.
    sightings: Sightings {
        /// Keep them, encrypted. This makes biometric data of everybody who passes and has agreed to
        /// nothing: the law of many places (in the European Union the GDPR, article 9) forbids that
        /// without their consent. Switching it off erases what was kept.
        keep: bool = false, effect now;
        /// Each is erased after this long.
        keep_hours: u32 = 48, unit "h", within 1..=720, effect now;
        /// The oldest of more than this are erased.
        maximum: u32 = 2000, unit "sightings", within 10..=20_000, effect now;
        /// Least quality score of a face that is kept.
        minimum_quality: f32 = 0.5, within 0.0..=0.95, effect now;
    }

    /// What is kept of every event, and for how long.
    events: Events {
        /// Events older than this are erased.
        keep_days: u32 = 30, unit "days", within 1..=3650, effect now;
        /// When there are more events than this, the oldest are erased.
        keep_count: u32 = 100_000, unit "events", within 100..=10_000_000, effect now;
        /// An event is fresh for this long after its frame was captured. An older one is still
        /// delivered, on a topic of its own, and must open nothing.
        expire_after_ms: u32 = 10_000, unit "ms", within 500..=600_000, effect now;
        /// Keep a picture of the face with events, encrypted, for the image in Home Assistant.
        /// Passers-by are pictured too: the law of many places forbids that.
        keep_crops: bool = false, effect now;
        /// Pictures of faces older than this are erased.
        keep_crops_days: u32 = 7, unit "days", within 1..=3650, effect now;
        /// When there are more pictures of faces than this, the oldest are erased.
        keep_crops_count: u32 = 10_000, unit "pictures", within 10..=1_000_000, effect now;
    }

    /// The broker that events go to.
    mqtt: Mqtt {
        /// Host name or address of the broker. Empty: no MQTT.
        host: Option<String> = None, within Text { bytes: 1..=253 }, effect now;
        /// Port of the broker. Empty: 8883 with TLS, else 1883.
        port: Option<u32> = None, within 1..=65_535, effect now;
        /// Version of the protocol. `3.1.1` has no message expiry: there only `expires_at` in the
        /// payload tells a late event.
        protocol: MqttProtocol = MqttProtocol::V5, effect now;
        /// First part of every topic; the second is the device's id.
        prefix: String = "limen".to_owned(), within Text { bytes: 1..=128 }, effect now;
        /// Name the broker knows this client by. Empty: `limen-` and the device's id.
        client_id: Option<String> = None, within Text { bytes: 1..=128 }, effect now;
        /// User name at the broker. Empty: mqtt.credentials_file says it, or there is none.
        user_name: Option<String> = None, within Text { bytes: 1..=1024 }, effect now;
        /// Its password. Kept as it is where it is set: a file that only this program may read is the
        /// better place, and the admin page makes one.
        password: Option<Secret> = None, within Text { bytes: 1..=1024 }, effect now;
        /// File with user name and password, a line each. Empty: the systemd credential
        /// `limen.mqtt`, if there is one, else none.
        credentials_file: Option<PathBuf> = None, effect file;
        /// Encrypt the connection and check the broker's certificate.
        tls: bool = false, effect now;
        /// File of the authorities (PEM) that may have signed the broker's certificate. Empty:
        /// those of the system.
        ca_file: Option<PathBuf> = None, effect file;
        /// Certificate (PEM) by which this client proves itself to the broker.
        client_certificate_file: Option<PathBuf> = None, effect file;
        /// Its private key (PEM).
        client_key_file: Option<PathBuf> = None, effect file;
        /// After this long without traffic the connection is probed.
        keep_alive_s: u32 = 15, unit "s", within 5..=600, effect now;
        /// Take commands on `PREFIX/ID/request/...`. Whoever may publish there may command: the
        /// broker has to say who that is.
        commands: bool = true, effect now;
        /// Of these, also those that open the door and enter a PIN. Whoever may publish there may then come in.
        open_door: bool = false, effect now;
    }

    /// Entities in Home Assistant, by MQTT discovery.
    home_assistant: HomeAssistant {
        /// Announce this device.
        discovery: bool = true, effect now;
        /// Home Assistant's discovery prefix.
        prefix: String = "homeassistant".to_owned(), within Text { bytes: 1..=128 }, effect now;
    }

    /// Messages in the form of other programs, for automations made for them.
    compatibility: Compatibility {
        /// Send Frigate's messages under this prefix (there it is `frigate`). Empty: none.
        frigate_prefix: Option<String> = None, within Text { bytes: 1..=128 }, effect now;
        /// Send Double Take's messages under this prefix (there it is `double-take`). Empty: none.
        double_take_prefix: Option<String> = None, within Text { bytes: 1..=128 }, effect now;
    }

    /// The web server: admin page, API, metrics, health, and pictures by signed address.
    http: Http {
        /// Address and port. Empty: no web server. From other machines everything needs TLS and an
        /// account, but for pictures by signed address; `127.0.0.1:8480` keeps other machines out
        /// altogether.
        listen: Option<String> = Some("0.0.0.0:8480".to_owned()), within Text { bytes: 1..=64 };
        /// How others reach this server, such as `https://door.local:8480`; pictures are offered
        /// to Home Assistant under it. Empty: none are offered.
        public_url: Option<String> = None, within Text { bytes: 1..=200 };
        /// Serve other machines without TLS too. Passwords and pictures then cross the network in the
        /// clear: only behind a proxy on the same machine or network that adds TLS.
        plain: bool = false;
        /// Certificate and chain (PEM) to show instead of the one this device makes for itself.
        certificate_file: Option<PathBuf> = None, effect file;
        /// Its private key (PEM).
        key_file: Option<PathBuf> = None, effect file;
        /// Signed-in browsers are signed out after this long without a request.
        session_idle_minutes: u32 = 60, unit "minutes", within 1..=10_080;
        /// Signed-in browsers are signed out at the latest after this long.
        session_hours: u32 = 12, unit "hours", within 1..=720;
    }

    /// The door: what is switched for whom. Who may enter, when and with what, is the policy's (`limen door policy`,
    /// or the page *Door*). A line is `gpiochip0:17`, or its name, and after it any of `active-low`, `pull-up` and
    /// `pull-down`; `limen door lines` lists those there are.
    door: Door {
        /// What this door is called, on its display and in messages.
        name: String = "Door".to_owned(), within Text { bytes: 1..=40 };
        /// Line of the relay that opens the door. Empty: none; whoever listens to the events opens it.
        relay: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// How long the relay is energised.
        pulse_ms: u32 = 3000, unit "ms", within 100..=30_000;
        /// Line of the button inside by which people leave. It opens whatever else holds.
        exit_button: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Line of the door's contact, active while the door is open.
        contact: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// How long the door may stay open before that is an alarm.
        held_open_after_s: u32 = 60, unit "s", within 5..=3600;
        /// Line of the bell's button.
        bell: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Line of a switch that is active once the housing is opened.
        tamper: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Line of a buzzer: one tone for whoever may enter, three for whoever may not.
        buzzer: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Line of a light that is on while a policy is in force.
        status_led: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Line of an infrared light, on while somebody is in view.
        infrared: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// How long a button or contact has to be steady before it counts.
        debounce_ms: u32 = 20, unit "ms", within 0..=1000;
        /// File that is there once the clock has been set since the machine started. Until then nothing opens by a
        /// schedule. Empty: the clock is always trusted, as with one that has a battery.
        clock_file: Option<PathBuf> = Some(crate::machine::SYNCHRONISED.into()), effect file;
    }

    /// A display beside the door, which tells visitors what to do and why they are kept out.
    display: Display {
        /// What it is: `framebuffer` (whatever the kernel drives), `ssd1306` (OLED over I2C), `st7789` or `ili9341`
        /// (TFT over SPI).
        driver: DisplayDriver = DisplayDriver::None, effect file;
        /// Its device. Empty: `/dev/fb0`, `/dev/i2c-1` or `/dev/spidev0.0`, by what it is.
        device: Option<PathBuf> = None, effect file;
        /// Address on the I2C bus; 60 is 0x3C.
        address: u32 = 60, within 8..=119, effect file;
        /// Line by which a TFT tells data from commands (D/C).
        data_line: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Line that resets a TFT.
        reset_line: Option<String> = None, within Text { bytes: 1..=100 }, effect file;
        /// Width of a TFT as it is wired, before turning.
        width: u32 = 240, unit "px", within 32..=480, effect file;
        /// Its height.
        height: u32 = 320, unit "px", within 32..=480, effect file;
        /// By how much the picture is turned; an OLED by 0 or 180, a framebuffer by its own driver.
        rotate: Rotation = Rotation::None, effect file;
        /// Language of what it says.
        language: DisplayLanguage = DisplayLanguage::En;
        /// Greet people by name. Everybody who stands by can read it.
        show_names: bool = false;
    }

    /// What people agreed to, and how long they are kept.
    privacy: Privacy {
        /// Subjects that were not recognised for this long are erased, with everything kept about them. Another
        /// time can be said of each. 0: they are kept until somebody erases them.
        erase_unseen_days: u32 = 365, unit "days", within 0..=36_500, effect now;
        /// Version of the text that people are shown before they are enrolled, such as `2026-11`. What a subject
        /// agreed to before is shown as agreed to another text.
        consent_text_version: String = "1".to_owned(), within Text { bytes: 1..=40 }, effect now;
        /// Who is responsible for what this device keeps, with an address, for the notice at the door and the
        /// data sheet (`limen privacy`).
        responsible: Option<String> = None, within Text { bytes: 1..=400 }, effect now;
        /// How people reach them, and their data protection officer where there is one.
        contact: Option<String> = None, within Text { bytes: 1..=400 }, effect now;
        /// What people are recognised for, such as `opening the front door for those who live here`.
        purpose: Option<String> = None, within Text { bytes: 1..=400 }, effect now;
        /// What law allows it. Empty: the consent of those who are enrolled.
        legal_basis: Option<String> = None, within Text { bytes: 1..=400 }, effect now;
        /// How somebody gets in who does not want to be recognised, such as `ring the bell`.
        alternative: Option<String> = None, within Text { bytes: 1..=400 }, effect now;
    }

    /// Backups that the device makes by itself, encrypted under its recovery key (`limen backup key`), each opened
    /// and checked before it counts.
    backup: Backup {
        /// Folder they are kept in, which has to be there and should be on another disk: a mounted stick or share.
        /// Empty: none is kept on this machine.
        folder: Option<PathBuf> = None, effect file;
        /// Folder on another machine, as `sftp://USER@HOST[:PORT]/FOLDER`. Empty: none is sent away.
        sftp: Option<String> = None, within Text { bytes: 1..=300 }, effect file;
        /// Private key (OpenSSH) by which this device signs in there. Empty: the systemd credential `limen.sftp`, or
        /// what `ssh` finds by itself.
        sftp_identity_file: Option<PathBuf> = None, effect file;
        /// File with the key of that host, a line as `ssh-keyscan` prints it. Empty: where `ssh` looks by itself.
        sftp_known_hosts_file: Option<PathBuf> = None, effect file;
        /// How long after one the next is made.
        every_hours: u32 = 24, unit "h", within 1..=8760, effect now;
        /// How many of this device are kept in each place; of those beyond, the oldest are thrown away once a new
        /// one has been checked. Whoever was erased stays in those made before.
        keep: u32 = 14, unit "backups", within 1..=1000, effect now;
    }

    /// What is kept of who changed what.
    audit: Audit {
        /// Entries older than this are erased.
        keep_days: u32 = 180, unit "days", within 1..=3650;
        /// When there are more entries than this, those of whoever has most are erased, refusals first.
        keep_count: u32 = 100_000, unit "entries", within 1_000..=10_000_000;
    }

    /// What the program says about itself. Never a frame, an embedding or a subject's name.
    log: Log {
        /// The least urgent messages written: `error`, `warn`, `info`, `debug` or `trace`.
        level: LogLevel = LogLevel::Info, effect now;
        /// `text`, `json` (a line each), or `auto`: the journal's own fields as a systemd service,
        /// text elsewhere.
        format: LogFormat = LogFormat::Auto;
    }
}

impl Config {
    /// Reads the file (or [`DEFAULT_FILE`] when none is named), its drop-ins and this process's
    /// environment, and checks the result as a whole.
    ///
    /// A missing default file is no error; a missing named one is. Add command-line flags through
    /// [`Layers`].
    pub fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        Sources::new(file.map(Into::into)).environment(std::env::vars_os()).build()
    }
}
