//! The port: each step of the trait is one of the store's.

use std::sync::atomic::Ordering;

use super::answer::Parts;
use super::scripts::Script;
use super::steps::{millis, text};
use super::store::RedisSessionStore;
use crate::domain::{
    Fence, NodeId, Principal, ServerName, Session, SessionId, SessionPart, StreamKey, Transport,
};
use crate::ports::{
    Append, Appended, Attach, Attached, Beat, Begin, Begun, CloseIf, Closed, Durability, Inspected, LEFT_FOR,
    Lease, Mark, Opened, Page, PortFuture, Query, SeenNode, SessionStore, Steal, Stolen, StoreError, Updated,
};

impl SessionStore for RedisSessionStore {
    fn durability(&self) -> Durability {
        Durability::Shared
    }

    fn known_sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    fn open<'a>(
        &'a self,
        id: &'a SessionId,
        server: &'a ServerName,
        owner: &'a Principal,
        transport: Transport,
    ) -> PortFuture<'a, Result<Opened, StoreError>> {
        Box::pin(self.open_now(id, server, owner, transport))
    }

    fn load<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Session>, StoreError>> {
        Box::pin(self.load_now(id))
    }

    fn update<'a>(
        &'a self,
        id: &'a SessionId,
        part: SessionPart,
    ) -> PortFuture<'a, Result<Updated, StoreError>> {
        Box::pin(self.update_now(id, part))
    }

    fn begin<'a>(&'a self, begin: &'a Begin) -> PortFuture<'a, Result<Begun, StoreError>> {
        Box::pin(self.begin_now(begin))
    }

    fn append<'a>(&'a self, append: &'a Append) -> PortFuture<'a, Result<Appended, StoreError>> {
        Box::pin(self.append_now(append))
    }

    fn mark<'a>(&'a self, mark: &'a Mark) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let arguments = vec![
                text(mark.stream.stream.as_str()),
                text(mark.request.as_json()),
                text(&mark.fence.to_string()),
                text(&mark.upstream_event),
                text(&mark.producer.id.to_string()),
                text(&mark.producer.sequence.to_string()),
            ];
            self.on_stream(&self.steps.scripts.mark, &mark.stream, arguments).await.map(|_| ())
        })
    }

    fn steal<'a>(&'a self, steal: &'a Steal) -> PortFuture<'a, Result<Stolen, StoreError>> {
        Box::pin(async move {
            let arguments = vec![
                text(steal.stream.stream.as_str()),
                text(steal.request.as_json()),
                text(&steal.from.to_string()),
                text(steal.by.as_str()),
            ];
            match self.on_stream(&self.steps.scripts.steal, &steal.stream, arguments).await? {
                None => Ok(Stolen::Gone),
                Some((said, _)) if said == "lost" => Ok(Stolen::Lost),
                Some((_, mut parts)) => Ok(Stolen::Taken(parts.record()?)),
            }
        })
    }

    fn attach<'a>(&'a self, attach: &'a Attach) -> PortFuture<'a, Result<Attached, StoreError>> {
        Box::pin(self.attach_now(attach))
    }

    fn release<'a>(&'a self, stream: &'a StreamKey, fence: Fence) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let arguments = vec![text(stream.stream.as_str()), text(&fence.to_string())];
            self.on_stream(&self.steps.scripts.release, stream, arguments).await.map(|_| ())
        })
    }

    fn touch<'a>(&'a self, sessions: &'a [SessionId]) -> PortFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(async move {
            let touch: &Script = &self.steps.scripts.touch;
            let touched = sessions.iter().map(|id| self.steps.on_session(touch, id, None, Vec::new()));
            // Those of a server that is away don't keep the others from being prolonged.
            let mut gone = Vec::new();
            for (id, answer) in sessions.iter().zip(futures::future::join_all(touched).await) {
                if answer?.is_none() {
                    gone.push(id.clone());
                }
            }
            Ok(gone)
        })
    }

    fn close<'a>(
        &'a self,
        id: &'a SessionId,
        condition: &'a CloseIf,
    ) -> PortFuture<'a, Result<Option<Closed>, StoreError>> {
        Box::pin(self.close_now(id, condition))
    }

    fn reap<'a>(&'a self, limit: usize) -> PortFuture<'a, Result<Vec<Closed>, StoreError>> {
        Box::pin(self.reap_now(limit))
    }

    fn find<'a>(&'a self, query: &'a Query) -> PortFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.find_now(query))
    }

    fn inspect<'a>(&'a self, id: &'a SessionId) -> PortFuture<'a, Result<Option<Inspected>, StoreError>> {
        Box::pin(self.inspect_now(id))
    }

    fn hint<'a>(&'a self, server: &'a ServerName, method: &'a str) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let keys = vec![self.steps.hints_key(server.as_str())];
            self.steps.run(&self.steps.scripts.hint, keys, vec![text(method)]).await.map(|_| ())
        })
    }

    fn hints<'a>(&'a self, server: &'a ServerName) -> PortFuture<'a, Result<Vec<(String, u64)>, StoreError>> {
        Box::pin(async move {
            let keys = vec![self.steps.hints_key(server.as_str())];
            let given = self.steps.run(&self.steps.scripts.hint, keys, vec![text("")]).await?;
            Ok(given.rest(|given| Ok((given.text()?, given.parsed()?)))?)
        })
    }

    fn beat<'a>(&'a self, lease: &'a Lease) -> PortFuture<'a, Result<Beat, StoreError>> {
        Box::pin(async move {
            let arguments = vec![
                text("beat"),
                text(lease.node.as_str()),
                text(&millis(lease.lifetime)),
                text(&lease.facts),
                text(&millis(LEFT_FOR)),
            ];
            let shaken = self.steps.take_shaken();
            let beaten = self.steps.on_nodes(arguments).await;
            let mut parts = beaten.inspect_err(|_| self.steps.give_shaken_back(shaken))?;
            let (lapsed, now_ms) = (parts.flag()?, parts.parsed()?);
            let mut alive = parts.list()?.rest(Parts::node)?;
            alive.sort();
            let left = parts.list()?.rest(Parts::node)?;
            Ok(Beat { alive, left, lapsed, shaken, now_ms })
        })
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> PortFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let arguments = vec![text("leave"), text(node.as_str()), text(&millis(LEFT_FOR))];
            self.steps.on_nodes(arguments).await.map(|_| ())
        })
    }

    fn nodes(&self) -> PortFuture<'_, Result<Vec<SeenNode>, StoreError>> {
        Box::pin(async move {
            let parts = self.steps.on_nodes(vec![text("seen")]).await?;
            let mut seen = parts.rest(|parts| Ok(SeenNode { node: parts.node()?, facts: parts.text()? }))?;
            seen.sort_by(|one, other| one.node.cmp(&other.node));
            Ok(seen)
        })
    }
}
