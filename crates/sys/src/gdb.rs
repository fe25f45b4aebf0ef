//! GDB's interface for code that is made at run time ("JIT Compilation Interface" of its manual; LLDB speaks it too).
//!
//! A debugger that is attached, or attaches later, finds a list of object files in the memory of the process: it knows the
//! list's head and a function that is called when the list has changed by their names. The names are one for a process, so they are
//! defined weakly: where another library defines them too, both share one list.

use core::ptr::{NonNull, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};

core::arch::global_asm!(
    ".pushsection .text.__jit_debug_register_code,\"ax\",%progbits",
    ".weak __jit_debug_register_code",
    ".type __jit_debug_register_code,%function",
    "__jit_debug_register_code:",
    "ret",
    ".size __jit_debug_register_code, . - __jit_debug_register_code",
    ".popsection",
    ".pushsection .data.__jit_debug_descriptor,\"aw\",%progbits",
    ".balign 8",
    ".weak __jit_debug_descriptor",
    ".type __jit_debug_descriptor,%object",
    "__jit_debug_descriptor:",
    // The version of the interface, no action, no entry in question, no entries.
    ".long 1, 0",
    ".quad 0, 0",
    ".size __jit_debug_descriptor, . - __jit_debug_descriptor",
    ".popsection",
);

unsafe extern "C" {
    /// The head of the list. The debugger reads it while the process stands still.
    static mut __jit_debug_descriptor: Descriptor;
    /// Does nothing. A debugger has a breakpoint in it.
    safe fn __jit_debug_register_code();
}

/// `struct jit_descriptor`.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut Entry,
    first: *mut Entry,
}

/// `struct jit_code_entry`.
#[repr(C)]
struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    file: *const u8,
    file_size: u64,
}

const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

/// Held by whoever reads or writes the list.
static LIST: Mutex<()> = Mutex::new(());

fn lock() -> MutexGuard<'static, ()> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object file that debuggers know. Withdrawn on drop.
#[derive(Debug)]
pub struct Registration {
    // Invariant: made by `Box::into_raw`, a member of the list, and accessed under `LIST` only.
    entry: NonNull<Entry>,
    // The entry points into it.
    _file: Box<[u8]>,
}

// SAFETY: the entry is accessed under `LIST` only, whichever thread does.
unsafe impl Send for Registration {}
// SAFETY: a shared reference gives access to nothing.
unsafe impl Sync for Registration {}

impl Registration {
    /// Tells debuggers of an object file: ELF, with the addresses at which the code lies.
    #[must_use = "dropping it withdraws the file"]
    pub fn new(file: Box<[u8]>) -> Self {
        let _list = lock();
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: the descriptor is always valid, and changed under `LIST` only.
        let first = unsafe { (*descriptor).first };
        let entry =
            Entry { next: first, previous: null_mut(), file: file.as_ptr(), file_size: file.len() as u64 };
        let entry = NonNull::from(Box::leak(Box::new(entry)));
        // SAFETY: null, or a member of the list, which entries leave before they are freed.
        if let Some(first) = unsafe { first.as_mut() } {
            first.previous = entry.as_ptr();
        }
        // SAFETY: as for the reading of it.
        unsafe { (*descriptor).first = entry.as_ptr() };
        announce(REGISTER, entry.as_ptr());
        Self { entry, _file: file }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _list = lock();
        // SAFETY: by the invariant.
        let entry = unsafe { self.entry.as_ref() };
        let (next, previous) = (entry.next, entry.previous);
        // SAFETY: null, or a member of the list.
        if let Some(next) = unsafe { next.as_mut() } {
            next.previous = previous;
        }
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: as above.
        match unsafe { previous.as_mut() } {
            Some(previous) => previous.next = next,
            // SAFETY: the descriptor is always valid, and changed under `LIST` only.
            None => unsafe { (*descriptor).first = next },
        }
        announce(UNREGISTER, self.entry.as_ptr());
        // SAFETY: by the invariant; nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.entry.as_ptr()) });
    }
}

/// Lets debuggers look at what happened to an entry. The caller holds `LIST`.
fn announce(action: u32, entry: *mut Entry) {
    let descriptor = &raw mut __jit_debug_descriptor;
    // SAFETY: the descriptor is always valid, and changed under `LIST` only.
    unsafe { (*descriptor).relevant = entry };
    // SAFETY: as above.
    unsafe { (*descriptor).action = action };
    __jit_debug_register_code();
    // SAFETY: as above.
    unsafe { (*descriptor).relevant = null_mut() };
    // SAFETY: as above.
    unsafe { (*descriptor).action = 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses of the files in the list.
    fn files() -> Vec<usize> {
        let _list = lock();
        let descriptor = &raw const __jit_debug_descriptor;
        // SAFETY: as everywhere here.
        let mut at = unsafe { (*descriptor).first };
        let mut files = Vec::new();
        // SAFETY: members of the list, under its lock.
        while let Some(entry) = unsafe { at.as_ref() } {
            files.push(entry.file.addr());
            at = entry.next;
        }
        files
    }

    #[test]
    fn files_come_and_go_in_any_order_on_any_thread() {
        let addresses = |registrations: &[Registration]| -> Vec<usize> {
            registrations.iter().map(|r| r._file.as_ptr().addr()).collect()
        };
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                scope.spawn(move || {
                    let mut registrations: Vec<_> =
                        (0..50_usize).map(|n| Registration::new(vec![thread; n + 1].into())).collect();
                    let mine = addresses(&registrations);
                    let listed = files();
                    assert!(mine.iter().all(|file| listed.contains(file)));
                    registrations.swap(0, 25);
                    drop(registrations.drain(10..40));
                    let (kept, listed) = (addresses(&registrations), files());
                    for file in mine {
                        // The memory of a file that is gone may be another thread's by now, and is no longer ours to judge.
                        assert!(!kept.contains(&file) || listed.contains(&file));
                    }
                });
            }
        });
        assert_eq!(files(), []);
    }
}
