/*
 * test_generate.c: generated tensors: the test vectors of api/generate-vectors.json with every instruction set, cut in all kinds of
 * pieces; the accuracy of the logarithm and the circle against long double; moments and independence of the numbers; refusals.
 */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/generate.h"
#include "codec/json.h"
#include "codec/philox.h"

static cJSON *
read_vectors(void)
{
	static char text[1 << 20], path[512];
	struct err e = {.code = ERR_NONE};
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/api/generate-vectors.json", getenv("AITERD_SRCDIR"));
	f = fopen(path, "r");
	cr_assert(f, "%s cannot be read", path);
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	cJSON *tree = json_parse(text, n, 16, &e);
	cr_assert(tree, "%s: %s", path, e.msg);
	return tree;
}

static const cJSON *
part(const cJSON *tree, const char *name)
{
	const cJSON *p = cJSON_GetObjectItemCaseSensitive(tree, name);

	cr_assert(cJSON_IsArray(p) && cJSON_GetArraySize(p) > 0, "no %s in the vectors", name);
	return p;
}

static const char *
number(const cJSON *object, const char *name, const char *fallback)
{
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(object, name);

	return n ? n->valuestring : fallback;
}

static uint32_t
word(const cJSON *list, int i)
{
	return (uint32_t)strtoul(cJSON_GetArrayItem(list, i)->valuestring, NULL, 10);
}

Test(generate, philox_gives_the_published_answers)
{
	cJSON *tree = read_vectors();
	const cJSON *c;

	cJSON_ArrayForEach(c, part(tree, "philox"))
	{
		const cJSON *counter = cJSON_GetObjectItem(c, "counter"), *key = cJSON_GetObjectItem(c, "key");
		uint32_t w[4];

		for (int i = 0; i < 4; i++)
			w[i] = word(counter, i);
		philox4x32_10(w, word(key, 0), word(key, 1));
		for (int i = 0; i < 4; i++)
			cr_expect_eq(w[i], word(cJSON_GetObjectItem(c, "words"), i), "word %d", i);
	}
	cJSON_Delete(tree);
}

Test(generate, normal_pairs_agree_with_the_vectors)
{
	cJSON *tree = read_vectors();
	const cJSON *c;

	cJSON_ArrayForEach(c, part(tree, "normal"))
	{
		const cJSON *words = cJSON_GetObjectItem(c, "words"), *wanted = cJSON_GetObjectItem(c, "z");
		double z[2];

		generate_normal_pair(word(words, 0), word(words, 1), z);
		for (int i = 0; i < 2; i++) {
			double v = strtod(cJSON_GetArrayItem(wanted, i)->valuestring, NULL);
			cr_expect(memcmp(&v, &z[i], sizeof(v)) == 0, "words %u %u: %a, not %a", word(words, 0),
				  word(words, 1), z[i], v);
		}
	}
	cJSON_Delete(tree);
}

static struct generate
source_of(const cJSON *source)
{
	const char *kind = cJSON_GetObjectItem(source, "generate")->valuestring;
	const char *dtype = cJSON_GetObjectItem(source, "dtype")->valuestring;
	struct generate g;
	int k = 0;

	while (strcmp(generate_kinds[k], kind) != 0)
		k++;
	generate_init(&g, (enum generate_kind)k, dtype_find(dtype, strlen(dtype)));
	g.seed = strtoull(number(source, "seed", "0"), NULL, 10);
	g.stream = strtoull(number(source, "stream", "0"), NULL, 10);
	const char *a = k == GEN_NORMAL	  ? number(source, "mean", "0")
			: k == GEN_ARANGE ? number(source, "start", "0")
					  : number(source, "low", "0");
	const char *b = k == GEN_NORMAL	  ? number(source, "std", "1")
			: k == GEN_ARANGE ? number(source, "step", "1")
					  : number(source, "high", "1");
	g.a = strtod(a, NULL);
	g.b = strtod(b, NULL);
	g.ia = strtoll(a, NULL, 10);
	g.ib = strtoll(b, NULL, 10);
	return g;
}

