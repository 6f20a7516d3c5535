//! What can go wrong with the gallery on disk, sorted by what the operator can do about it.

use thiserror::Error;

use crate::database::DatabaseError;
use crate::embedding::EmbeddingSpaceId;
use crate::media::MediaError;
use crate::vault::VaultError;

/// Why the gallery could not be opened, read or changed. Carries no name and no key.
#[derive(Debug, Error)]
pub enum GalleryError {
    /// The subject is not in the gallery.
    #[error("no such subject is enrolled")]
    SubjectUnknown,
    /// The template is not in the gallery.
    #[error("there is no such template")]
    TemplateUnknown,
    /// The sample is not in the gallery.
    #[error("there is no such sample")]
    SampleUnknown,
    /// There is no such group.
    #[error("there is no such group")]
    GroupUnknown,
    /// Another group has this name, upper and lower case alike.
    #[error("another group has this name; choose another one")]
    GroupTaken,
    /// More groups than are ever kept.
    #[error("there are {most} groups already; remove one first")]
    TooManyGroups {
        /// The limit.
        most: usize,
    },
    /// There is no such PIN or pass.
    #[error("there is no such PIN or pass")]
    CredentialUnknown,
    /// More PINs and passes than are ever kept.
    #[error("there are {most} PINs and passes already; take one back first")]
    TooManyCredentials {
        /// The limit.
        most: usize,
    },
    /// A subject's has no name and group of its own, and a PIN does not change.
    #[error("a PIN or pass of a subject takes neither a name nor a group, and only a pass can be rotating")]
    CredentialMixed,
    /// It needs to be somebody's.
    #[error("a PIN or pass belongs to a subject, or to a visitor, who needs a name")]
    CredentialOfNobody,
    /// It would open nothing, ever.
    #[error("it would never be valid: it ends before it begins, or may be used 0 times")]
    CredentialNeverValid,
    /// Another subject has this name, upper and lower case alike.
    #[error("another subject has this name; choose another one, or add samples to that subject")]
    NameTaken,
    /// The note is too long.
    #[error("a note has at most {most} characters")]
    NotesTooLong {
        /// The limit.
        most: usize,
    },
    /// A consent without a text, or with too long a one.
    #[error(
        "a consent names who gave it in 1 to {} characters, and the version of the text in 1 to {}",
        super::MAX_GIVEN_BY_CHARS,
        super::MAX_TEXT_VERSION_CHARS
    )]
    ConsentText,
    /// An enrolment without samples.
    #[error("an enrolment needs at least one sample")]
    NoSamples,
    /// An enrolment of too many samples.
    #[error("an enrolment has at most {} samples, this one has {found}", super::MAX_SAMPLES)]
    TooManySamples {
        /// Samples given.
        found: usize,
    },
    /// The gallery knows this space with embeddings of another length.
    #[error(
        "the gallery holds embeddings of {expected} values in the space {space}, these have {found}; a changed network needs a new name of its space"
    )]
    OtherDimensions {
        /// The space.
        space: EmbeddingSpaceId,
        /// Values of the embeddings in the gallery.
        expected: usize,
        /// Values of the refused ones.
        found: usize,
    },
    /// The system's random numbers could not be had.
    #[error("cannot make the id of a subject: the system gives no random numbers: {0}")]
    NoRandomness(getrandom::Error),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A picture cannot be kept or read.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The folder of the pictures cannot be used.
    #[error(transparent)]
    State(#[from] VaultError),
}
