//! An HTTP client that sends requests byte by byte, over TCP or TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Identity};
use super::server::NAME;

/// A response. `head` is in lower case.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A GET request that closes the connection after the response.
pub fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
}

/// The `Authorization` header for a user and a password.
pub fn basic(user: &str, password: &str) -> String {
    let coded = STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {coded}\r\n")
}

pub async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    send(address, &request(path, headers)).await
}

pub async fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("it answers");
    answer(&bytes)
}

fn answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).expect("a status");
    Answer {
        status: status.parse().expect("a number"),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// A TLS client that trusts one authority.
pub struct Secure {
    pub connector: TlsConnector,
}

impl Secure {
    pub fn new(trusted: &Authority) -> Self {
        Self::of(trusted, None, &[&TLS12, &TLS13])
    }

    pub fn as_client(trusted: &Authority, own: &Identity) -> Self {
        Self::of(trusted, Some(own), &[&TLS13])
    }

    pub fn of(
        trusted: &Authority,
        own: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(&trusted.certificate()))
            .expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known")
            .with_root_certificates(roots);
        let config = match own {
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
                let chain = vec![certificate(&own.certificate)];
                config.with_client_auth_cert(chain, key).expect("a pair")
            }
            None => config.with_no_client_auth(),
        };
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(NAME).expect("a name");
        self.connector.connect(name, stream).await
    }

    /// Fails if the handshake fails. With TLS 1.3 a client may learn that only when it reads.
    pub async fn get(&self, address: SocketAddr, path: &str, headers: &str) -> io::Result<Answer> {
        self.ask(address, &request(path, headers)).await
    }

    pub async fn ask(&self, address: SocketAddr, request: &str) -> io::Result<Answer> {
        let mut stream = self.connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(answer(&bytes))
    }
}
