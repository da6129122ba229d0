/*
 * request_device.c: which device a request goes to, and why none takes it.
 * auto: the first device in --device's order that has the implementation, or the least busy of its kind. reference is
 * the cpu worker's, which always runs.
 */
#include <stdio.h>
#include <string.h>

#include "front/request.h"

static const char *
impls_text(uint32_t mask, char *buf, size_t size)
{
	size_t at = 0;
	int i;

	buf[0] = '\0';
	for (i = 0; i < IMPL_COUNT && at < size; i++)
		if ((mask & (1u << i)) != 0)
			at += (size_t)snprintf(buf + at, size - at, "%s%s", at > 0 ? ", " : "", impl_name((enum impl)i));
	return buf;
}

static bool
state_usable(enum worker_state s)
{
	return s == W_READY || s == W_STARTING || s == W_DEAD;
}

/* What a device can run of an operator, as bits; before its first HELLO what its kind can be expected to. */
static uint32_t
abilities(const struct device_state *d, uint32_t op)
{
	if (d->info.arch[0] != '\0')
		return d->info.impls[op];
	return strcmp(d->info.kind, "cpu") == 0 ? ~(1u << IMPL_AITER) : ~(1u << IMPL_REFERENCE);
}

/* Is this device asked for? By its id; by its kind alone where there is but one of it. */
static bool
device_meant(const struct device_state *d, const char *want, bool bare)
{
	return strcmp(want, "auto") == 0 || strcmp(want, d->id) == 0 || (bare && strcmp(want, d->info.kind) == 0);
}

/* How many devices are of this kind; their ids. */
static unsigned
devices_of(struct supervisor *sup, const char *kind, char *ids, size_t size)
{
	unsigned n = 0;

	ids[0] = '\0';
	for (unsigned i = 0; i < supervisor_devices(sup); i++) {
		struct device_state d;
		size_t at = strlen(ids);

		supervisor_device(sup, i, &d);
		if (kind != NULL && strcmp(d.info.kind, kind) != 0)
			continue;
		snprintf(ids + at, size - at, "%s%s", n++ > 0 ? ", " : "", d.id);
	}
	return n;
}

/* Why AITER's kernels cannot run this on a GPU that is up, as ": reason", or "". */
static void
why_no_aiter(const struct device_state *d, const struct op *op, char *why, size_t size)
{
	why[0] = '\0';
	if (d->info.arch[0] == '\0' || strcmp(d->info.kind, "cpu") == 0)
		return;
	if (!op->aiter)
		snprintf(why, size, ": AITER has no code object for it");
	else if (strcmp(d->info.kind, "cuda") == 0)
		snprintf(why, size, ": AITER's code objects are for AMD's GPUs");
	else if (d->info.aiter[0] != '\0')
		snprintf(why, size, ": %s has %.280s", d->id, d->info.aiter);
	else
		snprintf(why, size, ": %s has no folder of AITER's code objects; --aiter-dir names it", d->id);
}

/* No device that is meant has the implementation: what each has instead. */
static int
unavailable(struct request *req, bool bare, struct err *e)
{
	const struct compute_request *run = req->run;
	struct supervisor *sup = req->loop->svc->sup;
	char who[40] = "", impls[128], each[300] = "", why[340] = "";
	const char *baseline = run->run.baseline != IMPL_AUTO ? " with that baseline" : "";
	const char *impl = impl_name(run->run.impl);
	unsigned meant = 0;
	struct device_state d;
	uint32_t all = 0;

	for (unsigned i = 0; i < supervisor_devices(sup); i++) {
		uint32_t mask;
		size_t at = strlen(each);

		supervisor_device(sup, i, &d);
		if (!device_meant(&d, run->run.device, bare))
			continue;
		mask = abilities(&d, req->op_index);
		all |= mask;
		snprintf(who, sizeof(who), "%s has no", d.id);
		snprintf(each + at, sizeof(each) - at, "%s%s has %s", meant++ > 0 ? "; " : "", d.id,
			 impls_text(mask, impls, sizeof(impls)));
		if (run->run.impl == IMPL_AITER && (mask & (1u << IMPL_AITER)) == 0 && why[0] == '\0')
			why_no_aiter(&d, req->op, why, sizeof(why));
	}
	if (run->run.impl == IMPL_AITER && (all & (1u << IMPL_AITER)) == 0 && why[0] == '\0')
		snprintf(why, sizeof(why), ": AITER's kernels are gfx942 machine code, which the cpu device cannot run");
	impls_text(all, impls, sizeof(impls));
	if (meant > 1)
		snprintf(who, sizeof(who), "no device here has the");
	return err_param(e, ERR_UNAVAILABLE_IMPL, "impl", impl, impls, "%s %s implementation of %s%s%s; %s", who, impl,
			 req->op->name, baseline, why, each);
}

