//! The room as a whole: files, variables and flags in, settings out. The texts of faults and what holds
//! for every key have files of their own.

mod cluster;
mod faults;
mod first;
mod properties;
mod shown;

use std::time::Duration;

use super::*;

/// Loads a file, with variables and flags beside it.
fn load_all(
    file: &[u8],
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str, &'static str)],
) -> Result<Config, Faults> {
    let variables = ours(variables.iter().map(|(name, value)| (name.into(), value.into())));
    let entries = flags.iter().map(|(path, value, flag)| (*path, (*value).to_owned(), *flag)).collect();
    load_document("holdfast.yaml", &Document::parse(file), &variables, Overrides { entries })
}

fn loaded(file: &str) -> Config {
    load_all(file.as_bytes(), &[], &[]).unwrap_or_else(|faults| panic!("{file}\n{faults}"))
}

#[test]
fn a_choice_of_off_survives_tools_that_read_yaml_1_1() {
    assert_eq!(loaded("audit: { to: false }"), loaded("audit: { to: off }"));
    assert_ne!(loaded("audit: { to: off }"), loaded(""));
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = loaded("");
    assert_eq!(config, load(None, std::iter::empty(), Overrides::default()).unwrap());
    assert_eq!(config, loaded("# nothing but a comment\n"));
    assert_eq!(config, loaded("---\nlimits:\nservers: {}\n"));
    assert_eq!(config, loaded("\u{feff}limits: ~\r\n"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:4444");
    assert_eq!(config.http.body_bytes_max, 4 << 20);
    assert_eq!(config.requests.timeout, Duration::from_secs(60));
    assert_eq!(config.streams.idle_timeout, None);
    assert_eq!(config.default_server, None);
}

#[test]
fn values_in_every_form() {
    let config = loaded(
        "{listen: 'localhost:0', streams: {keep_alive: no, idle_timeout: 1h30m, buffer_bytes_max: 65536},
          limits: {sessions_max: \"1_000\"}, http: {allowed_hosts: [MCP.example.com, '[::1]:4444']}}",
    );
    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
    assert!(!config.streams.keep_alive);
    assert_eq!(config.streams.idle_timeout, Some(Duration::from_secs(5400)));
    assert_eq!(config.streams.buffer_bytes_max, 65536);
    assert_eq!(config.limits.sessions_max, 1000);
    let hosts = ["mcp.example.com", "[::1]:4444"].map(str::to_owned).to_vec();
    assert_eq!(config.http.allowed_hosts, AllowedHosts::Only(hosts));
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    fn check(variables: &[(&str, &str)], flags: &[(&'static str, &str, &'static str)], expected: &str) {
        let config = load_all(b"listen: 127.0.0.1:1", variables, flags).unwrap();
        assert_eq!(config.listen.to_string(), expected);
    }
    let variable = [("HOLDFAST_LISTEN", "127.0.0.1:2")];
    let flag = [("listen", "127.0.0.1:3", "--listen")];
    check(&[], &[], "127.0.0.1:1");
    check(&variable, &[], "127.0.0.1:2");
    check(&variable, &flag, "127.0.0.1:3");
    check(&[("HOLDFAST_LISTEN", "")], &[], "127.0.0.1:1");
    check(&[("HOLDFAST_LISTEN", " 127.0.0.1:2 ")], &[], "127.0.0.1:2");
}

#[test]
fn servers_from_everywhere() {
    let file = "servers: {my-files: {upstream: 'http://files/mcp', era: legacy}}";
    let variables = [
        ("HOLDFAST_SERVERS_MY_FILES_ANSWERS", "json"),
        ("HOLDFAST_SERVERS_SEARCH_UPSTREAM", "http://search/mcp?key=hunter2"),
        ("HOLDFAST_HTTP_ALLOWED_ORIGINS", "https://a.example.com, https://b.example.com,"),
    ];
    let flags = [("servers.default.upstream", "http://default/mcp", "--upstream")];
    let config = load_all(file.as_bytes(), &variables, &flags).unwrap();
    assert_eq!(config.servers.keys().collect::<Vec<_>>(), ["default", "my-files", "search"]);
    assert_eq!(config.default_server.as_deref(), Some("default"));
    let files = &config.servers["my-files"];
    assert_eq!((files.era, files.answers), (Era::Legacy, Answers::Json));
    assert_eq!(config.servers["search"].upstream.reveal().query(), Some("key=hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let origins = ["https://a.example.com", "https://b.example.com"].map(str::to_owned).to_vec();
    assert_eq!(config.http.allowed_origins, AllowedOrigins::Only(origins));
}

#[test]
fn the_default_server() {
    fn check(file: &str, expected: Option<&str>) {
        assert_eq!(loaded(file).default_server.as_deref(), expected, "{file}");
    }
    check("servers: {a: {upstream: 'http://a'}}", Some("a"));
    check("servers: {a: {upstream: 'http://a'}, default: {upstream: 'http://b'}}", Some("default"));
    check("servers: {a: {upstream: 'http://a'}, b: {upstream: 'http://b'}}", None);
    check("servers: {a: {upstream: 'http://a'}, b: {upstream: 'http://b'}}\ndefault_server: b", Some("b"));
}

#[test]
fn the_file_is_named_by_argument_or_variable() {
    let directory = std::env::temp_dir().join(format!("holdfast-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("holdfast.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:1").unwrap();
    let variable = || std::iter::once(("HOLDFAST_CONFIG".into(), file.clone().into_os_string()));
    let missing = directory.join("missing.yaml");
    let listen = |config: Result<Config, Faults>| config.unwrap().listen.port();

    assert_eq!(listen(load(Some(&file), std::iter::empty(), Overrides::default())), 1);
    assert_eq!(listen(load(None, variable(), Overrides::default())), 1);
    let faults = load(Some(&missing), variable(), Overrides::default()).unwrap_err().to_string();
    let expected =
        format!("1 fault in the configuration:\n  configuration: {} can't be read: ", missing.display());
    assert!(faults.starts_with(&expected), "{faults}");
    assert!(load(Some(&directory), std::iter::empty(), Overrides::default()).is_err());
    std::fs::remove_dir_all(&directory).unwrap();
}
