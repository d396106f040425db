//! The life of the process: its phase, its tasks, its signals, what it prints, and how often it says the same. Every task
//! is spawned here, gets a stop token, and is waited for.

mod output;
mod phase;
mod seldom;
mod signal;
mod tasks;

pub use output::{complain, print, say};
pub use phase::{Lifecycle, Phase};
pub use seldom::Seldom;
pub use signal::{Hangups, shutdown_requested};
pub use tasks::{Ending, Tasks};
