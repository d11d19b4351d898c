//! Whether the kernel loads tracing programs.
//!
//! aya's test of the same parses all BTF of the kernel to find one function.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

/// Tries to load a tracing program that does nothing. `function` is the BTF id of the function that it is for.
/// Returns the error if the kernel refuses it.
pub fn refusal(function: u32) -> Option<io::Error> {
    const EXIT: u8 = 0x95;
    const MOV_IMMEDIATE: u8 = 0xb7;
    let instructions = [MOV_IMMEDIATE, EXIT].map(|code| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm: 0,
    });
    // SAFETY: a C union of integers, for which all zeros are valid.
    let mut attr = unsafe { std::mem::zeroed::<bpf_attr>() };
    // SAFETY: all fields of the union are integers, and the kernel reads this one for `BPF_PROG_LOAD`.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = bpf_attach_type::BPF_TRACE_FENTRY as u32;
    load.attach_btf_id = function;
    load.insn_cnt = instructions.len() as u32;
    load.insns = instructions.as_ptr() as u64;
    load.license = c"GPL".as_ptr() as u64;
    // SAFETY: `attr`, the instructions and the licence outlive the call, and their sizes are right.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_PROG_LOAD,
            &raw const attr,
            size_of::<bpf_attr>(),
        )
    };
    if fd < 0 {
        return Some(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    None
}
