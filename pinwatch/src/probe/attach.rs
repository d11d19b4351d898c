//! Attaches what the plan says. One of the few modules that know aya.
//!
//! Returns are attached before entries, so that a pin that is seen to enter is
//! also seen to return. Dropping an [`Attached`] detaches it.
//!
//! Twins must run in their order. Of the programs of a trampoline the one that
//! was attached last runs first; of those at a tracepoint, the one that was attached first.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};
use thiserror::Error;

use super::attachment::{Attachment, Kind};
use super::plan::Plan;
use super::table::Measurement;
use super::tracefs::{Event, Tracefs, TracefsError};
use crate::kernel::perf_event::{Trigger, trigger};

/// Why one program could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("the BPF object has no program {0}")]
    NoProgram(&'static str),
    #[error("{0} is a program of another kind than planned")]
    OtherKind(&'static str),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Tracefs(#[from] TracefsError),
    #[error("perf_event_open: {0}")]
    Perf(io::Error),
    #[error("the kernel's BTF cannot be used")]
    NoBtf,
}

/// A hook and what became of it.
#[derive(Debug)]
pub struct Attached {
    pub measurement: Measurement,
    pub attachment: Attachment,
    /// Why it is not attached.
    pub error: Option<String>,
    /// Closed before the event is removed: fields drop in this order.
    _perf: Option<OwnedFd>,
    pub event: Option<Event>,
}

/// Attaches every hook of a plan. The failure of one is not the failure of all:
/// it is in the result. `before_entries` runs when all but the entries of pins
/// are attached.
pub fn attach_all(
    ebpf: &mut Ebpf,
    plan: &Plan,
    btf: Option<&Btf>,
    tracefs: Option<&Arc<Tracefs>>,
    before_entries: impl FnOnce(),
) -> Vec<Attached> {
    let mut planned: Vec<_> = plan.attachments().collect();
    let is_entry = |m: Measurement| matches!(m, Measurement::PinEntry | Measurement::MemfdEntry);
    // Returns first, and the entries of pins last.
    planned.sort_by_key(|(measurement, attachment)| {
        let is_return = matches!(attachment.kind, Kind::Fexit | Kind::Kretprobe);
        (is_entry(*measurement), !is_return)
    });
    let mut before_entries = Some(before_entries);
    let mut done: Vec<Attached> = Vec::new();
    for (measurement, attachment) in planned {
        if is_entry(measurement)
            && let Some(act) = before_entries.take()
        {
            act();
        }
        // A program may serve two measurements.
        if let Some(same) = done.iter().find(|done| done.attachment == *attachment) {
            let error = same.error.clone();
            let attachment = attachment.clone();
            done.push(Attached {
                measurement,
                attachment,
                error,
                _perf: None,
                event: None,
            });
            continue;
        }
        let result = attach_twins(ebpf, attachment, btf, tracefs);
        let (link, error) = match result {
            Ok(link) => (link, None),
            Err(error) => (None, Some(describe(&error))),
        };
        let (_perf, event) = link.unzip();
        done.push(Attached {
            measurement,
            attachment: attachment.clone(),
            error,
            _perf,
            event,
        });
    }
    done
}

/// An error with its causes: aya's own text stops at the first.
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
    complaint(&text)
}

/// The verifier's log follows the first line; its complaint is at the end,
/// before its figures.
fn complaint(text: &str) -> String {
    let (first, log) = text.split_once('\n').unwrap_or((text, ""));
    let figures = [
        "processed ",
        "verification time ",
        "stack depth ",
        "subprog ",
    ];
    let is_figure = |line: &&str| figures.iter().any(|figure| line.starts_with(figure));
    let mut lines = log.lines().rev().map(str::trim);
    match lines.find(|line| !line.is_empty() && !is_figure(line)) {
        Some(last) => {
            let first = first.split(" Verifier output:").next().unwrap_or(first);
            format!("{first} {last}")
        }
        None => first.to_owned(),
    }
}

/// What has to be kept beside the program itself.
type Link = Option<(OwnedFd, Event)>;

fn attach_twins(
    ebpf: &mut Ebpf,
    attachment: &Attachment,
    btf: Option<&Btf>,
    tracefs: Option<&Arc<Tracefs>>,
) -> Result<Link, AttachError> {
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
) -> Result<Link, AttachError> {
    let program = ebpf.program_mut(name).ok_or(AttachError::NoProgram(name))?;
    match (kind, program) {
        (Kind::Fentry, Program::FEntry(program)) => {
            program.load(target, btf.ok_or(AttachError::NoBtf)?)?;
            program.attach()?;
            Ok(None)
        }
        (Kind::Fexit, Program::FExit(program)) => {
            program.load(target, btf.ok_or(AttachError::NoBtf)?)?;
            program.attach()?;
            Ok(None)
        }
        (Kind::RawTracepoint, Program::RawTracePoint(program)) => {
            program.load()?;
            program.attach(target)?;
            Ok(None)
        }
        (Kind::Kprobe | Kind::Kretprobe, Program::KProbe(program)) => {
            program.load()?;
            let Some(tracefs) = tracefs else {
                program.attach(target, 0)?;
                return Ok(None);
            };
            let _lock = tracefs.lock()?;
            let event = Event::define(tracefs, name, target, kind == Kind::Kretprobe)?;
            let on = Trigger::TraceEvent { id: event.id };
            let perf = trigger(on, program.fd()?.as_fd()).map_err(AttachError::Perf)?;
            Ok(Some((perf, event)))
        }
        _ => Err(AttachError::OtherKind(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn the_verifiers_complaint_is_its_last_line() {
        let text = "the BPF_PROG_LOAD syscall returned EACCES. Verifier output: 0: R1=ctx()\n\
                    1: (79) r6 = *(u64 *)(r1 +0)\n\
                    R1 invalid mem access 'scalar'\n\
                    processed 12 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(
            complaint(text),
            "the BPF_PROG_LOAD syscall returned EACCES. R1 invalid mem access 'scalar'"
        );
        assert_eq!(complaint("no such file"), "no such file");
    }
}
