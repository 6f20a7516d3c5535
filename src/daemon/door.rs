//! The door's threads, and how they hang together.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::{DOOR_SILENCE, PASSES_SILENCE};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::DisplayDriver;
use crate::door::condition::DoorCondition;
use crate::door::gpio::LineSpec;
use crate::door::inputs::{InputKind, InputThread};
use crate::door::passes::{PassEye, PassThread};
use crate::door::relay::RelayThread;
use crate::door::thread::{DoorHandle, DoorParts, DoorThread};
use crate::event_store::StoreHandle;
use crate::gallery::Gallery;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::supervisor::Supervisor;
use crate::{display, live::LiveChannel, status::Part};

/// The running door.
pub(super) struct Door {
    pub(super) handle: DoorHandle,
    /// Tells its threads to end.
    pub(super) ending: Arc<AtomicBool>,
    /// In the order in which they end.
    pub(super) threads: Vec<&'static str>,
}

/// Starts the threads. A line that cannot be had is a matter of the status, not of the start.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    config: &Config,
    store: &StoreHandle,
    status: &Status,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> Result<(Door, PassEye)> {
    let settings = &config.door;
    let line = |line: &Option<String>| -> Result<Option<LineSpec>> {
        line.as_deref().map(LineSpec::parse).transpose().map_err(|error| anyhow!(error))
    };
    let condition = DoorCondition::new(status.clone());
    let ending = Arc::<AtomicBool>::default();
    let mut threads = Vec::new();
    let relay = match line(&settings.relay)? {
        Some(spec) => {
            let (thread, handle, pulse) = RelayThread::new(spec, condition.clone(), Arc::clone(clock));
            let ending = Arc::clone(&ending);
            supervisor.spawn("relay", DOOR_SILENCE, move |beat| thread.run(beat, &ending))?;
            threads.push("relay");
            Some((handle, pulse))
        }
        None => None,
    };
    let inputs = [
        (InputKind::ExitButton, line(&settings.exit_button)?),
        (InputKind::Contact, line(&settings.contact)?),
        (InputKind::Bell, line(&settings.bell)?),
        (InputKind::Tamper, line(&settings.tamper)?),
    ];
    let parts = DoorParts {
        pulse: Duration::from_millis(settings.pulse_ms.into()),
        held_open_after: Duration::from_secs(settings.held_open_after_s.into()),
        clock_file: settings.clock_file.clone(),
        buzzer: line(&settings.buzzer)?,
        status_led: line(&settings.status_led)?,
        infrared: line(&settings.infrared)?,
        has_contact: settings.contact.is_some(),
    };
    let (thread, handle) = DoorThread::new(
        parts,
        relay,
        condition.clone(),
        store.clone(),
        Arc::clone(metrics),
        Arc::clone(clock),
    );
    let told = Arc::clone(&ending);
    supervisor.spawn("door", DOOR_SILENCE, move |beat| thread.run(beat, &told))?;
    threads.push("door");
    let lines: Vec<_> = inputs.into_iter().filter_map(|(kind, spec)| Some((kind, spec?))).collect();
    if !lines.is_empty() {
        let debounce = Duration::from_millis(settings.debounce_ms.into());
        let thread = InputThread { lines, debounce, door: handle.clone(), condition };
        let told = Arc::clone(&ending);
        supervisor.spawn("gpio", DOOR_SILENCE, move |beat| thread.run(beat, &told))?;
        threads.push("gpio");
    }
    let (thread, eye) = PassThread::new(handle.clone());
    let told = Arc::clone(&ending);
    supervisor.spawn("passes", PASSES_SILENCE, move |beat| thread.run(beat, &told))?;
    threads.push("passes");
    if config.door_lines().next().is_none() {
        // Without a line the door is a policy and its events; the thread `door` tells if that cannot be used.
        status.working(Part::Door);
    }
    Ok((Door { handle, ending, threads }, eye))
}

impl Door {
    /// Starts the display, where there is one.
    pub(super) fn spawn_display(
        &mut self,
        supervisor: &mut Supervisor,
        config: &Config,
        live: &LiveChannel,
        gallery: &Arc<Gallery>,
        status: &Status,
        clock: &Arc<dyn Clock>,
    ) -> Result<()> {
        if config.display.driver == DisplayDriver::None {
            status.off(Part::Display);
            return Ok(());
        }
        let thread = display::thread::DisplayThread {
            config: config.clone(),
            live: live.clone(),
            door: self.handle.clone(),
            gallery: Arc::clone(gallery),
            status: status.clone(),
            clock: Arc::clone(clock),
        };
        let told = Arc::clone(&self.ending);
        supervisor.spawn("display", DOOR_SILENCE, move |beat| thread.run(beat, &told))?;
        self.threads.push("display");
        Ok(())
    }
}
