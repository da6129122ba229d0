/* listen.c: see listen.h. */
#include "front/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "front/loop.h"
#include "log.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#define BACKLOG 4096
#define HOST_MAX 256

static void
announce(struct service *svc, struct text *lines, const char *url)
{
	if (svc->address[0] == '\0')
		snprintf(svc->address, sizeof(svc->address), "%s", url);
	text_addf(lines, "listening on %s\n", url);
}

/* One TCP socket bound to `addr`, where a port that was 0 is filled in; -1 and errno. */
static int
tcp_socket(struct service *svc, struct sockaddr_storage *addr, socklen_t len)
{
	const char *cc = svc->opt->tcp_congestion;
	int one = 1, fd, saved;

	fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (addr->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if ((cc[0] == '\0' || setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strlen(cc)) == 0) &&
	    bind(fd, (struct sockaddr *)addr, len) == 0 && listen(fd, BACKLOG) == 0 &&
	    getsockname(fd, (struct sockaddr *)addr, &len) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Two sockets may share an address only when both ask for it: so an address that another program, or another aiterd,
 * serves must be tried without asking. */
static int
address_is_free(const struct sockaddr_storage *addr, socklen_t len)
{
	int one = 1, r, saved, fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (addr->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	r = bind(fd, (const struct sockaddr *)addr, len);
	saved = errno;
	close(fd);
	errno = saved;
	return r;
}

/* getaddrinfo() would take 65537 for 1. */
static bool
port_good(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n > 0 && n <= 5 && s[n] == '\0' && strtoul(s, NULL, 10) <= 65535;
}

static int
bad_spec(const char *spec, struct err *e)
{
	char found[100];

	text_clip(found, sizeof(found), spec, strlen(spec));
	return err_param(
		e, ERR_INVALID_PARAMETER, "--listen", found, "HOST:PORT, [IPv6]:PORT, *:PORT or unix:PATH",
		"--listen: found '%s', wanted HOST:PORT, [IPv6]:PORT, *:PORT (PORT from 0 to 65535) or unix:PATH "
		"(a path of 1 to %zu bytes)",
		found, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
}

static int
check_spec(const char *spec, struct err *e)
{
	const char *colon = strrchr(spec, ':');
	size_t n;

	if (strncmp(spec, "unix:", 5) == 0) {
		n = strlen(spec + 5);
		return n > 0 && n < sizeof(((struct sockaddr_un *)NULL)->sun_path) ? 0 : bad_spec(spec, e);
	}
	return colon != NULL && (size_t)(colon - spec) < HOST_MAX && port_good(colon + 1) ? 0 : bad_spec(spec, e);
}

int
listen_check(const char *list, struct err *e)
{
	char *copy = xstrdup(list), *p, *spec, *save = NULL;
	int r = 0, n = 0;

	for (p = copy; r == 0 && (spec = strtok_r(p, ",", &save)) != NULL; p = NULL, n++)
		r = check_spec(spec, e);
	free(copy);
	return r == 0 && n == 0 ? bad_spec(list, e) : r;
}

static int
open_tcp(struct service *svc, const char *spec, struct text *lines, struct err *e)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list = NULL,
			*ai;
	char host[HOST_MAX], shown[INET6_ADDRSTRLEN], url[ADDRESS_MAX];
	const char *colon = strrchr(spec, ':'), *name = host;
	struct sockaddr_storage addr;
	size_t n;
	int i, r, fd, port = 0;

	n = (size_t)(colon - spec);
	memcpy(host, spec, n);
	host[n] = '\0';
	if (host[0] == '[' && n > 1 && host[n - 1] == ']') {
		host[n - 1] = '\0';
		name = host + 1;
	} else if (strcmp(host, "*") == 0 || host[0] == '\0') {
		name = NULL;
	}
	if ((r = getaddrinfo(name, colon + 1, &hints, &list)) != 0)
		return err_param(e, ERR_INVALID_PARAMETER, "listen", spec, "an address of this machine",
				 "--listen %s: %s", spec, gai_strerror(r));
	for (ai = list; ai != NULL; ai = ai->ai_next) {
		memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
		if (name == NULL && port != 0) { /* every family of "*" at the port the first one got */
			if (addr.ss_family == AF_INET)
				((struct sockaddr_in *)&addr)->sin_port = htons((uint16_t)port);
			else
				((struct sockaddr_in6 *)&addr)->sin6_port = htons((uint16_t)port);
		}
		if (address_is_free(&addr, ai->ai_addrlen) == -1) {
			if (errno == EAFNOSUPPORT && ai->ai_next != NULL)
				continue;
			err_param(e, ERR_INVALID_PARAMETER, "listen", spec, "a free address", "--listen %s: %s", spec,
				  strerror(errno));
			goto fail;
		}
		for (i = 0; i < svc->n_loops; i++) {
			if ((fd = tcp_socket(svc, &addr, ai->ai_addrlen)) == -1) {
				err_set(e, ERR_INVALID_PARAMETER,
					"--listen %s: a socket for each loop could not be opened: %s", spec,
					strerror(errno));
				goto fail;
			}
			loop_listen(svc->loops[i], fd, false, true);
		}
		port = ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *)&addr)->sin_port
						       : ((struct sockaddr_in6 *)&addr)->sin6_port);
		if (addr.ss_family == AF_INET) {
			inet_ntop(AF_INET, &((struct sockaddr_in *)&addr)->sin_addr, shown, sizeof(shown));
			snprintf(url, sizeof(url), "http://%s:%d", shown, port);
		} else {
			inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&addr)->sin6_addr, shown, sizeof(shown));
			snprintf(url, sizeof(url), "http://[%s]:%d", shown, port);
		}
		announce(svc, lines, url);
		if (name != NULL) /* a name with several addresses: the first one is meant */
			break;
	}
	freeaddrinfo(list);
	return 0;
