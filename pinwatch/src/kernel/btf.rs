//! BTF reader for planning: prototypes of functions and tracepoints, enum constants, struct members.
//!
//! aya keeps such look-ups private, and other parsers build all of BTF in memory. The format is
//! <https://docs.kernel.org/bpf/btf.html>. Every access is checked: a malformed file is an error, never
//! a panic.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::names::Names;

/// A malformed BTF file.
#[derive(Debug, Error)]
pub enum BtfError {
    #[error("the file is not BTF, or has another byte order than this machine")]
    Magic,
    #[error("the BTF ends early, at byte {0}")]
    Truncated(usize),
    #[error(
        "type {0} of the BTF has the unknown kind {1}: the BTF is damaged, or newer than this pinwatch"
    )]
    Kind(u32, u32),
}

/// Prototype of a function or tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prototype {
    /// Parameter names, in order.
    pub params: Vec<String>,
    pub returns: Returns,
}

/// Return type of a function, as far as programs depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returns {
    Nothing,
    Bool,
    Other,
}

impl Prototype {
    /// Position of a parameter by name, from 0.
    #[must_use]
    pub fn position(&self, param: &str) -> Option<usize> {
        self.params.iter().position(|name| name == param)
    }
}

/// Results of a [`BtfQuery`]: the wanted items that the BTF has.
#[derive(Debug, Default)]
pub struct BtfMatches {
    pub functions: BTreeMap<String, Prototype>,
    /// Type id of each of these functions; of several with one name the first, as in the kernel's own search.
    pub ids: BTreeMap<String, u32>,
    /// Type id of each struct with wanted members; of several with one name the first.
    pub struct_ids: BTreeMap<String, u32>,
    pub tracepoints: BTreeMap<String, Prototype>,
    pub constants: BTreeMap<String, u64>,
    /// Byte offsets of struct members, by "struct.member".
    pub members: BTreeMap<String, u64>,
    /// Element counts of members that are arrays, by "struct.member".
    pub lengths: BTreeMap<String, u64>,
}

/// Names to look up in BTF.
#[derive(Debug, Default)]
pub struct BtfQuery<'a> {
    pub functions: &'a [&'a str],
    pub tracepoints: &'a [&'a str],
    /// Enum constants.
    pub constants: &'a [&'a str],
    /// Struct members, as (struct, member). The member [`SIZE`] stands for the struct itself.
    pub members: &'a [(&'a str, &'a str)],
}

/// In place of a member: the size of the struct.
pub const SIZE: &str = "sizeof";

/// Prefix of the function that calls a tracepoint's probes. Its parameters have names in BTF; those of
/// the type `btf_trace_*` have none.
const ITERATOR: &str = "__traceiter_";

/// BTF of the running kernel.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Bytes of the longest name that a kernel allows in BTF: `KSYM_NAME_LEN` without its zero.
const LONGEST_NAME: usize = 511;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_ENUM64: u32 = 19;

/// Looks up `wanted` in the BTF of the running kernel. The error says why it cannot be read.
pub fn read(wanted: &BtfQuery<'_>) -> Result<BtfMatches, String> {
    let data = fs::read(VMLINUX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned(),
        _ => format!("{VMLINUX} cannot be read: {error}"),
    })?;
    find(&data, wanted).map_err(|error| format!("{VMLINUX}: {error}"))
}

/// Looks up `wanted` in the BTF of a kernel. Names that the BTF lacks are absent from the result.
pub fn find(data: &[u8], wanted: &BtfQuery<'_>) -> Result<BtfMatches, BtfError> {
    let btf = Btf::parse(data)?;
    let functions = Names::new(wanted.functions.iter().copied().chain([ITERATOR]));
    let structs = Names::new(wanted.members.iter().map(|(of, _)| *of));
    let constants = Names::new(wanted.constants.iter().copied());
    let mut found = BtfMatches::default();
    for (id, at) in (1..).zip(&btf.types) {
        let ty = btf.type_at(*at as usize)?;
        match ty.kind {
            KIND_FUNC if btf.may_be(ty.name_off, &functions) => {
                btf.function(id, &ty, wanted, &mut found);
            }
            KIND_STRUCT if btf.may_be(ty.name_off, &structs) => {
                btf.layout(id, &ty, wanted, &mut found);
            }
            KIND_ENUM | KIND_ENUM64 => btf.constants(&ty, &constants, &mut found.constants),
            _ => {}
        }
    }
    Ok(found)
}

struct Type {
    name_off: u32,
    kind: u32,
    vlen: usize,
    size_or_type: u32,
    /// Byte offset of the data that depends on the kind.
    data: usize,
}

struct Btf<'a> {
    data: &'a [u8],
    strings: &'a [u8],
    /// Byte offset of each type, from id 1.
    types: Vec<u32>,
}

