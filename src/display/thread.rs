//! The thread `display`: draws when something has changed, and only what has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::watch;

use super::canvas::Canvas;
use super::draw::draw;
use super::panel::Panel;
use super::screen::{Composer, Conditions, Screen};
use super::texts::words;
use crate::clock::{Clock, Monotonic, UnixMillis};
use crate::config::Config;
use crate::door::thread::{DoorHandle, DoorNews};
use crate::gallery::Gallery;
use crate::live::{Live, LiveChannel};
use crate::status::{Condition, Part, Status};
use crate::supervisor::Heartbeat;

/// How soon something new is shown. Four times a second nobody sees a delay, and it costs next to nothing.
const TICK: Duration = Duration::from_millis(250);
/// A panel that does not answer is opened anew after this long.
const AGAIN: Duration = Duration::from_secs(5);

/// The thread, not yet running.
pub struct DisplayThread {
    /// The settings.
    pub config: Config,
    /// What recognition sees.
    pub live: LiveChannel,
    /// What the door says.
    pub door: DoorHandle,
    /// Whose name is whose.
    pub gallery: Arc<Gallery>,
    /// Whether the camera and the network are there.
    pub status: Status,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

struct Listening {
    live: Receiver<Live>,
    news: Receiver<DoorNews>,
    guide: watch::Receiver<Option<&'static str>>,
}

impl DisplayThread {
    /// Serves until told to end.
    pub fn run(self, beat: &Heartbeat, ending: &AtomicBool) -> anyhow::Result<()> {
        let mut listening =
            Listening { live: self.live.listen(), news: self.door.news(), guide: self.live.guide() };
        let mut composer = Composer::default();
        let mut panel: Option<Panel> = None;
        let mut tried: Option<Monotonic> = None;
        let mut shown: Option<(Screen, Canvas)> = None;
        while !ending.load(Ordering::Relaxed) {
            beat.beat();
            let now = self.clock.monotonic();
            if panel.is_none() && tried.is_none_or(|tried| now.since(tried) >= AGAIN) {
                tried = Some(now);
                shown = None;
                match Panel::open(&self.config) {
                    Ok(Some(opened)) => {
                        self.status.working(Part::Display);
                        panel = Some(opened);
                    }
                    Ok(None) => return Ok(()),
                    Err(error) => self.status.degraded(Part::Display, format!("{error:#}")),
                }
            }
            self.listen(&mut listening, &mut composer, now);
            let screen = composer.screen(&self.conditions(&listening, now), now);
            if let Some(there) = &mut panel
                && shown.as_ref().is_none_or(|(last, _)| *last != screen)
            {
                let (width, height) = there.size();
                let mut canvas = Canvas::new(width, height);
                self.draw(&mut canvas, &screen, there.is_mono());
                let before = shown.take().map_or_else(|| Canvas::new(0, 0), |(_, before)| before);
                let result = canvas.changed(&before).map_or(Ok(()), |changed| there.show(&canvas, &changed));
                match result {
                    Ok(()) => shown = Some((screen, canvas)),
                    Err(error) => {
                        self.status.degraded(Part::Display, format!("{error:#}"));
                        panel = None;
                        tried = Some(now);
                    }
                }
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn draw(&self, canvas: &mut Canvas, screen: &Screen, mono: bool) {
        let book = self.door.book();
        let at = |at: UnixMillis| book.in_force().and_then(|policy| policy.calendar().hour_and_minute(at));
        let words = words(screen, self.config.display.language, &self.config.door.name, at);
        draw(canvas, screen, &words, mono);
    }

    fn listen(&self, listening: &mut Listening, composer: &mut Composer, now: Monotonic) {
        loop {
            match listening.live.try_recv() {
                Ok(live) => composer.see(&live, now),
                // What was missed is told anew by the next look.
                Err(TryRecvError::Lagged(_)) => {
                    composer.see(&Live::Presence { faces: self.live.faces() }, now)
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        loop {
            match listening.news.try_recv() {
                Ok(news) => composer.hear(&news, self.name_of(&news), now),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }

    fn name_of(&self, news: &DoorNews) -> Option<String> {
        let DoorNews::Ruling(ruling) = news else { return None };
        let subject = ruling.subject.filter(|_| self.config.display.show_names)?;
        self.gallery.current().subject(subject).map(|subject| subject.name.as_str().to_owned())
    }

    fn conditions(&self, listening: &Listening, now: Monotonic) -> Conditions {
        let book = self.door.book();
        let state = self.door.state().borrow().clone();
        let degraded = |part| matches!(self.status.condition(part), Condition::Degraded { .. });
        let time = book
            .in_force()
            .filter(|_| state.clock_trusted)
            .and_then(|policy| policy.calendar().hour_and_minute(self.clock.wall()));
        // Where one means is locked the others go on, and the screen says nothing of it.
        let locked = state.faces_locked.then(|| self.door.locked_for(now)).flatten();
        Conditions {
            time,
            offline: degraded(Part::Broker),
            blind: degraded(Part::Camera) || degraded(Part::Recognition),
            locked,
            guide: *listening.guide.borrow(),
        }
    }
}
