//! The admin interface: accounts, the REST API, live view, and the pages that use them.
//!
//! Every route is an [`Operation`](operation::Operation), declared once with its method, path,
//! who may call it, what it takes and what it answers. The router, the access check and the OpenAPI
//! document are all made from that list, so that none of them can know a route the others do not.
//!
//! Not here: listening, TLS and connections ([`crate::http`]). Handlers run on the thread `network`
//! and must not block: databases are asked through handles, computing goes to the pool or to the
//! threads that own the networks.

pub(crate) mod access;
mod events;
mod live;
pub(crate) mod operation;
pub(crate) mod problem;
pub(crate) mod site;
mod socket;
