//! What a node's code runs through: open, shut while the node is frozen, or shut for good.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;

/// One node's. Code that does not pass does not run: no timer, no drop, no last word.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    waiting: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Open,
    Frozen,
    Dead,
}

impl Gate {
    pub(super) fn mode(&self) -> Mode {
        self.0.lock().unwrap().mode
    }

    pub(super) fn freeze(&self) {
        let mut state = self.0.lock().unwrap();
        if state.mode == Mode::Open {
            state.mode = Mode::Frozen;
        }
    }

    pub(super) fn thaw(&self) {
        let mut state = self.0.lock().unwrap();
        if state.mode == Mode::Frozen {
            state.mode = Mode::Open;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn kill(&self) {
        let mut state = self.0.lock().unwrap();
        state.mode = Mode::Dead;
        state.waiting = Vec::new();
    }

    pub(super) fn pass<F: Future>(&self, inner: F) -> Passing<F> {
        Passing { gate: self.clone(), inner: Box::pin(inner) }
    }

    /// For a node's tasks.
    pub(super) fn wrap(&self, task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(Passing { gate: self.clone(), inner: task })
    }
}

pub(super) struct Passing<F: ?Sized> {
    gate: Gate,
    inner: Pin<Box<F>>,
}

impl<F: Future + ?Sized> Future for Passing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.gate.0.lock().unwrap();
            match state.mode {
                Mode::Open => {}
                Mode::Frozen => {
                    state.waiting.push(context.waker().clone());
                    return Poll::Pending;
                }
                Mode::Dead => return Poll::Pending,
            }
        }
        self.inner.as_mut().poll(context)
    }
}
