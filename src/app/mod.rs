//! The only room that knows everything: builds the pieces, joins them, and ends them in order.

mod demo;
mod descriptors;
mod gateway;
mod metered;
mod minting;
mod operate;
mod servers;
mod settings;
mod shared;
mod tls;
mod warnings;

use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

pub use crate::auth::mint as mint_token;
pub use crate::lifecycle::{complain, say};
pub use crate::telemetry::chain;
pub use demo::{DemoOptions, demo};
pub use gateway::{Gateway, Listeners, StartError, Surroundings};
pub use minting::{Unmintable, Wish, mint_jwt};
pub use operate::{Admin, Operation, operate};
pub use shared::{Shared, Unusable};
pub use tls::check_certificates;
pub use warnings::warnings;

use crate::config::Config;
use crate::lifecycle::{Ending, Hangups, shutdown_requested};
use crate::telemetry::{self, Traces};

/// For the spans that are not exported yet when everything else has ended.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// `holdfast serve`: runs until SIGTERM or SIGINT. Exits with 0 if everything could end in order, 1 if
/// it could not start, 3 if the end had to be forced.
#[must_use]
pub fn serve(config: Config) -> ExitCode {
    run(async move {
        let traces = match settings::traces(&config).as_ref().map(Traces::start).transpose() {
            Ok(traces) => traces,
            Err(error) => return fail("spans can't be exported", &error),
        };
        if let Err(error) = telemetry::init_logging(&settings::logging(&config), traces.as_ref()) {
            return fail("telemetry.log_filter can't be read", &error);
        }
        let code = serve_until_told(config).await;
        if let Some(traces) = traces {
            traces.finish(LAST_SPANS).await;
        }
        code
    })
}

async fn serve_until_told(config: Config) -> ExitCode {
    descriptors::raise(&config);
    for warning in warnings(&config) {
        tracing::warn!("{warning}");
    }
    // What the clients of the backends take, where nobody gives them one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let signal = match shutdown_requested() {
        Ok(signal) => signal,
        Err(error) => return fail("signals can't be heard", &error),
    };
    // A node without anything to look at again is asked to as well, and goes on.
    let _hangups = Hangups::heard();
    let listeners = match Listeners::bind(config.listen, config.admin.listen).await {
        Ok(listeners) => listeners,
        Err(error) => return fail("a listener can't be opened", &error),
    };
    let mut signal = pin!(signal);
    let waiting = match listeners.answer_probes(&config) {
        Ok(waiting) => waiting,
        Err(error) => return fail("a listener can't be used", &error),
    };
    let shared = tokio::select! {
        shared = Shared::connect(&config) => shared,
        name = &mut signal => {
            tracing::info!(signal = name, "told to end before the backends were there");
            return ExitCode::SUCCESS;
        }
    };
    waiting.end().await;
    let shared = match shared {
        Ok(shared) => shared,
        Err(error) => return fail("the gateway can't start", &error),
    };
    let gateway = match Gateway::start(&config, listeners, shared) {
        Ok(gateway) => gateway,
        Err(error) => return fail("the gateway can't start", &error),
    };
    let name = signal.await;
    tracing::info!(signal = name, "told to end");
    match gateway.stop().await {
        Ending::Clean => {
            tracing::info!(ending = "clean", "ended");
            ExitCode::SUCCESS
        }
        Ending::Forced { left } => {
            tracing::warn!(ending = "forced", tasks_left = left, "ended");
            ExitCode::from(3)
        }
    }
}

/// On a runtime of its own, until `work` is done.
fn run(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_background();
            code
        }
        Err(error) => fail("no runtime can be started", &error),
    }
}

/// A person waits for the reason, whatever the log's format.
fn fail(what: &str, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    complain(&format!("holdfast: {what}: {}", chain(error)));
    ExitCode::FAILURE
}
