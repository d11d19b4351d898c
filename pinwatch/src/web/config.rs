//! YAML file of `--web.config.file`, in the format of Prometheus' exporter-toolkit. An unknown key is an
//! error: a rule that is ignored would protect nothing.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bcrypt::HashParts;
use serde::Deserialize;
use serde_saphyr::{Spanned, options};

/// Content of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    pub tls_server_config: Option<Tls>,
    pub http_server_config: Http,
    /// bcrypt hashes by user.
    pub basic_auth_users: BTreeMap<String, Spanned<String>>,
}

/// TLS settings. Each certificate is inline or in a file; relative paths start at the configuration's
/// folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub cert: Option<String>,
    pub cert_file: Option<PathBuf>,
    pub key: Option<String>,
    pub key_file: Option<PathBuf>,
    pub client_ca: Option<String>,
    pub client_ca_file: Option<PathBuf>,
    pub client_auth_type: ClientAuth,
    pub min_version: Option<Version>,
    pub max_version: Option<Version>,
}

/// Client certificates to ask for. Go's other two types ask for a certificate and never verify it, so they
/// are not supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ClientAuth {
    #[default]
    #[serde(alias = "")]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

/// TLS versions that rustls supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Version {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

/// HTTP settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Accepted and ignored: the server speaks HTTP/1.1 only.
    #[serde(rename = "http2")]
    pub _http2: Option<bool>,
    pub headers: BTreeMap<String, Spanned<String>>,
}

/// Headers that can be set, with their valid values. An empty list allows any value.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

impl WebConfig {
    /// Parses the text of a file. `None` if it has no YAML value: it is empty, or has spaces and comments
    /// only.
    ///
    /// # Errors
    ///
    /// If the text is not valid. Errors name the file and the line, and never quote the text, because it
    /// contains secrets.
    pub fn parse(path: &Path, text: &str) -> Result<Option<Self>> {
        let options = options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
            Some(at) => anyhow!("{}:{}: {error}", path.display(), at.line()),
            None => anyhow!("{}: {error}", path.display()),
        })
    }

    /// Hashes by user, checked to be bcrypt.
    ///
    /// # Errors
    ///
    /// If a hash is not bcrypt, or a name contains a colon.
    pub fn users(&self, path: &Path) -> Result<BTreeMap<String, String>> {
        let users = self.basic_auth_users.iter().map(|(user, hash)| {
            let parts: Result<HashParts, _> = hash.value.parse();
            parts
                .map_err(|_| {
                    anyhow!("{user:?} needs a bcrypt hash: `htpasswd -nBC 10 \"\"` makes one")
                })
                .and_then(|parts| usable(user, &parts))
                .with_context(|| at(path, hash, "basic_auth_users"))?;
            if user.contains(':') {
                // In the `Authorization` header, a colon ends the name.
                return Err(anyhow!(
                    "the user name {user:?} contains a colon: rename the user"
                ))
                .with_context(|| at(path, hash, "basic_auth_users"));
            }
            Ok((user.clone(), hash.value.clone()))
        });
        users.collect()
    }

    /// Headers that every response gets.
    ///
    /// # Errors
    ///
    /// If a header or its value is not allowed.
    pub fn headers(&self, path: &Path) -> Result<HeaderMap> {
        let headers = self.http_server_config.headers.iter();
        let headers = headers.filter(|(_, value)| !value.value.is_empty());
        let checked = headers.map(|(name, value)| {
            header(name, &value.value).with_context(|| at(path, value, "headers"))
        });
        checked.collect()
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
        bail!("the header {name:?} cannot be set: docs/web.md lists the headers");
    };
    if !values.is_empty() && !values.contains(&value) {
        bail!("the value of {name} must be {}", values.join(" or "));
    }
    Ok((name.parse()?, value.parse()?))
}

/// Costs that bcrypt defines, up to about two seconds of a CPU for each check. Each step takes twice as long.
const COSTS: RangeInclusive<u32> = 4..=15;

