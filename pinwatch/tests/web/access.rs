//! Basic authentication, reloads of the configuration, and configured response headers.

use std::sync::Arc;
use std::time::Instant;

use pinwatch::web::reload::Current;

use super::client::{basic, get};
use super::server::{Server, folder};

/// A bcrypt hash of the lowest cost, so that tests are fast.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a hash")
}

fn users(users: &[(&str, &str)]) -> String {
    let lines = users
        .iter()
        .map(|(user, hash)| format!("  {user}: {hash}\n"));
    format!("basic_auth_users:\n{}", lines.collect::<String>())
}

#[tokio::test]
async fn requests_without_the_right_password_get_401() {
    let server = Server::with(&users(&[
        ("alice", &hash("wonder")),
        ("bob", &hash("land")),
    ]))
    .await;
    let status = async |path: &'static str, headers: String| {
        let answer = get(server.address, path, &headers).await;
        let asks = answer.head.contains("www-authenticate: basic");
        assert_eq!(asks, answer.status == 401, "{}", answer.head);
        answer.status
    };
    for path in ["/", "/nowhere"] {
        assert_eq!(status(path, String::new()).await, 401, "{path}");
        assert_eq!(status(path, basic("alice", "land")).await, 401, "{path}");
        assert_eq!(status(path, basic("eve", "wonder")).await, 401, "{path}");
    }
    for _ in 0..2 {
        assert_eq!(status("/", basic("alice", "wonder")).await, 200);
        assert_eq!(status("/", basic("bob", "land")).await, 200);
        assert_eq!(
            status("/", basic("bob", "wonder")).await,
            401,
            "a remembered password is valid for its user only"
        );
    }
    assert_eq!(status("/nowhere", basic("alice", "wonder")).await, 404);
    let first = get(server.address, "/", &basic("bob", "land")).await;
    assert_eq!(first.body, "4", "refused requests do not reach the router");
}

#[tokio::test]
async fn a_changed_password_is_valid_at_once() {
    let server = Server::with(&users(&[("alice", &hash("old"))])).await;
    let status = async |password| {
        get(server.address, "/", &basic("alice", password))
            .await
            .status
    };
    assert_eq!((status("old").await, status("new").await), (200, 401));
    server.replace("web.yml", &users(&[("alice", &hash("new"))]));
    assert_eq!((status("old").await, status("new").await), (401, 200));
    server.replace("web.yml", &users(&[("bob", &hash("new"))]));
    assert_eq!(status("new").await, 401);
}

/// An editor between truncate and write, or a full disk.
#[tokio::test]
async fn a_truncated_file_never_ends_the_authentication() {
    let whole = format!(
        "# Passwords\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n{}",
        users(&[("alice", &hash("wonder"))])
    );
    let server = Server::with(&whole).await;
    let right = basic("alice", "wonder");
    for cut in (0..whole.len()).chain([usize::MAX]) {
        let text = whole.get(..cut).unwrap_or(" \n\n");
        server.replace("web.yml", text);
        for (headers, status) in [("", 401), (right.as_str(), 200)] {
            let answer = get(server.address, "/", headers).await;
            assert_eq!(answer.status, status, "{text:?}");
        }
        // A hash without its line feed is whole.
        let expected = i64::from(cut == whole.len() - 1);
        assert_eq!(server.current.succeeded().get(), expected, "{text:?}");
    }
    server.replace("web.yml", &whole);
    assert_eq!(get(server.address, "/", &right).await.status, 200);
    assert_eq!(server.current.succeeded().get(), 1);
}

#[tokio::test]
async fn an_empty_file_replaces_only_an_empty_file() {
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
    for (before, succeeds) in [(headers, 0), ("# nothing\n", 1)] {
        let server = Server::with(before).await;
        for text in ["", " \n\n", "# later\n"] {
            server.replace("web.yml", text);
            let answer = get(server.address, "/", "").await;
            let kept = answer.head.contains("x-frame-options: deny");
            assert_eq!(kept, before == headers, "{before:?}, then {text:?}");
            assert_eq!(server.current.succeeded().get(), succeeds, "{text:?}");
        }
    }
}

