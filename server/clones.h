/*
 * clones.h: functions compiled several times, for newer processors too; the one that fits is chosen when the program is
 * loaded. For plain loops; the cpu device's kernels have files for each instruction set instead. Nothing where the compiler
 * or a sanitizer cannot (they start too late for the choice).
 */
#ifndef AITERD_CLONES_H
#define AITERD_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&               \
	!defined(__SANITIZE_THREAD__)
/* The same results everywhere: no fused multiply-adds. */
#define CLONES_SAME __attribute__((target_clones("avx2", "default")))
/* Float64 products: results may differ in the last bit. */
#define CLONES_FMA __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define CLONES_SAME
#define CLONES_FMA
#endif

#endif
