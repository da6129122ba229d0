/*
 * test_emu_exec.c: scalar instructions, branches and calls, moves between lanes, LDS and barriers, memory of all
 * kinds, against plain C.
 */
#include "emulator/emu_fixture.h"
#include "emulator/emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS 64

static uint32_t
bit_field(uint32_t a, uint32_t offset, uint32_t width, int is_signed)
{
	uint32_t r = 0, sign = 0;

	for (uint32_t i = 0; i < 32 && i < width; i++) {
		uint32_t from = offset + i, bit = from < 32 ? a >> from & 1 : is_signed ? a >> 31 : 0;

		r |= bit << i;
		sign = bit;
	}
	if (is_signed && sign)
		for (uint32_t i = width; i < 32; i++)
			r |= 1u << i;
	return r;
}

#define UINT(bits) UINT_##bits
#define UINT_32 uint32_t
#define UINT_64 uint64_t
#define SOP(name, bits, expression, condition)                                                                         \
	static void expect_##name(const void *pa, const void *pb, void *pr, int *scc)                                  \
	{                                                                                                              \
		UINT(bits) a = *(const UINT(bits) *)pa, b = *(const UINT(bits) *)pb, r = (UINT(bits))(expression);     \
		*scc = (condition);                                                                                    \
		*(UINT(bits) *)pr = r;                                                                                 \
	}
#include "emulator/scalar_ops.def"
#undef SOP

static const struct {
	const char *name;
	size_t size;
	void (*expect)(const void *a, const void *b, void *r, int *scc);
} scalar_ops[] = {
#define SOP(name, bits, expression, condition) {#name, bits / 8, expect_##name},
#include "emulator/scalar_ops.def"
#undef SOP
};

TestSuite(emu_exec, .fini = emu_fixture_end);

Test(emu_exec, scalar)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	static const uint64_t special[8] = {0,	1,	    0xffffffffffffffff, 0x8000000080000000, 0x7fffffff7fffffff,
					    31, 0x00080004, 0x001f0010};

	for (size_t k = 0; k < sizeof scalar_ops / sizeof *scalar_ops; k++) {
		size_t size = scalar_ops[k].size;
		uint8_t a[PAIRS * 8], b[PAIRS * 8], r[PAIRS * 8];
		uint32_t scc[PAIRS];
		void *da, *db, *dr, *ds, *params[] = {&dr, &ds, &da, &db};
		char name[80];

		for (unsigned i = 0; i < PAIRS; i++) {
			uint64_t x = (uint64_t)emu_fixture_random() << 32 | emu_fixture_random();
			uint64_t y = emu_fixture_random() >> emu_fixture_random() % 32;

			memcpy(a + i * size, i % 2 ? &special[i / 2 % 8] : &x, size);
			memcpy(b + i * size, i % 2 ? &special[i / 16 + 4 * (i / 2 % 2)] : &y, size);
		}
		da = emu_fixture_device(a, PAIRS * size);
		db = emu_fixture_device(b, PAIRS * size);
		dr = emu_fixture_device(NULL, PAIRS * size);
		ds = emu_fixture_device(NULL, sizeof scc);
		snprintf(name, sizeof name, "k_%s", scalar_ops[k].name);
		emu_fixture_run(emu_fixture_kernel(m, name), PAIRS, 64, params);
		emu_fixture_read(r, dr, PAIRS * size);
		emu_fixture_read(scc, ds, sizeof scc);
		for (size_t i = 0; i < PAIRS; i++) {
			uint64_t want = 0, got = 0, x = 0, y = 0;
			int condition;

			scalar_ops[k].expect(a + i * size, b + i * size, &want, &condition);
			memcpy(&got, r + i * size, size);
			memcpy(&x, a + i * size, size);
			memcpy(&y, b + i * size, size);
			cr_assert(got == want && (condition < 0 ? scc[i] == 0 : scc[i] == (uint32_t)condition),
				  "%s(%#llx, %#llx) = %#llx with SCC %u, not %#llx with %d", scalar_ops[k].name,
				  (unsigned long long)x, (unsigned long long)y, (unsigned long long)got, scc[i],
				  (unsigned long long)want, condition);
		}
	}
}

