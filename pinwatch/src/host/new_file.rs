//! Writes a file as a whole: a reader sees the old content or the new one, also if the writer is killed or the disk is
//! full.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Permissions of a new file, before the umask.
const MODE: u32 = 0o666;

/// Writes `content` to a temporary file beside `path` and renames it. Keeps the permissions of an existing file. Follows
/// links, and writes to pipes and devices directly.
///
/// # Errors
///
/// If the file cannot be written. The old content then stays.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let existing = fs::metadata(path).ok();
    if existing.as_ref().is_some_and(|meta| !meta.is_file()) {
        return fs::write(path, content);
    }
    // A link to a file that does not exist yet has no canonical path.
    let target = match &existing {
        Some(_) => fs::canonicalize(path)?,
        None if path.is_symlink() => return fs::write(path, content),
        None => path.to_owned(),
    };
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut new = tempfile::Builder::new()
        .prefix(".pinwatch-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    if let Some(meta) = existing {
        new.as_file().set_permissions(meta.permissions())?;
    }
    new.write_all(content)?;
    new.as_file().sync_all()?;
    new.persist(&target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_reader_of_the_old_file_never_sees_the_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let [path, link] = ["page", "link"].map(|name| folder.path().join(name));
        write(&path, b"old").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("own");
        symlink("page", &link).expect("linked");
        let open = File::open(&path).expect("there");
        write(&link, b"new").expect("written");
        assert_eq!(io::read_to_string(open).expect("text"), "old");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert!(link.is_symlink(), "a link stays one");
        let meta = fs::metadata(&path).expect("there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o640);
        let names = fs::read_dir(folder.path()).expect("a folder");
        assert_eq!(names.count(), 2, "no temporary file is left");
    }

    #[test]
    fn devices_and_missing_folders() {
        write(Path::new("/dev/null"), b"x").expect("a device");
        let folder = tempfile::tempdir().expect("a folder");
        assert!(write(&folder.path().join("none/page"), b"x").is_err());
        let link = folder.path().join("link");
        symlink("later", &link).expect("linked");
        write(&link, b"x").expect("written");
        assert_eq!(fs::read(folder.path().join("later")).expect("there"), b"x");
    }
}
