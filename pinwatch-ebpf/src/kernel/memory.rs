//! Reads of kernel memory. What cannot be read is 0: a branch on it would double the verifier's paths.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use pinwatch_common::abi::kfunc_call;

use super::config::PROGRAM_CONFIG;

/// Reads kernel memory; zeroes if it cannot be read.
#[inline(always)]
pub fn read<T: Copy>(at: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    *read_into(&mut value, at)
}

/// Reads kernel memory, without a copy of the value.
#[inline(always)]
pub fn read_into<T: Copy>(value: &mut MaybeUninit<T>, at: u64) -> &T {
    // SAFETY: the helper checks the address, handles faults, and fills all bytes, with zeroes if it fails.
    // The callers read integers.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            at as *const c_void,
        );
        value.assume_init_ref()
    }
}

/// Reads a word of kernel memory; 0 if it cannot be read. By a load where the kernel allows it: a helper costs some 85 instructions.
#[inline(always)]
pub fn word(at: u64) -> u64 {
    let page_struct = config!(page_struct);
    if page_struct == 0 {
        return read(at);
    }
    let page: *const u64;
    // SAFETY: the function returns its first argument, as the address of the struct with this id, which may be invalid. The kernel
    // handles faults of loads through it.
    unsafe {
        asm!(
            ".8byte {call}",
            call = const kfunc_call(4),
            in("r1") at,
            in("r2") page_struct,
            lateout("r0") page,
            lateout("r1") _,
            lateout("r2") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
        page.read_volatile()
    }
}

/// Entry `index` of the array of addresses; 0 if it cannot be read.
#[inline(always)]
pub fn address_in(array: u64, index: u32) -> u64 {
    word(array.wrapping_add(u64::from(index) * size_of::<u64>() as u64))
}

/// Address of the entry that follows the list head or entry at this address; 0 if it cannot be read.
#[inline(always)]
pub fn next_entry(at: u64) -> u64 {
    word(at)
}

/// Address of the entry before the one at this address; 0 if it cannot be read.
#[inline(always)]
pub fn previous_entry(at: u64) -> u64 {
    word(at.wrapping_add(size_of::<u64>() as u64))
}
