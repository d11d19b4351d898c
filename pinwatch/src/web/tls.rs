//! TLS configuration for rustls from the settings of the file. The cryptography is `ring`, because it
//! builds with only a C compiler.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::config::{ClientAuth, Tls, Version};
use crate::host::bounded_file;

/// Paths of all files that the settings name. Relative paths start at `folder`.
pub fn files(tls: &Tls, folder: &Path) -> Vec<PathBuf> {
    let files = [&tls.cert_file, &tls.key_file, &tls.client_ca_file];
    let files = files.into_iter().flatten();
    files.map(|file| folder.join(file)).collect()
}

/// Reads the certificates and keys and builds the configuration.
///
/// # Errors
///
/// If a certificate or key is missing, cannot be read, or does not match the others.
pub fn server_config(tls: &Tls, folder: &Path) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = one_of("cert", &tls.cert, &tls.cert_file, folder)?;
    let certificate = certificate.context("cert or cert_file is missing: set one of them")?;
    let key = one_of("key", &tls.key, &tls.key_file, folder)?;
    let key = key.context("key or key_file is missing: set one of them")?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .context("key or key_file contains no private key in PEM")?;
    let versions = versions(tls)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?;
    let builder = match verifier(tls, folder, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates("cert", &certificate)?, key)
        .context("the private key does not match the certificate")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>> {
    let min = tls.min_version.unwrap_or(Version::Tls12);
    let max = tls.max_version.unwrap_or(Version::Tls13);
    let all = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
    let wanted = all.into_iter().filter(|(v, _)| (min..=max).contains(v));
    let wanted: Vec<_> = wanted.map(|(_, version)| version).collect();
    if wanted.is_empty() {
        bail!("min_version is above max_version: lower min_version, or raise max_version");
    }
    Ok(wanted)
}

fn verifier(
    tls: &Tls,
    folder: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    let authorities = one_of("client_ca", &tls.client_ca, &tls.client_ca_file, folder)?;
    let (Some(authorities), true) = (
        &authorities,
        tls.client_auth_type != ClientAuth::NoClientCert,
    ) else {
        if authorities.is_some() {
            bail!("client_ca needs a client_auth_type, such as RequireAndVerifyClientCert");
        }
        if tls.client_auth_type != ClientAuth::NoClientCert {
            bail!("client_auth_type needs a client_ca or client_ca_file");
        }
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", authorities)? {
        roots
            .add(certificate)
            .context("client_ca is not a valid authority")?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match tls.client_auth_type {
        ClientAuth::VerifyClientCertIfGiven => builder.allow_unauthenticated(),
        ClientAuth::RequireAndVerifyClientCert | ClientAuth::NoClientCert => builder,
    };
    Ok(Some(
        builder
            .build()
            .context("client_ca is not a valid set of authorities")?,
    ))
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates =
        certificates.with_context(|| format!("{key} or {key}_file is not valid PEM"))?;
    if certificates.is_empty() {
        bail!("{key} or {key}_file contains no certificate in PEM");
    }
    Ok(certificates)
}

/// Content of a setting that is inline or in a file; `None` if neither is given.
fn one_of(
    key: &str,
    inline: &Option<String>,
    file: &Option<PathBuf>,
    folder: &Path,
) -> Result<Option<Vec<u8>>> {
    match (inline, file) {
        (Some(_), Some(_)) => bail!("{key} and {key}_file exclude each other: remove one"),
        (Some(inline), None) => Ok(Some(inline.clone().into_bytes())),
        (None, Some(file)) => {
            let file = folder.join(file);
            let bytes = bounded_file::read(&file)
                .with_context(|| format!("{key}_file: {}", file.display()));
            bytes.map(Some)
        }
        (None, None) => Ok(None),
    }
}
