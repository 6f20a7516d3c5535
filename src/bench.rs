//! Measurements of single parts, as `limen bench` and the benches print them.

pub mod search;
