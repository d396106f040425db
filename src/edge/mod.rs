//! The HTTP side towards clients and operators: routes, what a request must look like, and the one
//! table of status codes. What a request means is the hub's matter.

mod admin;
mod audit;
mod authenticate;
mod connection;
mod error;
mod flow;
mod frames;
mod head;
mod health;
mod http_sse;
mod limits;
mod listener;
mod metadata;
mod opening;
mod origin;
mod proxies;
mod request;
mod response;
mod stateless;
mod streamable;
mod stuck;
mod tls;
mod trace;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use axum::{Extension, Router};

pub use admin::Operating;
pub use connection::LINGER;
pub use listener::{ListenerConfig, serve};
pub use origin::{Hosts, Origins, Policy};
pub use proxies::{ForwardedHeader, Proxies};
pub use tls::Tls;

use crate::auth::{Authenticator, Identity};
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;

/// Who calls, and from where, as `authenticate` left it with the request.
#[derive(Debug, Clone)]
struct Known {
    identity: Identity,
    address: Option<IpAddr>,
}

type Who = Extension<Known>;

/// What answers requests, before any socket.
pub type Routes = Router;

/// What the client side is given; the keys of `docs/configuration.md` carry the same names.
#[derive(Debug, Clone)]
pub struct Config {
    pub policy: Policy,
    pub authenticator: Authenticator,
    pub body_bytes_max: usize,
    pub body_timeout: Duration,
    pub retry_after: Duration,
    /// The path of `public_url`, without a slash at its end: what an ingress puts before ours.
    pub prefix: String,
    /// Whether HTTP+SSE and GET streams are offered at all (`state: none` keeps no sessions).
    pub sessions: bool,
}

/// What every handler shares.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub hub: Hub,
    pub config: Arc<Config>,
    pub lifecycle: Lifecycle,
}

/// The client port: MCP for the default server and for each by name, and `/health`.
pub fn client_routes(hub: Hub, lifecycle: Lifecycle, config: Config) -> Router {
    let edge = Edge { hub, config: Arc::new(config), lifecycle };
    let mut routes = Router::new();
    for base in ["", "/servers/{name}"] {
        let mcp =
            || post(streamable::post).get(streamable::get).delete(streamable::delete).head(response::no_head);
        let sse = || get(http_sse::get).head(response::no_head);
        routes = routes
            .route(&format!("{base}/mcp"), mcp())
            .route(&format!("{base}/mcp/"), mcp())
            .route(&format!("{base}/sse"), sse())
            .route(&format!("{base}/sse/"), sse())
            .route(&format!("{base}/message"), post(http_sse::post))
            .route(&format!("{base}/message/"), post(http_sse::post));
    }
    let routes = routes.route_layer(from_fn_with_state(edge.clone(), limits::admit));
    // Of a route that is known, whose name is the span's; and of somebody who is: nobody else fills the collector, or
    // decides what is sampled.
    let routes = routes.route_layer(from_fn(trace::trace));
    let routes = routes.route_layer(from_fn_with_state(edge.clone(), authenticate::authenticate));
    let mut routes = routes
        .route("/health", get(health::health))
        .route(metadata::WELL_KNOWN, get(metadata::gateway))
        .route(&format!("{}/{{*path}}", metadata::WELL_KNOWN), get(metadata::resource));
    let prefix = edge.config.prefix.clone();
    // An ingress may strip the prefix or not: both work.
    if !prefix.is_empty() {
        routes = Router::new().merge(routes.clone()).nest(&prefix, routes);
    }
    let cors = edge.config.policy.cors();
    routes
        .method_not_allowed_fallback(response::method_not_allowed)
        .fallback(response::not_found)
        .layer(DefaultBodyLimit::disable())
        .layer(cors)
        .layer(from_fn_with_state(edge.clone(), origin::guard))
        .with_state(edge)
}

/// The operators' port of a node that waits for what is `awaited`: alive, not ready.
pub fn waiting_routes(awaited: &'static str) -> Router {
    let waiting = async move || health::waiting(awaited);
    Router::new().route("/livez", get(health::live)).route("/readyz", get(waiting))
}

/// The operators' port: liveness, readiness, metrics, all of which are open; and the API.
pub fn admin_routes(hub: Hub, lifecycle: Lifecycle, operating: Operating) -> Router {
    let offered = !matches!(operating, Operating::Nobody);
    let api = Router::new()
        .route("/api/sessions", get(admin::list))
        .route("/api/sessions/{id}", get(admin::show).delete(admin::end))
        .route("/api/sessions/{id}/close-streams", post(admin::close_streams))
        .route("/api/publish", post(admin::publish))
        .route("/api/nodes", get(admin::nodes))
        .layer(from_fn_with_state((hub.clone(), operating), admin::guard));
    Router::new()
        .merge(if offered { api } else { Router::new() })
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state((hub, lifecycle))
}
