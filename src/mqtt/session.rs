//! One connection from its first packet to its last: the task `mqtt-publish` while it is connected.

mod events;
mod inbound;
mod states;

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::discovery::Announced;
use super::failure::LinkFailure;
use super::inflight::{InFlight, Token};
use super::link::{Client, Link, LinkEvent, LinkOptions, Login, Message, Received, report};
use super::memory::{Memory, Told};
use super::orders::{Answer, Orders};
use super::outgoing::Outgoing;
use super::settings::MqttSettings;
use super::topics::Topics;
use super::{MqttParts, beats, secrets, tls};
use crate::door::thread::DoorState;
use crate::event_store::{RecordedEvent, StoreRefusal};
use crate::gallery::SubjectId;
use crate::live::Live;
use crate::vault::credentials_directory;

/// Events asked of the store at a time.
const BATCH: usize = 64;
/// How long the last words may take.
const GOODBYE: std::time::Duration = std::time::Duration::from_millis(500);
/// After a message that was too large nothing is subscribed for this long.
const DEAF: std::time::Duration = std::time::Duration::from_secs(60);

/// How a connection ended.
pub(super) enum End {
    /// As wanted.
    Stopped,
    /// It broke, or could not be made.
    Lost(LinkFailure),
    /// The store is gone.
    StoreEnded,
}

type Fetch = Pin<Box<dyn Future<Output = Result<Vec<RecordedEvent>, StoreRefusal>> + Send>>;

/// What the task was woken by.
enum Wake {
    Stop,
    Link(LinkEvent),
    Received(Received),
    Fetched(Result<Vec<RecordedEvent>, StoreRefusal>),
    Answer(Answer),
    Live(Result<Live, RecvError>),
    Outbox,
    FaceUnlock,
    Door,
    Gallery,
    Status,
    Beat,
    StoreEnded,
}

/// Where an orderly end stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// Waiting events get out until then.
    Flushing(Instant),
    /// `offline` is on its way.
    Goodbye(Instant),
    /// The connection is being closed.
    Closing(Instant),
}

struct Session<'s> {
    parts: &'s MqttParts,
    memory: &'s mut Memory,
    client: &'s Client,
    topics: Topics,
    flight: InFlight,
    outgoing: Outgoing,
    orders: Orders,
    /// Taken from the store and not sent yet, in order.
    ready: VecDeque<RecordedEvent>,
    /// Sequence number of the last event taken from the store.
    cursor: u64,
    /// The store has, or may have, more.
    more: bool,
    /// The store could not answer; it is asked again then.
    fetch_at: Option<Instant>,
    /// The broker refused an event: all begins again from the first unacknowledged one then.
    refused_until: Option<Instant>,
    /// What Home Assistant has been told of before, once that is known.
    announced: Announced,
    announced_text: Option<String>,
    announce_at: Option<Instant>,
    say_again_at: Option<Instant>,
    health_at: Instant,
    health_earliest: Instant,
    /// Whose last visit is to be said.
    seen: BTreeSet<SubjectId>,
    last_face_is_due: bool,
    /// Subscriptions that were put off.
    subscribe_at: Option<Instant>,
    leaving: Leaving,
}

