//! Commands from the broker: what they are, and which are refused. Pure but for the time passed in.
//!
//! Whoever may publish on a device's `request/` topics may command it: who that is, is the broker's to
//! say. Here everything that arrives is taken to be hostile: bounded, checked in full before
//! anything changes, and answered with an error otherwise.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::stats::CommandOutcome;
use crate::clock::Monotonic;

/// Largest command, bytes.
pub(super) const COMMAND_BYTES: usize = 4096;
/// Longest transaction, characters.
const TRANSACTION_CHARS: usize = 64;
/// Transactions remembered, to tell a command that was sent twice.
const REMEMBERED: usize = 1024;
/// Commands taken at once, and then this many a second.
const BURST: f64 = 10.0;
const PER_SECOND: f64 = 2.0;
/// Longest time for an identification.
const LONGEST_IDENTIFY_MS: u32 = 10_000;

/// What is asked of the rest of the daemon; answered with the data of the answer, or with the reason
/// why not.
#[derive(Debug)]
pub enum CommandRequest {
    /// Say who is in front of the camera, within a time.
    Identify {
        /// How long to look.
        timeout: Duration,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Value, String>>,
    },
    /// Offer a picture of what the camera sees.
    Snapshot {
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Value, String>>,
    },
}

/// A command that has passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Open the door.
    OpenDoor,
    /// Enter a PIN.
    Pin(Pin),
    FaceUnlock(bool),
    Ring,
    Reload,
    Identify(Duration),
    Snapshot,
    Health,
}

/// A command with what its answer is recognised by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) transaction: String,
    pub(super) command: Command,
}

/// A command that is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Where it could be read.
    pub(super) transaction: Option<String>,
    pub(super) outcome: CommandOutcome,
    pub(super) error: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    transaction: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    transaction: String,
    on: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    transaction: String,
    #[serde(default = "Look::usual")]
    timeout_ms: u32,
}

impl Look {
    fn usual() -> u32 {
        5_000
    }
}

/// Only the transaction, of a command that is otherwise wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keypad {
    transaction: String,
    pin: String,
}

/// A PIN as it was entered. Wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pin(pub(super) Zeroizing<String>);

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin")
    }
}

#[derive(Deserialize)]
struct Envelope {
    transaction: String,
}

/// Reads a command.
pub(super) fn parse(name: &str, payload: &[u8]) -> Result<Order, Refusal> {
    let refuse = |transaction, outcome, error: String| Err(Refusal { transaction, outcome, error });
    if payload.len() > COMMAND_BYTES {
        let error = format!("a command has at most {COMMAND_BYTES} bytes; this one has {}", payload.len());
        return refuse(None, CommandOutcome::TooLarge, error);
    }
    let transaction = read::<Envelope>(payload).ok().map(|envelope| envelope.transaction);
    let transaction = transaction.filter(|transaction| is_transaction(transaction));
    let read = match name {
        "face_unlock" => read::<Switch>(payload).map(|c| (c.transaction, Command::FaceUnlock(c.on))),
        "ring" => read::<Plain>(payload).map(|c| (c.transaction, Command::Ring)),
        "reload" => read::<Plain>(payload).map(|c| (c.transaction, Command::Reload)),
        "snapshot" => read::<Plain>(payload).map(|c| (c.transaction, Command::Snapshot)),
        "health" => read::<Plain>(payload).map(|c| (c.transaction, Command::Health)),
        "open_door" => read::<Plain>(payload).map(|c| (c.transaction, Command::OpenDoor)),
        // What stands there may be a PIN in a wrong place, and an answer is read by others too.
        "pin" => read::<Keypad>(payload)
            .map(|c| (c.transaction, Command::Pin(Pin(Zeroizing::new(c.pin)))))
            .map_err(|_| "this is not {\"transaction\":\"1\",\"pin\":\"digits\"}".to_owned()),
        "identify" => read::<Look>(payload).and_then(|c| {
            if !(100..=LONGEST_IDENTIFY_MS).contains(&c.timeout_ms) {
                return Err(format!(
                    "timeout_ms is {}: 100 to {LONGEST_IDENTIFY_MS} is possible",
                    c.timeout_ms
                ));
            }
            Ok((c.transaction, Command::Identify(Duration::from_millis(c.timeout_ms.into()))))
        }),
        _ => {
            let error = "there is no such command; there are face_unlock, health, identify, open_door, pin, reload, ring \
                         and snapshot";
            return refuse(transaction, CommandOutcome::Unknown, error.to_owned());
        }
    };
    match read {
        Ok((transaction, command)) if is_transaction(&transaction) => Ok(Order { transaction, command }),
        Ok(_) => {
            let error = format!("transaction has to be a text of 1 to {TRANSACTION_CHARS} characters");
            refuse(None, CommandOutcome::Malformed, error)
        }
        Err(error) => refuse(transaction, CommandOutcome::Malformed, error),
    }
}

