//! Names for kernel addresses, which themselves never leave the agent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _};
use std::sync::Mutex;

/// `/proc/kallsyms`, opened while this process may see addresses: what is read
/// depends on who opened it.
pub struct Symbols(Mutex<File>);

impl Symbols {
    pub fn open() -> io::Result<Self> {
        Ok(Self(File::open("/proc/kallsyms")?.into()))
    }

    /// "symbol+0x12" for each return address of a stack, innermost first.
    pub fn resolve(&self, addresses: &[u64]) -> io::Result<Vec<String>> {
        let mut file = self.0.lock().expect("no holder panics");
        file.rewind()?;
        resolve_in(BufReader::new(&*file), addresses)
    }
}

/// Reads the symbols once and keeps the nearest before each address.
fn resolve_in(kallsyms: impl BufRead, addresses: &[u64]) -> io::Result<Vec<String>> {
    let mut nearest = vec![(0, String::new()); addresses.len()];
    for line in kallsyms.lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (Some(start), Some("t" | "T" | "w" | "W"), Some(name)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let start = u64::from_str_radix(start, 16).unwrap_or_default();
        for (n, (best, symbol)) in nearest.iter_mut().enumerate() {
            // A call can be a function's last instruction, but a trampoline is
            // returned to at its start.
            let at = addresses[n];
            let called = n > 0 && !(start == at && name.contains("trampoline"));
            if start > *best && start <= at.saturating_sub(called.into()) {
                *best = start;
                symbol.clear();
                symbol.push_str(name);
                if let Some(module) = words.clone().next() {
                    symbol.push(' ');
                    symbol.push_str(module);
                }
            }
        }
    }
    if nearest.iter().all(|(start, _)| *start == 0) {
        return Err(io::Error::other(
            "/proc/kallsyms hides addresses (kernel.kptr_restrict)",
        ));
    }
    let named = nearest.into_iter().zip(addresses);
    let named = named.map(|((start, symbol), address)| {
        let (name, module) = symbol.split_once(' ').unwrap_or((&symbol, ""));
        let gap = if module.is_empty() { "" } else { " " };
        format!("{name}+{:#x}{gap}{module}", address - start)
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_text_symbol_before() {
        let kallsyms = "ffffffff81000000 T _stext\n\
                        ffffffff81000100 t __gup_longterm_locked\n\
                        ffffffff81000140 t kretprobe_trampoline\n\
                        ffffffff81000150 d not_text\n\
                        ffffffffc0000000 t ib_umem_get\t[ib_uverbs]\n";
        let addresses = [
            0xffff_ffff_8100_0100,
            0xffff_ffff_8100_0100,
            0xffff_ffff_8100_0140,
            0xffff_ffff_c000_0010,
        ];
        assert_eq!(
            resolve_in(kallsyms.as_bytes(), &addresses).unwrap(),
            [
                "__gup_longterm_locked+0x0",
                "_stext+0x100",
                "kretprobe_trampoline+0x0",
                "ib_umem_get+0x10 [ib_uverbs]"
            ]
        );
        let hidden = "0000000000000000 T _stext\n";
        assert!(resolve_in(hidden.as_bytes(), &addresses).is_err());
    }
}