/// Connects, and stays until the connection breaks or the program ends.
pub(super) async fn run_once(parts: &MqttParts, memory: &mut Memory, cancel: &CancellationToken) -> End {
    let topics = Topics::new(
        &parts.settings.prefix,
        &parts.settings.device.id,
        parts.settings.discovery_prefix.as_deref(),
    );
    let options = match options(&parts.settings, &topics).await {
        Ok(options) => options,
        Err(failure) => return End::Lost(failure),
    };
    let mut link = Link::open(options, parts.stats.clone(), parts.hooks.poll_beat.clone());
    let mut beats = beats();
    let (window, packet_bytes) = loop {
        tokio::select! {
            () = cancel.cancelled() => return End::Stopped,
            event = report(&mut link.control) => match event {
                LinkEvent::Connected { window, packet_bytes } => break (window, packet_bytes),
                LinkEvent::Lost(failure) => return End::Lost(failure),
                _ => {}
            },
            live = memory.live.recv() => drop(memory.hear(live, parts)),
            _ = beats.tick() => (parts.hooks.publish_beat)(),
        }
    };
    parts.stats.connects.add(1);
    let now = Instant::now();
    let mut session = Session {
        parts,
        memory,
        client: &link.client,
        topics,
        flight: InFlight::new(window.into()),
        outgoing: Outgoing::new(packet_bytes),
        orders: Orders::default(),
        ready: VecDeque::new(),
        cursor: 0,
        more: true,
        fetch_at: None,
        refused_until: None,
        announced: Announced::new(),
        announced_text: None,
        announce_at: None,
        say_again_at: None,
        health_at: now,
        health_earliest: now,
        seen: BTreeSet::new(),
        last_face_is_due: false,
        subscribe_at: None,
        leaving: Leaving::No,
    };
    session.greet(now);

    let mut outbox = parts.store.outbox();
    let mut face_unlock = parts.store.face_unlock();
    let mut gallery = parts.store.gallery_changes();
    let mut door = parts.hooks.door.as_ref().map(|door| door.state());
    let mut status = parts.status.changes();
    outbox.borrow_and_update();
    let mut fetch: Option<Fetch> = None;
    loop {
        if let Some(end) = session.timers(Instant::now()) {
            return end;
        }
        session.pump(fetch.is_some());
        if fetch.is_none() && session.wants_events() {
            let (store, cursor) = (parts.store.clone(), session.cursor);
            session.more = false;
            fetch = Some(Box::pin(async move { store.waiting(cursor, BATCH).await }));
        }
        (parts.hooks.publish_beat)();
        let changed = |result: Result<(), _>, wake| if result.is_ok() { wake } else { Wake::StoreEnded };
        let wake = tokio::select! {
            biased;
            event = report(&mut link.control) => Wake::Link(event),
            () = cancel.cancelled(), if session.leaving == Leaving::No => Wake::Stop,
            fetched = fetched(&mut fetch) => Wake::Fetched(fetched),
            result = outbox.changed() => changed(result, Wake::Outbox),
            answer = session.orders.next() => Wake::Answer(answer),
            Some(message) = link.received.recv() => Wake::Received(message),
            live = session.memory.live.recv() => Wake::Live(live),
            result = face_unlock.changed() => changed(result, Wake::FaceUnlock),
            result = gallery.changed() => changed(result, Wake::Gallery),
            () = door_changed(&mut door) => Wake::Door,
            Ok(()) = status.changed() => Wake::Status,
            _ = beats.tick() => Wake::Beat,
        };
        if let Some(end) = session.handle(wake) {
            return end;
        }
    }
}

