//! The flags, and what of the configuration they set.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::config::{Overrides, duration, is_name, is_scope};

/// A gateway for the Model Context Protocol that scales sideways.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve MCP in front of your servers.
    ///
    /// Shortest use: holdfast serve --upstream http://127.0.0.1:3001/mcp
    Serve(Options),
    /// Read the configuration as `serve` would, say every fault in it, and start nothing.
    CheckConfig(Options),
    /// Print the reference of all configuration keys (docs/configuration.md).
    ConfigReference,
    /// Make a token.
    ///
    /// A static one, for a client or an operator, with what the configuration has to know of it. With
    /// --issuer one for development instead: a JWT as that issuer would sign it. Who serves others lets
    /// their authorization server issue tokens.
    Token(TokenOptions),
    /// List, show and end sessions, through a node's admin API.
    Sessions(SessionsOptions),
    /// Give a notification to one session, to all of a server, or to all.
    ///
    /// Example: holdfast publish --all notifications/tools/list_changed
    Publish(PublishOptions),
    /// List the nodes that are alive.
    Nodes(AdminOptions),
    /// Show the main job: a small MCP server, the gateway, and clients whose streams break.
    Demo(DemoOptions),
}

/// A flag wins over an environment variable (HOLDFAST_…), that over the file, and that over the
/// default.
#[derive(Debug, ClapArgs)]
pub(super) struct Options {
    /// The configuration file, YAML (or the variable HOLDFAST_CONFIG).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:4444].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where operators connect: /livez, /readyz, /metrics [default: 127.0.0.1:4445].
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// Where sessions live: memory, none, or redis://… [default: memory].
    #[arg(long, value_name = "URL")]
    state: Option<String>,
    /// How nodes talk to each other: memory, or nats://… [default: memory].
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// The MCP server behind the gateway: a default server without a file.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
}

