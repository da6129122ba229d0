/*
 * store.c: see store.h. Called by loops and helper threads for requests, by the main thread to sweep.
 *
 * Two trees (libc's tsearch) find a tensor, one by owner and name, one by owner, id and uid: several may have the same
 * content, when their ids were asked for late. A list has them in the order of their last use.
 */
#include "front/store_internal.h"

#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
order(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int
compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	int r = order(x->owner, y->owner);

	return r != 0 ? r : strcmp(x->text, y->text);
}

/* uid 0 is a key's: any with this id. */
static int
compare_ids(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;
	int r = order(x->owner, y->owner);

	r = r != 0 ? r : strcmp(x->id, y->id);
	return r != 0 || x->uid == 0 || y->uid == 0 ? r : order(x->uid, y->uid);
}

struct store *
store_new(const struct store_config *c)
{
	struct store *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->c = *c;
	s->next_expiry_ns = UINT64_MAX;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

/* ---------------------------------------------------------------- life and death of a tensor */

void
store_free_dead(struct store *s, struct kept *list)
{
	for (struct kept *next; list != NULL; list = next) {
		next = list->next;
		arena_return(s->c.pool, &list->block, 1);
		free(list);
	}
}

/* Under the lock: out of the count, onto the list. */
static void
bury(struct store *s, struct kept *k, struct kept **dead)
{
	assert(k->users == 0 && k->names == NULL && !k->listed);
	s->bytes -= k->block.size;
	s->n_tensors--;
	s->gone[s->n_gone++ % GONE_MAX] = k->uid;
	k->next = *dead;
	*dead = k;
}

static void
unlink_use(struct store *s, struct kept *k)
{
	*(k->older != NULL ? &k->older->newer : &s->oldest) = k->newer;
	*(k->newer != NULL ? &k->newer->older : &s->newest) = k->older;
	k->older = k->newer = NULL;
}

static void
link_use(struct store *s, struct kept *k)
{
	k->older = s->newest;
	k->newer = NULL;
	*(s->newest != NULL ? &s->newest->newer : &s->oldest) = k;
	s->newest = k;
}

static void
hold(struct store *s, struct kept *k)
{
	if (k->users++ == 0 && k->names != NULL)
		s->idle -= k->block.size;
}

static void
let_go(struct store *s, struct kept *k, struct kept **dead)
{
	assert(k->users > 0);
	if (--k->users > 0)
		return;
	if (k->names != NULL)
		s->idle += k->block.size;
	else
		bury(s, k, dead);
}

/* Under the lock: used now. */
static void
touch(struct store *s, struct kept *k)
{
	k->used_ns = s->c.now();
	unlink_use(s, k);
	link_use(s, k);
}

/* Under the lock: the name means nothing any more; its tensor may be over with it. */
static void
name_detach(struct store *s, struct name *n, struct kept **dead)
{
	struct kept *k = n->k;
	struct name **p = &k->names;

	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	if (k->names != NULL)
		return;
	unlink_use(s, k);
	if (k->listed)
		tdelete(k, &s->ids, compare_ids);
	k->listed = false;
	if (k->users > 0)
		return;
	s->idle -= k->block.size;
	bury(s, k, dead);
}

static void
name_drop(struct store *s, struct name *n, struct kept **dead)
{
	name_detach(s, n, dead);
	tdelete(n, &s->names, compare_names);
	s->n_names--;
	free(n);
}

static void
names_drop(struct store *s, struct kept *k, struct kept **dead)
{
	while (k->names->next != NULL)
		name_drop(s, k->names->next, dead);
	name_drop(s, k->names, dead); /* k is gone with it, perhaps */
}

void
store_free(struct store **sp)
{
	struct store *s = *sp;
	struct kept *dead = NULL;

	if (s == NULL)
		return;
	*sp = NULL;
	while (s->oldest != NULL)
		names_drop(s, s->oldest, &dead);
	store_free_dead(s, dead);
	assert(s->n_tensors == 0 && s->names == NULL && s->ids == NULL);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---------------------------------------------------------------- room */

void
store_expire(struct store *s, struct kept **dead)
{
	uint64_t now = s->c.now(), next = UINT64_MAX;
	struct kept *k, *newer;

	if (now < s->next_expiry_ns)
		return;
	for (k = s->oldest; k != NULL; k = newer) {
		struct name *n, *after;

		newer = k->newer;
		for (n = k->names; n != NULL; n = after) {
			/* One that is in use will have been used when it is let go, later than now. */
			uint64_t end = (k->users > 0 ? now : k->used_ns) + n->ttl_ns;

			after = n->next;
			if (end <= now) {
				name_drop(s, n, dead);
				s->expired++;
			} else if (end < next) {
				next = end;
			}
		}
	}
	s->next_expiry_ns = next;
}

/* Under the lock: make room for so many bytes more, if they could fit at all. */
static int
make_room(struct store *s, uint64_t bytes, struct kept **dead, struct err *e)
{
	uint64_t firm;
	char found[64], wanted[64];

	store_expire(s, dead);
	firm = s->bytes - s->idle;
	if (bytes > s->c.quota || firm > s->c.quota - bytes) {
		uint64_t available = firm < s->c.quota ? s->c.quota - firm : 0;

		snprintf(found, sizeof(found), "%llu bytes free", (unsigned long long)available);
		snprintf(wanted, sizeof(wanted), "%llu bytes", (unsigned long long)bytes);
		return err_param(
			e, ERR_OVER_QUOTA, "tensors-quota", found, wanted,
			"%llu bytes needed to keep the tensor, %llu free: of the %llu for kept tensors %llu are in use by "
			"requests",
			(unsigned long long)bytes, (unsigned long long)available, (unsigned long long)s->c.quota,
			(unsigned long long)firm);
	}
	for (struct kept *k = s->oldest, *newer; s->bytes + bytes > s->c.quota; k = newer) {
		assert(k != NULL); /* or `idle` is wrong */
		newer = k->newer;
		if (k->users > 0)
			continue;
		for (const struct name *n = k->names; n != NULL; n = n->next)
			s->evicted++;
		names_drop(s, k, dead);
	}
	return 0;
}

/* The block becomes a kept tensor with one user, if the quota has room for it; otherwise it goes back. */
static struct kept *
enter(struct store *s, uint32_t owner, const struct tensor *t, const struct mem_block *b, struct err *e)
{
	struct kept *k = calloc(1, sizeof(*k)), *dead = NULL;
	int rc = -1;

	if (k == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory to keep a tensor");
	} else {
		k->t = *t;
		k->block = *b;
		k->owner = owner;
		k->users = 1;
		pthread_mutex_lock(&s->lock);
		rc = make_room(s, b->size, &dead, e);
		if (rc == 0) {
			s->bytes += b->size;
			s->n_tensors++;
			k->uid = ++s->last_uid;
		}
		pthread_mutex_unlock(&s->lock);
		store_free_dead(s, dead);
	}
	if (rc == 0)
		return k;
	arena_return(s->c.pool, b, 1);
	free(k);
	return NULL;
}

struct kept *
store_make(struct store *s, uint32_t owner, struct tensor *t, struct err *e)
{
	struct kept *dead = NULL;
	struct mem_block block;
	struct mem m;
	int rc;

	/* First the quota's room: that may be memory which is wanted. */
	pthread_mutex_lock(&s->lock);
	rc = make_room(s, arena_size(t->bytes), &dead, e);
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
	if (rc == -1)
		return NULL;
	mem_init(&m, s->c.pool, 0);
	if (mem_tensor(&m, t, e) == -1)
		return NULL;
	mem_detach(&m, t, &block);
	return enter(s, owner, t, &block, e);
}

struct kept *
store_take(struct store *s, uint32_t owner, struct mem *m, const struct tensor *t, struct err *e)
{
	const struct mem_block *b = mem_block_of(m, t);
	struct mem_block block;
	struct tensor copy = *t;
	struct kept *k;
	char id[TENSOR_ID_SIZE];

	tensor_id(t, id);
	if ((k = store_find(s, owner, id, sizeof(id) - 1)) != NULL)
		return k;
	if (b != NULL && b->size / 2 <= arena_size(t->bytes)) {
		mem_detach(m, t, &block);
		k = enter(s, owner, t, &block, e);
	} else if ((k = store_make(s, owner, &copy, e)) != NULL) {
		memcpy(copy.data, t->data, t->bytes);
	}
	if (k != NULL) { /* nobody else knows of it yet */
		memcpy(k->id, id, sizeof(id));
		atomic_store_explicit(&k->known, true, memory_order_release);
	}
	return k;
}

/* ---------------------------------------------------------------- finding */

struct name *
store_name_find(struct store *s, uint32_t owner, const char *text, size_t len)
{
	struct name key = {.owner = owner}, **found;

	if (len > STORE_NAME_MAX || memchr(text, '\0', len) != NULL)
		return NULL;
	memcpy(key.room, text, len);
	key.text = key.room;
	found = tfind(&key, &s->names, compare_names);
	return found != NULL ? *found : NULL;
}

/* Under the lock: the one of this id. */
static struct kept *
id_find(struct store *s, uint32_t owner, const char *text, size_t len)
{
	struct kept key = {.owner = owner}, **found;

	if (!tensor_id_is(text, len))
		return NULL;
	memcpy(key.id, text, len);
	found = tfind(&key, &s->ids, compare_ids);
	return found != NULL ? *found : NULL;
}

/* Under the lock: by name or id; *n is the name, of an id the first. */
static struct kept *
any_find(struct store *s, uint32_t owner, const char *what, size_t len, struct name **n)
{
	struct kept *k = NULL;

	*n = NULL;
	if (tensor_id_begins(what, len))
		k = id_find(s, owner, what, len);
	else
		*n = store_name_find(s, owner, what, len);
	if (k != NULL)
		*n = k->names;
	return *n != NULL ? (*n)->k : NULL;
}

struct kept *
store_find(struct store *s, uint32_t owner, const char *what, size_t len)
{
	struct kept *k, *dead = NULL;
	struct name *n;

	pthread_mutex_lock(&s->lock);
	store_expire(s, &dead);
	k = any_find(s, owner, what, len, &n);
	if (k != NULL) {
		hold(s, k);
		touch(s, k);
	}
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
	return k;
}

void
store_ref(struct store *s, struct kept *k)
{
	pthread_mutex_lock(&s->lock);
	assert(k->users > 0);
	k->users++;
	pthread_mutex_unlock(&s->lock);
}

void
store_unref(struct store *s, struct kept **kp)
{
	struct kept *k = *kp, *dead = NULL;

	if (k == NULL)
		return;
	*kp = NULL;
	pthread_mutex_lock(&s->lock);
	if (k->names != NULL)
		touch(s, k); /* it was in use until now */
	let_go(s, k, &dead);
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
}

const struct tensor *
kept_tensor(const struct kept *k)
{
	return &k->t;
}

uint64_t
kept_uid(const struct kept *k)
{
	return k->uid;
}

const char *
kept_id_known(const struct kept *k)
{
	return atomic_load_explicit(&k->known, memory_order_acquire) ? k->id : NULL;
}

/* Under the lock: to be found by its id; without memory for that it is not. */
static void
list_id(struct store *s, struct kept *k)
{
	if (!k->listed && k->names != NULL && kept_id_known(k) != NULL)
		k->listed = tsearch(k, &s->ids, compare_ids) != NULL;
}

const char *
store_id(struct store *s, struct kept *k)
{
	char id[TENSOR_ID_SIZE];

	if (kept_id_known(k) != NULL)
		return k->id;
	tensor_id(&k->t, id);
	pthread_mutex_lock(&s->lock);
	if (!atomic_load_explicit(&k->known, memory_order_relaxed)) {
		memcpy(k->id, id, sizeof(id));
		atomic_store_explicit(&k->known, true, memory_order_release);
	}
	list_id(s, k);
	pthread_mutex_unlock(&s->lock);
	return k->id;
}

/* ---------------------------------------------------------------- names */

/* Under the lock: a fresh name in the tree, which means nothing yet. NULL: no memory. */
static struct name *
name_new(struct store *s, uint32_t owner, const char *text, size_t len)
{
	struct name *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return NULL;
	n->owner = owner;
	memcpy(n->room, text, len);
	n->text = n->room;
	if (tsearch(n, &s->names, compare_names) == NULL) {
		free(n);
		return NULL;
	}
	s->n_names++;
	return n;
}

/* Under the lock: k, which has a user, has this name too. */
static void
name_attach(struct store *s, struct name *n, struct kept *k)
{
	bool first = k->names == NULL;

	n->k = k;
	n->next = k->names;
	k->names = n;
	if (first)
		link_use(s, k);
	list_id(s, k);
	touch(s, k);
	if (k->used_ns + n->ttl_ns < s->next_expiry_ns)
		s->next_expiry_ns = k->used_ns + n->ttl_ns;
}

enum store_verdict
store_name(struct store *s, struct kept **kp, const char *name, size_t len, uint64_t ttl_ns,
	   const struct store_expect *expect)
{
	enum store_verdict verdict;
	struct kept *k = *kp, *twin, *dead = NULL;
	struct name *n;

	assert(len > 0 && len <= STORE_NAME_MAX);
	pthread_mutex_lock(&s->lock);
	store_expire(s, &dead);
	n = store_name_find(s, k->owner, name, len);
	verdict = n != NULL ? STORE_REPLACED : STORE_CREATED;
	if (expect != NULL && (n != NULL ? n->k : NULL) != expect->current) {
		verdict = STORE_CHANGED;
		goto out;
	}
	if (n == NULL && s->n_names >= STORE_NAMES_MAX) {
		verdict = STORE_FULL;
		goto out;
	}
	if (n == NULL && (n = name_new(s, k->owner, name, len)) == NULL) {
		verdict = STORE_NO_MEMORY;
		goto out;
	}
	if (kept_id_known(k) != NULL && (twin = id_find(s, k->owner, k->id, TENSOR_ID_SIZE - 1)) != NULL && twin != k) {
		hold(s, twin);
		let_go(s, k, &dead);
		*kp = k = twin;
	}
	if (verdict == STORE_REPLACED)
		name_detach(s, n, &dead);
	n->ttl_ns = ttl_ns != 0 ? ttl_ns : s->c.ttl_ns;
	name_attach(s, n, k);
out:
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
	return verdict;
}

enum store_verdict
store_forget(struct store *s, uint32_t owner, const char *what, size_t len, const struct store_expect *expect)
{
	enum store_verdict verdict = STORE_CHANGED;
	struct kept *k, *dead = NULL;
	struct name *n;

	pthread_mutex_lock(&s->lock);
	store_expire(s, &dead);
	k = any_find(s, owner, what, len, &n);
	if (k != NULL && (expect == NULL || expect->current == k)) {
		if (!tensor_id_begins(what, len))
			name_drop(s, n, &dead);
		else /* there may be several, see the top of this file */
			for (; k != NULL; k = id_find(s, owner, what, len))
				names_drop(s, k, &dead);
		verdict = STORE_REPLACED;
	}
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
	return verdict;
}

void
store_sweep(struct store *s)
{
	struct kept *dead = NULL;

	pthread_mutex_lock(&s->lock);
	store_expire(s, &dead);
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
}
