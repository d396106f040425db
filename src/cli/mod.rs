//! The command line: what a person types, turned into what `app` runs. What the flags set, the
//! configuration file can set as well.

mod args;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::app::{self, Operation, Wish, complain, say};
use crate::config::{self, Config, Overrides};
use args::{Args, Command, SessionsCommand};

/// Of a token for development, unless asked otherwise.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    let args = Args::parse();
    match args.command {
        Command::Serve(options) => match load(&options) {
            Ok(config) => app::serve(config),
            Err(code) => code,
        },
        Command::CheckConfig(options) => match load(&options) {
            Ok(config) => {
                if let Err(fault) = app::check_certificates(&config) {
                    complain(&app::chain(&fault).to_string());
                    return ExitCode::from(2);
                }
                for warning in app::warnings(&config) {
                    complain(&format!("warning: {warning}"));
                }
                say(&format!(
                    "the configuration is good: {} server(s), listening on {}",
                    config.servers.len(),
                    config.listen
                ))
            }
            Err(code) => code,
        },
        Command::ConfigReference => say(config::reference().trim_end()),
        Command::Token(args::TokenOptions { name, admin, jwt }) => match jwt.issuer.clone() {
            Some(issuer) => mint(name, issuer, jwt),
            None => {
                let (token, digest) = app::mint_token();
                let section = if admin { "admin:" } else { "auth:\n  mode: tokens" };
                say(&format!("{token}\n\n{section}\n  tokens:\n    {name}:\n      sha256: {digest}"))
            }
        },
        Command::Sessions(args::SessionsOptions { command, filter, admin }) => {
            let operation = match command {
                None => Operation::List { filter: filter.pairs() },
                Some(SessionsCommand::Show { id }) => Operation::Show { id },
                Some(SessionsCommand::End { id }) => Operation::End { id },
                Some(SessionsCommand::CloseStreams { id }) => Operation::CloseStreams { id },
            };
            operate(admin, operation)
        }
        Command::Publish(args::PublishOptions { audience, method, params, admin }) => {
            let operation = Operation::Publish { audience: audience.json(), method, params };
            operate(admin, operation)
        }
        Command::Nodes(admin) => operate(admin, Operation::Nodes),
        Command::Demo(args::DemoOptions { once, listen, redis, nats }) => {
            app::demo(app::DemoOptions { listen, once, redis, nats })
        }
    }
}

fn operate(
    args::AdminOptions { admin, ca_file, token_file, json }: args::AdminOptions,
    operation: Operation,
) -> ExitCode {
    let token = match token_file.map(|file| config::token_of(&file)).transpose() {
        Ok(token) => token.or_else(config::admin_token),
        Err(error) => {
            complain(&format!("holdfast: --token-file can't be read: {error}"));
            return ExitCode::FAILURE;
        }
    };
    app::operate(app::Admin { url: admin, ca_file, token }, operation, json)
}

/// Prints the token and nothing else, for `$(…)`.
fn mint(name: String, issuer: String, jwt: args::JwtOptions) -> ExitCode {
    let config = config::load(jwt.config.as_deref(), config::environment(), Overrides::default());
    let config = match config {
        Ok(config) => config,
        Err(faults) => {
            complain(&faults.to_string());
            return ExitCode::from(2);
        }
    };
    let wish = Wish {
        issuer,
        key_file: jwt.key,
        key_id: jwt.key_id,
        subject: jwt.subject.unwrap_or(name),
        audiences: jwt.audience,
        scopes: jwt.scope,
        lifetime: jwt.expires_in.unwrap_or(LIFETIME),
    };
    match app::mint_jwt(&config, wish) {
        Ok(token) => say(&token),
        Err(error) => {
            complain(&format!("holdfast: {}", app::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Every fault at once, where the person looks.
fn load(options: &args::Options) -> Result<Config, ExitCode> {
    config::load(options.config.as_deref(), config::environment(), options.overrides()).map_err(|faults| {
        complain(&faults.to_string());
        ExitCode::from(2)
    })
}
