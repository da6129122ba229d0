/*
 * test_store.c: kept tensors: names and contents, what goes first, references, times to live by a clock of this file's,
 * and many threads at once.
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "front/store.h"

#define KIB ((uint64_t)1 << 10)
#define SECOND UINT64_C(1000000000)
#define PIECE (64 * KIB) /* the smallest arena */

static _Atomic uint64_t clock_now;

static uint64_t
fake_now(void)
{
	return atomic_load(&clock_now);
}

struct fixture {
	struct arena_pool *pool;
	struct store *store;
};

static void
begin(struct fixture *f, uint64_t quota)
{
	struct err e = {0};
	struct store_config c = {.quota = quota, .ttl_ns = 100 * SECOND, .now = fake_now};

	atomic_store(&clock_now, 5 * SECOND);
	f->pool = c.pool = arena_pool_new(64 << 20, 0, &e);
	cr_assert(f->pool, "%s", e.msg);
	f->store = store_new(&c);
	cr_assert(f->store);
}

static void
end(struct fixture *f)
{
	struct arena_stats a;

	store_free(&f->store);
	arena_pool_stats(f->pool, &a);
	cr_assert_eq(a.borrowed, 0, "%llu bytes are still lent", (unsigned long long)a.borrowed);
	arena_pool_free(&f->pool);
}

/* n floats that begin with `first`. */
static struct kept *
make(struct fixture *f, uint32_t owner, int64_t n, float first, struct err *e)
{
	struct tensor t = {0};
	struct kept *k;

	cr_assert_eq(tensor_describe(&t, "t", DT_FP32, 1, &n, NULL), 0);
	k = store_make(f->store, owner, &t, e);
	if (k != NULL)
		for (int64_t i = 0; i < n; i++)
			((float *)t.data)[i] = first + (float)i;
	return k;
}

static enum store_verdict
name(struct fixture *f, struct kept **k, const char *text)
{
	return store_name(f->store, k, text, strlen(text), 0, NULL);
}

/* Kept under this name, with no reference left. */
static void
keep(struct fixture *f, const char *text, int64_t n, float first)
{
	struct err e = {0};
	struct kept *k = make(f, 0, n, first, &e);

	cr_assert(k, "%s: %s", text, e.msg);
	cr_assert_leq(name(f, &k, text), STORE_REPLACED);
	store_unref(f->store, &k);
}

static struct kept *
find(struct fixture *f, const char *what)
{
	return store_find(f->store, 0, what, strlen(what));
}

static bool
has(struct fixture *f, const char *what)
{
	struct store_entry entry;
	char room[STORE_NAME_MAX + 1];
	struct kept *k = find(f, what);
	bool there = k != NULL;

	if (there) {
		store_entry(f->store, k, what, strlen(what), &entry, room);
		cr_assert(tensor_id_begins(what, strlen(what)) || strcmp(entry.name, what) == 0);
		cr_assert_gt(entry.left_ns, 0);
	}
	store_unref(f->store, &k);
	return there;
}

/* Without it being a use. */
static void
add_name(void *cls, const struct store_entry *entry)
{
	size_t n = strlen(cls);

	snprintf((char *)cls + n, 1000 - n, "%s ", entry->name);
}

static const char *
names(struct fixture *f, uint32_t owner)
{
	static char list[1000];

	list[0] = '\0';
	store_list(f->store, owner, add_name, list);
	return list;
}

