//! How a client holds its session's own stream: it lets go of it at times, and comes back with what it saw last.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::spawn;
use super::super::world::Broken;
use super::Client;

/// For how long an HTTP+SSE session may be without its stream.
const GRACE: Duration = Duration::from_secs(20);

impl Client {
    /// Holds the session's GET stream, with breaks.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut position: Option<String> = None;
        let mut of: Option<String> = None;
        while !self.over.get() {
            let Some(session) = self.session() else {
                self.pause(100..101).await;
                continue;
            };
            if of.as_ref() != Some(&session) {
                (of, position) = (Some(session.clone()), None);
            } else if position.is_none() {
                // It has had a stream, and can't say where it was.
                self.forgive();
            }
            let began = Instant::now();
            let get = self.getting("/mcp", Some(&session), position.as_deref());
            match self.world.request(get).await {
                Ok(answer) if answer.status == 200 => {
                    let time = Duration::from_millis(self.draw(200..8000));
                    let end = self.read(answer, &mut position, time, None).await;
                    self.world.ledger.tell(format_args!("{}: its GET stream is {end:?}", self.name));
                }
                Ok(answer) if answer.status == 404 => {
                    if !self.may_be_gone(&session) {
                        self.wrong(format_args!("P1: {session} is said to be gone"));
                    }
                }
                Ok(answer) => self.fails(began, format_args!("GET: {}", answer.status)),
                Err(Broken) => self.fails(began, format_args!("GET: broken")),
            }
            self.pause(20..500).await;
        }
    }

    /// Holds the session's one stream, with breaks.
    pub(super) async fn listen_http_sse(self: Arc<Self>) {
        let mut position: Option<String> = None;
        let mut held = Instant::now();
        while !self.over.get() {
            let began = Instant::now();
            let get = self.getting("/sse", None, position.as_deref());
            match self.world.request(get).await {
                Ok(answer) if answer.status == 200 => {
                    let time = Duration::from_millis(self.draw(200..8000));
                    let end = self.read(answer, &mut position, time, None).await;
                    held = Instant::now();
                    self.world.ledger.tell(format_args!("{}: its stream is {end:?}", self.name));
                }
                Ok(answer) if answer.status == 404 && position.is_some() => {
                    if held.elapsed() < GRACE {
                        self.wrong(format_args!("P1: its session is said to be gone"));
                    }
                    if let Some(session) = self.session() {
                        self.let_go(&session);
                    }
                    position = None;
                }
                Ok(answer) => self.fails(began, format_args!("its stream: {}", answer.status)),
                Err(Broken) => self.fails(began, format_args!("its stream: broken")),
            }
            self.pause(20..500).await;
        }
    }

    /// The stream says where to post to: a new session, or the old one.
    pub(super) fn endpoint(self: &Arc<Self>, session: String) {
        let known = self.session();
        if known.as_ref() == Some(&session) {
            return;
        }
        if let Some(known) = known {
            self.let_go(&known);
        }
        self.world.ledger.tell(format_args!("{} has {session}", self.name));
        let client = self.clone();
        spawn(async move { client.initialize_on_stream(session).await });
    }

    async fn initialize_on_stream(self: Arc<Self>, session: String) {
        let _doing = self.doing("initialize on its stream".into());
        let opening = self.opening(self.next_id());
        loop {
            let began = Instant::now();
            match self.world.request(self.posting(Some(&session), &opening)).await {
                Ok(answer) if answer.status == 202 => break,
                // The first one came through.
                Ok(answer) if answer.status == 400 => break,
                Ok(answer) => self.fails(began, format_args!("initialize: {}", answer.status)),
                Err(Broken) => self.fails(began, format_args!("initialize: broken")),
            }
            self.pause(100..1000).await;
        }
        // Its answer tells that the server has a session by now.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.say(&session, "notifications/initialized", &format!("initialized {session}")).await;
        self.session.set(Some(session));
    }
}
