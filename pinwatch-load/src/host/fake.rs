//! A host for tests.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::files::Host;
use super::{hugetlb_pool, rt_throttling};

/// A host with files in a temporary folder.
pub struct Fake {
    root: TempDir,
    pub host: Host,
    pub folder: PathBuf,
}

impl Fake {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        let fake = Self {
            host: Host::under(root.path()),
            folder: root.path().join("state"),
            root,
        };
        fake.set("proc/sys/kernel/random/boot_id", "this-boot\n");
        fake.set(rt_throttling::SYSCTL, "950000\n");
        fake.set(hugetlb_pool::size(), "1\n");
        let size = hugetlb_pool::size();
        let pool = Path::new(&size).parent().unwrap();
        fake.set(pool.join("free_hugepages"), "1\n");
        fake.set(pool.join("resv_hugepages"), "0\n");
        fake
    }

    pub fn set(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn get(&self, path: &str) -> String {
        self.host.text(path).unwrap()
    }
}
