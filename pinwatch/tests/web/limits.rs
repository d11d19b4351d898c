//! Limits on the resources that clients can take: time, headers, bodies, connections.

use std::time::Duration;

use pinwatch::web::serve::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{get, request, send};
use super::server::{LARGE, Server};

/// A short limit for tests that wait until it expires.
const SOON: Duration = Duration::from_millis(200);

/// Reads until the server closes the connection; returns everything read.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends the connection too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_request_is_disconnected() {
    let server = Server::plain(Limits {
        asking: SOON,
        ..Limits::DEFAULT
    })
    .await;
    for part in ["", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        stream.write_all(part.as_bytes()).await.expect("it reads");
        assert!(!rest(&mut stream).await.contains("200"), "{part:?}");
    }
}

#[tokio::test]
async fn too_large_requests_get_431_or_413() {
    let server = Server::plain(Limits::DEFAULT).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(Limits::DEFAULT.headers));
    assert_eq!(get(server.address, "/", &long).await.status, 431);
    // Each request has two more headers. The limit is 64.
    for (number, status) in [(62, 200), (63, 431)] {
        let many: String = (0..number).map(|n| format!("X-{n}: y\r\n")).collect();
        assert_eq!(get(server.address, "/", &many).await.status, status);
    }
    let fits = format!("X-Long: {}\r\n", "x".repeat(Limits::DEFAULT.headers / 2));
    assert_eq!(get(server.address, "/", &fits).await.status, 200);
    let body = request("/", "Content-Length: 5\r\n") + "hello";
    assert_eq!(send(server.address, &body).await.status, 413);
}

#[tokio::test]
async fn a_response_that_does_not_begin_becomes_503() {
    let server = Server::plain(Limits {
        answering: SOON,
        ..Limits::DEFAULT
    })
    .await;
    assert_eq!(get(server.address, "/never", "").await.status, 503);
}

#[tokio::test]
async fn a_client_that_does_not_read_the_response_is_disconnected() {
    let server = Server::plain(Limits {
        connections: 1,
        answering: SOON,
        ..Limits::DEFAULT
    })
    .await;
    for path in ["/large", "/events"] {
        let mut lazy = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        lazy.write_all(request(path, "").as_bytes())
            .await
            .expect("it reads");
        // There is one connection: this request is answered once the first has ended.
        assert_eq!(get(server.address, "/", "").await.status, 200, "{path}");
        assert!(rest(&mut lazy).await.len() < LARGE, "{path}");
    }
}

#[tokio::test]
async fn a_large_response_arrives_whole() {
    let server = Server::plain(Limits::DEFAULT).await;
    assert_eq!(get(server.address, "/large", "").await.body.len(), LARGE);
}

/// A keep-alive connection with one request sent.
async fn connect_and_ask(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).await;
    let mut stream = stream.expect("it listens");
    ask(&mut stream).await;
    stream
}

async fn ask(stream: &mut TcpStream) {
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
}

/// Reads one response and leaves the connection open.
async fn take(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let read = stream.read(&mut bytes).await.expect("it answers");
    assert!(bytes[..read].starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = Limits {
        connections: 2,
        ..Limits::DEFAULT
    };
    let server = Server::plain(limits).await;
    let (mut first, mut second) = (
        connect_and_ask(&server).await,
        connect_and_ask(&server).await,
    );
    take(&mut first).await;
    take(&mut second).await;
    let mut third = connect_and_ask(&server).await;
    // The server could have answered the third in any of these turns.
    for _ in 0..20 {
        ask(&mut first).await;
        take(&mut first).await;
    }
    assert!(
        third.try_read(&mut [0]).is_err(),
        "the third connection waits"
    );
    drop(second);
    take(&mut third).await;
}