Test(store, an_id_is_sha256_of_head_and_data)
{
	/* printf 'fp32 [2,3]\n' and six little-endian floats 0..5 through sha256sum; the same of 'fp16 []\n' and 00 3c,
	 * and of 'int64 [0]\n'. */
	static const char *const wanted[] = {
		"sha256:047e29bb23eccc47324c245833557d6e8b7c3b19c2954519baa86550c9abf44c",
		"sha256:53b34d7c2489f0ff8ec42e3f1d65918390e37779b81da5381477b5aa731965fb",
		"sha256:76bd8965d309ff4b0d86be4ce7c1fe5ec79a2a0ad4590220ad0e10121c5734af",
	};
	float six[6] = {0, 1, 2, 3, 4, 5};
	uint16_t one = 0x3c00;
	struct tensor t[3] = {{0}};
	char id[TENSOR_ID_SIZE];

	cr_assert_eq(tensor_describe(&t[0], "", DT_FP32, 2, (int64_t[]){2, 3}, NULL), 0);
	cr_assert_eq(tensor_describe(&t[1], "", DT_FP16, 0, NULL, NULL), 0);
	cr_assert_eq(tensor_describe(&t[2], "", DT_INT64, 1, (int64_t[]){0}, NULL), 0);
	t[0].data = six;
	t[1].data = &one;
	t[2].data = six;
	for (int i = 0; i < 3; i++) {
		tensor_id(&t[i], id);
		cr_assert_str_eq(id, wanted[i]);
		cr_assert(tensor_id_is(id, strlen(id)));
		id[70] = 'A';
		cr_assert_not(tensor_id_is(id, strlen(id)));
		cr_assert(tensor_id_begins(id, strlen(id)));
	}
}

Test(store, names_find_replace_and_go)
{
	struct store_entry entry;
	char room[STORE_NAME_MAX + 1];
	struct kept *a, *b, *other;
	struct fixture f;
	struct err e = {0};
	uint64_t uid;

	begin(&f, 10 * PIECE);
	a = make(&f, 0, 100, 1, &e);
	uid = kept_uid(a);
	cr_assert_neq(uid, 0);
	cr_assert_null(find(&f, "w"));
	cr_assert_eq(name(&f, &a, "w"), STORE_CREATED);
	b = find(&f, "w");
	cr_assert_eq(b, a, "the very tensor, no copy");
	cr_assert_eq(((float *)kept_tensor(b)->data)[99], 100);
	store_unref(f.store, &b);
	cr_assert_null(b);
	cr_assert_eq(name(&f, &a, "w"), STORE_REPLACED, "by itself");
	cr_assert_eq(name(&f, &a, "v"), STORE_CREATED, "another name of the same");
	cr_assert_str_eq(names(&f, 0), "v w ");
	store_unref(f.store, &a);

	b = make(&f, 0, 100, 2, &e);
	cr_assert_gt(kept_uid(b), uid, "numbers are not used again");
	a = find(&f, "w");
	cr_assert_eq(name(&f, &b, "w"), STORE_REPLACED);
	cr_assert_eq(((float *)kept_tensor(a)->data)[0], 1, "who has the old one, has it still");
	store_unref(f.store, &a);
	a = find(&f, "w");
	cr_assert_eq(a, b);
	store_unref(f.store, &a);
	a = find(&f, "v");
	cr_assert_eq(kept_uid(a), uid);
	store_unref(f.store, &a);

	other = store_find(f.store, 1, "w", 1);
	cr_assert_null(other, "another owner has no such name");
	other = make(&f, 1, 100, 3, &e);
	cr_assert_eq(name(&f, &other, "w"), STORE_CREATED);
	cr_assert_str_eq(names(&f, 1), "w ");
	cr_assert_str_eq(names(&f, 0), "v w ");
	store_unref(f.store, &other);

	cr_assert_eq(store_forget(f.store, 0, "w", 1, NULL), STORE_REPLACED);
	cr_assert_eq(store_forget(f.store, 0, "w", 1, NULL), STORE_CHANGED);
	cr_assert_eq(store_forget(f.store, 0, "w\0x", 3, NULL), STORE_CHANGED);
	cr_assert_not(has(&f, "w"));
	cr_assert_eq(((float *)kept_tensor(b)->data)[0], 2, "deleted while in use");
	store_entry(f.store, b, "w", 1, &entry, room);
	cr_assert(strcmp(entry.name, "w") == 0 && entry.left_ns == 0 && entry.t == kept_tensor(b));
	store_unref(f.store, &b);
	cr_assert_str_eq(names(&f, 1), "w ");
	end(&f);
}

