//! The loops over pixels: frames as a camera gives them, pictures made of them, and what is seen to change.
//!
//! A package of its own for one reason: only these loops are unusably slow without optimisation, and compiling all
//! of limen with it takes most of the time of a test run. `limen` gives its modules on under their own names.

pub mod change;
pub mod clock;
pub mod decode;
pub mod frame;
pub mod geometry;
pub mod picture;
pub mod sprite;
