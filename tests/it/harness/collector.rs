//! A collector of spans, which takes them over OTLP in both of its protocols and keeps them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::net::TcpListener;

use crate::peers::free_port;

/// A span, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Its process: `service.instance.id`.
    pub node: String,
    pub service: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: &'static str,
    pub attributes: BTreeMap<String, String>,
    /// The ids of the spans that it names beside its parent.
    pub links: Vec<String>,
    pub failed: bool,
    /// Unix nanoseconds.
    pub began: u64,
    pub ended: u64,
}

impl Seen {
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

#[derive(Clone)]
pub(crate) struct Collector {
    /// Where it takes `http/protobuf`.
    pub http: String,
    pub grpc: String,
    spans: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = free_port();
        let spans = Arc::default();
        let http = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { http, grpc: format!("http://127.0.0.1:{grpc}"), spans };
        let routes = Router::new().route("/v1/traces", post(over_http)).with_state(collector.clone());
        let service = TraceServiceServer::new(collector.clone());
        let over_grpc = tonic::transport::Server::builder().add_service(service);
        #[expect(clippy::disallowed_methods, reason = "they end with the test's runtime")]
        {
            tokio::spawn(async move { axum::serve(listener, routes).await });
            tokio::spawn(over_grpc.serve(format!("127.0.0.1:{grpc}").parse().unwrap()));
        }
        collector
    }

    /// What the nodes need to know of it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.http.clone()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ]
    }

    /// The spans of a trace, once `enough` says so.
    pub(crate) async fn trace(&self, trace: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        for _ in 0..200 {
            let spans = self.spans.lock().unwrap().clone();
            let own: Vec<_> = spans.into_iter().filter(|span| span.trace == trace).collect();
            if enough(&own) {
                return own;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("of the trace {trace} there are only {:#?}", self.spans.lock().unwrap());
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.spans.lock().unwrap().clone()
    }

    fn take(&self, request: ExportTraceServiceRequest) {
        let mut spans = self.spans.lock().unwrap();
        for resource in request.resource_spans {
            let of = resource.resource.map(|resource| attributes(&resource.attributes)).unwrap_or_default();
            let own = |key: &str| of.get(key).cloned().unwrap_or_default();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Seen {
                    node: own("service.instance.id"),
                    service: own("service.name"),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    kind: ["", "internal", "server", "client", "producer", "consumer"][span.kind as usize],
                    attributes: attributes(&span.attributes),
                    links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
                    failed: span.status.is_some_and(|status| status.code == 2),
                    began: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    name: span.name,
                });
            }
        }
    }
}

async fn over_http(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) => {
            collector.take(request);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.take(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}
