//! The thread `door`: what happens at the door goes to the doorkeeper, and what that says is switched, recorded and
//! told.
//!
//! A face opens without waiting for anything but the relay. A PIN or pass that may be used so and so often is
//! counted on the disk first.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{broadcast, oneshot, watch};

use super::book::{DoorBook, PolicyState};
use super::condition::DoorCondition;
use super::credential::CredentialId;
use super::gpio::{LineSpec, Output};
use super::inputs::InputKind;
use super::keeper::{Denial, FaceSight, Factor, Keeper, Moment, Ruling, Step, Way};
use super::record::{Alarm, DoorEvent, DoorRecord, Switched};
use super::relay::{Pulse, RelayHandle};
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::event_store::{EventKind, StoreHandle};
use crate::metrics::Metrics;
use crate::supervisor::Heartbeat;
use crate::track::TrackId;

/// What may wait for the thread. Faces are told again at the next look, and a button at the next press.
const INPUTS: usize = 64;
/// How long the thread waits before it looks around.
const TICK: Duration = Duration::from_millis(100);
/// How often is looked whether the clock has been set.
const CLOCK_LOOK: Duration = Duration::from_secs(5);
/// How long a line that cannot be taken is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// For so long after a pulse, opening the door is not forcing it.
const GRACE: Duration = Duration::from_secs(5);
/// What a listener may lag behind.
const NEWS: usize = 32;
/// How long the disk may take for the use of a pass; the visitor waits.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// The infrared light goes out so long after the last face.
const LIGHT_AFTER: Duration = Duration::from_secs(10);
/// One tone of the buzzer.
const TONE: Duration = Duration::from_millis(120);
/// An alarm sounds this often, and is silent then until something changes.
const ALARM_TONES: usize = 60;

/// What happens at the door.
pub enum DoorInput {
    /// Recognition names a face.
    Face(FaceSight),
    /// A face is nobody's.
    Stranger(TrackId, Monotonic, UnixMillis),
    /// A face has left.
    Left(TrackId),
    /// So many faces are in view.
    Presence(u32),
    /// A code that begins like a pass was shown to the camera.
    Pass(String),
    /// A PIN was entered, of which this is the hash; where the ruling goes.
    Pin(Option<[u8; 32]>, oneshot::Sender<Ruled>),
    /// A line has become active or inactive.
    Edge(InputKind, bool),
    /// Somebody opens by hand.
    Open(String, oneshot::Sender<Ruled>),
    /// Somebody unlocks what failures have locked.
    Unlock,
}

impl std::fmt::Debug for DoorInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Face(..) => "Face",
            Self::Stranger(..) => "Stranger",
            Self::Left(_) => "Left",
            Self::Presence(_) => "Presence",
            Self::Pass(_) => "Pass",
            Self::Pin(..) => "Pin",
            Self::Edge(..) => "Edge",
            Self::Open(..) => "Open",
            Self::Unlock => "Unlock",
        })
    }
}

/// What became of something that was asked of the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Ruled {
    /// Whether somebody may enter.
    pub granted: bool,
    /// Why not, or what is needed besides.
    pub reason: Option<String>,
    /// What became of the relay.
    pub switched: Option<Switched>,
}

/// Something for whoever stands at the door to see or hear.
#[derive(Clone, Debug, PartialEq)]
pub enum DoorNews {
    /// Somebody may enter, or not.
    Ruling(Ruling),
    /// Something more is needed.
    Prompt(Factor),
    /// Somebody rang.
    Rang,
    /// Something is wrong with the door.
    Alarm(Alarm),
}

/// How the door is. No names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct DoorState {
    /// Whether this device has a relay.
    pub relay: bool,
    /// Whether it is energised now.
    pub unlocked: bool,
    /// Whether the door is open; null without a contact.
    pub open: Option<bool>,
    /// Alarms that go on.
    pub alarms: Vec<Alarm>,
    /// `none`, `in_force`, or `unusable`.
    pub policy: &'static str,
    /// Whether the policy only says what it would do.
    pub dry_run: bool,
    /// Whether the clock can be right.
    pub clock_trusted: bool,
    /// Whether faces are locked after failures, and so on.
    pub faces_locked: bool,
    /// The same for PINs.
    pub pins_locked: bool,
    /// The same for passes.
    pub passes_locked: bool,
    /// Until when any of them is.
    #[serde(skip)]
    pub locked_until: Option<Monotonic>,
}

