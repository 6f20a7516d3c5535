//! Logs in to the broker once, as the daemon would, for somebody who looks for what is wrong.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::link::{Link, LinkEvent, report};
use super::session::options;
use super::settings::MqttSettings;
use super::topics::Topics;

/// Longer than the connection itself may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// Connects under a client name of its own, so that a running daemon keeps its connection, and takes
/// leave again. What was found, or why not.
pub fn probe(settings: &MqttSettings) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the network runtime does not start: {error}"))?;
    let found = runtime.block_on(async { timeout(PATIENCE, logged_in(settings)).await });
    // A name server that does not answer is not waited for.
    runtime.shutdown_background();
    found.unwrap_or_else(|_| Err(format!("the broker has not answered within {} s", PATIENCE.as_secs())))
}

async fn logged_in(settings: &MqttSettings) -> Result<String, String> {
    let topics = Topics::new(&settings.prefix, &settings.device.id, None);
    let mut options = options(settings, &topics).await.map_err(|failure| failure.to_string())?;
    options.client_id.push_str("-doctor");
    // Were this connection to break, nobody may take the device for gone.
    options.will_topic.push_str("/doctor");
    let mut link = Link::open(options, Arc::default(), Arc::new(|| ()));
    loop {
        match report(&mut link.control).await {
            LinkEvent::Connected { .. } => break,
            LinkEvent::Lost(failure) => return Err(failure.to_string()),
            _ => {}
        }
    }
    if link.client.disconnect().is_ok() {
        while !matches!(report(&mut link.control).await, LinkEvent::Disconnected | LinkEvent::Lost(_)) {}
    }
    let protocol = settings.protocol;
    let guard = if settings.tls.is_some() { "over TLS" } else { "unencrypted" };
    Ok(format!("the broker has let this device in, {guard}, MQTT {protocol}"))
}
