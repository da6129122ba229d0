/*
 * msg.h: what front and worker say to each other.
 *
 * One SOCK_SEQPACKET socket pair per event loop and worker (fd 3 .. 3+loops-1 in the worker), plus one
 * control socket to the supervisor (fd 3+loops). Every message is one fixed-size struct that begins with
 * `struct msg`; both ends are the same build, which HELLO proves. Between loop and worker messages go through
 * rings in shared memory (line.h), which RINGS brings; the socket wakes who sleeps and carries descriptors. Tensors
 * never travel: they lie in arenas that both map, and MAP brings a slab's memfd (SCM_RIGHTS) once.
 *
 *   supervisor      worker            loop
 *      |<---- HELLO ---|                |      control socket: who I am, what I can run
 *      |----- PING --->|                |
 *      |<---- PONG ----|                |
 *      |               |<---- RINGS ----|      + fd; the first
 *      |               |<---- MAP ------|      + fd; before the first JOB that uses the slab
 *      |               |<---- JOB ------|      several may be queued
 *      |               |<---- CANCEL ---|      takes a queued job out; answered by DONE
 *      |               |----- DONE ---->|
 *      |               |<--- FORGET ----|      kept tensors that are gone, of which it may have copies
 *      |               |<---- BELL ---->|      there is something in the ring for you
 *
 * The worker notes in its status page (shared memory, see struct worker_status) which job it is running,
 * so that the front knows after a death which one must fail and which may go to the new worker.
 * End of file on any socket means the other side is gone: the worker then leaves at once.
 */
#ifndef AITERD_MSG_H
#define AITERD_MSG_H

#include <stdatomic.h>

#include "err.h"
#include "ops/op.h"
#include "tensor.h"

#define MSG_VERSION 3
#define MSG_OPS_MAX 32
#define MSG_IMPL_MAX 112
#define MSG_WHY_MAX 320
#define WORKER_FD_BASE 3

enum msg_type {
	MSG_HELLO = 1,
	MSG_PING,
	MSG_PONG,
	MSG_RINGS,
	MSG_MAP,
	MSG_UNMAP,
	MSG_JOB,
	MSG_CANCEL,
	MSG_DONE,
	MSG_BELL,
	MSG_FORGET
};

struct msg {
	uint32_t type;
	uint32_t length; /* of the whole struct; a packet of another size is garbage */
	uint64_t id;	 /* JOB, CANCEL, DONE: the job; PING, PONG: a number to echo */
};

/* Which implementations a device has, as bits. */
enum impl { IMPL_AUTO, IMPL_AITER, IMPL_OWN, IMPL_NAIVE, IMPL_REFERENCE, IMPL_COUNT };
const char *impl_name(enum impl impl);
int impl_find(const char *name, size_t len); /* -1: unknown */

struct device_info {
	char kind[16];	  /* "cpu", "hip", "cuda", "emulated" */
	char name[96];	  /* "AMD EPYC 9654", "AMD Instinct MI300X" */
	char arch[32];	  /* "x86_64+avx512", "gfx942" */
	char runtime[48]; /* "" for cpu; HIP, CUDA runtime version */
	char driver[48];
	uint32_t compute_units;		    /* cpu: threads used */
	uint32_t clock_mhz;		    /* 0: unknown */
	uint64_t memory_total, memory_free; /* bytes; cpu: of the machine */
	uint64_t cache_bytes;		    /* of the last-level cache; cpu: of all together; 0: unknown */
	char aiter[MSG_WHY_MAX]; /* which of AITER's kernels it has, or what is wrong with them; "": no talk of any */
	uint8_t timing_meaningless; /* emulated */
	uint8_t reserved0[7];
	uint32_t impls[MSG_OPS_MAX]; /* per operator of the table: 1 << enum impl */
};

struct msg_hello {
	struct msg m;
	uint32_t version;
	uint32_t pid;
	char build[64]; /* must equal the front's */
	struct device_info device;
};

struct msg_map { /* + the memfd as SCM_RIGHTS; UNMAP without */
	struct msg m;
	uint32_t slab, generation;
	uint64_t bytes;
};

/* A job that is timed with care: bench.h in worker/ tells how. */
enum bench_mode { BENCH_NONE, BENCH_COLD, BENCH_WARM };

