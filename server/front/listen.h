/* listen.h: the sockets a server is reached at. */
#ifndef AITERD_LISTEN_H
#define AITERD_LISTEN_H

#include "err.h"
#include "front/service.h"

/* Does --listen make sense as it is written? */
int listen_check(const char *list, struct err *e);
/*
 * Open what --listen names (or take what systemd passes) and give every loop its socket: TCP addresses once per loop
 * with SO_REUSEPORT, so that the kernel spreads connections; Unix and inherited sockets shared. Prints nothing; fills
 * svc->address with the first one, and `lines` with "listening on ..." lines.
 */
int listen_open(struct service *svc, struct text *lines, struct err *e);
/* Remove the Unix sockets' files. */
void listen_close(struct service *svc);

#endif
