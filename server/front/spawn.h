/*
 * spawn.h: starting a worker process: finding its executable, its sockets, its pipe, its status page.
 * The supervisor's thread only.
 */
#ifndef AITERD_SPAWN_H
#define AITERD_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

#include "err.h"

struct spawned {
	pid_t pid;
	int pidfd;   /* -1: the kernel has none */
	int control; /* nonblocking, like the loops' sockets */
	int output;  /* its standard output and error, nonblocking */
	int *socks;  /* one per loop; the caller frees the array and what is left in it */
};

/* Path of aiterd-worker-<kind>; ERR_DEVICE_UNAVAILABLE naming the places where it is not. */
int spawn_find(const char *worker_dir, const char *kind, char *path, size_t size, struct err *e);

/* Where AITER's code objects are, into path: the option --aiter-dir, else AITER's own AITER_ASM_DIR, else where
 * kernels/install_aiter.sh puts them: aiterd/aiter in the user's data folder, or installed. The first two may also be gfx942/
 * itself, or hold hsa/. "" when there is no such folder,
 * or the option says "none". An option that names no folder is an error. */
int spawn_aiter_dir(const char *option, char *path, size_t size, struct err *e);

/* status_fd: the status page's memfd, passed on; aiter_dir: NULL: none. ERR_DEVICE_UNAVAILABLE when it can never work (no such
 * executable, not executable), ERR_OVERLOADED when it may work later. */
int spawn_worker(const char *path, int ordinal, int loops, int threads, const char *aiter_dir, int status_fd,
		 struct spawned *s, struct err *e);

#endif