static void
sha256_hex(const unsigned char *p, size_t n, char hex[65])
{
	uint8_t sum[SHA256_DIGEST_SIZE];
	struct sha256_ctx c;

	sha256_init(&c);
	sha256_update(&c, n, p);
	sha256_digest(&c, sizeof(sum), sum);
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

static void
check_tensor(const cJSON *c, size_t step)
{
	static unsigned char data[1 << 16] __attribute__((aligned(64)));
	static char hex[2 * 64 * 8 + 1];
	const cJSON *source = cJSON_GetObjectItem(c, "source");
	struct generate g = source_of(source);
	uint64_t first = strtoull(number(c, "first", NULL), NULL, 10);
	size_t count = strtoull(number(c, "count", NULL), NULL, 10), size = dtype_info(g.dtype)->size;
	const cJSON *wanted = cJSON_GetObjectItem(c, "hex");
	struct err e = {.code = ERR_NONE};

	cr_assert(generate_check(&g, "x", (int64_t)(first + count), &e) == 0, "%s", e.msg);
	cr_assert_leq(count * size, sizeof(data) - 8);
	memset(data, 0xA5, sizeof(data));
	for (size_t at = 0; at < count; at += step)
		generate_fill(&g, data + at * size, first + at, count - at < step ? count - at : step);
	cr_expect_eq(data[count * size], 0xA5, "wrote behind the end");
	if (wanted) {
		for (size_t i = 0; i < count * size; i++)
			snprintf(hex + 2 * i, 3, "%02x", data[i]);
	} else {
		wanted = cJSON_GetObjectItem(c, "sha256");
		sha256_hex(data, count * size, hex);
	}
	if (strcmp(hex, wanted->valuestring) != 0) {
		char *text = cJSON_PrintUnformatted(source);
		cr_expect(false, "%s from %llu, %s, in steps of %zu:\n%s, not\n%s", text, (unsigned long long)first,
			  generate_isa(), step, hex, wanted->valuestring);
		free(text);
	}
}

static const char *const isas[] = {"", "avx2", "avx512"};

Test(generate, tensors_agree_with_the_vectors)
{
	static const size_t steps[] = {1 << 20, 1, 7, 256, 1000};
	cJSON *tree = read_vectors();
	const cJSON *c;

	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
		if (!generate_set_isa(isas[i]))
			continue;
		cr_expect_str_eq(generate_isa(), isas[i]);
		for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
			cJSON_ArrayForEach(c, part(tree, "tensors")) check_tensor(c, steps[s]);
		}
	}
	cJSON_Delete(tree);
}

/* Every instruction set makes the same as the first, far from what the vectors hold. */
Test(generate, instruction_sets_agree)
{
	enum { N = 50000 };
	static double want[N], got[N];
	struct generate g;

	for (int k = GEN_NORMAL; k <= GEN_UNIFORM; k++) {
		for (uint64_t seed = 1; seed < 6; seed++) {
			generate_init(&g, (enum generate_kind)k, DT_FP64);
			g.seed = seed * UINT64_C(0x9E3779B97F4A7C15);
			g.stream = seed << 33;
			generate_set_isa("");
			generate_fill(&g, want, seed << 30, N);
			for (size_t i = 1; i < sizeof(isas) / sizeof(isas[0]); i++) {
				if (!generate_set_isa(isas[i]))
					continue;
				generate_fill(&g, got, seed << 30, N);
				cr_expect(memcmp(want, got, sizeof(want)) == 0, "%s with %s", generate_kinds[k],
					  isas[i]);
			}
		}
	}
}

