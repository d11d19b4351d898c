//! Pins with extreme figures.

use arbitrary::{Result, Unstructured};
use bytemuck::Zeroable as _;
use pinwatch::model::agent_status::AgentStatus;
use pinwatch::model::session::Lost;
use pinwatch::model::state::State;
use pinwatch::model::trace::{Pass, Traced};
use pinwatch_common::record::{Pin, PinEvent};
use pinwatch_common::weak::Holder;

/// A number at a limit of its type, near one, or any.
pub fn extreme(u: &mut Unstructured<'_>) -> Result<u64> {
    const LIMITS: [u64; 12] = [
        0,
        1,
        2,
        u64::MAX,
        i64::MAX as u64,
        i64::MIN as u64,
        u32::MAX as u64,
        i32::MAX as u64,
        1 << 32,
        1 << 62,
        // -ENOMEM and -ERESTARTSYS.
        -12i64 as u64,
        -512i64 as u64,
    ];
    let kind = usize::from(u.arbitrary::<u8>()?);
    match LIMITS.get(kind % 16) {
        Some(limit) => Ok(limit.wrapping_add_signed((kind / 16) as i64 % 3 - 1)),
        None if kind % 16 == 15 => u.arbitrary(),
        None => Ok(u64::from(u.arbitrary::<u16>()?)),
    }
}

/// A pin that ended, or that begins a retry.
pub fn event(u: &mut Unstructured<'_>) -> Result<PinEvent> {
    let pin = Pin {
        start_ns: extreme(u)?,
        duration_ns: extreme(u)?,
        tid: extreme(u)? as u32,
        tgid: extreme(u)? as u32,
        requested: extreme(u)?,
        returned: extreme(u)? as i64,
        unpinnable: extreme(u)?,
        moved: extreme(u)?,
        failed: extreme(u)?,
        repinned: extreme(u)?,
        phase_ns: [
            extreme(u)?,
            extreme(u)?,
            extreme(u)?,
            extreme(u)?,
            extreme(u)?,
        ],
        migrate_calls: extreme(u)? as u32,
        drains: extreme(u)? as u32,
        isolate_failures: [extreme(u)? as u32, extreme(u)? as u32, extreme(u)? as u32],
        migrate_ret: extreme(u)? as i32,
        gup_flags: extreme(u)? as u32,
        origin: u.arbitrary()?,
        sampled_place: u.arbitrary()?,
        ended: u.arbitrary::<u8>()? & 1,
        outcome: u.arbitrary()?,
        passes: extreme(u)? as u32,
        phase: u.arbitrary()?,
        ..Pin::zeroed()
    };
    let comm = u.arbitrary()?;
    Ok(PinEvent {
        pin,
        comm,
        holder: Holder::NONE,
    })
}

/// A pin with up to three passes.
pub fn traced(u: &mut Unstructured<'_>) -> Result<Traced> {
    let event = event(u)?;
    let number = u.arbitrary::<u8>()? % 4;
    let passes = (0..number).map(|_| {
        Ok(Pass {
            passes: extreme(u)? as u32,
            unpinnable: extreme(u)?,
            moved: extreme(u)?,
            failed: extreme(u)?,
            repinned: extreme(u)?,
            migrate_calls: extreme(u)? as u32,
            drains: extreme(u)? as u32,
            isolate_failures: [extreme(u)? as u32, extreme(u)? as u32, extreme(u)? as u32],
            phase_ns: [
                extreme(u)?,
                extreme(u)?,
                extreme(u)?,
                extreme(u)?,
                extreme(u)?,
            ],
        })
    });
    let passes = passes.collect::<Result<_>>()?;
    Ok(Traced { event, passes })
}

/// Agent status with up to three pins in flight.
pub fn status(u: &mut Unstructured<'_>) -> Result<AgentStatus> {
    let mut state = State::empty("6.12", "folios");
    for _ in 0..u.arbitrary::<u8>()? % 4 {
        state.in_flight.push(event(u)?.pin);
    }
    let mut status = AgentStatus::of(&state);
    status.stuck_after_ns = extreme(u)?;
    for loss in &mut status.losses {
        *loss = extreme(u)?;
    }
    for calls in &mut status.gup_fast {
        *calls = extreme(u)?;
    }
    status.before_start = extreme(u)?;
    status.claimed = extreme(u)? as usize;
    status.events_sent = extreme(u)?;
    status.now_ns = extreme(u)?;
    Ok(status)
}

/// Lost events.
pub fn lost(u: &mut Unstructured<'_>) -> Result<Lost> {
    Ok(Lost {
        ring: extreme(u)?,
        behind: extreme(u)?,
    })
}
