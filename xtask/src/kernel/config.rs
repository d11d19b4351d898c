//! The configuration of a kernel: everything off but what the guest, pinwatch and the user need.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;

/// What guests and pinwatch need, for all sources.
const GUEST: &str = include_str!("../../kernels/guest.config");
/// What guests need besides on arm64.
const ARM64_GUEST: &str = include_str!("../../kernels/guest-arm64.config");

/// Without these, and those [`of_machine`], a kernel neither boots in a guest nor serves pinwatch, unless a fragment turns one off.
/// Other symbols of [`GUEST`] are missing in some version.
const ESSENTIAL: &[&str] = &[
    "CONFIG_BLK_DEV_INITRD",
    "CONFIG_BPF_JIT",
    "CONFIG_BPF_SYSCALL",
    "CONFIG_CMA",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_DEVTMPFS",
    "CONFIG_DMA_CMA",
    "CONFIG_FAULT_INJECTION",
    "CONFIG_FUNCTION_TRACER",
    "CONFIG_IO_URING",
    "CONFIG_KPROBE_EVENTS",
    "CONFIG_MEMORY_HOTREMOVE",
    "CONFIG_TMPFS",
    "CONFIG_TRANSPARENT_HUGEPAGE",
];

/// As [`ESSENTIAL`], for the machine that QEMU emulates.
fn of_machine(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["CONFIG_PVH", "CONFIG_SERIAL_8250_CONSOLE"],
        Arch::Aarch64 => &[
            "CONFIG_PCI_HOST_GENERIC",
            "CONFIG_SERIAL_AMBA_PL011_CONSOLE",
        ],
    }
}

/// All requested symbols: for make's KCONFIG_ALLCONFIG. Later lines win.
pub fn requested(arch: Arch, fragments: &[PathBuf]) -> Result<String> {
    let mut text = match arch {
        Arch::X86_64 => GUEST.to_owned(),
        Arch::Aarch64 => [GUEST, ARM64_GUEST].join("\n"),
    };
    for fragment in fragments {
        let more = fs::read_to_string(fragment)
            .with_context(|| format!("cannot read {}", fragment.display()))?;
        if symbols(&more).next().is_none() {
            bail!(
                "{} sets no symbol: it needs lines such as CONFIG_CMA=y",
                fragment.display()
            );
        }
        // The name without its folder: the same file in another work tree makes the same kernel.
        let name = fragment.file_name().unwrap_or_default();
        write!(text, "\n# {}\n{more}", name.display())?;
    }
    Ok(text)
}

/// Fails if the kernel's configuration dropped a symbol of the user's, or an essential one that the user did not turn
/// off.
pub fn check(arch: Arch, config: &str, fragments: &[PathBuf]) -> Result<()> {
    let texts: Vec<_> = fragments
        .iter()
        .map(fs::read_to_string)
        .collect::<Result<_, _>>()?;
    let is_turned_off = |symbol: &str| {
        let mut chosen = texts.iter().flat_map(|text| symbols(text));
        chosen.any(|line| line == (symbol, "n"))
    };
    let essential = ESSENTIAL.iter().chain(of_machine(arch)).copied();
    let missing: Vec<_> = essential
        .filter(|symbol| value_of(config, symbol) != "y" && !is_turned_off(symbol))
        .collect();
    if !missing.is_empty() {
        bail!(
            "the configuration lacks what guests need: {}",
            missing.join(", ")
        );
    }
    for (fragment, text) in fragments.iter().zip(&texts) {
        check_fragment(config, fragment, text)?;
    }
    Ok(())
}

fn check_fragment(config: &str, fragment: &Path, text: &str) -> Result<()> {
    for (symbol, wanted) in symbols(text) {
        let value = value_of(config, symbol);
        if value != wanted {
            bail!(
                "{}: {symbol}={wanted} has no effect, the kernel sets {value}: add the symbols that it depends on (`make menuconfig`, key /)",
                fragment.display()
            );
        }
    }
    Ok(())
}

/// Symbols and values of lines such as `CONFIG_CMA=y` and `# CONFIG_SMP is not set`.
fn symbols(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        if let Some(symbol) = line.strip_prefix("# ") {
            let symbol = symbol.strip_suffix(" is not set")?;
            return Some((symbol, "n")).filter(|_| symbol.starts_with("CONFIG_"));
        }
        line.split_once('=')
            .filter(|(symbol, _)| symbol.starts_with("CONFIG_"))
    })
}

fn value_of<'a>(config: &'a str, symbol: &str) -> &'a str {
    let mut all = symbols(config);
    all.find(|(name, _)| *name == symbol)
        .map_or("n", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_a_fragment() {
        let text = "# CMA\nCONFIG_CMA=y\n# CONFIG_SMP is not set\nCONFIG_X=\"a b\"\n\n# CONFIG\n";
        let found: Vec<_> = symbols(text).collect();
        assert_eq!(
            found,
            [
                ("CONFIG_CMA", "y"),
                ("CONFIG_SMP", "n"),
                ("CONFIG_X", "\"a b\"")
            ]
        );
    }

    #[test]
    fn essential_symbols_are_requested() {
        for symbol in ESSENTIAL {
            assert_eq!(value_of(GUEST, symbol), "y", "{symbol}");
        }
        for arch in [Arch::X86_64, Arch::Aarch64] {
            check(arch, &requested(arch, &[]).unwrap(), &[]).unwrap();
        }
        let without = GUEST.replace("CONFIG_CMA=y", "# CONFIG_CMA is not set");
        let error = check(Arch::X86_64, &without, &[]).unwrap_err().to_string();
        assert!(error.ends_with(": CONFIG_CMA"), "{error}");
    }

    #[test]
    fn symbols_of_the_user_must_have_an_effect() {
        let dir = tempfile::tempdir().unwrap();
        let fragment = dir.path().join("my.config");
        fs::write(&fragment, "CONFIG_ZSWAP=y\n# CONFIG_NUMA is not set\n").unwrap();
        let fragments = [fragment];
        let requested = requested(Arch::X86_64, &fragments).unwrap();
        check(Arch::X86_64, &requested, &fragments).unwrap();
        let error = check(Arch::X86_64, GUEST, &fragments)
            .unwrap_err()
            .to_string();
        assert!(error.contains("CONFIG_ZSWAP=y has no effect"), "{error}");
        fs::write(&fragments[0], "# CONFIG_CMA is not set\n").unwrap();
        let without = GUEST.replace("CONFIG_CMA=y", "");
        check(Arch::X86_64, &without, &fragments).unwrap();
        fs::write(&fragments[0], "CMA=y\n").unwrap();
        assert!(super::requested(Arch::X86_64, &fragments).is_err());
    }
}
