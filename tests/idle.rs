//! The program while nobody is in view: how seldom it looks, by its own measurement.

#![allow(clippy::print_stdout, reason = "a gate shows its figures")]
#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use program::Program;

#[test]
fn empty_scene_is_looked_at_once_a_second_and_a_moving_one_at_the_idle_rate() {
    let program = Program::new();
    let lines = program.ends(0, &["--json", "bench", "idle", "--seconds", "4"]).json_lines();
    let rows = lines[0]["idle"]["rows"].as_array().unwrap();
    let of = |motion: &str| {
        let row = rows.iter().find(|row| row["motion"] == motion).unwrap();
        println!(
            "{motion}: capture {} %, recogniser {} %",
            row["capture_percent"], row["recogniser_percent"]
        );
        let count = |name: &str| row["recogniser"][name].as_u64().unwrap();
        let skipped = |reason: &str| row["recogniser"]["skipped"][reason].as_u64().unwrap();
        assert_eq!(count("looks") + skipped("not_due") + skipped("unchanged"), count("frames"));
        (count("looks"), skipped("unchanged"))
    };
    // Four seconds of 15 frames; a machine that is busy may lose some of them.
    let (looks, unchanged) = of("still");
    assert!((3..=6).contains(&looks) && unchanged > 30, "{looks} looks, {unchanged} unchanged");
    let (looks, unchanged) = of("constant");
    assert!((8..=18).contains(&looks) && unchanged < 20, "{looks} looks, {unchanged} unchanged");
}
