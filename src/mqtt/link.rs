//! One connection to the broker over rumqttc, the same for both versions of the protocol.
//!
//! Owned here: options, the task `mqtt-poll` that moves the client's event loop, and the translation of
//! what it reports. A client serves one connection and is then thrown away with everything that
//! still waits in it: the outbox on the disk is the only truth about what has been delivered.

mod v311;
mod v5;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::Beat;
use super::failure::LinkFailure;
use super::stats::MqttStats;
use crate::config::MqttProtocol;

/// Largest packet taken from the broker, bytes. Own announcements are read back, hence so much.
pub(super) const INCOMING_BYTES: u32 = 64 * 1024;
/// Largest packet sent to a broker that states no limit.
pub(super) const OUTGOING_BYTES: usize = 1024 * 1024;
/// Messages of QoS 1 under way, where the broker allows that many.
pub(super) const WINDOW: u16 = 64;
/// Requests that may wait for the poll task; more than the window, for those of QoS 0.
const REQUESTS: usize = 256;
/// Messages from the broker that may wait for the publishing task.
const RECEIVED: usize = 32;
/// Time to connect, encryption and the broker's answer included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// The poll task shows a sign of life that often, however quiet the connection.
const BEAT: Duration = Duration::from_secs(1);

/// User name and password. Wiped when dropped; the client keeps copies of its own while it lives.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: zeroize::Zeroizing<String>,
    pub(super) password: zeroize::Zeroizing<String>,
}

/// What a connection is made with.
pub(super) struct LinkOptions {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protocol: MqttProtocol,
    pub(super) client_id: String,
    pub(super) keep_alive: Duration,
    pub(super) login: Option<Login>,
    pub(super) tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
    /// Retained `offline` when the connection breaks.
    pub(super) will_topic: String,
}

/// A message to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// QoS 1 rather than 0.
    pub(super) acknowledged: bool,
    pub(super) retained: bool,
    /// Seconds after which the broker throws it away; MQTT 5 only.
    pub(super) expiry_s: Option<u32>,
    /// What the caller recognises its answer by; MQTT 5 only.
    pub(super) correlation: Option<Vec<u8>>,
}

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// It was retained before this client subscribed.
    pub(super) retained: bool,
    pub(super) response_topic: Option<String>,
    pub(super) correlation: Option<Vec<u8>>,
}

/// What the poll task reports.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// The broker takes messages, within these limits.
    Connected { window: u16, packet_bytes: usize },
    /// The broker answered a subscription; false: it refused a part of it.
    Subscribed(bool),
    /// A message has gone out under this number; 0 for QoS 0.
    Sent(u16),
    /// The broker has a message, or refuses it for this reason.
    Acknowledged(u16, Option<String>),
    /// A message from the broker.
    Received(Received),
    /// Our orderly end has gone out.
    Disconnected,
    /// The connection is gone.
    Lost(LinkFailure),
}

/// There is no room for another request just now.
#[derive(Debug)]
pub(super) struct Full;

