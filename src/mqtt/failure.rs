//! Why there is no connection, in words that say what to do. Pure.

use std::error::Error;
use std::fmt;
use std::io;

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode as Code5, DisconnectReasonCode};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

/// Longest text of the broker's that is passed on.
const FOREIGN_CHARS: usize = 120;

/// Why a connection could not be made, or was lost. Holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkFailure {
    words: String,
    /// The broker sent more than is taken in one packet.
    pub(super) oversized: bool,
}

impl fmt::Display for LinkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

const LOGIN: &str = "the broker refuses this user name and password: look at mqtt.credentials_file, and at the broker's users";
const OVERSIZED: &str = "the broker sent a message larger than 64 KiB: somebody publishes or has retained it on a \
                         topic of this device";

impl LinkFailure {
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), oversized: false }
    }

    /// Nothing was heard for too long.
    pub(super) fn silent() -> Self {
        Self::new("the broker does not answer: is it overloaded, or the network interrupted?")
    }

    pub(super) fn from_v5(error: &rumqttc::v5::ConnectionError) -> Self {
        use rumqttc::v5::{ConnectionError as E, StateError as S};
        match error {
            E::ConnectionRefused(code) => Self::new(refusal(*code)),
            E::Timeout(_) => Self::silent(),
            E::NotConnAck(_) => Self::new(NO_BROKER),
            E::MqttState(S::AwaitPingResp | S::CollisionTimeout) => Self::silent(),
            E::MqttState(S::ServerDisconnect { reason_code, reason_string }) => {
                Self::new(dismissal(*reason_code, reason_string.as_deref()))
            }
            E::MqttState(S::IncomingPacketTooLarge { .. }) => Self::oversized(),
            E::MqttState(S::Deserialization(rumqttc::v5::mqttbytes::Error::PayloadSizeLimitExceeded {
                ..
            })) => Self::oversized(),
            // It names no source, unlike the older protocol's.
            E::MqttState(S::Deserialization(rumqttc::v5::mqttbytes::Error::Io(io))) => Self::from_chain(io),
            other => Self::from_chain(other),
        }
    }

    pub(super) fn from_v311(error: &rumqttc::ConnectionError) -> Self {
        use rumqttc::{ConnectReturnCode as Code, ConnectionError as E, StateError as S};
        match error {
            E::ConnectionRefused(Code::BadUserNamePassword | Code::NotAuthorized) => Self::new(LOGIN),
            E::ConnectionRefused(Code::RefusedProtocolVersion) => {
                Self::new(refusal(Code5::RefusedProtocolVersion))
            }
            E::ConnectionRefused(code) => Self::new(format!("the broker refuses the connection: {code:?}")),
            E::NetworkTimeout | E::FlushTimeout => Self::silent(),
            E::NotConnAck(_) => Self::new(NO_BROKER),
            E::MqttState(S::AwaitPingResp | S::CollisionTimeout) => Self::silent(),
            E::MqttState(S::Deserialization(rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_))) => {
                Self::oversized()
            }
            other => Self::from_chain(other),
        }
    }

    fn oversized() -> Self {
        Self { words: OVERSIZED.to_owned(), oversized: true }
    }

    /// What the system or the encryption says, wherever in the chain it stands.
    fn from_chain(error: &(dyn Error + 'static)) -> Self {
        let mut link = Some(error);
        while let Some(error) = link {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::new(tls_words(tls));
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                let inner = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                return Self::new(inner.map_or_else(|| io_words(io), tls_words));
            }
            link = error.source();
        }
        match error.to_string() {
            text if text.contains("closed by peer") => Self::new(CLOSED),
            text => Self::new(format!("the connection failed: {}", plain(&text))),
        }
    }
}

const NO_BROKER: &str = "what answers there is no MQTT broker: look at mqtt.host and mqtt.port";
const CLOSED: &str = "the broker closed the connection: it was stopped, or does not take this client, or its \
                      access rules forbid what this device publishes; its log tells. A broker that expects \
                      encryption closes a plain connection too (mqtt.tls)";

