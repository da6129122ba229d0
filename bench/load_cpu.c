/*
 * load_cpu.c: see load_cpu.h. Threads that end between the marks are not counted; the servers measured here keep
 * theirs.
 */
#include "load_cpu.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WATCHED_MAX 16

static struct {
	int pid;
	uint64_t ns[2];
} watched[WATCHED_MAX];
static int n_watched;

static int
read_ns(int pid, uint64_t *ns)
{
	char path[320];
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *d = opendir(path);
	if (d == NULL)
		return -1;
	*ns = 0;
	int found = 0;
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		uint64_t run;
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, e->d_name);
		FILE *f = fopen(path, "re");
		if (f == NULL)
			continue;
		if (fscanf(f, "%" SCNu64, &run) == 1) {
			*ns += run;
			found++;
		}
		fclose(f);
	}
	closedir(d);
	return found > 0 ? 0 : -1;
}

int
cpu_watch(int pid)
{
	if (n_watched == WATCHED_MAX || read_ns(pid, &watched[n_watched].ns[0]) != 0)
		return -1;
	watched[n_watched++].pid = pid;
	return 0;
}

void
cpu_mark(int which)
{
	for (int i = 0; i < n_watched; i++)
		if (read_ns(watched[i].pid, &watched[i].ns[which]) != 0)
			watched[i].ns[which] = 0;
}

void
cpu_report(void)
{
	printf("\"cpu_ns\":{");
	for (int i = 0; i < n_watched; i++)
		printf("%s\"%d\":%" PRIu64, i == 0 ? "" : ",", watched[i].pid, watched[i].ns[1] - watched[i].ns[0]);
	printf("},");
}
