//! The allocator of the programs that train: mimalloc, told to keep freed memory.
//!
//! A training step allocates and frees the same large buffers over and over. Given back to the kernel in between, they
//! come back as pages that the kernel must zero, which took a third of a CPU step (SmolLM2-135M, 2 x 256 tokens:
//! 5.2 s with mimalloc's defaults, 3.3 s without purging). So mimalloc's purging is switched off at the first allocation,
//! unless `MIMALLOC_PURGE_DELAY` asks for something else. The price: the process keeps its peak.
//!
//! One of the three modules with unsafe code: an allocator is an unsafe trait, and setting an option is a C call.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, Ordering};

/// `mi_option_purge_delay` of mimalloc's mimalloc.h (versions 2 and 3); the Rust bindings leave it out.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// mimalloc 3's own value in milliseconds; another one was set by the user.
const PURGE_DELAY_DEFAULT_MS: std::ffi::c_long = 1000;
/// Never give memory back.
const NEVER: std::ffi::c_long = -1;

static READY: AtomicBool = AtomicBool::new(false);

/// mimalloc without purging, for `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

#[cold]
#[expect(
    unsafe_code,
    reason = "an option of a C library can be set in no other way"
)]
fn prepare() {
    // SAFETY: both calls read or write one long of mimalloc's option table, and the index is within it. The functions
    // are documented as not thread safe because of that write; every thread that races here writes the same value.
    unsafe {
        if libmimalloc_sys::mi_option_get(PURGE_DELAY) == PURGE_DELAY_DEFAULT_MS {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER);
        }
    }
    READY.store(true, Ordering::Relaxed);
}

fn ready() {
    if !READY.load(Ordering::Relaxed) {
        prepare();
    }
}

// SAFETY: every call is handed to mimalloc's own implementation unchanged.
#[expect(unsafe_code, reason = "the trait of global allocators is unsafe")]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ready();
        // SAFETY: the caller's promises are those that the callee asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ready();
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "calls the allocator by hand")]
    fn first_allocation_switches_purging_off() {
        let layout = Layout::from_size_align(1 << 20, 64).unwrap();
        // SAFETY: allocated and freed once, by the same layout.
        let delay = unsafe {
            let pointer = Allocator.alloc(layout);
            assert!(!pointer.is_null());
            Allocator.dealloc(pointer, layout);
            libmimalloc_sys::mi_option_get(PURGE_DELAY)
        };
        let asked = std::env::var("MIMALLOC_PURGE_DELAY")
            .ok()
            .and_then(|v| v.parse().ok());
        assert_eq!(delay, asked.unwrap_or(NEVER));
    }
}
