/*
 * maps.h: the front's slabs as a worker sees them, and the check of what the front sends. Main thread only.
 */
#ifndef AITERD_MAPS_H
#define AITERD_MAPS_H

#include "arena.h"
#include "err.h"
#include "msg.h"
#include "worker/device.h"

struct maps;

struct maps *maps_new(struct device *d);

/* Takes fd. Mapping the same slab again is fine (each loop tells); an older generation is ignored. */
int maps_add(struct maps *m, const struct msg_map *map, int fd, struct err *e);
void maps_remove(struct maps *m, const struct msg_map *map);

/* Check all that the worker will rely on, and point the tensors' data into the maps. */
int maps_job(const struct maps *m, struct msg_job *job, struct err *e);

#endif
