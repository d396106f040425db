//! Who may operate a node: by static tokens of their own, which are no client's.

use http::header::HeaderMap;

use super::digest::digest;
use super::token::{self, Token};
use super::{Denied, Flaw, bearer_token};
use crate::domain::Principal;

/// Who has which token.
#[derive(Debug, Clone)]
pub struct Operators(Vec<Token>);

impl Operators {
    #[must_use]
    pub fn new(tokens: Vec<Token>) -> Self {
        Self(tokens)
    }

    /// Who asks. How long it takes says nothing about the tokens that there are.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn identify(&self, headers: &HeaderMap) -> Result<Principal, Denied> {
        let identity = token::find(&self.0, &digest(bearer_token(headers)?));
        identity.map(|identity| identity.principal).ok_or(Denied::Invalid(Flaw::Unknown))
    }
}
