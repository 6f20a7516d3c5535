//! Memory that several threads share: whoever needs some waits until that much is free.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct State {
    free: u64,
    /// The number that is served next, and the next one given out: who waits longest comes first, so
    /// that a large picture is not passed for ever by small ones.
    serving: u64,
    next: u64,
}

/// So many bytes for all.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    changed: Condvar,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let state = State { free: bytes, serving: 0, next: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many bytes are free. More than there are in all would wait for ever: the caller has
    /// refused that.
    pub(super) fn take(self: &Arc<Self>, bytes: u64) -> Share {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        while state.serving != number || state.free < bytes {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.serving += 1;
        state.free -= bytes;
        drop(state);
        self.changed.notify_all();
        Share { budget: Arc::clone(self), bytes }
    }
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    /// Gives back what is above `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let back = self.bytes.saturating_sub(bytes);
        self.bytes -= back;
        self.budget.lock().free += back;
        self.budget.changed.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn shares_never_exceed_what_there_is() {
        let budget = Budget::new(10);
        let most = Arc::new(Mutex::new((0_u64, 0_u64)));
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (budget, most) = (Arc::clone(&budget), Arc::clone(&most));
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = 1 + (thread * 3 + round) % 10;
                        let mut share = budget.take(bytes);
                        {
                            let mut most = most.lock().unwrap();
                            most.0 += bytes;
                            most.1 = most.1.max(most.0);
                        }
                        most.lock().unwrap().0 -= bytes;
                        share.shrink(bytes / 2);
                    }
                });
            }
        });
        let (held, most) = *most.lock().unwrap();
        assert_eq!(held, 0);
        assert!((1..=10).contains(&most), "{most}");
        assert_eq!(budget.lock().free, 10);
    }

    #[test]
    fn large_share_is_not_passed_by_small_ones_that_came_later() {
        let budget = Budget::new(10);
        let first = budget.take(5);
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            let ask = |number: u64, bytes: u64| {
                let (budget_there, tell) = (Arc::clone(&budget), tell.clone());
                scope.spawn(move || {
                    let share = budget_there.take(bytes);
                    tell.send(bytes).unwrap();
                    drop(share);
                });
                let mut state = budget.lock();
                while state.next <= number {
                    drop(state);
                    std::thread::yield_now();
                    state = budget.lock();
                }
            };
            ask(1, 10);
            ask(2, 1);
            assert!(told.try_recv().is_err(), "one does not fit, the other came later");
            drop(first);
            assert_eq!([told.recv().unwrap(), told.recv().unwrap()], [10, 1]);
        });
    }
}