/// Waits for the door to be otherwise; for ever where there is none, or its thread has ended.
async fn door_changed(door: &mut Option<watch::Receiver<DoorState>>) {
    let changed = match door {
        Some(state) => state.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

async fn fetched(fetch: &mut Option<Fetch>) -> Result<Vec<RecordedEvent>, StoreRefusal> {
    match fetch {
        Some(running) => {
            let result = running.await;
            *fetch = None;
            result
        }
        None => std::future::pending().await,
    }
}

/// Reads what the connection needs from the disk.
pub(super) async fn options(settings: &MqttSettings, topics: &Topics) -> Result<LinkOptions, LinkFailure> {
    let settings = settings.clone();
    let will_topic = topics.availability();
    let read = tokio::task::spawn_blocking(move || {
        let login = match settings.login {
            Some((user, password)) => {
                let password = password.as_ref().map_or("", |password| password.reveal());
                Some(Login { user: user.into(), password: password.to_owned().into() })
            }
            None => secrets::login(settings.credentials_file.as_deref(), credentials_directory().as_deref())
                .map_err(|error| LinkFailure::new(error.to_string()))?,
        };
        let tls = settings.tls.as_ref().map(tls::client_config).transpose();
        Ok(LinkOptions {
            host: settings.host,
            port: settings.port,
            protocol: settings.protocol,
            client_id: settings.client_id,
            keep_alive: settings.keep_alive,
            login,
            tls: tls.map_err(|error| LinkFailure::new(error.to_string()))?,
            will_topic,
        })
    });
    read.await.unwrap_or_else(|error| {
        Err(LinkFailure::new(format!("reading the settings' files stopped: {error}")))
    })
}

impl Session<'_> {
    fn handle(&mut self, wake: Wake) -> Option<End> {
        match wake {
            Wake::Stop => self.leaving = Leaving::Flushing(Instant::now() + self.parts.timing.flush),
            Wake::StoreEnded => return Some(End::StoreEnded),
            Wake::Link(event) => return self.link(event),
            Wake::Received(message) => self.received(message),
            Wake::Fetched(Ok(events)) => {
                self.more |= events.len() == BATCH;
                self.cursor = events.last().map_or(self.cursor, |event| event.sequence);
                self.ready.extend(events);
            }
            Wake::Fetched(Err(StoreRefusal::Ended)) => return Some(End::StoreEnded),
            Wake::Fetched(Err(_)) => {
                self.more = true;
                self.fetch_at = Some(Instant::now() + super::BEAT);
            }
            Wake::Outbox => self.more = true,
            Wake::Answer(answer) => self.answered(answer),
            Wake::Live(live) => self.live(live),
            Wake::FaceUnlock => self.say_face_unlock(),
            Wake::Door => self.say_door(),
            Wake::Gallery => self.gallery_changed(),
            Wake::Status => self.health_at = self.health_at.min(self.health_earliest),
            Wake::Beat => {}
        }
        None
    }

    fn link(&mut self, event: LinkEvent) -> Option<End> {
        match event {
            LinkEvent::Lost(failure) => {
                if failure.oversized {
                    self.memory.deaf_until = Some(Instant::now() + DEAF);
                }
                // A broker may close the connection first once everything has been said.
                let said = matches!(self.leaving, Leaving::Closing(_));
                return Some(if said { End::Stopped } else { End::Lost(failure) });
            }
            LinkEvent::Disconnected => return Some(End::Stopped),
            LinkEvent::Sent(packet) => self.flight.sent(packet),
            LinkEvent::Acknowledged(packet, refused) => self.acknowledged(packet, refused),
            LinkEvent::Subscribed(granted) => {
                if !granted && Told::first(&mut self.memory.told.subscription) {
                    tracing::warn!("the broker does not permit all subscriptions: commands may not arrive");
                }
            }
            LinkEvent::Connected { .. } | LinkEvent::Received(_) => {}
        }
        None
    }

    fn push(&mut self, message: Message, token: Token) {
        if self.outgoing.push(message, token).is_err() {
            self.dropped();
        }
    }

    fn dropped(&mut self) {
        self.parts.stats.dropped.add(1);
        if Told::first(&mut self.memory.told.dropped) {
            tracing::warn!("a message is not sent: the broker takes none of its size, or too many wait");
        }
    }

    /// What is due; the end, when it is reached.
    fn timers(&mut self, now: Instant) -> Option<End> {
        let passed = |due: &mut Option<Instant>| due.take_if(|due| *due <= now).is_some();
        if passed(&mut self.announce_at) {
            self.first_announcement();
        }
        if passed(&mut self.say_again_at) {
            self.announced_text = None;
            self.announce();
            self.say_states();
            self.health_at = now;
        }
        passed(&mut self.fetch_at);
        if passed(&mut self.subscribe_at) {
            self.subscribe();
        }
        if self.health_at <= now {
            self.say_health(now);
        }
        if self.refused_until.is_some_and(|until| until <= now) && !self.flight.has_events() {
            self.refused_until = None;
            self.ready.clear();
            self.cursor = 0;
            self.more = true;
        }
        if let Some(message) =
            self.memory.compatibility.passed(&self.parts.settings, self.parts.clock.monotonic())
        {
            self.push(message, Token::Other);
        }
        match self.leaving {
            Leaving::Flushing(until) if now >= until || self.is_drained() => self.say_goodbye(now),
            // With `offline` still waiting here, an orderly end would leave `online` behind: the broken
            // connection makes the broker send the last will.
            Leaving::Goodbye(until) if now >= until => return Some(End::Stopped),
            Leaving::Closing(until) if now >= until => return Some(End::Stopped),
            _ => {}
        }
        None
    }

    fn is_drained(&self) -> bool {
        self.parts.store.outbox().borrow().waiting == 0
            && self.ready.is_empty()
            && !self.flight.has_events()
            && self.outgoing.is_empty()
            && self.memory.acknowledged.is_empty()
    }

    fn say_goodbye(&mut self, now: Instant) {
        self.memory.tell(&self.parts.store);
        self.leaving = Leaving::Goodbye(now + GOODBYE);
        if let Some(message) = self.memory.compatibility.nobody(&self.parts.settings) {
            self.push(message, Token::Other);
        }
        let message = self.state(self.topics.availability(), b"offline".to_vec());
        self.push(message, Token::Goodbye);
    }

    fn close(&mut self) {
        self.leaving = Leaving::Closing(Instant::now() + GOODBYE);
        // Without room for it the connection is dropped, and the last will says the same.
        if self.client.disconnect().is_err() {
            tracing::debug!("no room to say goodbye to the broker");
        }
    }
}