void
request_device_done(struct request *req)
{
	if (req->run->chosen > 0)
		atomic_fetch_sub(&req->loop->svc->devices[req->run->chosen - 1].chosen, 1);
	req->run->chosen = 0;
}

static void
choose(struct request *req, unsigned device)
{
	request_device_done(req);
	req->run->device = device;
	req->run->chosen = device + 1;
	atomic_fetch_add(&req->loop->svc->devices[device].chosen, 1);
}

/* Over all loops. A worker that is still to come counts as busier than any that is there. */
static unsigned
load_of(const struct service *svc, unsigned device, const struct device_state *d)
{
	return atomic_load(&svc->devices[device].chosen) + (d->state == W_READY ? 0 : 1u << 30);
}

int
request_device(struct request *req, struct err *e)
{
	struct compute_request *run = req->run;
	struct service *svc = req->loop->svc;
	const char *want = run->run.device;
	unsigned n = supervisor_devices(svc->sup), i, best = n, load, best_load = 0, of_kind = 0;
	struct device_state d;
	char best_kind[sizeof(d.info.kind)] = "";
	uint32_t impl_bit = 1u << run->run.impl, mask;
	char have[128] = "", ids[256] = "";
	bool known = false, away = false;

	if (strcmp(want, "auto") != 0)
		of_kind = devices_of(svc->sup, want, ids, sizeof(ids));
	for (i = 0; i < n; i++) {
		supervisor_device(svc->sup, i, &d);
		if (!device_meant(&d, want, of_kind == 1))
			continue;
		known = true;
		mask = abilities(&d, req->op_index);
		if (run->run.baseline != IMPL_AUTO && (mask & (1u << run->run.baseline)) == 0)
			mask = 0;
		if ((mask & impl_bit) == 0)
			continue;
		if (!state_usable(d.state)) {
			away = true;
			snprintf(have, sizeof(have), "%s is %s: %.80s", d.id, worker_state_name(d.state),
				 d.obituary.msg);
			continue;
		}
		load = load_of(svc, i, &d);
		if (best == n || (load < best_load && strcmp(d.info.kind, best_kind) == 0)) {
			best = i;
			best_load = load;
			memcpy(best_kind, d.info.kind, sizeof(best_kind));
		}
	}
	if (best < n) {
		choose(req, best);
		return 0;
	}
	if (!known && of_kind > 1)
		return err_param(e, ERR_UNKNOWN_DEVICE, "device", want, ids,
				 "there are %u devices of the kind '%s' here; give the id of one: %s", of_kind, want,
				 ids);
	(void)devices_of(svc->sup, NULL, ids, sizeof(ids));
	if (!known)
		return err_param(e, ERR_UNKNOWN_DEVICE, "device", want, ids,
				 "there is no device '%s' here; there is %s", want, ids);
	if (away)
		return err_set(e, ERR_DEVICE_UNAVAILABLE, "no device can run this at the moment: %s", have);
	return unavailable(req, of_kind == 1, e);
}
