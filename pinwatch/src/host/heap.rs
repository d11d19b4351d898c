//! The C library's heap, kept small.

/// Keeps the C library from making a heap for each thread. glibc would make one for the
/// thread that attaches, and keep most of it. Call it before there are other threads.
pub fn one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes a setting of the allocator, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the kernel. Reading BTF takes some 30 MB that are not needed
/// again; glibc would keep them.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and locks the heap itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
