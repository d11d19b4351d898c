//! Settings of glibc's allocator that keep threads from changing the address space.

/// Limits glibc to one arena, which grows in large steps. Call it before the first thread starts.
///
/// A pin can wait in the kernel with the mmap lock. A thread that mapped an arena meanwhile would wait for the pin, and
/// could not end what the pin waits for.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes settings of the allocator, before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TOP_PAD, 8 << 20);
    }
}
