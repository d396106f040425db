//! Each block of commands is run here as it stands, but for addresses and times, or by the test that is named, or
//! docs/testing.md says that it was never run.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{documents, root};
use crate::harness::summed;
use crate::peers::MACHINE;
use crate::peers::process::{Process, built, example, fixture, free_port, roomy, run};
use crate::servers::{Folder, Nats, Redis};

/// What shows that commands work.
enum By {
    /// A test of this name.
    Test(&'static str),
    /// They are CI's own, or longer runs of it.
    Ci,
    /// They were never run, for want of this.
    Never(&'static str),
}

const README: &str = "README.md";
const START: &str = "docs/getting-started.md";
const OVER: &str = "docs/moving-over.md";
const RUNBOOKS: &str = "docs/runbooks/README.md";
const OPERATING: &str = "docs/operating.md";
const SECURITY: &str = "docs/security.md";
const DEPLOYING: &str = "docs/deploying.md";

const DEMO: By = By::Test("the_demo_keeps_its_promises");
const ONE: By = By::Test("one_node_before_a_server");
const TWO: By = By::Test("two_nodes_by_hand");
const TOKEN: By = By::Test("who_has_no_token_is_refused");
const THREE: By = By::Test("three_nodes_of_which_one_is_killed_and_one_leaves_and_all_are_replaced");

/// A line of each block, and what shows that the block works.
const BLOCKS: [(&str, &str, By); 38] = [
    (README, "cargo run --release -- demo", DEMO),
    (README, "cargo install", ONE),
    (README, "check-config", By::Test("both_servers_of_the_readme")),
    (README, "holdfast nodes", TWO),
    (README, "make test", By::Ci),
    (START, "cargo run --release -- demo", DEMO),
    (START, "cargo install", ONE),
    (START, "curl -s http://127.0.0.1:4444/mcp", ONE),
    (START, "/readyz     #", ONE),
    (START, "check-config", ONE),
    (START, "make cluster", THREE),
    (START, "session=$(mcp", THREE),
    (START, "holdfast sessions show", THREE),
    (START, "kill -9", THREE),
    (START, "Last-Event-ID", THREE),
    (START, "cargo build", THREE),
    (START, "--state redis:", TWO),
    (OVER, "for id in", THREE),
    (RUNBOOKS, "holdfast nodes", TWO),
    (RUNBOOKS, "holdfast_store_operations_total", TWO),
    (RUNBOOKS, "kubectl debug", By::Never("kubectl debug")),
    (SECURITY, "holdfast token me", TOKEN),
    (SECURITY, "ask() {", TOKEN),
    ("docs/connecting.md", "claude mcp add", By::Never("claude mcp add")),
    (OPERATING, "sed -i", By::Test("links_to_runbooks_lead_where_one_says")),
    (
        "docs/tracing.md",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        By::Test("a_message_names_its_own_parent_and_the_request_around_it_is_linked"),
    ),
    (DEPLOYING, "check-config", By::Test("test_a_configuration_is_checked_as_the_manual_says")),
    (DEPLOYING, "cluster::kubelet", By::Ci),
    (DEPLOYING, "docker build", By::Never("a container engine")),
    (DEPLOYING, "helm install", By::Never("a Kubernetes cluster")),
    (DEPLOYING, "--reuse-values", By::Never("a Kubernetes cluster")),
    (DEPLOYING, "upgrade --install", By::Never("a Kubernetes cluster")),
    (DEPLOYING, "generic tryout", By::Never("a Kubernetes cluster")),
    (DEPLOYING, "generic holdfast-backends", By::Never("a Kubernetes cluster")),
    (DEPLOYING, "kubectl port-forward", By::Never("a Kubernetes cluster")),
    ("docs/deploying-without-kubernetes.md", "docker compose", By::Never("a container engine")),
    ("docs/deploying-without-kubernetes.md", "systemctl", By::Never("systemd as its first process")),
    ("helm/holdfast/README.md", "helm install", By::Never("a Kubernetes cluster")),
];

/// The fenced blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let fenced = text.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned())).collect()
}

/// The only one of its commands with these words.
fn block(page: &str, words: &str) -> String {
    let mut found: Vec<_> = blocks(page, "sh").into_iter().filter(|block| block.contains(words)).collect();
    assert_eq!(found.len(), 1, "{page}: {words}");
    found.remove(0)
}

/// Where a user types: what was built is at hand, and addresses and times of the manual are those of a test.
struct Shell {
    folder: Folder,
    replaced: Vec<(String, String)>,
}

impl Shell {
    fn new(replaced: &[(&str, &str)]) -> Self {
        let own = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
        Self { folder: Folder::new(), replaced: replaced.iter().map(own).collect() }
    }