/* Rounding to the small dtypes, at magnitudes that random numbers seldom have: against tensor.c, which has another way. */
Test(generate, rounding_agrees_with_tensor_put)
{
	static const double starts[] = {0x1p-24, 0x1p-25, 0x1p-14, 0x1p-133, 0x1p-126,
					65504,	 65520,	  0x1p127, 1,	     2047.5};
	static const enum dtype dtypes[] = {DT_FP16, DT_BF16, DT_FP32};
	struct generate g;

	for (size_t d = 0; d < 3; d++) {
		for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
			for (int sign = -1; sign <= 1; sign += 2) {
				uint32_t got[600], put = 0;
				struct tensor t = {.dtype = (uint8_t)dtypes[d], .rank = 0, .data = &put};
				size_t size = dtype_info(dtypes[d])->size;

				generate_init(&g, GEN_ARANGE, dtypes[d]);
				g.a = sign * starts[s];
				g.b = sign * starts[s] * 0x1p-13;
				generate_fill(&g, got, 0, 600);
				for (int i = 0; i < 600; i++) {
					tensor_put(&t, 0, g.a + i * g.b);
					cr_assert(memcmp((char *)got + (size_t)i * size, &put, size) == 0, "%s of %a",
						  dtype_info(dtypes[d])->name, g.a + i * g.b);
				}
			}
		}
	}
}

/* fp8 codes to numbers and back: each is its own rounding, the middle of two goes to the even one. */
Test(generate, fp8_rounds_to_nearest_even)
{
	static const enum dtype dtypes[] = {DT_FP8_E4M3, DT_FP8_E4M3FNUZ, DT_FP8_E5M2};

	for (size_t d = 0; d < 3; d++) {
		uint8_t code[2];
		struct tensor t = {.dtype = (uint8_t)dtypes[d], .data = code};

		for (int c = 0; c < 0x7f; c++) {
			struct generate g;
			uint8_t got[3];

			code[0] = (uint8_t)c;
			code[1] = (uint8_t)(c + 1);
			double a = tensor_get(&t, 0), b = tensor_get(&t, 1);
			if (!isfinite(a) || !isfinite(b))
				continue;
			generate_init(&g, GEN_ARANGE, dtypes[d]);
			g.a = a;
			g.b = (b - a) / 2;
			generate_fill(&g, got, 0, 3);
			cr_expect_eq(got[0], c);
			cr_expect_eq(got[1], c + (c & 1), "%s: between %d and %d", dtype_info(dtypes[d])->name, c,
				     c + 1);
			cr_expect_eq(got[2], c + 1);
		}
	}
}

/* What api/generate.md promises: z within 4 units in the last place of the exact value, but where it is next to 0 by a
 * cancelling angle. */
Test(generate, accuracy)
{
	const long double pi2 = 6.283185307179586476925286766559005768L;
	long double worst = 0;
	uint32_t w[4];

	for (uint32_t i = 0; i < 300000; i++) {
		uint32_t c[4] = {i, 0, 0, 99};
		double z[2];

		philox4x32_10(c, 1, 2);
		memcpy(w, c, sizeof(w));
		if (i % 3 == 0) /* also radii next to 0 and to the largest */
			w[0] = i % 2 ? UINT32_MAX - i : i;
		generate_normal_pair(w[0], w[1], z);
		long double radius = sqrtl(-2 * logl((w[0] + 0.5L) / 0x1p32L)), turn = (w[1] + 0.5L) / 0x1p32L;
		long double want[2] = {radius * cosl(pi2 * turn), radius * sinl(pi2 * turn)};
		for (int k = 0; k < 2; k++) {
			/* Near its zeros the long double's own argument is too coarse. */
			if (fabsl(want[k]) < radius * 1e-3L)
				continue;
			long double ulp = nextafter(fabs((double)want[k]), INFINITY) - fabs((double)want[k]);
			long double off = fabsl(z[k] - want[k]) / ulp;
			worst = off > worst ? off : worst;
		}
	}
	fprintf(stderr, "# largest error of z: %.2Lf units in the last place\n", worst);
	cr_expect_lt(worst, 4.0L);
	cr_expect_gt(worst, 0.4L, "the comparison cannot be right");
}

