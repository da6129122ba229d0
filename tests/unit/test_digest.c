/* test_digest.c: hashes against published vectors and sha256sum, statistics against plain sums in long double. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/encode.h"
#include "text.h"

static struct tensor
make(enum dtype dt, int64_t n, const void *data)
{
	struct tensor t = {0};
	struct err e = {0};

	cr_assert_eq(tensor_describe(&t, "t", dt, 1, &n, &e), 0);
	t.data = malloc(t.bytes + (t.bytes == 0));
	if (t.bytes)
		memcpy(t.data, data, t.bytes);
	return t;
}

/* FIPS 180-4's examples. */
Test(digest, sha256_vectors)
{
	static const struct {
		const char *text, *hash;
	} vectors[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct tensor t = make(DT_UINT8, (int64_t)strlen(vectors[i].text), vectors[i].text);
		struct digest d;

		digest_tensor(&t, &d);
		cr_expect_str_eq(d.sha256, vectors[i].hash);
		free(t.data);
	}
}

Test(digest, sha256sum)
{
	enum { N = 100003 };
	float *v = malloc(N * sizeof(*v));
	char path[] = "/tmp/digest-XXXXXX", command[64], hash[65] = "";
	struct tensor t;
	struct digest d;
	FILE *f;
	int fd = mkstemp(path);

	for (int i = 0; i < N; i++)
		v[i] = (float)sin(i);
	t = make(DT_FP32, N, v);
	cr_assert(fd >= 0);
	f = fdopen(fd, "wb");
	cr_assert_eq(fwrite(v, sizeof(*v), N, f), N);
	fclose(f);
	snprintf(command, sizeof(command), "sha256sum %s", path);
	f = popen(command, "r");
	cr_assert(f && fscanf(f, "%64s", hash) == 1);
	pclose(f);
	unlink(path);
	digest_tensor(&t, &d);
	cr_expect_str_eq(d.sha256, hash);
	free(t.data);
	free(v);
}

static void
check_stats(const struct tensor *t)
{
	long double sum = 0;
	double low = INFINITY, high = -INFINITY;
	uint64_t n = 0, nan = 0;
	struct digest d;

	for (int64_t i = 0; i < tensor_elements(t); i++) {
		double v = tensor_get(t, i);

		if (isnan(v)) {
			nan++;
			continue;
		}
		sum += (long double)v;
		low = v < low ? v : low;
		high = v > high ? v : high;
		n++;
	}
	digest_tensor(t, &d);
	cr_expect_eq(d.nan, nan);
	if (n == 0) {
		cr_expect(isnan(d.min) && isnan(d.max) && isnan(d.mean));
		return;
	}
	cr_expect(d.min == low && d.max == high, "%s: %g %g, not %g %g", dtype_info(t->dtype)->name, d.min, d.max, low,
		  high);
	cr_expect(d.mean == (double)(sum / (long double)n) || (isnan(d.mean) && isnan(sum)) ||
			  fabs(d.mean - (double)(sum / (long double)n)) <= 1e-12 * (fabs(low) + fabs(high)),
		  "%s: mean %.17g, not %.17g", dtype_info(t->dtype)->name, d.mean, (double)(sum / (long double)n));
}

Test(digest, statistics)
{
	enum { N = 5000 };
	unsigned char *bytes = malloc(8 * N);
	static const int64_t lengths[] = {0, 1, 2, 7, 8, 9, 1023, 1024, 1025, 2048, 3333, N};
	unsigned x = 12345;

	for (int dt = DT_FP32; dt < DT_COUNT; dt++) {
		for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
			struct tensor t;

			for (int i = 0; i < 8 * N; i++) {
				x = x * 1103515245u + 12345u;
				bytes[i] = (unsigned char)(x >> 16);
			}
			t = make((enum dtype)dt, lengths[k], bytes);
			/* random bits hold NaNs and infinities; values of moderate size for the sums */
			if (dt == DT_FP32 || dt == DT_FP64)
				for (int64_t i = 0; i < lengths[k]; i++)
					tensor_put(&t, i,
						   i % 13 == 5
							   ? NAN
							   : (double)((int)(x = x * 1103515245u + 12345u) >> 8) / 77);
			if (dt == DT_FP16 || dt == DT_BF16)
				for (int64_t i = 0; i < lengths[k]; i++)
					tensor_put(&t, i, i % 7 == 3 ? NAN : sin((double)i) * 3);
			if (dt == DT_BOOL)
				for (int64_t i = 0; i < lengths[k]; i++)
					((uint8_t *)t.data)[i] &= 1;
			check_stats(&t);
			free(t.data);
		}
	}
	free(bytes);
}

Test(digest, nan_and_infinity)
{
	float all_nan[9], mixed[] = {NAN, INFINITY, 1, NAN, -3};
	struct tensor t;
	struct digest d;
	struct text json;

	for (int i = 0; i < 9; i++)
		all_nan[i] = NAN;
	t = make(DT_FP32, 9, all_nan);
	check_stats(&t);
	free(t.data);
	t = make(DT_FP32, 5, mixed);
	digest_tensor(&t, &d);
	cr_expect(d.nan == 2 && d.max == INFINITY && d.min == -3 && d.mean == INFINITY);
	free(t.data);
	text_init(&json, 1000);
	encode_digest(&json, &d);
	cr_expect(strstr(json.p, "\"max\":\"Infinity\",\"mean\":\"Infinity\",\"nan\":2}"), "%s", json.p);
	cr_expect(strstr(json.p, "\"min\":-3,"), "%s", json.p);
	text_fini(&json);
}