/// Reaches the thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DoorHandle {
    inputs: SyncSender<DoorInput>,
    state: watch::Receiver<DoorState>,
    news: broadcast::Sender<DoorNews>,
    book: watch::Receiver<Arc<DoorBook>>,
    metrics: Arc<Metrics>,
}

impl DoorHandle {
    /// Tells what happens, without waiting. What does not fit is dropped and counted.
    pub fn tell(&self, input: DoorInput) {
        if let Err(TrySendError::Full(_)) = self.inputs.try_send(input) {
            self.metrics.door_input_dropped();
        }
    }

    /// Enters a PIN, by its hash; none where it cannot be one.
    pub async fn pin(&self, hash: Option<[u8; 32]>) -> Option<Ruled> {
        let (reply, ruled) = oneshot::channel();
        self.tell(DoorInput::Pin(hash, reply));
        ruled.await.ok()
    }

    /// Opens by hand; `by` is the name of an account, or `mqtt`.
    pub async fn open(&self, by: String) -> Option<Ruled> {
        let (reply, ruled) = oneshot::channel();
        self.tell(DoorInput::Open(by, reply));
        ruled.await.ok()
    }

    /// How the door is; changes when it does.
    pub fn state(&self) -> watch::Receiver<DoorState> {
        self.state.clone()
    }

    /// How long any means of entry stays locked.
    pub fn locked_for(&self, now: Monotonic) -> Option<Duration> {
        self.state.borrow().locked_until.map(|until| until.since(now)).filter(|left| !left.is_zero())
    }

    /// What is shown and heard from now on.
    pub fn news(&self) -> broadcast::Receiver<DoorNews> {
        self.news.subscribe()
    }

    /// The policy, people, PINs and passes.
    pub fn book(&self) -> Arc<DoorBook> {
        self.book.borrow().clone()
    }

    /// Probes in a row that the policy wants to see of a face it knows.
    pub fn confirming_probes(&self) -> u32 {
        self.book.borrow().in_force().map_or(0, |policy| policy.most_probes())
    }

    /// Whether codes shown to the camera may be passes.
    pub fn takes_passes(&self) -> bool {
        self.book.borrow().in_force().is_some_and(|policy| policy.takes_passes())
    }
}

/// What the door is made of.
#[derive(Clone, Debug)]
pub struct DoorParts {
    /// How long the relay is energised.
    pub pulse: Duration,
    /// How long the door may stay open.
    pub held_open_after: Duration,
    /// File that is there once the clock has been set; none where the clock is always trusted.
    pub clock_file: Option<PathBuf>,
    /// Sounds.
    pub buzzer: Option<LineSpec>,
    /// Lights while everything works.
    pub status_led: Option<LineSpec>,
    /// Lights while somebody is in view.
    pub infrared: Option<LineSpec>,
    /// Whether there is a contact.
    pub has_contact: bool,
}

/// A line that is driven for signs only: the door goes on without it.
struct Sign {
    what: &'static str,
    spec: LineSpec,
    line: Option<Output>,
    active: bool,
    tried: Option<Monotonic>,
}

impl Sign {
    fn new(what: &'static str, spec: &Option<LineSpec>) -> Option<Self> {
        spec.as_ref().map(|spec| Self { what, spec: spec.clone(), line: None, active: false, tried: None })
    }

