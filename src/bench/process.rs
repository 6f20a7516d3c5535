//! Processes that a measurement starts.

use std::process::Child;

/// A process that ends with this value.
pub(super) struct Ending(pub(super) Child);

impl Drop for Ending {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Ends the process; one that has ended by itself is as good.
pub(super) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
