//! Small BPF programs that answer questions about the kernel: whether it loads tracing programs, and where its
//! variables are.
//!
//! aya can test for tracing programs, but parses all BTF of the kernel for it. aya cannot call `kallsyms_lookup_name`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use aya_obj::generated::{
    BPF_F_SLEEPABLE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_func_id, bpf_insn, bpf_prog_type,
};

/// Tries to load a tracing program that does nothing. `function` is the BTF id of the function that it is for.
/// Returns the error if the kernel refuses it.
pub fn refusal(function: u32) -> Option<io::Error> {
    let program = [MOV_IMMEDIATE, EXIT].map(|code| instruction(code, 0, 0, 0, 0));
    let mut attr = loaded(bpf_prog_type::BPF_PROG_TYPE_TRACING, &program);
    // SAFETY: all fields of the union are integers, and the kernel reads this one for `BPF_PROG_LOAD`.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.expected_attach_type = bpf_attach_type::BPF_TRACE_FENTRY as u32;
    load.attach_btf_id = function;
    load_program(&mut attr).err()
}

/// Address of a variable of the kernel, by the helper that looks it up (5.16). `None` if the kernel hides addresses, has
/// no such variable or helper, or refuses the program.
pub fn variable_address(name: &CStr) -> Option<u64> {
    let program = lookup(name)?;
    let mut attr = loaded(bpf_prog_type::BPF_PROG_TYPE_SYSCALL, &program);
    // SAFETY: as in `refusal`.
    unsafe { &mut attr.__bindgen_anon_3 }.prog_flags = BPF_F_SLEEPABLE;
    let program = load_program(&mut attr).ok()?;
    let mut address = 0_u64;
    let mut attr = empty();
    // SAFETY: all fields of the union are integers, and the kernel reads this one for `BPF_PROG_RUN`.
    let run = unsafe { &mut attr.test };
    run.prog_fd = program.as_raw_fd() as u32;
    run.ctx_in = &raw mut address as u64;
    run.ctx_size_in = size_of_val(&address) as u32;
    // SAFETY: the kernel reads and writes `address`, which outlives the call, and its size is right.
    unsafe { bpf(bpf_cmd::BPF_PROG_RUN, &mut attr) }.ok()?;
    Some(address).filter(|address| *address != 0)
}

const MOV_IMMEDIATE: u8 = 0xb7;
const MOV_REGISTER: u8 = 0xbf;
const ADD_IMMEDIATE: u8 = 0x07;
const STORE_IMMEDIATE_32: u8 = 0x62;
const STORE_IMMEDIATE_64: u8 = 0x7a;
const STORE_REGISTER_64: u8 = 0x7b;
const LOAD_64: u8 = 0x79;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// A program that stores the address of a variable in its context; 0 if the kernel does not tell it. `None` if the name
/// is longer than the place for it on the program's stack.
fn lookup(name: &CStr) -> Option<Vec<bpf_insn>> {
    /// Register of the stack's end.
    const STACK: u8 = 10;
    const CONTEXT: u8 = 6;
    const ADDRESS_AT: i16 = -8;
    const NAME_AT: i16 = -64;
    let bytes = name.to_bytes_with_nul();
    if bytes.len() > usize::from(NAME_AT.abs_diff(ADDRESS_AT)) {
        return None;
    }
    let mut program = vec![instruction(MOV_REGISTER, CONTEXT, 1, 0, 0)];
    for (at, part) in (NAME_AT..).step_by(4).zip(bytes.chunks(4)) {
        let mut word = [0; 4];
        word[..part.len()].copy_from_slice(part);
        let word = i32::from_ne_bytes(word);
        program.push(instruction(STORE_IMMEDIATE_32, STACK, 0, at, word));
    }
    let helper = bpf_func_id::BPF_FUNC_kallsyms_lookup_name as i32;
    program.extend([
        instruction(STORE_IMMEDIATE_64, STACK, 0, ADDRESS_AT, 0),
        instruction(MOV_REGISTER, 1, STACK, 0, 0),
        instruction(ADD_IMMEDIATE, 1, 0, 0, NAME_AT.into()),
        instruction(MOV_IMMEDIATE, 2, 0, 0, bytes.len() as i32),
        instruction(MOV_IMMEDIATE, 3, 0, 0, 0),
        instruction(MOV_REGISTER, 4, STACK, 0, 0),
        instruction(ADD_IMMEDIATE, 4, 0, 0, ADDRESS_AT.into()),
        instruction(CALL, 0, 0, 0, helper),
        instruction(LOAD_64, 1, STACK, ADDRESS_AT, 0),
        instruction(STORE_REGISTER_64, CONTEXT, 1, 0, 0),
        instruction(MOV_IMMEDIATE, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    Some(program)
}

fn instruction(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off,
        imm,
    }
}

fn empty() -> bpf_attr {
    // SAFETY: a C union of integers, for which all zeros are valid.
    unsafe { std::mem::zeroed() }
}

/// Arguments that load a program. They point to `instructions`.
fn loaded(kind: bpf_prog_type, instructions: &[bpf_insn]) -> bpf_attr {
    let mut attr = empty();
    // SAFETY: as in `refusal`.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.insn_cnt = instructions.len() as u32;
    load.insns = instructions.as_ptr() as u64;
    load.license = c"GPL".as_ptr() as u64;
    attr
}

/// Loads the program of [`loaded`], whose instructions must still be there.
fn load_program(attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the callers keep the instructions until this returns. The licence is static.
    unsafe { create(bpf_cmd::BPF_PROG_LOAD, attr) }
}

/// A command that returns a new descriptor, such as `BPF_PROG_LOAD` and `BPF_LINK_CREATE`.
///
/// # Safety
///
/// All memory that `attr` points to must be valid for `command`, and `command` must return a new descriptor.
pub unsafe fn create(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for `attr`.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call.
///
/// # Safety
///
/// All memory that `attr` points to must be valid for `command`.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` outlives the call, its size is right, and the caller vouches for its pointers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_fit_is_not_looked_up() {
        let longest = c"0123456789012345678901234567890123456789012345678901234";
        assert_eq!(longest.to_bytes_with_nul().len(), 56);
        assert!(lookup(longest).is_some());
        let longer = c"01234567890123456789012345678901234567890123456789012345";
        assert!(lookup(longer).is_none());
    }
}