    fn set(&mut self, active: bool, now: Monotonic, condition: &DoorCondition) {
        if self.line.is_none() && self.tried.is_none_or(|tried| now.since(tried) > RETRY) {
            self.tried = Some(now);
            match Output::open(&self.spec) {
                Ok(line) => {
                    (self.line, self.active) = (Some(line), false);
                    condition.works(self.what);
                }
                Err(error) => condition.fails(self.what, error.to_string()),
            }
        }
        let Some(line) = &self.line else { return };
        if active != self.active {
            match line.set(active) {
                Ok(()) => self.active = active,
                Err(error) => {
                    condition.fails(self.what, error.to_string());
                    self.line = None;
                }
            }
        }
    }
}

/// The thread, not yet running.
pub struct DoorThread {
    parts: DoorParts,
    inputs: Receiver<DoorInput>,
    state: watch::Sender<DoorState>,
    news: broadcast::Sender<DoorNews>,
    book: watch::Receiver<Arc<DoorBook>>,
    relay: Option<(RelayHandle, Pulse)>,
    condition: DoorCondition,
    store: StoreHandle,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    keeper: Keeper,
    trusted: bool,
    clock_looked: Option<Monotonic>,
    buzzer: Option<Sign>,
    led: Option<Sign>,
    infrared: Option<Sign>,
    /// Tones to come: when the next one begins or ends.
    tones: VecDeque<(Monotonic, bool)>,
    faces: u32,
    faces_at: Option<Monotonic>,
    open: Option<bool>,
    open_since: Option<Monotonic>,
    /// Until when opening the door is nothing unusual.
    allowed_until: Option<Monotonic>,
    forced: bool,
    held: bool,
    tampered: bool,
}

