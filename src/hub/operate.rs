//! What operators ask for: sessions and nodes as they stand, the same from any node.

use super::{Error, Hub};
use crate::domain::SessionId;
use crate::ports::{Inspected, Page, Query, SeenNode};

impl Hub {
    /// Sessions, paged by id: of a server, of an owner, or whose client declared a capability.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn find(&self, query: &Query) -> Result<Page, Error> {
        Ok(self.store().find(query).await?)
    }

    /// One session with its streams and what runs.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn inspect(&self, id: &SessionId) -> Result<Option<Inspected>, Error> {
        Ok(self.store().inspect(id).await?)
    }

    /// The nodes that have a lease.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn nodes(&self) -> Result<Vec<SeenNode>, Error> {
        Ok(self.store().nodes().await?)
    }
}
