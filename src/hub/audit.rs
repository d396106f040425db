//! What the use cases tell the audit log: whose sessions begin, are claimed, refused, and end. What is
//! refused before a use case begins is the edge's matter.

use std::net::IpAddr;

use super::live::Live;
use super::{Caller, Hub, Server};
use crate::domain::{Binding, NodeId, ServerName, Session, SessionId};
use crate::ports::{AuditEvent, Deed};
use crate::telemetry::{Lookup, SessionEnd};

impl Hub {
    pub(super) fn note_opened(&self, server: &ServerName, caller: &Caller, id: &SessionId) {
        let event = AuditEvent::new(Deed::SessionOpened).by(&caller.principal, caller.address);
        self.inner.audit.record(&event.of(server, id));
    }

    /// A client reads a stream of its session from now on, which another connection may have read before.
    pub(super) fn note_claimed(
        &self,
        live: &Live,
        address: Option<IpAddr>,
        resumes: bool,
        from: Option<&Binding>,
    ) {
        let session = live.session();
        let event = AuditEvent::new(Deed::SessionClaimed).by(&session.owner, address);
        let event =
            event.of(&session.server, &session.id).reason(if resumes { "resumed" } else { "attached" });
        let from_node = from.map(|binding| binding.node.clone()).filter(|node| *node != self.inner.node);
        self.inner.audit.record(&AuditEvent { from_node, ..event });
    }

    /// This node goes on with what a dead one ran for a session.
    pub(super) fn note_taken_over(&self, live: &Live, from: &NodeId) {
        let session = live.session();
        let event = AuditEvent::new(Deed::SessionClaimed).by(&session.owner, None).reason("taken_over");
        let from_node = Some(from.clone());
        self.inner.audit.record(&AuditEvent { from_node, ..event.of(&session.server, &session.id) });
    }

    /// Says in the audit log what the client is not told: whether it exists.
    pub(super) fn note_refused(&self, server: &ServerName, caller: &Caller, id: &SessionId, found: Lookup) {
        self.inner.metrics.looked_up(found);
        let event = AuditEvent::new(Deed::SessionRefused).by(&caller.principal, caller.address);
        self.inner.audit.record(&event.of(server, id).reason(found.label()));
    }

    /// What was asked for can't be an id of a session.
    pub fn note_malformed(&self, server: &Server, caller: &Caller) {
        let event = AuditEvent::new(Deed::SessionRefused).by(&caller.principal, caller.address);
        let server = Some(server.name.clone());
        self.inner.audit.record(&AuditEvent { server, ..event.reason("malformed") });
    }

    /// The principal is the session's; an operator is named by an event of its own.
    pub(super) fn note_closed(&self, session: &Session, end: SessionEnd, address: Option<IpAddr>) {
        let event = AuditEvent::new(Deed::SessionClosed).by(&session.owner, address);
        self.inner.audit.record(&event.of(&session.server, &session.id).reason(end.label()));
    }
}
