//! A balancer as simple as they come: each request goes to the next node that takes it, whoever it is
//! from. It says in a header which one that was, so that the story can tell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use http_body_util::Full;
use tokio::net::TcpListener;

use super::client::DemoError;
use crate::upstream::{HttpClient, HttpConfig};

/// Which node answered.
pub(super) const NODE: &str = "x-demo-node";

#[derive(Debug, Clone)]
struct Balancer {
    nodes: Arc<Vec<SocketAddr>>,
    turn: Arc<AtomicUsize>,
    client: HttpClient,
}

/// Serves until it is dropped.
///
/// # Errors
/// If no client can be built.
pub async fn balance(listener: TcpListener, nodes: Vec<SocketAddr>) -> Result<(), DemoError> {
    let config = HttpConfig {
        connect_timeout: Duration::from_secs(1),
        idle_connections_max: 64,
        idle_connection_timeout: Duration::from_secs(5),
    };
    let client = HttpClient::new(&config).map_err(|error| DemoError(error.to_string()))?;
    let balancer = Balancer { nodes: Arc::new(nodes), turn: Arc::default(), client };
    let routes = axum::Router::new().fallback(forward).with_state(balancer);
    axum::serve(listener, routes).await.map_err(|error| DemoError(error.to_string()))
}

async fn forward(
    State(balancer): State<Balancer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    for _ in 0..balancer.nodes.len() {
        let turn = balancer.turn.fetch_add(1, Ordering::Relaxed) % balancer.nodes.len();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request =
            Request::builder().method(method.clone()).uri(format!("http://{}{path}", balancer.nodes[turn]));
        if let Some(map) = request.headers_mut() {
            map.clone_from(&headers);
        }
        let Ok(request) = request.body(Full::new(body.clone())) else { break };
        // A node that is gone takes no connection: the next one is asked.
        if let Ok(response) = balancer.client.send(request).await {
            let mut response = response.map(Body::new);
            response.headers_mut().insert(NODE, HeaderValue::from(turn));
            return response;
        }
    }
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
