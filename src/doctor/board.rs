//! The board: its clock, memory and heat.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Check, Finding, size, within};
use crate::clock::UnixMillis;
use crate::machine::{self, Memory, Slowed};

/// 2026-11-01: no program of this version ran before.
const RELEASED: UnixMillis = UnixMillis(1_793_491_200_000);
/// What a running daemon needs, with room for the page cache that the database wants.
const LEAST_AVAILABLE: u64 = 128 << 20;
/// Boards slow down from about 80 degrees, and switch off above 100.
const WARM_C: f32 = 80.0;
const HOT_C: f32 = 95.0;

/// Whether something keeps the clock right, as far as the system tells.
fn is_synchronised() -> Option<bool> {
    if Path::new(machine::SYNCHRONISED).exists() {
        return Some(true);
    }
    // It asks the kernel, and so knows of chrony and ntpd too.
    let answer = within(Duration::from_secs(2), || {
        Command::new("/usr/bin/timedatectl")
            .args(["show", "--property=NTPSynchronized", "--value"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
    })?;
    match answer.ok()?.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// The wall clock. Events carry it, and they expire by it after a restart.
pub fn check_clock(now: UnixMillis) -> Finding {
    // The system is asked only about a date that makes sense.
    clock(now, is_synchronised)
}

fn clock(now: UnixMillis, is_synchronised: impl FnOnce() -> Option<bool>) -> Finding {
    const SERVICE: &str = "enable a time service (`timedatectl set-ntp true`), and give the board a battery-backed \
                           clock where the network may be away at start";
    if now < RELEASED {
        let found = format!(
            "the clock stands {:.0} days before this program was released",
            (RELEASED.0 - now.0) as f64 / 86_400_000.0
        );
        return Finding::problem(Check::Clock, found, format!("set it; {SERVICE}"));
    }
    match is_synchronised() {
        Some(true) => Finding::ok(Check::Clock, "set, and kept right by a time service"),
        None => {
            Finding::ok(Check::Clock, "set; this system does not tell whether a time service keeps it right")
        }
        Some(false) => Finding::warning(
            Check::Clock,
            "no time service keeps the clock right: the times of events drift, and events from before a restart may \
             expire too early or too late",
            SERVICE,
        ),
    }
}

/// Memory of the board.
pub fn check_memory(memory: Option<Memory>) -> Finding {
    let Some(Memory { total_bytes, available_bytes }) = memory else {
        return Finding::ok(Check::Memory, "this system does not tell how much there is");
    };
    let found = format!("{} of {} available", size(available_bytes), size(total_bytes));
    if available_bytes < LEAST_AVAILABLE {
        let advice = format!("limen needs {}: stop other programs", size(LEAST_AVAILABLE));
        return Finding::warning(Check::Memory, found, advice);
    }
    Finding::ok(Check::Memory, found)
}

/// Heat and supply.
pub fn check_temperature(hottest_c: Option<f32>, slowed: &[Slowed]) -> Finding {
    let found = match hottest_c {
        Some(degrees) => format!("{degrees:.0} °C at the hottest sensor"),
        None => "this board has no sensor".to_owned(),
    };
    const COOLER: &str =
        "give the board a heat sink, air, and shade: heat slows recognition down and ends boards";
    if slowed.contains(&Slowed::Supply) {
        let found = format!("{found}; the supply gives too little voltage, and the board slows itself down");
        return Finding::problem(
            Check::Temperature,
            found,
            "use the supply and the cable that the board's maker names: storage is damaged like this",
        );
    }
    if slowed.contains(&Slowed::Heat) {
        return Finding::warning(Check::Temperature, format!("{found}; it is slowed down now"), COOLER);
    }
    match hottest_c {
        Some(degrees) if degrees >= HOT_C => Finding::problem(Check::Temperature, found, COOLER),
        Some(degrees) if degrees >= WARM_C => Finding::warning(Check::Temperature, found, COOLER),
        _ => Finding::ok(Check::Temperature, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn clock_before_the_release_is_a_problem_whatever_a_service_says() {
        let asked = |answer: Option<bool>| move || answer;
        assert_eq!(clock(UnixMillis(0), asked(Some(true))).level, Level::Problem);
        assert_eq!(clock(UnixMillis(RELEASED.0 - 1), asked(Some(true))).level, Level::Problem);
        assert_eq!(clock(RELEASED, asked(Some(true))).level, Level::Ok);
        assert_eq!(clock(RELEASED, asked(None)).level, Level::Ok);
        assert_eq!(clock(RELEASED, asked(Some(false))).level, Level::Warning);
    }

    #[test]
    fn little_memory_is_a_warning() {
        let memory = |mib: u64| Some(Memory { total_bytes: 1 << 30, available_bytes: mib << 20 });
        assert_eq!(check_memory(memory(512)).found, "512 MiB of 1.0 GiB available");
        assert_eq!(check_memory(memory(100)).level, Level::Warning);
        assert_eq!(check_memory(None).level, Level::Ok);
    }

    #[test]
    fn heat_and_supply_are_told_apart() {
        let level = |degrees, slowed: &[Slowed]| check_temperature(degrees, slowed).level;
        assert_eq!(level(None, &[]), Level::Ok);
        assert_eq!(level(Some(79.0), &[]), Level::Ok);
        assert_eq!(level(Some(80.0), &[]), Level::Warning);
        assert_eq!(level(Some(95.0), &[]), Level::Problem);
        assert_eq!(level(Some(60.0), &[Slowed::Heat]), Level::Warning);
        let both = check_temperature(Some(85.0), &[Slowed::Heat, Slowed::Supply]);
        assert!(both.level == Level::Problem && both.advice.unwrap().contains("supply"));
    }
}
