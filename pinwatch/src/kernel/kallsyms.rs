//! `/proc/kallsyms`: counts of symbols, and names for kernel addresses.
//!
//! The addresses themselves never leave the agent.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _};
use std::ops::ControlFlow;
use std::sync::Mutex;

use memchr::memchr_iter;

use super::names::Names;

/// Start and end of the first task's stack.
const STACK_START: &str = "__start_init_task";
const STACK_END: &str = "__end_init_task";
/// Last symbol of the code that the kernel keeps. Symbols are in the order of their addresses, and those of
/// modules follow the kernel's.
const TEXT_END: &str = "_etext";

/// One line of kallsyms: "address type name [module]".
struct Symbol<'a> {
    address: &'a str,
    kind: &'a str,
    name: &'a str,
    module: Option<&'a str>,
}

impl<'a> Symbol<'a> {
    /// `None` for a malformed line.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        Some(Self {
            address: words.next()?,
            kind: words.next()?,
            name: words.next()?,
            module: words.next(),
        })
    }

    fn is_text(&self) -> bool {
        matches!(self.kind, "t" | "T" | "w" | "W")
    }

    /// The address; 0 if the kernel hides addresses.
    fn address(&self) -> Option<u64> {
        u64::from_str_radix(self.address, 16).ok()
    }
}

/// Calls `take` for each line until it says that it needs no more. Lines are not copied, but for those that a read cuts.
fn for_each_line(
    mut text: impl BufRead,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut cut = Vec::new();
    loop {
        let read = match text.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read.is_empty() {
            if !cut.is_empty() {
                let _ = take(&cut);
            }
            return Ok(());
        }
        let mut start = 0;
        for end in memchr_iter(b'\n', read) {
            let line = &read[start..end];
            start = end + 1;
            let next = if cut.is_empty() {
                take(line)
            } else {
                cut.extend_from_slice(line);
                let next = take(&cut);
                cut.clear();
                next
            };
            if next.is_break() {
                return Ok(());
            }
        }
        cut.extend_from_slice(&read[start..]);
        let taken = read.len();
        text.consume(taken);
    }
}

/// The line from its symbol's name on: after the second space.
fn from_name(line: &[u8]) -> &[u8] {
    /// Length of "0123456789abcdef t ", for addresses of 64 bits.
    const BEFORE: usize = 19;
    if let Some([b' ', _, b' ']) = line.get(BEFORE - 3..BEFORE) {
        return &line[BEFORE..];
    }
    line.splitn(3, |byte| *byte == b' ')
        .nth(2)
        .unwrap_or_default()
}

/// What to look for in kallsyms.
#[derive(Clone, Copy, Debug, Default)]
pub struct SymbolQuery<'a> {
    /// Text symbols to count.
    pub symbols: &'a [&'a str],
    /// Text symbols that may lie in the code that the kernel discards after its start.
    pub at_start: &'a [&'a str],
    /// Whether to find out the size of a kernel stack.
    pub stack_size: bool,
    /// Variables whose addresses to find out.
    pub variables: &'a [&'a str],
}

/// Counts of wanted symbols, from one read of kallsyms.
///
/// The kernel formats the text again for each reader: some 2,150 instructions per line. So the reader stops
/// at the end of the kernel's code, where it can, after about two thirds of the text.
#[derive(Debug, Default)]
pub struct SymbolCounts {
    /// Occurrences of each wanted text symbol without suffix.
    pub plain: BTreeMap<String, u32>,
    /// Names of wanted text symbols with a suffix, by plain name.
    pub suffixed: BTreeMap<String, Vec<String>>,
    /// Size of a kernel stack in bytes: the linker gives the first task's stack the size of all others.
    /// `None` if addresses are hidden.
    pub stack_size: Option<u64>,
    /// Address of each wanted variable; empty if addresses are hidden.
    pub variables: BTreeMap<String, u64>,
}

impl SymbolCounts {
    /// Reads `/proc/kallsyms`; empty if it cannot be read.
    pub fn read(wanted: SymbolQuery<'_>) -> Self {
        match File::open("/proc/kallsyms") {
            Ok(file) => Self::parse(BufReader::new(file), wanted),
            Err(_) => Self::default(),
        }
    }

