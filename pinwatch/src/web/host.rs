//! Check of the `Host` header on loopback addresses.
//!
//! A page from elsewhere can give its own name the address 127.0.0.1 (DNS rebinding). The browser then treats
//! the daemon as a part of that page, and lets the page read its answers. It sends the page's name as `Host`.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{StatusCode, header, uri::Authority};
use axum::response::{IntoResponse as _, Response};

/// Names that clients on this machine may use, apart from `localhost` and addresses.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The names of `--web.allowed-host`.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    /// The refusal of a request that names another host.
    pub fn refusal(&self, request: &Parts) -> Option<Response> {
        let named = request.uri.authority().map(Authority::as_str);
        let named = named.map(str::as_bytes).into_iter();
        let headers = request.headers.get_all(header::HOST).iter();
        let mut all = named.chain(headers.map(|value| value.as_bytes()));
        // A browser always names the host.
        let fits = all.all(|host| self.allows(host));
        (!fits).then(|| {
            let text = "this host name is not allowed on a loopback address: use localhost or the address, or start pinwatch with --web.allowed-host NAME\n";
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        })
    }

    fn allows(&self, host: &[u8]) -> bool {
        let Ok(host) = Authority::try_from(host) else {
            return false;
        };
        let name = host.host().trim_end_matches('.').to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost"
            || name.ends_with(".localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.0.iter().any(|own| own.eq_ignore_ascii_case(&name))
    }
}

/// A value of `--web.allowed-host`.
///
/// # Errors
///
/// If the text is not a host name without a port.
pub fn host_name(text: &str) -> Result<String, String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(in_name) {
        return Err("expected a host name without a port, such as metrics.example.com".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_page_from_elsewhere_cannot_have() {
        let hosts = Hosts::new(&["Metrics.example.com".to_owned()]);
        for own in [
            "localhost",
            "LOCALHOST:10746",
            "localhost.:1",
            "a.localhost",
            "127.0.0.1:10746",
            "192.0.2.1",
            "[::1]:10746",
            "metrics.example.com:80",
        ] {
            assert!(hosts.allows(own.as_bytes()), "{own}");
        }
        for other in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "notlocalhost",
            "metrics.example.com.evil.com",
            "user@example.com",
            "a b",
            "\u{e9}",
        ] {
            assert!(!hosts.allows(other.as_bytes()), "{other}");
        }
    }
}