impl Options {
    pub(super) fn overrides(&self) -> Overrides {
        let flags = [
            ("listen", &self.listen, "--listen"),
            ("admin.listen", &self.admin_listen, "--admin-listen"),
            ("state", &self.state, "--state"),
            ("bus", &self.bus, "--bus"),
            ("servers.default.upstream", &self.upstream, "--upstream"),
        ];
        let given =
            flags.into_iter().filter_map(|(key, value, flag)| value.clone().map(|value| (key, value, flag)));
        Overrides { entries: given.collect() }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct DemoOptions {
    /// End after the story instead of staying up for your own client.
    #[arg(long)]
    pub once: bool,
    /// Where clients connect; with --once, any free port.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Keep sessions in this Redis instead of the process's memory.
    #[arg(long, value_name = "URL", requires = "nats")]
    pub redis: Option<String>,
    /// Speak between nodes over this NATS instead of the process's memory.
    #[arg(long, value_name = "URL", requires = "redis")]
    pub nats: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct TokenOptions {
    /// Who is to hold it: a-z, 0-9, `_` and `-`.
    #[arg(value_name = "NAME", default_value = "me", value_parser = name)]
    pub name: String,
    /// For the admin API (`admin.tokens`), instead of a client (`auth.tokens`).
    #[arg(long, conflicts_with = "issuer")]
    pub admin: bool,
    #[command(flatten)]
    pub jwt: JwtOptions,
}

/// What a token for development says.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "For development")]
pub(super) struct JwtOptions {
    /// Sign a JWT as this one of `auth.issuers`, with its secret, or with --key if it has none; with --key also as any other, by its `iss`.
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// The configuration file (or the variable HOLDFAST_CONFIG).
    #[arg(long, value_name = "FILE", requires = "issuer")]
    pub config: Option<PathBuf>,
    /// Sign with this private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    pub key: Option<PathBuf>,
    /// What that key is called where it is published.
    #[arg(long, value_name = "ID", requires = "key")]
    pub key_id: Option<String>,
    /// Whose it is [default: NAME].
    #[arg(long, value_name = "WHO", requires = "issuer")]
    pub subject: Option<String>,
    /// What it is for; may be repeated [default: the issuer's first audience, or public_url].
    #[arg(long, value_name = "URL", requires = "issuer", value_parser = audience)]
    pub audience: Vec<String>,
    /// What it allows; may be repeated, or several in one.
    #[arg(long, value_name = "SCOPE", requires = "issuer", value_parser = scopes)]
    pub scope: Vec<String>,
    /// For how long it is good, up to 365d [default: 1h].
    #[arg(long, value_name = "DURATION", requires = "issuer", value_parser = lifetime)]
    pub expires_in: Option<Duration>,
}

fn audience(text: &str) -> Result<String, &'static str> {
    let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible { Ok(text.to_owned()) } else { Err("wanted: a URL or a name, in visible ASCII") }
}

fn scopes(text: &str) -> Result<String, &'static str> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let fit = !words.is_empty() && words.iter().all(|word| is_scope(word));
    if fit { Ok(words.join(" ")) } else { Err("wanted: visible ASCII without `\"`, `\\` and `=`") }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let lifetime = duration(text)?;
    if (Duration::from_secs(1)..=YEAR).contains(&lifetime) {
        Ok(lifetime)
    } else {
        Err("wanted: 1s to 365d".into())
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    let valid = is_name(text).then(|| text.to_owned());
    valid.ok_or("wanted: a-z, 0-9, `_` and `-`, beginning with a letter or digit, 63 characters at most")
}

/// Whom to ask.
#[derive(Debug, ClapArgs)]
pub(super) struct AdminOptions {
    /// The admin listener of any node.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4445", global = true)]
    pub admin: String,
    /// Trust the PEM certificates of this file instead of the system's, for an https:// URL.
    #[arg(long, value_name = "FILE", global = true)]
    pub ca_file: Option<PathBuf>,
    /// The file with the token that it asks for (or the variable HOLDFAST_ADMIN_TOKEN).
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct SessionsOptions {
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
    #[command(flatten)]
    pub filter: FilterOptions,
    #[command(flatten)]
    pub admin: AdminOptions,
}

/// Which sessions are listed.
#[derive(Debug, ClapArgs)]
pub(super) struct FilterOptions {
    /// Only those of this server.
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Only those of this principal.
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// Only those whose client declared this capability, such as elicitation.
    #[arg(long, value_name = "NAME")]
    pub capability: Option<String>,
    /// Those after this id.
    #[arg(long, value_name = "ID")]
    pub after: Option<String>,
    /// At most so many, up to 1000.
    #[arg(long, value_name = "COUNT", default_value = "100")]
    pub limit: String,
}

impl FilterOptions {
    pub(super) fn pairs(self) -> Vec<(&'static str, String)> {
        let Self { server, owner, capability, after, limit } = self;
        let named = [
            ("server", server),
            ("owner", owner),
            ("capability", capability),
            ("after", after),
            ("limit", Some(limit)),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// Show one: its streams, who holds them, what runs.
    Show { id: String },
    /// End one; its upstream is told.
    End { id: String },
    /// Close its open streams; the client comes back for what it missed.
    CloseStreams { id: String },
}

#[derive(Debug, ClapArgs)]
pub(super) struct PublishOptions {
    #[command(flatten)]
    pub audience: AudienceOptions,
    /// The notification's method, such as notifications/tools/list_changed.
    pub method: String,
    /// Its params, a JSON object.
    #[arg(value_parser = object)]
    pub params: Option<serde_json::Value>,
    #[command(flatten)]
    pub admin: AdminOptions,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(super) struct AudienceOptions {
    /// To this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// To all sessions of this server.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// To all sessions.
    #[arg(long)]
    all: bool,
}

impl AudienceOptions {
    pub(super) fn json(&self) -> serde_json::Value {
        match (&self.session, &self.server) {
            (Some(id), _) => serde_json::json!({ "session": id }),
            (_, Some(name)) => serde_json::json!({ "server": name }),
            (None, None) => serde_json::json!({ "all": self.all }),
        }
    }
}

fn object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ serde_json::Value::Object(_)) => Ok(value),
        Ok(_) => Err("not a JSON object".into()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}
