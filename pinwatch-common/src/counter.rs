//! What was lost: one cell per CPU and kind. Each kind is written by one BPF
//! program only, so the cells need no atomics.

/// Something that happened and could not be measured.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A thread entered a pin while its previous one had not been seen to return.
    EntryStale = 0,
    /// A thread exited while a pin of its had not been seen to return.
    EntryReaped = 1,
    /// A long-term pin returned that had not been seen to enter, or that had
    /// found no slot. A kretprobe cannot tell it from a short-term pin, so this
    /// is counted by fexit only.
    ExitUnmatched = 2,
    /// All slots that the thread may use were taken: the pin is not measured.
    SlotsFull = 3,
    /// The ring buffer had no room for a pin's event: listeners miss it, the
    /// statistics do not.
    RingFull = 4,
    /// A thread entered GUP-fast while its previous long-term call had not been
    /// seen to return.
    FastStale = 5,
    /// A thread exited while a long-term call of GUP-fast had not been seen to
    /// return.
    FastReaped = 6,
    /// A long-term call of GUP-fast returned that had not been seen to enter, or
    /// had found no room. Counted by fexit only, as [`Self::ExitUnmatched`].
    FastUnmatched = 7,
    /// The table of calls of GUP-fast was full.
    FastFull = 8,
}

/// Number of [`Loss`] kinds.
pub const LOSSES: usize = 9;
