/*
 * link_forget.c: see link_forget.h. A device's copies of tensors that are gone (worker/copies.h) would be found by nobody
 * and only take its memory.
 */
#include "front/link_forget.h"

#include "msg.h"

int
link_forget(struct line *line, struct store *store, uint64_t *gone)
{
	struct msg_forget f = {.m = {.type = MSG_FORGET, .length = sizeof(f)}};
	uint64_t at = *gone;
	int n;

	while ((n = store_gone(store, &at, f.uids, MSG_FORGET_MAX)) != 0) {
		f.all = n == -1;
		f.n = n == -1 ? 0 : (uint32_t)n;
		if (line_put(line, &f, sizeof(f)) != 0)
			return 1;
		*gone = at;
	}
	return 0;
}
