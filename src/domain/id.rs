//! Names of things: session, node, server, principal, request. Each is checked once, where it
//! enters, so that inside there are no strings that might be ids.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What a text must be to name anything that is looked up: `[A-Za-z0-9_-]{1,128}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -")]
pub struct InvalidId;

fn checked(text: &str) -> Result<Arc<str>, InvalidId> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(plain);
    if fits { Ok(Arc::from(text)) } else { Err(InvalidId) }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            /// [`InvalidId`] unless the text matches `[A-Za-z0-9_-]{1,128}`.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                checked(text).map(Self)
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

    };
}

/// For what may be read by anybody who reads the logs.
macro_rules! shown_as_it_is {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// A legacy client's conversation with one server. Unguessable (L23), but no credential (A11): logs have
    /// its `Debug`, which is the [fingerprint](Self::fingerprint).
    SessionId
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

text_id! {
    /// One incarnation of one process: a restarted node is another node.
    NodeId
}

shown_as_it_is!(NodeId);

text_id! {
    /// A named MCP endpoint that Holdfast offers, `/servers/{name}/mcp`.
    ServerName
}

shown_as_it_is!(ServerName);

/// Where ids come from: bits that nobody can guess. A simulation replays its own.
#[derive(Clone)]
pub struct Entropy(Arc<dyn Fn() -> u128 + Send + Sync>);

impl Entropy {
    /// 122 random bits from the operating system (UUIDv4; v7 would tell when it was made).
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| Uuid::new_v4().as_u128()))
    }

    /// `draw` answers for the bits: whoever can guess them can guess sessions.
    #[must_use]
    pub fn of(draw: impl Fn() -> u128 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    #[must_use]
    pub fn draw(&self) -> u128 {
        (self.0)()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

impl SessionId {
    /// A new one, from the operating system's [`Entropy`].
    #[must_use]
    pub fn mint() -> Self {
        Self::mint_from(&Entropy::system())
    }

    #[must_use]
    pub fn mint_from(entropy: &Entropy) -> Self {
        Self(Arc::from(Uuid::from_u128(entropy.draw()).simple().to_string()))
    }

    /// What logs call it: the first 16 hexadecimal digits of its SHA-256. Whoever has the id can
    /// find it there; who reads it there can't use it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.as_str()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl NodeId {
    /// A new incarnation of the node called `name`.
    #[must_use]
    pub fn incarnate(name: &str) -> Self {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        Self(Arc::from(format!("{name}-{}", Uuid::new_v4().simple())))
    }
}

/// Who a credential speaks for; never taken from anything that the client merely says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// Everybody, where the configuration asks for no credential.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(Arc::from("anonymous"))
    }

    /// The principal that an authenticator found; `name` is unique over all authenticators.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(Arc::from(format!("={name}")))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For people: a named one by its name, which no other has.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.0.strip_prefix('=').unwrap_or(&self.0)
    }
}

/// A client's JSON-RPC request id as compact JSON text, opaque here: it names a running record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    #[must_use]
    pub fn from_json(text: &str) -> Self {
        Self(Arc::from(text))
    }

    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, valid: bool) {
        assert_eq!(SessionId::parse(text).is_ok(), valid, "{text:?}");
    }

    #[test]
    fn an_id_is_a_short_plain_word() {
        check("a", true);
        check("A-z_09", true);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        check("", false);
        check("a b", false);
        check("a.b", false);
        check("../x", false);
        check("ä", false);
        check("a\n", false);
    }

    #[test]
    fn minted_ids_are_valid_and_differ() {
        let (one, two) = (SessionId::mint(), SessionId::mint());
        assert_ne!(one, two);
        check(one.as_str(), true);
        assert!(NodeId::parse(NodeId::incarnate("pod 1/é").as_str()).is_ok());
    }

    #[test]
    fn a_named_principal_is_never_the_anonymous_one() {
        assert_ne!(Principal::named("anonymous"), Principal::anonymous());
    }
}
