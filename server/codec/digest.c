/*
 * digest.c: what outputs=digest tells of a tensor instead of its data. Called by the front, for large tensors on a
 * helper thread; owns nothing. Also what JSON replies write about it.
 */
#include <math.h>
#include <nettle/sha2.h>
#include <string.h>

#include "codec/encode.h"
#include "text.h"

#define BLOCK 1024
#define LANES 8

void
digest_tensor(const struct tensor *t, struct digest *d)
{
	static const char hex[] = "0123456789abcdef";
	int64_t elements = tensor_elements(t);
	double low[LANES], high[LANES], sum = 0, block[BLOCK];
	struct sha256_ctx sha;
	uint8_t hash[SHA256_DIGEST_SIZE];
	uint64_t nan = 0;

	for (int k = 0; k < LANES; k++) {
		low[k] = INFINITY;
		high[k] = -INFINITY;
	}
	sha256_init(&sha);
	for (int64_t i = 0; i < elements; i += BLOCK) {
		int n = elements - i < BLOCK ? (int)(elements - i) : BLOCK;
		double part[LANES] = {0};
		uint64_t nans[LANES] = {0};

		sha256_update(&sha, (size_t)n * dtype_info(t->dtype)->size,
			      (const uint8_t *)t->data + (size_t)i * dtype_info(t->dtype)->size);
		tensor_load(block, t, i, n);
		/* NaN fills up the last block: it counts for nothing below */
		for (int j = n; j < BLOCK && j % LANES != 0; j++)
			block[j] = NAN;
		for (int j = 0; j < n; j += LANES) {
			for (int k = 0; k < LANES; k++) {
				double v = block[j + k];

				low[k] = v < low[k] ? v : low[k];
				high[k] = v > high[k] ? v : high[k];
				part[k] += v == v ? v : 0;
				nans[k] += !(v == v);
			}
		}
		for (int k = 0; k < LANES; k++) {
			sum += part[k];
			nan += nans[k];
		}
		if (n % LANES != 0)
			nan -= (uint64_t)(LANES - n % LANES);
	}
	sha256_digest(&sha, sizeof(hash), hash);
	for (size_t i = 0; i < sizeof(hash); i++) {
		d->sha256[2 * i] = hex[hash[i] >> 4];
		d->sha256[2 * i + 1] = hex[hash[i] & 15];
	}
	d->sha256[64] = '\0';
	for (int k = 1; k < LANES; k++) {
		low[0] = fmin(low[0], low[k]);
		high[0] = fmax(high[0], high[k]);
	}
	d->nan = nan;
	d->min = d->max = d->mean = NAN;
	if ((uint64_t)elements > nan) {
		d->min = low[0];
		d->max = high[0];
		d->mean = sum / (double)((uint64_t)elements - nan);
	}
}

void
encode_digest(struct text *t, const struct digest *d)
{
	text_addf(t, "{\"sha256\":\"%s\",\"min\":", d->sha256);
	text_number(t, d->min);
	text_add(t, ",\"max\":");
	text_number(t, d->max);
	text_add(t, ",\"mean\":");
	text_number(t, d->mean);
	text_addf(t, ",\"nan\":%llu}", (unsigned long long)d->nan);
}
