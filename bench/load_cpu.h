/*
 * load_cpu.h: CPU time of the processes under test, as the scheduler counts it (/proc/PID/task/TID/schedstat): in
 * nanoseconds, so that a few requests are enough. Used by load.c only.
 */
#ifndef BENCH_LOAD_CPU_H
#define BENCH_LOAD_CPU_H

/* Watch a process; -1 when its times cannot be read. */
int cpu_watch(int pid);
/* 0: the measured part begins; 1: it ends. */
void cpu_mark(int which);
/* Print "cpu_ns":{"PID":ns,...}, into the report. */
void cpu_report(void);

#endif
