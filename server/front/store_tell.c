/* store_tell.c: what is told of kept tensors, and what may be their names; see store.h. Changes nothing but what is over. */
#include <assert.h>
#include <search.h>
#include <stdio.h>
#include <string.h>

#include "front/store_internal.h"
#include "text.h"

int
store_name_check(const char *name, size_t len, struct err *e)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	char shown[80];
	size_t fine = 0;

	while (fine < len && name[fine] != '\0' && strchr(allowed, name[fine]) != NULL)
		fine++;
	if (len > 0 && fine == len && len <= STORE_NAME_MAX)
		return 0;
	text_clip(shown, sizeof(shown), name, len);
	if (tensor_id_begins(name, len))
		return err_param(
			e, ERR_INVALID_PARAMETER, "name", shown, "a name",
			"'%s' is how contents are called, which comes by itself; give the tensor a name of your own",
			shown);
	return err_param(e, ERR_INVALID_PARAMETER, "name", shown, "1 to 128 of A-Z a-z 0-9 . _ -",
			 "'%s' cannot be a tensor's name; 1 to %d of A-Z a-z 0-9 . _ - can", shown, STORE_NAME_MAX);
}

/* Under the lock. */
static void
describe(struct store *s, const struct name *n, struct store_entry *entry)
{
	const struct kept *k = n->k;
	uint64_t now = s->c.now(), unused = k->users == 0 && now > k->used_ns ? now - k->used_ns : 0;

	*entry = (struct store_entry){.name = n->text,
				      .t = &k->t,
				      .id = kept_id_known(k),
				      .unused_ns = unused,
				      .left_ns = n->ttl_ns > unused ? n->ttl_ns - unused : 0,
				      .ttl_ns = n->ttl_ns,
				      .in_use = k->users > 0};
}

int
store_name_refused(enum store_verdict verdict, const char *name, struct err *e)
{
	char found[32];

	if (verdict == STORE_NO_MEMORY)
		return err_set(e, ERR_OUT_OF_MEMORY, "no memory for the tensor's name '%.130s'", name);
	if (verdict != STORE_FULL)
		return 0;
	snprintf(found, sizeof(found), "%d names", STORE_NAMES_MAX);
	return err_param(e, ERR_OVER_QUOTA, "name", found, "fewer",
			 "'%.130s' would be one name more than the %d that kept tensors may have; DELETE some", name,
			 STORE_NAMES_MAX);
}

struct walk {
	struct store *s;
	uint32_t owner;
	void (*add)(void *cls, const struct store_entry *entry);
	void *cls;
};

static void
walk_name(const void *node, VISIT which, void *cls)
{
	const struct name *n = *(struct name *const *)node;
	struct store_entry entry;
	struct walk *w = cls;

	if ((which != postorder && which != leaf) || n->owner != w->owner)
		return;
	describe(w->s, n, &entry);
	w->add(w->cls, &entry);
}

void
store_list(struct store *s, uint32_t owner, void (*add)(void *cls, const struct store_entry *entry), void *cls)
{
	struct walk w = {s, owner, add, cls};
	struct kept *dead = NULL;

	pthread_mutex_lock(&s->lock);
	store_expire(s, &dead);
	twalk_r(s->names, walk_name, &w);
	pthread_mutex_unlock(&s->lock);
	store_free_dead(s, dead);
}

void
store_entry(struct store *s, struct kept *k, const char *name, size_t len, struct store_entry *entry,
	    char room[STORE_NAME_MAX + 1])
{
	struct name *n;

	assert(len <= STORE_NAME_MAX);
	pthread_mutex_lock(&s->lock);
	n = store_name_find(s, k->owner, name, len);
	if (n == NULL || n->k != k)
		n = k->names;
	if (n != NULL) {
		describe(s, n, entry);
		memcpy(room, n->text, strlen(n->text) + 1);
	} else {
		*entry = (struct store_entry){.t = &k->t, .id = kept_id_known(k)};
		memcpy(room, name, len);
		room[len] = '\0';
	}
	entry->name = room;
	entry->in_use = k->users > 1;
	pthread_mutex_unlock(&s->lock);
}

void
store_stats(struct store *s, struct store_stats *st)
{
	pthread_mutex_lock(&s->lock);
	*st = (struct store_stats){.quota = s->c.quota,
				   .bytes = s->bytes,
				   .in_use = s->bytes - s->idle,
				   .tensors = s->n_tensors,
				   .names = s->n_names,
				   .evicted = s->evicted,
				   .expired = s->expired};
	pthread_mutex_unlock(&s->lock);
}

uint64_t
store_gone_position(struct store *s)
{
	uint64_t n;

	pthread_mutex_lock(&s->lock);
	n = s->n_gone;
	pthread_mutex_unlock(&s->lock);
	return n;
}

int
store_gone(struct store *s, uint64_t *position, uint64_t *uids, int n)
{
	int got = 0;

	pthread_mutex_lock(&s->lock);
	if (s->n_gone - *position > GONE_MAX) {
		*position = s->n_gone;
		got = -1;
	}
	while (got >= 0 && got < n && *position < s->n_gone)
		uids[got++] = s->gone[(*position)++ % GONE_MAX];
	pthread_mutex_unlock(&s->lock);
	return got;
}
