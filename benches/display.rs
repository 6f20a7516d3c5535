//! What a change of the screen costs: drawing it, and finding what has changed.
//!
//!     cargo bench --bench display

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and ends when it cannot go on"
)]

use std::time::{Duration, Instant};

use limen::config::DisplayLanguage;
use limen::display::canvas::Canvas;
use limen::display::draw::draw;
use limen::display::screen::{Hint, Screen};
use limen::display::texts::words;

const ROUNDS: u32 = 20;
/// The thread looks for something new so often, so no screen changes more often.
const CHANGES_A_SECOND: u32 = 4;

fn main() {
    println!("{:>10}  {:>12}  {:>8}", "size", "a change", "of a core");
    for (width, height, mono) in [(128, 64, true), (320, 240, false), (480, 320, false), (1920, 1080, false)]
    {
        let screens: Vec<Screen> = (0..8)
            .map(|step| Screen::Looking {
                progress: step * 12,
                hint: (step % 2 == 0).then_some(Hint::ComeCloser),
            })
            .collect();
        let (mut before, mut spent, mut changes) = (Canvas::new(width, height), Duration::ZERO, 0);
        for _ in 0..ROUNDS {
            for screen in &screens {
                let started = Instant::now();
                let words = words(screen, DisplayLanguage::De, "Haupteingang", |_| None);
                let mut canvas = Canvas::new(width, height);
                draw(&mut canvas, screen, &words, mono);
                let changed = canvas.changed(&before).unwrap();
                spent += started.elapsed();
                assert!(changed.size.height > 0);
                changes += 1;
                before = canvas;
            }
        }
        let each = spent / changes;
        let share = each.as_secs_f64() * f64::from(CHANGES_A_SECOND) * 100.0;
        println!("{:>10}  {:>9.2} ms  {share:>6.2} %", format!("{width}x{height}"), each.as_secs_f64() * 1e3);
    }
}
