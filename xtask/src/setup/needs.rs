//! Programs and files that must be on this machine, one row each.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::child;
use crate::debian::apt;

/// A use of this machine. Each has its own needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Boot guests.
    Guests,
    /// Boot guests and build pinwatch with its BPF programs.
    All,
    /// All of that, and test the page, `pinwatch top` and the metrics with real clients.
    Tests,
    /// All of that, and make a disk with a Debian system.
    InstallTest,
    /// Build pinwatch and count the instructions of user space.
    Counts,
    /// Build pinwatch with its BPF programs, and boot nothing.
    Build,
    /// Make and check a Debian package.
    Deb,
    /// Make and check an rpm package.
    Rpm,
    /// Make a container image.
    Image,
    /// Check files against schemas from npm and PyPI.
    Validate,
    /// Fetch packages and build kernels.
    Kernels,
}

impl Purpose {
    pub fn wants(self, need: Self) -> bool {
        match self {
            Self::Counts => need == self || need <= Self::All,
            Self::Validate => need == self,
            Self::Build | Self::Deb | Self::Rpm | Self::Image => need == self || need == Self::All,
            Self::Kernels => need == self || need == Self::Guests,
            _ => need <= self,
        }
    }

    /// Whether it builds pinwatch's BPF programs.
    pub fn builds_programs(self) -> bool {
        !matches!(self, Self::Guests | Self::Kernels | Self::Validate)
    }
}

/// A program or file that must be on this machine.
pub struct Need {
    pub name: &'static str,
    pub present: fn(&str) -> bool,
    pub package: &'static str,
    pub purpose: Purpose,
}

pub const NEEDS: &[Need] = &[
    Need {
        name: "qemu-system-x86_64",
        present: in_path,
        package: "qemu-system-x86",
        purpose: Purpose::Guests,
    },
    Need {
        name: "apt-get",
        present: in_path,
        package: "apt",
        purpose: Purpose::Guests,
    },
    Need {
        name: "dpkg-deb",
        present: in_path,
        package: "dpkg",
        purpose: Purpose::Guests,
    },
    Need {
        name: apt::KEYRING,
        present: is_file,
        package: "debian-archive-keyring",
        purpose: Purpose::Guests,
    },
    Need {
        name: "xz",
        present: in_path,
        package: "xz-utils",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "cc",
        present: in_path,
        package: "gcc",
        purpose: Purpose::All,
    },
    Need {
        name: "chromium-headless-shell",
        present: in_path,
        package: "chromium-headless-shell",
        purpose: Purpose::Tests,
    },
    Need {
        name: "tmux",
        present: in_path,
        package: "tmux",
        purpose: Purpose::Tests,
    },
    Need {
        name: "systemd-analyze",
        present: in_path,
        package: "systemd",
        purpose: Purpose::Tests,
    },
    Need {
        name: "debootstrap",
        present: in_path,
        package: "debootstrap",
        purpose: Purpose::InstallTest,
    },
    Need {
        name: "mkfs.ext4",
        present: in_path,
        package: "e2fsprogs",
        purpose: Purpose::InstallTest,
    },
    Need {
        name: "valgrind",
        present: in_path,
        package: "valgrind",
        purpose: Purpose::Counts,
    },
    Need {
        name: "lintian",
        present: in_path,
        package: "lintian",
        purpose: Purpose::Deb,
    },
    Need {
        name: "rpmbuild",
        present: in_path,
        package: "rpm",
        purpose: Purpose::Rpm,
    },
    Need {
        name: "rpmlint",
        present: in_path,
        package: "rpmlint",
        purpose: Purpose::Rpm,
    },
    Need {
        name: "buildah",
        present: in_path,
        package: "buildah",
        purpose: Purpose::Image,
    },
    Need {
        name: "npm",
        present: in_path,
        package: "npm",
        purpose: Purpose::Validate,
    },
    Need {
        name: "ensurepip",
        present: python_imports,
        package: "python3-venv",
        purpose: Purpose::Validate,
    },
    Need {
        name: "libc.a",
        present: cc_finds,
        package: "libc6-dev",
        purpose: Purpose::All,
    },
    Need {
        name: "gcc",
        present: in_path,
        package: "gcc",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "/usr/include/stdio.h",
        present: is_file,
        package: "libc6-dev",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "make",
        present: in_path,
        package: "make",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "flex",
        present: in_path,
        package: "flex",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "bison",
        present: in_path,
        package: "bison",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "bc",
        present: in_path,
        package: "bc",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "perl",
        present: in_path,
        package: "perl",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "python3",
        present: in_path,
        package: "python3",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "patch",
        present: in_path,
        package: "patch",
        purpose: Purpose::Kernels,
    },
    // xtask's own tests apply patches.
    Need {
        name: "patch",
        present: in_path,
        package: "patch",
        purpose: Purpose::Tests,
    },
    Need {
        name: "strip",
        present: in_path,
        package: "binutils",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "pahole",
        present: in_path,
        package: "dwarves",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "/usr/include/gelf.h",
        present: is_file,
        package: "libelf-dev",
        purpose: Purpose::Kernels,
    },
];

/// For guests of arm64, beside [`NEEDS`].
pub const ARM64_NEEDS: &[Need] = &[
    Need {
        name: "qemu-system-aarch64",
        present: in_path,
        package: "qemu-system-arm",
        purpose: Purpose::Guests,
    },
    Need {
        name: "aarch64-linux-gnu-gcc",
        present: in_path,
        package: "gcc-aarch64-linux-gnu",
        purpose: Purpose::All,
    },
    Need {
        name: "/usr/aarch64-linux-gnu/lib/libc.a",
        present: is_file,
        package: "libc6-dev-arm64-cross",
        purpose: Purpose::All,
    },
];

/// For kernels that clang compiles, beside [`NEEDS`].
pub const CLANG_NEEDS: &[Need] = &[
    Need {
        name: "clang",
        present: in_path,
        package: "clang",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "ld.lld",
        present: in_path,
        package: "lld",
        purpose: Purpose::Kernels,
    },
    Need {
        name: "llvm-objcopy",
        present: in_path,
        package: "llvm",
        purpose: Purpose::Kernels,
    },
];

pub fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .any(|dir| fs::metadata(dir.join(program)).is_ok_and(|meta| meta.is_file()))
}

fn is_file(path: &str) -> bool {
    Path::new(path).is_file()
}

fn python_imports(module: &str) -> bool {
    let mut python = child::command("python3");
    python.args(["-c", &format!("import {module}")]);
    child::output(&mut python).is_ok()
}

/// Whether the C compiler has a library: it prints the bare name of a missing one.
fn cc_finds(library: &str) -> bool {
    let output = Command::new("cc")
        .arg(format!("-print-file-name={library}"))
        .output();
    output
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_need_a_compiler_and_no_virtual_machine() {
        let packages = |purpose: Purpose| -> Vec<_> {
            let needs = NEEDS.iter().filter(|need| purpose.wants(need.purpose));
            needs.map(|need| need.package).collect()
        };
        assert_eq!(packages(Purpose::Build), ["gcc", "libc6-dev"]);
        assert_eq!(packages(Purpose::Deb), ["gcc", "lintian", "libc6-dev"]);
        assert_eq!(packages(Purpose::Validate), ["npm", "python3-venv"]);
        assert!(packages(Purpose::Counts).contains(&"qemu-system-x86"));
        assert!(!packages(Purpose::InstallTest).contains(&"lintian"));
    }
}