    fn script(&self, text: &str) -> Command {
        // What runs here was built, and is as new as it gets.
        let lines = text.lines().filter(|line| !line.starts_with("cargo ") && !line.starts_with("git "));
        let mut text = lines.collect::<Vec<_>>().join("\n");
        for (from, to) in &self.replaced {
            text = text.replace(from, to);
        }
        let mut bash = roomy("bash");
        bash.arg("-e").arg(self.folder.write(&format!("{}.sh", uuid::Uuid::new_v4()), &text));
        let path = std::env::var_os("PATH").unwrap();
        let path = [built()].into_iter().chain(std::env::split_paths(&path));
        bash.current_dir(self.folder.path()).env("PATH", std::env::join_paths(path).unwrap());
        bash.env("HOLDFAST_TELEMETRY_LOG_FORMAT", "json");
        bash
    }

    /// What they print; they must not fail.
    fn run(&self, text: &str) -> String {
        let done = run(&mut self.script(text), Duration::from_secs(120));
        assert!(done.success, "{text}\n{}", done.text);
        done.text
    }

    /// Commands of which the last is a node, which is ready when this returns.
    fn serve(&self, text: &str) -> Process {
        let node = Process::start(&mut self.script(&text.replace("holdfast serve", "exec holdfast serve")));
        let admin = node.line_after(r#""admin":""#);
        let (admin, _) = admin.split_once('"').unwrap();
        self.run(&format!("until curl -sf http://{admin}/readyz; do sleep 0.1; done"));
        node
    }
}

#[test]
fn every_block_of_commands_was_run_or_is_said_not_to_have_been() {
    let (tests, manual) = (sources(), fs::read_to_string(root().join("docs/testing.md")).unwrap());
    for (page, words, by) in &BLOCKS {
        block(page, words);
        match by {
            By::Test(name) => {
                assert!(
                    tests.contains(&format!("fn {name}(")) || tests.contains(&format!("def {name}(")),
                    "{name}"
                );
            }
            By::Never(want) => {
                let (_, never) = manual.split_once("## Never run").unwrap();
                assert!(never.contains(want), "{want}");
            }
            By::Ci => {}
        }
    }
    for page in documents() {
        let page = page.to_str().unwrap();
        for block in blocks(page, "sh") {
            let known = BLOCKS.iter().any(|(known, words, _)| *known == page && block.contains(words));
            assert!(known, "{page}: say in BLOCKS what runs this:\n{block}");
        }
    }
}

/// All tests, in Rust and Python.
fn sources() -> String {
    let mut folders = vec![root().join("tests/it"), root().join("tests/helm")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs" || extension == "py") {
                text.push_str(&fs::read_to_string(path).unwrap());
            } else if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            }
        }
    }
    text
}

