//! Clients that take what they can: connections without a request, slow or endless requests, responses that
//! nobody reads. A scrape is answered all the same, within a second.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pinwatch::web::limits::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use super::client::{basic, get, request};
use super::server::Server;

/// Longest time until a scrape is answered.
const PROMPT: Duration = Duration::from_secs(1);
/// A request without its end.
const PART: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

/// Asserts that a scrape is answered at once.
async fn scrape(server: &Server) {
    let answer = timeout(PROMPT, get(server.address, "/", ""));
    assert_eq!(answer.await.expect("within a second").status, 200);
}

/// Opens a connection, and sends `part`.
async fn open(server: &Server, part: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    // A server that has closed the connection does not read.
    let _ = stream.write_all(part.as_bytes()).await;
    stream
}

/// Everything that the server sends until it closes the connection, within `limit`.
async fn rest(stream: &mut TcpStream, limit: Duration) -> String {
    let mut bytes = Vec::new();
    // A reset ends the connection too.
    let read = timeout(limit, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn idle_connections_give_way() {
    for part in ["", PART] {
        let server = Server::plain(Limits::DEFAULT).await;
        let many = 2 * Limits::DEFAULT.connections;
        let mut idle = Vec::new();
        for _ in 0..many {
            idle.push(open(&server, part).await);
        }
        scrape(&server).await;
        // The oldest gave way to the scrape, or to one of the others.
        assert_eq!(rest(&mut idle[0], PROMPT).await, "");
    }
}

#[tokio::test]
async fn a_request_of_one_byte_after_another_ends() {
    let limits = Limits::DEFAULT;
    let server = Server::plain(limits).await;
    let mut slow = open(&server, PART).await;
    let (mut from, mut to) = slow.split();
    let drip = async {
        let mut tick = interval(limits.headers_within / 8);
        loop {
            tick.tick().await;
            let _ = to.write_all(b"x").await;
        }
    };
    let mut answer = Vec::new();
    let closed = timeout(4 * limits.headers_within, from.read_to_end(&mut answer));
    tokio::select! {
        closed = closed => assert!(closed.is_ok(), "the server closes the connection"),
        () = drip => unreachable!("it has no end"),
    }
    assert!(!String::from_utf8_lossy(&answer).contains("200"));
}

#[tokio::test]
async fn between_requests_a_connection_may_be_idle_for_longer() {
    let limits = Limits {
        headers_within: Duration::from_millis(50),
        ..Limits::DEFAULT
    };
    let server = Server::plain(limits).await;
    let mut stream = open(&server, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.expect("an answer");
    tokio::time::sleep(3 * limits.headers_within).await;
    let last = request("/", "");
    stream.write_all(last.as_bytes()).await.expect("open");
    let answers = rest(&mut stream, PROMPT).await;
    assert_eq!(answers.matches("200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn a_half_closed_connection_ends() {
    let server = Server::plain(Limits::DEFAULT).await;
    let whole = request("/", "");
    for part in ["", PART, &whole] {
        let mut half = open(&server, part).await;
        half.shutdown().await.expect("open");
        rest(&mut half, PROMPT).await;
    }
    scrape(&server).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::plain(Limits::DEFAULT).await;
    let one = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = open(&server, &(one.repeat(199) + &request("/", ""))).await;
    let answers = rest(&mut stream, PROMPT).await;
    let numbers: Vec<_> = answers
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .map(|answer| answer.rsplit("\r\n\r\n").next().expect("a body"))
        .collect();
    let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn simultaneous_scrapes_are_all_answered() {
    let server = Server::plain(Limits::DEFAULT).await;
    let started = Instant::now();
    join_all((0..50).map(|_| scrape(&server))).await;
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn abandoned_responses_free_their_place() {
    let limits = Limits {
        answers: 4,
        ..Limits::DEFAULT
    };
    let server = Server::plain(limits).await;
    for _ in 0..2 * limits.answers {
        let mut stream = open(&server, &request("/large", "")).await;
        assert!(stream.read(&mut [0; 1024]).await.expect("it answers") > 0);
    }
    scrape(&server).await;
}

#[tokio::test]
async fn responses_that_nobody_reads_leave_place_for_others() {
    let limits = Limits {
        answers: 6,
        answers_per_address: 4,
        ..Limits::DEFAULT
    };
    let server = Server::plain(limits).await;
    let mut lazy = Vec::new();
    for _ in 0..limits.answers_per_address {
        let mut stream = open(&server, &request("/large", "")).await;
        assert!(stream.read(&mut [0; 1]).await.expect("it answers") > 0);
        lazy.push(stream);
    }
    let answer = timeout(PROMPT, get(server.address, "/", "")).await;
    let answer = answer.expect("within a second");
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    drop(lazy.pop());
    // The server notices that when it writes.
    let freed = async { while get(server.address, "/", "").await.status != 200 {} };
    timeout(PROMPT, freed).await.expect("a place is free");
}

#[tokio::test]
async fn a_flood_of_passwords_delays_nobody_whose_password_is_known() {
    let hash = bcrypt::hash("wonder", 8).expect("a hash");
    let server = Server::with(&format!("basic_auth_users:\n  alice: {hash}\n")).await;
    let right = basic("alice", "wonder");
    assert_eq!(get(server.address, "/", &right).await.status, 200);
    let started = Instant::now();
    let refused = get(server.address, "/", &basic("alice", "x")).await;
    let one = started.elapsed();
    assert_eq!(refused.status, 401);
    let wrong = basic("eve", "x");
    let started = Instant::now();
    let flood = join_all((0..50).map(|_| get(server.address, "/", &wrong)));
    let known = async {
        tokio::task::yield_now().await;
        timeout(PROMPT, get(server.address, "/", &right)).await
    };
    let (flood, known) = tokio::join!(flood, known);
    assert_eq!(known.expect("within a second").status, 200);
    let of = |status| {
        flood
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!(of(401) + of(503), 50);
    // Eight have a place. On a slow machine one is free again before all requests have come.
    assert!(of(503) > 25, "{} were checked", of(401));
    assert!(started.elapsed() < 20 * one, "few of them are checked");
}

/// Set in the process that measures: other tests allocate too.
const ALONE: &str = "PINWATCH_TEST_ALONE";
/// Bytes for all connections, as in docs/web.md.
const MEMORY: usize = 16 << 20;

#[test]
fn memory_for_connections_is_bounded() {
    if std::env::var_os(ALONE).is_none() {
        let test = std::env::current_exe().expect("it runs");
        let name = "hostile::memory_for_connections_is_bounded";
        let alone = Command::new(test)
            .args(["--exact", name])
            .env(ALONE, "1")
            .output();
        let alone = alone.expect("it runs");
        assert!(alone.status.success(), "{alone:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let server = Server::plain(Limits::DEFAULT).await;
        scrape(&server).await;
        let before = resident();
        let long = format!("{PART}{}", "x".repeat(Limits::DEFAULT.headers - 100));
        let mut open_ones = Vec::new();
        for _ in 0..2 * Limits::DEFAULT.connections {
            open_ones.push(open(&server, &long).await);
        }
        scrape(&server).await;
        let taken = resident().saturating_sub(before);
        assert!(taken < MEMORY, "{taken} bytes");
        assert!(taken > 1 << 20, "it was measured: {taken} bytes");
    });
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages = statm.split(' ').nth(1).expect("a field");
    pages.parse::<usize>().expect("a number") * 4096
}