    /// Counts the symbols in a text of kallsyms.
    pub fn parse(text: impl BufRead, wanted: SymbolQuery<'_>) -> Self {
        let counted = [wanted.symbols, wanted.at_start].concat();
        let others = [TEXT_END, STACK_START, STACK_END];
        let names = Names::new(
            counted
                .iter()
                .chain(wanted.variables)
                .copied()
                .chain(others),
        );
        let mut found = Self::default();
        let (mut start, mut end) = (None, None);
        let mut after_code = false;
        // After an error the symbols read before it count: an incomplete list is still useful.
        let _ = for_each_line(text, |line| {
            if !names.may_start(from_name(line)) {
                return ControlFlow::Continue(());
            }
            let Some(symbol) = Symbol::parse(line) else {
                return ControlFlow::Continue(());
            };
            match symbol.name {
                TEXT_END if symbol.module.is_none() => after_code = true,
                STACK_START => start = symbol.address(),
                STACK_END => end = symbol.address(),
                name if wanted.variables.contains(&name) && symbol.module.is_none() => {
                    let address = symbol.address().filter(|address| *address != 0);
                    found
                        .variables
                        .extend(address.map(|address| (name.to_owned(), address)));
                }
                name if symbol.is_text() => found.count(name, &counted),
                _ => {}
            }
            if after_code && found.is_complete(wanted) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let size = start
            .zip(end)
            .and_then(|(start, end)| end.checked_sub(start));
        found.stack_size = size.filter(|size| *size > 0);
        found
    }

    /// Whether nothing wanted can follow, after the kernel's code.
    fn is_complete(&self, wanted: SymbolQuery<'_>) -> bool {
        let has = |name: &&str| self.plain.contains_key(*name);
        let located = |name: &&str| self.variables.contains_key(*name);
        !wanted.stack_size
            && wanted.variables.iter().all(located)
            && wanted.at_start.iter().all(has)
    }

    fn count(&mut self, symbol: &str, wanted: &[&str]) {
        let mut parts = symbol.split('.');
        let base = parts.next().unwrap_or(symbol);
        if !wanted.contains(&base) {
            return;
        }
        if parts.any(|part| part == "cold") {
            // The compiler's cold part of a function, or of a clone, which has a symbol of its own. Nobody calls it.
        } else if base == symbol {
            *self.plain.entry(symbol.to_owned()).or_default() += 1;
        } else {
            let suffixed = self.suffixed.entry(base.to_owned()).or_default();
            suffixed.push(symbol.to_owned());
        }
    }
}

/// `/proc/kallsyms`, opened while this process may see addresses.
///
/// The credentials at open(2) decide whether the text has addresses.
pub struct KernelSymbols(Mutex<File>);

impl KernelSymbols {
    /// Opens the file. Call it before capabilities are dropped.
    pub fn open() -> io::Result<Self> {
        Ok(Self(File::open("/proc/kallsyms")?.into()))
    }

    /// "symbol+0x12" for each return address of a stack, innermost first. An error if addresses are hidden.
    pub fn resolve(&self, addresses: &[u64]) -> io::Result<Vec<String>> {
        let mut file = self.0.lock().expect("no holder panics");
        file.rewind()?;
        resolve_in(BufReader::new(&*file), addresses)
    }
}

/// Reads the symbols once and keeps, for each address, the nearest symbol at or before it.
pub fn resolve_in(kallsyms: impl BufRead, addresses: &[u64]) -> io::Result<Vec<String>> {
    let mut nearest = vec![(0, String::new()); addresses.len()];
    for_each_line(kallsyms, |line| {
        let Some(symbol) = Symbol::parse(line).filter(Symbol::is_text) else {
            return ControlFlow::Continue(());
        };
        let start = symbol.address().unwrap_or_default();
        for (n, (best, name)) in nearest.iter_mut().enumerate() {
            // If a call is the last instruction of a function, its return address belongs to the next
            // symbol. A kretprobe's trampoline, however, is entered by a return to its first byte.
            let at = addresses[n];
            let called = n > 0 && !(start == at && symbol.name.contains("trampoline"));
            if start > *best && start <= at.saturating_sub(called.into()) {
                *best = start;
                name.clear();
                name.push_str(symbol.name);
                if let Some(module) = symbol.module {
                    name.push(' ');
                    name.push_str(module);
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    if nearest.iter().all(|(start, _)| *start == 0) {
        return Err(io::Error::other(
            "/proc/kallsyms hides addresses: start pinwatch with CAP_SYSLOG and kernel.kptr_restrict below 2",
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

    #[test]
    fn symbols_with_suffixes_and_duplicates_are_counted_apart() {
        let text = "ffffffff81000000 t __gup_longterm_locked\n\
                    ffffffff81000010 t __pfx___gup_longterm_locked\n\
                    ffffffff81000020 t migrate_pages.isra.0\n\
                    ffffffff81000030 t migrate_pages.cold\n\
                    ffffffff81000034 t migrate_pages.isra.0.cold\n\
                    ffffffff81000038 t folio_isolate_lru.cold.12\n\
                    ffffffff8100003c t folio_isolate_lru.llvm.123\n\
                    0000000000000000 T folio_isolate_lru\n\
                    0000000000000000 t folio_isolate_lru\t[some_module]\n\
                    0000000000000000 d isolate_hugetlb\n\
                    cut";
        let wanted = [
            "__gup_longterm_locked",
            "migrate_pages",
            "folio_isolate_lru",
        ];
        let found = SymbolCounts::parse(text.as_bytes(), symbols(&wanted));
        let expected = [("__gup_longterm_locked", 1), ("folio_isolate_lru", 2)];
        let expected = expected.map(|(name, n)| (name.to_owned(), n));
        assert_eq!(found.plain, expected.into());
        assert_eq!(found.suffixed["migrate_pages"], ["migrate_pages.isra.0"]);
        let renamed = &found.suffixed["folio_isolate_lru"];
        assert_eq!(renamed, &["folio_isolate_lru.llvm.123"]);
    }

    fn symbols<'a>(symbols: &'a [&'a str]) -> SymbolQuery<'a> {
        SymbolQuery {
            symbols,
            ..SymbolQuery::default()
        }
    }

    #[test]
    fn reading_stops_at_the_end_of_the_code_unless_something_may_follow() {
        let text = "ffffffff81000000 t migrate_pages\n\
                    ffffffff81000010 t _etext\t[module]\n\
                    ffffffff81000020 t cma_alloc\n\
                    ffffffff82000000 T _etext\n\
                    ffffffff83000000 t migrate_pages\n\
                    ffffffff83000010 t vmemmap_populate\n";
        let count = |wanted| SymbolCounts::parse(text.as_bytes(), wanted).plain;
        let code = count(symbols(&["migrate_pages", "cma_alloc"]));
        assert_eq!((code["migrate_pages"], code["cma_alloc"]), (1, 1));
        let wanted = SymbolQuery {
            symbols: &["migrate_pages"],
            at_start: &["vmemmap_populate"],
            ..SymbolQuery::default()
        };
        let all = count(wanted);
        assert_eq!((all["migrate_pages"], all["vmemmap_populate"]), (2, 1));
    }

    #[test]
    fn damaged_lines_are_skipped_and_short_addresses_count() {
        let mut text =
            b"\n  \nffffffff81000000\nffffffff81000000 t\nffffffff81000000 t \n\xff\xfe t x\n"
                .to_vec();
        text.extend(b"ffffffff81000000 t migrate_pages\xff\n");
        text.extend(b"c0008000 T migrate_pages\nffffffff81000000 t migrate_pages");
        for cut in 0..text.len() {
            SymbolCounts::parse(&text[..cut], symbols(&["migrate_pages"]));
        }
        let found = SymbolCounts::parse(text.as_slice(), symbols(&["migrate_pages"]));
        assert_eq!(found.plain["migrate_pages"], 2);
    }

    #[test]
    fn addresses_of_variables_are_those_of_the_kernel_and_may_be_hidden() {
        let wanted = SymbolQuery {
            variables: &["mem_section"],
            ..SymbolQuery::default()
        };
        let of = |text: &str| SymbolCounts::parse(text.as_bytes(), wanted).variables;
        let text = "ffff0000 T _etext\nffff8000 B mem_section\nffffc000 b mem_section\t[m]\n";
        assert_eq!(of(text), [("mem_section".to_owned(), 0xffff_8000)].into());
        assert!(of("00000000 B mem_section\n").is_empty());
    }

    #[test]
    fn the_stack_size_is_a_difference_and_hidden_with_the_addresses() {
        let wanted = SymbolQuery {
            stack_size: true,
            ..SymbolQuery::default()
        };
        let of = |text: &str| SymbolCounts::parse(text.as_bytes(), wanted).stack_size;
        assert_eq!(
            of("ffff0000 T _etext\nffff8000 D __start_init_task\nffffc000 D __end_init_task"),
            Some(0x4000)
        );
        assert_eq!(
            of("00000000 D __start_init_task\n00000000 D __end_init_task"),
            None
        );
    }
}
