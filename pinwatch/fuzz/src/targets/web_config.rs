//! The file of `--web.config.file`, with inline certificates.
#![forbid(unsafe_code)]

use crate::file::MemoryFile;
use pinwatch::web::config::WebConfig;
use pinwatch::web::reload::Current;

/// Feeds one input.
pub fn run(data: &[u8]) {
    let file = MemoryFile::new(data);
    let path = file.path();
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(Current::open(Some(&path)).is_err());
        return;
    };
    let Ok(parsed) = WebConfig::parse(&path, text) else {
        return;
    };
    let names_files = parsed
        .unwrap_or_default()
        .tls_server_config
        .is_some_and(|tls| {
            tls.cert_file.is_some() || tls.key_file.is_some() || tls.client_ca_file.is_some()
        });
    // A named file can be one that never ends a read, such as a terminal.
    if !names_files && let Ok(current) = Current::open(Some(&path)) {
        current.reload();
        current.get();
    }
}