/// Hands requests to the poll task; never waits.
pub(super) enum Client {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

enum EventLoop {
    V5(Box<rumqttc::v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

impl Client {
    pub(super) fn publish(&self, message: &Message) -> Result<(), Full> {
        match self {
            Self::V5(client) => v5::publish(client, message),
            Self::V311(client) => v311::publish(client, message),
        }
    }

    pub(super) fn subscribe(&self, filters: &[String]) -> Result<(), Full> {
        match self {
            Self::V5(client) => v5::subscribe(client, filters),
            Self::V311(client) => v311::subscribe(client, filters),
        }
    }

    pub(super) fn unsubscribe(&self, filter: &str) -> Result<(), Full> {
        match self {
            Self::V5(client) => client.try_unsubscribe(filter).map_err(|_| Full),
            Self::V311(client) => client.try_unsubscribe(filter).map_err(|_| Full),
        }
    }

    pub(super) fn disconnect(&self) -> Result<(), Full> {
        match self {
            Self::V5(client) => client.try_disconnect().map_err(|_| Full),
            Self::V311(client) => client.try_disconnect().map_err(|_| Full),
        }
    }
}

/// One connection. Dropping it closes the socket at once, and the broker sends the last will unless
/// the end was said before.
pub(super) struct Link {
    pub(super) client: Client,
    /// Reports in order. Never dropped: the poll task waits while it is full.
    pub(super) control: Receiver<LinkEvent>,
    /// Messages from the broker; those beyond the bound are counted and dropped.
    pub(super) received: Receiver<Received>,
    poll: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

impl Link {
    /// Starts connecting.
    pub(super) fn open(options: LinkOptions, stats: Arc<MqttStats>, beat: Beat) -> Self {
        let keep_alive = options.keep_alive;
        let (client, events) = match options.protocol {
            MqttProtocol::V5 => {
                let (client, events) = rumqttc::v5::AsyncClient::new(v5::options(options), REQUESTS);
                (Client::V5(client), EventLoop::V5(Box::new(events)))
            }
            MqttProtocol::V311 => {
                let (client, mut events) = rumqttc::AsyncClient::new(v311::options(options), REQUESTS);
                events.set_network_options(v311::network_options());
                (Client::V311(client), EventLoop::V311(Box::new(events)))
            }
        };
        // Every message under way makes two reports.
        let (control_in, control) = channel(4 * WINDOW as usize);
        let (received_in, received) = channel(RECEIVED);
        let reports = Reports { control: control_in, received: received_in, stats };
        let poll = tokio::spawn(poll(events, reports, keep_alive, beat));
        Self { client, control, received, poll }
    }
}

/// The next report. The poll task reports its own end, unless it panicked over what the broker sent.
pub(super) async fn report(control: &mut Receiver<LinkEvent>) -> LinkEvent {
    let ended = || LinkEvent::Lost(LinkFailure::new("the client stopped on something the broker sent"));
    control.recv().await.unwrap_or_else(ended)
}

struct Reports {
    control: Sender<LinkEvent>,
    received: Sender<Received>,
    stats: Arc<MqttStats>,
}

impl Reports {
    /// False: nobody listens any more.
    async fn pass_on(&self, event: LinkEvent) -> bool {
        match event {
            LinkEvent::Received(message) => {
                self.stats.received.add(1);
                if self.received.try_send(message).is_err() {
                    self.stats.overflowed.add(1);
                }
                true
            }
            event => {
                if matches!(event, LinkEvent::Sent(_)) {
                    self.stats.sent.add(1);
                }
                self.control.send(event).await.is_ok()
            }
        }
    }
}

/// The task `mqtt-poll`.
async fn poll(mut events: EventLoop, reports: Reports, keep_alive: Duration, beat: Beat) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut patience = CONNECT_PATIENCE;
    loop {
        let deadline = Instant::now() + patience;
        let next = async {
            match &mut events {
                EventLoop::V5(events) => v5::next(events).await,
                EventLoop::V311(events) => v311::next(events).await,
            }
        };
        // Never started anew: the client loses what it was sending when its future is dropped.
        tokio::pin!(next);
        let next = loop {
            tokio::select! {
                next = timeout_at(deadline, &mut next) => break next,
                _ = beats.tick() => beat(),
            }
        };
        beat();
        match next {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(event))) => {
                let end = matches!(event, LinkEvent::Disconnected);
                // A probe each keep_alive is something to report, so silence for two of them is the
                // client waiting for a socket that takes nothing.
                patience = keep_alive * 2;
                if !reports.pass_on(event).await || end {
                    return;
                }
            }
            Ok(Err(failure)) => {
                reports.pass_on(LinkEvent::Lost(failure)).await;
                return;
            }
            Err(_) => {
                reports.pass_on(LinkEvent::Lost(LinkFailure::silent())).await;
                return;
            }
        }
    }
}
