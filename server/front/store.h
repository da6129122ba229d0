/*
 * store.h: tensors kept between requests, by name and by content (codec/tensor_id.h). They lie in arenas like those of
 * requests, so that workers read them in place; what becomes kept brings its arena along and is not copied. Once it has
 * a name a kept tensor never changes: a new one takes its name, and whoever uses the old one still has it until done.
 *
 * Each belongs to an owner, and is found by that owner only. What nobody has used for its time to live goes; so does, when
 * the quota is used up, what was used least recently and is in no request's hands.
 *
 * Threads: any; one mutex inside, never held while memory is made, copied or hashed.
 */
#ifndef AITERD_STORE_H
#define AITERD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "codec/tensor_id.h"
#include "err.h"
#include "tensor.h"

#define STORE_NAME_MAX 128
#define STORE_NAMES_MAX 65536 /* one tensor may have many, which the quota does not count */
#define STORE_OWNER_ALL 0     /* there are no keys: everything is everybody's */

struct store;
struct kept; /* one tensor; whoever has a pointer to it has a reference */

struct store_config {
	struct arena_pool *pool;
	uint64_t quota;	       /* bytes of arenas */
	uint64_t ttl_ns;       /* of names that are given none of their own */
	uint64_t (*now)(void); /* nanoseconds */
};

struct store *store_new(const struct store_config *c); /* NULL: no memory */
void store_free(struct store **s);		       /* nobody may have a reference */

struct store_stats {
	uint64_t quota, bytes; /* bytes: of arenas, of what is in use without a name too */
	uint64_t in_use;       /* of them, in requests' hands */
	uint64_t tensors, names;
	uint64_t evicted, expired; /* names, ever */
};
void store_stats(struct store *s, struct store_stats *st);
/* What may not be a tensor's name. */
int store_name_check(const char *name, size_t len, struct err *e);

/* Memory for a tensor as described, to be kept: t's slab, offset and data are set. It counts from now on. NULL + e:
 * ERR_OVER_QUOTA, or the arenas' errors. */
struct kept *store_make(struct store *s, uint32_t owner, struct tensor *t, struct err *e);
/* A tensor of a request as it is: hashed, and if its content is kept already, that one. Otherwise its arena changes hands,
 * with all that lies in it, unless it is much larger than the tensor, or not of `m`: then the tensor is copied. */
struct kept *store_take(struct store *s, uint32_t owner, struct mem *m, const struct tensor *t, struct err *e);
/* By a name, or by an id; the use counts. NULL: there is none. */
struct kept *store_find(struct store *s, uint32_t owner, const char *what, size_t len);
/* One more reference to what the caller has one to. */
void store_ref(struct store *s, struct kept *k);
/* Drops the reference; NULL is fine. */
void store_unref(struct store *s, struct kept **k);

/* Its descriptor, with the front's mapping as data. Only who made it may write there, before it has a name. */
const struct tensor *kept_tensor(const struct kept *k);
/* A number that no other tensor has or will ever have: what devices know their copies by. */
uint64_t kept_uid(const struct kept *k);
/* Its id; NULL: not known yet. */
const char *kept_id_known(const struct kept *k);
/* The same, hashing the data if need be, which takes long. */
const char *store_id(struct store *s, struct kept *k);

enum store_verdict {
	STORE_CREATED,
	STORE_REPLACED,
	STORE_CHANGED,	/* the name does not mean `current` (any more): nothing was done */
	STORE_FULL,	/* there are STORE_NAMES_MAX names */
	STORE_NO_MEMORY /* for the name itself */
};

/* What a name must mean for something to happen to it; NULL: whatever it means. */
struct store_expect {
	const struct kept *current; /* NULL: nothing */
};

/*
 * Give it a name, taking that from the one which has it; ttl_ns 0: the configured one. When another tensor of the same
 * content is kept already, that one gets the name, and the reference in *k is to it afterwards.
 */
enum store_verdict store_name(struct store *s, struct kept **k, const char *name, size_t len, uint64_t ttl_ns,
			      const struct store_expect *expect);
/* What store_name() refused for good: -1 and e; else 0. */
int store_name_refused(enum store_verdict verdict, const char *name, struct err *e);
/* Takes away the name; of an id all names of all tensors with that content. STORE_REPLACED: done; STORE_CHANGED also if there is
 * none. */
enum store_verdict store_forget(struct store *s, uint32_t owner, const char *what, size_t len,
				const struct store_expect *expect);

/* Names whose time is over go. About once a second. */
void store_sweep(struct store *s);

struct store_entry { /* a name and what it stands for */
	const char *name;
	const struct tensor *t;
	const char *id;			     /* NULL: not known yet */
	uint64_t unused_ns, left_ns, ttl_ns; /* since the last use, until the name goes */
	bool in_use;
};
/* All names of an owner, in alphabetical order; with the store locked. */
void store_list(struct store *s, uint32_t owner, void (*add)(void *cls, const struct store_entry *entry), void *cls);
/* What is to be told of a tensor that the caller has: by this name if that is (still) its, else by another of its names. One
 * that has none any more has no time left. The caller's use does not count as one. The entry's name lies in `room`. */
void store_entry(struct store *s, struct kept *k, const char *name, size_t len, struct store_entry *entry,
		 char room[STORE_NAME_MAX + 1]);

/*
 * Tensors that are gone, for devices that may have copies: up to `n` uids since *position, which moves on (it begins as
 * store_gone_position()). -1: more went than are remembered; all copies should go. What went is never found again, so
 * a copy that stays only takes room.
 */
uint64_t store_gone_position(struct store *s);
int store_gone(struct store *s, uint64_t *position, uint64_t *uids, int n);

#endif