Test(store, contents_are_found_and_not_kept_twice)
{
	struct kept *a, *b, *c;
	struct store_stats st;
	struct fixture f;
	struct err e = {0};
	char id[TENSOR_ID_SIZE];

	begin(&f, 10 * PIECE);
	a = make(&f, 0, 100, 1, &e);
	cr_assert_null(kept_id_known(a));
	snprintf(id, sizeof(id), "%s", store_id(f.store, a));
	cr_assert_str_eq(kept_id_known(a), id);
	cr_assert_null(find(&f, id), "without a name it is nobody's to find");
	name(&f, &a, "one");
	b = find(&f, id);
	cr_assert_eq(b, a);
	store_unref(f.store, &b);
	cr_assert_null(store_find(f.store, 1, id, strlen(id)), "another owner's content is not to be found");

	b = make(&f, 0, 100, 1, &e);
	cr_assert_neq(a, b);
	store_id(f.store, b);
	cr_assert_eq(name(&f, &b, "two"), STORE_CREATED);
	cr_assert_eq(b, a, "the same content: the one that is there");
	store_stats(f.store, &st);
	cr_assert_eq(st.bytes, PIECE);
	cr_assert_eq(st.tensors, 1);
	cr_assert_eq(st.names, 2);

	/* An id that is asked for late: two of the same content, both alive; each may go first. */
	c = make(&f, 0, 100, 1, &e);
	name(&f, &c, "three");
	cr_assert_neq(c, a);
	cr_assert_str_eq(store_id(f.store, c), id);
	store_unref(f.store, &a);
	store_unref(f.store, &b);
	store_forget(f.store, 0, "one", 3, NULL);
	store_forget(f.store, 0, "two", 3, NULL);
	a = find(&f, id);
	cr_assert_eq(a, c);
	store_unref(f.store, &a);
	cr_assert_eq(store_forget(f.store, 0, id, strlen(id), NULL), STORE_REPLACED, "by id: all its names");
	cr_assert_str_eq(names(&f, 0), "");
	cr_assert_not(has(&f, id));
	store_unref(f.store, &c);

	/* The same under another owner is another. */
	a = make(&f, 0, 10, 7, &e);
	b = make(&f, 9, 10, 7, &e);
	cr_assert_str_eq(store_id(f.store, a), store_id(f.store, b));
	name(&f, &a, "x");
	name(&f, &b, "x");
	cr_assert_neq(a, b);
	store_unref(f.store, &a);
	store_unref(f.store, &b);
	end(&f);
}

Test(store, the_quota_takes_what_was_used_least_recently)
{
	struct store_stats st;
	struct kept *a, *k;
	struct fixture f;
	struct err e = {0};

	begin(&f, 4 * PIECE);
	keep(&f, "a", 10, 1);
	keep(&f, "b", 10, 2);
	keep(&f, "c", 10, 3);
	keep(&f, "d", 10, 4);
	cr_assert(has(&f, "a")); /* a use */
	cr_assert_str_eq(names(&f, 0), "a b c d ");
	keep(&f, "e", 10, 5);
	cr_assert_str_eq(names(&f, 0), "a c d e ");
	a = find(&f, "c"); /* in use from now on: it does not go, though it is the oldest soon */
	cr_assert(has(&f, "d"));
	cr_assert(has(&f, "e"));
	cr_assert(has(&f, "a"));
	keep(&f, "f", 10, 6);
	cr_assert_str_eq(names(&f, 0), "a c e f ");
	store_stats(f.store, &st);
	cr_assert_eq(st.bytes, 4 * PIECE);
	cr_assert_eq(st.in_use, PIECE);
	cr_assert_eq(st.evicted, 2);

	/* What is larger makes several go; what is too large, none. */
	k = make(&f, 0, (int64_t)(PIECE / 4 + 1), 7, &e);
	cr_assert_null(k, "an arena of 256 KiB beside one of 64 that is in use");
	cr_assert_eq(e.code, ERR_OVER_QUOTA);
	cr_assert(strstr(e.msg, "262144 bytes needed") && strstr(e.msg, "196608 free"), "%s", e.msg);
	cr_assert_str_eq(names(&f, 0), "a c e f ");
	store_unref(f.store, &a);
	e.code = ERR_NONE;
	k = make(&f, 0, (int64_t)(PIECE / 4 + 1), 7, &e);
	cr_assert(k, "%s", e.msg);
	cr_assert_str_eq(names(&f, 0), "");
	store_unref(f.store, &k);
	store_stats(f.store, &st);
	cr_assert_eq(st.bytes, 0);
	cr_assert_null(make(&f, 0, 1 << 20, 0, &e), "more than the quota is");
	cr_assert_eq(e.code, ERR_OVER_QUOTA);
	end(&f);
}

