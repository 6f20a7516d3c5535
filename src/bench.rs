//! Measurements of single parts, as `limen bench` and the benches print them.

pub mod client;
pub mod frames;
pub mod idle;
pub mod import;
pub mod latency;
pub mod lists;
pub mod live;
pub mod memory;
mod process;
pub mod random;
pub mod search;
pub mod site;
pub mod standby;
pub mod start;
