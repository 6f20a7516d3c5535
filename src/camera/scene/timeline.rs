//! Who stands where at which second. Values only; nothing here knows of pixels.

use std::f32::consts::TAU;

use limen_pixels::sprite::{Pose, smooth};

/// Seconds after which everything repeats.
pub(super) const PERIOD_S: f32 = 52.5;

/// Index into the people of the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Obama,
    Biden,
    Collins,
    Hopper,
}

/// At this many seconds after entering: x, y, head.
type Key = (f32, f32, f32, f32);

struct Visit {
    actor: Actor,
    enters_s: f32,
    keys: &'static [Key],
}

/// Approaching, crossing, two at once; between them, nobody for a second or more.
const VISITS: &[Visit] = &[
    Visit {
        actor: Actor::Obama,
        enters_s: 0.5,
        keys: &[
            (0.0, 0.53, 0.50, 0.20),
            (3.5, 0.50, 0.42, 0.41),
            (7.0, 0.50, 0.42, 0.42),
            (10.0, 1.3, 0.43, 0.41),
        ],
    },
    Visit {
        actor: Actor::Biden,
        enters_s: 12.0,
        keys: &[
            (0.0, -0.3, 0.43, 0.38),
            (3.0, 0.42, 0.42, 0.39),
            (7.0, 0.46, 0.42, 0.41),
            (10.0, 1.3, 0.43, 0.38),
        ],
    },
    Visit {
        actor: Actor::Collins,
        enters_s: 23.0,
        keys: &[
            (0.0, 1.3, 0.45, 0.34),
            (3.0, 0.70, 0.44, 0.35),
            (8.5, 0.68, 0.44, 0.36),
            (11.5, 1.3, 0.45, 0.34),
        ],
    },
    Visit {
        actor: Actor::Hopper,
        enters_s: 25.5,
        keys: &[
            (0.0, -0.3, 0.45, 0.36),
            (3.0, 0.28, 0.44, 0.37),
            (7.5, 0.31, 0.44, 0.38),
            (10.5, -0.3, 0.45, 0.36),
        ],
    },
    Visit {
        actor: Actor::Biden,
        enters_s: 38.0,
        keys: &[
            (0.0, 0.25, 0.50, 0.20),
            (5.0, 0.24, 0.44, 0.32),
            (8.5, 0.25, 0.44, 0.32),
            (11.5, -0.3, 0.44, 0.34),
        ],
    },
    Visit {
        actor: Actor::Obama,
        enters_s: 39.5,
        keys: &[
            (0.0, 1.3, 0.43, 0.36),
            (3.0, 0.70, 0.42, 0.38),
            (7.5, 0.68, 0.42, 0.39),
            (10.5, 1.3, 0.43, 0.36),
        ],
    },
];

/// Everybody in view at `seconds`, the farthest first.
pub(super) fn poses(seconds: f32) -> Vec<(Actor, Pose)> {
    let now = seconds.rem_euclid(PERIOD_S);
    let mut poses: Vec<(Actor, Pose)> = VISITS
        .iter()
        .enumerate()
        .filter_map(|(index, visit)| Some((visit.actor, pose(visit, now - visit.enters_s, index as f32)?)))
        .collect();
    poses.sort_by(|a, b| a.1.head.total_cmp(&b.1.head));
    poses
}

/// The largest head an actor ever shows.
pub(super) fn largest_head(actor: Actor) -> f32 {
    let keys = VISITS.iter().filter(|visit| visit.actor == actor).flat_map(|visit| visit.keys);
    keys.map(|key| key.3).fold(0.0, f32::max)
}

fn pose(visit: &Visit, at: f32, phase: f32) -> Option<Pose> {
    let (last, first) = (visit.keys.last()?, visit.keys.first()?);
    let pair = visit.keys.windows(2).find(|pair| (pair[0].0..pair[1].0).contains(&at))?;
    let (from, to) = (pair[0], pair[1]);
    let share = smooth((at - from.0) / (to.0 - from.0));
    let between = |a: f32, b: f32| a + (b - a) * share;
    // Steps show while somebody moves and fade out while they stand.
    let pace = ((to.1 - from.1).abs() + (to.3 - from.3).abs()) / (to.0 - from.0);
    let step = (TAU * 1.7 * at).sin() * 0.006 * (pace * 5.0).min(1.0);
    // Whoever starts inside the picture comes out of the dark of the corridor.
    let starts_inside = (0.0..1.0).contains(&first.1);
    Some(Pose {
        x: between(from.1, to.1) + 0.006 * (TAU * at / 2.3 + phase).sin(),
        y: between(from.2, to.2) + step,
        head: between(from.3, to.3),
        tilt_rad: (4.0 * (TAU * at / 3.7 + phase * 1.3).sin()).to_radians(),
        opacity: if starts_inside { smooth(at / 0.8) } else { 1.0 } * smooth((last.0 - at) / 0.1),
        light: 0.97 + 0.07 * (TAU * at / 5.9 + phase).sin(),
    })
}

/// Brightness of the whole picture: a cloud passing the window.
pub(super) fn daylight(seconds: f32) -> f32 {
    1.0 + 0.07 * (TAU * seconds / 10.5).sin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(seconds: f32) -> Vec<Actor> {
        poses(seconds).into_iter().map(|(actor, _)| actor).collect()
    }

    #[test]
    fn somebody_comes_alone_two_come_together_and_there_are_pauses() {
        assert_eq!(present(0.2), []);
        assert_eq!(present(5.0), [Actor::Obama]);
        assert_eq!(present(11.0), []);
        assert_eq!(present(17.0), [Actor::Biden]);
        assert_eq!(present(30.0), [Actor::Collins, Actor::Hopper]);
        assert_eq!(present(37.0), []);
        assert_eq!(present(45.0), [Actor::Biden, Actor::Obama]);
        assert_eq!(present(PERIOD_S + 5.0), [Actor::Obama]);
    }

    #[test]
    fn nobody_jumps() {
        let at = |step: u32| poses(step as f32 / 100.0);
        for step in 0..5250 {
            for (actor, now) in at(step) {
                if let Some((_, next)) = at(step + 1).into_iter().find(|(other, _)| *other == actor) {
                    assert!((next.x - now.x).abs() < 0.01, "{actor:?} at {step}");
                    assert!((next.head - now.head).abs() < 0.01, "{actor:?} at {step}");
                } else {
                    assert!(now.x < -0.2 || now.x > 1.2, "{actor:?} vanishes at {step}");
                }
            }
        }
    }
}
