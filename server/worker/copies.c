/* copies.c: see copies.h. Called by run.c for its jobs' tensors, by device.c when memory is short, by worker_main.c. */
#include "worker/copies.h"

#include <stdlib.h>

#include "worker/device.h"

/* Few are looked for often: they stand in front. */
static struct copy **
find(struct copies *c, uint64_t uid)
{
	struct copy **p = &c->first;

	while (*p && (*p)->uid != uid)
		p = &(*p)->next;
	return *p ? p : NULL;
}

static void
to_front(struct copies *c, struct copy **at)
{
	struct copy *copy = *at;

	*at = copy->next;
	copy->next = c->first;
	c->first = copy;
}

static void
drop(struct device *d, struct copy **at)
{
	struct copy *copy = *at;

	*at = copy->next;
	dev_free(d, copy->p, copy->bytes);
	free(copy);
}

static void
forget(struct device *d, struct copy **at)
{
	if ((*at)->held)
		(*at)->gone = true;
	else
		drop(d, at);
}

void *
copies_find(struct copies *c, uint64_t uid, uint64_t bytes)
{
	struct copy **at = find(c, uid);

	if (!at || (*at)->bytes != bytes || (*at)->gone)
		return NULL;
	to_front(c, at);
	c->first->held = true;
	return c->first->p;
}

void
copies_add(struct device *d, uint64_t uid, void *p, uint64_t bytes)
{
	struct copies *c = &d->copies;
	struct copy *copy = find(c, uid) ? NULL : calloc(1, sizeof(*copy));

	if (!copy) {
		dev_free(d, p, bytes);
		return;
	}
	*copy = (struct copy){.next = c->first, .uid = uid, .bytes = bytes, .p = p};
	c->first = copy;
}

void
copies_release(struct device *d)
{
	for (struct copy **at = &d->copies.first; *at;) {
		(*at)->held = false;
		if ((*at)->gone)
			drop(d, at);
		else
			at = &(*at)->next;
	}
}

bool
copies_drop(struct device *d)
{
	struct copy **last = NULL;

	for (struct copy **at = &d->copies.first; *at; at = &(*at)->next)
		if (!(*at)->held)
			last = at;
	if (!last)
		return false;
	drop(d, last);
	return true;
}

void
copies_forget(struct device *d, uint64_t uid)
{
	struct copy **at = find(&d->copies, uid);

	if (at)
		forget(d, at);
}

void
copies_clear(struct device *d)
{
	for (struct copy **at = &d->copies.first; *at;) {
		struct copy *copy = *at;

		forget(d, at);
		if (*at == copy)
			at = &copy->next;
	}
}