fn is_transaction(text: &str) -> bool {
    let length = text.chars().take(TRANSACTION_CHARS + 1).count();
    (1..=TRANSACTION_CHARS).contains(&length) && !text.chars().any(char::is_control)
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    // serde would read a list as the fields in their order.
    if payload.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err("a command is a JSON object such as {\"transaction\":\"1\"}".to_owned());
    }
    serde_json::from_slice(payload).map_err(|error| {
        // The reason may repeat what stood there; how much of it is bounded.
        let error: String = error.to_string().chars().filter(|c| !c.is_control()).take(160).collect();
        format!("this is not the JSON object that was expected: {error}")
    })
}

/// So many at once, and so many in the long run.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Option<Monotonic>,
}

impl Bucket {
    fn take(&mut self, now: Monotonic) -> bool {
        if let Some(at) = self.at {
            self.tokens = (self.tokens + now.since(at).as_secs_f64() * PER_SECOND).min(BURST);
        }
        self.at = Some(now);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

/// Lets through what is neither too much nor a repetition. Lives as long as the program: a new
/// connection forgets nothing.
#[derive(Debug)]
pub(super) struct Gate {
    commands: Bucket,
    refusals: Bucket,
    order: VecDeque<String>,
    known: HashSet<String>,
}

impl Default for Gate {
    fn default() -> Self {
        let full = || Bucket { tokens: BURST, at: None };
        Self { commands: full(), refusals: full(), order: VecDeque::new(), known: HashSet::new() }
    }
}

impl Gate {
    /// Whether one more command may be carried out now.
    pub(super) fn has_room(&mut self, now: Monotonic) -> bool {
        self.commands.take(now)
    }

    /// Whether one more refusal may be answered now: else a flood of nonsense would be answered with a
    /// flood.
    pub(super) fn may_refuse(&mut self, now: Monotonic) -> bool {
        self.refusals.take(now)
    }

    /// Checks a command that could be read, and remembers it if it is let through.
    pub(super) fn admit(&mut self, order: Order, now: Monotonic) -> Result<Order, Refusal> {
        let refuse = |order: Order, outcome, error: &str| {
            Err(Refusal { transaction: Some(order.transaction), outcome, error: error.to_owned() })
        };
        if self.known.contains(&order.transaction) {
            let error = "this transaction was there before; a new command needs a new one";
            return refuse(order, CommandOutcome::Replayed, error);
        }
        if !self.has_room(now) {
            return refuse(order, CommandOutcome::RateLimited, "too many commands; wait a second");
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(order.transaction.clone());
        self.order.push_back(order.transaction.clone());
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(name: &str, payload: &str) -> Refusal {
        parse(name, payload.as_bytes()).unwrap_err()
    }

    fn ring(transaction: &str) -> Order {
        Order { transaction: transaction.to_owned(), command: Command::Ring }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_duration(Duration::from_millis(ms))
    }

    #[test]
    fn commands_are_read() {
        for (name, payload, command) in [
            ("ring", r#"{"transaction":"a"}"#, Command::Ring),
            ("reload", r#" {"transaction":"a"} "#, Command::Reload),
            ("snapshot", r#"{"transaction":"a"}"#, Command::Snapshot),
            ("health", r#"{"transaction":"a"}"#, Command::Health),
            ("face_unlock", r#"{"on":false,"transaction":"a"}"#, Command::FaceUnlock(false)),
            ("identify", r#"{"transaction":"a"}"#, Command::Identify(Duration::from_secs(5))),
            (
                "identify",
                r#"{"transaction":"a","timeout_ms":300}"#,
                Command::Identify(Duration::from_millis(300)),
            ),
        ] {
            let order = parse(name, payload.as_bytes()).unwrap();
            assert_eq!(order, Order { transaction: "a".to_owned(), command }, "{payload}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_transaction_where_it_can_be_read() {
        for (name, payload, transaction) in [
            ("ring", "", None),
            ("ring", "ring", None),
            ("ring", r#"["a"]"#, None),
            ("ring", r#"{"transaction":7}"#, None),
            ("ring", r#"{"transaction":""}"#, None),
            ("ring", r#"{"transaction":"a\nb"}"#, None),
            ("ring", r#"{"transaction":"a","more":1}"#, Some("a")),
            ("pin", r#"{"transaction":"a"}"#, Some("a")),
            ("pin", r#"{"transaction":"a","pin":123456}"#, Some("a")),
            ("ring", r#"{"transaction":"a","transaction":"b"}"#, None),
            ("face_unlock", r#"{"transaction":"a"}"#, Some("a")),
            ("face_unlock", r#"{"transaction":"a","on":"yes"}"#, Some("a")),
            ("identify", r#"{"transaction":"a","timeout_ms":99}"#, Some("a")),
            ("identify", r#"{"transaction":"a","timeout_ms":10001}"#, Some("a")),
            ("identify", r#"{"transaction":"a","timeout_ms":-1}"#, Some("a")),
        ] {
            let refusal = refused(name, payload);
            assert_eq!(refusal.outcome, CommandOutcome::Malformed, "{payload}");
            assert_eq!(refusal.transaction.as_deref(), transaction, "{payload}");
        }
        let long = format!(r#"{{"transaction":"{}"}}"#, "x".repeat(65));
        assert_eq!(refused("ring", &long).transaction, None);
    }

    #[test]
    fn pin_is_in_no_answer_and_no_debug_output() {
        let refusal = refused("pin", r#"{"transaction":"a","pin":123456}"#);
        assert!(!refusal.error.contains("123456"), "{}", refusal.error);
        let order = parse("pin", br#"{"transaction":"a","pin":"123456"}"#).unwrap();
        assert_eq!(order.command, Command::Pin(Pin(Zeroizing::new("123456".to_owned()))));
        assert!(!format!("{order:?}").contains("123456"));
    }

    #[test]
    fn unknown_and_oversized_commands_are_told_apart() {
        assert_eq!(refused("open", r#"{"transaction":"a"}"#).outcome, CommandOutcome::Unknown);
        assert_eq!(refused("ring", &" ".repeat(COMMAND_BYTES + 1)).outcome, CommandOutcome::TooLarge);
    }

    #[test]
    fn transaction_counts_once() {
        let mut gate = Gate::default();
        assert!(gate.admit(ring("a"), at(0)).is_ok());
        assert_eq!(gate.admit(ring("a"), at(0)).unwrap_err().outcome, CommandOutcome::Replayed);
        for n in 0..REMEMBERED {
            let now = at(1000 * (n as u64 + 1));
            assert!(gate.admit(ring(&n.to_string()), now).is_ok());
        }
        assert!(gate.admit(ring("a"), at(10_000_000)).is_ok());
        assert_eq!(gate.known.len(), REMEMBERED);
    }

    #[test]
    fn flood_is_cut_to_its_rate_and_what_was_cut_may_be_said_again() {
        let mut gate = Gate::default();
        let admitted = (0..100).filter(|n| gate.admit(ring(&n.to_string()), at(0)).is_ok()).count();
        assert_eq!(admitted, 10);
        assert_eq!(gate.admit(ring("99"), at(499)).unwrap_err().outcome, CommandOutcome::RateLimited);
        assert!(gate.admit(ring("99"), at(1000)).is_ok());
    }

    proptest! {
        #[test]
        fn no_payload_is_taken_without_a_transaction(name in "(ring|identify|face_unlock|[a-z]{1,5})", payload in any::<Vec<u8>>()) {
            if let Ok(order) = parse(&name, &payload) {
                prop_assert!(is_transaction(&order.transaction));
            }
        }
    }
}
