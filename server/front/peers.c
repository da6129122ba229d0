/* peers.c: see peers.h. A hash table of addresses with connections, under one lock that is taken twice a connection. */
#include "front/peers.h"

#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define BUCKETS_MAX 65536u

struct peer {
	struct peer *next;
	uint64_t key;
	uint32_t count;
	bool v6;
};

struct peers {
	pthread_mutex_t lock;
	uint64_t secret[2]; /* so that nobody can choose addresses that share a bucket */
	uint32_t limit, mask, n;
	struct peer *buckets[];
};

struct peers *
peers_new(uint32_t limit, uint32_t connections)
{
	uint32_t n = 64;
	struct peers *p;

	while (n < connections && n < BUCKETS_MAX)
		n *= 2;
	if ((p = calloc(1, sizeof(*p) + n * sizeof(p->buckets[0]))) == NULL)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	p->limit = limit;
	p->mask = n - 1;
	if (getrandom(p->secret, sizeof(p->secret), GRND_NONBLOCK) != (ssize_t)sizeof(p->secret))
		p->secret[0] = (uint64_t)(uintptr_t)p ^ (uint64_t)time(NULL);
	p->secret[1] |= 1;
	return p;
}

void
peers_free(struct peers **pp)
{
	struct peers *p = *pp;

	if (p == NULL)
		return;
	*pp = NULL;
	assert(p->n == 0);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* false: not an address that is counted. */
static bool
key_of(const struct sockaddr *addr, uint64_t *key, bool *v6)
{
	const struct in6_addr *a6;
	const unsigned char *from;
	size_t n = 8, i;

	if (addr->sa_family == AF_INET) {
		from = (const unsigned char *)&((const struct sockaddr_in *)(const void *)addr)->sin_addr;
		n = 4;
	} else if (addr->sa_family == AF_INET6) {
		a6 = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
		from = a6->s6_addr;
		if (IN6_IS_ADDR_V4MAPPED(a6)) {
			from += 12;
			n = 4;
		}
	} else {
		return false;
	}
	*v6 = n == 8;
	*key = 0;
	for (i = 0; i < n; i++)
		*key = *key << 8 | from[i];
	return true;
}

static uint32_t
bucket_of(const struct peers *p, uint64_t key)
{
	uint64_t h = (key ^ p->secret[0]) * p->secret[1];

	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15u;
	return (uint32_t)(h >> 40) & p->mask;
}

bool
peers_take(struct peers *p, const struct sockaddr *addr, struct peer **peer)
{
	struct peer **at, *x;
	uint64_t key;
	bool v6, ok;

	*peer = NULL;
	if (p->limit == 0 || !key_of(addr, &key, &v6))
		return true;
	pthread_mutex_lock(&p->lock);
	at = &p->buckets[bucket_of(p, key)];
	for (x = *at; x != NULL && (x->key != key || x->v6 != v6); x = x->next)
		;
	if (x == NULL && (x = calloc(1, sizeof(*x))) != NULL) {
		x->key = key;
		x->v6 = v6;
		x->next = *at;
		*at = x;
		p->n++;
	}
	ok = x != NULL && x->count < p->limit;
	if (ok) {
		x->count++;
		*peer = x;
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

void
peers_give(struct peers *p, struct peer **peer)
{
	struct peer *x = *peer, **at;

	if (x == NULL)
		return;
	*peer = NULL;
	pthread_mutex_lock(&p->lock);
	assert(x->count > 0);
	if (--x->count == 0) {
		for (at = &p->buckets[bucket_of(p, x->key)]; *at != x; at = &(*at)->next)
			;
		*at = x->next;
		p->n--;
		free(x);
	}
	pthread_mutex_unlock(&p->lock);
}

uint32_t
peers_count(struct peers *p)
{
	uint32_t n;

	pthread_mutex_lock(&p->lock);
	n = p->n;
	pthread_mutex_unlock(&p->lock);
	return n;
}
