//! Holders of weak pins that were in the way of a migration, in words.
#![forbid(unsafe_code)]

use pinwatch_common::weak::{Blocked, Holder};
use serde::{Deserialize, Serialize};

use super::format::{duration, name, printable};
use super::labels;

/// Holder of a weak pin, as JSON has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderRow {
    /// Thread name.
    pub comm: String,
    pub pid: u32,
    pub tid: u32,
    pub origin: String,
    /// Return of the weak pin, in nanoseconds of `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    /// Nanoseconds from then until its folio was in the way of the migration.
    pub held_ns: u64,
}

/// A pin that failed, and the holder that was in its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedRow {
    #[serde(flatten)]
    pub holder: HolderRow,
    /// Whether the weak pin lasts; `held_ns` then ends with the state.
    pub holds: bool,
    /// Process and thread of the pin.
    pub blocked_pid: u32,
    pub blocked_tid: u32,
    /// Entry of the pin, in nanoseconds of `CLOCK_MONOTONIC`.
    pub blocked_start_ns: u64,
}

/// The holder of an event; `None` if none is known.
#[must_use]
pub fn row(holder: &Holder) -> Option<HolderRow> {
    holder.is_some().then(|| HolderRow {
        comm: name(&holder.comm),
        pid: holder.tgid,
        tid: holder.tid,
        origin: labels::shown_weak_origin(holder.origin).into_owned(),
        since_ns: holder.start_ns,
        held_ns: holder.held_ns,
    })
}

/// Pins that weak pins were in the way of, the last one first.
#[must_use]
pub fn rows(blocked: &[Blocked], now_ns: u64) -> Vec<BlockedRow> {
    let mut rows: Vec<_> = blocked
        .iter()
        .filter_map(|one| blocked_row(one, now_ns))
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.blocked_start_ns));
    rows
}

fn blocked_row(blocked: &Blocked, now_ns: u64) -> Option<BlockedRow> {
    let mut holder = row(&blocked.holder)?;
    let holds = blocked.ended_ns == 0;
    let end_ns = if holds { now_ns } else { blocked.ended_ns };
    holder.held_ns = end_ns.saturating_sub(holder.since_ns);
    Some(BlockedRow {
        holder,
        holds,
        blocked_pid: (blocked.owner >> u32::BITS) as u32,
        blocked_tid: blocked.owner as u32,
        blocked_start_ns: blocked.pin_ns,
    })
}

/// Words for a holder, such as `held by python3[812] for 5.01s (process_vm)`.
#[must_use]
pub fn words(row: &HolderRow) -> String {
    let HolderRow {
        comm,
        pid,
        origin,
        held_ns,
        ..
    } = row;
    let comm = printable(comm);
    format!(
        "held by {comm}[{pid}] for {} ({origin})",
        duration(*held_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use pinwatch_common::record::PROCESS_VM;

    fn blocked(ended_ns: u64) -> Blocked {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"gdb\x1b");
        Blocked {
            holder: Holder {
                start_ns: 1_000,
                held_ns: 5_000_000_000,
                tid: 8,
                tgid: 7,
                comm,
                origin: PROCESS_VM,
                ..Holder::NONE
            },
            ended_ns,
            owner: 3 << 32 | 4,
            pin_ns: 9_000,
            folio: 1 << 63,
        }
    }

    #[test]
    fn a_holder_is_held_until_now_or_until_its_end() {
        let rows = rows(&[blocked(0), blocked(2_500), Blocked::zeroed()], 11_000);
        let held: Vec<_> = rows
            .iter()
            .map(|row| (row.holds, row.holder.held_ns))
            .collect();
        assert_eq!(held, [(true, 10_000), (false, 1_500)]);
        assert_eq!((rows[0].blocked_pid, rows[0].blocked_tid), (3, 4));
    }

    #[test]
    fn a_hostile_name_is_escaped() {
        let row = row(&blocked(0).holder).unwrap();
        assert!(!words(&row).contains('\x1b'), "{}", words(&row));
        assert!(words(&row).contains("[7] for 5"), "{}", words(&row));
        assert!(words(&row).ends_with("(process_vm)"), "{}", words(&row));
    }
}
