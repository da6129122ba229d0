/*
 * test_encode.c: bodies of replies. They are written to a directory with what they should hold, and check_encode.py,
 * which knows the formats from numpy and their specifications, reads them.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/encode.h"
#include "unit/intake_fixture.h"

#define STATS "{\"op\":\"sample\",\"timing_ms\":{\"total\":1.5},\"hints\":[\"a \\\"quoted\\\" one\"]}"
#define STATS_QUOTED                                                                                                   \
	"{\\\"op\\\":\\\"sample\\\",\\\"timing_ms\\\":{\\\"total\\\":1.5},\\\"hints\\\":[\\\"a \\\\\\\"quoted\\\\\\\" one\\\"]}"

static unsigned state = 1;

static unsigned
rnd(void)
{
	return (state = state * 1103515245u + 12345u) >> 8;
}

static FILE *
file(const char *dir, int number, const char *suffix)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%d.%s", dir, number, suffix);
	f = fopen(path, "wb");
	cr_assert(f);
	return f;
}

static void
write_case(const char *dir, int number, const struct encode_job *job, const struct body *b)
{
	static const char *const forms[] = {"npy", "safetensors", "json", "oip"}, *const modes[] = {"all", "none",
												    "digest"};
	FILE *f = file(dir, number, "body");
	uint64_t total = 0;

	for (int i = 0; i < b->n; i++) {
		cr_assert(b->pieces[i].n > 0);
		cr_assert_eq(fwrite(b->pieces[i].p, 1, b->pieces[i].n, f), b->pieces[i].n);
		total += b->pieces[i].n;
	}
	cr_assert_eq(total, b->bytes);
	fclose(f);
	f = file(dir, number, "txt");
	fprintf(f, "%s %s %d %s %" PRId64 " %s\n", forms[job->form], modes[job->mode], job->base64, b->content_type,
		b->oip_header_len, job->id ? job->id : "-");
	for (int i = 0; i < job->n; i++) {
		const struct tensor *t = job->tensors[i].t;

		fprintf(f, "%s %s %d", job->tensors[i].name, dtype_info(t->dtype)->name, job->tensors[i].binary);
		for (int k = 0; k < t->rank; k++)
			fprintf(f, " %" PRId64, t->shape[k]);
		fprintf(f, "\n");
	}
	fclose(f);
	f = file(dir, number, "raw");
	for (int i = 0; i < job->n; i++)
		if (job->tensors[i].t->bytes)
			cr_assert_eq(fwrite(job->tensors[i].t->data, 1, job->tensors[i].t->bytes, f),
				     job->tensors[i].t->bytes);
	fclose(f);
}

static void
remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(d), entry->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

/* A tensor of random bits (fp32 and fp64 then hold every kind of value), in the request's memory. */
static void
make(struct fixture *f, struct tensor *t, enum dtype dt, int rank, const int64_t *shape)
{
	struct err e = {0};

	cr_assert_eq(tensor_describe(t, "t", dt, rank, shape, &e), 0, "%s", e.msg);
	cr_assert_eq(mem_tensor(&f->mem, t, &e), 0, "%s", e.msg);
	for (uint64_t i = 0; i < t->bytes; i++)
		((unsigned char *)t->data)[i] = (unsigned char)(dt == DT_BOOL ? rnd() & 1 : rnd());
	/* half of the floats of moderate size */
	if (dt == DT_FP32 || dt == DT_FP64)
		for (int64_t i = 0; i < tensor_elements(t); i += 2)
			tensor_put(t, i, (double)((int)rnd() - 0x7fffff) / 4096);
}

