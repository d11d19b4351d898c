//! Which read-only data each BPF program reads, from its instructions. A program is verified alike for two values that
//! differ only in data that it does not read.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::RawFd;

use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use pinwatch_common::program_config::ProgramConfig;

/// Bytes of the read-only data that hold the [`ProgramConfig`], which comes first.
const CONFIG: usize = size_of::<ProgramConfig>();

/// The bytes of its configuration that a program reads, and whether it reads data behind it: the log level, and texts
/// of log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub config: BTreeSet<usize>,
    pub others: bool,
}

/// By program. A pointer to the data that a program stores or computes with counts as a read of everything.
pub fn reads() -> BTreeMap<String, Reads> {
    let data = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pinwatch-ebpf"));
    let mut object = Object::parse(data).expect("the BPF object");
    let sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let maps = object.maps.clone();
    let numbered = || {
        (0..)
            .zip(&maps)
            .map(|(n, (name, map))| (name.as_str(), n, map))
    };
    let (_, rodata, _) = numbered()
        .find(|(name, ..)| *name == ".rodata")
        .expect("read-only data");
    object
        .relocate_maps(numbered(), &sections)
        .expect("maps of the object");
    object
        .relocate_calls(&sections)
        .expect("functions of the object");
    let programs = object.programs.iter();
    let of = |(name, program): (&String, &aya_obj::Program)| {
        let function = &object.functions[&program.function_key()];
        (name.clone(), of_program(&function.instructions, rodata))
    };
    programs.map(of).collect()
}

/// Classes of instructions, and other parts of their codes.
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const LD_IMM64: u8 = 0x18;
const MAP_VALUE: u8 = 2;
const BY_REGISTER: u8 = 8;
const MOV: u8 = 0xb0;
const JA: u8 = 0;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// Source of a call: a function of the object, not of the kernel.
const OF_OBJECT: u8 = 1;
/// Calls change registers 0 to 5.
const LAST_ARGUMENT: u8 = 5;

fn of_program(code: &[bpf_insn], rodata: RawFd) -> Reads {
    let mut reads = Reads::default();
    for (at, insn) in code.iter().enumerate() {
        if insn.code != LD_IMM64 || insn.src_reg() != MAP_VALUE || insn.imm != rodata {
            continue;
        }
        let base = code[at + 1].imm as usize;
        if base >= CONFIG {
            reads.others = true;
        } else if !follow(code, at + 2, insn.dst_reg(), base, &mut reads) {
            reads.config.extend(0..CONFIG);
        }
    }
    reads
}

/// Follows a pointer in a register along all branches. False if it is used for anything but loads.
fn follow(code: &[bpf_insn], from: usize, register: u8, base: usize, reads: &mut Reads) -> bool {
    let mut next = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(at) = next.pop() {
        if !seen.insert(at) {
            continue;
        }
        let insn = &code[at];
        let (class, operation) = (insn.code & 7, insn.code & 0xf0);
        let (is_read, is_written) = (insn.src_reg() == register, insn.dst_reg() == register);
        let jump = |by: i32| (at as i32 + 1 + by) as usize;
        match class {
            LD if is_written => {}
            LD => next.push(at + 2),
            LDX => {
                if is_read {
                    let size = [4, 2, 1, 8][usize::from(insn.code >> 3 & 3)];
                    let first = base.wrapping_add_signed(insn.off.into());
                    reads
                        .config
                        .extend((first..first + size).filter(|byte| *byte < CONFIG));
                }
                if !is_written {
                    next.push(at + 1);
                }
            }
            ST | STX if is_written || (class == STX && is_read) => return false,
            ST | STX => next.push(at + 1),
            JMP | JMP32 if operation == EXIT => {}
            // A function of the object can load from its arguments. The verifier takes no data that a helper gets
            // for constants.
            JMP | JMP32 if operation == CALL && register <= LAST_ARGUMENT => {
                if insn.src_reg() == OF_OBJECT {
                    next.push(jump(insn.imm));
                }
            }
            JMP | JMP32 if operation == CALL => next.push(at + 1),
            JMP if operation == JA => next.push(jump(insn.off.into())),
            JMP32 if operation == JA => next.push(jump(insn.imm)),
            JMP | JMP32 => next.extend([at + 1, jump(insn.off.into())]),
            ALU.. => {
                let by_register = insn.code & BY_REGISTER != 0;
                if by_register && is_read || is_written && operation != MOV {
                    return false;
                }
                if !is_written {
                    next.push(at + 1);
                }
            }
        }
    }
    true
}
