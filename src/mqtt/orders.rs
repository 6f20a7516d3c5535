//! Carrying commands out. Each runs as a task of its own, so that none holds up the events.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Hooks;
use super::commands::{Command, CommandRequest};
use crate::door::enter_pin;
use crate::event_store::StoreHandle;

/// Commands carried out at a time.
const AT_A_TIME: usize = 8;
/// What the rest of the daemon gets on top of the time the command itself takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where an answer goes.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) topic: String,
    pub(super) transaction: Option<String>,
    pub(super) correlation: Option<Vec<u8>>,
}

/// What became of a command; without a reply, nobody waits for an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Option<Reply>,
    pub(super) result: Result<Value, String>,
}

/// Commands under way. Dropped with the connection: nobody could be answered any more.
#[derive(Debug, Default)]
pub(super) struct Orders(JoinSet<Answer>);

impl Orders {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < AT_A_TIME
    }

    pub(super) fn start(&mut self, command: Command, reply: Option<Reply>, store: StoreHandle, hooks: Hooks) {
        self.0.spawn(async move { Answer { reply, result: carry_out(command, &store, &hooks).await } });
    }

    /// The next answer; waits for ever while there is none to come.
    pub(super) async fn next(&mut self) -> Answer {
        match self.0.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => Answer { reply: None, result: Err(format!("a command stopped: {error}")) },
            None => std::future::pending().await,
        }
    }
}

async fn carry_out(command: Command, store: &StoreHandle, hooks: &Hooks) -> Result<Value, String> {
    match command {
        Command::FaceUnlock(on) => {
            store.set_face_unlock(on).await.map(|()| json!({ "on": on })).map_err(|e| e.to_string())
        }
        Command::OpenDoor => {
            let door = hooks.door.as_ref().ok_or_else(no_door)?;
            let ruled = door.open("mqtt".to_owned()).await.ok_or_else(no_door)?;
            match ruled.granted {
                true => serde_json::to_value(ruled).map_err(|e| e.to_string()),
                false => Err("the door was opened just now, or too often within a minute".to_owned()),
            }
        }
        Command::Pin(pin) => {
            let door = hooks.door.as_ref().ok_or_else(no_door)?;
            let ruled = enter_pin(door, pin.0).await.ok_or_else(no_door)?;
            serde_json::to_value(ruled).map_err(|e| e.to_string())
        }
        Command::Ring => store.ring().await.map(|event| json!({ "event": event })).map_err(|e| e.to_string()),
        Command::Reload => match store.reload_gallery().await {
            Ok(report) => serde_json::to_value(report).map_err(|e| e.to_string()),
            Err(refusal) => Err(refusal.to_string()),
        },
        Command::Health => Ok((hooks.health)()),
        Command::Identify(timeout) => {
            ask(hooks, timeout, |reply| CommandRequest::Identify { timeout, reply }).await
        }
        Command::Snapshot => ask(hooks, Duration::ZERO, |reply| CommandRequest::Snapshot { reply }).await,
    }
}

fn no_door() -> String {
    "the door does not answer; see the state of the device".to_owned()
}

async fn ask(
    hooks: &Hooks,
    takes: Duration,
    request: impl FnOnce(oneshot::Sender<Result<Value, String>>) -> CommandRequest,
) -> Result<Value, String> {
    let Some(commands) = &hooks.commands else {
        return Err("this device does not take this command".to_owned());
    };
    let (reply, answer) = oneshot::channel();
    commands.try_send(request(reply)).map_err(|_| "the device is busy; try again".to_owned())?;
    match tokio::time::timeout(takes + PATIENCE, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the device gave up on this command".to_owned()),
        Err(_) => Err("the device took too long".to_owned()),
    }
}
