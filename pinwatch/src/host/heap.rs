//! Settings of glibc's allocator that keep the heap small.

/// Limits glibc to one arena. Call it before the first thread starts.
///
/// Otherwise glibc creates an arena for the thread that attaches, and keeps most of its memory.
pub fn one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: changes a setting of the allocator, before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns free memory to the kernel. Reading BTF takes about 30 MB once, which glibc would keep.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and locks the heap itself.
    unsafe {
        libc::malloc_trim(0);
    }
}
