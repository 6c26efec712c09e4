//! Layouts as the compiler sees them.

use twizzler_abi::call::{CreateSpec, ObjectStat, SpawnSpec, SyncOp};
use twizzler_abi::object::{Header, Metadata};
use twizzler_abi::pointer::FotEntry;
use twizzler_abi::system::System;
use twizzler_abi::thread::{FaultInfo, Registers, ThreadState, UpcallFrame};
use twizzler_abi::view::ViewEntry;
use zerocopy::FromZeros;

/// A struct's layout.
#[derive(Debug)]
pub struct Layout {
    /// Name of the struct.
    pub name: &'static str,
    /// Its size.
    pub bytes: usize,
    /// Its fields, by offset.
    pub fields: Vec<Field>,
}

/// A field of a [`Layout`].
#[derive(Debug)]
pub struct Field {
    /// Name.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
    /// Type, with its path.
    pub type_name: &'static str,
}

macro_rules! layout {
    ($type:ident { $($field:ident),+ $(,)? }) => {{
        let value = $type::new_box_zeroed().expect("memory for one value");
        Layout {
            name: stringify!($type),
            bytes: size_of::<$type>(),
            fields: vec![$(Field {
                name: stringify!($field),
                offset: std::mem::offset_of!($type, $field),
                bytes: size_of_val(&value.$field),
                type_name: std::any::type_name_of_val(&value.$field),
            }),+],
        }
    }};
}

/// All layouts of the ABI. A test fails where a field is missing.
pub(super) fn all() -> Vec<Layout> {
    vec![
        layout!(Metadata {
            magic,
            compat,
            incompat,
            ro_compat,
            flags,
            default_rights,
            reserved,
            id,
            nonce,
            owner,
            fingerprint,
            type_table_bytes,
            extension_bytes,
            reserved2,
            checksum,
        }),
        layout!(Header {
            len_bytes,
            allocator,
            fot_len_entries,
            fot_companion,
            type_name,
            lock,
            migrated_from,
            migrated_to,
            type_key,
            domain_versions
        }),
        layout!(FotEntry { target, fingerprint, active }),
        layout!(ViewEntry { id, rights, reserved, sequence }),
        layout!(CreateSpec { nonce, owner, flags, default_rights, fingerprint }),
        layout!(ObjectStat {
            id,
            owner,
            flags,
            default_rights,
            fingerprint,
            len_bytes,
            pages,
            tables,
            mappings,
            size_class,
            quarantine,
        }),
        layout!(SpawnSpec {
            view,
            entry,
            stack_pointer,
            stack_low,
            argument,
            argument2,
            fs_base,
            priority,
            reserved,
            name,
        }),
        layout!(SyncOp { kind, address, value, result }),
        layout!(ThreadState {
            status,
            exit_code,
            fault,
            registers,
            id,
            view,
            cpu_time_ns,
            cpu,
            priority,
            stack_low,
            handler,
            handler_stack,
            name,
        }),
        layout!(FaultInfo { kind, access, address, object }),
        layout!(Registers {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            rip,
            rflags,
            rsp,
            fs_base,
            gs_base,
        }),
        layout!(UpcallFrame { fault, registers, vector_state, vector_state_bytes }),
        layout!(System {
            version,
            boot_ns,
            tsc_base,
            tsc_multiplier,
            epoch_s,
            cpus,
            dram_bytes,
            dram_free_bytes,
            nvm_bytes,
            nvm_free_bytes,
            objects_persistent,
            objects_volatile,
            objects_quarantined,
            mount_ns,
            store_boots,
            faults_resolved,
            faults_filled,
            calls,
            switches,
            shootdowns,
            console_interrupts,
            nvm_error,
            flushes,
            fences,
            nvm_written_bytes,
            store_uuid,
            names_root,
            cmdline,
            threads_len,
            threads,
        }),
    ]
}

/// A type's name without the path.
pub(super) fn short(type_name: &str) -> String {
    let bare = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
    match type_name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|rest| rest.split_once("; "))
    {
        Some((element, count)) => format!("[{}; {count}]", bare(element)),
        None => bare(type_name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_each_other_without_gap() {
        for layout in all() {
            let mut at = 0;
            for field in &layout.fields {
                assert_eq!(field.offset, at, "{}.{}", layout.name, field.name);
                at += field.bytes;
            }
            assert_eq!(at, layout.bytes, "{}", layout.name);
        }
    }

    #[test]
    fn types_are_shown_without_paths() {
        assert_eq!(short("twizzler_abi::id::ObjId"), "ObjId");
        assert_eq!(short("[twizzler_abi::id::ObjId; 4]"), "[ObjId; 4]");
        assert_eq!(short("[u8; 16]"), "[u8; 16]");
    }
}
