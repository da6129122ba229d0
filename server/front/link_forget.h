/* link_forget.h: a worker hears which kept tensors are gone. For link.c. */
#ifndef AITERD_LINK_FORGET_H
#define AITERD_LINK_FORGET_H

#include "front/store.h"
#include "line.h"

/* Those that went since *gone, which moves on. 0: all is told; 1: there is no room in the line at the moment. */
int link_forget(struct line *line, struct store *store, uint64_t *gone);

#endif