Test(store, a_name_lives_as_long_as_it_is_used)
{
	struct store_entry entry;
	struct store_stats st;
	struct kept *k, *held;
	struct fixture f;
	struct err e = {0};
	char room[STORE_NAME_MAX + 1];

	begin(&f, 100 * PIECE);
	keep(&f, "idle", 10, 1);
	keep(&f, "used", 10, 2);
	keep(&f, "held", 10, 3);
	k = make(&f, 0, 10, 4, &e);
	cr_assert_eq(store_name(f.store, &k, "short", 5, 7 * SECOND, NULL), STORE_CREATED);
	name(&f, &k, "long");
	store_unref(f.store, &k);
	held = find(&f, "held");

	clock_now += 7 * SECOND - 1;
	cr_assert_str_eq(names(&f, 0), "held idle long short used ");
	clock_now += 1;
	cr_assert_str_eq(names(&f, 0), "held idle long used ");
	k = find(&f, "used");
	store_entry(f.store, k, "used", 4, &entry, room);
	cr_assert_str_eq(entry.name, "used");
	cr_assert_eq(entry.left_ns, 100 * SECOND, "it is in use");
	cr_assert_not(entry.in_use, "by others");
	store_unref(f.store, &k);
	clock_now += 93 * SECOND - 1;
	cr_assert_str_eq(names(&f, 0), "held idle long used ");
	clock_now += 1;
	cr_assert_str_eq(names(&f, 0), "held used ");
	cr_assert_null(find(&f, "idle"));
	clock_now += 1000 * SECOND;
	cr_assert_str_eq(names(&f, 0), "held ", "in use for long");
	store_unref(f.store, &held);
	clock_now += 100 * SECOND - 1;
	store_sweep(f.store);
	store_stats(f.store, &st);
	cr_assert_eq(st.names, 1, "its time begins when it is let go");
	clock_now += 1;
	store_sweep(f.store);
	store_stats(f.store, &st);
	cr_assert_eq(st.names, 0);
	cr_assert_eq(st.bytes, 0);
	cr_assert_eq(st.expired, 5);
	end(&f);
}

Test(store, expectations_hold_at_the_moment_of_the_change)
{
	struct store_expect none = {NULL}, a_expected;
	struct kept *a, *b;
	struct fixture f;
	struct err e = {0};

	begin(&f, 100 * PIECE);
	a = make(&f, 0, 10, 1, &e);
	b = make(&f, 0, 10, 2, &e);
	a_expected.current = a;
	cr_assert_eq(store_name(f.store, &a, "w", 1, 0, &a_expected), STORE_CHANGED);
	cr_assert_eq(store_name(f.store, &a, "w", 1, 0, &none), STORE_CREATED);
	cr_assert_eq(store_name(f.store, &b, "w", 1, 0, &none), STORE_CHANGED);
	cr_assert_eq(store_name(f.store, &b, "w", 1, 0, &a_expected), STORE_REPLACED);
	cr_assert_eq(store_forget(f.store, 0, "w", 1, &a_expected), STORE_CHANGED);
	cr_assert_eq(store_forget(f.store, 0, "w", 1, &(struct store_expect){b}), STORE_REPLACED);
	store_unref(f.store, &a);
	store_unref(f.store, &b);
	end(&f);
}

