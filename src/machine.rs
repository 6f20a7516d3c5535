//! What the kernel tells about this process and this board: memory, processor time, temperature, and
//! whether the board is being slowed down. Reads small files of `/proc` and `/sys`, on any thread that
//! may wait a moment for a sensor.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::bench::memory::ResidentMemory;

/// What systemd-timesyncd leaves when it has set the clock since boot.
pub const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// None of these files is longer, whatever the kernel puts there.
const MAX_BYTES: u64 = 16 << 10;
/// Zones and cooling devices looked at: boards have a handful.
const MAX_DEVICES: usize = 64;
/// Sensors report absurd values while they start; silicon works between these, degrees Celsius.
const PLAUSIBLE_C: std::ops::RangeInclusive<f32> = -40.0..=150.0;

/// What this process uses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Resident memory.
    pub memory_bytes: u64,
    /// Processor time of all its threads, user and system.
    pub cpu: Duration,
}

/// Memory of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All there is.
    pub total_bytes: u64,
    /// What could be had without swapping.
    pub available_bytes: u64,
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Of this process; `None` without `/proc`.
pub fn usage() -> Option<Usage> {
    let memory_bytes = ResidentMemory::of_this_process()?.now_kib << 10;
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Usage {
        memory_bytes,
        cpu: Duration::new(cpu.tv_sec.unsigned_abs(), cpu.tv_nsec.unsigned_abs() as u32),
    })
}

/// Of the board; `None` without `/proc`.
pub fn memory() -> Option<Memory> {
    parse_memory(&read(Path::new("/proc/meminfo"))?)
}

fn parse_memory(meminfo: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total_bytes: field("MemTotal")?, available_bytes: field("MemAvailable")? })
}

/// The hottest sensor of the board, degrees Celsius; `None` where there is none, as in most virtual
/// machines. `sys` is `/sys`.
pub fn temperature_c(sys: &Path) -> Option<f32> {
    devices(sys, "thermal_zone")
        .filter_map(|zone| read(&zone.join("temp"))?.trim().parse::<i32>().ok())
        .map(|millidegrees| millidegrees as f32 / 1000.0)
        .filter(|degrees| PLAUSIBLE_C.contains(degrees))
        .max_by(f32::total_cmp)
}

fn devices(sys: &Path, kind: &'static str) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(sys.join("class/thermal")).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(kind))
        .take(MAX_DEVICES)
        .map(|entry| entry.path())
}

/// Why a board runs slower than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slowed {
    /// Too hot: the kernel or the firmware holds the clock down.
    Heat,
    /// The supply gives too little voltage.
    Supply,
}

/// Why the board is slowed down now, as far as it tells. `sys` is `/sys`.
///
/// Any kernel: a cooling device that acts on the processor's clock and is at work. Raspberry Pi: the
/// firmware's own word, bit 0 for the supply, bits 1 to 3 for the clock and the heat.
pub fn slowed(sys: &Path) -> Vec<Slowed> {
    let mut found = Vec::new();
    let cooling = devices(sys, "cooling_device").any(|device| {
        let acts_on_clock = read(&device.join("type")).is_some_and(|kind| kind.contains("cpufreq"));
        acts_on_clock
            && read(&device.join("cur_state")).and_then(|state| state.trim().parse::<u32>().ok()).unwrap_or(0)
                > 0
    });
    let firmware = read(&sys.join("devices/platform/soc/soc:firmware/get_throttled"))
        .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        .unwrap_or(0);
    if cooling || firmware & 0b1110 != 0 {
        found.push(Slowed::Heat);
    }
    if firmware & 1 != 0 {
        found.push(Slowed::Supply);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(sys: &Path, path: &str, text: &str) {
        let path = sys.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn usage_of_this_process_is_plausible_and_grows() {
        let before = usage().unwrap();
        assert!((1 << 20..64 << 30).contains(&before.memory_bytes), "{before:?}");
        // Larger than what the allocator may hand out again of what other tests gave back.
        let mut block = vec![0u8; 128 << 20];
        block.iter_mut().for_each(|byte| *byte = 1);
        let after = usage().unwrap();
        assert!(std::hint::black_box(&block).len() > 1);
        assert!(after.memory_bytes >= before.memory_bytes + (24 << 20), "{before:?} {after:?}");
        assert!(after.cpu > before.cpu);
    }

    #[test]
    fn memory_is_read_from_its_lines_and_nothing_else() {
        let text = "MemTotal:        3884316 kB\nMemFree:           90000 kB\nMemAvailable:    1000000 kB\n";
        let expected = Memory { total_bytes: 3_884_316 << 10, available_bytes: 1_000_000 << 10 };
        assert_eq!(parse_memory(text), Some(expected));
        assert_eq!(parse_memory("MemTotal: 1 kB\nMemAvailableFoo: 1 kB\n"), None);
        assert_eq!(parse_memory("MemTotal: 99999999999999999999 kB\nMemAvailable: 1 kB\n"), None);
    }

    #[test]
    fn hottest_plausible_zone_counts() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(temperature_c(sys.path()), None);
        for (zone, millidegrees) in
            [("0", "48312\n"), ("1", "61000\n"), ("2", "-274000\n"), ("3", "hot\n"), ("4", "")]
        {
            put(sys.path(), &format!("class/thermal/thermal_zone{zone}/temp"), millidegrees);
        }
        put(sys.path(), "class/thermal/cooling_device0/temp", "99000");
        assert_eq!(temperature_c(sys.path()), Some(61.0));
    }

    #[test]
    fn slowing_down_is_told_with_its_cause() {
        let sys = tempfile::tempdir().unwrap();
        let sys = sys.path();
        assert_eq!(slowed(sys), []);
        put(sys, "class/thermal/cooling_device0/type", "pwm-fan\n");
        put(sys, "class/thermal/cooling_device0/cur_state", "2\n");
        put(sys, "class/thermal/cooling_device1/type", "cpufreq-cpu0\n");
        put(sys, "class/thermal/cooling_device1/cur_state", "0\n");
        // It was slowed down once, and is not now.
        put(sys, "devices/platform/soc/soc:firmware/get_throttled", "50000\n");
        assert_eq!(slowed(sys), []);
        put(sys, "class/thermal/cooling_device1/cur_state", "1\n");
        assert_eq!(slowed(sys), [Slowed::Heat]);
        put(sys, "class/thermal/cooling_device1/cur_state", "0\n");
        put(sys, "devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        assert_eq!(slowed(sys), [Slowed::Heat, Slowed::Supply]);
    }
}
