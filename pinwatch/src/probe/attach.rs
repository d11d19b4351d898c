//! Attaches the programs of a plan. One of the few modules that use aya.
//!
//! Returns are attached before entries, so that pinwatch sees the return of each pin whose entry it
//! sees. Dropping an [`Attached`] detaches a kprobe defined through tracefs. aya's object owns all other
//! links.
//!
//! Twins must run in order. At a trampoline the program attached last runs first. At a tracepoint the
//! program attached first runs first.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};
use thiserror::Error;

use super::attachment::{Attachment, Kind};
use super::plan::Plan;
use super::table::Measurement;
use super::tracefs::{KprobeEvent, Tracefs, TracefsError};
use crate::kernel::perf_event::{self, Trigger};

/// Failure to attach one program.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("the BPF object has no program {0}: build pinwatch again")]
    NoProgram(&'static str),
    #[error("the BPF program {0} has another kind than the plan expects: build pinwatch again")]
    OtherKind(&'static str),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    #[error("cannot attach the program to a perf event: {0}")]
    Perf(io::Error),
    #[error("/sys/kernel/btf/vmlinux cannot be read; use --attach kprobe")]
    NoBtf,
}

/// Result of attaching one hook.
#[derive(Debug)]
pub struct Attached {
    pub measurement: Measurement,
    pub attachment: Attachment,
    /// Reason why the hook is not attached; `None` if it is.
    pub error: Option<String>,
    /// Declared before `kprobe`, and so closed before the kprobe event is removed.
    _perf: Option<OwnedFd>,
    pub kprobe: Option<KprobeEvent>,
}

/// Attaches every hook of a plan. A hook that fails is reported in its own result.
///
/// `before_entries` runs once, after all hooks except the entries of pins are attached.
pub fn attach_all(
    ebpf: &mut Ebpf,
    plan: &Plan,
    btf: Option<&Btf>,
    tracefs: Option<&Arc<Tracefs>>,
    before_entries: impl FnOnce(),
) -> Vec<Attached> {
    let mut planned: Vec<_> = plan.attachments().collect();
    let is_entry = |m: Measurement| matches!(m, Measurement::PinEntry | Measurement::MemfdEntry);
    // Returns first, and the entries of pins last. GUP-fast before these: between its return and its entry each
    // short-term call would count as lost.
    planned.sort_by_key(|(measurement, attachment)| {
        let is_return = matches!(attachment.kind, Kind::Fexit | Kind::Kretprobe);
        let is_fast = *measurement == Measurement::FastPath;
        (is_entry(*measurement), is_fast, !is_return)
    });
    let mut before_entries = Some(before_entries);
    let mut done: Vec<Attached> = Vec::new();
    for (measurement, attachment) in planned {
        if is_entry(measurement)
            && let Some(before_entries) = before_entries.take()
        {
            before_entries();
        }
        // A program that serves two measurements is attached once.
        if let Some(same) = done.iter().find(|done| done.attachment == *attachment) {
            let error = same.error.clone();
            let attachment = attachment.clone();
            done.push(Attached {
                measurement,
                attachment,
                error,
                _perf: None,
                kprobe: None,
            });
            continue;
        }
        let result = attach_twins(ebpf, attachment, btf, tracefs);
        let (link, error) = match result {
            Ok(link) => (link, None),
            Err(error) => (None, Some(describe(&error))),
        };
        let (_perf, kprobe) = link.unzip();
        done.push(Attached {
            measurement,
            attachment: attachment.clone(),
            error,
            _perf,
            kprobe,
        });
    }
    done
}

/// Text of an error and its causes. aya's own text stops at the first cause.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    tracing::debug!("{text}");
    verifier_rejection(&text)
}

/// First line of an error, and the last line of the verifier's log before its statistics: the rejection.
fn verifier_rejection(text: &str) -> String {
    let (first, log) = text.split_once('\n').unwrap_or((text, ""));
    let statistics = [
        "processed ",
        "verification time ",
        "stack depth ",
        "subprog ",
    ];
    let is_statistic = |line: &&str| statistics.iter().any(|start| line.starts_with(start));
    let mut lines = log.lines().rev().map(str::trim);
    match lines.find(|line| !line.is_empty() && !is_statistic(line)) {
        Some(last) => {
            let first = first.split(" Verifier output:").next().unwrap_or(first);
            format!("{first} {last}")
        }
        None => first.to_owned(),
    }
}

