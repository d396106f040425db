//! What clients and upstreams see of a node, over real HTTP.

mod admin;
mod answers;
mod breaks;
mod cost;
mod cutting;
mod deaths;
mod faults;
mod forms;
mod hostile;
mod keeping;
mod limits;
mod nodes;
mod passage;
mod refusals;
mod resuming;
mod statuses;
mod times;
mod upstreams;