#[tokio::test]
async fn an_invalid_change_keeps_the_old_configuration_and_is_reported() {
    let good = users(&[("alice", &hash("wonder"))]);
    let server = Server::with(&good).await;
    let status = async || {
        get(server.address, "/", &basic("alice", "wonder"))
            .await
            .status
    };
    assert_eq!((status().await, server.current.succeeded().get()), (200, 1));
    for bad in [
        "basic_auth_user: {}",
        "basic_auth_users:\n  alice: wonder\n",
        "tls_server_config: {}\n",
    ] {
        server.replace("web.yml", bad);
        assert_eq!(
            (status().await, server.current.succeeded().get()),
            (200, 0),
            "{bad}"
        );
        assert_eq!(get(server.address, "/", "").await.status, 401, "{bad}");
    }
    server.replace("web.yml", &good);
    assert_eq!((status().await, server.current.succeeded().get()), (200, 1));
}

#[test]
fn a_requested_reload_reads_unchanged_files_too() {
    let folder = folder(&[("web.yml", "{}")]);
    let current = Current::open(Some(&folder.path().join("web.yml"))).expect("a configuration");
    let before = current.get();
    assert!(Arc::ptr_eq(&before, &current.get()));
    current.reload();
    assert!(!Arc::ptr_eq(&before, &current.get()));
    Current::open(None).expect("no configuration").reload();
}

#[tokio::test]
async fn an_accepted_password_is_hashed_once() {
    // A remembered password takes less than a hundredth of this hash.
    let dear = bcrypt::hash("wonder", 9).expect("a hash");
    let server = Server::with(&users(&[("alice", &dear)])).await;
    let time = async |password: &str| {
        let started = Instant::now();
        let status = get(server.address, "/", &basic("alice", password))
            .await
            .status;
        (status, started.elapsed())
    };
    let (status, first) = time("wonder").await;
    assert_eq!(status, 200);
    let mut again = Vec::new();
    for _ in 0..5 {
        again.push(time("wonder").await.1);
    }
    let again = again.into_iter().min().expect("some");
    assert!(again < first / 5, "{again:?} after {first:?}");
    let (status, wrong) = time("wander").await;
    assert_eq!(status, 401);
    // Only the first request may have waited for a busy machine.
    assert!(
        wrong > again * 5,
        "a refusal is not remembered: {wrong:?} after {again:?}"
    );
}

#[tokio::test]
async fn an_unknown_user_takes_as_long_as_a_known_one() {
    let dear = bcrypt::hash("wonder", 9).expect("a hash");
    let server = Server::with(&users(&[("alice", &dear)])).await;
    let fastest = async |user: &str| {
        let mut times = Vec::new();
        for _ in 0..3 {
            let started = Instant::now();
            assert_eq!(
                get(server.address, "/", &basic(user, "x")).await.status,
                401
            );
            times.push(started.elapsed());
        }
        times.into_iter().min().expect("some")
    };
    let (there, not) = (fastest("alice").await, fastest("eve").await);
    assert!(not > there / 3 && there > not / 3, "{there:?} and {not:?}");
}

#[tokio::test]
async fn responses_have_the_configured_headers() {
    let config = format!(
        "{}http_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n",
        users(&[("alice", &hash("wonder"))])
    );
    let server = Server::with(&config).await;
    for headers in [String::new(), basic("alice", "wonder")] {
        let answer = get(server.address, "/", &headers).await;
        assert!(
            answer.head.contains("x-content-type-options: nosniff"),
            "{}",
            answer.head
        );
    }
}

#[test]
fn an_invalid_configuration_refuses_the_start_and_names_the_file() {
    let refusal = |files: &[(&str, &str)]| {
        let folder = folder(files);
        let error = Current::open(Some(&folder.path().join("web.yml"))).map(|_| ());
        format!("{:#}", error.expect_err("it is wrong"))
    };
    assert!(refusal(&[]).contains("web.yml"));
    assert!(refusal(&[("web.yml", "a: b\n")]).contains("web.yml:1: "));
    let text = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
    let error = refusal(&[("web.yml", text)]);
    assert!(
        error.contains("cert_file: ") && error.contains("server.crt"),
        "{error}"
    );
}