/* The first four moments, each within 5 standard deviations of what independent numbers have. */
Test(generate, normal_moments)
{
	enum { N = 1 << 20 };
	static double v[N];
	const double n = N;

	for (uint64_t stream = 0; stream < 3; stream++) {
		double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0, largest = 0;
		struct generate g;

		generate_init(&g, GEN_NORMAL, DT_FP64);
		g.seed = 7;
		g.stream = stream;
		generate_fill(&g, v, 0, N);
		for (int i = 0; i < N; i++) {
			double x = v[i];

			m1 += x;
			m2 += x * x;
			m3 += x * x * x;
			m4 += x * x * x * x;
			lag += i > 0 ? x * v[i - 1] : 0;
			largest = fmax(largest, fabs(x));
		}
		cr_expect_lt(fabs(m1 / n), 5 / sqrt(n));
		cr_expect_lt(fabs(m2 / n - 1), 5 * sqrt(2 / n));
		cr_expect_lt(fabs(m3 / n), 5 * sqrt(15 / n));
		cr_expect_lt(fabs(m4 / n - 3), 5 * sqrt(96 / n));
		cr_expect_lt(fabs(lag / n), 5 / sqrt(n));
		cr_expect(largest > 4.2 && largest < 6.7, "the largest of %g is %g", n, largest);
	}
}

/* Counts in 256 equally likely cells, by chi squared: mean 255, standard deviation sqrt(510). */
static double
chi_squared(const unsigned *cells, double expected)
{
	double chi = 0;

	for (int i = 0; i < 256; i++)
		chi += (cells[i] - expected) * (cells[i] - expected) / expected;
	return (chi - 255) / sqrt(510);
}

Test(generate, cells_are_equally_likely)
{
	enum { N = 1 << 20 };
	static double v[N], u[N];
	static int32_t w[N];
	unsigned normal[256] = {0}, uniform[256] = {0}, whole[256] = {0}, both[256] = {0};
	struct generate g;

	generate_init(&g, GEN_NORMAL, DT_FP64);
	g.seed = 21;
	generate_fill(&g, v, 0, N);
	generate_init(&g, GEN_UNIFORM, DT_FP64);
	g.seed = 22;
	generate_fill(&g, u, 0, N);
	generate_init(&g, GEN_RANDINT, DT_INT32);
	g.seed = 23;
	g.ia = -128;
	g.ib = 128;
	generate_fill(&g, w, 0, N);
	for (int i = 0; i < N; i++) {
		double p = erfc(-v[i] / sqrt(2)) / 2;

		cr_assert(u[i] >= 0 && u[i] < 1 && w[i] >= -128 && w[i] < 128);
		normal[p >= 1 ? 255 : (int)(p * 256)]++;
		uniform[(int)(u[i] * 256)]++;
		whole[w[i] + 128]++;
		if (i % 2) /* neighbours together: the pair's angle */
			both[(int)(floor((atan2(v[i], v[i - 1]) / 6.283185307179586 + 0.5) * 255.999))]++;
	}
	cr_expect_lt(fabs(chi_squared(normal, N / 256.0)), 5);
	cr_expect_lt(fabs(chi_squared(uniform, N / 256.0)), 5);
	cr_expect_lt(fabs(chi_squared(whole, N / 256.0)), 5);
	cr_expect_lt(fabs(chi_squared(both, N / 512.0)), 5);
}

/* Tensors of one seed and other streams, or of other seeds, have nothing to do with each other. */
Test(generate, streams_are_independent)
{
	enum { N = 1 << 18 };
	static double v[4][N];
	struct generate g;

	for (int k = 0; k < 4; k++) {
		generate_init(&g, GEN_NORMAL, DT_FP64);
		g.seed = 5 + (uint64_t)(k & 1);
		g.stream = (uint64_t)(k >> 1);
		generate_fill(&g, v[k], 0, N);
		for (int j = 0; j < k; j++) {
			double sum = 0;

			for (int i = 0; i < N; i++)
				sum += v[k][i] * v[j][i];
			cr_expect_lt(fabs(sum / N), 5 / sqrt(N), "%d and %d", j, k);
		}
	}
}

