//! Holdfast: a gateway for the Model Context Protocol that scales sideways.
//!
//! A request enters at `edge`, becomes a use case in `hub`, and leaves through a port or an
//! upstream; `app` connects the pieces. docs/architecture.md has the picture.

pub mod adapters;
pub mod app;
pub mod auth;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod demo;
pub mod domain;
pub mod edge;
pub mod hub;
pub mod lifecycle;
pub mod limits;
pub mod ports;
pub mod protocol;
pub mod telemetry;
pub mod upstream;
