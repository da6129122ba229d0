/*
 * generate_loops.h: the loops of generate.c for one instruction set. generate.c includes this once for each, with
 * LOOPS(name) for the functions' names and LOOPS_TARGET for their attribute. A chunk is CHUNK elements of a tensor, from
 * element chunk * CHUNK on. Every operation on float64 is a single + - x / or sqrt, rounded as IEEE 754 says: that is what
 * makes the bits the same everywhere. No calls, no branches: compilers make vectors of these loops.
 */

/* The words of count blocks: two and two as 64-bit numbers. Blocks of one call differ in the lower half of their number
 * only, for a chunk's first is a multiple of count. */
LOOPS_TARGET static void
LOOPS(words)(const struct generate *g, uint64_t block, int count, uint64_t *lo, uint64_t *hi)
{
	uint32_t k0 = (uint32_t)g->seed, k1 = (uint32_t)(g->seed >> 32);
	uint32_t s0 = (uint32_t)g->stream, s1 = (uint32_t)(g->stream >> 32);
#if defined(LOOPS_PRODUCT)
	/* A 32-bit word in each 64-bit lane; what the products leave in the upper halves, the next ones do not see. */
	typedef uint64_t vec __attribute__((vector_size(LOOPS_BYTES), may_alias, aligned(8)));
	const int lanes = LOOPS_BYTES / 8;
	const vec zero = {0}, low = zero + 0xFFFFFFFFu;
	vec n;

	for (int i = 0; i < lanes; i++)
		n[i] = block + (uint64_t)i;
	for (int i = 0; i < count; i += lanes) {
		vec c0 = n + (uint64_t)i, c1 = zero + (block >> 32), c2 = zero + s0, c3 = zero + s1;
		uint32_t a = k0, b = k1;

#pragma GCC unroll 10
		for (int round = 0; round < 10; round++) {
			vec p0 = LOOPS_PRODUCT(c0, zero + PHILOX_M0), p1 = LOOPS_PRODUCT(c2, zero + PHILOX_M1);

			c0 = (p1 >> 32) ^ c1 ^ (zero + a);
			c2 = (p0 >> 32) ^ c3 ^ (zero + b);
			c1 = p1;
			c3 = p0;
			a += PHILOX_W0;
			b += PHILOX_W1;
		}
		*(vec *)(lo + i) = (c0 & low) | c1 << 32;
		*(vec *)(hi + i) = (c2 & low) | c3 << 32;
	}
#else
	for (int i = 0; i < count; i++) {
		uint32_t c[4] = {(uint32_t)block + (uint32_t)i, (uint32_t)(block >> 32), s0, s1};

		philox4x32_10(c, k0, k1);
		lo[i] = (uint64_t)c[1] << 32 | c[0];
		hi[i] = (uint64_t)c[3] << 32 | c[2];
	}
#endif
}

/* The normal pairs of words' lower and upper halves. */
LOOPS_TARGET static void
LOOPS(pairs)(const uint64_t *w, int count, double mean, double std, double *first, double *second)
{
	for (int i = 0; i < count; i++) {
		double z0, z1;

		normal_pair(w[i] & 0xFFFFFFFFu, w[i] >> 32, &z0, &z1);
		first[i] = mean + std * z0;
		second[i] = mean + std * z1;
	}
}

LOOPS_TARGET static void
LOOPS(normal)(const struct generate *g, uint64_t chunk, double v[CHUNK])
{
	uint64_t lo[CHUNK / 4], hi[CHUNK / 4];
	double z[4][CHUNK / 4];

	LOOPS(words)(g, chunk * (CHUNK / 4), CHUNK / 4, lo, hi);
	LOOPS(pairs)(lo, CHUNK / 4, g->a, g->b, z[0], z[1]);
	LOOPS(pairs)(hi, CHUNK / 4, g->a, g->b, z[2], z[3]);
	for (int i = 0; i < CHUNK / 4; i++) {
		v[4 * i] = z[0][i];
		v[4 * i + 1] = z[1][i];
		v[4 * i + 2] = z[2][i];
		v[4 * i + 3] = z[3][i];
	}
}

/* A 64-bit word for each element. */
LOOPS_TARGET static void
LOOPS(wide)(const struct generate *g, uint64_t chunk, uint64_t w[CHUNK])
{
	uint64_t lo[CHUNK / 2], hi[CHUNK / 2];

	LOOPS(words)(g, chunk * (CHUNK / 2), CHUNK / 2, lo, hi);
	for (int i = 0; i < CHUNK / 2; i++) {
		w[2 * i] = lo[i];
		w[2 * i + 1] = hi[i];
	}
}

LOOPS_TARGET static void
LOOPS(uniform)(const struct generate *g, uint64_t chunk, double v[CHUNK])
{
	uint64_t w[CHUNK];
	double low = g->a, range = g->b - g->a;

	LOOPS(wide)(g, chunk, w);
	for (int i = 0; i < CHUNK; i++)
		v[i] = low + range * unit(w[i]);
}

LOOPS_TARGET static void
LOOPS(randint)(const struct generate *g, uint64_t chunk, int64_t v[CHUNK])
{
	uint64_t w[CHUNK], low = (uint64_t)g->ia, range = (uint64_t)g->ib - low;

	LOOPS(wide)(g, chunk, w);
	if (range >> 32 == 0) {
		for (int i = 0; i < CHUNK; i++)
			v[i] = (int64_t)(low + (((w[i] >> 32) * range + ((w[i] & 0xFFFFFFFFu) * range >> 32)) >> 32));
	} else {
		for (int i = 0; i < CHUNK; i++)
			v[i] = (int64_t)(low + (uint64_t)((unsigned __int128)w[i] * range >> 64));
	}
}

LOOPS_TARGET static void
LOOPS(to_fp32)(const double v[CHUNK], float *out)
{
	for (int i = 0; i < CHUNK; i++)
		out[i] = (float)v[i];
}

LOOPS_TARGET static void
LOOPS(to_fp16)(const double v[CHUNK], uint16_t *out)
{
	for (int i = 0; i < CHUNK; i++)
		out[i] = (uint16_t)narrow(v[i], 15, 10, 0x1p16);
}

LOOPS_TARGET static void
LOOPS(to_bf16)(const double v[CHUNK], uint16_t *out)
{
	for (int i = 0; i < CHUNK; i++)
		out[i] = (uint16_t)narrow(v[i], 127, 7, 0x1p128);
}

static const struct loops LOOPS(loops) = {
	.isa = LOOPS_NAME,
	.normal = LOOPS(normal),
	.uniform = LOOPS(uniform),
	.randint = LOOPS(randint),
	.to_fp32 = LOOPS(to_fp32),
	.to_fp16 = LOOPS(to_fp16),
	.to_bf16 = LOOPS(to_bf16),
};

#undef LOOPS
#undef LOOPS_BYTES
#undef LOOPS_NAME
#undef LOOPS_PRODUCT
#undef LOOPS_TARGET
