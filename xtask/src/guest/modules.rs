//! Resolves names of kernel modules to their files and dependencies, in load order.
//!
//! Debian's packages have no modules.dep (depmod writes it on installation), so dependencies are read from
//! the modules. Files are decompressed here, since busybox cannot do it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use crate::debian::decompress;

pub struct Module {
    pub name: String,
    pub data: Vec<u8>,
}

pub struct Modules {
    files: HashMap<String, PathBuf>,
    builtin: HashSet<String>,
}

impl Modules {
    /// Indexes an installed tree, such as `/lib/modules/6.12.1`.
    pub fn open(tree: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        let mut folders = vec![tree.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = module_name(&entry.path()) {
                    files.insert(name, entry.path());
                }
            }
        }
        let builtin = fs::read_to_string(tree.join("modules.builtin"))?;
        let builtin = builtin
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// Whether the kernel has it, as a module or built in.
    pub fn has(&self, name: &str) -> bool {
        self.builtin.contains(name) || self.files.contains_key(name)
    }

    /// The wanted modules after their dependencies, without built-in ones.
    pub fn resolve<S: AsRef<str>>(&self, wanted: &[S]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for name in wanted {
            self.visit(name.as_ref(), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, seen: &mut HashSet<String>, order: &mut Vec<Module>) -> Result<()> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) || !seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(file) = self.files.get(&name) else {
            bail!("this kernel has no module {name}: leave it out if the kernel has it built in");
        };
        let data = decompress::file(file)?;
        for dependency in
            depends(&data).with_context(|| format!("{} is not a kernel module", file.display()))?
        {
            self.visit(&dependency, seen, order)?;
        }
        order.push(Module { name, data });
        Ok(())
    }
}

/// `a/b/snd-pcm.ko.xz` is the module `snd_pcm`.
fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(rest, "" | ".gz" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

/// The `depends=` entry that modpost wrote into the module.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file
        .section_by_name(".modinfo")
        .context("no .modinfo section")?;
    let names = section
        .data()?
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .unwrap_or_default();
    let names = std::str::from_utf8(names)?
        .split(',')
        .filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names() {
        assert_eq!(
            module_name(Path::new("kernel/net/virtio-net.ko.xz")).unwrap(),
            "virtio_net"
        );
        assert_eq!(
            module_name(Path::new("kernel/net/tun.ko.gz")).unwrap(),
            "tun"
        );
        assert_eq!(
            module_name(Path::new("kernel/net/failover.ko")).unwrap(),
            "failover"
        );
        assert_eq!(module_name(Path::new("modules.builtin")), None);
    }
}
