//! What the thread `store` is asked about the door: its policy, PINs and passes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::gallery::{GalleryRefusal, Reply};
use super::handle::{Request, StoreHandle, StoreRefusal};
use crate::door::book::DoorBook;
use crate::door::credential::{CredentialId, PassFault};
use crate::door::policy::PolicyDocument;
use crate::gallery::{ListedCredential, MadeCredential, NewCredential};

/// One question or change.
#[derive(Debug)]
pub enum DoorRequest {
    /// Put a policy, which has been checked, in the place of the one before.
    SetPolicy(Box<PolicyDocument>, Reply<()>),
    /// All PINs and passes.
    Credentials(Reply<Vec<ListedCredential>>),
    /// Make a PIN or pass.
    Add(Box<NewCredential>, Reply<MadeCredential>),
    /// Take one back.
    Remove(CredentialId, Reply<()>),
    /// Use one once.
    Use(CredentialId, std::sync::mpsc::SyncSender<Result<Result<(), PassFault>, String>>),
}

impl DoorRequest {
    /// Whether it only reads, for somebody who has given up waiting.
    pub(super) fn is_moot(&self) -> bool {
        matches!(self, Self::Credentials(reply) if reply.is_closed())
    }
}

impl StoreHandle {
    /// What the doorkeeper goes by; changes with the gallery and the policy.
    pub fn door_book(&self) -> watch::Receiver<Arc<DoorBook>> {
        self.door_book.clone()
    }

    /// Puts a policy in the place of the one before; in force when this returns.
    pub async fn set_door_policy(&self, document: PolicyDocument) -> Result<(), GalleryRefusal> {
        self.ask_door(|reply| DoorRequest::SetPolicy(Box::new(document), reply)).await
    }

    /// All PINs and passes, in the order they were made.
    pub async fn credentials(&self) -> Result<Vec<ListedCredential>, GalleryRefusal> {
        self.ask_door(DoorRequest::Credentials).await
    }

    /// Makes a PIN or pass; it opens when this returns.
    pub async fn add_credential(&self, new: NewCredential) -> Result<MadeCredential, GalleryRefusal> {
        self.ask_door(|reply| DoorRequest::Add(Box::new(new), reply)).await
    }

    /// Takes one back; it opens nothing any more when this returns.
    pub async fn remove_credential(&self, id: CredentialId) -> Result<(), GalleryRefusal> {
        self.ask_door(|reply| DoorRequest::Remove(id, reply)).await
    }

    /// Uses one once, for threads of their own: on the disk when this returns.
    pub fn use_credential_blocking(
        &self,
        id: CredentialId,
        patience: Duration,
    ) -> Result<Result<(), PassFault>, StoreRefusal> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.send(Request::Door(DoorRequest::Use(id, reply)))?;
        match answer.recv_timeout(patience) {
            Ok(result) => result.map_err(StoreRefusal::Failed),
            Err(_) => Err(StoreRefusal::Busy),
        }
    }

    async fn ask_door<T>(&self, request: impl FnOnce(Reply<T>) -> DoorRequest) -> Result<T, GalleryRefusal> {
        self.ask(|reply: oneshot::Sender<Result<T, GalleryRefusal>>| Request::Door(request(reply))).await
    }
}