Test(store, what_a_request_has_is_moved_not_copied)
{
	struct tensor big = {0}, small = {0};
	struct arena_stats before, after;
	struct kept *k, *copy, *same;
	struct fixture f;
	struct err e = {0};
	struct mem m;
	int64_t n = 300000, few = 10;

	begin(&f, 10 << 20);
	mem_init(&m, f.pool, 0);
	cr_assert_eq(mem_expect(&m, 1200128, &e), 0);
	cr_assert(mem_alloc(&m, 128, &e));
	cr_assert_eq(tensor_describe(&big, "big", DT_FP32, 1, &n, NULL), 0);
	cr_assert_eq(mem_tensor(&m, &big, &e), 0);
	for (int64_t i = 0; i < n; i++)
		((float *)big.data)[i] = (float)i;
	cr_assert_eq(m.n, 1);
	arena_pool_stats(f.pool, &before);
	k = store_take(f.store, 0, &m, &big, &e);
	arena_pool_stats(f.pool, &after);
	cr_assert(k, "%s", e.msg);
	cr_assert_eq(kept_tensor(k)->data, big.data);
	cr_assert_eq(m.n, 0);
	cr_assert_eq(m.bytes, 0);
	cr_assert_eq(before.borrowed, after.borrowed);

	/* A little one in a large arena is copied: the rest would be lost to everybody. */
	cr_assert_eq(mem_expect(&m, 1 << 20, &e), 0);
	cr_assert_eq(tensor_describe(&small, "small", DT_FP32, 1, &few, NULL), 0);
	cr_assert_eq(mem_tensor(&m, &small, &e), 0);
	memcpy(small.data, big.data, small.bytes);
	copy = store_take(f.store, 0, &m, &small, &e);
	cr_assert(copy, "%s", e.msg);
	cr_assert_neq(kept_tensor(copy)->data, small.data);
	cr_assert_eq(m.n, 1);
	cr_assert(kept_id_known(k));
	cr_assert_eq(name(&f, &copy, "small"), STORE_CREATED);
	same = store_take(f.store, 0, &m, &small, &e);
	cr_assert_eq(same, copy, "this content is there");
	store_unref(f.store, &same);
	mem_fini(&m);
	cr_assert_eq(memcmp(kept_tensor(copy)->data, big.data, small.bytes), 0);
	cr_assert_eq(memcmp((float *)kept_tensor(k)->data + 299999, &(float){299999}, 4), 0);
	store_unref(f.store, &copy);
	store_unref(f.store, &k);
	end(&f);
}

