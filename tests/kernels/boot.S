/* What an emulated PC has in place of a BIOS: starts a Linux whose image is in memory already.
 *
 * ROM is the address of this image, whose 64 KiB end at the first MiB, and at 4 GiB too. PARAMETERS,
 * TABLES and ENTRY are those of Linux's parameters, of page tables that map the first GiB to itself and
 * of Linux's 64-bit entry; MEMORY is where memory ends (tests/kernels/bochs.py). What must hold at the
 * entry is Linux's x86 boot protocol: flat segments at 0x10 and 0x18, no interrupts, the parameters in
 * rsi. */

    .code16
start:
    cli
    lgdtl %cs:(table - ROM)
    movl %cr0, %eax
    orl $1, %eax /* protected mode */
    movl %eax, %cr0
    ljmpl $0x08, $protected

    .code32
protected:
    movw $0x18, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss

    /* Bochs read the image as one piece into its own memory, from where the first block of 128 KiB lies,
     * but finds a place for every other block when it is first touched, one place after the other. So
     * they must be touched in order, and before anything else is. */
    movl $PARAMETERS, %esi
touch:
    movl (%esi), %eax
    addl $0x1000, %esi
    cmpl $MEMORY, %esi
    jb touch

    movl $0x20, %eax /* physical addresses of more than 32 bits, which long mode wants */
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    xorl %edx, %edx
    movl $0x100, %eax /* long mode */
    wrmsr
    movl $0x80000011, %eax /* pages */
    movl %eax, %cr0
    ljmp $0x10, $entry

    .code64
entry:
    movl $PARAMETERS, %esi
    movl $ENTRY, %eax
    jmp *%rax

    .balign 8
segments: /* none; code of 32 bits, of 64 bits; data */
    .quad 0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff
table:
    .word table - segments - 1
    .long segments

    .org 0xfff0 /* where a processor begins */
    .code16
    jmp start
    .org 0x10000
