/*
 * test_link_forget.c: what a worker hears of kept tensors that are gone: each once, all of them when there were too many
 * to tell, and none lost when the line is full.
 */
#include <criterion/criterion.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "front/link_forget.h"
#include "msg.h"

static struct arena_pool *pool;
static struct store *store;
static struct line front, worker;
static uint64_t gone;

static void
setup(void)
{
	struct store_config c = {.quota = 8 << 20, .ttl_ns = UINT64_C(1000000000000), .now = clock_ns};
	struct err e = {0};
	int s[2];

	c.pool = pool = arena_pool_new(16 << 20, 0, &e);
	cr_assert(pool, "%s", e.msg);
	store = store_new(&c);
	cr_assert(store);
	gone = store_gone_position(store);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	line_init(&worker, s[1]);
	cr_assert_eq(line_open(&front, s[0], &e), 0, "%s", e.msg);
	cr_assert_eq(line_bell(&worker), 1);
}

static void
teardown(void)
{
	line_close(&front);
	line_close(&worker);
	store_free(&store);
	arena_pool_free(&pool);
}

TestSuite(link_forget, .init = setup, .fini = teardown);

/* Kept and let go; its uid. */
static uint64_t
one(void)
{
	struct tensor t = {0};
	struct err e = {0};
	struct kept *k;
	uint64_t uid;

	cr_assert_eq(tensor_describe(&t, "t", DT_FP32, 0, NULL, &e), 0);
	k = store_make(store, 0, &t, &e);
	cr_assert(k, "%s", e.msg);
	uid = kept_uid(k);
	store_unref(store, &k);
	return uid;
}

static int
get(union line_message *m)
{
	int fd, n = line_get(&worker, m, &fd);

	if (n > 0) {
		cr_assert_eq(n, (int)sizeof(struct msg_forget));
		cr_assert_eq(m->m.type, MSG_FORGET);
		cr_assert_eq(fd, -1);
	}
	return n;
}

Test(link_forget, each_is_told_once)
{
	union line_message m;
	uint64_t first, next;

	cr_assert_eq(link_forget(&front, store, &gone), 0);
	cr_assert_eq(get(&m), 0, "nothing to tell");
	first = one();
	cr_assert_eq(link_forget(&front, store, &gone), 0);
	cr_assert_gt(get(&m), 0);
	cr_assert(m.forget.n == 1 && m.forget.all == 0 && m.forget.uids[0] == first);
	cr_assert_eq(link_forget(&front, store, &gone), 0);
	cr_assert_eq(get(&m), 0);

	for (int i = 0; i < 2 * MSG_FORGET_MAX + 1; i++)
		next = one();
	cr_assert_eq(link_forget(&front, store, &gone), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_gt(get(&m), 0);
		cr_assert_eq(m.forget.n, MSG_FORGET_MAX);
		cr_assert_eq(m.forget.uids[0], first + 1 + (uint64_t)i * MSG_FORGET_MAX);
	}
	cr_assert_gt(get(&m), 0);
	cr_assert(m.forget.n == 1 && m.forget.uids[0] == next);
	cr_assert_eq(get(&m), 0);
}

Test(link_forget, too_many_are_all)
{
	union line_message m;
	uint64_t uid;

	for (int i = 0; i < 300; i++)
		one();
	cr_assert_eq(link_forget(&front, store, &gone), 0);
	cr_assert_gt(get(&m), 0);
	cr_assert(m.forget.all != 0 && m.forget.n == 0);
	cr_assert_eq(get(&m), 0);
	uid = one();
	cr_assert_eq(link_forget(&front, store, &gone), 0);
	cr_assert_gt(get(&m), 0);
	cr_assert(m.forget.all == 0 && m.forget.n == 1 && m.forget.uids[0] == uid);
}

Test(link_forget, a_full_line_loses_none)
{
	union line_message m;
	uint64_t first = 0, last = 0;
	int told = 0, full = 0;

	/* Until there is no room, and then on: what is read makes room. */
	for (int i = 0; i < 200; i++) {
		last = one();
		first = first != 0 ? first : last;
		full += link_forget(&front, store, &gone);
	}
	cr_assert_gt(full, 0, "the ring has fewer places");
	for (int rounds = 0; rounds < 300 && (get(&m) > 0 || link_forget(&front, store, &gone) == 0); rounds++) {
		for (uint32_t k = 0; m.m.type == MSG_FORGET && k < m.forget.n; k++, told++)
			cr_assert_eq(m.forget.uids[k], first + (uint64_t)told, "in order, each once");
		memset(&m, 0, sizeof(m));
		if (first + (uint64_t)told > last)
			break;
	}
	cr_assert_eq(first + (uint64_t)told, last + 1);
	cr_assert_eq(link_forget(&front, store, &gone), 0);
}
