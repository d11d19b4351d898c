//! What a client can take of the daemon.

use std::time::Duration;

use pinwatch::web::serve::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{get, request, send};
use super::server::{LARGE, Server};

/// A limit that is waited for.
const SOON: Duration = Duration::from_millis(200);

/// Reads until the other side ends it; what was read.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset has ended too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn who_does_not_finish_asking_is_sent_away() {
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
async fn who_asks_for_too_much_is_told() {
    let server = Server::plain(Limits::DEFAULT).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(Limits::DEFAULT.headers));
    assert_eq!(get(server.address, "/", &long).await.status, 431);
    // With the two that every request here has.
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
async fn an_answer_that_does_not_begin_ends() {
    let server = Server::plain(Limits {
        answering: SOON,
        ..Limits::DEFAULT
    })
    .await;
    assert_eq!(get(server.address, "/never", "").await.status, 503);
}

#[tokio::test]
async fn who_does_not_take_the_answer_is_sent_away() {
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
        // There is one place: this is answered when the other's connection has ended.
        assert_eq!(get(server.address, "/", "").await.status, 200, "{path}");
        assert!(rest(&mut lazy).await.len() < LARGE, "{path}");
    }
}

#[tokio::test]
async fn a_large_answer_comes_whole() {
    let server = Server::plain(Limits::DEFAULT).await;
    assert_eq!(get(server.address, "/large", "").await.body.len(), LARGE);
}

/// A connection that stays, with an answer on its way.
async fn asked(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).await;
    let mut stream = stream.expect("it listens");
    ask(&mut stream).await;
    stream
}

async fn ask(stream: &mut TcpStream) {
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
}

/// Takes an answer, and leaves the connection open.
async fn take(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let read = stream.read(&mut bytes).await.expect("it answers");
    assert!(bytes[..read].starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn so_many_at_a_time() {
    let limits = Limits {
        connections: 2,
        ..Limits::DEFAULT
    };
    let server = Server::plain(limits).await;
    let (mut first, mut second) = (asked(&server).await, asked(&server).await);
    take(&mut first).await;
    take(&mut second).await;
    let mut third = asked(&server).await;
    // Turns of the server, any of which would have been the third's.
    for _ in 0..20 {
        ask(&mut first).await;
        take(&mut first).await;
    }
    assert!(third.try_read(&mut [0]).is_err(), "it waits");
    drop(second);
    take(&mut third).await;
}
