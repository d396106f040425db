//! Clients that are slow on purpose, or send without end, over HTTP/1.1, HTTP/2 and TLS: they are cut
//! off, others are served meanwhile, and memory stays bounded (P8).

use std::path::Path;
use std::time::Duration;

use rustls::version::TLS13;
use serde_json::json as value;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::connections::{field, floods, frame, http2_head, http2_start};
use super::hostile::{MIB, costs};
use super::wire::{process, secure};
use crate::harness::{Certificates, Client, Gateway, Hand, Socket, Upstream, call, json, step, wait_until};

async fn plain() -> Upstream {
    Upstream::start(|asked| json(asked, &value!({ "ok": true }))).await
}

/// Others are served, at once.
async fn serves(client: &Client) {
    let reply = timeout(Duration::from_secs(5), client.posted(&call(1))).await;
    assert_eq!(reply.expect("at once").status, 200);
}

/// Writes piece by piece until the connection ends; says how long it took.
async fn drips(mut socket: Socket, piece: &[u8]) -> Duration {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        if timeout(Duration::from_millis(50), socket.read_to_end()).await.is_ok()
            || socket.write(piece).await.is_err()
        {
            break;
        }
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_what_begins_over_http2_has_to_end_in_time() {
    let upstream = plain().await;
    let (certificates, gateway, url) = secure(&upstream.url, &[("http.header_timeout", "500ms")]).await;
    let tls = certificates.connector(&["h2"]);
    let mut honest = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    honest.initialize("2025-11-25").await;
    let begun = |rest: Vec<u8>| [http2_start(), rest].concat();
    let half = &http2_head("GET", "/health", &[])[..20];
    let announced = [0, 0x40, 0, 1, 4, 0, 0, 0, 1];
    let attacks: [(&str, Vec<u8>, &[u8]); 6] = [
        ("only a preface", http2_start()[..24].to_vec(), b""),
        ("a head without its end", begun(frame(1, 0, 1, half)), b""),
        ("empty pieces of a head", begun(frame(1, 0, 1, half)), &frame(9, 0, 1, b"")),
        ("a head byte by byte", begun(announced.to_vec()), b"\0"),
        ("half of a frame's head", begun(announced[..4].to_vec()), b""),
        ("settings byte by byte", begun(vec![0, 0x40, 0, 4, 0, 0, 0, 0, 0]), b"\0"),
    ];
    for (name, start, piece) in &attacks {
        let took = drips(Socket::secure(&url, &tls, start).await, piece).await;
        assert!(took < Duration::from_secs(3), "{name}: {took:?}");
        serves(&honest).await;
    }
    // Those that break a rule on their way are ended by h2; the others by the time limit.
    let late = gateway.metric("holdfast_limit_hits_total{limit=\"http.header_timeout\"}");
    assert!(late >= Some(4.0), "{late:?}");
    // Who is done with a head may be silent for longer than it takes.
    let mut idle = Socket::secure(&url, &tls, &http2_start()).await;
    sleep(Duration::from_millis(1200)).await;
    idle.write(&frame(1, 5, 1, &http2_head("GET", "/health", &[]))).await.unwrap();
    let answered = |read: &[u8]| kinds(read).contains(&(1, 1));
    assert!(answered(idle.read_until(answered).await));
}

/// Kind and stream of each frame.
fn kinds(mut read: &[u8]) -> Vec<(u8, u32)> {
    let mut kinds = Vec::new();
    while let [high, middle, low, kind, _, a, b, c, d, rest @ ..] = read {
        kinds.push((*kind, u32::from_be_bytes([*a, *b, *c, *d])));
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        read = rest.get(length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_floods_over_http2_and_tls_end_their_connection_and_nobody_elses() {
    let upstream = plain().await;
    let (certificates, gateway, url) = secure(&upstream.url, &[]).await;
    let tls = certificates.connector(&["h2"]);
    let mut honest = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    honest.initialize("2025-11-25").await;
    for (name, flood) in floods(honest.session.as_deref().unwrap()) {
        let mut socket = Socket::secure(&url, &tls, &[http2_start(), flood].concat()).await;
        let _ = timeout(Duration::from_millis(300), socket.read_to_end()).await;
        println!("{name}");
        serves(&honest).await;
    }
    wait_until("their connections are gone", || gateway.metric("holdfast_connections") <= Some(2.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_slow_bodies_get_408_over_http2_and_tls() {
    let upstream = plain().await;
    let (certificates, gateway, url) = secure(&upstream.url, &[("http.body_timeout", "400ms")]).await;
    let mut honest = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    honest.initialize("2025-11-25").await;
    let session = honest.session.clone().unwrap();
    let headers = [("accept", "*/*"), ("content-type", "application/json"), ("mcp-session-id", &*session)];
    let post = [http2_start(), frame(1, 4, 1, &http2_head("POST", "/mcp", &headers)), frame(0, 0, 1, b"{")];
    let mut slow = Socket::secure(&url, &certificates.connector(&["h2"]), &post.concat()).await;
    let began = Instant::now();
    let answered = |read: &[u8]| kinds(read).contains(&(1, 1));
    assert!(answered(slow.read_until(answered).await), "an answer, not an end");
    assert!(began.elapsed() < Duration::from_secs(3));
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: 1000\r\n\r\n";
    let dripping = Socket::secure(&url, &certificates.connector(&["http/1.1"]), head.as_bytes()).await;
    assert!(drips(dripping, b" ").await < Duration::from_secs(3));
    assert_eq!(gateway.metric("holdfast_requests_refused_total{status=\"408\"}"), Some(2.0));
    serves(&honest).await;
}

/// A number in HPACK, after a prefix of seven bits.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![0x7f];
    number -= 127;
    while number >= 128 {
        bytes.push(u8::try_from(number % 128).unwrap() | 0x80);
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// A head of 16 KiB that means 48 MiB: a long field, which is put into the table, and named again and again.
fn bomb() -> Vec<u8> {
    let mut head = http2_head("GET", "/health", &[]);
    head.extend([0x40, 1, b'x']);
    head.extend(number(4000));
    head.extend([b'y'; 4000]);
    head.resize(16_000, 0x80 | 62);
    head
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_gigabytes_and_bombs_cost_what_the_bounds_say() {
    let upstream = plain().await;
    let certificates = Certificates::new();
    let process = process(&certificates, &upstream.url);
    let url = process.url().replace("http://", "https://");
    let mut honest = Client::trusting(&url, certificates.client(&[&TLS13]), true);
    honest.initialize("2025-11-25").await;
    let session = honest.session.clone().unwrap();
    let head = |length: &str| {
        format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nMcp-Session-Id: {session}\r\n{length}\r\n\r\n"
        )
    };
    let piece = vec![b' '; 1 << 20];
    let chunk = [format!("{:x}\r\n", piece.len()).into_bytes(), piece.clone(), b"\r\n".to_vec()].concat();
    let headers = [("accept", "*/*"), ("content-type", "application/json"), ("mcp-session-id", &*session)];
    let post = [http2_start(), frame(1, 4, 1, &http2_head("POST", "/mcp", &headers))].concat();
    let mut one = Socket::secure(
        &url,
        &certificates.connector(&["h2"]),
        &[http2_start(), frame(1, 5, 1, &bomb())].concat(),
    )
    .await;
    let goodbye = one.read_until(|read| kinds(read).contains(&(7, 0))).await;
    assert!(kinds(goodbye).contains(&(7, 0)) && !kinds(goodbye).contains(&(1, 1)), "{goodbye:?}");
    let bombs: Vec<u8> = (0..200).flat_map(|number| frame(1, 5, number * 2 + 1, &bomb())).collect();
    let (http1, http2) = (certificates.connector(&["http/1.1"]), certificates.connector(&["h2"]));
    let attacks: [(&str, &TlsConnector, Vec<u8>, Vec<u8>); 4] = [
        ("a length of 1 GiB", &http1, head("Content-Length: 1073741824").into_bytes(), piece),
        ("1 GiB in chunks", &http1, head("Transfer-Encoding: chunked").into_bytes(), chunk),
        ("data beyond the window", &http2, post, frame(0, 0, 1, &[b' '; 16_000]).repeat(64)),
        ("heads that grow", &http2, http2_start(), bombs),
    ];
    let cost = costs(&process, async {
        for (name, tls, start, piece) in &attacks {
            let sending = async {
                let mut sent = 0;
                let mut socket = Socket::secure(&url, tls, start).await;
                while sent < 1 << 30 && socket.write(piece).await.is_ok() {
                    sent += piece.len();
                }
                sent
            };
            let (sent, ()) = futures::join!(timeout(Duration::from_secs(20), sending), serves(&honest));
            println!("{name}: {} MiB were sent", sent.expect("it is cut off") as u64 / MIB);
            serves(&honest).await;
        }
        let large = "x".repeat(6 << 20);
        let reply = honest.ask("POST", "/mcp", &headers, &large).await;
        assert_eq!(reply.status, 413);
    })
    .await;
    println!("they cost {} MiB at their peak", cost / MIB);
    assert!(cost < 128 * MIB, "{} MiB", cost / MIB);
}

/// In the ways that a connection can be left half open.
async fn half_open(url: &str, tls: bool, certificates: &Certificates, count: usize) -> Vec<Socket> {
    let plain = url.replace("https://", "http://");
    let (http1, http2) = (certificates.connector(&["http/1.1"]), certificates.connector(&["h2"]));
    let mut open = Vec::new();
    for number in 0..count {
        let head = b"POST /mcp HTTP/1.1\r\nHost: loc".as_slice();
        let http2_half = [http2_start(), frame(1, 0, 1, &field("x", "y"))].concat();
        open.push(match (number % 4, tls) {
            (0, _) => Socket::send(&plain, b"").await,
            (1, true) => Socket::send(&plain, b"\x16\x03\x01\x02\x00\x01\x00").await,
            (1, false) => Socket::send(&plain, b"PRI * HT").await,
            (2, true) => Socket::secure(url, &http1, head).await,
            (2, false) => Socket::send(&plain, head).await,
            (_, true) => Socket::secure(url, &http2, &http2_half).await,
            (_, false) => Socket::send(&plain, &http2_half).await,
        });
    }
    open
}

async fn stays_up_under(count: usize) {
    let upstream = plain().await;
    for tls in [false, true] {
        let certificates = Certificates::new();
        let config = certificates.file("holdfast.yaml");
        let files = ["certificate.pem", "key.pem"].map(|name| certificates.path(name));
        let tls_files = format!("tls: {{ certificate_file: {}, key_file: {} }}, ", files[0], files[1]);
        // Long enough that all of them are there at once.
        let text = format!(
            "http: {{ {}header_timeout: 120s }}\nservers: {{ default: {{ upstream: '{}' }} }}\n",
            if tls { &*tls_files } else { "" },
            upstream.url
        );
        std::fs::write(&config, text).unwrap();
        let process = crate::peers::process::holdfast(&["--config", Path::to_str(&config).unwrap()]);
        let url = if tls { process.url().replace("http://", "https://") } else { process.url() };
        let mut honest = Client::trusting(&url, certificates.client(&[&TLS13]), true);
        honest.initialize("2025-11-25").await;
        let cost = costs(&process, async {
            let open = half_open(&url, tls, &certificates, count).await;
            let began = Instant::now();
            for _ in 0..10 {
                serves(&honest).await;
            }
            println!("ten calls among {count} half-open connections took {:?}", began.elapsed());
            drop(open);
        })
        .await;
        println!("{count} half-open connections (TLS: {tls}) cost {} KiB", cost >> 10);
        assert!(cost < count as u64 * (48 << 10), "{} KiB each", (cost >> 10) / count as u64);
        serves(&honest).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p8_two_thousand_half_open_connections_cost_little_and_hold_up_nobody() {
    stays_up_under(2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 10,000 descriptors in each of two processes, and a minute"]
async fn p8_ten_thousand_half_open_connections_cost_little_and_hold_up_nobody() {
    stays_up_under(10_000).await;
}

#[tokio::test]
async fn p8_an_http2_stream_of_which_nothing_is_taken_ends_and_its_neighbor_lives() {
    let hand = Hand::start().await;
    let settings = [("http.write_timeout", "500ms")];
    let gateway = Gateway::start(&hand.upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let session = client.session.clone().unwrap();
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", &*session)];
    let get = frame(1, 5, 1, &http2_head("GET", "/mcp", &headers));
    // A client that never makes room: the window of each stream is ten bytes.
    let narrow = frame(4, 0, 0, &[0, 4, 0, 0, 0, 10]);
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), narrow, get].concat();
    let mut socket = Socket::send(&gateway.url, &start).await;
    let server = hand.take("GET").await;
    for number in 0..10 {
        server.say(&step(number)).await;
    }
    wait_until("the stuck stream is closed", || {
        gateway.metric("holdfast_streams{kind=\"get\"}") == Some(0.0)
    })
    .await;
    assert_eq!(gateway.metric("holdfast_limit_hits_total{limit=\"http.write_timeout\"}"), Some(1.0));
    socket.read_until(|read| kinds(read).contains(&(3, 1))).await;
    socket.write(&frame(1, 5, 3, &http2_head("GET", "/health", &[]))).await.unwrap();
    let answered = |read: &[u8]| kinds(read).contains(&(1, 3));
    assert!(answered(socket.read_until(answered).await), "the connection lives on");
}

#[tokio::test]
async fn p8_an_http2_connection_on_which_nothing_is_asked_is_told_to_go() {
    let hand = Hand::start().await;
    let settings = [("http.idle_timeout", "600ms"), ("http.write_timeout", "500ms")];
    let gateway = Gateway::start(&hand.upstream.url, &settings).await;
    let mut client = gateway.client();
    client.initialize("2025-11-25").await;
    let session = client.session.clone().unwrap();
    let mut socket = Socket::send(&gateway.url, &http2_start()).await;
    let health = http2_head("GET", "/health", &[]);
    for number in 0..3 {
        sleep(Duration::from_millis(400)).await;
        let stream = number * 2 + 1;
        socket.write(&frame(1, 5, stream, &health)).await.unwrap();
        let answered = |read: &[u8]| kinds(read).contains(&(1, stream));
        assert!(answered(socket.read_until(answered).await), "it is in use");
    }
    let headers = [("accept", "text/event-stream"), ("mcp-session-id", &*session)];
    let get = [http2_start(), frame(1, 5, 1, &http2_head("GET", "/mcp", &headers))].concat();
    let mut listening = Socket::send(&gateway.url, &get).await;
    let began = Instant::now();
    assert!(kinds(socket.read_until(|read| kinds(read).contains(&(7, 0))).await).contains(&(7, 0)));
    socket.read_to_end().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let server = hand.take("GET").await;
    sleep(Duration::from_millis(1500)).await;
    server.say(&step(1)).await;
    let heard = listening.read_until(|read| kinds(read).iter().filter(|kind| **kind == (0, 1)).count() >= 2);
    assert!(!kinds(heard.await).contains(&(7, 0)), "an open stream is in use");
}
