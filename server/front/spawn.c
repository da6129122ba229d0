/*
 * spawn.c: starts worker processes for supervisor.c. posix_spawn because a process with threads and a GPU library
 * to come must be a fresh one, and because forking a large front is slow.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "front/spawn.h"
#include "log.h"
#include "msg.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

extern char **environ;

/* The folder of this executable; "" when it cannot be told. */
static void
own_folder(char *here, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", here, size - 1);
	char *slash;

	here[n > 0 ? n : 0] = '\0';
	slash = strrchr(here, '/');
	here[slash ? slash - here : 0] = '\0';
}

static bool
is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The folder that holds gfx942/, where `path` is one above it, AITER's own or its package's, or gfx942/ itself; as it is
 * where there is none: a worker says what it misses there. */
static void
find_objects(char *path, size_t size)
{
	static const char *const places[] = {"", "/hsa", "/.."};
	char at[1100];
	size_t len = strlen(path);

	for (size_t i = 0; len > 0 && i < sizeof(places) / sizeof(places[0]); i++) {
		if ((size_t)snprintf(at, sizeof(at), "%s%s/gfx942/fmha_v3_fwd", path, places[i]) >= sizeof(at) ||
		    !is_folder(at) || len + strlen(places[i]) >= size)
			continue;
		memcpy(path + len, places[i], strlen(places[i]) + 1);
		return;
	}
}

int
spawn_aiter_dir(const char *option, char *path, size_t size, struct err *e)
{
	const char *aiters = getenv("AITER_ASM_DIR"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	/* Where it is installed; where ./run aiter puts them as root. */
	static const char *const installed[] = {PKGDATADIR, "/usr/local/share/aiterd"};
	int n = 0;

	path[0] = '\0';
	if (strcmp(option, "none") == 0)
		return 0;
	if (*option) {
		if ((size_t)snprintf(path, size, "%s", option) >= size || !is_folder(path))
			return err_param(e, ERR_INVALID_PARAMETER, "--aiter-dir", option, "a folder that holds gfx942/",
					 "--aiter-dir: '%.200s' is no folder", option);
		find_objects(path, size);
		return 0;
	}
	if (aiters && *aiters) {
		if ((size_t)snprintf(path, size, "%s", aiters) >= size)
			path[0] = '\0';
		find_objects(path, size);
		return 0;
	}
	if (data && *data)
		n = snprintf(path, size, "%s/aiterd/aiter", data);
	else if (home && *home)
		n = snprintf(path, size, "%s/.local/share/aiterd/aiter", home);
	if (n > 0 && (size_t)n < size && is_folder(path))
		return 0;
	for (size_t i = 0; i < sizeof(installed) / sizeof(installed[0]); i++)
		if ((size_t)snprintf(path, size, "%s/aiter", installed[i]) < size && is_folder(path))
			return 0;
	path[0] = '\0';
	return 0;
}

int
spawn_find(const char *worker_dir, const char *kind, char *path, size_t size, struct err *e)
{
	char here[512] = "";
	const char *dirs[2] = {NULL, NULL};
	ssize_t n;

	if (worker_dir && *worker_dir) {
		dirs[0] = worker_dir;
	} else {
		own_folder(here, sizeof(here));
		if (*here)
			dirs[0] = here;
#ifdef PKGLIBEXECDIR
		dirs[dirs[0] ? 1 : 0] = PKGLIBEXECDIR;
#endif
	}
	for (int i = 0; i < 2 && dirs[i]; i++) {
		n = snprintf(path, size, "%s/aiterd-worker-%s", dirs[i], kind);
		if (n > 0 && (size_t)n < size && access(path, X_OK) == 0)
			return 0;
	}
	return err_set(e, ERR_DEVICE_UNAVAILABLE, "there is no executable aiterd-worker-%s in %s%s%s", kind,
		       dirs[0] ? dirs[0] : "any known place", dirs[1] ? " or " : "", dirs[1] ? dirs[1] : "");
}

/* A copy of fd at `floor` or above, where no descriptor the worker expects is overwritten; closes fd. */
static int
raise_fd(int fd, int floor)
{
	int raised;

	if (fd == -1 || fd >= floor)
		return fd;
	raised = fcntl(fd, F_DUPFD_CLOEXEC, floor);
	close(fd);
	return raised;
}

static void
close_all(int *fds, int n)
{
	for (int i = 0; i < n; i++)
		if (fds[i] != -1)
			close(fds[i]);
}

/* Child's ends, in the order of its descriptors from WORKER_FD_BASE on: loops, control, status page. */
static int
ends_make(int loops, int status_fd, struct spawned *s, int *ends, int *output)
{
	int floor = WORKER_FD_BASE + loops + 2, pipes[2], pair[2];

	if (pipe2(pipes, O_CLOEXEC) == -1)
		return -1;
	s->output = pipes[0];
	*output = raise_fd(pipes[1], floor);
	if (*output == -1 || fcntl(s->output, F_SETFL, O_NONBLOCK) == -1)
		return -1;
	for (int i = 0; i <= loops; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1)
			return -1;
		*(i < loops ? &s->socks[i] : &s->control) = pair[0];
		ends[i] = raise_fd(pair[1], floor);
		if (ends[i] == -1)
			return -1;
	}
	ends[loops + 1] = fcntl(status_fd, F_DUPFD_CLOEXEC, floor);
	return ends[loops + 1] == -1 ? -1 : 0;
}

