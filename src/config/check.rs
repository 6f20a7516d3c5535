//! What no single value can tell: whether the settings make sense together.

use super::declare::find;
use super::error::{ConfigError, Problem};
use super::{Config, DisplayDriver};
use crate::backup::SftpPlace;
use crate::camera::SourceSpec;
use crate::door::gpio::LineSpec;
use crate::models::Thresholds;
use crate::mqtt::is_id;

/// Most that two pictures of one person can be expected to score, a slightly turned head or another
/// lamp included. The range of identification.threshold ends here too.
const REACHABLE_SCORE: f32 = 0.95;

/// A face on a picture is about two eye distances wide and two and a half tall.
const FACE_WIDTH_IN_EYE_DISTANCES: f32 = 2.0;
const FACE_HEIGHT_IN_EYE_DISTANCES: f32 = 2.5;

impl Config {
    /// Checks the settings together. [`Layers::build`](super::Layers::build) has done so; call it
    /// again after changing a field.
    pub fn check(&self) -> Result<(), ConfigError> {
        refuse(self.contradictions())
    }

    /// The thresholds in force, checked together: the settings where they are set, else those the
    /// model manifest states for the embedder.
    pub fn thresholds(&self, model: &Thresholds) -> Result<Thresholds, ConfigError> {
        let thresholds = Thresholds {
            identification: self.identification.threshold.unwrap_or(model.identification),
            margin: self.identification.margin.unwrap_or(model.margin),
            conflict: self.enrolment.conflict_threshold.unwrap_or(model.conflict),
            ..*model
        };
        let mut found = Vec::new();
        if !(0.0..=REACHABLE_SCORE).contains(&thresholds.identification) {
            found.push(format!(
                "identification.threshold is {} in force ({}): above {REACHABLE_SCORE} nobody would match, \
                 below 0 anybody would",
                thresholds.identification,
                self.source("identification", "threshold")
            ));
        }
        if thresholds.conflict > thresholds.identification {
            found.push(format!(
                "enrolment.conflict_threshold is {} in force ({}) and above identification.threshold, {} \
                 in force ({}): somebody the device would name as another subject could be enrolled \
                 unnoticed. Lower the former",
                thresholds.conflict,
                self.source("enrolment", "conflict_threshold"),
                thresholds.identification,
                self.source("identification", "threshold"),
            ));
        }
        refuse(found.into_iter().map(Problem::Contradiction).collect())?;
        Ok(thresholds)
    }

    pub(super) fn contradictions(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        self.check_camera(&mut found);
        self.check_quality(&mut found);
        self.check_identification(&mut found);
        self.check_tracking(&mut found);
        self.check_http(&mut found);
        self.check_certificate(&mut found);
        self.check_mqtt(&mut found);
        self.check_backup(&mut found);
        self.check_door(&mut found);
        self.check_display(&mut found);
        found.into_iter().map(Problem::Contradiction).collect()
    }

    fn check_door(&self, found: &mut Vec<String>) {
        let mut taken: Vec<(&str, LineSpec)> = Vec::new();
        for (key, line) in self.door_lines() {
            match LineSpec::parse(line) {
                Ok(spec) => match taken.iter().find(|(_, other)| other.is_same_line(&spec)) {
                    Some((other, _)) => found.push(format!(
                        "door.{key} ({}) is the same line as door.{other}: each needs one of its own",
                        self.source("door", key)
                    )),
                    None => taken.push((key, spec)),
                },
                Err(error) => {
                    found.push(format!("door.{key} ({}): {error}", self.source("door", key)));
                }
            }
        }
    }

    fn check_display(&self, found: &mut Vec<String>) {
        let display = &self.display;
        if matches!(display.driver, DisplayDriver::St7789 | DisplayDriver::Ili9341) {
            for (key, line) in [("data_line", &display.data_line), ("reset_line", &display.reset_line)] {
                match line.as_deref().map(LineSpec::parse) {
                    None => found.push(format!("display.{key} is empty, and a {} needs it", display.driver)),
                    Some(Err(error)) => {
                        found.push(format!("display.{key} ({}): {error}", self.source("display", key)));
                    }
                    Some(Ok(_)) => {}
                }
            }
        }
    }

