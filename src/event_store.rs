//! The event store: every event on the disk, encrypted, and the outbox to the broker beside it.
//!
//! An event and its place in the outbox are one transaction: once recorded it reaches the broker at
//! least once, in order, whatever happens in between. What has expired by then is delivered as
//! such. Lives on the thread `store`; others reach it through [`StoreHandle`].

mod door;
mod gallery;
mod handle;
mod query;
mod records;
mod rows;
mod sightings;
mod store;
mod thread;
mod upkeep;

pub use gallery::{Erasure, GalleryRefusal, GalleryRequest, Reply, SubjectDetails};
pub use handle::{EventRequest, REQUESTS, Request, StoreHandle, StoreRefusal};
pub use query::{EventCursor, EventFilter, EventPage, EventSummary, HOUR_MS, Hour, LATENCY_BOUNDS_MS};
pub use records::{Age, EventId, EventKind, Outbox, RecordedEvent};
pub use sightings::{Closest, SightingPage, SightingRequest};
pub(crate) use store::events_schema;
pub use store::{EVENTS_FILE, Erased, EventStore, EventStoreError, Retention};
pub use thread::{StoreParts, StoreThread};
pub use upkeep::{Kept, UpkeepRequest};
