/*
 * store_internal.h: how the store's two files see it: store.c (life, room, finding) and store_tell.c (what is told of it).
 */
#ifndef AITERD_STORE_INTERNAL_H
#define AITERD_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "front/store.h"

#define GONE_MAX 256 /* uids remembered */

struct name {
	uint32_t owner;
	const char *text; /* of a key: the caller's */
	struct kept *k;
	struct name *next; /* of the same tensor */
	uint64_t ttl_ns;
	char room[STORE_NAME_MAX + 1];
};

struct kept {
	struct tensor t;
	struct mem_block block;
	uint64_t uid;
	uint32_t owner;
	uint32_t users;
	uint64_t used_ns;
	struct name *names; /* NULL: in no list, and gone with its last user */
	struct kept *older, *newer;
	struct kept *next; /* of those about to be freed */
	bool listed;	   /* in the tree of ids */
	atomic_bool known; /* the id is there, for ever */
	char id[TENSOR_ID_SIZE];
};

struct store {
	struct store_config c;
	pthread_mutex_t lock; /* all below */
	void *names, *ids;
	struct kept *oldest, *newest;
	uint64_t bytes, idle; /* idle: of those with a name and no user */
	uint64_t n_tensors, n_names, evicted, expired;
	uint64_t last_uid;
	uint64_t next_expiry_ns; /* no name's time is over before */
	uint64_t n_gone;
	uint64_t gone[GONE_MAX];
};

/* Under the lock: names whose time is over go. First of all in whatever looks for names. */
void store_expire(struct store *s, struct kept **dead);
/* Without the lock: their memory goes back. */
void store_free_dead(struct store *s, struct kept *dead);
/* Under the lock. */
struct name *store_name_find(struct store *s, uint32_t owner, const char *text, size_t len);

#endif
