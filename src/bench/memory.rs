//! Memory of a process, as the kernel counts it.

use serde::Serialize;

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResidentMemory {
    /// Now.
    pub now_kib: u64,
    /// The most there ever was.
    pub peak_kib: u64,
}

impl ResidentMemory {
    /// This process; `None` where the system does not tell.
    pub fn of_this_process() -> Option<Self> {
        Self::of_process(std::process::id())
    }

    /// Another process; `None` where it has ended or the system does not tell.
    pub fn of_process(id: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self { now_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")? })
    }
}

impl std::fmt::Display for ResidentMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(f, "{:.1} MiB resident, {:.1} MiB at most", mib(self.now_kib), mib(self.peak_kib))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_among_the_others() {
        let status =
            "Name:\tlimen\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t1\n";
        let memory = ResidentMemory::parse(status).unwrap();
        assert_eq!(memory, ResidentMemory { now_kib: 1024, peak_kib: 2048 });
        assert_eq!(ResidentMemory::parse("Name:\tlimen\n"), None);
    }

    #[test]
    fn this_process_has_some() {
        let memory = ResidentMemory::of_this_process().unwrap();
        assert!(memory.now_kib > 0 && memory.peak_kib >= memory.now_kib);
    }
}
