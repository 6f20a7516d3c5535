//! What comes in behind the headers: how much, and how slowly.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// How slowly a body may come in.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Without a single byte.
    stalled: Duration,
    /// In all; and then as long as its bytes take at the least rate.
    grace: Duration,
    least_bytes_per_s: u64,
}

impl Pace {
    /// What a phone at the edge of the radio network still manages.
    pub(super) const NORMAL: Self =
        Self { stalled: Duration::from_secs(10), grace: Duration::from_secs(15), least_bytes_per_s: 8 << 10 };

    /// How long this many bytes may take.
    fn time_for(&self, bytes: u64) -> Duration {
        self.grace + Duration::from_millis(bytes.saturating_mul(1_000) / self.least_bytes_per_s)
    }
}

/// Why a body was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge,
    TooSlow,
    /// Whoever sends it may do so no longer.
    NotAnyMore,
}

/// What became of a body, for whoever answers the request.
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<AtomicU8>);

impl Outcome {
    pub(super) fn fault(&self) -> Option<Fault> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Fault::TooLarge),
            2 => Some(Fault::TooSlow),
            _ => Some(Fault::NotAnyMore),
        }
    }

    fn set(&self, fault: Fault) -> std::io::Error {
        let code = match fault {
            Fault::TooLarge => 1,
            Fault::TooSlow => 2,
            Fault::NotAnyMore => 3,
        };
        self.0.store(code, Ordering::Relaxed);
        std::io::Error::other("the body is too large, too slow, or not permitted any more")
    }
}

/// Whether whoever sends a body may still do so.
pub(super) type StillMay = Box<dyn Fn() -> bool + Send + Sync>;

/// A body that ends with an error when it grows beyond its limit or hardly comes in, or when whoever
/// sends it has lost the right to by the time it is there: it may take minutes.
pub(super) struct Paced {
    inner: Body,
    left: u64,
    taken: u64,
    pace: Pace,
    begun: Instant,
    alarm: Pin<Box<Sleep>>,
    outcome: Outcome,
    still_may: StillMay,
}

impl Paced {
    pub(super) fn new(inner: Body, most: usize, pace: Pace, outcome: Outcome, still_may: StillMay) -> Self {
        let begun = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(begun + pace.stalled));
        Self { inner, left: most as u64, taken: 0, pace, begun, alarm, outcome, still_may }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            ready!(this.alarm.as_mut().poll(context));
            return Poll::Ready(Some(Err(this.outcome.set(Fault::TooSlow).into())));
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let length = data.len() as u64;
            let Some(left) = this.left.checked_sub(length) else {
                return Poll::Ready(Some(Err(this.outcome.set(Fault::TooLarge).into())));
            };
            (this.left, this.taken) = (left, this.taken + length);
            let due = this.begun + this.pace.time_for(this.taken);
            let now = Instant::now();
            this.alarm.as_mut().reset((now + this.pace.stalled).min(due));
            if now > due {
                return Poll::Ready(Some(Err(this.outcome.set(Fault::TooSlow).into())));
            }
        }
        // Who knows the length may stop asking at the last byte.
        if (frame.is_none() || this.inner.is_end_stream()) && !(this.still_may)() {
            return Poll::Ready(Some(Err(this.outcome.set(Fault::NotAnyMore).into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of so many chunks of ten bytes; with a pause before each, or standing still at the end.
    struct Source {
        chunks: usize,
        pause: Option<Duration>,
        stands_still: bool,
        next: Pin<Box<Sleep>>,
    }

    impl HttpBody for Source {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.chunks == 0 {
                return if self.stands_still { Poll::Pending } else { Poll::Ready(None) };
            }
            if let Some(pause) = self.pause {
                ready!(self.next.as_mut().poll(context));
                let next = Instant::now() + pause;
                self.next.as_mut().reset(next);
            }
            self.chunks -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 10])))))
        }
    }

    fn read(
        chunks: usize,
        pause: Option<Duration>,
        stands_still: bool,
        most: usize,
        pace: Pace,
    ) -> (Option<usize>, Option<Fault>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let next = Box::pin(tokio::time::sleep(Duration::ZERO));
            let source = Body::new(Source { chunks, pause, stands_still, next });
            let outcome = Outcome::default();
            let body = Body::new(Paced::new(source, most, pace, outcome.clone(), Box::new(|| true)));
            let read = axum::body::to_bytes(body, usize::MAX).await;
            (read.ok().map(|bytes| bytes.len()), outcome.fault())
        })
    }

    #[test]
    fn body_up_to_its_limit_is_taken_and_not_a_byte_more() {
        assert_eq!(read(10, None, false, 100, Pace::NORMAL), (Some(100), None));
        assert_eq!(read(10, None, false, 99, Pace::NORMAL), (None, Some(Fault::TooLarge)));
        assert_eq!(read(1, None, false, 0, Pace::NORMAL), (None, Some(Fault::TooLarge)));
        assert_eq!(read(0, None, false, 0, Pace::NORMAL), (Some(0), None));
    }

    #[test]
    fn body_that_stands_still_is_given_up() {
        let pace = Pace { stalled: Duration::from_millis(20), ..Pace::NORMAL };
        assert_eq!(read(3, None, true, 100, pace), (None, Some(Fault::TooSlow)));
        assert_eq!(read(3, None, false, 100, pace), (Some(30), None));
    }

    #[test]
    fn body_that_drips_is_given_up_though_it_never_stands_still() {
        let pace = Pace { grace: Duration::from_millis(30), least_bytes_per_s: 1_000_000, ..Pace::NORMAL };
        let drip = Some(Duration::from_millis(2));
        assert_eq!(read(10_000, drip, false, usize::MAX, pace), (None, Some(Fault::TooSlow)));
        assert_eq!(read(10, drip, false, usize::MAX, Pace::NORMAL), (Some(100), None));
    }

    #[test]
    fn large_body_may_take_its_time() {
        assert_eq!(Pace::NORMAL.time_for(0), Duration::from_secs(15));
        assert_eq!(Pace::NORMAL.time_for(64 << 20), Duration::from_secs(15 + 8192));
    }
}