impl<'a> Btf<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        if data.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
            return Err(BtfError::Magic);
        }
        let header = u32_at(data, 4)? as usize;
        let section = |at| -> Result<(usize, usize), BtfError> {
            let start = header.saturating_add(u32_at(data, at)? as usize);
            let end = start.saturating_add(u32_at(data, at + 4)? as usize);
            (end <= data.len())
                .then_some((start, end))
                .ok_or(BtfError::Truncated(end))
        };
        let (types_start, types_end) = section(8)?;
        let (strings_start, strings_end) = section(16)?;
        let mut btf = Self {
            data,
            strings: &data[strings_start..strings_end],
            types: Vec::new(),
        };
        let mut at = types_start;
        while at < types_end {
            let ty = btf.type_at(at)?;
            let id = btf.types.len() as u32 + 1;
            btf.types
                .push(u32::try_from(at).map_err(|_| BtfError::Truncated(at))?);
            at = ty.data + extra_bytes(&ty).ok_or(BtfError::Kind(id, ty.kind))?;
        }
        Ok(btf)
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        let words = self
            .data
            .get(at..)
            .and_then(|rest| rest.first_chunk::<12>());
        let [name_off, info, size_or_type] =
            bytemuck::pod_read_unaligned::<[u32; 3]>(words.ok_or(BtfError::Truncated(at))?);
        Ok(Type {
            name_off,
            kind: (info >> 24) & 0x1f,
            vlen: (info & 0xffff) as usize,
            size_or_type,
            data: at + 12,
        })
    }

    /// The name at `offset`; empty if it is longer than the kernel's names are.
    fn name(&self, offset: u32) -> &'a str {
        let bytes = self.strings.get(offset as usize..).unwrap_or_default();
        let bytes = bytes.get(..LONGEST_NAME + 1).unwrap_or(bytes);
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        if end > LONGEST_NAME {
            return "";
        }
        std::str::from_utf8(&bytes[..end]).unwrap_or_default()
    }

    /// Whether the name at `offset` may be in `names`.
    fn may_be(&self, offset: u32, names: &Names<'_>) -> bool {
        let text = self.strings.get(offset as usize..);
        text.is_some_and(|text| names.may_start(text))
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = self.types.get((id as usize).checked_sub(1)?)?;
        self.type_at(*at as usize).ok()
    }

    /// Adds the prototype of a wanted function, or of the tracepoint that the function serves.
    fn function(&self, id: u32, ty: &Type, wanted: &BtfQuery<'_>, found: &mut BtfMatches) {
        let name = self.name(ty.name_off);
        if wanted.functions.contains(&name) {
            if let Some(proto) = self.prototype(ty.size_or_type) {
                found.functions.insert(name.to_owned(), proto);
                found.ids.entry(name.to_owned()).or_insert(id);
            }
        } else if let Some(tracepoint) = name.strip_prefix(ITERATOR)
            && wanted.tracepoints.contains(&tracepoint)
            && let Some(mut proto) = self.prototype(ty.size_or_type)
        {
            // The first parameter, `__data`, belongs to the probe and not to the tracepoint.
            proto.params.drain(..1.min(proto.params.len()));
            found.tracepoints.insert(tracepoint.to_owned(), proto);
        }
    }

    fn prototype(&self, id: u32) -> Option<Prototype> {
        let ty = self.get(id).filter(|ty| ty.kind == KIND_FUNC_PROTO)?;
        let params = (0..ty.vlen)
            .map(|n| {
                Some(
                    self.name(u32_at(self.data, ty.data + n * 8).ok()?)
                        .to_owned(),
                )
            })
            .collect::<Option<_>>()?;
        Some(Prototype {
            params,
            returns: self.returns(ty.size_or_type),
        })
    }

    fn returns(&self, id: u32) -> Returns {
        // A malformed file may have a cycle of typedefs.
        const MAX_TYPEDEFS: usize = 8;
        /// `BTF_INT_BOOL` in the encoding word of an integer type.
        const BOOL: u32 = 4 << 24;
        let mut next = id;
        for _ in 0..MAX_TYPEDEFS {
            match self.get(next) {
                None => return Returns::Nothing,
                Some(ty) if ty.kind == KIND_TYPEDEF => next = ty.size_or_type,
                Some(ty) if ty.kind == KIND_INT => {
                    let encoding = u32_at(self.data, ty.data).unwrap_or_default();
                    return if encoding & BOOL != 0 {
                        Returns::Bool
                    } else {
                        Returns::Other
                    };
                }
                Some(_) => return Returns::Other,
            }
        }
        Returns::Other
    }

    /// Offsets and element counts of the wanted members of a struct.
    fn layout(&self, id: u32, ty: &Type, wanted: &BtfQuery<'_>, found: &mut BtfMatches) {
        let name = self.name(ty.name_off);
        for (_, member) in wanted.members.iter().filter(|(of, _)| *of == name) {
            found.struct_ids.entry(name.to_owned()).or_insert(id);
            if *member == SIZE && ty.vlen > 0 {
                let size = u64::from(ty.size_or_type);
                found.members.insert(format!("{name}.{member}"), size);
            }
            let Some((of, bits)) = self.field(ty, member, 0) else {
                continue;
            };
            let name = format!("{name}.{member}");
            if let Some(array) = self.get(of).filter(|of| of.kind == KIND_ARRAY)
                && let Ok(length) = u32_at(self.data, array.data + 8)
            {
                found.lengths.insert(name.clone(), length.into());
            }
            found.members.insert(name, u64::from(bits) / 8);
        }
    }

    /// Type and offset in bits of a member, also of one inside unnamed structs and unions.
    fn field(&self, of: &Type, member: &str, depth: usize) -> Option<(u32, u32)> {
        // `struct folio` needs two levels. A malformed file may have a cycle.
        const MAX_DEPTH: usize = 4;
        (0..of.vlen).find_map(|n| {
            let at = of.data + n * 12;
            let name = self.name(u32_at(self.data, at).ok()?);
            let ty = u32_at(self.data, at + 4).ok()?;
            // If the struct has bit fields, the high 8 bits hold a member's size.
            let bits = u32_at(self.data, at + 8).ok()? & 0xff_ffff;
            if name == member {
                return Some((ty, bits));
            }
            let inner = self.get(ty).filter(|inner| {
                let is_unnamed = name.is_empty() && depth < MAX_DEPTH;
                is_unnamed && matches!(inner.kind, KIND_STRUCT | KIND_UNION)
            })?;
            let (ty, inner) = self.field(&inner, member, depth + 1)?;
            Some((ty, bits.saturating_add(inner)))
        })
    }

    fn constants(&self, ty: &Type, wanted: &Names<'_>, found: &mut BTreeMap<String, u64>) {
        let size = if ty.kind == KIND_ENUM { 8 } else { 12 };
        for member in 0..ty.vlen {
            let at = ty.data + member * size;
            let Ok(name) = u32_at(self.data, at) else {
                return;
            };
            if !self.may_be(name, wanted) {
                continue;
            }
            let name = self.name(name);
            if wanted.contains(name) {
                let low = u32_at(self.data, at + 4).unwrap_or_default();
                let high = if size == 12 {
                    u32_at(self.data, at + 8).unwrap_or_default()
                } else {
                    0
                };
                found.insert(name.to_owned(), u64::from(high) << 32 | u64::from(low));
            }
        }
    }
}

