//! Resolves calls of kernel functions (kfuncs) in the BPF object, which aya does not do.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use pinwatch_common::abi::{KFUNCS, NO_OPERATION, kernel_call, kfunc_call};

use super::error::LiveError;

/// The BPF programs, built by the build script.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pinwatch-ebpf"));

/// The object as 64-bit words, with each call of the wanted functions resolved to the function's id in the kernel's BTF.
///
/// A call of another function becomes an instruction without effect. [`LiveError::Kfunc`] if a wanted function has no id.
pub fn resolve(
    object: &[u8],
    ids: &BTreeMap<String, u32>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<u64>, LiveError> {
    let mut calls = [NO_OPERATION; KFUNCS.len()];
    for (call, name) in calls.iter_mut().zip(KFUNCS) {
        if is_wanted(name) {
            *call = kernel_call(*ids.get(name).ok_or(LiveError::Kfunc(name))?);
        }
    }
    Ok(replace(object, &calls))
}

/// Replaces each placeholder call. Instructions are aligned to 8 bytes in the object file.
fn replace(object: &[u8], calls: &[u64]) -> Vec<u64> {
    let mut words = vec![0; object.len().div_ceil(size_of::<u64>())];
    bytemuck::cast_slice_mut(&mut words)[..object.len()].copy_from_slice(object);
    let (first, last) = (kfunc_call(0), kfunc_call(calls.len() as u32));
    for word in &mut words {
        let old = u64::from_le(*word);
        // Rejects nearly every word, of an object of some megabytes.
        if (first..last).contains(&old) {
            let number = (0..).zip(calls).find(|(n, _)| old == kfunc_call(*n));
            *word = number.map_or(old, |(_, call)| *call).to_le();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use pinwatch_common::abi::CAST;

    use super::*;
    use crate::host::heap;

    #[test]
    fn only_calls_are_replaced() {
        let mut object: Vec<u8> = [7, kfunc_call(2), kernel_call(3), kfunc_call(0)]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        object.push(9);
        let calls = [10, 11, 12, 13];
        assert_eq!(replace(&object, &calls), [7, 12, kernel_call(3), 10, 9]);
    }

    #[test]
    fn a_call_of_a_function_without_id_is_an_error() {
        let mut ids: BTreeMap<_, _> = (1..)
            .zip(KFUNCS)
            .map(|(id, f)| (f.to_owned(), id))
            .collect();
        assert!(resolve(OBJECT, &ids, |_| true).is_ok());
        ids.remove(KFUNCS[2]);
        let error = resolve(OBJECT, &ids, |_| true).unwrap_err();
        assert!(error.to_string().contains(KFUNCS[2]), "{error}");
        assert!(resolve(OBJECT, &ids, |name| name == CAST).is_ok());
    }

    #[test]
    fn a_forgotten_object_has_its_content() {
        let before = OBJECT.to_vec();
        heap::forget(OBJECT);
        assert!(before == OBJECT, "the object has changed");
        heap::forget(b"less than a page");
    }

    #[test]
    fn the_object_has_each_call() {
        let object = replace(OBJECT, &[]);
        for (number, name) in (0..).zip(KFUNCS) {
            assert!(object.contains(&kfunc_call(number)), "{name}");
        }
        let resolved = resolve(OBJECT, &BTreeMap::new(), |_| false).unwrap();
        for number in 0..KFUNCS.len() as u32 {
            assert!(!resolved.contains(&kfunc_call(number)));
        }
    }
}
