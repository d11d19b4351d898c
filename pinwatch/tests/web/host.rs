//! `Host` on loopback addresses: names of pages from elsewhere are refused.

use super::authority::Authority;
use super::client::{Secure, send};
use super::server::{NAME, Server};

fn naming(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_read_by_giving_its_name_our_address() {
    let server = Server::called(&["metrics.example.com"]).await;
    let status = async |request: String| send(server.address, &request).await.status;
    for own in [
        "localhost",
        "127.0.0.1:10746",
        "[::1]",
        "Metrics.example.com:80",
    ] {
        assert_eq!(status(naming(own)).await, 200, "{own}");
    }
    for other in [
        "evil.example.com",
        "example.com:10746",
        "localhost.evil.com",
        "",
        "a b",
    ] {
        assert_eq!(status(naming(other)).await, 421, "{other}");
    }
    let both = naming("localhost").replace("\r\nConnection", "\r\nHost: evil.com\r\nConnection");
    assert_eq!(status(both).await, 421, "each name counts");
    let absolute = naming("localhost").replace("GET /", "GET http://evil.com/");
    assert_eq!(
        status(absolute).await,
        421,
        "a name in the request line counts"
    );
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n".to_owned()).await, 200);
}

#[tokio::test]
async fn with_tls_the_certificate_names_the_host() {
    let authority = Authority::new();
    let server = Server::with_tls(&authority, "").await;
    let client = Secure::new(&authority);
    let answer = client.ask(server.address, &naming(NAME)).await;
    assert_eq!(answer.expect("an answer").status, 200);
}
