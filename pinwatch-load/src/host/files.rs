//! Small files of procfs and sysfs, under a root that tests replace.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;

use crate::error::Unavailable;

/// The folder that contains `proc`, `sys` and `dev`: `/`, or a temporary folder in tests.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    pub fn this() -> Self {
        Self { root: "/".into() }
    }

    #[cfg(test)]
    pub fn under(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// `path` without its leading slash.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// The trimmed content of a file as a number.
    pub fn number<T>(&self, path: &str) -> anyhow::Result<T>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let text = self
            .text(path)
            .with_context(|| format!("cannot read /{path}"))?;
        text.parse()
            .with_context(|| format!("/{path} contains {text:?}, not a number"))
    }

    /// The trimmed content of a file.
    pub fn text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        fs::read_to_string(self.path(path)).map(|text| text.trim().to_owned())
    }

    pub fn write(&self, path: impl AsRef<Path>, text: &str) -> anyhow::Result<()> {
        let path = path.as_ref();
        fs::write(self.path(path), text).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => Unavailable::because(format!(
                "this process may not write /{}: run it as root",
                path.display()
            )),
            _ => anyhow::Error::new(error).context(format!("cannot write /{}", path.display())),
        })
    }

    /// The last part of the target of a symbolic link.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }
}
