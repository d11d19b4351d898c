//! Limits on the resources that clients can take: time, headers, bodies, connections.

use std::time::Duration;

use pinwatch::web::limits::Limits;
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
    for part in ["", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
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
        answers: 1,
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
        // One answer at a time: others get 503 until the first has ended.
        while get(server.address, "/", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
        assert!(rest(&mut lazy).await.len() < LARGE, "{path}");
    }
}

#[tokio::test]
async fn a_large_response_arrives_whole() {
    let server = Server::plain(Limits::DEFAULT).await;
    assert_eq!(get(server.address, "/large", "").await.body.len(), LARGE);
}
