//! Patches in a source tree.
//!
//! Patches are applied to copies of the files that they name. Only if all apply, the tree changes, and only
//! those files whose contents differ: `make` then compiles as little as possible.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::child;

/// Lines of a rejected hunk to show.
const HUNK: usize = 60;

/// Brings a tree into the state "as fetched, with these patches in this order". `originals` keeps what
/// earlier patches replaced.
pub fn patch(tree: &Path, originals: &Path, patches: &[PathBuf], scratch: &Path) -> Result<()> {
    let overlay = scratch.join("overlay");
    fs::create_dir_all(&overlay)?;
    let original = |file: &Path| {
        let saved = originals.join(file);
        if saved.exists() || absent(&saved).exists() {
            saved
        } else {
            tree.join(file)
        }
    };
    let mut touched = BTreeSet::new();
    for patch in patches {
        let text = fs::read(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        let files = files(&String::from_utf8_lossy(&text));
        if files.is_empty() {
            bail!(
                "{} is not a patch: it names no file (+++ b/FILE)",
                patch.display()
            );
        }
        for file in files {
            check(&file).with_context(|| format!("{} is refused", patch.display()))?;
            if touched.insert(file.clone()) && original(&file).exists() {
                copy(&original(&file), &overlay.join(&file))?;
            }
        }
        apply(patch, &overlay)?;
    }
    for file in &touched {
        save(&tree.join(file), &originals.join(file))?;
    }
    for file in saved(originals)? {
        let kept = touched.contains(&file);
        let wanted = if kept {
            overlay.join(&file)
        } else {
            originals.join(&file)
        };
        place(&wanted, &tree.join(&file))?;
        if !kept {
            forget(&originals.join(&file))?;
        }
    }
    Ok(())
}

/// The files that a patch names, without their first folder.
fn files(patch: &str) -> BTreeSet<PathBuf> {
    const RENAMES: [&str; 4] = ["rename from ", "rename to ", "copy from ", "copy to "];
    let mut files = BTreeSet::new();
    let mut before = "";
    for line in patch.lines() {
        if let (Some(old), Some(new)) = (before.strip_prefix("--- "), line.strip_prefix("+++ ")) {
            for name in [old, new] {
                let name = name.split('\t').next().unwrap_or_default().trim_end();
                if let Some((_, file)) = name.split_once('/').filter(|_| name != "/dev/null") {
                    files.insert(PathBuf::from(file));
                }
            }
        }
        let mut renames = RENAMES.iter();
        if let Some(name) = renames.find_map(|mark| line.strip_prefix(mark)) {
            files.insert(PathBuf::from(name.trim_end()));
        }
        before = line;
    }
    files
}

fn check(file: &Path) -> Result<()> {
    if !file
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        bail!("{} leads out of the source", file.display());
    }
    Ok(())
}

/// Applies one patch. An error has the reasons and the rejected hunk.
fn apply(patch: &Path, overlay: &Path) -> Result<()> {
    let output = child::command("patch")
        .args(["--strip=1", "--force", "--no-backup-if-mismatch"])
        .arg("--directory")
        .arg(overlay)
        .stdin(Stdio::from(fs::File::open(patch)?))
        .output()
        .context("cannot start patch")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = said
        .lines()
        .filter(|line| !line.starts_with("patching file "));
    let failed: Vec<_> = failed.collect();
    let mut text = format!(
        "{} does not apply to this source:\n{}",
        patch.display(),
        failed.join("\n")
    );
    for reject in found(overlay)?
        .iter()
        .filter(|file| file.extension().is_some_and(|ext| ext == "rej"))
    {
        let hunk = fs::read_to_string(overlay.join(reject))?;
        let hunk: Vec<_> = hunk.lines().take(HUNK).collect();
        text = text + "\nrejected:\n" + &hunk.join("\n");
    }
    bail!(text)
}

/// Of a mark beside a saved file: the file did not exist.
const ABSENT: &str = ".absent";
/// Of a copy that is not finished.
const PART: &str = ".part";

