/*
 * test_shuffle.c: byte planes and back, against the definition, for sizes around the vector loops' steps.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "codec/intake.h"

static const size_t counts[] = {0,  1,	2,   7,	  15,  16,  17,	 31,  32,   33,	 48,
				63, 64, 100, 255, 256, 257, 511, 512, 1000, 4099};
static const unsigned sizes[] = {1, 2, 4, 8};

static void
fill(unsigned char *p, size_t n)
{
	uint32_t x = 12345;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (unsigned char)(x >> 24);
	}
}

Test(shuffle, both_directions_follow_the_definition)
{
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			/* Odd addresses too: safetensors does not align. The blocks are exact, for AddressSanitizer. */
			for (size_t shift = 0; shift < 2; shift++) {
				size_t n = counts[c], bytes = n * sizes[s];
				unsigned char *in = malloc(bytes + shift + 1), *out = malloc(bytes + shift);
				unsigned char *back = malloc(bytes + shift);
				cr_assert(in && (out || bytes + shift == 0) && (back || bytes + shift == 0));
				fill(in, bytes + shift + 1);

				byte_unshuffle(out + shift, in + shift, n, sizes[s]);
				for (size_t i = 0; i < n; i++)
					for (unsigned b = 0; b < sizes[s]; b++)
						cr_assert_eq(out[shift + i * sizes[s] + b], in[shift + b * n + i],
							     "unshuffle: n %zu, size %u, element %zu, byte %u", n,
							     sizes[s], i, b);
				byte_shuffle(back + shift, in + shift, n, sizes[s]);
				for (size_t i = 0; i < n; i++)
					for (unsigned b = 0; b < sizes[s]; b++)
						cr_assert_eq(back[shift + b * n + i], in[shift + i * sizes[s] + b],
							     "shuffle: n %zu, size %u, element %zu, byte %u", n,
							     sizes[s], i, b);
				free(in);
				free(out);
				free(back);
			}
		}
	}
}

Test(shuffle, a_known_example)
{
	/* 1.0f, 2.0f, -1.0f, little endian. */
	static const unsigned char floats[12] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x80, 0xbf};
	static const unsigned char planes[12] = {0, 0, 0, 0, 0, 0, 0x80, 0, 0x80, 0x3f, 0x40, 0xbf};
	unsigned char out[12];

	byte_shuffle(out, floats, 3, 4);
	cr_assert_arr_eq(out, planes, 12);
	byte_unshuffle(out, planes, 3, 4);
	cr_assert_arr_eq(out, floats, 12);
}