/// The page's configuration file, in a shell for one node, whose ports are free ones.
fn one_node(server: &str) -> (Shell, String, String) {
    let [url, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let flags = format!("holdfast serve --listen {url} --admin-listen {admin}");
    let shell = Shell::new(&[
        ("http://127.0.0.1:3001/mcp", server),
        ("http://127.0.0.1:3002/mcp", server),
        ("127.0.0.1:4444", &url),
        ("127.0.0.1:4445", &admin),
        ("holdfast serve", &flags),
    ]);
    (shell, format!("http://{url}"), format!("http://{admin}"))
}

#[test]
fn one_node_before_a_server() {
    let server = fixture(&[]);
    let (shell, ..) = one_node(&server.url());
    let looks = || {
        let answer = shell.run(&block(START, "curl -s http://127.0.0.1:4444/mcp"));
        assert!(answer.contains(r#""serverInfo""#), "{answer}");
        let operators = shell.run(&block(START, "/readyz     #"));
        assert!(
            operators.contains("ready") && summed(&operators, "holdfast_ready") == Some(1.0),
            "{operators}"
        );
    };
    let node = shell.serve(&block(START, "cargo install"));
    looks();
    drop(node);
    let [file] = blocks(START, "yaml").try_into().unwrap();
    fs::write(
        shell.folder.path().join("holdfast.yaml"),
        file.replace("http://127.0.0.1:3001/mcp", &server.url()),
    )
    .unwrap();
    let _node = shell.serve(&block(START, "check-config"));
    looks();
}

#[test]
fn both_servers_of_the_readme() {
    let server = fixture(&[]);
    let (shell, url, _) = one_node(&server.url());
    let file = blocks(README, "yaml").remove(0).replace(":3001", ":3002");
    shell.folder.write("holdfast.yaml", &file.replace("http://127.0.0.1:3002/mcp", &server.url()));
    let _node = shell.serve(&block(README, "check-config"));
    let ask = block(START, "curl -s http://127.0.0.1:4444/mcp");
    for path in ["/mcp", "/servers/files/mcp", "/servers/search/mcp"] {
        let answer = shell.run(&ask.replace("http://127.0.0.1:4444/mcp", &format!("{url}{path}")));
        assert!(answer.contains(r#""serverInfo""#), "{path}: {answer}");
    }
}

#[test]
fn two_nodes_by_hand() {
    let (server, redis, nats) = (fixture(&[]), Redis::start(), Nats::start());
    let ports = [(); 4].map(|()| format!("127.0.0.1:{}", free_port()));
    let operate = |what: &str| format!("holdfast {what} --admin http://{}", ports[1]);
    let first = format!("holdfast serve --listen {} --admin-listen {} --upstream", ports[0], ports[1]);
    let shell = Shell::new(&[
        ("http://127.0.0.1:3001/mcp", &server.url()),
        ("redis://127.0.0.1:6379", &redis.url()),
        ("nats://127.0.0.1:4222", &nats.url()),
        ("127.0.0.1:4454", &ports[2]),
        ("127.0.0.1:4455", &ports[3]),
        ("127.0.0.1:4445", &ports[1]),
        ("holdfast serve --upstream", &first),
        ("holdfast nodes", &operate("nodes")),
        ("holdfast sessions", &operate("sessions")),
    ]);
    let _first = shell.serve(&block(START, "--state redis:"));
    let by_hand = block(README, "holdfast nodes");
    let second = by_hand.find("holdfast serve --listen").unwrap();
    let (second, operators) = by_hand[second..].split_once("\n\n").unwrap();
    let _second = shell.serve(second);
    let ask = block(START, "curl -s http://127.0.0.1:4444/mcp").replace("127.0.0.1:4444", &ports[2]);
    shell.run(&ask);
    for operators in [operators, &block(RUNBOOKS, "holdfast nodes")] {
        let said = shell.run(operators);
        assert_eq!(said.matches("  0.1.0  ").count(), 2, "both nodes: {said}");
        assert_eq!(said.matches("streamable_http").count(), 1, "one session: {said}");
    }
    let failed = shell.run(&block(RUNBOOKS, "holdfast_store_operations_total"));
    assert!(failed.lines().all(|line| line.ends_with(" 0")), "{failed}");
}

#[test]
fn who_has_no_token_is_refused() {
    let server = fixture(&[]);
    let (shell, ..) = one_node(&server.url());
    let [file] = blocks(START, "yaml").try_into().unwrap();
    shell.folder.write("holdfast.yaml", &file.replace("http://127.0.0.1:3001/mcp", &server.url()));
    let _node = shell.serve(&block(SECURITY, "holdfast token me"));
    let answers = shell.run(&block(SECURITY, "ask() {"));
    assert!(answers.contains("401\n") && answers.contains(r#""serverInfo""#), "{answers}");
}

#[test]
fn links_to_runbooks_lead_where_one_says() {
    let shell = Shell::new(&[]);
    shell.run(&format!("cp -r '{}' .", root().join("deploy").display()));
    shell.run(&block(OPERATING, "sed -i"));
    let links = shell.run("cat deploy/prometheus/alerts.yaml deploy/grafana/*.json deploy/grafana/panels.py");
    assert!(
        links.contains("https://wiki.example.com/holdfast/runbooks") && !links.contains("holdfast.example")
    );
}

/// What `make cluster` starts; it ends its own processes if it is asked to.
struct Made(Process);

impl Drop for Made {
    fn drop(&mut self) {
        self.0.signal("-INT");
        self.0.end(Duration::from_secs(20));
    }
}

#[test]
fn three_nodes_of_which_one_is_killed_and_one_leaves_and_all_are_replaced() {
    let _shared = MACHINE.blocking_read();
    let made = Made(Process::start(&mut roomy(example("cluster"))));
    let clients = made.0.line_after("clients ").trim_end_matches("/mcp").to_owned();
    let admins = [(); 3].map(|()| {
        let line = made.0.line_after("operators ");
        line.split(' ').next().unwrap().trim_start_matches("http://").to_owned()
    });
    let port = |node: usize| admins[node].rsplit(':').next().unwrap();
    let operate = |what: &str| format!("holdfast {what} --admin http://{}", admins[0]);
    let shell = Shell::new(&[
        ("http://127.0.0.1:4444", &clients),
        ("https://mcp.example.com/servers/files/mcp", &format!("{clients}/mcp")),
        (r#""interval_ms":1000"#, r#""interval_ms":300"#),
        ("in 4445 4455 4465;", &format!("in {} {} {};", port(0), port(1), port(2))),
        ("holdfast nodes", &operate("nodes")),
        ("holdfast sessions", &operate("sessions")),
    ]);

    let spread = shell.run(&block(OVER, "for id in"));
    assert_eq!(spread.split_whitespace().collect::<Vec<_>>(), ["200"; 8]);
    let lists = admins.iter().filter(|admin| {
        let page = shell.run(&format!("curl -s http://{admin}/metrics"));
        summed(&page, r#"holdfast_exchanges_ended_total{method="tools/list"}"#) > Some(0.0)
    });
    assert!(lists.count() > 1, "requests of a session go to several nodes");

    let (calls, kill) = (block(START, "session=$(mcp"), block(START, "kill -9"));
    for kill in [kill.clone(), kill.replace("kill -9", "kill")] {
        shell.folder.write("call", "");
        let mut calling = Process::start(&mut shell.script(&calls));
        let call = || fs::read_to_string(shell.folder.path().join("call")).unwrap();
        until("the call runs", || steps(&call()).len() >= 3);
        let shown = shell.run(&block(START, "holdfast sessions show"));
        assert_eq!(shown.matches("  0.1.0  ").count(), 3, "{shown}");
        let held = shown.split("\nSTREAM ").nth(1).unwrap().lines().nth(1).unwrap();
        let holder = (0..3).find(|node| held.contains(&format!(" n{node}-"))).unwrap();
        shell.run(&kill.replace("4445", port(holder)));
        calling.end(Duration::from_secs(20));
        let before = call();
        assert!(!before.contains("Done after"), "it broke off: {before}");
        let resume = block(START, "Last-Event-ID");
        let mcp = calls.lines().next().unwrap();
        let rest = shell.run(&format!("session=$(cat session)\n{mcp}\n{resume}"));
        assert_eq!([steps(&before), steps(&rest)].concat(), (1..=30).collect::<Vec<_>>());
        assert!(rest.contains("Done after 30 steps."), "{rest}");
        made.0.line_after(&format!("n{holder} is there again"));
    }

    let after = shell.run(&block(START, "cargo build"));
    assert_eq!(after.matches("  0.1.0  ").count(), 3, "{after}");
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..500 {
        if reached() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within 10 s: {what}");
}

/// The steps whose progress is told, in order.
fn steps(stream: &str) -> Vec<u32> {
    let told = stream.split(r#""progress":"#).skip(1);
    told.map(|rest| rest.split('.').next().unwrap().parse().unwrap()).collect()
}
