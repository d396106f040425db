//! Where spans go: over OTLP to a collector, as the standard `OTEL_*` variables say. Which spans there are stands in
//! `spans`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;

use super::labels::{Label as _, SpanEnd};

/// How spans get to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `http/protobuf`
    Http,
    Grpc,
}

/// What is traced, and told to whom, beside what the library reads from the environment itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub protocol: Protocol,
    /// For one export (`OTEL_EXPORTER_OTLP_TIMEOUT`).
    pub timeout: Duration,
    /// `service.instance.id`, unless the environment has one.
    pub instance: String,
}

/// Why spans can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("TLS can't be used")]
    Tls(#[from] rustls::Error),
    #[error("the exporter can't be built")]
    Exporter(#[from] ExporterBuildError),
}

/// A process's spans on their way to the collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to export, in batches, from a thread of its own; what the collector does not take in time is
    /// dropped. Within the runtime that is to carry the connection.
    ///
    /// # Errors
    /// [`TracesError`].
    pub fn start(config: &Config) -> Result<Self, TracesError> {
        let exporter = match config.protocol {
            Protocol::Grpc => {
                // Of use to `https://` only.
                let tls = ClientTlsConfig::new().with_enabled_roots();
                SpanExporter::builder().with_tonic().with_tls_config(tls).build()?
            }
            Protocol::Http => {
                let client = HyperClient::new(
                    https()?.https_or_http().enable_http1().enable_http2().build(),
                    config.timeout,
                    None,
                );
                let client = OnRuntime { client, runtime: Handle::current() };
                SpanExporter::builder().with_http().with_http_client(client).build()?
            }
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(&config.instance))
            .with_batch_exporter(Counted(exporter))
            .build();
        Ok(Self { provider })
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("holdfast")
    }

    /// Exports what is left, for at most `patience`: a collector that swallows everything keeps nobody.
    pub async fn finish(self, patience: Duration) {
        let finished = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(patience));
        if let Ok(Err(error)) = finished.await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// What became of this process's spans, in the order of [`SpanEnd`].
static ENDED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

pub(super) fn spans(end: SpanEnd) -> u64 {
    ENDED[end.index()].load(Ordering::Relaxed)
}

/// Counts what becomes of spans.
#[derive(Debug)]
struct Counted(SpanExporter);

impl opentelemetry_sdk::trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let exported = self.0.export(batch).await;
        let end = if exported.is_ok() { SpanEnd::Exported } else { SpanEnd::Failed };
        ENDED[end.index()].fetch_add(count, Ordering::Relaxed);
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Without any roots only collectors behind TLS are out of reach.
fn https() -> Result<HttpsConnectorBuilder<WantsSchemes>, TracesError> {
    HttpsConnectorBuilder::new().with_native_roots().or_else(|_| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Ok(HttpsConnectorBuilder::new().with_tls_config(tls))
    })
}

/// What the environment says of this service, and what it leaves open.
fn resource(instance: &str) -> Resource {
    let given = Resource::builder().build();
    let has = |key: &'static str| {
        given.get(&key.into()).is_some_and(|value| !value.as_str().starts_with("unknown_service"))
    };
    let own = [
        ("service.name", "holdfast"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", instance),
    ];
    let own = own.into_iter().filter(|(key, _)| !has(key));
    Resource::builder().with_attributes(own.map(|(key, value)| KeyValue::new(key, value.to_owned()))).build()
}

/// The exporter's thread has no runtime, and the client needs one.
#[derive(Debug)]
struct OnRuntime {
    client: HyperClient<HttpsConnector<HttpConnector>>,
    runtime: Handle,
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for OnRuntime {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Sent<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
        Box::pin(async move { sent.await? })
    }
}
