//! Registrations that RLIMIT_MEMLOCK refuses, before their pin (AF_XDP) or after it (io_uring), so no pin fails:
//!
//! ```c
//! int io_account_mem([...], unsigned long nr_pages);                    // io_uring, inlined up to 6.12
//! int __io_account_mem(struct user_struct *, unsigned long nr_pages);   // inlined in 5.10, and in the above
//! struct xdp_umem *xdp_umem_create(struct xdp_umem_reg *);              // AF_XDP
//! int __account_locked_vm(struct mm_struct *, unsigned long pages, bool inc, struct task_struct *, bool bypass);
//! ```
//!
//! Each is called once per registration; `__io_account_mem` also once per zero-copy send of a process without
//! CAP_IPC_LOCK. Accounting fails for this reason only. Of `xdp_umem_create`, it is the only source of `ENOBUFS`
//! (`xdp_umem_account_pages`).

use pinwatch_common::fold::count_memlock_refusal;
use pinwatch_common::refusal::Refusal;

use super::programs::programs;
use crate::event;
use crate::kernel::{self, Thread};
use crate::maps::{Shared, cells};

const ENOMEM: i32 = 12;
const ENOBUFS: i32 = 105;

programs! {
    kretprobe io_account_kretprobe(ctx) { returned(ctx.ret(), ENOMEM) }
    /// The lower half of an error pointer is the errno. That of an allocated umem is aligned.
    kretprobe umem_create_kretprobe(ctx) { returned(ctx.ret(), ENOBUFS) }
    kretprobe locked_account_kretprobe(ctx) { returned(ctx.ret(), ENOMEM) }
}

#[inline(always)]
fn returned(ret: i32, refusal: i32) {
    if ret == -refusal {
        refused(refusal as u64);
    }
}

/// Counts a refusal and reports it to followers. A separate function: few registrations get here.
#[inline(never)]
fn refused(errno: u64) {
    let origin = kernel::origin::<false>();
    if let Some(cells) = cells() {
        count_memlock_refusal::<Shared>(&mut cells.memlock_refusals, origin);
    }
    report(errno, origin.into());
}

/// Sends the refusal. A separate function, for its stack.
#[inline(never)]
fn report(errno: u64, origin: u64) {
    let Thread(owner) = Thread::running();
    let refusal = Refusal {
        at_ns: kernel::now(),
        tid: owner as u32,
        tgid: (owner >> u32::BITS) as u32,
        comm: [0; 16],
        errno: errno as u32,
        origin: origin as u8,
        reserved: [0; 3],
    };
    event::send_refusal(&refusal);
}