int
spawn_worker(const char *path, int ordinal, int loops, int threads, const char *aiter_dir, int status_fd,
	     struct spawned *s, struct err *e)
{
	int *ends = xcalloc((unsigned)loops + 2, sizeof(int)), output = -1, rc;
	char ordinal_text[16], loops_text[16], threads_text[16];
	const char *slash = strrchr(path, '/');
	char *argv[10], *name = xstrdup(slash ? slash + 1 : path), *dir = aiter_dir ? xstrdup(aiter_dir) : NULL;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;

	*s = (struct spawned){.pid = -1, .pidfd = -1, .control = -1, .output = -1};
	s->socks = xcalloc((unsigned)loops, sizeof(int));
	for (int i = 0; i < loops + 2; i++)
		ends[i] = -1;
	for (int i = 0; i < loops; i++)
		s->socks[i] = -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	if (ends_make(loops, status_fd, s, ends, &output) == -1) {
		rc = err_set(e, ERR_OVERLOADED, "no sockets for a worker: %s", strerror(errno));
		goto out;
	}

	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	for (int i = 0; i < loops + 2; i++)
		posix_spawn_file_actions_adddup2(&actions, ends[i], WORKER_FD_BASE + i);
	/* Signals as in a fresh program, and a group of its own: Ctrl-C is for the front, which tells the workers. */
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

	snprintf(ordinal_text, sizeof(ordinal_text), "%d", ordinal);
	snprintf(loops_text, sizeof(loops_text), "%d", loops);
	snprintf(threads_text, sizeof(threads_text), "%d", threads);
	argv[0] = name;
	argv[1] = (char[]){"--ordinal"};
	argv[2] = ordinal_text;
	argv[3] = (char[]){"--loops"};
	argv[4] = loops_text;
	argv[5] = (char[]){"--threads"};
	argv[6] = threads_text;
	argv[7] = aiter_dir ? (char[]){"--aiter-dir"} : NULL;
	argv[8] = dir;
	argv[9] = NULL;
	rc = posix_spawn(&s->pid, path, &actions, &attr, argv, environ);
	if (rc != 0) {
		s->pid = -1;
		rc = err_set(e,
			     rc == EAGAIN || rc == ENOMEM || rc == EMFILE || rc == ENFILE || rc == ETXTBSY
				     ? ERR_OVERLOADED
				     : ERR_DEVICE_UNAVAILABLE,
			     "%s cannot be started: %s", path, strerror(rc));
		goto out;
	}
#ifdef SYS_pidfd_open
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
#endif
	rc = 0;
out:
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	close_all(ends, loops + 2);
	close_all(&output, 1);
	free(ends);
	free(name);
	free(dir);
	if (rc == -1) {
		close_all(s->socks, loops);
		close_all(&s->control, 1);
		close_all(&s->output, 1);
		free(s->socks);
		s->socks = NULL;
	}
	return rc;
}
