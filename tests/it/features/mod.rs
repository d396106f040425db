//! What clients and upstreams see of a node, over real HTTP.

mod admin;
mod alone;
mod answers;
mod breaks;
mod connections;
mod cost;
mod cutting;
mod deaths;
mod faults;
mod forms;
mod hostile;
mod keeping;
mod lies;
mod limits;
mod memory;
mod nodes;
mod passage;
mod passing;
mod pinned;
mod races;
mod refusals;
mod resuming;
mod secure;
mod statuses;
mod times;
mod upstreams;
