//! What the configuration says about the broker, put together, and what this device is called there.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::secrets;
use crate::config::{Config, MqttProtocol, Secret};
use crate::vault::credentials_directory;

/// Longest identifier.
const ID_BYTES: usize = 64;
/// A board says its name here, where it has one.
const BOARD_FILE: &str = "/proc/device-tree/model";

/// What this device is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceIdentity {
    /// In topics and identifiers: letters, digits, `-` and `_`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Version of this program.
    pub version: &'static str,
    /// The board, where it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Where a browser finds the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl DeviceIdentity {
    /// From the configuration, and from the board this runs on.
    pub fn new(config: &Config) -> Self {
        let device = &config.device;
        Self {
            id: device.id.clone().unwrap_or_else(|| id_of(&device.name)),
            name: device.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            board: std::fs::read(BOARD_FILE).ok().and_then(|text| plain_text(&text)),
            url: config.http.listen.as_ref().and(config.http.public_url.clone()),
        }
    }
}

/// Whether a text can be a device's identifier.
pub fn is_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !text.is_empty() && text.len() <= ID_BYTES && text.bytes().all(fits)
}

/// An identifier made of a name: `Front door` becomes `front-door`.
fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            id.push(c.to_ascii_lowercase());
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    id.truncate(ID_BYTES);
    let id = id.trim_end_matches('-');
    if id.is_empty() { "limen".to_owned() } else { id.to_owned() }
}

fn plain_text(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(64).collect();
    (!text.is_empty()).then_some(text)
}

/// Files that an encrypted connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities that may have signed the broker's certificate; none: the system's.
    pub authorities: Option<PathBuf>,
    /// This client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How the broker is reached and what is said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttSettings {
    /// This device.
    pub device: DeviceIdentity,
    /// Host name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Version of the protocol.
    pub protocol: MqttProtocol,
    /// Name of this client.
    pub client_id: String,
    /// First part of every topic.
    pub prefix: String,
    /// User name and password, where the configuration says them itself.
    pub login: Option<(String, Option<Secret>)>,
    /// File with user name and password.
    pub credentials_file: Option<PathBuf>,
    /// Encryption.
    pub tls: Option<TlsFiles>,
    /// Silence after which the connection is probed.
    pub keep_alive: Duration,
    /// Whether commands are taken.
    pub commands: bool,
    /// Whether commands may open the door.
    pub open_door: bool,
    /// Home Assistant's discovery prefix, where the device is to be announced.
    pub discovery_prefix: Option<String>,
    /// Whether pictures are offered.
    pub pictures: bool,
    /// Prefix of Frigate's messages.
    pub frigate_prefix: Option<String>,
    /// Prefix of Double Take's messages.
    pub double_take_prefix: Option<String>,
}

impl MqttSettings {
    /// From a configuration that has been checked; none where no broker is named.
    pub fn new(config: &Config) -> Option<Self> {
        let mqtt = &config.mqtt;
        let device = DeviceIdentity::new(config);
        let port = mqtt.port.unwrap_or(if mqtt.tls { 8883 } else { 1883 });
        let client = mqtt.client_certificate_file.clone().zip(mqtt.client_key_file.clone());
        Some(Self {
            host: mqtt.host.clone()?,
            port: u16::try_from(port).unwrap_or(u16::MAX),
            protocol: mqtt.protocol,
            client_id: mqtt.client_id.clone().unwrap_or_else(|| format!("limen-{}", device.id)),
            prefix: mqtt.prefix.clone(),
            login: mqtt.user_name.clone().map(|user| (user, mqtt.password.clone())),
            credentials_file: mqtt.credentials_file.clone(),
            tls: mqtt.tls.then(|| TlsFiles { authorities: mqtt.ca_file.clone(), client }),
            keep_alive: Duration::from_secs(mqtt.keep_alive_s.into()),
            commands: mqtt.commands,
            open_door: mqtt.commands && mqtt.open_door,
            discovery_prefix: config.home_assistant.discovery.then(|| config.home_assistant.prefix.clone()),
            pictures: config.events.keep_crops && device.url.is_some(),
            frigate_prefix: config.compatibility.frigate_prefix.clone(),
            double_take_prefix: config.compatibility.double_take_prefix.clone(),
            device,
        })
    }

    /// Whether user name and password come from a file of the device or a systemd credential.
    pub fn has_login_of_the_device(&self) -> bool {
        self.login.is_none()
            && (self.credentials_file.is_some()
                || secrets::has_credential(credentials_directory().as_deref()))
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_is_made_of_the_name() {
        for (name, id) in [
            ("Front door", "front-door"),
            ("limen", "limen"),
            ("  Tür 2! ", "t-r-2"),
            ("門", "limen"),
            ("a__b--c", "a__b-c"),
        ] {
            assert_eq!(id_of(name), id, "{name}");
            assert!(is_id(&id_of(name)));
        }
        assert_eq!(id_of(&"x".repeat(100)).len(), ID_BYTES);
    }

    #[test]
    fn identifiers_cannot_change_a_topic() {
        for bad in ["", "a/b", "a+b", "#", "a b", "ä", &"x".repeat(65)] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn no_host_is_no_mqtt_and_tls_changes_the_port() {
        let mut config = Config::default();
        assert_eq!(MqttSettings::new(&config), None);
        config.mqtt.host = Some("broker".to_owned());
        assert_eq!(MqttSettings::new(&config).unwrap().address(), "broker:1883");
        config.mqtt.tls = true;
        assert_eq!(MqttSettings::new(&config).unwrap().address(), "broker:8883");
    }

    #[test]
    fn pictures_are_offered_only_where_they_are_kept_and_can_be_reached() {
        let mut config = Config::default();
        config.mqtt.host = Some("broker".to_owned());
        config.events.keep_crops = true;
        assert!(!MqttSettings::new(&config).unwrap().pictures);
        config.http.public_url = Some("http://door.local:8480".to_owned());
        assert!(MqttSettings::new(&config).unwrap().pictures);
        config.http.listen = None;
        assert!(!MqttSettings::new(&config).unwrap().pictures);
    }
}
