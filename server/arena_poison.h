/*
 * arena_poison.h: makes AddressSanitizer see segments of arenas as it sees blocks of malloc.
 * For arena.c and mem.c only.
 */
#ifndef AITERD_ARENA_POISON_H
#define AITERD_ARENA_POISON_H

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif
#ifndef ARENA_POISON
#define ARENA_POISON 0
#endif

#if ARENA_POISON
#include <sanitizer/asan_interface.h>
/* In checked builds only the exact bytes of segments can be touched, and segments never adjoin. */
#define poison(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#define SEGMENT_GAP 64u
#else
#define poison(p, n) ((void)0)
#define unpoison(p, n) ((void)0)
#define SEGMENT_GAP 0u
#endif

#endif