struct msg_job {
	struct msg m;
	struct op_call call;
	uint64_t kept[OP_TENSORS_MAX]; /* uids of kept tensors: an input that is one, an output that will be; 0: not kept */
	uint32_t impl;		       /* enum impl, not necessarily resolved */
	uint32_t baseline;	       /* enum impl to time beside it (IMPL_NAIVE), or IMPL_AUTO for none */
	uint32_t warmup, iters;	       /* iters >= 1 */
	uint32_t flush;		       /* clear the caches before each timed iteration */
	uint32_t dry;		       /* do not run: say what would; tensors have no place in memory */
	uint32_t bench;		       /* enum bench_mode */
	uint32_t reserved0;
	/* For each timed run's milliseconds in their order: fp64 [1 or, with a baseline, 2, iters]. DT_NONE: not wanted. */
	struct tensor samples;
	uint64_t deadline_ns;  /* CLOCK_MONOTONIC; a job whose time is up when its turn comes is refused */
	uint64_t submitted_ns; /* the same clock; link_submit sets it */
};

#define MSG_FORGET_MAX 30

struct msg_forget {
	struct msg m;
	uint32_t n; /* uids follow */
	uint32_t all;
	uint64_t uids[MSG_FORGET_MAX];
};

struct sample_stats {
	uint32_t warmup, iters;
	double min, median, mean, p95, max, stddev; /* milliseconds */
};

struct memory_stats { /* bytes */
	uint64_t allocated_before, inputs, outputs, workspace, peak;
	uint64_t cached; /* inputs that the device had: of allocated_before, not of inputs */
	uint64_t device_free, device_total;
};

/* What became of a bench job beside its times. */
struct bench_outcome {
	uint64_t cache_bytes;	 /* the device's last-level cache, as the worker took it */
	uint64_t rotation_bytes; /* of inputs and outputs that the runs went through in turn */
	uint32_t copies;	 /* of them; 1: always the same */
	uint8_t cold;	   /* what a run touches had left the caches: rotation_bytes is at least twice cache_bytes */
	uint8_t validated; /* the timed runs' outputs are those of the first run, or as near as the operator's tolerance */
	uint8_t identical; /* and bit for bit so */
	uint8_t reserved0;
	double max_diff_after;	/* largest difference; NaN when a side has a NaN the other lacks */
	char note[MSG_WHY_MAX]; /* why it is not cold though asked for, where the outputs differ; "": nothing to say */
};

struct msg_done {
	struct msg m;
	struct err err;			 /* code ERR_NONE: it worked */
	char impl[MSG_IMPL_MAX];	 /* "cpu:avx512", "reference", "own:attn_fwd_f16_d64" */
	char why_not_aiter[MSG_WHY_MAX]; /* of a dry job; "": it would be AITER's */
	struct sample_stats kernel;
	char baseline_impl[MSG_IMPL_MAX]; /* "" : none was asked for */
	struct sample_stats baseline;
	double baseline_max_abs_diff;  /* over all floating outputs; NaN when a side has a NaN the other lacks */
	double upload_ms, download_ms; /* host to device and back; 0 on the cpu, where nothing moves */
	double wait_ms;		       /* from its submission to its turn */
	struct memory_stats memory;
	struct bench_outcome bench;
};

/* The worker's status page: a memfd made by the supervisor, its fd is WORKER_FD_BASE + loops + 1. The
 * front reads it to tell which job was running at a death, since when, and how far the running one is. */
struct worker_status {
	_Atomic uint64_t running_loop; /* socket number + 1, 0: idle */
	_Atomic uint64_t running_id;
	_Atomic uint64_t running_since_ns; /* CLOCK_MONOTONIC */
	_Atomic uint64_t finished;	   /* jobs, ever */
	_Atomic uint64_t busy_ns;
	_Atomic uint64_t allocated, peak; /* device memory now, and ever */
	_Atomic uint64_t runs, runs_of;	  /* of the running job: done so far, in all; 0 of 0: not told yet */
};

/* What a build is called: version and a checksum of the message layout. */
const char *msg_build(void);

/*
 * Send or receive one message as a packet. `fd` (-1: none) goes along. Nonblocking sockets: msg_send returns 1 when it
 * would block, 0 when sent, -1 when the peer is gone. msg_recv returns bytes, 0 at end of file, -1 with
 * errno EAGAIN when nothing is there, -1 with EPROTO on a packet that is no message of ours.
 */
int msg_send(int sock, const void *m, size_t len, int fd);
int msg_recv(int sock, void *buf, size_t size, int *fd);

#endif