Test(encode, read_back, .timeout = 120)
{
	static const int64_t shapes[][4] = {{0}, {3}, {2, 5}, {1, 1, 7}, {0, 4}, {6000}, {2, 3, 40, 50}};
	static const int ranks[] = {0, 1, 2, 3, 2, 1, 4};
	const char *src = getenv("AITERD_SRCDIR");
	char dir[] = "/tmp/encode-XXXXXX", command[512];
	struct err e = {0};
	int number = 0;

	cr_assert(mkdtemp(dir));
	for (int dt = DT_FP32; dt < DT_COUNT; dt++) {
		for (size_t s = 0; s < sizeof(ranks) / sizeof(ranks[0]); s++) {
			for (int variant = 0; variant < 8; variant++) {
				struct fixture f;
				struct tensor a, lse;
				struct encode_job job = {.form = FORM_SAFETENSORS,
							 .mode = DATA_ALL,
							 .n = 2,
							 .op = "sample",
							 .stats_json = STATS,
							 .stats_quoted = STATS_QUOTED};
				char room[300]; /* enough for some of the bodies, and of the heads */
				struct body b;

				if (variant % 2) {
					job.room = room;
					job.room_size = sizeof(room);
				}
				/* the large ones once per form and type */
				if (s >= 5 && variant > 4)
					continue;
				fixture_init(&f, &fixture_op);
				make(&f, &a, (enum dtype)dt, ranks[s], shapes[s]);
				make(&f, &lse, DT_FP32, 1, (const int64_t[]){5});
				job.tensors[0] = (struct encode_tensor){.name = "out", .t = &a};
				job.tensors[1] = (struct encode_tensor){.name = "softmax_lse", .t = &lse};
				switch (variant) {
				case 0:
					job.form = FORM_NPY;
					job.n = 1;
					break;
				case 1:
					break;
				case 2:
					job.form = FORM_JSON;
					break;
				case 3:
					job.form = FORM_OIP;
					job.id = "x-\"17\"";
					break;
				case 4:
					job.form = FORM_OIP;
					job.tensors[0].binary = true;
					job.tensors[1].binary = s % 2;
					break;
				case 5:
					job.form = FORM_JSON;
					job.base64 = true;
					break;
				case 6:
					job.form = s % 3 == 0 ? FORM_JSON : s % 3 == 1 ? FORM_SAFETENSORS : FORM_OIP;
					job.mode = DATA_NONE;
					break;
				default:
					job.form = s % 3 == 0 ? FORM_JSON : s % 3 == 1 ? FORM_SAFETENSORS : FORM_OIP;
					job.mode = DATA_DIGEST;
					digest_tensor(&a, &job.tensors[0].digest);
					digest_tensor(&lse, &job.tensors[1].digest);
				}
				cr_assert_eq(encode_body(&job, &f.mem, &b, &e), 0, "%s", e.msg);
				write_case(dir, number++, &job, &b);
				if (job.form == FORM_NPY || (job.form == FORM_SAFETENSORS && job.mode == DATA_ALL))
					cr_expect_eq(encode_cost(&job), 0);
				else if (job.form == FORM_JSON && job.mode == DATA_ALL)
					cr_expect_geq(encode_cost(&job), a.bytes);
				body_fini(&b);
				cr_expect(!b.owned && b.n == 0);
				fixture_fini(&f);
			}
		}
	}
	snprintf(command, sizeof(command), "/usr/bin/python3 %s/tests/unit/check_encode.py %s", src ? src : ".", dir);
	cr_expect_eq(system(command), 0, "check_encode.py found errors (above)");
	remove_dir(dir);
}

Test(encode, refused)
{
	struct fixture f;
	struct tensor a;
	struct body b;
	struct err e = {0};
	struct encode_job job = {.form = FORM_NPY, .mode = DATA_ALL, .n = 2, .op = "sample"};

	fixture_init(&f, &fixture_op);
	make(&f, &a, DT_FP32, 1, (const int64_t[]){5});
	job.tensors[0] = job.tensors[1] = (struct encode_tensor){.name = "out", .t = &a};
	cr_expect(encode_body(&job, &f.mem, &b, &e) == -1 && e.code == ERR_NOT_ACCEPTABLE, "%s", e.msg);
	body_fini(&b);
	job.n = 1;
	job.mode = DATA_NONE;
	cr_expect(encode_body(&job, &f.mem, &b, &e) == -1 && e.code == ERR_NOT_ACCEPTABLE, "%s", e.msg);
	body_fini(&b);
	job.form = FORM_NONE;
	cr_expect(encode_body(&job, &f.mem, &b, &e) == -1 && e.code == ERR_NOT_ACCEPTABLE, "%s", e.msg);
	body_fini(&b);
	/* a list for which the request has no memory left */
	make(&f, &a, DT_FP32, 1, (const int64_t[]){100000});
	f.mem.limit = 500000;
	job = (struct encode_job){
		.form = FORM_JSON, .mode = DATA_ALL, .n = 1, .op = "sample", .tensors = {{.name = "out", .t = &a}}};
	cr_expect(encode_body(&job, &f.mem, &b, &e) == -1, "memory for a megabyte of text was found in half of one");
	body_fini(&b);
	job.form = FORM_OIP;
	cr_expect_eq(encode_body(&job, &f.mem, &b, &e), -1);
	body_fini(&b);
	fixture_fini(&f);
}
