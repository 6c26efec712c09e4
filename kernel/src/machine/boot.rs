//! From power-on to Rust: the PVH entry (32-bit, no paging) and the way of the other CPUs (16-bit).
//!
//! Both load the *boot tables*: identity for the first 4 GiB, the same again where the direct map will
//! be, and the first GiB at the kernel's base. They are writable and executable everywhere and serve
//! until [`crate::memory::paging`] has built the real ones; other CPUs pass through them.
//!
//! Source: QEMU `docs/pvh`, Xen `docs/misc/pvh`: EBX holds the address of `hvm_start_info`.

use core::arch::global_asm;

/// Physical address of the page that other CPUs start at. Below 1 MiB, which the frame allocator never owns.
pub(crate) const TRAMPOLINE: u64 = 0x8000;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_start

    .section .boot, "awx", @progbits
    .code32
    .global pvh_start
pvh_start:
    cld
    movl %ebx, %edi
    lgdtl boot_gdt_pointer
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax
    movl %eax, %cr0
    ljmpl $8, $boot64

    .code64
boot64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movabsq $(boot_stack_end), %rsp
    movl %edi, %edi
    xorl %ebp, %ebp
    movabsq $boot_main, %rax
    callq *%rax
    ud2

    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdt_pointer:
    .word 23
    .quad boot_gdt

    .balign 4096
    .global boot_pml4
boot_pml4:
    .quad boot_pdpt_low + 3
    .fill 255, 8, 0
    .quad boot_pdpt_low + 3
    .fill 254, 8, 0
    .quad boot_pdpt_high + 3
boot_pdpt_low:
    .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .fill 508, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd + 3, 0
boot_pd:
    .set frame, 0
    .rept 2048
    .quad frame + 0x83
    .set frame, frame + 0x200000
    .endr

    .section .bss.boot_stack, "aw", @nobits
    .balign 4096
    .skip 65536
boot_stack_end:

    .section .rodata.trampoline, "a", @progbits
    .balign 16
    .global trampoline_start
    .global trampoline_end
    .code16
trampoline_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt_pointer - trampoline_start + {trampoline}
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax
    movl %eax, %cr0
    ljmpl $8, $(trampoline64 - trampoline_start + {trampoline})

    .code64
trampoline64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movabsq $trampoline_root, %rax
    movq (%rax), %rcx
    movabsq $trampoline_stack, %rax
    movq (%rax), %rsp
    movabsq $trampoline_entry, %rax
    jmpq *%rax

    .balign 8
trampoline_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
trampoline_gdt_pointer:
    .word 23
    .long trampoline_gdt - trampoline_start + {trampoline}
trampoline_end:

    .section .text
    .code64
trampoline_entry:
    movq %rcx, %cr3
    xorl %ebp, %ebp
    callq ap_main
    ud2
    "#,
    trampoline = const TRAMPOLINE,
    options(att_syntax)
);
