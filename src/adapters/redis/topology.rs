//! Which server has which keys: what a cluster's servers say of its slots, and Sentinels of the primary.

use std::sync::Arc;
use std::time::Duration;

use fred::error::{Error as RedisError, ErrorKind};
use fred::types::Value;
use fred::types::config::Server;

use super::connect::{ConnectError, Kind, check};
use super::link::{Link, Manner};

/// What a server that tells of others is given to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Ranges of slots, each with its primary.
#[derive(Debug)]
pub(super) struct Slots(pub(super) Vec<(u16, u16, Server)>);

impl Slots {
    pub(super) async fn ask(link: &Link, patience: Duration) -> Result<Self, RedisError> {
        let said = link.ask("CLUSTER", vec!["SLOTS".into()], patience).await?;
        let slots = Self::read(said, &link.server);
        slots.ok_or_else(|| RedisError::new(ErrorKind::Protocol, "what it says of its slots can't be read"))
    }

    /// A server that is named by nothing but its port is where we asked.
    fn read(said: Value, asked: &Server) -> Option<Self> {
        let mut ranges = Vec::new();
        for range in said.into_array() {
            let mut parts = range.into_array().into_iter();
            let (first, last) = (parts.next()?.as_u64()?, parts.next()?.as_u64()?);
            let mut primary = parts.next()?.into_array().into_iter();
            let host = primary.next()?.as_string().filter(|host| !host.is_empty() && host != "?");
            let port = u16::try_from(primary.next()?.as_u64()?).ok()?;
            let server = Server::new(host.unwrap_or_else(|| asked.host.to_string()), port);
            ranges.push((u16::try_from(first).ok()?, u16::try_from(last).ok()?, server));
        }
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// Each once.
    pub(super) fn servers(&self) -> Vec<Server> {
        let mut servers: Vec<_> = self.0.iter().map(|(_, _, server)| server.clone()).collect();
        servers.sort();
        servers.dedup();
        servers
    }
}

/// Where a step is to be sent instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// The slot has another owner.
    Moved(Server),
    /// The slot is on its way: this once, there.
    Ask(Server),
    /// The slot is on its way, and its keys in two places.
    Again,
}

impl Elsewhere {
    /// What a refusal says, by a server that did nothing.
    pub(super) fn of(refusal: &str, asked: &Server) -> Option<Self> {
        let mut words = refusal.split(' ');
        let code = words.next()?;
        if code == "TRYAGAIN" {
            return Some(Self::Again);
        }
        if code != "MOVED" && code != "ASK" {
            return None;
        }
        let (host, port) = words.nth(1)?.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { &asked.host } else { host };
        let server = Server::new(host, port.parse().ok()?);
        Some(if code == "MOVED" { Self::Moved(server) } else { Self::Ask(server) })
    }
}

/// Those who watch a primary, and its name among them.
#[derive(Debug)]
pub(super) struct Sentinels {
    links: Vec<Arc<Link>>,
    service: String,
}

impl Sentinels {
    /// One that answers is enough.
    pub(super) async fn reach(
        hosts: Vec<Server>,
        service: String,
        manner: &Manner,
    ) -> Result<Self, ConnectError> {
        let reached = futures::future::join_all(hosts.into_iter().map(|host| async {
            let link = Link::reach(host.clone(), manner).await;
            let checked = match link {
                Ok(link) => check(&link, Kind::Sentinel, manner).await.map(|()| link),
                Err(error) => Err(error),
            };
            (host, checked)
        }));
        let (mut links, mut away, mut error) = (Vec::new(), Vec::new(), None);
        for (host, reached) in reached.await {
            match reached {
                Ok(link) => links.push(link),
                Err(refusal) if refusal.may_pass() => {
                    away.push(host);
                    error = Some(refusal);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        match error {
            Some(error) if links.is_empty() => return Err(error),
            _ => links.extend(away.into_iter().map(|host| Link::open(host, manner))),
        }
        Ok(Self { links, service })
    }

    /// Who is named as the primary, by how many, most of them first; and by how many at most.
    async fn named(&self) -> Vec<(Server, usize)> {
        let asked = self.links.iter().filter(|link| link.is_there()).map(|link| {
            let words = vec!["GET-MASTER-ADDR-BY-NAME".into(), self.service.clone()];
            link.ask("SENTINEL", words, PATIENCE)
        });
        let mut named: Vec<(Server, usize)> = Vec::new();
        for said in futures::future::join_all(asked).await.into_iter().flatten() {
            let Value::Array(parts) = said else { continue };
            let [host, port] = &parts[..] else { continue };
            let (Some(host), Some(Ok(port))) = (host.as_string(), port.as_string().map(|port| port.parse()))
            else {
                continue;
            };
            let server = Server::new(host, port);
            match named.iter_mut().find(|(known, _)| *known == server) {
                Some((_, votes)) => *votes += 1,
                None => named.push((server, 1)),
            }
        }
        named.sort_by(|(_, one), (_, other)| other.cmp(one));
        named
    }

    /// The primary, unless it is still `current`. A primary that is there is left for one that most
    /// Sentinels name; one that is away for any that is named and says itself that it is the primary.
    pub(super) async fn primary(
        &self,
        current: Option<&Link>,
        manner: &Manner,
    ) -> Result<Arc<Link>, ConnectError> {
        let named = self.named().await;
        if named.is_empty() {
            return Err(self.nobody_named().await);
        }
        let is_there = current.is_some_and(Link::is_there);
        let mut error = ConnectError::Unreachable("the Sentinels name the same primary".into());
        for (server, votes) in named {
            if current.is_some_and(|link| link.server == server) {
                if is_there {
                    break;
                }
                continue;
            }
            if is_there && votes * 2 <= self.links.len() {
                break;
            }
            match Link::reach(server, manner).await {
                Ok(link) if says_primary(&link).await => return Ok(link),
                Ok(link) => {
                    let text = format!("{} is no primary, whatever the Sentinels say", link.server);
                    error = ConnectError::Unreachable(text);
                }
                Err(refusal) => error = refusal,
            }
        }
        Err(error)
    }

    async fn nobody_named(&self) -> ConnectError {
        let some_answer =
            futures::future::join_all(self.links.iter().map(|link| async {
                link.is_there() && link.ask("PING", Vec::new(), PATIENCE).await.is_ok()
            }));
        if some_answer.await.contains(&true) {
            ConnectError::Url(format!("the Sentinels watch nothing that is named {}", self.service))
        } else {
            ConnectError::Unreachable("no Sentinel answers".into())
        }
    }
}

async fn says_primary(link: &Link) -> bool {
    let role = link.ask("ROLE", Vec::new(), PATIENCE).await;
    role.is_ok_and(|role| role.into_array().first().and_then(Value::as_string).as_deref() == Some("master"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_where() {
        let asked = Server::new("asked", 1);
        let check = |refusal, expected| assert_eq!(Elsewhere::of(refusal, &asked), expected, "{refusal}");
        check("MOVED 3999 127.0.0.1:6381", Some(Elsewhere::Moved(Server::new("127.0.0.1", 6381))));
        check("ASK 3999 host.name:6381", Some(Elsewhere::Ask(Server::new("host.name", 6381))));
        check("MOVED 3999 ::1:6381", Some(Elsewhere::Moved(Server::new("::1", 6381))));
        check("MOVED 3999 :6381", Some(Elsewhere::Moved(Server::new("asked", 6381))));
        check("TRYAGAIN Multiple keys request during rehashing of slot", Some(Elsewhere::Again));
        check("CLUSTERDOWN Hash slot not served", None);
        check("MOVED", None);
        check("ERR unknown", None);
    }
}
