/* test_store_names.c: kept tensors with many names, and several with the same content; the rest of the store: test_store.c. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "front/store.h"

#define PIECE ((uint64_t)64 << 10) /* the smallest arena */

static struct arena_pool *pool;
static struct store *store;

static void
begin(void)
{
	struct store_config c = {.quota = 10 * PIECE, .ttl_ns = UINT64_C(1000000000000), .now = clock_ns};
	struct err e = {0};

	pool = c.pool = arena_pool_new(64 << 20, 0, &e);
	cr_assert(pool, "%s", e.msg);
	store = store_new(&c);
	cr_assert(store);
}

static void
end(void)
{
	struct arena_stats a;

	store_free(&store);
	arena_pool_stats(pool, &a);
	cr_assert_eq(a.borrowed, 0);
	arena_pool_free(&pool);
}

TestSuite(store_names, .init = begin, .fini = end);

/* Always the same content. */
static struct kept *
make(void)
{
	struct tensor t = {0};
	struct err e = {0};
	struct kept *k;

	cr_assert_eq(tensor_describe(&t, "t", DT_FP32, 1, (int64_t[]){100}, NULL), 0);
	k = store_make(store, 0, &t, &e);
	cr_assert(k, "%s", e.msg);
	memset(t.data, 7, t.bytes);
	return k;
}

static enum store_verdict
name(struct kept **k, const char *text)
{
	return store_name(store, k, text, strlen(text), 0, NULL);
}

static uint64_t
count(void)
{
	struct store_stats st;

	store_stats(store, &st);
	return st.names;
}

/* They cost the quota nothing, but memory. */
Test(store_names, there_may_be_so_many)
{
	struct err e = {0};
	struct kept *a = make();
	char text[16];

	for (int i = 0; i < STORE_NAMES_MAX; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		cr_assert_eq(name(&a, text), STORE_CREATED);
	}
	cr_assert_eq(name(&a, "more"), STORE_FULL);
	cr_assert_eq(store_name_refused(STORE_CREATED, "more", &e), 0);
	cr_assert_eq(e.code, ERR_NONE);
	cr_assert_eq(store_name_refused(STORE_FULL, "more", &e), -1);
	cr_assert_eq(e.code, ERR_OVER_QUOTA);
	cr_assert_eq(name(&a, "n7"), STORE_REPLACED, "no name more");
	cr_assert_eq(store_forget(store, 0, "n8", 2, NULL), STORE_REPLACED);
	cr_assert_eq(name(&a, "more"), STORE_CREATED);
	cr_assert_eq(count(), STORE_NAMES_MAX);
	store_unref(store, &a);
}

/* Ids that are asked for late: two tensors of the same content. Forgotten by the id, none is found by it. */
Test(store_names, an_id_forgets_all_that_have_it)
{
	struct kept *a = make(), *b = make(), *found;
	char id[TENSOR_ID_SIZE];

	name(&a, "one");
	name(&b, "two");
	snprintf(id, sizeof(id), "%s", store_id(store, a));
	cr_assert_str_eq(store_id(store, b), id);
	cr_assert_neq(a, b);
	store_unref(store, &a);
	store_unref(store, &b);
	cr_assert_eq(count(), 2);
	cr_assert_eq(store_forget(store, 0, id, strlen(id), NULL), STORE_REPLACED);
	cr_assert_eq(count(), 0);
	found = store_find(store, 0, id, strlen(id));
	cr_assert_null(found);
	cr_assert_eq(store_forget(store, 0, id, strlen(id), NULL), STORE_CHANGED);
}
