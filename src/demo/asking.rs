//! The tool that asks back: a request on the answer's stream for legacy clients, an `input_required` result for
//! modern ones. Clients that did not say they can be asked are not.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::server::{events, frame};
use super::tools;
use crate::lifecycle::Tasks;
use crate::protocol::jsonrpc::{self, Id, codes};

/// How long a person may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Modern questions remembered; the oldest is forgotten, and asked again.
const OPEN_MAX: usize = 1000;

type Waiting = HashMap<(String, String), oneshot::Sender<Value>>;

/// All questions that wait for an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Questions {
    /// By the session asked, and the JSON text of the question's id.
    legacy: Arc<Mutex<Waiting>>,
    /// The `requestState`s handed out. They mean nothing outside of this list, so there is nothing to forge.
    modern: Arc<Mutex<VecDeque<String>>>,
}

impl Questions {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.legacy.lock().expect("no panic while holding it")
    }

    /// The client's answer; without one (an error) the question ends unanswered.
    pub(super) fn answer(&self, session: &str, id: &Id, answer: Option<Value>) {
        let waiting = self.waiting().remove(&(session.to_owned(), id.as_json().to_owned()));
        if let (Some(waiting), Some(answer)) = (waiting, answer) {
            // The call may have ended meanwhile.
            let _ = waiting.send(answer);
        }
    }

    /// Asks on the answer's stream; the client posts its answer.
    pub(super) fn ask(&self, session: String, id: Id, tasks: &Tasks) -> Response {
        let (frames, read) = mpsc::channel::<Bytes>(2);
        let questions = self.clone();
        tasks.spawn_until_stopped(async move {
            let question = Id::string(&uuid());
            let key = (session, question.as_json().to_owned());
            let (send, answer) = oneshot::channel();
            questions.waiting().insert(key.clone(), send);
            let params = tools::question().to_string();
            let _ =
                frames.send(frame(&jsonrpc::request(&question, "elicitation/create", Some(&params)))).await;
            let payload = tokio::select! {
                answer = tokio::time::timeout(PATIENCE, answer) => Some(match answer {
                    Ok(Ok(answer)) => jsonrpc::result(&id, &tools::greeting(&answer).to_string()),
                    Ok(Err(_)) | Err(_) => jsonrpc::error(Some(&id), codes::SERVER, "nobody answered", None),
                }),
                () = frames.closed() => None,
            };
            questions.waiting().remove(&key);
            if let Some(payload) = payload {
                let _ = frames.send(frame(&payload)).await;
            }
        });
        events(Body::from_stream(unfold(read, |mut read| async move {
            let frame = read.recv().await?;
            Some((Ok::<_, Infallible>(frame), read))
        })))
    }

    /// The result of a modern call: the question, or, once it comes back with its answer and its state, the end.
    pub(super) fn ask_or_greet(&self, params: &Value) -> Value {
        let given = &params["inputResponses"]["name"];
        let state = params["requestState"].as_str().unwrap_or_default();
        let mut open = self.modern.lock().expect("no panic while holding it");
        if given.is_object()
            && let Some(at) = open.iter().position(|asked| asked == state)
        {
            open.remove(at);
            return tools::greeting(given);
        }
        if open.len() == OPEN_MAX {
            open.pop_front();
        }
        let state = uuid();
        open.push_back(state.clone());
        json!({
            "resultType": "input_required",
            "inputRequests": { "name": { "method": "elicitation/create", "params": tools::question() } },
            "requestState": state,
        })
    }
}

fn uuid() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
