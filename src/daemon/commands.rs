//! The task that carries out the commands that need the camera: who is there, and a picture of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::http::SnapshotShelf;
use crate::live::LookChannel;
use crate::mqtt::CommandRequest;
use crate::recogniser::{Look, SeenFace, SeenLabel};

/// While nobody is in view a look comes about once a second.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(4);
const SNAPSHOT_QUALITY: u8 = 85;

/// The task, not yet running.
pub(super) struct Commands {
    pub(super) inbox: mpsc::Receiver<CommandRequest>,
    pub(super) looks: LookChannel,
    pub(super) shelf: Arc<SnapshotShelf>,
    /// How others reach the web server, where they do.
    pub(super) public_url: Option<String>,
}

impl Commands {
    /// Carries out one command after the other until cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) -> anyhow::Result<&'static str> {
        loop {
            let request = tokio::select! {
                () = cancel.cancelled() => return Ok("commands"),
                // The sender goes with the MQTT task, at the end.
                request = self.inbox.recv() => match request {
                    Some(request) => request,
                    None => {
                        cancel.cancelled().await;
                        return Ok("commands");
                    }
                },
            };
            // Whoever asked may have given up waiting: then nobody takes the answer.
            match request {
                CommandRequest::Identify { timeout, reply } => {
                    let _ = reply.send(self.identify(timeout).await);
                }
                CommandRequest::Snapshot { reply } => {
                    let _ = reply.send(self.snapshot().await);
                }
            }
        }
    }

    /// The faces in view, as soon as one of them is decided about, or when the time is over.
    async fn identify(&self, time: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + time;
        let mut looks = self.looks.watch();
        let mut newest: Option<Arc<Look>> = None;
        while let Ok(Ok(())) = timeout_at(deadline, looks.changed()).await {
            newest = looks.borrow_and_update().clone().or(newest);
            let decided = |face: &SeenFace| !matches!(face.label, SeenLabel::Undecided(_));
            if newest.as_ref().is_some_and(|look| look.faces.iter().any(decided)) {
                break;
            }
        }
        let look = newest.ok_or("no frame was looked at in that time; is there a camera?")?;
        let faces: Vec<_> = look.faces.iter().map(described).collect();
        Ok(json!({ "faces": faces }))
    }

    /// The address of a picture of what the camera sees now, good for a minute.
    async fn snapshot(&self) -> Result<Value, String> {
        let Some(url) = &self.public_url else {
            return Err("no picture can be offered: set http.listen and http.public_url".to_owned());
        };
        let mut looks = self.looks.watch();
        let seen = timeout_at(Instant::now() + SNAPSHOT_PATIENCE, looks.changed()).await;
        let look = looks.borrow_and_update().clone().filter(|_| matches!(seen, Ok(Ok(()))));
        let look = look.ok_or("no frame was looked at in time; is there a camera?")?;
        // Milliseconds of work, which would keep the connection to the broker waiting.
        let jpeg = tokio::task::spawn_blocking(move || look.picture.to_jpeg(SNAPSHOT_QUALITY)).await;
        let jpeg = jpeg.ok().flatten().ok_or("the picture could not be encoded")?;
        let id = self.shelf.put(jpeg).ok_or("the system gives no random numbers")?;
        Ok(json!({ "url": format!("{}/snapshot/{id}", url.trim_end_matches('/')) }))
    }
}

fn described(face: &SeenFace) -> Value {
    let track = face.track.0;
    match &face.label {
        SeenLabel::Subject(id, name) => {
            json!({ "track": track, "state": "identified", "subject": id, "name": name.as_str() })
        }
        SeenLabel::Unknown => json!({ "track": track, "state": "unknown" }),
        SeenLabel::Undecided(reason) => {
            json!({ "track": track, "state": "undecided", "reason": reason.map(|reason| reason.code()) })
        }
    }
}
