//! The file that a recording goes to. Its previous content is destroyed only when the recording begins.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file that is open and not changed yet. Dropping it removes the file if it did not exist before.
pub struct OutputFile {
    file: File,
    /// Path of a file that did not exist before.
    created: Option<PathBuf>,
}

impl OutputFile {
    /// Opens a file for writing, and creates it if it does not exist. Keeps the content of an existing
    /// file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        match options.clone().create_new(true).open(path) {
            Ok(file) => Ok(Self {
                file,
                created: Some(path.to_owned()),
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self {
                // A link can exist without its target.
                file: options.create(true).truncate(false).open(path)?,
                created: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// Empties the file, so that a recording can be written to it.
    pub fn begin(mut self) -> io::Result<File> {
        // Pipes and devices have no content to remove.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.created = None;
        self.file.try_clone()
    }

    /// Whether a path still leads to this file.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (own, there) = (self.file.metadata()?, fs::symlink_metadata(path)?);
        Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(path) = &self.created
            && self.is_at(path).unwrap_or(false)
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_changes_only_when_the_recording_begins() {
        let folder = tempfile::tempdir().expect("a folder");
        let [old, new] = ["old", "new"].map(|name| folder.path().join(name));
        fs::write(&old, "a long recording").expect("written");
        for path in [&old, &new] {
            drop(OutputFile::open(path).expect("open"));
        }
        assert_eq!(fs::read(&old).expect("kept"), b"a long recording");
        assert!(!new.exists());
        for path in [&old, &new] {
            let file = OutputFile::open(path).expect("open").begin();
            file.expect("empty").write_all(b"short").expect("written");
            assert_eq!(fs::read(path).expect("a file"), b"short");
        }
        let null = OutputFile::open(Path::new("/dev/null")).expect("open");
        null.begin().expect("a device");
    }

    #[test]
    fn another_file_that_took_the_path_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new");
        let output = OutputFile::open(&path).expect("open");
        fs::write(folder.path().join("other"), "other").expect("written");
        fs::rename(folder.path().join("other"), &path).expect("renamed");
        drop(output);
        assert_eq!(fs::read(&path).expect("kept"), b"other");
    }
}