impl DoorThread {
    /// The thread, and how to reach it.
    pub fn new(
        parts: DoorParts,
        relay: Option<(RelayHandle, Pulse)>,
        condition: DoorCondition,
        store: StoreHandle,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> (Self, DoorHandle) {
        let (sender, inputs) = sync_channel(INPUTS);
        let state = watch::Sender::new(DoorState { policy: "none", ..DoorState::default() });
        let news = broadcast::Sender::new(NEWS);
        let book = store.door_book();
        let handle = DoorHandle {
            inputs: sender,
            state: state.subscribe(),
            news: news.clone(),
            book: book.clone(),
            metrics: Arc::clone(&metrics),
        };
        let keeper = Keeper::new(*store.face_unlock().borrow());
        let thread = Self {
            buzzer: Sign::new("buzzer", &parts.buzzer),
            led: Sign::new("status light", &parts.status_led),
            infrared: Sign::new("infrared light", &parts.infrared),
            parts,
            inputs,
            state,
            news,
            book,
            relay,
            condition,
            store,
            metrics,
            clock,
            keeper,
            trusted: false,
            clock_looked: None,
            tones: VecDeque::new(),
            faces: 0,
            faces_at: None,
            open: None,
            open_since: None,
            allowed_until: None,
            forced: false,
            held: false,
            tampered: false,
        };
        (thread, handle)
    }

    /// Serves until told to end.
    pub fn run(mut self, beat: &Heartbeat, ending: &AtomicBool) -> anyhow::Result<()> {
        let mut face_unlock = self.store.face_unlock();
        self.read_book();
        while !ending.load(Ordering::Relaxed) {
            beat.beat();
            let now = self.clock.monotonic();
            if let Some((_, pulse)) = &self.relay {
                pulse.tick(now);
            }
            if self.book.has_changed().unwrap_or(false) {
                self.read_book();
            }
            if face_unlock.has_changed().unwrap_or(false) {
                self.keeper.set_face_unlock(*face_unlock.borrow_and_update());
            }
            self.look_at_the_clock(now);
            self.signs(now);
            self.tell_state(now);
            let next = [self.keeper.next_tick(), self.tones.front().map(|(at, _)| *at)];
            let wait = next.into_iter().flatten().map(|at| at.since(now)).min().unwrap_or(TICK).min(TICK);
            match self.inputs.recv_timeout(wait) {
                Ok(input) => self.take_in(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.time_passes();
        }
        if let Some((relay, _)) = &self.relay {
            relay.close();
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment { monotonic: self.clock.monotonic(), wall: self.clock.wall(), trusted: self.trusted }
    }

    fn read_book(&mut self) {
        let book = self.book.borrow_and_update().clone();
        match &book.policy {
            PolicyState::Unusable(problems) => {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                self.condition.fails("policy", format!("it is not usable, and opens for nobody: {first}"));
            }
            PolicyState::None | PolicyState::InForce(_) => self.condition.works("policy"),
        }
        self.keeper.instruct(book.in_force().cloned(), Arc::clone(&book.people));
    }

    fn look_at_the_clock(&mut self, now: Monotonic) {
        if self.trusted || self.clock_looked.is_some_and(|at| now.since(at) < CLOCK_LOOK) {
            return;
        }
        self.clock_looked = Some(now);
        self.trusted = self.parts.clock_file.as_ref().is_none_or(|file| file.exists());
    }

    fn take_in(&mut self, input: DoorInput) {
        let moment = self.moment();
        let now = moment.monotonic;
        match input {
            DoorInput::Face(sight) => {
                let steps = self.keeper.face(&sight, &moment);
                self.carry_out(steps, sight.captured, sight.captured_at);
            }
            DoorInput::Stranger(track, captured, captured_at) => {
                let steps = self.keeper.stranger(track);
                self.carry_out(steps, captured, captured_at);
            }
            DoorInput::Left(track) => {
                let steps = self.keeper.left(track);
                self.carry_out(steps, now, moment.wall);
            }
            DoorInput::Presence(faces) => {
                self.faces = faces;
                self.faces_at = Some(now);
            }
            DoorInput::Pass(text) => self.pass(&text, &moment),
            DoorInput::Pin(hash, reply) => {
                let ruled = self.pin(hash, &moment);
                // Whoever asked may have given up waiting.
                let _ = reply.send(ruled);
            }
            DoorInput::Edge(kind, active) => self.edge(kind, active, &moment),
            DoorInput::Open(by, reply) => {
                let ruling = self.keeper.remote(now);
                let ruled = self.rule(ruling, now, moment.wall, Some(by));
                let _ = reply.send(ruled);
            }
            DoorInput::Unlock => self.keeper.unlock(),
        }
    }

    fn carry_out(&mut self, steps: Vec<Step>, at: Monotonic, wall: UnixMillis) -> Option<Ruled> {
        let mut ruled = None;
        for step in steps {
            ruled = Some(match step {
                Step::Ruling(ruling) => self.rule(ruling, at, wall, None),
                Step::Prompt(factor) => {
                    self.say(DoorNews::Prompt(factor));
                    let reason = factor.hindrance().code().to_owned();
                    Ruled { granted: false, reason: Some(reason), switched: None }
                }
            });
        }
        ruled
    }

    fn pin(&mut self, hash: Option<[u8; 32]>, moment: &Moment) -> Ruled {
        let (now, wall) = (moment.monotonic, moment.wall);
        let steps = match self.keeper.admits(Way::Pin, now) {
            Err(ruling) => vec![Step::Ruling(ruling)],
            Ok(()) => match hash.and_then(|hash| self.book.borrow().pin(&hash, moment)) {
                Some(presented) => self.keeper.credential(Way::Pin, &presented, moment),
                None => self.failed(Way::Pin, Denial::WrongPin, None, now),
            },
        };
        let nothing = Ruled { granted: false, reason: Some("no_policy".to_owned()), switched: None };
        self.carry_out(steps, now, wall).unwrap_or(nothing)
    }

    fn pass(&mut self, text: &str, moment: &Moment) {
        let (now, wall) = (moment.monotonic, moment.wall);
        let steps = match self.keeper.admits(Way::Pass, now) {
            Err(ruling) => vec![Step::Ruling(ruling)],
            Ok(()) => {
                let book = self.book.borrow().clone();
                match book.pass(text, moment) {
                    None => return,
                    Some(Ok(presented)) => self.keeper.credential(Way::Pass, &presented, moment),
                    Some(Err((fault, credential))) => {
                        let id = credential.map(|credential| credential.id);
                        self.failed(Way::Pass, Denial::Pass(fault), id, now)
                    }
                }
            }
        };
        self.carry_out(steps, now, wall);
    }

    /// A failure, which may lock its means.
    fn failed(&mut self, way: Way, denial: Denial, id: Option<CredentialId>, now: Monotonic) -> Vec<Step> {
        let before = self.keeper.locked(now);
        let ruling = self.keeper.failed(way, denial, id, now);
        if self.keeper.locked(now) != before {
            self.alarm(Alarm::LockedOut);
        }
        vec![Step::Ruling(ruling)]
    }

    /// Switches, records and tells what was ruled.
    fn rule(&mut self, mut ruling: Ruling, at: Monotonic, wall: UnixMillis, by: Option<String>) -> Ruled {
        let ruled_at = self.clock.monotonic();
        if ruling.result.is_ok()
            && !ruling.dry_run
            && let Some(id) = ruling.credential
        {
            ruling.result = match self.store.use_credential_blocking(id, STORE_PATIENCE) {
                Ok(Ok(())) => Ok(()),
                Ok(Err(fault)) => Err(Denial::Pass(fault)),
                Err(error) => {
                    tracing::warn!(%error, "a PIN or pass cannot be counted, so it opens nothing");
                    Err(Denial::Storage)
                }
            };
        }
        let mut record = DoorRecord { by, ..DoorRecord::from(&ruling) };
        if ruling.result.is_ok() {
            let to_be_switched = self.clock.monotonic();
            let switched = match &self.relay {
                _ if ruling.dry_run => Switched::DryRun,
                None => Switched::NoRelay,
                Some((relay, _)) if relay.open(self.parts.pulse) => Switched::Yes,
                Some(_) => Switched::Failed,
            };
            if switched == Switched::Yes {
                let took = self.clock.monotonic().since(to_be_switched);
                record.switched_after_us = u32::try_from(took.as_micros()).ok();
                self.metrics.observe_relay(took);
            }
            if switched != Switched::DryRun {
                self.allowed_until = Some(self.clock.monotonic() + self.parts.pulse + GRACE);
            }
            record.switched = Some(switched);
        }
        let reason = ruling.result.err().map(Denial::code);
        self.metrics.door_ruled(ruling.way.code(), reason);
        let event = DoorEvent {
            kind: if ruling.result.is_ok() { EventKind::Granted } else { EventKind::Denied },
            subject: ruling.subject,
            track: ruling.track,
            at,
            wall,
            latency_ms: ruled_at.since(at).as_secs_f32() * 1e3,
            reason,
            record: Some(record.clone()),
        };
        self.record(event);
        self.sound(if ruling.result.is_ok() { 1 } else { 3 });
        let granted = ruling.result.is_ok();
        self.say(DoorNews::Ruling(ruling));
        Ruled { granted, reason: reason.map(str::to_owned), switched: record.switched }
    }

    fn record(&self, event: DoorEvent) {
        if !self.store.record_door(event) {
            tracing::error!("an event of the door could not be recorded: the store is busy or has ended");
        }
    }

    fn say(&self, news: DoorNews) {
        // An error means that nobody listens.
        let _ = self.news.send(news);
    }

    fn edge(&mut self, kind: InputKind, active: bool, moment: &Moment) {
        let (now, wall) = (moment.monotonic, moment.wall);
        match (kind, active) {
            (InputKind::ExitButton, true) => {
                let ruling = self.keeper.exit();
                self.rule(ruling, now, wall, None);
            }
            (InputKind::Bell, true) => {
                let event = DoorEvent {
                    kind: EventKind::Ring,
                    subject: None,
                    track: None,
                    at: now,
                    wall,
                    latency_ms: 0.0,
                    reason: None,
                    record: None,
                };
                self.record(event);
                self.say(DoorNews::Rang);
                self.sound(2);
            }
            (InputKind::ExitButton | InputKind::Bell, false) => {}
            (InputKind::Contact, open) => {
                let was = self.open.replace(open);
                self.open_since = open.then_some(now);
                if !open {
                    (self.forced, self.held) = (false, false);
                    self.tones.clear();
                } else if was == Some(false) && self.allowed_until.is_none_or(|until| now > until) {
                    self.forced = true;
                    self.alarm(Alarm::ForcedOpen);
                }
            }
            (InputKind::Tamper, active) => {
                if active && !self.tampered {
                    self.alarm(Alarm::Tamper);
                }
                self.tampered = active;
            }
        }
    }

    fn time_passes(&mut self) {
        let now = self.clock.monotonic();
        let steps = self.keeper.tick(now);
        if !steps.is_empty() {
            self.carry_out(steps, now, self.clock.wall());
        }
        let too_long = self.open_since.is_some_and(|since| now.since(since) >= self.parts.held_open_after);
        if too_long && !self.held {
            self.held = true;
            self.alarm(Alarm::HeldOpen);
        }
    }

    fn alarm(&mut self, alarm: Alarm) {
        tracing::warn!(alarm = alarm.code(), "the door");
        let event = DoorEvent {
            kind: EventKind::Alarm,
            subject: None,
            track: None,
            at: self.clock.monotonic(),
            wall: self.clock.wall(),
            latency_ms: 0.0,
            reason: Some(alarm.code()),
            record: Some(DoorRecord::default()),
        };
        self.metrics.door_alarm(alarm.code());
        self.record(event);
        self.say(DoorNews::Alarm(alarm));
        if alarm != Alarm::LockedOut {
            self.sound(ALARM_TONES);
        }
    }

    fn sound(&mut self, tones: usize) {
        if self.buzzer.is_none() {
            return;
        }
        self.tones.clear();
        let mut at = self.clock.monotonic();
        for _ in 0..tones {
            self.tones.push_back((at, true));
            self.tones.push_back((at + TONE, false));
            at = at + TONE + TONE;
        }
    }

    fn signs(&mut self, now: Monotonic) {
        let condition = &self.condition;
        if let Some(buzzer) = &mut self.buzzer {
            while let Some((_, on)) = self.tones.front().copied().filter(|(at, _)| *at <= now) {
                self.tones.pop_front();
                buzzer.set(on, now, condition);
            }
            if self.tones.is_empty() {
                buzzer.set(false, now, condition);
            }
        }
        if let Some(led) = &mut self.led {
            led.set(self.book.borrow().in_force().is_some(), now, condition);
        }
        if let Some(light) = &mut self.infrared {
            let recent = self.faces_at.is_some_and(|at| now.since(at) < LIGHT_AFTER);
            light.set(self.faces > 0 || recent, now, condition);
        }
    }

    fn tell_state(&self, now: Monotonic) {
        let locked = self.keeper.locked(now);
        let book = self.book.borrow();
        let alarms = [
            (Alarm::ForcedOpen, self.forced),
            (Alarm::HeldOpen, self.held),
            (Alarm::Tamper, self.tampered),
            (Alarm::LockedOut, locked.face || locked.pin || locked.pass),
        ];
        let state = DoorState {
            relay: self.relay.is_some(),
            unlocked: self.relay.as_ref().is_some_and(|(relay, _)| *relay.energised().borrow()),
            open: self.open.filter(|_| self.parts.has_contact),
            alarms: alarms.into_iter().filter(|(_, on)| *on).map(|(alarm, _)| alarm).collect(),
            policy: match &book.policy {
                PolicyState::None => "none",
                PolicyState::InForce(_) => "in_force",
                PolicyState::Unusable(_) => "unusable",
            },
            dry_run: book.in_force().is_some_and(|policy| policy.document().dry_run),
            clock_trusted: self.trusted,
            faces_locked: locked.face,
            pins_locked: locked.pin,
            passes_locked: locked.pass,
            locked_until: self.keeper.locked_until(now),
        };
        drop(book);
        self.state.send_if_modified(|now| std::mem::replace(now, state.clone()) != state);
    }
}