Test(generate, refusals_name_the_input)
{
	static const struct {
		enum generate_kind kind;
		enum dtype dtype;
		double a, b;
		int64_t ia, ib, elements;
		enum err_code code;
		const char *words;
	} cases[] = {
		{GEN_NORMAL, DT_INT8, 0, 1, 0, 1, 9, ERR_INVALID_DTYPE, "randint"},
		{GEN_UNIFORM, DT_BOOL, 0, 1, 0, 1, 9, ERR_INVALID_DTYPE, "randint"},
		{GEN_NORMAL, DT_FP16, 0, -1, 0, 1, 9, ERR_INVALID_PARAMETER, "std"},
		{GEN_NORMAL, DT_FP16, INFINITY, 1, 0, 1, 9, ERR_INVALID_PARAMETER, "finite"},
		{GEN_UNIFORM, DT_FP16, 1, 1, 0, 1, 9, ERR_INVALID_PARAMETER, "low must be below high"},
		{GEN_UNIFORM, DT_FP64, -1e308, 1e308, 0, 1, 9, ERR_INVALID_PARAMETER, "finite"},
		{GEN_RANDINT, DT_FP16, 0, 1, 3, 3, 9, ERR_INVALID_PARAMETER, "low must be below high"},
		{GEN_RANDINT, DT_INT8, 0, 1, 0, 129, 9, ERR_INVALID_PARAMETER, "-128 to 127"},
		{GEN_RANDINT, DT_UINT8, 0, 1, -1, 5, 9, ERR_INVALID_PARAMETER, "0 to 255"},
		{GEN_RANDINT, DT_BOOL, 0, 1, 0, 3, 9, ERR_INVALID_PARAMETER, "0 to 1"},
		{GEN_ARANGE, DT_UINT8, 0, 1, 0, 1, 257, ERR_INVALID_PARAMETER, "0 to 255"},
		{GEN_ARANGE, DT_INT64, 0, 1, INT64_MAX, 1, 2, ERR_INVALID_PARAMETER, "int64"},
		{GEN_ARANGE, DT_FP32, 0, INFINITY, 0, 1, 2, ERR_INVALID_PARAMETER, "finite"},
		{GEN_ARANGE, DT_FP64, 1e308, 1e308, 0, 1, 9, ERR_INVALID_PARAMETER, "finite"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = {.code = ERR_NONE};
		struct generate g = {.kind = cases[i].kind,
				     .dtype = cases[i].dtype,
				     .a = cases[i].a,
				     .b = cases[i].b,
				     .ia = cases[i].ia,
				     .ib = cases[i].ib};

		cr_expect_eq(generate_check(&g, "weight", cases[i].elements, &e), -1, "case %zu", i);
		cr_expect_eq(e.code, cases[i].code, "case %zu: %s", i, e.msg);
		cr_expect_str_eq(e.input, "weight");
		cr_expect(strstr(e.msg, "weight") && strstr(e.msg, cases[i].words), "case %zu: %s", i, e.msg);
		cr_expect(e.found[0] && e.wanted[0], "case %zu", i);
	}
}

/* And what stands at the very edge is made. */
Test(generate, edges_are_accepted)
{
	static const struct generate edges[] = {
		{.kind = GEN_RANDINT, .dtype = DT_INT8, .ia = -128, .ib = 128},
		{.kind = GEN_RANDINT, .dtype = DT_INT64, .ia = INT64_MIN, .ib = INT64_MAX},
		{.kind = GEN_ARANGE, .dtype = DT_UINT8, .ia = 255, .ib = -1},
		{.kind = GEN_NORMAL, .dtype = DT_FP32, .a = 1, .b = 0},
		{.kind = GEN_UNIFORM, .dtype = DT_FP64, .a = -8e307, .b = 8e307},
	};

	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		struct err e = {.code = ERR_NONE};

		cr_expect_eq(generate_check(&edges[i], "x", 256, &e), 0, "case %zu: %s", i, e.msg);
	}
}
