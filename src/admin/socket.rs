//! What every WebSocket of the device keeps to: small messages in, nobody is waited for without end, and
//! a connection nobody listens to any more is closed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::access::{Caller, Role, Who};
use super::problem::Problem;
use super::site::Site;
use crate::http::{self, Full};

/// The longest message that is taken: a word.
const LONGEST_IN: usize = 256;
/// A message that is not taken in by then ends the connection. A frame over a poor radio link takes less.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions whether the other side still listens, and still may.
const PING: Duration = Duration::from_secs(5);
/// Without a word for this long, it does not.
const SILENCE: Duration = Duration::from_secs(30);
/// Messages of the other side in a second that are still polite: it says one word for each frame.
const CHATTER: u32 = 200;

/// Connections of one kind there may be: in all, and of one user or token, who must not take them all.
pub(crate) struct Places {
    taken: Arc<http::Places<Holder>>,
    most: usize,
}

/// Whose a place is: all sessions of a user are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    User(i64),
    Token(i64),
    Other,
}

impl Places {
    /// So many, a quarter of them for one user or token.
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    fn take(&self, who: Who) -> Result<http::Place<Holder>, Problem> {
        let holder = match who {
            Who::User { user, .. } => Holder::User(user),
            Who::Token { token } => Holder::Token(token),
            Who::Local | Who::Nobody => Holder::Other,
        };
        self.taken.take(holder, self.most, self.most.div_ceil(4)).map_err(|full| {
            Problem::busy(match full {
                Full::All => "as many as can be served are watching already; try again later",
                Full::Each => "you are watching as often as one may; close another page first",
            })
        })
    }
}

/// Takes a connection over, if there is still a place, and runs `work` on it for as long as the caller
/// may go on with a role of at least `least`.
pub(super) fn open<F>(
    upgrade: WebSocketUpgrade,
    places: &Places,
    site: &Arc<Site>,
    (caller, least): (&Caller, Role),
    work: impl FnOnce(Peer) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = ()> + Send + 'static,
{
    open_for(LONGEST_IN, upgrade, places, site, (caller, least), work)
}

/// The same for a connection whose other side sends messages of at most `longest` bytes.
pub(super) fn open_for<F>(
    longest: usize,
    upgrade: WebSocketUpgrade,
    places: &Places,
    site: &Arc<Site>,
    (caller, least): (&Caller, Role),
    work: impl FnOnce(Peer) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = ()> + Send + 'static,
{
    let place = places.take(caller.who)?;
    let upgrade = upgrade.max_message_size(longest).max_frame_size(longest);
    let (site, who) = (Arc::clone(site), caller.who);
    Ok(upgrade.on_upgrade(move |socket| {
        let now = Instant::now();
        work(Peer { socket, heard: now, pinged: now, counted: (now, 0), site, who, least, _place: place })
    }))
}

/// The other side of a WebSocket.
pub(super) struct Peer {
    socket: WebSocket,
    heard: Instant,
    pinged: Instant,
    /// Since when messages are counted, and how many came.
    counted: (Instant, u32),
    site: Arc<Site>,
    who: Who,
    least: Role,
    _place: http::Place<Holder>,
}

/// The connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Peer {
    /// Sends one message.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), Gone> {
        match timeout(SEND_PATIENCE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Sends a text.
    pub(super) async fn say(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Gone> {
        self.send(Message::Text(text.into())).await
    }

    /// Tells what is in the way, in the form of every error.
    pub(super) async fn say_problem(&mut self, code: &str, message: &str) -> Result<(), Gone> {
        self.say(json!({ "error": { "code": code, "message": message } }).to_string()).await
    }

    /// Waits for the next text, and meanwhile finds out whether anybody is there. May be cancelled and
    /// called again.
    pub(super) async fn next(&mut self) -> Result<Utf8Bytes, Gone> {
        match self.message().await? {
            Message::Text(text) => Ok(text),
            _ => Err(Gone),
        }
    }

    /// The same for text and bytes.
    pub(super) async fn message(&mut self) -> Result<Message, Gone> {
        loop {
            let due = self.pinged + PING;
            tokio::select! {
                message = self.socket.recv() => {
                    self.heard = Instant::now();
                    if self.heard - self.counted.0 > Duration::from_secs(1) {
                        self.counted = (self.heard, 0);
                    }
                    self.counted.1 += 1;
                    if self.counted.1 > CHATTER {
                        return Err(Gone);
                    }
                    match message {
                        Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message),
                        // Pongs count as signs of life; pings are answered by the library.
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    self.pinged = Instant::now();
                    if self.pinged - self.heard > SILENCE {
                        return Err(Gone);
                    }
                    if !self.site.accounts.may_go_on(self.who, self.least) {
                        self.say_problem("signed_out", "the session has ended; sign in again").await?;
                        return Err(Gone);
                    }
                    self.send(Message::Ping(axum::body::Bytes::new())).await?;
                }
            }
        }
    }

    /// Takes leave.
    pub(super) async fn close(mut self) {
        // Whoever is gone already needs no word.
        let _ = timeout(Duration::from_secs(1), self.socket.send(Message::Close(None))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_a_quarter_of_the_places_whatever_their_sessions() {
        let places = Places::new(8);
        let user = |user, session| places.take(Who::User { user, session });
        let held = [user(1, 1).unwrap(), user(1, 2).unwrap()];
        assert!(user(1, 3).is_err());
        let others = [places.take(Who::Token { token: 1 }).unwrap(), user(2, 4).unwrap()];
        drop(held);
        let again: Vec<_> = (0..2).map(|_| user(1, 3).unwrap()).collect();
        let more: Vec<_> = (3..5).flat_map(|id| [user(id, id).unwrap(), user(id, id).unwrap()]).collect();
        assert!(user(9, 9).is_err(), "all are taken");
        drop((again, more, others));
        assert_eq!(places.taken.holders(), 0);
        assert!(user(9, 9).is_ok());
    }
}
