/*
 * rfc1951_table.c: the decoding tables of inflate, made from the lengths of the codes (RFC 1951, 3.2.2).
 */
#include "codec/rfc1951_internal.h"

/* An alphabet: what each of its symbols' entries begins as, before the bits of its code are added. */
struct alphabet {
	uint32_t (*entry)(unsigned symbol);
	unsigned table_bits, extra_shift;
};

static uint32_t
lit_entry(unsigned symbol)
{
	/* base and extra bits of 257..285 */
	static const uint16_t base[] = {3,  4,	5,  6,	7,  8,	9,  10, 11,  13,  15,  17,  19,	 23, 27,
					31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
	unsigned i, extra;

	if (symbol < 256)
		return symbol << 8;
	if (symbol == 256)
		return RFC1951_OTHER | RFC1951_EOB;
	if (symbol > 285)
		return RFC1951_OTHER | RFC1951_INVALID;
	i = symbol - 257;
	extra = i < 8 || i == 28 ? 0 : i / 4 - 1;
	return RFC1951_OTHER | (uint32_t)base[i] << 8 | extra;
}

static uint32_t
dist_entry(unsigned symbol)
{
	unsigned extra = symbol < 4 ? 0 : symbol / 2 - 1;
	uint32_t base = symbol < 4 ? symbol + 1 : ((2 + (symbol & 1)) << extra) + 1;

	return symbol < 30 ? RFC1951_OTHER | base << 8 | extra : RFC1951_OTHER | RFC1951_INVALID;
}

static uint32_t
code_entry(unsigned symbol)
{
	return symbol << 8;
}

static const struct alphabet lit_alphabet = {lit_entry, RFC1951_LIT_BITS, RFC1951_LIT_EXTRA};
static const struct alphabet dist_alphabet = {dist_entry, RFC1951_DIST_BITS, RFC1951_DIST_EXTRA};
static const struct alphabet code_alphabet = {code_entry, RFC1951_CODE_BITS, 0};

ALWAYS_INLINE uint32_t
entry_of(const struct alphabet *a, unsigned symbol, unsigned len)
{
	uint32_t e = a->entry(symbol);

	return e + len + (e & RFC1951_OTHER ? len << a->extra_shift : 0);
}

/* The code after `code` of the same length; codes are kept with their first bit lowest, as they lie in the stream. */
static uint32_t
code_after(uint32_t code, unsigned len)
{
	uint32_t zeros = ~code & ((1u << len) - 1), bit;

	if (zeros == 0)
		return 0; /* that was the last one */
	bit = 1u << (31 - __builtin_clz(zeros));
	return (code & (bit - 1)) | bit;
}

/* Codes that leave something unsaid: none at all, or one of one bit, as compressors write when there is (at most) one
 * distance. */
static void
sparse_table(const struct alphabet *a, uint32_t *table, int symbol)
{
	uint32_t bad = RFC1951_OTHER | RFC1951_INVALID | 1, i;

	for (i = 0; i < 1u << a->table_bits; i++)
		table[i] = symbol >= 0 && (i & 1) == 0 ? entry_of(a, (unsigned)symbol, 1) : bad;
}

/* The codes longer than the table's index: `sorted` from i on, beginning with `code`. */
static void
subtables(const struct alphabet *a, uint32_t *table, const uint16_t *sorted, unsigned i, const unsigned *count,
	  unsigned max, uint32_t code)
{
	unsigned bits = a->table_bits, sub_bits = max - bits, len, k;
	uint32_t next = 1u << bits, prefix = UINT32_MAX, j;

	for (len = bits + 1; len <= max; len++) {
		for (k = count[len]; k > 0; k--, i++) {
			uint32_t e = entry_of(a, sorted[i], len - bits);

			if ((code & ((1u << bits) - 1)) != prefix) {
				prefix = code & ((1u << bits) - 1);
				table[prefix] = RFC1951_OTHER | RFC1951_SUBTABLE | next << 8 | sub_bits << 20 | bits;
				next += 1u << sub_bits;
			}
			for (j = code >> bits; j < 1u << sub_bits; j += 1u << (len - bits))
				table[next - (1u << sub_bits) + j] = e;
			code = code_after(code, len);
		}
	}
}

/*
 * The table is filled for codes of one bit, then doubled and filled for those of two, and so on: what a longer code
 * needs has not been written by a shorter one, as the code is complete, and so each symbol is written once.
 */
ALWAYS_INLINE int
table_make(const struct alphabet *a, uint32_t *table, const uint8_t *lens, unsigned n)
{
	unsigned count[16] = {0}, at[16], i, k, len, max = 15;
	uint16_t sorted[RFC1951_LENS];
	uint32_t code = 0;
	int left = 1;

	for (i = 0; i < n; i++)
		count[lens[i]]++;
	for (at[0] = 0, count[0] = 0, len = 1; len < 16; len++) {
		left = left * 2 - (int)count[len];
		if (left < 0)
			return -1; /* more codes than there can be */
		at[len] = at[len - 1] + count[len - 1];
	}
	while (max > 0 && count[max] == 0)
		max--;
	for (i = 0; i < n; i++)
		if (lens[i] > 0)
			sorted[at[lens[i]]++] = (uint16_t)i;
	if (left > 0) {
		if (max > 1)
			return -1;
		sparse_table(a, table, max == 1 ? sorted[0] : -1);
		return 0;
	}
	for (i = 0, len = 1; len <= a->table_bits; len++) {
		if (len == 1)
			table[1] = 0;
		else
			memcpy(table + (1u << (len - 1)), table, sizeof(*table) << (len - 1));
		for (k = count[len]; k > 0; k--, i++) {
			table[code] = entry_of(a, sorted[i], len);
			code = code_after(code, len);
		}
	}
	if (max > a->table_bits)
		subtables(a, table, sorted, i, count, max, code);
	return 0;
}

/* How often the codes say that a length comes, in 1/32768: decides whether lanes pay, and which kind. */
static unsigned
matches_expected(const struct rfc1951 *z)
{
	unsigned i, sum = 0;

	for (i = 257; i < z->n_lit; i++)
		if (z->lens[i] > 0)
			sum += 32768u >> z->lens[i];
	return sum;
}

/* The code of the code lengths; it uses the room of the distances' table. */
int
rfc1951_code_table(struct rfc1951 *z)
{
	unsigned i, sum = 0;

	for (i = 0; i < 19; i++)
		sum += z->lens[i] > 0 ? 128u >> z->lens[i] : 0;
	return sum != 128 || table_make(&code_alphabet, z->dists, z->lens, 19) < 0 ? RFC1951_BAD_BLOCK : 0;
}

int
rfc1951_tables(struct rfc1951 *z)
{
	unsigned matches;

	if (table_make(&lit_alphabet, z->lits, z->lens, z->n_lit) < 0 ||
	    table_make(&dist_alphabet, z->dists, z->lens + z->n_lit, z->n_dist) < 0)
		return RFC1951_BAD_BLOCK;
	z->steps_made = false;
	matches = matches_expected(z);
	z->mode = matches < 32768 / RFC1951_MANY   ? RFC1951_LITERALS
		  : matches < 32768 / RFC1951_MOST ? RFC1951_MATCHES
						   : RFC1951_NO_LANES;
	return 0;
}
