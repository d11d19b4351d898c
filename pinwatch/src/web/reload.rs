//! Current settings of `--web.config.file` and of the files that it names. Each connection and each
//! request compares the files' metadata; a changed file is read again.
//!
//! If a change cannot be read, the settings stay, the error is logged, and
//! `pinwatch_web_config_last_reload_successful` is 0. A running daemon never switches TLS on or off, and never
//! stops to ask for passwords or client certificates: a file that an editor or a full disk truncated must not
//! open the daemon to everyone.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use axum::http::HeaderMap;
use prometheus::IntGauge;
use rustls::ServerConfig;

use super::config::{ClientAuth, WebConfig};
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
    /// Whether TLS asks for client certificates.
    pub client_certificates: bool,
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
    /// Whether the file has no value. Such a file never replaces one that has.
    empty: bool,
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
        let (files, content) = match path {
            Some(path) => load(path),
            None => (Vec::new(), Ok(Content::default())),
        };
        let Content { empty, settings } = content?;
        Ok(Self {
            path: path.map(Path::to_owned),
            loaded: Mutex::new(Loaded {
                empty,
                files,
                settings: Arc::new(settings),
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
        let mut loaded = self.loaded();
        let changed = |(file, before): &(PathBuf, Stamp)| stamp(file) != *before;
        if loaded.files.iter().any(changed) {
            self.reload_into(&mut loaded);
        }
        Arc::clone(&loaded.settings)
    }

    /// Files that this thread cannot read, with the reasons.
    pub fn unreadable(&self) -> Vec<(PathBuf, io::Error)> {
        let loaded = self.loaded();
        let files = loaded.files.iter();
        let errors = files.filter_map(|(file, _)| Some((file.clone(), File::open(file).err()?)));
        errors.collect()
    }

    /// Reads the files again, whether they have changed or not, and logs the result.
    pub fn reload(&self) {
        self.reload_into(&mut self.loaded());
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload_into(&self, loaded: &mut Loaded) {
        let Some(path) = &self.path else { return };
        let (files, content) = load(path);
        // Stored before the content is judged: an invalid file is reported once, not at every request.
        loaded.files = files;
        let content = content.and_then(|content| {
            loaded
                .accepts(&content)
                .with_context(|| path.display().to_string())?;
            Ok(content)
        });
        match content {
            Ok(Content { empty, settings }) => {
                tracing::info!("{} was read again and is in effect", path.display());
                loaded.empty = empty;
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
}

impl Loaded {
    /// Whether a running daemon may take over a new content.
    fn accepts(&self, new: &Content) -> Result<()> {
        let (before, after) = (&self.settings, &new.settings);
        if new.empty && !self.empty {
            bail!(
                "the file is empty: write the settings, or restart the daemon to run without them"
            );
        }
        if before.tls.is_some() != after.tls.is_some() {
            bail!(
                "tls_server_config was added or removed: restart the daemon to switch TLS on or off"
            );
        }
        if !before.users.is_empty() && after.users.is_empty() {
            bail!(
                "basic_auth_users has no user any more: restart the daemon to run without passwords"
            );
        }
        if before.client_certificates && !after.client_certificates {
            bail!(
                "client_auth_type asks for no client certificate any more: restart the daemon to run without them"
            );
        }
        Ok(())
    }
}

/// Content of the files.
#[derive(Default)]
struct Content {
    /// Whether the configuration file has no value.
    empty: bool,
    settings: Settings,
}

/// The files to watch, with their stamps from before they were read, and their content.
fn load(path: &Path) -> (Vec<(PathBuf, Stamp)>, Result<Content>) {
    let stamped = |file: PathBuf| {
        let stamp = stamp(&file);
        (file, stamp)
    };
    let mut files = vec![stamped(path.to_owned())];
    let read = || -> Result<Option<WebConfig>> {
        let text = bounded_file::read_text(path).with_context(|| path.display().to_string())?;
        WebConfig::parse(path, &text)
    };
    let file = match read() {
        Ok(file) => file,
        Err(error) => return (files, Err(error)),
    };
    let empty = file.is_none();
    let file = file.unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some(tls) = &file.tls_server_config {
        files.extend(tls::files(tls, folder).into_iter().map(stamped));
    }
    let settings = settings(&file, path, folder);
    (files, settings.map(|settings| Content { empty, settings }))
}

fn settings(file: &WebConfig, path: &Path, folder: &Path) -> Result<Settings> {
    let tls = file.tls_server_config.as_ref();
    let client_certificates =
        tls.is_some_and(|tls| tls.client_auth_type != ClientAuth::NoClientCert);
    let tls = tls.map(|tls| tls::server_config(tls, folder)).transpose();
    let tls = tls.with_context(|| format!("{}: tls_server_config", path.display()))?;
    Ok(Settings {
        tls: tls.map(Arc::new),
        users: file.users(path)?,
        client_certificates,
        headers: file.headers(path)?,
    })
}

fn stamp(file: &Path) -> Stamp {
    let meta = fs::metadata(file).ok()?;
    let content = (meta.mtime(), meta.mtime_nsec());
    let inode = (meta.ctime(), meta.ctime_nsec());
    Some((meta.dev(), meta.ino(), meta.size(), content, inode))
}
