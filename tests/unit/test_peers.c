/* test_peers.c: connections counted by client address: which addresses are one, limits, many threads. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "front/peers.h"

static const struct sockaddr *
ip(const char *text)
{
	static _Thread_local struct sockaddr_storage a;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;

	memset(&a, 0, sizeof(a));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		a.ss_family = AF_INET;
	} else {
		cr_assert_eq(inet_pton(AF_INET6, text, &v6->sin6_addr), 1, "%s", text);
		a.ss_family = AF_INET6;
		v6->sin6_port = htons(1234);
	}
	return (const struct sockaddr *)&a;
}

Test(peers, which_addresses_are_one)
{
	static const struct {
		const char *a, *b;
		bool same;
	} cases[] = {
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.1.2.4", false},
		{"0.0.0.0", "::", false},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false},
		{"::ffff:10.1.2.3", "10.1.2.3", true},
		{"::ffff:10.1.2.3", "::ffff:10.1.2.4", false},
		{"::ffff:10.1.2.3", "::1", false},
		{"::1", "::2", true},
		{"0.0.0.5", "::5", false},
	};
	struct peers *p = peers_new(1, 100);
	struct peer *a, *b;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert(peers_take(p, ip(cases[i].a), &a));
		cr_assert_not_null(a);
		cr_assert_eq(peers_take(p, ip(cases[i].b), &b), !cases[i].same, "%s and %s", cases[i].a, cases[i].b);
		peers_give(p, &a);
		cr_assert_null(a);
		peers_give(p, &b);
		cr_assert_eq(peers_count(p), 0);
	}
	peers_free(&p);
	cr_assert_null(p);
}

Test(peers, limits)
{
	const struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct peers *p = peers_new(3, 10), *any = peers_new(0, 10);
	struct peer *held[3], *x = NULL;
	int i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 3; i++)
			cr_assert(peers_take(p, ip("192.0.2.1"), &held[i]));
		cr_assert_not(peers_take(p, ip("192.0.2.1"), &x));
		cr_assert_null(x);
		peers_give(p, &x); /* nothing was taken, nothing is given */
		peers_give(p, &held[1]);
		cr_assert(peers_take(p, ip("192.0.2.1"), &held[1]));
		cr_assert_not(peers_take(p, ip("192.0.2.1"), &x));
		cr_assert_eq(peers_count(p), 1);
		for (i = 0; i < 3; i++)
			peers_give(p, &held[i]);
		cr_assert_eq(peers_count(p), 0);
	}
	for (i = 0; i < 100; i++) {
		cr_assert(peers_take(p, (const struct sockaddr *)&local, &x));
		cr_assert_null(x);
		cr_assert(peers_take(any, ip("192.0.2.1"), &x));
		cr_assert_null(x);
	}
	peers_free(&p);
	peers_free(&any);
	peers_free(&p);
}

#define ADDRESSES 5000

Test(peers, many_addresses)
{
	static struct peer *held[ADDRESSES];
	struct peers *p = peers_new(1, 16); /* far more than there are buckets: chains */
	char text[INET6_ADDRSTRLEN];
	struct peer *x;
	int i;

	for (i = 0; i < ADDRESSES; i++) {
		snprintf(text, sizeof(text), i % 2 ? "10.0.%d.%d" : "2001:db8:%x:%x::1", i >> 8, i & 255);
		cr_assert(peers_take(p, ip(text), &held[i]), "%s", text);
	}
	cr_assert_eq(peers_count(p), ADDRESSES);
	for (i = 0; i < ADDRESSES; i++) {
		snprintf(text, sizeof(text), i % 2 ? "10.0.%d.%d" : "2001:db8:%x:%x::2", i >> 8, i & 255);
		cr_assert_not(peers_take(p, ip(text), &x), "%s", text);
	}
	for (i = 0; i < ADDRESSES; i++)
		peers_give(p, &held[i * 7 % ADDRESSES]);
	cr_assert_eq(peers_count(p), 0);
	peers_free(&p);
}

static struct peers *shared;
static _Atomic int open_now, most;

static void *
come_and_go(void *arg)
{
	struct peer *x;
	int i, now, seen;

	(void)arg;
	for (i = 0; i < 20000; i++) {
		if (!peers_take(shared, ip("192.0.2.9"), &x))
			continue;
		now = atomic_fetch_add(&open_now, 1) + 1;
		for (seen = atomic_load(&most); now > seen && !atomic_compare_exchange_weak(&most, &seen, now);)
			;
		atomic_fetch_sub(&open_now, 1);
		peers_give(shared, &x);
	}
	return NULL;
}

Test(peers, threads)
{
	pthread_t t[4];
	int i;

	shared = peers_new(2, 16);
	for (i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, come_and_go, NULL), 0);
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	cr_assert_leq(atomic_load(&most), 2);
	cr_assert_geq(atomic_load(&most), 1);
	cr_assert_eq(peers_count(shared), 0);
	peers_free(&shared);
}