fn refusal(code: Code5) -> String {
    match code {
        Code5::BadUserNamePassword | Code5::NotAuthorized | Code5::BadAuthenticationMethod => {
            LOGIN.to_owned()
        }
        Code5::RefusedProtocolVersion | Code5::UnsupportedProtocolVersion => {
            "the broker does not speak this version of MQTT: set mqtt.protocol to the other one".to_owned()
        }
        Code5::ClientIdentifierNotValid | Code5::BadClientId => {
            "the broker refuses the name of this client: set mqtt.client_id to one it takes".to_owned()
        }
        Code5::Banned => "the broker has banned this client: its administrator can tell why".to_owned(),
        Code5::ServerBusy
        | Code5::ServerUnavailable
        | Code5::ServiceUnavailable
        | Code5::ConnectionRateExceeded => "the broker is busy".to_owned(),
        other => format!("the broker refuses the connection: {other:?}"),
    }
}

fn dismissal(code: DisconnectReasonCode, said: Option<&str>) -> String {
    match code {
        DisconnectReasonCode::SessionTakenOver => {
            "another client has connected under the same name: give each device its own device.id".to_owned()
        }
        DisconnectReasonCode::NotAuthorized => {
            "the broker no longer permits this client: look at its users and access rules".to_owned()
        }
        DisconnectReasonCode::ServerShuttingDown => "the broker is shutting down".to_owned(),
        other => {
            let said = said.map_or_else(String::new, |said| format!(", {}", plain(said)));
            format!("the broker ended the connection: {other:?}{said}")
        }
    }
}

fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the broker running, and is mqtt.port right?".to_owned()
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no way to the broker's network: look at the network and at mqtt.host".to_owned()
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            CLOSED.to_owned()
        }
        io::ErrorKind::UnexpectedEof => CLOSED.to_owned(),
        io::ErrorKind::TimedOut => "the broker does not answer".to_owned(),
        _ if error.to_string().contains("lookup address") => {
            "the broker's name is not known to the network: look at mqtt.host".to_owned()
        }
        _ => format!("the connection failed: {}", plain(&error.to_string())),
    }
}

fn tls_words(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the broker's certificate is signed by none of the authorities this device trusts: set mqtt.ca_file to \
             the one that signed it"
                .to_owned()
        }
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the broker's certificate is made for another name: set mqtt.host to the name in it".to_owned(),
        E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the broker's certificate has expired, or this device's clock is wrong".to_owned()
        }
        E::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "the broker's certificate is not valid yet: this device's clock is wrong".to_owned()
        }
        E::InvalidCertificate(reason) => {
            format!("the broker's certificate is refused: {}", plain(&reason.to_string()))
        }
        E::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
            "the broker asks for a client certificate: set mqtt.client_certificate_file and mqtt.client_key_file"
                .to_owned()
        }
        E::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied,
        ) => "the broker refuses the certificate in mqtt.client_certificate_file".to_owned(),
        E::InvalidMessage(_) => {
            "what answers there is not encrypted: look at mqtt.tls and mqtt.port".to_owned()
        }
        other => format!("the encryption failed: {}", plain(&other.to_string())),
    }
}

/// One line, not too long, of a text that came from outside.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(FOREIGN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let io = |kind| rumqttc::v5::ConnectionError::Io(io::Error::from(kind));
        let words = |error| LinkFailure::from_v5(&error).to_string();
        assert!(words(io(io::ErrorKind::ConnectionRefused)).contains("mqtt.port"));
        assert!(words(io(io::ErrorKind::ConnectionReset)).contains("closed"));
        let refused = rumqttc::v5::ConnectionError::ConnectionRefused(Code5::NotAuthorized);
        assert!(words(refused).contains("mqtt.credentials_file"));
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, unknown);
        assert!(words(rumqttc::v5::ConnectionError::Io(wrapped)).contains("mqtt.ca_file"));
    }

    #[test]
    fn words_of_the_broker_are_cut_and_kept_to_one_line() {
        let said = "\x1b[31mred\n".repeat(100);
        let words = dismissal(DisconnectReasonCode::AdministrativeAction, Some(&said));
        assert!(words.chars().count() < 200 && !words.contains(['\n', '\x1b']), "{words}");
    }

    #[test]
    fn oversized_message_is_told_apart() {
        use rumqttc::v5::{ConnectionError, StateError, mqttbytes};
        let too_large = mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size: 70_000, max: 65_536 };
        let error = ConnectionError::MqttState(StateError::Deserialization(too_large));
        assert!(LinkFailure::from_v5(&error).oversized);
        assert!(!LinkFailure::silent().oversized);
    }
}