Test(store, names_of_tensors)
{
	static const char *const good[] = {"w", "w1", "layer.0.weight", "A-Z_09", "sha256", "sha256-x", "."};
	static const char *const bad[] = {"", "sha256:", "sha256:abc", "a b", "a/b", "a\"b", "\xc3\xa4", "a\n"};
	char longest[STORE_NAME_MAX + 2];
	struct err e = {0};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		cr_assert_eq(store_name_check(good[i], strlen(good[i]), &e), 0, "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(store_name_check(bad[i], strlen(bad[i]), &e), -1, "%s", bad[i]);
	cr_assert_eq(store_name_check("a\0b", 3, &e), -1);
	memset(longest, 'x', sizeof(longest));
	cr_assert_eq(store_name_check(longest, STORE_NAME_MAX, &e), 0);
	cr_assert_eq(store_name_check(longest, STORE_NAME_MAX + 1, &e), -1);
	cr_assert_eq(e.code, ERR_INVALID_PARAMETER);
}

Test(store, devices_learn_what_is_gone)
{
	uint64_t first, at, uids[8], uid;
	struct fixture f;
	struct err e = {0};
	struct kept *k;

	begin(&f, 100 * PIECE);
	keep(&f, "before", 10, 1);
	store_forget(f.store, 0, "before", 6, NULL);
	first = at = store_gone_position(f.store);
	cr_assert_eq(store_gone(f.store, &at, uids, 8), 0);
	k = make(&f, 0, 10, 1, &e);
	uid = kept_uid(k);
	name(&f, &k, "w");
	store_unref(f.store, &k);
	cr_assert_eq(store_gone(f.store, &at, uids, 8), 0);
	keep(&f, "w", 10, 2); /* replaced */
	cr_assert_eq(store_gone(f.store, &at, uids, 8), 1);
	cr_assert_eq(uids[0], uid);
	for (int i = 0; i < 11; i++)
		keep(&f, "w", 10, (float)i);
	cr_assert_eq(store_gone(f.store, &at, uids, 8), 8);
	cr_assert_eq(uids[0], uid + 1);
	cr_assert_eq(store_gone(f.store, &at, uids, 8), 3);
	cr_assert_eq(uids[2], uid + 11);
	at = first;
	for (int i = 0; i < 300; i++)
		keep(&f, "w", 10, (float)i);
	cr_assert_eq(store_gone(f.store, &at, uids, 8), -1);
	cr_assert_eq(store_gone(f.store, &at, uids, 8), 0);
	end(&f);
}

#define THREADS 6
#define ROUNDS 2000

static struct fixture shared;

/* Each tensor holds one number many times over; whoever finds a mixture has seen one being changed or reused. */
static void *
use_store(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned what = (seed = seed * 1103515245u + 12345u) >> 16;
		char text[8];
		struct err e = {0};
		struct kept *k;

		snprintf(text, sizeof(text), "n%u", what % 7);
		switch (what / 7 % 8) {
		case 0:
		case 1: {
			struct tensor t = {0};
			int64_t n = 1 + what % 5000;

			cr_assert_eq(tensor_describe(&t, "t", DT_INT32, 1, &n, NULL), 0);
			k = store_make(shared.store, 0, &t, &e);
			if (k == NULL) {
				cr_assert_eq(e.code, ERR_OVER_QUOTA, "%s", e.msg);
				break;
			}
			for (int64_t j = 0; j < n; j++)
				((int32_t *)t.data)[j] = (int32_t)(what % 16);
			if (what % 3 == 0)
				store_id(shared.store, k);
			cr_assert_leq(store_name(shared.store, &k, text, strlen(text), 0, NULL), STORE_REPLACED);
			store_unref(shared.store, &k);
			break;
		}
		case 2:
			store_forget(shared.store, 0, text, strlen(text), NULL);
			break;
		case 3:
			clock_now += 20 * SECOND;
			store_sweep(shared.store);
			break;
		case 4: {
			char list[1000] = "";

			store_list(shared.store, 0, add_name, list);
			break;
		}
		default:
			k = store_find(shared.store, 0, text, strlen(text));
			if (k == NULL)
				break;
			if (what % 11 == 0) {
				char id[TENSOR_ID_SIZE];
				struct kept *same;

				snprintf(id, sizeof(id), "%s", store_id(shared.store, k));
				same = store_find(shared.store, 0, id, strlen(id));
				if (same != NULL)
					cr_assert_str_eq(kept_id_known(same), id);
				store_unref(shared.store, &same);
			}
			for (int64_t j = 1; j < tensor_elements(kept_tensor(k)); j++)
				cr_assert_eq(((const int32_t *)kept_tensor(k)->data)[j],
					     ((const int32_t *)kept_tensor(k)->data)[0]);
			store_unref(shared.store, &k);
		}
	}
	return NULL;
}

Test(store, many_threads)
{
	pthread_t threads[THREADS];
	struct store_stats st;
	uint64_t at;

	begin(&shared, 5 * PIECE); /* fewer than names: there is pushing */
	for (uintptr_t i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, use_store, (void *)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	store_stats(shared.store, &st);
	cr_assert_eq(st.in_use, 0);
	cr_assert_leq(st.bytes, 5 * PIECE);
	cr_assert_gt(st.evicted, 0);
	cr_assert_gt(st.expired, 0);
	at = store_gone_position(shared.store);
	end(&shared);
	cr_assert_gt(at, 0);
}
