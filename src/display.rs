//! The screen beside the door: what a visitor is told, and why.
//!
//! | module | takes | gives | runs on |
//! | --- | --- | --- | --- |
//! | [`screen`] | what goes on at the door | one [`screen::Screen`] | the thread `display`; pure |
//! | [`texts`] | a screen and a language | words | anywhere; pure |
//! | [`draw`] | words and a size | pixels of a [`canvas::Canvas`] | anywhere; pure |
//! | [`panel`] | the pixels that have changed | a framebuffer, an OLED, a TFT | the thread `display` |
//! | [`thread`] | all of this | the screen | the thread `display` |
//!
//! Drawing knows no device, so that the pictures in the documentation are made by it too.

pub mod canvas;
pub mod draw;
pub mod panel;
pub mod screen;
pub mod texts;
pub mod thread;
