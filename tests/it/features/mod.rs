//! What clients and upstreams see of a node, over real HTTP.

mod answers;
mod cutting;
mod limits;
mod nodes;
mod refusals;
mod resuming;
mod statuses;
mod upstreams;