fn absent(saved: &Path) -> PathBuf {
    with_suffix(saved, ABSENT)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn save(file: &Path, saved: &Path) -> Result<()> {
    if saved.exists() || absent(saved).exists() {
        return Ok(());
    }
    if file.exists() {
        // Renamed into place: an interrupted copy must not become the original.
        let part = with_suffix(saved, PART);
        copy(file, &part)?;
        return Ok(fs::rename(part, saved)?);
    }
    fs::create_dir_all(saved.parent().context("a file has a folder")?)?;
    Ok(fs::write(absent(saved), "")?)
}

fn forget(saved: &Path) -> Result<()> {
    let file = if saved.exists() {
        saved.to_owned()
    } else {
        absent(saved)
    };
    Ok(fs::remove_file(file)?)
}

/// The files that have an original.
fn saved(originals: &Path) -> Result<BTreeSet<PathBuf>> {
    let all = found(originals)?.into_iter();
    let all = all.filter(|file| file.extension().is_none_or(|ext| ext != "part"));
    Ok(all
        .map(|file| match file.extension() {
            Some(ext) if ext == "absent" => file.with_extension(""),
            _ => file,
        })
        .collect())
}

/// Makes `file` like `wanted`, or deletes it if that does not exist. Leaves an equal file alone.
fn place(wanted: &Path, file: &Path) -> Result<()> {
    if !wanted.exists() {
        return match fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    }
    let wanted = fs::read(wanted)?;
    if fs::read(file).is_ok_and(|present| present == wanted) {
        return Ok(());
    }
    fs::create_dir_all(file.parent().context("a file has a folder")?)?;
    fs::write(file, wanted).with_context(|| format!("cannot write {}", file.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file has a folder")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// All files below a folder, relative to it. None if it does not exist.
fn found(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        dir: tempfile::TempDir,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("tree/mm")).unwrap();
            fs::write(dir.path().join("tree/mm/gup.c"), "one\ntwo\nthree\n").unwrap();
            fs::write(dir.path().join("tree/mm/other.c"), "other\n").unwrap();
            Self { dir }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join("tree/mm").join(name)
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.file(name)).unwrap()
        }

        fn patch(&self, patches: &[&str]) -> Result<()> {
            let root = self.dir.path();
            let mut paths = Vec::new();
            for (at, text) in patches.iter().enumerate() {
                let path = root.join(format!("{at}.patch"));
                fs::write(&path, text).unwrap();
                paths.push(path);
            }
            let scratch = tempfile::tempdir().unwrap();
            patch(
                &root.join("tree"),
                &root.join("originals"),
                &paths,
                scratch.path(),
            )
        }
    }

    const CHANGE: &str = "A change\n\n--- a/mm/gup.c\t2020\n+++ b/mm/gup.c\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
    const ADD: &str = "--- /dev/null\n+++ b/mm/new.h\n@@ -0,0 +1 @@\n+new\n";
    const SECOND: &str =
        "--- a/mm/gup.c\n+++ b/mm/gup.c\n@@ -1,3 +1,3 @@\n one\n-2\n+zwei\n three\n";

    #[test]
    fn patches_come_and_go() {
        let lab = Lab::new();
        lab.patch(&[CHANGE, ADD]).unwrap();
        assert_eq!(lab.text("gup.c"), "one\n2\nthree\n");
        assert_eq!(lab.text("new.h"), "new\n");
        lab.patch(&[CHANGE, SECOND]).unwrap();
        assert_eq!(lab.text("gup.c"), "one\nzwei\nthree\n");
        assert!(!lab.file("new.h").exists());
        lab.patch(&[]).unwrap();
        assert_eq!(lab.text("gup.c"), "one\ntwo\nthree\n");
        assert!(found(&lab.dir.path().join("originals")).unwrap().is_empty());
    }

    #[test]
    fn equal_files_keep_their_time() {
        let lab = Lab::new();
        let times = |lab: &Lab| {
            ["gup.c", "other.c"]
                .map(|name| fs::metadata(lab.file(name)).unwrap().modified().unwrap())
        };
        lab.patch(&[CHANGE]).unwrap();
        let before = times(&lab);
        lab.patch(&[CHANGE, ADD]).unwrap();
        assert_eq!(times(&lab), before);
    }

    #[test]
    fn a_patch_that_does_not_apply_changes_nothing() {
        let lab = Lab::new();
        let error = lab.patch(&[ADD, SECOND]).unwrap_err().to_string();
        assert!(error.contains("1.patch does not apply"), "{error}");
        assert!(error.contains("-2\n+zwei"), "{error}");
        assert_eq!(lab.text("gup.c"), "one\ntwo\nthree\n");
        assert!(!lab.file("new.h").exists());
    }

    #[test]
    fn patches_stay_in_the_source() {
        let lab = Lab::new();
        let outside = CHANGE.replace("mm/gup.c", "../gup.c");
        assert!(lab.patch(&[&outside]).is_err());
        assert!(lab.patch(&["no patch\n"]).is_err());
    }
}
