//! TLS: versions, certificates of servers and clients, and their reload.

use std::io;
use std::sync::Arc;

use pinwatch::web::reload::Current;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Identity};
use super::client::{Answer, Secure, get};
use super::server::{NAME, Server, TLS, folder};

fn is_ok(answer: &io::Result<Answer>) -> bool {
    matches!(answer, Ok(answer) if answer.status == 200)
}

#[tokio::test]
async fn only_tls_clients_that_trust_the_authority_get_an_answer() {
    let authority = Authority::new();
    let server = Server::with_tls(&authority, "").await;
    let ours = Secure::new(&authority);
    assert!(is_ok(&ours.get(server.address, "/", "").await));
    let foreign = Secure::new(&Authority::new());
    assert!(foreign.get(server.address, "/", "").await.is_err());
    let plain = tokio::spawn(get(server.address, "/", "")).await;
    assert!(plain.is_err(), "plain HTTP gets no answer");
    assert!(is_ok(&ours.get(server.address, "/", "").await));
}

#[tokio::test]
async fn min_and_max_version_limit_tls() {
    let authority = Authority::new();
    for (config, old, new) in [
        ("", true, true),
        ("  min_version: TLS13\n", false, true),
        ("  max_version: TLS12\n", true, false),
    ] {
        let server = Server::with_tls(&authority, config).await;
        for (version, works) in [(&TLS12, old), (&TLS13, new)] {
            let client = Secure::of(&authority, None, &[version]);
            let answer = client.get(server.address, "/", "").await;
            assert_eq!(is_ok(&answer), works, "{config:?} {version:?}");
        }
    }
}

#[tokio::test]
async fn client_certificates_are_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    let known = Secure::as_client(&authority, &authority.identity("prometheus"));
    let stranger = Secure::as_client(&authority, &other.identity("prometheus"));
    let nobody = Secure::new(&authority);
    for (kind, without) in [
        ("RequireAndVerifyClientCert", false),
        ("VerifyClientCertIfGiven", true),
    ] {
        let config = format!("  client_ca_file: ca.crt\n  client_auth_type: {kind}\n");
        let server = Server::with_tls(&authority, &config).await;
        assert!(is_ok(&known.get(server.address, "/", "").await), "{kind}");
        assert!(
            stranger.get(server.address, "/", "").await.is_err(),
            "{kind}"
        );
        assert_eq!(
            is_ok(&nobody.get(server.address, "/", "").await),
            without,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let (authority, next) = (Authority::new(), Authority::new());
    let server = Server::with_tls(&authority, "").await;
    let leaf = |stream: TlsStream<_>| stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    let (ours, theirs) = (Secure::new(&authority), Secure::new(&next));
    let before = leaf(ours.connect(server.address).await.expect("trusted"));
    assert_eq!(
        leaf(ours.connect(server.address).await.expect("trusted")),
        before
    );

    let Identity { certificate, key } = next.identity(NAME);
    server.replace("server.crt", &certificate);
    let between = ours.connect(server.address).await;
    assert_eq!(
        leaf(between.expect("the old pair is kept until both are new")),
        before
    );
    assert_eq!(server.current.succeeded().get(), 0);
    server.replace("server.key", &key);
    assert!(is_ok(&theirs.get(server.address, "/", "").await));
    assert_eq!(server.current.succeeded().get(), 1);
    assert!(ours.connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_reload_cannot_switch_tls_off() {
    let authority = Authority::new();
    let server = Server::with_tls(&authority, "").await;
    let ours = Secure::new(&authority);
    assert!(is_ok(&ours.get(server.address, "/", "").await));
    server.replace("web.yml", "");
    assert!(is_ok(&ours.get(server.address, "/", "").await));
    assert_eq!(server.current.succeeded().get(), 0);
}

#[tokio::test]
async fn a_truncated_file_never_ends_the_checks_of_tls() {
    let authority = Authority::new();
    let clients = "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n";
    let server = Server::with_tls(&authority, clients).await;
    for name in ["server.crt", "server.key", "ca.crt", "web.yml"] {
        let whole = server.read(name);
        let before = server.current.get();
        // The third cut of web.yml is before the settings of clients.
        let third = if name == "web.yml" { TLS.len() } else { 1 };
        for cut in [0, whole.len() / 2, third] {
            server.replace(name, &whole[..cut]);
            let now = server.current.get();
            assert!(Arc::ptr_eq(&before, &now), "{name}: {cut} bytes");
            assert_eq!(server.current.succeeded().get(), 0, "{name}: {cut} bytes");
        }
        server.replace(name, &whole);
        server.current.get();
        assert_eq!(server.current.succeeded().get(), 1, "{name}");
    }
}

#[test]
fn invalid_tls_settings_are_refused_and_named() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.identity(NAME);
    let other = authority.identity(NAME).key;
    let refusal = |key: &str, config: &str| {
        let files = [
            ("server.crt", &*certificate),
            ("server.key", key),
            ("web.yml", config),
        ];
        let folder = folder(&files);
        let error = Current::open(Some(&folder.path().join("web.yml"))).map(|_| ());
        error
            .map_err(|error| format!("{error:#}"))
            .err()
            .unwrap_or_default()
    };
    assert_eq!(refusal(&key, TLS), "");
    for (key, more, says) in [
        (&*other, "", "does not match"),
        ("", "", "no private key"),
        (
            &key,
            "  client_auth_type: RequireAndVerifyClientCert\n",
            "needs a client_ca",
        ),
        (
            &key,
            "  client_ca_file: server.crt\n",
            "needs a client_auth_type",
        ),
        (&key, "  cert: x\n", "exclude each other"),
        (
            &key,
            "  min_version: TLS13\n  max_version: TLS12\n",
            "above max_version",
        ),
    ] {
        let error = refusal(key, &format!("{TLS}{more}"));
        assert!(
            error.contains(says) && error.contains("web.yml"),
            "{more:?}: {error}"
        );
    }
}