fail:
	freeaddrinfo(list);
	return -1;
}

static void
share(struct service *svc, int fd, bool tcp)
{
	int i;

	for (i = 0; i < svc->n_loops; i++)
		loop_listen(svc->loops[i], fd, true, tcp);
}

static int
open_unix(struct service *svc, const char *path, struct text *lines, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char url[ADDRESS_MAX];
	struct stat st;
	int fd;

	memcpy(addr.sun_path, path, strlen(path) + 1);
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) == -1)
		return err_set(e, ERR_INTERNAL, "socket: %s", strerror(errno));
	/* A socket that nobody serves any more is left over from a crash. */
	if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == -1 &&
	    errno == ECONNREFUSED)
		unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == -1 || listen(fd, BACKLOG) == -1) {
		err_param(e, ERR_INVALID_PARAMETER, "listen", path, "a free path", "--listen unix:%s: %s", path,
			  strerror(errno));
		close(fd);
		return -1;
	}
	share(svc, fd, false);
	snprintf(url, sizeof(url), "unix:%s", path);
	announce(svc, lines, url);
	return 0;
}

#ifdef HAVE_SYSTEMD
static int
open_inherited(struct service *svc, int n, struct text *lines, struct err *e)
{
	char url[ADDRESS_MAX];
	int i, fd, flags;

	for (i = 0; i < n; i++) {
		fd = SD_LISTEN_FDS_START + i;
		/* systemd passes them blocking unless told otherwise; a loop must never wait in accept. */
		if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0 || (flags = fcntl(fd, F_GETFL)) == -1 ||
		    fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1)
			return err_set(e, ERR_INVALID_PARAMETER,
				       "systemd passed descriptor %d, which is no listening stream socket", fd);
		share(svc, fd, sd_is_socket_inet(fd, AF_UNSPEC, SOCK_STREAM, 1, 0) > 0);
		snprintf(url, sizeof(url), "systemd:%d", i);
		announce(svc, lines, url);
	}
	return 0;
}
#endif

/* --tcp-congestion is a name that this kernel knows and this user may choose. */
static int
congestion_check(const char *name, struct err *e)
{
	int fd, r, saved;

	if (name[0] == '\0')
		return 0;
	if ((fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		return err_set(e, ERR_INTERNAL, "socket: %s", strerror(errno));
	r = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
	saved = errno;
	close(fd);
	if (r == 0)
		return 0;
	return err_param(e, ERR_INVALID_PARAMETER, "tcp-congestion", name,
			 "a name from /proc/sys/net/ipv4/tcp_available_congestion_control", "--tcp-congestion %s: %s",
			 name, strerror(saved));
}

int
listen_open(struct service *svc, struct text *lines, struct err *e)
{
	char *copy, *p, *spec, *save = NULL;
	int r = 0;
#ifdef HAVE_SYSTEMD
	int n = sd_listen_fds(1);

	if (n > 0)
		return open_inherited(svc, n, lines, e);
#endif
	if (congestion_check(svc->opt->tcp_congestion, e) == -1)
		return -1;
	copy = xstrdup(svc->opt->listen);
	for (p = copy; r == 0 && (spec = strtok_r(p, ",", &save)) != NULL; p = NULL)
		r = check_spec(spec, e) == -1	     ? -1
		    : strncmp(spec, "unix:", 5) == 0 ? open_unix(svc, spec + 5, lines, e)
						     : open_tcp(svc, spec, lines, e);
	free(copy);
	return r;
}

void
listen_close(struct service *svc)
{
	char *copy, *p, *spec, *save = NULL;

	if (strncmp(svc->address, "systemd:", 8) == 0) /* what --listen names is not ours */
		return;
	copy = xstrdup(svc->opt->listen);
	for (p = copy; (spec = strtok_r(p, ",", &save)) != NULL; p = NULL)
		if (strncmp(spec, "unix:", 5) == 0)
			unlink(spec + 5);
	free(copy);
}
