//! Addresses to listen on, in the forms that Prometheus' exporters accept.

#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::str::FromStr;

use anyhow::{Context as _, Result};

/// Value of `--web.listen-address`: `ADDRESS:PORT`, `HOST:PORT`, or `:PORT` for all addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Address(SocketAddr),
    /// A host name, to be resolved.
    Host(String, u16),
    /// All addresses of this machine.
    All(u16),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let parts = text.rsplit_once(':');
        let (host, port) = parts
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .ok_or("expected ADDRESS:PORT, HOST:PORT or :PORT, such as 127.0.0.1:10746")?;
        let in_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        match host {
            "" => Ok(Self::All(port)),
            _ if host.chars().all(in_name) => Ok(Self::Host(host.to_owned(), port)),
            _ => Err("expected a host name or an address; an IPv6 address needs brackets, such as [::1]:10746".to_owned()),
        }
    }
}

impl Listen {
    /// One address to bind. Of the addresses of a host, the first of IPv4, else the first of IPv6.
    ///
    /// # Errors
    ///
    /// If the host has no address; the text names it.
    pub fn resolve(&self) -> Result<SocketAddr> {
        match self {
            Self::Address(address) => Ok(*address),
            Self::All(port) => Ok(all(*port)),
            Self::Host(host, port) => {
                let cannot = || format!("--web.listen-address: cannot resolve {host}");
                let found = (host.as_str(), *port)
                    .to_socket_addrs()
                    .with_context(cannot)?;
                let found: Vec<_> = found.collect();
                let first = found.iter().find(|address| address.is_ipv4());
                first.or(found.first()).copied().with_context(cannot)
            }
        }
    }
}

/// All addresses, by a socket for IPv6 and IPv4; by one for IPv4 if the machine has no IPv6.
fn all(port: u16) -> SocketAddr {
    let any = Ipv6Addr::UNSPECIFIED;
    match UdpSocket::bind((any, 0)) {
        Ok(_) => (any, port).into(),
        Err(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_prometheus_exporters() {
        let resolved = |text: &str| text.parse::<Listen>().map(|listen| listen.resolve());
        for (text, is) in [
            ("127.0.0.1:10746", "127.0.0.1:10746"),
            ("[::1]:1", "[::1]:1"),
            ("localhost:10746", "127.0.0.1:10746"),
        ] {
            let address = resolved(text).expect(text).expect(text);
            assert_eq!(address, is.parse().expect("an address"), "{text}");
        }
        let all = resolved(":10746").expect("accepted").expect("resolved");
        assert!(all.ip().is_unspecified() && all.port() == 10746, "{all}");
        let unknown = resolved("no-such-host.invalid:1").expect("accepted");
        let error = format!("{:#}", unknown.expect_err("no address"));
        assert!(
            error.contains("cannot resolve no-such-host.invalid"),
            "{error}"
        );
        for wrong in [
            "",
            ":",
            "localhost",
            "10746",
            ":65536",
            "::1:80",
            "a b:1",
            "[::1]",
            "http://a:1",
        ] {
            assert!(resolved(wrong).is_err(), "{wrong}");
        }
    }
}
