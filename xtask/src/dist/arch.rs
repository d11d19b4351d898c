//! Architectures of a release, and the name that each kind of file has for them.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use object::{Architecture, Object as _};

/// One row of [`ARCHITECTURES`].
#[derive(Debug)]
pub struct Arch {
    /// For Debian, container images and Kubernetes.
    pub deb: &'static str,
    /// For rpm, the kernel and Rust.
    pub rpm: &'static str,
    pub target: &'static str,
    machine: Architecture,
    /// Removes debug information on a machine of another architecture.
    cross_strip: &'static str,
    pub cross_package: &'static str,
}

pub const ARCHITECTURES: [Arch; 2] = [
    Arch {
        deb: "amd64",
        rpm: "x86_64",
        target: "x86_64-unknown-linux-gnu",
        machine: Architecture::X86_64,
        cross_strip: "x86_64-linux-gnu-strip",
        cross_package: "binutils-x86-64-linux-gnu",
    },
    Arch {
        deb: "arm64",
        rpm: "aarch64",
        target: "aarch64-unknown-linux-gnu",
        machine: Architecture::Aarch64,
        cross_strip: "aarch64-linux-gnu-strip",
        cross_package: "binutils-aarch64-linux-gnu",
    },
];

impl Arch {
    /// This machine's.
    pub fn host() -> &'static Self {
        let host = ARCHITECTURES.iter().find(|arch| arch.is_host());
        host.expect("xtask runs on a machine of the table")
    }

    pub fn is_host(&self) -> bool {
        self.rpm == env::consts::ARCH
    }

    /// The name that builds have for it, if this machine compiles for it and cannot run it.
    pub fn crossed(&self) -> Option<crate::arch::Arch> {
        let this = Self::host().deb;
        (this == "amd64" && self.deb == "arm64").then_some(crate::arch::Arch::Aarch64)
    }

    pub fn strip(&self) -> &'static str {
        if self.is_host() {
            "strip"
        } else {
            self.cross_strip
        }
    }

    /// Fails unless a program is a static one for this architecture.
    pub fn check(&self, program: &Path) -> Result<()> {
        let shown = program.display();
        let data = fs::read(program).with_context(|| format!("cannot read {shown}"))?;
        let file = object::File::parse(data.as_slice())
            .with_context(|| format!("{shown} is no ELF program"))?;
        if file.architecture() != self.machine {
            bail!(
                "{shown} is for {:?}, not for {}",
                file.architecture(),
                self.deb
            );
        }
        if file.section_by_name(".interp").is_some() {
            bail!(
                "{shown} is not static: build it with RUSTFLAGS=-Ctarget-feature=+crt-static and --target {}",
                self.target
            );
        }
        Ok(())
    }
}

/// A program that is packaged as it is, from `ARCH=FILE`.
#[derive(Clone, Debug)]
pub struct Given {
    pub arch: &'static Arch,
    pub program: PathBuf,
}

pub fn parse(text: &str) -> Result<Given> {
    let (name, program) = text.split_once('=').with_context(|| {
        format!("{text:?} has no `=`: write for example arm64=path/to/pinwatch")
    })?;
    let arch = ARCHITECTURES
        .iter()
        .find(|arch| [arch.deb, arch.rpm].contains(&name))
        .with_context(|| format!("{name:?} is no architecture: use amd64 or arm64"))?;
    Ok(Given {
        arch,
        program: program.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_given_by_either_name_of_an_architecture() {
        for name in ["arm64", "aarch64"] {
            let given = parse(&format!("{name}=a=b")).unwrap();
            assert_eq!((given.arch.deb, given.program), ("arm64", "a=b".into()));
        }
        for (wrong, why) in [("pinwatch", "has no `=`"), ("mips=a", "no architecture")] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn only_static_programs_of_the_architecture_are_packaged() {
        // The test program itself is for this machine, and static only if the C library is linked so.
        let this = env::current_exe().unwrap();
        let dynamic = !cfg!(target_feature = "crt-static");
        assert_eq!(Arch::host().check(&this).is_err(), dynamic);
        let other = ARCHITECTURES.iter().find(|arch| !arch.is_host()).unwrap();
        let error = other.check(&this).unwrap_err().to_string();
        assert!(error.contains(&format!("not for {}", other.deb)), "{error}");
    }
}
