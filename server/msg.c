/*
 * msg.c: packets between front and workers, and the names both ends share. Any thread; allocates nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "msg.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

static const char *const impl_names[IMPL_COUNT] = {
	[IMPL_AUTO] = "auto",	[IMPL_AITER] = "aiter",		[IMPL_OWN] = "own",
	[IMPL_NAIVE] = "naive", [IMPL_REFERENCE] = "reference",
};

static char build[64];
static pthread_once_t build_once = PTHREAD_ONCE_INIT;

/* Two builds whose messages differ in size are called differently, and so are two versions. */
static void
build_make(void)
{
	static const size_t sizes[] = {sizeof(struct msg_hello),
				       sizeof(struct msg_map),
				       sizeof(struct msg_job),
				       sizeof(struct msg_done),
				       sizeof(struct msg_forget),
				       sizeof(struct worker_status),
				       sizeof(struct op_value),
				       sizeof(struct tensor),
				       OP_TENSORS_MAX,
				       OP_PARAMS_MAX,
				       OP_DIMS_MAX,
				       ERR_COUNT,
				       DT_COUNT,
				       IMPL_COUNT};
	uint32_t sum = 2166136261u;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int shift = 0; shift < 32; shift += 8)
			sum = (sum ^ (uint32_t)(sizes[i] >> shift & 255)) * 16777619u;
	snprintf(build, sizeof(build), "%.40s m%d-%08x", PACKAGE_VERSION, MSG_VERSION, (unsigned)sum);
}

const char *
msg_build(void)
{
	pthread_once(&build_once, build_make);
	return build;
}

const char *
impl_name(enum impl impl)
{
	unsigned i = (unsigned)impl;

	return i < IMPL_COUNT ? impl_names[i] : "?";
}

int
impl_find(const char *name, size_t len)
{
	for (int i = 0; i < IMPL_COUNT; i++)
		if (strlen(impl_names[i]) == len && memcmp(impl_names[i], name, len) == 0)
			return i;
	return -1;
}

/* ENOBUFS, ENOMEM and too many descriptors in flight pass, as a full socket does. */
static bool
would_block(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM || error == ETOOMANYREFS;
}

int
msg_send(int sock, const void *m, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_len = len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	memcpy(&iov.iov_base, &m, sizeof(m)); /* sendmsg writes nothing there */
	if (fd != -1) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	if (n == (ssize_t)len)
		return 0;
	return n == -1 && would_block(errno) ? 1 : -1;
}

int
msg_recv(int sock, void *buf, size_t size, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.buf)};
	int got = -1, extra = 0;
	ssize_t n;
	struct msg m;

	*fd = -1;
	do
		n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n == -1) {
		if (errno == EWOULDBLOCK)
			errno = EAGAIN;
		/* A peer that left with unread mail in its box: the same as end of file to us. */
		return errno == ECONNRESET ? 0 : -1;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int f;

			memcpy(&f, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got == -1) {
				got = f;
			} else {
				close(f);
				extra = 1;
			}
		}
	}
	if (n == 0 && got == -1)
		return 0;
	if (extra || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (size_t)n < sizeof(m))
		goto bad;
	memcpy(&m, buf, sizeof(m));
	if (m.length != (size_t)n)
		goto bad;
	*fd = got;
	return (int)n;
bad:
	if (got != -1)
		close(got);
	errno = EPROTO;
	return -1;
}
