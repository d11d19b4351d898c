//! What `--web.config.file` and the files that it names say now. They are looked
//! at for every connection and every request, and read when one has changed.
//!
//! What cannot be read changes nothing: the error is logged, and
//! `pinwatch_web_config_last_reload_successful` says 0. Never is TLS switched
//! on or off in a running daemon.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use axum::http::HeaderMap;
use prometheus::IntGauge;
use rustls::ServerConfig;

use super::config::File;
use super::tls;
use crate::host::bounded_file;

/// Name and meaning of the gauge.
pub const LAST_RELOAD: (&str, &str) = (
    "pinwatch_web_config_last_reload_successful",
    "1 if --web.config.file is served as it is now, 0 if a change to it could not be read.",
);

/// What is to be done.
#[derive(Clone, Default)]
pub struct Settings {
    /// None is plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// bcrypt hashes; with none, everybody is let in.
    pub users: BTreeMap<String, String>,
    /// For every answer.
    pub headers: HeaderMap,
}

/// The settings, kept up to date.
pub struct Current {
    path: Option<PathBuf>,
    loaded: Mutex<Loaded>,
    succeeded: IntGauge,
}

struct Loaded {
    files: Vec<(PathBuf, Stamp)>,
    settings: Arc<Settings>,
}

/// What changes with a file: device, inode, size, and the times of its content and
/// of its inode. None for a file that is not there.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

impl Current {
    /// Reads the file, if there is one.
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

    /// 1 unless the last change could not be read; a handle that can be registered.
    #[must_use]
    pub fn succeeded(&self) -> IntGauge {
        self.succeeded.clone()
    }

    /// What holds now.
    pub fn get(&self) -> Arc<Settings> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |(file, before): &(PathBuf, Stamp)| stamp(file) != *before;
        if let Some(path) = &self.path
            && loaded.files.iter().any(changed)
        {
            let (files, settings) = load(path);
            let tls = loaded.settings.tls.is_some();
            // Before the verdict: what is wrong is said once, not at every request.
            loaded.files = files;
            match settings.and_then(|settings| keeps_tls(tls, settings)) {
                Ok(settings) => {
                    tracing::info!("{}: read again", path.display());
                    loaded.settings = Arc::new(settings);
                    self.succeeded.set(1);
                }
                Err(error) => {
                    tracing::error!("{error:#}; what was read before still holds");
                    self.succeeded.set(0);
                }
            }
        }
        Arc::clone(&loaded.settings)
    }
}

fn keeps_tls(before: bool, settings: Settings) -> Result<Settings> {
    if settings.tls.is_some() != before {
        bail!("TLS is switched on and off by starting again");
    }
    Ok(settings)
}

/// Which files matter, as they were before they were read, and what they say.
fn load(path: &Path) -> (Vec<(PathBuf, Stamp)>, Result<Settings>) {
    let stamped = |file: PathBuf| {
        let stamp = stamp(&file);
        (file, stamp)
    };
    let mut files = vec![stamped(path.to_owned())];
    let read = || -> Result<File> {
        let text = bounded_file::read_text(path).with_context(|| path.display().to_string())?;
        File::parse(path, &text)
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

fn settings(file: &File, path: &Path, folder: &Path) -> Result<Settings> {
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
