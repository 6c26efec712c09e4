//! From the first instruction to `main`, and the end by panic.

/// Names the function that a program starts with: `fn() -> u64`, whose result is the exit status.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[allow(unsafe_code, reason = "gives the function the one name that the runtime calls")]
        #[unsafe(no_mangle)]
        extern "Rust" fn twizzler_main() -> u64 {
            $main()
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn() -> u64 = $main;
        }
    };
}

#[cfg(target_os = "none")]
mod bare {
    use core::arch::global_asm;
    use core::panic::PanicInfo;

    use twizzler_abi::Rights;
    use twizzler_abi::address::{Slot, band};
    use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
    use twizzler_abi::rights::ObjectFlags;

    use crate::{call, exit, slots, startup};

    // The System V ABI wants RSP + 8 to be a multiple of 16 when a function is entered.
    global_asm!(
        ".section .text._start, \"ax\"",
        ".global _start",
        "_start:",
        "xor ebp, ebp",
        "and rsp, -16",
        "call {start}",
        "ud2",
        ".previous",
        start = sym start,
    );

    // SAFETY: `program!` defines it, without a mangled name and of this type; nothing else links as a program.
    unsafe extern "Rust" {
        fn twizzler_main() -> u64;
    }

    extern "sysv64" fn start() -> ! {
        let own_startup = provide(band::STARTUP);
        let own_heap = provide(band::HEAP);
        provide(band::TRANSLATION);
        for id in [own_startup, own_heap].into_iter().flatten() {
            startup::own(id);
        }
        // SAFETY: every program defines it, with this signature, through `program!`.
        let status = unsafe { twizzler_main() };
        exit::exit(status)
    }

    /// Makes the object of a slot that whoever started the program has left empty.
    fn provide(slot: Slot) -> Option<twizzler_abi::ObjId> {
        if !slots::entry(slot).id.is_none() {
            return None;
        }
        let spec = CreateSpec {
            nonce: [0; 16],
            owner: twizzler_abi::ObjId::NONE,
            flags: ObjectFlags::empty().bits(),
            default_rights: USUAL_RIGHTS.bits(),
            fingerprint: 0,
        };
        let id = call::create_object(&spec).unwrap_or_else(|_| call::thread_exit(exit::OTHER));
        slots::set_entry(slot, id, Rights::READ | Rights::WRITE);
        Some(id)
    }

    #[panic_handler]
    fn panicked(info: &PanicInfo<'_>) -> ! {
        use core::fmt::Write as _;
        crate::console::flush_at_end();
        let mut message = Line { bytes: [0; 512], len: 0 };
        let _ = write!(message, "{info}");
        let _ = call::console_write(twizzler_abi::call::ConsoleOp::WriteError, &message.bytes[..message.len]);
        let _ = call::console_write(twizzler_abi::call::ConsoleOp::WriteError, b"\n");
        call::thread_exit(exit::PANIC)
    }

    /// A message that needs no heap; what doesn't fit is cut off.
    struct Line {
        bytes: [u8; 512],
        len: usize,
    }

    impl core::fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            let part = text.len().min(self.bytes.len() - self.len);
            self.bytes[self.len..][..part].copy_from_slice(&text.as_bytes()[..part]);
            self.len += part;
            Ok(())
        }
    }
}
