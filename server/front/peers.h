/*
 * peers.h: how many connections each client address has open, over all loops, so that one client cannot take them all.
 * An IPv4 address counts by itself, an IPv6 address with its /64 network, which is what one customer has at least;
 * an IPv4-mapped IPv6 address is the IPv4 address. Others (Unix sockets) are not counted. Any thread.
 */
#ifndef AITERD_PEERS_H
#define AITERD_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct peers;
struct peer;

/* At most `limit` connections an address, 0: any number; `connections` in all, which only decides the table's size. NULL:
 * no memory. */
struct peers *peers_new(uint32_t limit, uint32_t connections);
void peers_free(struct peers **p); /* everything must have been given back */

/* One more from this address: true with *peer (NULL where nothing is counted), or false when it has as many as it may, or
 * memory is out. */
bool peers_take(struct peers *p, const struct sockaddr *addr, struct peer **peer);
/* The connection is over; *peer may be NULL and is afterwards. */
void peers_give(struct peers *p, struct peer **peer);
/* Addresses with connections at the moment. */
uint32_t peers_count(struct peers *p);

#endif