static uint32_t
step(uint32_t x, const uint32_t *weights)
{
	switch (x % 5) {
	case 0:
		return x / 5 + weights[0];
	case 1:
		return x * 3 - weights[1];
	case 2:
		return x ^ weights[2];
	default:
		return x >> 1;
	}
}

Test(emu_exec, branches_and_calls)
{
	enum { N = 256 };
	uint32_t in[N], out[2 * N], weights[3] = {11, 29, 0x155}, limit = 40;
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *di, *dout = emu_fixture_device(NULL, sizeof out), *dw = emu_fixture_device(weights, sizeof weights);
	void *params[] = {&dout, &di, &dw, &limit};

	for (int i = 0; i < N; i++)
		in[i] = emu_fixture_random() >> i % 32;
	di = emu_fixture_device(in, sizeof in);
	emu_fixture_run(emu_fixture_kernel(m, "k_branches"), N / 64, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	for (int i = 0; i < N; i++) {
		uint32_t x = in[i], n = 0;

		while (x > 7 && n < limit) {
			x = step(x, weights);
			if (x % 3 == 1)
				x += n;
			n++;
		}
		cr_assert(out[2 * i] == x && out[2 * i + 1] == n, "lane %d: %u after %u steps, not %u after %u", i,
			  out[2 * i], out[2 * i + 1], x, n);
	}
}

/* Where a lane reads under a DPP control, by the words of the ISA's table; -1: nowhere. */
static int
dpp_reads(int control, int lane)
{
	int row = lane / 16, in_row = lane % 16, n = control % 16;

	if (control <= 0xff)
		return lane / 4 * 4 + (control >> 2 * (lane % 4)) % 4;
	if (control >= 0x101 && control <= 0x10f)
		return in_row + n < 16 ? lane + n : -1;
	if (control >= 0x111 && control <= 0x11f)
		return in_row >= n ? lane - n : -1;
	if (control >= 0x121 && control <= 0x12f)
		return 16 * row + (in_row + 16 - n) % 16;
	switch (control) {
	case 0x130:
		return lane == 63 ? -1 : lane + 1;
	case 0x134:
		return (lane + 1) % 64;
	case 0x138:
		return lane - 1;
	case 0x13c:
		return (lane + 63) % 64;
	case 0x140:
		return 16 * row + 15 - in_row;
	case 0x141:
		return lane / 8 * 8 + 7 - lane % 8;
	case 0x142: /* each row's last lane to the next row */
		return row > 0 ? 16 * row - 1 : -1;
	default: /* lane 31 to the upper half */
		return lane > 31 ? 31 : -1;
	}
}

struct dpp {
	const char *name;
	int control, row_mask, bank_mask, bound;
};

static uint32_t
dpp_expected(const struct dpp *t, const uint32_t *in, const uint32_t *old, int lane)
{
	int from = dpp_reads(t->control, lane);

	if (!(t->row_mask >> lane / 16 & 1) || !(t->bank_mask >> lane % 16 / 4 & 1))
		return old[lane];
	if (from < 0)
		return t->bound ? 0 : old[lane];
	return in[from];
}

static uint32_t
swizzle_expected(int pattern, const uint32_t *in, int lane)
{
	int half = lane / 32 * 32, l = lane % 32;

	if (pattern & 0x8000)
		return in[lane / 4 * 4 + (pattern >> 2 * (lane % 4)) % 4];
	return in[half + (((l & pattern % 32) | (pattern / 32 % 32)) ^ (pattern / 1024 % 32))];
}

Test(emu_exec, lanes)
{
	static const struct dpp tests[] = {
#define DPP(name, control, row_mask, bank_mask, bound) {#name, control, row_mask, bank_mask, bound},
#define SWIZZLE(name, pattern) {#name, -(pattern), 0, 0, 0},
#include "emulator/dpp.def"
	};
	uint32_t in[64], old[64], index[64], out[256];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *di, *dold, *dindex, *dout = emu_fixture_device(NULL, sizeof out), *params[] = {&dout, &di, &dold};
	uint32_t below = 0;

	for (uint32_t i = 0; i < 64; i++) {
		in[i] = emu_fixture_random();
		old[i] = emu_fixture_random();
		index[i] = i * 37 % 64;
	}
	di = emu_fixture_device(in, sizeof in);
	dold = emu_fixture_device(old, sizeof old);
	for (size_t k = 0; k < sizeof tests / sizeof *tests; k++) {
		char name[64];

		snprintf(name, sizeof name, "k_%s", tests[k].name);
		emu_fixture_run(emu_fixture_kernel(m, name), 1, 64, params);
		emu_fixture_read(out, dout, 256);
		for (int i = 0; i < 64; i++) {
			uint32_t want = tests[k].control < 0 ? swizzle_expected(-tests[k].control, in, i)
							     : dpp_expected(&tests[k], in, old, i);

			cr_assert_eq(out[i], want, "%s, lane %d", tests[k].name, i);
		}
	}
	dindex = emu_fixture_device(index, sizeof index);
	params[2] = &dindex;
	emu_fixture_run(emu_fixture_kernel(m, "k_permute"), 1, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	for (uint32_t i = 0; i < 64; i++) {
		cr_assert_eq(out[i], in[index[i]], "bpermute, lane %u", i);
		cr_assert_eq(out[64 + index[i]], in[i], "permute, lane %u", i);
		cr_assert_eq(out[128 + i], in[17], "readlane");
		cr_assert_eq(out[192 + i], below, "ballot and count, lane %u", i);
		below += in[i] & 1;
	}
}

/* Whether the kernel gives each wave what the next one wrote, under a quantum of the scheduler. */
static int
neighbour_is_right(const char *kernel, const char *quantum)
{
	enum { N = 512 };
	uint32_t in[N], out[N];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *di, *dout = emu_fixture_device(NULL, sizeof out), *params[] = {&dout, &di};

	for (uint32_t i = 0; i < N; i++)
		in[i] = i * 2654435761u;
	di = emu_fixture_device(in, sizeof in);
	setenv("EMUHIP_QUANTUM", quantum, 1);
	emu_settings_read();
	emu_fixture_run(emu_fixture_kernel(m, kernel), N / 256, 256, params);
	emu_fixture_read(out, dout, sizeof out);
	for (int i = 0; i < N; i++)
		if (out[i] != in[i / 256 * 256 + (i % 256 + 64) % 256])
			return 0;
	return 1;
}

Test(emu_exec, missing_barrier)
{
	static const char *const quanta[] = {"0", "1", "8", "64"};
	int wrong = 0;

	for (int i = 0; i < 4; i++) {
		cr_assert(neighbour_is_right("k_neighbour", quanta[i]), "with its barrier, quantum %s", quanta[i]);
		wrong += !neighbour_is_right("k_neighbour_no_barrier", quanta[i]);
	}
	cr_assert_gt(wrong, 0, "no quantum shows that the barrier is missing");
}

Test(emu_exec, widths)
{
	int8_t b[64];
	uint8_t ub[64], bytes[64];
	int16_t h[64];
	uint16_t uh[64], halves[64];
	uint32_t w[128][4], t[128][3];
	int32_t out[1024 + 64];
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *d[7], *params[7];

	for (int i = 0; i < 64; i++) {
		uint32_t r = emu_fixture_random();

		b[i] = (int8_t)r;
		ub[i] = (uint8_t)(r >> 8);
		h[i] = (int16_t)(r >> 8);
		uh[i] = (uint16_t)(r >> 16);
		for (int k = 0; k < 4; k++)
			w[i][k] = emu_fixture_random();
		for (int k = 0; k < 3; k++)
			t[i][k] = emu_fixture_random();
	}
	d[0] = emu_fixture_device(NULL, sizeof out);
	d[1] = emu_fixture_device(b, sizeof b);
	d[2] = emu_fixture_device(ub, sizeof ub);
	d[3] = emu_fixture_device(h, sizeof h);
	d[4] = emu_fixture_device(uh, sizeof uh);
	d[5] = emu_fixture_device(w, sizeof w);
	d[6] = emu_fixture_device(t, sizeof t);
	for (int i = 0; i < 7; i++)
		params[i] = &d[i];
	emu_fixture_run(emu_fixture_kernel(m, "k_widths"), 1, 64, params);
	emu_fixture_read(out, d[0], sizeof out);
	emu_fixture_read(w, d[5], sizeof w);
	emu_fixture_read(t, d[6], sizeof t);
	memcpy(bytes, (uint8_t *)out + 1024, sizeof bytes);
	memcpy(halves, (uint8_t *)out + 2048, sizeof halves);
	for (int i = 0; i < 64; i++) {
		cr_assert_eq(out[i], b[i] + ub[i] * 3 + h[i] * 5 + uh[i] * 7, "lane %d", i);
		cr_assert_eq(bytes[i], (uint8_t)(ub[i] + 1));
		cr_assert_eq(halves[i], (uint16_t)(uh[i] + 1));
		for (unsigned k = 0; k < 4; k++)
			cr_assert_eq(w[127 - i][k], w[i][k] + k);
		for (int k = 0; k < 3; k++)
			cr_assert_eq(t[127 - i][k], t[i][k] ^ 0x55);
	}
}

Test(emu_exec, flat_and_scratch)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint32_t in[64], out[128];
	void *di, *dout = emu_fixture_device(NULL, sizeof out);

	for (uint32_t i = 0; i < 64; i++)
		in[i] = 1000 * i;
	for (uint32_t where = 0; where < 3; where++) {
		void *params[] = {&dout, &di, &where};

		di = emu_fixture_device(in, sizeof in);
		emu_fixture_run(emu_fixture_kernel(m, "k_flat"), 1, 64, params);
		emu_fixture_read(out, dout, sizeof out);
		for (uint32_t i = 0; i < 64; i++) {
			cr_assert_eq(out[i], in[i] + where, "lane %u, memory %u", i, where);
			cr_assert_eq(out[64 + i], in[i] + 3, "lane %u, memory %u", i, where);
		}
	}
}

Test(emu_exec, lds)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint64_t in[64], out[192];
	void *di, *dout = emu_fixture_device(NULL, sizeof out), *params[] = {&dout, &di};

	for (int i = 0; i < 64; i++)
		in[i] = (uint64_t)emu_fixture_random() << 32 | emu_fixture_random();
	di = emu_fixture_device(in, sizeof in);
	emu_fixture_run(emu_fixture_kernel(m, "k_lds"), 1, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	for (int i = 0; i < 64; i++) {
		cr_assert_eq(out[i], in[63 - i] * 4);
		cr_assert_eq(out[64 + i], in[63 - i]);
		cr_assert_eq(out[128 + i], in[i * 7 % 64] & 0xffff);
	}
}

Test(emu_exec, buffer_bounds)
{
	hipModule_t m = emu_fixture_module("kernels_exec");
	uint32_t in[128], out[128], after[128], bytes = 4 * 40, other = 0;
	void *di, *dout = emu_fixture_device(NULL, sizeof out), *params[] = {&dout, &di, &bytes};

	for (int i = 0; i < 128; i++)
		in[i] = emu_fixture_random();
	di = emu_fixture_device(in, sizeof in);
	emu_fixture_run(emu_fixture_kernel(m, "k_buffer"), 1, 64, params);
	emu_fixture_read(out, dout, sizeof out);
	emu_fixture_read(after, di, sizeof after);
	for (int i = 0; i < 64; i++) {
		cr_assert_eq(out[i], i < 40 ? in[i] : 0, "lane %d", i);
		cr_assert_eq(out[64 + i], ((uint8_t *)in)[i + 3], "byte of lane %d", i);
	}
	cr_assert_arr_eq(after, in, sizeof in, "stores past the end of the buffer must vanish");
	bytes = 512;
	other = 1;
	emu_fixture_run(emu_fixture_kernel(m, "k_buffer"), 1, 64, params);
	emu_fixture_read(after, di, sizeof after);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(after[64 + i], in[i] + other);
}

Test(emu_exec, atomics)
{
	enum { N = 512, FIRST = 128 };
	uint32_t in[N], p[32], want[32], slots[N], left[N];
	uint64_t q[4], wantq[4] = {0, 0, 0, 0};
	float f[2];
	double sum[2] = {0, 0};
	hipModule_t m = emu_fixture_module("kernels_exec");
	void *d[5], *params[5];

	memset(p, 0, sizeof p);
	memset(q, 0, sizeof q);
	memset(f, 0, sizeof f);
	p[2] = p[5] = ~0u;
	memset(want, 0, sizeof want);
	for (int k = 0; k < 32; k += 16)
		want[k + 2] = want[k + 5] = ~0u;
	for (unsigned i = 0; i < N; i++) {
		in[i] = emu_fixture_random() % 200000;
		for (int k = 0; k < (i < FIRST ? 2 : 1); k++) {
			uint32_t *w = want + 16 * k, x = in[i];
			int32_t s = (int32_t)x - 100000;
			uint64_t *v = wantq + 2 * k;

			w[0] += x;
			w[1] -= x;
			w[2] &= ~(1u << x % 32);
			w[3] |= 1u << x % 32;
			w[4] ^= x;
			w[5] = x < w[5] ? x : w[5];
			w[6] = x > w[6] ? x : w[6];
			w[7] = s > (int32_t)w[7] ? (uint32_t)s : w[7];
			w[8] = w[8] * 5 + 1;
			v[0] += (uint64_t)x << 30;
			v[1] = (uint64_t)x << 31 > v[1] ? (uint64_t)x << 31 : v[1];
			sum[k] += x % 64;
		}
	}
	want[9] = N;
	d[0] = emu_fixture_device(p, sizeof p);
	d[1] = emu_fixture_device(q, sizeof q);
	d[2] = emu_fixture_device(f, sizeof f);
	d[3] = emu_fixture_device(in, sizeof in);
	d[4] = emu_fixture_device(NULL, sizeof slots);
	for (int i = 0; i < 5; i++)
		params[i] = &d[i];
	emu_fixture_run(emu_fixture_kernel(m, "k_atomics"), N / 128, 128, params);
	emu_fixture_read(p, d[0], sizeof p);
	emu_fixture_read(q, d[1], sizeof q);
	emu_fixture_read(f, d[2], sizeof f);
	emu_fixture_read(slots, d[4], sizeof slots);
	for (int i = 0; i < 25; i++)
		cr_assert(i > 9 && i < 16 ? 1 : p[i] == want[i], "atomic %d: %#x, not %#x", i, p[i], want[i]);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(q[i], wantq[i], "64-bit atomic %d", i);
	for (int i = 0; i < 2; i++)
		cr_assert_eq((double)f[i], sum[i], "float atomic %d", i);
	/* each value went to one slot of its own */
	memcpy(left, in, sizeof left);
	for (int i = 0; i < N; i++) {
		int k = 0;

		while (k < N && left[k] != slots[i])
			k++;
		cr_assert_lt(k, N, "slot %d holds a value that is none", i);
		left[k] = UINT32_MAX;
	}
}
