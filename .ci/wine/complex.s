# Functions of complex.h and fenv.h that NumPy and h5py call, and that Wine 8 has as stubs which abort.
#
# Windows' x64 calling convention: a float complex (8 bytes) comes in rcx and leaves in rax; a double complex (16 bytes)
# comes as a pointer in rcx, and leaves through a pointer that the caller gives in rcx. A long double is a double.

        .intel_syntax noprefix
        .text
        .globl  crealf, cimagf, creall, cimag, cimagl, cabsf, cabsl, _FCbuild, _LCbuild

crealf:                                         # the lower half
        movd    xmm0, ecx
        ret

cimagf:                                         # the upper half
        shr     rcx, 32
        movd    xmm0, ecx
        ret

creall:
        movsd   xmm0, [rcx]
        ret

cimag:
cimagl:
        movsd   xmm0, [rcx + 8]
        ret

cabsf:                                          # in double, so that no square overflows
        movq    xmm0, rcx
        cvtps2pd xmm0, xmm0
        mulpd   xmm0, xmm0
        movapd  xmm1, xmm0
        unpckhpd xmm1, xmm1
        addsd   xmm0, xmm1
        sqrtsd  xmm0, xmm0
        cvtsd2ss xmm0, xmm0
        ret

cabsl:
        movsd   xmm0, [rcx]
        movsd   xmm1, [rcx + 8]
        mulsd   xmm0, xmm0
        mulsd   xmm1, xmm1
        addsd   xmm0, xmm1
        sqrtsd  xmm0, xmm0
        ret

_FCbuild:                                       # (real, imaginary) in xmm0 and xmm1
        movd    eax, xmm0
        movd    ecx, xmm1
        shl     rcx, 32
        or      rax, rcx
        ret

_LCbuild:                                       # (where to, real, imaginary) in rcx, xmm1 and xmm2
        movsd   [rcx], xmm1
        movsd   [rcx + 8], xmm2
        mov     rax, rcx
        ret
