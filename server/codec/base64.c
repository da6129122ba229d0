/*
 * base64.c: standard base64 (RFC 4648, section 4) from a JSON string into a tensor, and back for replies.
 * Called by decode_json.c and encode_json.c; allocates nothing.
 */
#include <stdio.h>

#include "codec/encode.h"
#include "codec/json.h"

/* 0..63, 64 for what is no base64 digit. */
static uint8_t
base64_digit(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint8_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint8_t)(c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (uint8_t)(c - '0' + 52);
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

static int
base64_bad(const char *name, struct err *e, const char *found)
{
	return err_input(e, ERR_MALFORMED_BODY, name, found, "standard base64 with padding",
			 "input %s: base64 has %s; standard base64 (A-Z a-z 0-9 + /) with padding is wanted", name,
			 found);
}

int
json_base64(struct json_span span, struct tensor *t, const char *name, struct err *e)
{
	const char *p = span.begin, *end = span.end;
	unsigned char *out = t->data;
	uint64_t room = t->bytes, total = 0;
	uint8_t table[256];
	uint8_t group[4];
	int have = 0, pad = 0;

	if (end - p < 2 || *p != '"')
		return err_input(e, ERR_MALFORMED_BODY, name, "no string", "a string",
				 "input %s: base64 must be a string", name);
	p++;
	end--;
	for (unsigned i = 0; i < 256; i++)
		table[i] = base64_digit((unsigned char)i);
	while (p < end) {
		while (have == 0 && end - p >= 8 && total + 3 <= room) {
			uint8_t a = table[(unsigned char)p[0]], b = table[(unsigned char)p[1]];
			uint8_t c = table[(unsigned char)p[2]], d = table[(unsigned char)p[3]];

			if ((a | b | c | d) & 64)
				break;
			out[total] = (uint8_t)(a << 2 | b >> 4);
			out[total + 1] = (uint8_t)(b << 4 | c >> 2);
			out[total + 2] = (uint8_t)(c << 6 | d);
			total += 3;
			p += 4;
		}
		/* "\/" is JSON for "/", and some languages write it so. */
		if (*p == '\\' && end - p >= 2 && p[1] == '/')
			p++;
		if (*p == '=' && have >= 2) {
			group[have++] = 0;
			pad++;
		} else {
			group[have] = table[(unsigned char)*p];
			if (pad > 0 || group[have] == 64)
				return base64_bad(name, e, "a character that does not belong there");
			have++;
		}
		p++;
		if (have < 4)
			continue;
		uint8_t bytes[3] = {(uint8_t)(group[0] << 2 | group[1] >> 4), (uint8_t)(group[1] << 4 | group[2] >> 2),
				    (uint8_t)(group[2] << 6 | group[3])};
		for (int i = 0; i < 3 - pad; i++, total++)
			if (total < room)
				out[total] = bytes[i];
		if ((pad > 0 && bytes[3 - pad] != 0) || (pad > 0 && p < end))
			return base64_bad(name, e, "something after the padding");
		have = 0;
	}
	if (have != 0)
		return base64_bad(name, e, "an incomplete group of four at its end");
	if (total != room) {
		char found[32], wanted[32], shape[128];

		snprintf(found, sizeof(found), "%llu bytes", (unsigned long long)total);
		snprintf(wanted, sizeof(wanted), "%llu bytes", (unsigned long long)room);
		return err_input(e, ERR_MALFORMED_BODY, name, found, wanted,
				 "input %s: base64 holds %s, but %s of shape %s has %s", name, found,
				 dtype_info(t->dtype)->name, tensor_shape_text(t, shape, sizeof(shape)), wanted);
	}
	return 0;
}

size_t
base64_size(uint64_t n)
{
	return (size_t)((n + 2) / 3 * 4);
}

void
base64_encode(char *out, const unsigned char *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (; n >= 3; n -= 3, p += 3, out += 4) {
		out[0] = digits[p[0] >> 2];
		out[1] = digits[(p[0] << 4 | p[1] >> 4) & 63];
		out[2] = digits[(p[1] << 2 | p[2] >> 6) & 63];
		out[3] = digits[p[2] & 63];
	}
	if (n == 0)
		return;
	out[0] = digits[p[0] >> 2];
	out[1] = digits[(p[0] << 4 | (n == 2 ? p[1] >> 4 : 0)) & 63];
	out[2] = n == 2 ? digits[(p[1] << 2) & 63] : '=';
	out[3] = '=';
}