/// Descriptors of a kprobe to keep open; `None` for programs whose link aya keeps.
type KprobeLink = Option<(OwnedFd, KprobeEvent)>;

/// Attaches a program and its twins in the order that makes them run in theirs.
fn attach_twins(
    ebpf: &mut Ebpf,
    attachment: &Attachment,
    btf: Option<&Btf>,
    tracefs: Option<&Arc<Tracefs>>,
) -> Result<KprobeLink, AttachError> {
    let Attachment { target, kind, .. } = *attachment;
    let attach = |link, program| {
        let made = attach(ebpf, program, target, kind, btf, tracefs)?;
        Ok(made.or(link))
    };
    let programs = attachment.programs();
    if kind == Kind::RawTracepoint {
        programs.into_iter().try_fold(None, attach)
    } else {
        programs.rev().try_fold(None, attach)
    }
}

fn attach(
    ebpf: &mut Ebpf,
    name: &'static str,
    target: &'static str,
    kind: Kind,
    btf: Option<&Btf>,
    tracefs: Option<&Arc<Tracefs>>,
) -> Result<KprobeLink, AttachError> {
    load(ebpf, name, target, kind, btf)?;
    let program = ebpf.program_mut(name).ok_or(AttachError::NoProgram(name))?;
    match (kind, program) {
        (Kind::Fentry, Program::FEntry(program)) => {
            program.attach()?;
        }
        (Kind::Fexit, Program::FExit(program)) => {
            program.attach()?;
        }
        (Kind::RawTracepoint, Program::RawTracePoint(program)) => {
            program.attach(target)?;
        }
        (Kind::Kprobe | Kind::Kretprobe, Program::KProbe(program)) => {
            let Some(tracefs) = tracefs else {
                program.attach(target, 0)?;
                return Ok(None);
            };
            let _lock = tracefs.lock()?;
            let event = KprobeEvent::define(tracefs, name, target, kind == Kind::Kretprobe)?;
            let on = Trigger::TraceEvent { id: event.id };
            let perf = perf_event::attach(on, program.fd()?.as_fd()).map_err(AttachError::Perf)?;
            return Ok(Some((perf, event)));
        }
        _ => return Err(AttachError::OtherKind(name)),
    }
    Ok(None)
}

/// Loads a program for its hook: the kernel verifies it.
pub fn load(
    ebpf: &mut Ebpf,
    name: &'static str,
    target: &'static str,
    kind: Kind,
    btf: Option<&Btf>,
) -> Result<(), AttachError> {
    let program = ebpf.program_mut(name).ok_or(AttachError::NoProgram(name))?;
    match (kind, program) {
        (Kind::Fentry, Program::FEntry(program)) => {
            program.load(target, btf.ok_or(AttachError::NoBtf)?)?;
        }
        (Kind::Fexit, Program::FExit(program)) => {
            program.load(target, btf.ok_or(AttachError::NoBtf)?)?;
        }
        (Kind::RawTracepoint, Program::RawTracePoint(program)) => program.load()?,
        (Kind::Kprobe | Kind::Kretprobe, Program::KProbe(program)) => program.load()?,
        _ => return Err(AttachError::OtherKind(name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::verifier_rejection;

    #[test]
    fn the_verifiers_complaint_is_its_last_line() {
        let text = "the BPF_PROG_LOAD syscall returned EACCES. Verifier output: 0: R1=ctx()\n\
                    1: (79) r6 = *(u64 *)(r1 +0)\n\
                    R1 invalid mem access 'scalar'\n\
                    processed 12 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(
            verifier_rejection(text),
            "the BPF_PROG_LOAD syscall returned EACCES. R1 invalid mem access 'scalar'"
        );
        assert_eq!(verifier_rejection("no such file"), "no such file");
    }
}
