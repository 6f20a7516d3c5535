//! The door: who may enter, and what is switched for them.
//!
//! Recognition says who somebody is; the door's [`policy`] says whether that opens it. Nothing here waits for the
//! broker, the network or the disk before a face opens the door.
//!
//! | module | takes | gives | runs on |
//! | --- | --- | --- | --- |
//! | [`calendar`] | schedules, holidays, a time | open or not, and until when | anywhere; pure |
//! | [`policy`] | rules, what somebody shows, how things are | allowed, or what is in the way | anywhere; pure |
//! | [`keeper`] | faces, PINs, passes, one after the other | rulings | the thread `door`; pure |
//! | [`credential`] | PINs and codes | whose they are | anywhere; pure |
//! | [`passes`] | frames | text of passes shown to the camera | the thread `passes` |
//! | [`gpio`] | lines of a GPIO chip | their levels and edges | the threads `relay` and `gpio` |
//! | [`relay`] | orders to open | a line that is active for a bounded time | the thread `relay` |
//! | [`thread`] | all of this | events, the state of the door | the thread `door` |
//!
//! **Fail-secure.** The relay is released when the program starts, when it ends, when a pulse is over, and when the
//! thread that decides stops ticking; after a crash systemd runs `limen door release`.

pub mod book;
pub mod calendar;
pub mod condition;
pub mod credential;
pub mod gpio;
pub mod inputs;
pub mod keeper;
#[cfg(test)]
mod oracle;
pub mod passes;
pub mod policy;
pub mod record;
pub mod relay;
#[cfg(test)]
mod tests;
pub mod thread;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use thread::{DoorHandle, Ruled};

/// PINs that are computed at a time: each takes 8 MiB.
static COMPUTING: Semaphore = Semaphore::const_new(1);

/// Enters a PIN: computes what is kept of it on a thread that may take its time, and asks the door. None where
/// the door does not answer. Of a task.
pub async fn enter_pin(door: &DoorHandle, pin: Zeroizing<String>) -> Option<Ruled> {
    let _place = COMPUTING.acquire().await.ok()?;
    // Locked PINs are not even looked at; the door says so.
    let hash = if door.state().borrow().pins_locked {
        None
    } else {
        let secret = door.book().secret.clone();
        tokio::task::spawn_blocking(move || secret.pin_hash(&pin)).await.ok()?
    };
    door.pin(hash).await
}
