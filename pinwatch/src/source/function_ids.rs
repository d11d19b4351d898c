//! BTF for aya in which the wanted functions have their ids in the kernel, and nothing else has a content.
//!
//! aya parses all BTF of a kernel into objects: more than 50 million instructions. It then searches them for
//! each program: up to 24 million more. For fentry and fexit it only needs the id of the function.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use aya::Btf;
use aya_obj::btf::{BtfType, Func, FuncLinkage};

/// BTF in which [`Btf::id_by_type_name_kind`] finds each function at its id.
pub fn btf_with(ids: &BTreeMap<String, u32>) -> Btf {
    let mut by_id: Vec<_> = ids.iter().map(|(name, id)| (*id, name)).collect();
    by_id.sort_unstable();
    let mut btf = Btf::new();
    // Id 0 exists from the start.
    let mut next = 1;
    for (id, name) in by_id {
        for _ in next..id {
            btf.add_type(BtfType::Unknown);
        }
        let name = btf.add_string(name);
        next = btf.add_type(BtfType::Func(Func::new(name, 0, FuncLinkage::Static))) + 1;
    }
    btf
}

#[cfg(test)]
mod tests {
    use aya_obj::btf::BtfKind;

    use super::*;

    #[test]
    fn each_function_has_its_id() {
        let ids = [("b", 1), ("migrate_pages", 40_000), ("a", 40_001)];
        let btf = btf_with(&ids.map(|(name, id)| (name.to_owned(), id)).into());
        for (name, id) in ids {
            assert_eq!(btf.id_by_type_name_kind(name, BtfKind::Func).unwrap(), id);
        }
        assert!(btf.id_by_type_name_kind("c", BtfKind::Func).is_err());
    }
}
