//! A value that others wait for. Unlike tokio's `watch`, which spreads its receivers at random, it wakes
//! them in the order in which they came: a schedule has to replay.

use std::fmt;
use std::pin::pin;
use std::sync::Mutex;

use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Clone> Watched<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    pub(super) fn get(&self) -> T {
        self.value.lock().unwrap().clone()
    }

    pub(super) fn set(&self, value: T) {
        self.change(|held| *held = value);
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock().unwrap());
        self.changed.notify_waiters();
    }

    /// Waits until it holds, and returns the value that does.
    pub(super) async fn until(&self, holds: impl Fn(&T) -> bool) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let value = self.get();
            if holds(&value) {
                return value;
            }
            changed.await;
        }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}
