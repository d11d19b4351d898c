//! Kernel stacks of pins in flight: one is taken at a time, and its answer is repeated for a second. Taking
//! one blocks for up to 200 ms, and perf events run on all CPUs meanwhile.

#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::web::Web;
use crate::source::stack::{Stack, StackError};

/// Time for which an answer is repeated.
const FRESH: Duration = Duration::from_secs(1);

/// A thread, and when its stack was taken.
type Fresh = (u32, Instant, Arc<Answer>);
type Answer = Option<Result<Stack, StackError>>;

/// The stacks of the last second, and the turn to take the next one.
#[derive(Clone)]
pub struct Stacks {
    turn: Arc<Semaphore>,
    /// Bounded: there are as many as can be taken one after the other in a second.
    fresh: Arc<Mutex<Vec<Fresh>>>,
}

impl Default for Stacks {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            fresh: Arc::default(),
        }
    }
}

impl Stacks {
    fn fresh(&self, tid: u32) -> Option<Arc<Answer>> {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.retain(|(_, taken, _)| taken.elapsed() < FRESH);
        let found = fresh.iter().find(|(of, ..)| *of == tid);
        found.map(|(_, _, answer)| Arc::clone(answer))
    }

    fn keep(&self, tid: u32, answer: &Arc<Answer>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.push((tid, Instant::now(), Arc::clone(answer)));
    }
}

/// Kernel stack of a thread with a pin in flight. 404 without such a pin, 409 if it cannot be read, 503 while
/// another one is taken.
pub async fn stack(web: Web, stacks: Stacks, tid: u32) -> Response {
    let state = (web.source)();
    let in_flight = state.is_some_and(|state| state.in_flight.iter().any(|pin| pin.tid == tid));
    if !in_flight {
        let body = format!("thread {tid} has no pin in flight\n");
        return (StatusCode::NOT_FOUND, body).into_response();
    }
    if let Some(fresh) = stacks.fresh(tid) {
        return answer(&fresh);
    }
    let Ok(turn) = Arc::clone(&stacks.turn).try_acquire_owned() else {
        let retry = [(header::RETRY_AFTER, "1")];
        let text = "the stack of another pin is being taken: ask again\n";
        return (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response();
    };
    // The turn ends with the work, not with the request: a client that leaves must not start a second one.
    let taken = tokio::task::spawn_blocking(move || {
        let taken = Arc::new((web.stacks)(tid));
        stacks.keep(tid, &taken);
        drop(turn);
        taken
    });
    match taken.await {
        Ok(taken) => answer(&taken),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn answer(taken: &Answer) -> Response {
    match taken {
        Some(Ok(stack)) => Json(stack).into_response(),
        Some(Err(error)) => (StatusCode::CONFLICT, format!("{error}\n")).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "attaching\n").into_response(),
    }
}
