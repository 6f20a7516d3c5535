//! A daemon under measurement, as a process of its own, and its owner at the admin page.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use thiserror::Error;

use super::client::{Client, ClientError};
use super::memory::ResidentMemory;
use super::process::Ending;

/// Of the owner of a device that ends with the measurement.
const PASSWORD: &str = "nobody but this bench knows it";

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum SiteError {
    /// The daemon does not start.
    #[error("cannot start the daemon: {0}")]
    Spawn(std::io::Error),
    /// The daemon, as somebody at its admin page finds it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No code by which the owner is made.
    #[error("cannot make a setup code: {0}")]
    SetupCode(String),
    /// The daemon ended, or did something else than what is measured.
    #[error("{0}")]
    Nothing(String),
}

/// The daemon; ends with this value.
pub struct Site {
    daemon: Ending,
    /// The owner.
    pub client: Client,
}

impl Site {
    /// Starts the daemon that `command` describes, with its web server at `address`. Once it answers,
    /// `setup_code` makes the code by which the owner is made.
    pub fn start(
        mut command: Command,
        address: SocketAddr,
        setup_code: impl FnOnce() -> Result<String, SiteError>,
    ) -> Result<Self, SiteError> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(SiteError::Spawn)?;
        let daemon = Ending(child);
        let mut client = Client::at(address)?;
        client.set_up(&setup_code()?, "bench", PASSWORD)?;
        Ok(Self { daemon, client })
    }

    /// Memory of the daemon.
    pub fn memory(&self) -> Result<ResidentMemory, SiteError> {
        let ended = || SiteError::Nothing("the daemon has ended".to_owned());
        ResidentMemory::of_process(self.daemon.0.id()).ok_or_else(ended)
    }
}