/// Bytes of a type after the common 12; `None` for an unknown kind.
fn extra_bytes(ty: &Type) -> Option<usize> {
    Some(match ty.kind {
        1 | 14 | 17 => 4,
        2 | 7..=12 | 16 | 18 => 0,
        3 => 12,
        4 | 5 | 15 | KIND_ENUM64 => ty.vlen * 12,
        KIND_ENUM | KIND_FUNC_PROTO => ty.vlen * 8,
        _ => return None,
    })
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes
        .map(|b| u32::from_ne_bytes(*b))
        .ok_or(BtfError::Truncated(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int f(long n); enum { E = 7 }` as BTF.
    fn sample() -> Vec<u8> {
        let strings = b"\0f\0n\0E\0";
        let mut types = Vec::new();
        let mut put = |words: &[u32]| words.iter().for_each(|w| types.extend(w.to_ne_bytes()));
        put(&[0, 1 << 24, 4, 32]); // 1: int
        put(&[0, KIND_FUNC_PROTO << 24 | 1, 1, 3, 1]); // 2: int (int n)
        put(&[1, KIND_FUNC << 24, 2]); // 3: f
        put(&[0, KIND_ENUM << 24 | 1, 4, 5, 7]); // 4: enum
        let mut data = Vec::new();
        data.extend(0xeb9f_u16.to_ne_bytes());
        data.extend([1, 0]);
        for word in [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            data.extend(word.to_ne_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    const WANTED: BtfQuery<'_> = BtfQuery {
        functions: &["f"],
        tracepoints: &[],
        constants: &["E"],
        members: &[],
    };

    #[test]
    fn finds_a_prototype_and_a_constant() {
        let found = find(&sample(), &WANTED).unwrap();
        assert_eq!(
            found.functions["f"],
            Prototype {
                params: vec!["n".into()],
                returns: Returns::Other
            }
        );
        assert_eq!(found.ids["f"], 3);
        assert_eq!(found.constants["E"], 7);
    }

    /// Otherwise a small file whose many parameters share one long name would take much memory.
    #[test]
    fn names_longer_than_the_kernels_are_empty() {
        for (length, kept) in [(LONGEST_NAME, LONGEST_NAME), (LONGEST_NAME + 1, 0)] {
            let strings = [&vec![b'n'; length][..], b"\0"].concat();
            let btf = Btf {
                data: &[],
                strings: &strings,
                types: Vec::new(),
            };
            assert_eq!(btf.name(0).len(), kept);
        }
    }

    #[test]
    fn a_cut_or_changed_file_is_an_error_or_less_but_no_panic() {
        let data = sample();
        for cut in 0..data.len() {
            let _ = find(&data[..cut], &WANTED);
        }
        for at in 0..data.len() {
            for bit in 0..8 {
                let mut data = data.clone();
                data[at] ^= 1 << bit;
                let _ = find(&data, &WANTED);
            }
        }
        assert!(matches!(find(b"\x7fELF", &WANTED), Err(BtfError::Magic)));
    }
}
