/* Given to the assembler before what gcc compiled: float32 to float16 as it is, where Bochs 2.7 does it
 * wrongly.
 *
 * That rounds what lies half-way between two float16 away from zero, not to the even one, whatever the
 * instruction says. Here the instruction's name is a macro which first rounds the float32 to what a
 * float16 can hold, by an addition and a subtraction; what is left to the instruction is exact. All else
 * of the code under test stays as gcc made it. Needs AVX-512; knows no mask on a target that has the
 * number of its source; what does not say "to nearest" is left to the instruction. */

    .pushsection .rodata
    .balign 4
.Lhalf_exponent: .long 0x7f800000
.Lhalf_least: .long 113 << 23 /* 2^-14: below are the subnormal float16, all with one exponent */
.Lhalf_most: .long 143 << 23 /* 2^16: infinite */
.Lhalf_above: .long (13 << 23) + 0x400000 /* makes 1.5 * 2^(e + 13) of 2^e */
.Lhalf_sign: .long 0x80000000
    .popsection

/* Of register n, which is left below the stack, beyond what a function may use there: at -256. */
    .macro half_round n, other
    vmovups %zmm\other, -192(%rsp)
    vmovups %zmm\n, -256(%rsp)
    vpandd .Lhalf_exponent(%rip){1to16}, %zmm\n, %zmm\other
    vpmaxud .Lhalf_least(%rip){1to16}, %zmm\other, %zmm\other
    vpminud .Lhalf_most(%rip){1to16}, %zmm\other, %zmm\other
    vpaddd .Lhalf_above(%rip){1to16}, %zmm\other, %zmm\other
    vaddps %zmm\other, %zmm\n, %zmm\n
    vsubps %zmm\other, %zmm\n, %zmm\n
    vmovups -256(%rsp), %zmm\other
    vpandd .Lhalf_sign(%rip){1to16}, %zmm\other, %zmm\other /* -0 stays -0 */
    vpord %zmm\other, %zmm\n, %zmm\n
    vmovups -192(%rsp), %zmm\other
    .endm

/* If the source is this register of number n. */
    .macro half_from register, n, how, source, target:vararg
    .ifc \source,\register
    .if \n
    half_round \n, 0
    .else
    half_round \n, 1
    .endif
    {evex} vcvtps2ph \how, \source, \target
    .ifnc \target,%xmm\n
    .ifnc \target,%ymm\n
    vmovups -256(%rsp), %zmm\n
    .endif
    .endif
    .endif
    .endm

    .macro half_nearest how, source, target:vararg
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    half_from %xmm\n, \n, \how, \source, \target
    half_from %ymm\n, \n, \how, \source, \target
    half_from %zmm\n, \n, \how, \source, \target
    .endr
    .endm

    .macro vcvtps2ph how, source, target:vararg
    .ifc \how,$0
    half_nearest \how, \source, \target
    .else
    .ifc \how,$8
    half_nearest \how, \source, \target
    .else
    {evex} vcvtps2ph \how, \source, \target
    .endif
    .endif
    .endm
