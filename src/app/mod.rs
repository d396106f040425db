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

use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;

pub use crate::auth::mint as mint_token;
pub use crate::telemetry::chain;
pub use demo::{DemoOptions, demo};
pub use gateway::{Gateway, Listeners, StartError, Surroundings};
pub use minting::{Unmintable, Wish, mint_jwt};
pub use operate::{Admin, Operation, operate};
pub use shared::{Shared, Unusable};
pub use tls::check_certificates;

use crate::config::{AuthMode, Config};
use crate::lifecycle::{Ending, shutdown_requested};
use crate::telemetry;

/// `holdfast serve`: runs until SIGTERM or SIGINT. Exits with 0 if everything could end in order, 1 if
/// it could not start, 3 if the end had to be forced.
#[must_use]
pub fn serve(config: Config) -> ExitCode {
    if let Err(error) = telemetry::init_logging(&settings::logging(&config)) {
        return fail("telemetry.log_filter can't be read", &error);
    }
    descriptors::raise(&config);
    if config.auth.mode == AuthMode::None && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "nobody has to log in, and other machines can reach this (auth.insecure)");
    }
    let admin = &config.admin;
    if !admin.tokens.is_empty() && !admin.listen.ip().is_loopback() && admin.tls.is_none() {
        tracing::warn!(admin = %admin.listen, "operators' tokens come unencrypted from other machines (admin.tls)");
    }
    // What the clients of the backends take, where nobody gives them one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(async move {
        let signal = match shutdown_requested() {
            Ok(signal) => signal,
            Err(error) => return fail("signals can't be heard", &error),
        };
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
    })
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

#[expect(clippy::print_stderr, reason = "a person waits for the reason, whatever the log's format")]
fn fail(what: &str, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("holdfast: {what}: {}", chain(error));
    ExitCode::FAILURE
}
