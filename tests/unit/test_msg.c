/*
 * test_msg.c: packets with and without a descriptor, ends of file, full sockets, and what is no message of ours.
 */
#include <criterion/criterion.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "msg.h"

static int
fd_count(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void
pair(int s[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
}

static union {
	struct msg m;
	struct msg_job job;
	struct msg_done done;
	char bytes[1 << 16];
} buf;

Test(msg, round_trip)
{
	struct msg_job job;
	struct msg_map map = {.m = {MSG_MAP, sizeof(map), 0}, .slab = 7, .bytes = 4096};
	int s[2], fd, file, before = fd_count();

	pair(s);
	memset(&job, 0x5a, sizeof(job));
	job.m = (struct msg){MSG_JOB, sizeof(job), 42};
	cr_assert_eq(msg_send(s[0], &job, sizeof(job), -1), 0);
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), (int)sizeof(job));
	cr_assert_eq(fd, -1);
	cr_assert_eq(memcmp(&buf.job, &job, sizeof(job)), 0);

	file = memfd_create("test", MFD_CLOEXEC);
	cr_assert_eq(pwrite(file, "hello", 5, 0), 5);
	cr_assert_eq(msg_send(s[0], &map, sizeof(map), file), 0);
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), (int)sizeof(map));
	cr_assert_neq(fd, -1);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(pread(fd, buf.bytes, 5, 0), 5);
	cr_assert_eq(memcmp(buf.bytes, "hello", 5), 0);
	close(fd);
	close(file);

	errno = 0;
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), -1);
	cr_assert_eq(errno, EAGAIN);
	close(s[0]);
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), 0);
	cr_assert_eq(msg_send(s[1], &job, sizeof(job), -1), -1);
	close(s[1]);
	cr_assert_eq(fd_count(), before);
}

Test(msg, full_socket_loses_nothing)
{
	struct msg_done done = {.m = {MSG_DONE, sizeof(done), 0}};
	int s[2], fd, sent = 0, got = 0, r;

	pair(s);
	while ((r = msg_send(s[0], &done, sizeof(done), -1)) == 0) {
		sent++;
		done.m.id++;
	}
	cr_assert_eq(r, 1);
	cr_assert_gt(sent, 10);
	while (msg_recv(s[1], &buf, sizeof(buf), &fd) > 0)
		cr_assert_eq(buf.m.id, (uint64_t)got++);
	cr_assert_eq(got, sent);
	/* A peer that died with unread mail in its box reads as the end of file. */
	cr_assert_eq(msg_send(s[0], &done, sizeof(done), -1), 0);
	close(s[1]);
	cr_assert_eq(msg_recv(s[0], &buf, sizeof(buf), &fd), 0);
	cr_assert_eq(msg_send(s[0], &done, sizeof(done), -1), -1);
	close(s[0]);
}

Test(msg, garbage)
{
	struct msg m = {MSG_PING, sizeof(m), 1};
	int s[2], fd, before = fd_count();
	union {
		struct cmsghdr c;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	pair(s);
	for (size_t n = 1; n < sizeof(m); n++) {
		cr_assert_eq(send(s[0], &m, n, 0), (ssize_t)n);
		cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), -1);
		cr_assert_eq(errno, EPROTO, "%zu bytes", n);
	}
	m.length++;
	cr_assert_eq(msg_send(s[0], &m, sizeof(m), -1), 0);
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), -1);
	cr_assert_eq(errno, EPROTO);
	m.length--;
	/* Too long for the reader: not cut short in silence; the descriptor that came along is not leaked. */
	cr_assert_eq(msg_send(s[0], &m, sizeof(m), s[0]), 0);
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(m) - 1, &fd), -1);
	cr_assert_eq(errno, EPROTO);
	cr_assert_eq(fd, -1);
	/* Two descriptors. */
	memset(&control, 0, sizeof(control));
	control.c.cmsg_level = SOL_SOCKET;
	control.c.cmsg_type = SCM_RIGHTS;
	control.c.cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(&control.c), s, sizeof(s));
	cr_assert_eq(sendmsg(s[0], &mh, 0), (ssize_t)sizeof(m));
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), -1);
	cr_assert_eq(errno, EPROTO);
	/* Still usable. */
	cr_assert_eq(msg_send(s[0], &m, sizeof(m), -1), 0);
	cr_assert_eq(msg_recv(s[1], &buf, sizeof(buf), &fd), (int)sizeof(m));
	close(s[0]);
	close(s[1]);
	cr_assert_eq(fd_count(), before);
}

Test(msg, names)
{
	static const char *const names[] = {"auto", "aiter", "own", "naive", "reference"};

	for (int i = 0; i < IMPL_COUNT; i++) {
		cr_assert_str_eq(impl_name((enum impl)i), names[i]);
		cr_assert_eq(impl_find(names[i], strlen(names[i])), i);
		cr_assert_eq(impl_find(names[i], strlen(names[i]) - 1), -1);
	}
	cr_assert_eq(impl_find("", 0), -1);
	cr_assert_eq(impl_find("AUTO", 4), -1);
	cr_assert_eq(impl_find("autox", 5), -1);
	cr_assert(strlen(msg_build()) > 4 && strlen(msg_build()) < 64);
	cr_assert_str_eq(msg_build(), msg_build());
}