/// Whether a password can be checked with this hash, in a time that a client waits for.
fn usable(user: &str, hash: &HashParts) -> Result<()> {
    let cost = hash.get_cost();
    if !COSTS.contains(&cost) {
        bail!(
            "the hash of {user:?} has the cost {cost}, and it must be from {} to {}: `htpasswd -nBC 10 \"\"` makes one",
            COSTS.start(),
            COSTS.end()
        );
    }
    Ok(())
}

/// Position of a value for error messages: `FILE:LINE: KEY`.
fn at<T>(path: &Path, value: &Spanned<T>, key: &str) -> String {
    format!("{}:{}: {key}", path.display(), value.referenced.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze";

    fn parse(text: &str) -> Result<WebConfig, String> {
        let path = Path::new("web.yml");
        let all = || {
            let file = WebConfig::parse(path, text)?.unwrap_or_default();
            file.users(path)?;
            file.headers(path)?;
            Ok(file)
        };
        all().map_err(|error: anyhow::Error| format!("{error:#}"))
    }

    #[test]
    fn the_toolkits_example() {
        let text = format!(
            "# comment\ntls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  min_version: TLS13\n\
             http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: ''\n\
             basic_auth_users:\n  alice: {HASH}\n"
        );
        let file = parse(&text).unwrap();
        let tls = file.tls_server_config.as_ref().unwrap();
        assert_eq!(tls.cert_file.as_deref(), Some(Path::new("server.crt")));
        assert_eq!(tls.min_version, Some(Version::Tls13));
        assert_eq!(tls.client_auth_type, ClientAuth::NoClientCert);
        let headers = file.headers(Path::new("")).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-frame-options"], "deny");
        assert_eq!(file.users(Path::new("")).unwrap()["alice"], HASH);
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        for text in ["", "# nothing\n", "{}\n"] {
            let file = parse(text).unwrap();
            assert!(file.tls_server_config.is_none() && file.basic_auth_users.is_empty());
        }
    }

    #[test]
    fn errors_name_the_line_and_the_key() {
        let costs = |cost: u32| {
            let hash = HASH.replace("$10$", &format!("${cost:02}$"));
            format!("basic_auth_users:\n  eve: {hash}\n")
        };
        for usable in [4, 15] {
            assert!(parse(&costs(usable)).is_ok(), "{usable}");
        }
        for (text, says) in [
            ("tls_server_config:\n  cert_files: x\n", "web.yml:2: "),
            ("tls_server_config:\n  cert_files: x\n", "cert_files"),
            ("\n\nrate_limit:\n  burst: 1\n", "web.yml:3: "),
            (
                "tls_server_config:\n  key_file: a\n  key_file: b\n",
                "web.yml:3: ",
            ),
            ("tls_server_config:\n  min_version: TLS10\n", "web.yml:2: "),
            (
                "tls_server_config:\n  client_auth_type: RequestClientCert\n",
                "RequireAndVerifyClientCert",
            ),
            (
                "basic_auth_users:\n  eve: plain\n",
                "web.yml:2: basic_auth_users: \"eve\"",
            ),
            (&costs(3), "the cost 3,"),
            (&costs(16), "the cost 16,"),
            (&costs(31), "the cost 31,"),
            (&costs(99), "the cost 99,"),
            (&format!("basic_auth_users:\n  'e:ve': {HASH}\n"), "colon"),
            (
                "http_server_config:\n  headers:\n    X-Frame-Options: maybe\n",
                "web.yml:3: headers",
            ),
            (
                "http_server_config:\n  headers:\n    Server: me\n",
                "cannot be set",
            ),
            ("a: [\n", "web.yml:"),
        ] {
            let error = parse(text).map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
            assert!(!error.contains("plain"), "no secrets: {error}");
        }
    }

    #[test]
    fn aliases_cannot_blow_it_up() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let of = vec![format!("*a{}", n - 1); 10].join(",");
            text += &format!("a{n}: &a{n} [{of}]\n");
        }
        assert!(parse(&text).is_err());
    }
}
