//! One flag that ends every wait of the capture thread, whatever it waits for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Told once to stop; every clone sees it.
///
/// It is a descriptor and not a condition variable, because the thread also waits for the camera's
/// descriptor, and one `poll` covers both.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<OwnedFd>);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Cancelled.
    Cancelled,
    /// The time is over.
    TimedOut,
    /// The descriptor has something to say.
    Ready,
}

impl Cancel {
    /// Makes one; fails only when the process is out of descriptors.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Ends every wait, present and future.
    pub fn cancel(&self) {
        // Fails only when the counter is already at its end, and then it is readable anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Lets waits last their time again, until the next [`Self::cancel`].
    pub(super) fn clear(&self) {
        // Nothing to read means that nothing was cancelled.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.wait(Duration::ZERO) == Woken::Cancelled
    }

    /// Sleeps for `time`, or until cancelled.
    pub fn wait(&self, time: Duration) -> Woken {
        self.wait_for(None, time).unwrap_or(Woken::TimedOut)
    }

    /// Waits until `fd` is readable or in error, cancelled, or `time` is over.
    pub fn wait_for(&self, fd: Option<BorrowedFd<'_>>, time: Duration) -> Result<Woken, Errno> {
        let started = Instant::now();
        loop {
            let left = time.saturating_sub(started.elapsed());
            let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
            let mut fds = [
                PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(fd.unwrap_or(self.0.as_fd()), PollFlags::IN),
            ];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(Woken::TimedOut),
                Ok(_) if !fds[0].revents().is_empty() => return Ok(Woken::Cancelled),
                Ok(_) => return Ok(Woken::Ready),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelling_ends_a_wait_on_another_thread() {
        let cancel = Cancel::new().unwrap();
        let waiter = cancel.clone();
        let thread = std::thread::spawn(move || waiter.wait(Duration::from_secs(60)));
        cancel.cancel();
        assert_eq!(thread.join().unwrap(), Woken::Cancelled);
        assert!(cancel.is_cancelled());
    }

    #[test]
    fn cleared_cancel_lets_waits_last_again() {
        let cancel = Cancel::new().unwrap();
        cancel.clear();
        cancel.cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled());
        cancel.clear();
        assert!(!cancel.is_cancelled());
    }

    #[test]
    fn wait_without_cancelling_lasts_its_time() {
        let cancel = Cancel::new().unwrap();
        assert_eq!(cancel.wait(Duration::from_millis(2)), Woken::TimedOut);
        assert!(!cancel.is_cancelled());
    }
}
