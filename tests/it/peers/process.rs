//! Child processes of the tests: started on free ports, read line by line, bounded in time, and
//! killed when dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

const START: Duration = Duration::from_secs(120);

/// A program that runs beside the test.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    url: std::cell::OnceCell<String>,
    admin: std::cell::OnceCell<String>,
}

/// What a program that ended had to say.
pub(crate) struct Output {
    pub success: bool,
    pub text: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        // Its stdin stays open as long as we live: some of them end with it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (send, lines) = channel();
        for stream in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let send = send.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // Nobody listens once the test is over; the pipe has to be read all the same.
                    let _ = send.send(line);
                }
            });
        }
        Self { child, lines, url: std::cell::OnceCell::new(), admin: std::cell::OnceCell::new() }
    }

    /// The rest of the first line that has `start`.
    pub(crate) fn line_after(&self, start: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(START) {
                Ok(line) => match line.split_once(start) {
                    Some((_, rest)) => return rest.trim().to_owned(),
                    None => seen.push(line),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {start:?}; there was:\n{}", seen.join("\n"))
                }
            }
        }
    }

    /// What it has said since, once it has ended.
    pub(crate) fn rest(&self) -> String {
        self.lines.iter().map(|line| line + "\n").collect()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// Asks it to end, and waits: its exit code. One that takes longer than `limit` has failed.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Option<i32> {
        self.signal("-TERM");
        self.end(limit)
    }

    /// Waits for its end: its exit code.
    pub(crate) fn end(&mut self, limit: Duration) -> Option<i32> {
        let until = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < until {
            if let Some(status) = self.ended() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end within {limit:?}");
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Prints what it says from now on, as `shown` has each line.
    pub(crate) fn echo(&mut self, shown: impl Fn(&str) -> String + Send + 'static) {
        let lines = std::mem::replace(&mut self.lines, channel().1);
        thread::spawn(move || {
            for line in lines {
                println!("{}", shown(&line));
            }
        });
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        memory_of(self.id()).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.url.get().cloned().unwrap()
    }

    /// Where a gateway's operators look.
    pub(crate) fn admin(&self) -> String {
        self.admin.get().cloned().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The resident memory of a process that runs, in bytes.
pub(crate) fn memory_of(process: u32) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    pages.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// Runs a program to its end; one that takes longer than `limit` is killed and has failed.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Output {
    let mut process = Process::start(command);
    let until = tokio::time::Instant::now() + limit;
    let mut text = String::new();
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        match process.lines.recv_timeout(left) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                text.push_str(&format!("… and took longer than {limit:?}\n"));
                return Output { success: false, text };
            }
        }
    }
    Output { success: process.child.wait().is_ok_and(|status| status.success()), text }
}

/// `holdfast serve` on free ports.
pub(crate) fn holdfast(arguments: &[&str]) -> Process {
    holdfast_under(roomy(built().join("holdfast")), arguments)
}

/// The same at these ports, with the variables of `environment`.
pub(crate) fn holdfast_at(environment: &Command, listen: u16, admin: u16) -> Process {
    let mut command = roomy(built().join("holdfast"));
    for (name, value) in environment.get_envs() {
        command.env(name, value.unwrap());
    }
    let [listen, admin] = [listen, admin].map(|port| format!("127.0.0.1:{port}"));
    command.args(["serve", "--listen", &listen, "--admin-listen", &admin]);
    serving(command)
}

/// The same as `command`, which runs the binary under conditions of its own.
pub(crate) fn holdfast_under(mut command: Command, arguments: &[&str]) -> Process {
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).args(arguments);
    serving(command)
}

fn serving(mut command: Command) -> Process {
    command.env("HOLDFAST_TELEMETRY_LOG_FORMAT", "json");
    let process = Process::start(&mut command);
    let rest = process.line_after(r#""listen":""#);
    let (address, rest) = rest.split_once(r#"","admin":""#).unwrap();
    process.url.set(format!("http://{address}")).unwrap();
    process.admin.set(format!("http://{}", rest.split('"').next().unwrap())).unwrap();
    process
}

/// The dual-era server of tests/fixture.
pub(crate) fn fixture(arguments: &[&str]) -> Process {
    let mut command = Command::new(example("fixture"));
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    let process = Process::start(&mut command);
    let url = process.line_after("listening on ");
    process.url.set(url).unwrap();
    process
}

/// A program with as many descriptors as it may have.
pub(crate) fn roomy(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n "$(ulimit -H -n)"; exec "$0" "$@""#]).arg(program);
    command
}

/// A server script that stays up.
pub(crate) fn node(package: &str, arguments: &[&str]) -> Process {
    Process::start(&mut script(package, arguments))
}

/// A script of a Node package below tests/.
pub(crate) fn script(package: &str, arguments: &[&str]) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(package);
    assert!(folder.join("node_modules").is_dir(), "tests/{package} is not installed: use `make test`");
    let mut command = Command::new("node");
    command.current_dir(folder).args(arguments);
    command
}

/// A port that nobody else gets: not another test, which has another; not a connection, which takes higher ones.
/// The one that lies 10,000 above is as free: nodes of a Redis Cluster talk to each other there.
pub(crate) fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..20_000;
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(PORTS)));
    let next = |port| Some(if port + 1 < PORTS.end { port + 1 } else { PORTS.start });
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap())
        .take(PORTS.len())
        .find(|port| free(port) && free(&(port + 10_000)))
        .expect("two ports are free")
}

/// Cargo builds examples beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    built().join("examples").join(name)
}

/// What `make install` put beside what cargo builds.
pub(crate) fn tool(path: &str) -> PathBuf {
    built().parent().unwrap().join("tools").join(path)
}

/// Where cargo puts binaries; tests and examples lie one folder below.
pub(crate) fn built() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().to_owned()
}
