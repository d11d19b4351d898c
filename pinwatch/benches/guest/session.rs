//! An empty program by `kprobe.session` (6.10), which hooks the entry and the return of a function. What it returns at the entry decides
//! whether the return runs it. aya has no loader for it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};
use pinwatch::kernel::bpf_program::create;

/// `BPF_TRACE_KPROBE_SESSION` of the kernel's `enum bpf_attach_type`.
const KPROBE_SESSION: u32 = 56;
const WHEN: &str = "kprobe.session came with 6.10";
const MOV_IMMEDIATE: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// Hooks a function with a program that does nothing. Without `returns` its return does not run.
pub fn attach(function: &str, returns: bool) -> Result<OwnedFd> {
    let function = CString::new(function)?;
    let program = load(returns).context(WHEN)?;
    let names = [function.as_ptr()];
    // SAFETY: a C union of integers, for which all zeros are valid.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: all fields of the union are integers, and the kernel reads these for `BPF_LINK_CREATE`.
    unsafe {
        let link = &mut attr.link_create;
        link.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        link.attach_type = KPROBE_SESSION;
        let multi = &mut link.__bindgen_anon_3.kprobe_multi;
        multi.cnt = names.len() as u32;
        multi.syms = names.as_ptr() as u64;
    }
    // SAFETY: `names` and its strings outlive the call.
    unsafe { create(bpf_cmd::BPF_LINK_CREATE, &mut attr) }.context(WHEN)
}

fn load(returns: bool) -> io::Result<OwnedFd> {
    let program = [(MOV_IMMEDIATE, i32::from(!returns)), (EXIT, 0)].map(|(code, imm)| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm,
    });
    // SAFETY: as in `attach`.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: as in `attach`, for `BPF_PROG_LOAD`.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.insn_cnt = program.len() as u32;
    load.insns = program.as_ptr() as u64;
    load.license = c"GPL".as_ptr() as u64;
    load.expected_attach_type = KPROBE_SESSION;
    // SAFETY: the instructions outlive the call, and the licence is static.
    unsafe { create(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}
