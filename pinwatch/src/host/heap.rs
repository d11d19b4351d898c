//! Keeps resident memory small: settings of glibc's allocator, and pages of the program that are used once.

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

/// Takes the whole pages of a constant out of resident memory. The kernel reads them from the program's file again if
/// they are used.
pub fn forget(constant: &'static [u8]) {
    /// The largest page size: a part of a page is never forgotten.
    const PAGE: usize = 1 << 16;
    let start = constant.as_ptr().align_offset(PAGE);
    let length = constant.len().saturating_sub(start) / PAGE * PAGE;
    if length > 0 {
        let start = constant[start..].as_ptr().cast_mut();
        // SAFETY: these pages hold nothing but bytes of a constant, which nothing writes to. After the call they have
        // the same content, from the file.
        unsafe {
            libc::madvise(start.cast(), length, libc::MADV_DONTNEED);
        }
    }
}
