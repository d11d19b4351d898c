//! Attaches what the plan says. One of the few modules that know aya.
//!
//! Returns are attached before entries, so that a pin that is seen to enter is
//! also seen to return. Dropping an [`Attached`] detaches it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use aya::programs::{Program, ProgramError};
use aya::{Btf, Ebpf};
use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_type_id};
use thiserror::Error;

use super::plan::{Attachment, Kind, Plan};
use super::table::Measurement;
use super::tracefs::{Event, TracefsError};

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
/// it is in the result.
pub fn attach_all(
    ebpf: &mut Ebpf,
    plan: &Plan,
    btf: Option<&Btf>,
    tracefs: Option<&Path>,
) -> Vec<Attached> {
    let mut planned: Vec<_> = plan.attachments().collect();
    // Returns first, and the entry of the pin last.
    planned.sort_by_key(|(measurement, attachment)| {
        let is_return = matches!(attachment.kind, Kind::Fexit | Kind::Kretprobe);
        (*measurement == Measurement::PinEntry, !is_return)
    });
    let mut done: Vec<Attached> = Vec::new();
    for (measurement, attachment) in planned {
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
        let result = attach(ebpf, attachment, btf, tracefs);
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
    // The verifier's log follows the first line.
    text.lines().next().unwrap_or_default().to_owned()
}

/// What has to be kept beside the program itself.
type Link = Option<(OwnedFd, Event)>;

fn attach(
    ebpf: &mut Ebpf,
    attachment: &Attachment,
    btf: Option<&Btf>,
    tracefs: Option<&Path>,
) -> Result<Link, AttachError> {
    let Attachment {
        program: name,
        target,
        kind,
    } = *attachment;
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
            let event = Event::define(tracefs, name, target, kind == Kind::Kretprobe)?;
            let perf = open_event(event.id, program.fd()?.as_fd()).map_err(AttachError::Perf)?;
            Ok(Some((perf, event)))
        }
        _ => Err(AttachError::OtherKind(name)),
    }
}

/// Attaches a program to a trace event, for every task on every CPU, until the
/// descriptor is closed. aya does this for tracepoint programs only.
fn open_event(id: u64, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
    const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    let attr = perf_event_attr {
        type_: perf_type_id::PERF_TYPE_TRACEPOINT as u32,
        size: size_of::<perf_event_attr>() as u32,
        config: id,
        // SAFETY: a C struct of integers and bit fields, for which 0 is valid.
        ..unsafe { std::mem::zeroed() }
    };
    // All tasks, on CPU 0: a program on a trace event runs on all CPUs.
    let (pid, cpu, group) = (-1, 0, -1);
    // SAFETY: `attr` is initialised and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            pid,
            cpu,
            group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the call above made, owned by nobody else.
    let perf = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for (request, argument) in [
        (PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()),
        (PERF_EVENT_IOC_ENABLE, 0),
    ] {
        // SAFETY: both requests take an integer.
        if unsafe { libc::ioctl(perf.as_raw_fd(), request, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(perf)
}
