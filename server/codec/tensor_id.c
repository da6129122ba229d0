/* tensor_id.c: see tensor_id.h. Called by the front for the tensors it keeps; owns nothing. */
#include "codec/tensor_id.h"

#include <nettle/sha2.h>
#include <string.h>

#include "text.h"

#define PREFIX_LEN (sizeof(TENSOR_ID_PREFIX) - 1)

void
tensor_id(const struct tensor *t, char id[TENSOR_ID_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t hash[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha;
	char room[256];
	struct text head;

	text_init_in(&head, room, sizeof(room), sizeof(room) - 1);
	text_addf(&head, "%s [", dtype_info((enum dtype)t->dtype)->name);
	for (int i = 0; i < t->rank; i++) {
		text_add(&head, i > 0 ? "," : "");
		text_u64(&head, (uint64_t)t->shape[i]);
	}
	text_add(&head, "]\n");
	sha256_init(&sha);
	sha256_update(&sha, head.len, (const uint8_t *)head.p);
	sha256_update(&sha, (size_t)t->bytes, t->data);
	sha256_digest(&sha, sizeof(hash), hash);
	memcpy(id, TENSOR_ID_PREFIX, PREFIX_LEN);
	id += PREFIX_LEN;
	for (size_t i = 0; i < sizeof(hash); i++) {
		*id++ = hex[hash[i] >> 4];
		*id++ = hex[hash[i] & 15];
	}
	*id = '\0';
}

bool
tensor_id_begins(const char *s, size_t len)
{
	return len >= PREFIX_LEN && memcmp(s, TENSOR_ID_PREFIX, PREFIX_LEN) == 0;
}

bool
tensor_id_is(const char *s, size_t len)
{
	if (len != TENSOR_ID_SIZE - 1 || !tensor_id_begins(s, len))
		return false;
	for (size_t i = PREFIX_LEN; i < len; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return true;
}
