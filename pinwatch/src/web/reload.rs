//! Current settings of `--web.config.file` and of the files that it names. Each connection and each
//! request compares the files' metadata; a changed file is read again.
//!
//! If a change cannot be read, the settings stay, the error is logged, and
//! `pinwatch_web_config_last_reload_successful` is 0. A running daemon never switches TLS on or off.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use axum::http::HeaderMap;
use prometheus::IntGauge;
use rustls::ServerConfig;

use super::config::WebConfig;
use super::tls;
use crate::host::bounded_file;

/// Name and HELP of the gauge that reports whether the last reload succeeded.
pub const LAST_RELOAD: (&str, &str) = (
    "pinwatch_web_config_last_reload_successful",
    "1 if the current content of --web.config.file is in effect. 0 if its last change could not be read: the previous content stays in effect, and the log has the error.",
);

/// Effective settings of the web server.
#[derive(Clone, Default)]
pub struct Settings {
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// bcrypt hashes by user. If empty, no request needs a password.
    pub users: BTreeMap<String, String>,
    /// Headers that every response gets.
    pub headers: HeaderMap,
}

/// Handle to the settings. [`Self::get`] reads changed files again.
pub struct Current {
    path: Option<PathBuf>,
    loaded: Mutex<Loaded>,
    succeeded: IntGauge,
}

struct Loaded {
    files: Vec<(PathBuf, Stamp)>,
    settings: Arc<Settings>,
}

/// Metadata that changes with a file: device, inode, size, mtime and ctime (seconds, nanoseconds).
/// `None` if the file does not exist.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

impl Current {
    /// Reads the configuration file. Without a path, the settings are the defaults.
    ///
    /// # Errors
    ///
    /// If the file, or a file that it names, cannot be read or is not valid.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let (name, help) = LAST_RELOAD;
        let succeeded = IntGauge::new(name, help)?;
        succeeded.set(1);
        let (files, settings) = match path {
            Some(path) => load(path),
            None => (Vec::new(), Ok(Settings::default())),
        };
        Ok(Self {
            path: path.map(Path::to_owned),
            loaded: Mutex::new(Loaded {
                files,
                settings: Arc::new(settings?),
            }),
            succeeded,
        })
    }

    /// The gauge of [`LAST_RELOAD`], to be registered: 1, or 0 if the last change could not be read.
    #[must_use]
    pub fn succeeded(&self) -> IntGauge {
        self.succeeded.clone()
    }

    /// Current settings. Reads the files again if one of them has changed.
    pub fn get(&self) -> Arc<Settings> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |(file, before): &(PathBuf, Stamp)| stamp(file) != *before;
        if let Some(path) = &self.path
            && loaded.files.iter().any(changed)
        {
            let (files, settings) = load(path);
            let tls = loaded.settings.tls.is_some();
            // Stored before the content is judged: an invalid file is reported once, not at every request.
            loaded.files = files;
            match settings.and_then(|settings| keeps_tls(tls, settings)) {
                Ok(settings) => {
                    tracing::info!("{} has changed and was read again", path.display());
                    loaded.settings = Arc::new(settings);
                    self.succeeded.set(1);
                }
                Err(error) => {
                    tracing::error!(
                        "{error:#}; the previous web configuration stays in effect until this is fixed"
                    );
                    self.succeeded.set(0);
                }
            }
        }
        Arc::clone(&loaded.settings)
    }
}

fn keeps_tls(before: bool, settings: Settings) -> Result<Settings> {
    if settings.tls.is_some() != before {
        bail!("tls_server_config was added or removed: restart the daemon to switch TLS on or off");
    }
    Ok(settings)
}

/// The files to watch, with their stamps from before they were read, and the settings in them.
fn load(path: &Path) -> (Vec<(PathBuf, Stamp)>, Result<Settings>) {
    let stamped = |file: PathBuf| {
        let stamp = stamp(&file);
        (file, stamp)
    };
    let mut files = vec![stamped(path.to_owned())];
    let read = || -> Result<WebConfig> {
        let text = bounded_file::read_text(path).with_context(|| path.display().to_string())?;
        WebConfig::parse(path, &text)
    };
    let file = match read() {
        Ok(file) => file,
        Err(error) => return (files, Err(error)),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some(tls) = &file.tls_server_config {
        files.extend(tls::files(tls, folder).into_iter().map(stamped));
    }
    (files, settings(&file, path, folder))
}

fn settings(file: &WebConfig, path: &Path, folder: &Path) -> Result<Settings> {
    let tls = file.tls_server_config.as_ref();
    let tls = tls.map(|tls| tls::server_config(tls, folder)).transpose();
    let tls = tls.with_context(|| format!("{}: tls_server_config", path.display()))?;
    Ok(Settings {
        tls: tls.map(Arc::new),
        users: file.users(path)?,
        headers: file.headers(path)?,
    })
}

fn stamp(file: &Path) -> Stamp {
    let meta = fs::metadata(file).ok()?;
    let content = (meta.mtime(), meta.mtime_nsec());
    let inode = (meta.ctime(), meta.ctime_nsec());
    Some((meta.dev(), meta.ino(), meta.size(), content, inode))
}