    /// The lines of the door that are set, with their keys.
    pub fn door_lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let door = &self.door;
        [
            ("relay", &door.relay),
            ("exit_button", &door.exit_button),
            ("contact", &door.contact),
            ("bell", &door.bell),
            ("tamper", &door.tamper),
            ("buzzer", &door.buzzer),
            ("status_led", &door.status_led),
            ("infrared", &door.infrared),
        ]
        .into_iter()
        .filter_map(|(key, line)| line.as_deref().map(|line| (key, line)))
    }

    /// Settings that change nothing while others are as they are, and why.
    pub fn without_effect(&self) -> Vec<(&'static str, String)> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        let mut unless = |effective: bool, paths: &[&'static str], why: &str| {
            if !effective {
                found.extend(paths.iter().map(|path| (*path, why.to_owned())));
            }
        };
        let (camera, mqtt, tracking) = (&self.camera, &self.mqtt, &self.tracking);
        let is_recording = matches!(camera.source, SourceSpec::Replay(_));
        let is_device = !is_recording && camera.source != SourceSpec::Scene;
        unless(is_recording, &["camera.loop"], "only a recording ends");
        unless(
            is_device,
            &["camera.format", "camera.exposure_us", "camera.gain", "camera.backlight_compensation"],
            "a recording and the built-in scene have no such choice",
        );
        unless(
            !is_recording,
            &["camera.width", "camera.height"],
            "a recording has the size it was recorded with",
        );
        unless(
            tracking.unchanged_look_hz < tracking.idle_look_hz,
            &["tracking.unchanged_look_hz"],
            "it is not below tracking.idle_look_hz, so that changes are not waited for",
        );
        let display = ["display.device", "display.rotate", "display.language", "display.show_names"];
        unless(self.display.driver != DisplayDriver::None, &display, "display.driver is none");
        unless(
            self.display.driver == DisplayDriver::Ssd1306,
            &["display.address"],
            "only an OLED has an address",
        );
        unless(
            matches!(self.display.driver, DisplayDriver::St7789 | DisplayDriver::Ili9341),
            &["display.data_line", "display.reset_line", "display.width", "display.height"],
            "only a TFT over SPI has them",
        );
        unless(self.door.relay.is_some(), &["door.pulse_ms"], "door.relay is empty");
        unless(self.door.contact.is_some(), &["door.held_open_after_s"], "door.contact is empty");
        unless(
            self.events.keep_crops,
            &["events.keep_crops_days", "events.keep_crops_count"],
            "events.keep_crops is off",
        );
        let broker = [
            "mqtt.port",
            "mqtt.protocol",
            "mqtt.prefix",
            "mqtt.client_id",
            "mqtt.user_name",
            "mqtt.password",
            "mqtt.credentials_file",
            "mqtt.tls",
            "mqtt.ca_file",
            "mqtt.client_certificate_file",
            "mqtt.client_key_file",
            "mqtt.keep_alive_s",
            "mqtt.commands",
            "mqtt.open_door",
            "home_assistant.discovery",
            "home_assistant.prefix",
            "compatibility.frigate_prefix",
            "compatibility.double_take_prefix",
        ];
        unless(mqtt.host.is_some(), &broker, "mqtt.host is empty: there is no broker");
        unless(
            mqtt.host.is_none() || self.home_assistant.discovery,
            &["home_assistant.prefix"],
            "home_assistant.discovery is off",
        );
        unless(
            self.backup.folder.is_some() || self.backup.sftp.is_some(),
            &["backup.every_hours", "backup.keep"],
            "backup.folder and backup.sftp are empty: no backups are made by themselves",
        );
        unless(
            self.http.listen.is_some(),
            &["http.public_url"],
            "http.listen is empty: there is no web server",
        );
        found
    }

    fn check_camera(&self, found: &mut Vec<String>) {
        use super::CameraFormat::{Nv12, Yuyv};
        let odd = |size: u32| !size.is_multiple_of(2);
        match self.camera.format {
            format @ (Yuyv | Nv12) if odd(self.camera.width) => found.push(format!(
                "{} is odd, and {} pixels come in pairs: make it even",
                self.stated("camera", "width"),
                format
            )),
            Nv12 if odd(self.camera.height) => found.push(format!(
                "{} is odd, and nv12 rows come in pairs: make it even",
                self.stated("camera", "height")
            )),
            _ => {}
        }
    }

    fn check_quality(&self, found: &mut Vec<String>) {
        let quality = &self.quality;
        let widest = self.camera.width as f32 / FACE_WIDTH_IN_EYE_DISTANCES;
        let tallest = self.camera.height as f32 / FACE_HEIGHT_IN_EYE_DISTANCES;
        if quality.minimum_eye_distance_px > widest.min(tallest) {
            found.push(format!(
                "{} asks for a face larger than the frame: with {} and {} the eyes can be at most {:.0} px \
                 apart",
                self.stated("quality", "minimum_eye_distance_px"),
                self.stated("camera", "width"),
                self.stated("camera", "height"),
                widest.min(tallest)
            ));
        }
        if quality.minimum_exposure >= quality.maximum_exposure {
            found.push(format!(
                "{} is not below {}: every face would be too dark or too bright",
                self.stated("quality", "minimum_exposure"),
                self.stated("quality", "maximum_exposure")
            ));
        }
    }

    fn check_identification(&self, found: &mut Vec<String>) {
        let identification = &self.identification;
        if identification.agreeing_probes > identification.unknown_after_probes {
            found.push(format!(
                "{} is more than {}: every track would be unknown before a subject could be named",
                self.stated("identification", "agreeing_probes"),
                self.stated("identification", "unknown_after_probes")
            ));
        }
        if let (Some(conflict), Some(threshold)) =
            (self.enrolment.conflict_threshold, identification.threshold)
            && conflict > threshold
        {
            found.push(format!(
                "{} is above {}: somebody the device would name as another subject could be enrolled \
                 unnoticed",
                self.stated("enrolment", "conflict_threshold"),
                self.stated("identification", "threshold")
            ));
        }
    }

    fn check_tracking(&self, found: &mut Vec<String>) {
        let tracking = &self.tracking;
        for (key, rate) in
            [("settled_look_hz", tracking.settled_look_hz), ("idle_look_hz", tracking.idle_look_hz)]
        {
            if rate > self.camera.rate_hz {
                found.push(format!(
                    "{} is more than {}: there are no such frames to look at",
                    self.stated("tracking", key),
                    self.stated("camera", "rate_hz")
                ));
            }
        }
        let look_ms = 1000.0 / tracking.settled_look_hz;
        for (key, after_ms, effect) in [
            ("lost_after_ms", tracking.lost_after_ms, "every face would be lost between two looks"),
            ("recheck_after_ms", tracking.recheck_after_ms, "no look comes that soon"),
        ] {
            // Rounded down, so that 3 Hz and 333 ms go together.
            if (after_ms as f32) < look_ms.floor() {
                found.push(format!(
                    "{} is shorter than the {look_ms:.0} ms between two looks at {}: {effect}",
                    self.stated("tracking", key),
                    self.stated("tracking", "settled_look_hz")
                ));
            }
        }
    }

    fn check_http(&self, found: &mut Vec<String>) {
        if let Some(listen) = &self.http.listen
            && listen.parse::<std::net::SocketAddr>().is_err()
        {
            found.push(format!(
                "{} is no address and port: write it like 127.0.0.1:8480, or [::]:8480 for the whole network",
                self.stated("http", "listen")
            ));
        }
        if let Some(url) = &self.http.public_url {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or("");
            let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\?#@".contains(&byte));
            if !plain || host.trim_end_matches('/').is_empty() {
                found.push(format!(
                    "{} is no address that others could reach this device by: write it like http://door.local:8480",
                    self.stated("http", "public_url")
                ));
            }
        }
    }

    fn check_certificate(&self, found: &mut Vec<String>) {
        if self.http.certificate_file.is_some() != self.http.key_file.is_some() {
            found.push(format!(
                "{} and {}: one is of no use without the other",
                self.stated("http", "certificate_file"),
                self.stated("http", "key_file")
            ));
        }
    }

    fn check_mqtt(&self, found: &mut Vec<String>) {
        let (mqtt, compatibility) = (&self.mqtt, &self.compatibility);
        if self.device.id.as_deref().is_some_and(|id| !is_id(id)) {
            found.push(format!(
                "{} stands in topics: only letters, digits, - and _ can",
                self.stated("device", "id")
            ));
        }
        let prefixes = [
            ("mqtt", "prefix", Some(&mqtt.prefix)),
            ("home_assistant", "prefix", Some(&self.home_assistant.prefix)),
            ("compatibility", "frigate_prefix", compatibility.frigate_prefix.as_ref()),
            ("compatibility", "double_take_prefix", compatibility.double_take_prefix.as_ref()),
        ];
        for (section, key, prefix) in prefixes {
            let is_prefix = |prefix: &str| {
                !prefix.contains(['+', '#'])
                    && !prefix.starts_with('$')
                    && prefix.split('/').all(|p| !p.is_empty())
            };
            if prefix.is_some_and(|prefix| !is_prefix(prefix)) {
                found.push(format!(
                    "{} begins topics: + # and a leading $ mean something else there, and no part may be empty",
                    self.stated(section, key)
                ));
            }
        }
        for (at, (section, key, prefix)) in prefixes.iter().enumerate() {
            for (other_section, other_key, other) in &prefixes[..at] {
                if prefix.is_some() && prefix == other {
                    found.push(format!(
                        "{} is {} too: each needs topics of its own",
                        self.stated(section, key),
                        self.stated(other_section, other_key)
                    ));
                }
            }
        }
        if mqtt.client_certificate_file.is_some() != mqtt.client_key_file.is_some() {
            found.push(format!(
                "{} and {}: one is of no use without the other",
                self.stated("mqtt", "client_certificate_file"),
                self.stated("mqtt", "client_key_file")
            ));
        }
        if mqtt.password.is_some() && mqtt.user_name.is_none() {
            found.push(format!("{} needs mqtt.user_name too", self.stated("mqtt", "password")));
        }
        if mqtt.user_name.is_some() && mqtt.credentials_file.is_some() {
            found.push(format!(
                "{} and {}: only one of them can say who this is at the broker; empty the other",
                self.stated("mqtt", "user_name"),
                self.stated("mqtt", "credentials_file")
            ));
        }
        if !mqtt.tls {
            let unused =
                [("ca_file", &mqtt.ca_file), ("client_certificate_file", &mqtt.client_certificate_file)];
            for (key, _) in unused.iter().filter(|(_, file)| file.is_some()) {
                found.push(format!(
                    "{} is of no use while {}: the connection would not be encrypted",
                    self.stated("mqtt", key),
                    self.stated("mqtt", "tls")
                ));
            }
        }
        if mqtt.host.as_deref().is_some_and(|host| host.contains(['/', ' ', '@']) || host.contains("::")) {
            found.push(format!(
                "{} is no host name or IPv4 address; the port stands in mqtt.port, and a broker with an IPv6 \
                 address needs a name",
                self.stated("mqtt", "host")
            ));
        }
    }

    fn check_backup(&self, found: &mut Vec<String>) {
        if let Some(place) = &self.backup.sftp
            && let Err(error) = SftpPlace::parse(place)
        {
            found.push(format!("{}: {error}", self.stated("backup", "sftp")));
        }
        if self.backup.folder.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            found.push(format!("{}: write it from / on", self.stated("backup", "folder")));
        }
    }

    /// `section.key = value (origin)`.
    fn stated(&self, section: &'static str, key: &'static str) -> String {
        let setting = find(section, key).expect("checks name declared settings");
        let value = (setting.write)(self).toml;
        format!("{section}.{key} = {value} ({})", self.origins.of(setting))
    }

    /// Where an optional score comes from.
    fn source(&self, section: &'static str, key: &'static str) -> String {
        let setting = find(section, key).expect("checks name declared settings");
        match (setting.write)(self).json {
            serde_json::Value::Null => "model manifest".to_owned(),
            _ => self.origins.of(setting).to_string(),
        }
    }
}

fn refuse(problems: Vec<Problem>) -> Result<(), ConfigError> {
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems, more: false }) }
}
