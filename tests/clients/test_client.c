/*
 * test_client.c: libaiterd without a server: addresses, files that numpy and others wrote, files that nobody should read, what it
 * writes, ids. The verbatim files and ids were made by numpy 1.24 and Python's hashlib.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aiterd.h"
#include "lib.h"

#define SPACES20 "                    "

static char folder[64];

static void
make_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/aiterd-client-XXXXXX");
	cr_assert(mkdtemp(folder));
}

static void
remove_folder(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_assert(system(command) == 0);
}

static const char *
path_of(const char *name)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static const char *
with_bytes(const char *name, const void *p, size_t n)
{
	const char *path = path_of(name);
	FILE *f = fopen(path, "wb");

	cr_assert(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
	return path;
}

static struct aiterd *
any_server(void)
{
	struct aiterd *s;

	cr_assert(aiterd_open(&s, "http://127.0.0.1:1") == AITERD_OK);
	return s;
}

TestSuite(client, .init = make_folder, .fini = remove_folder);

Test(client, addresses)
{
	static const struct {
		const char *text, *base, *unix_path;
	} good[] = {
		{"http://127.0.0.1:8000", "http://127.0.0.1:8000", NULL},
		{"http://127.0.0.1:8000/", "http://127.0.0.1:8000", NULL},
		{"HTTP://Host:80", "http://Host:80", NULL},
		{"host:8000", "http://host:8000", NULL},
		{"host", "http://host", NULL},
		{"[::1]:8000", "http://[::1]:8000", NULL},
		{"https://gpu.example/aiterd/", "https://gpu.example/aiterd", NULL},
		{"unix:/run/aiterd.sock", "http://localhost", "/run/aiterd.sock"},
		{"unix:with space", "http://localhost", "with space"},
	};
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"ftp://host", "neither http nor https"},
		{"http://", "cannot be read"},
		{"http://host:99999", "cannot be read"},
		{"http://a b", "a blank"},
		{"http://host\r\nX: y", "a blank"},
		{"http://host/?a=b", "has a query"},
		{"http://me:pw@host", "AITERD_KEY"},
		{"http://host/#x", "fragment"},
		{"unix:", "names no socket"},
		{"file:///etc/passwd", "neither http nor https"},
	};
	struct lib_url url;
	char why[300], long_path[200] = "unix:";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert(lib_url_parse(good[i].text, &url, why, sizeof(why)) == 0, "%s: %s", good[i].text, why);
		cr_expect_str_eq(url.base, good[i].base);
		cr_expect((!url.unix_path && !good[i].unix_path) || !strcmp(url.unix_path, good[i].unix_path));
		free(url.base);
		free(url.unix_path);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(lib_url_parse(bad[i].text, &url, why, sizeof(why)) == -1, "%s is taken", bad[i].text);
		cr_expect(strstr(why, bad[i].says), "%s: %s", bad[i].text, why);
		cr_expect(!url.base && !url.unix_path);
	}
	memset(long_path + 5, 'x', 150);
	cr_expect(lib_url_parse(long_path, &url, why, sizeof(why)) == -1 && strstr(why, "107 bytes"));
}

Test(client, environment)
{
	struct aiterd *s;

	setenv("AITERD_URL", "http://one.example:1", 1);
	cr_assert(aiterd_open(&s, NULL) == AITERD_OK);
	cr_expect_str_eq(aiterd_url(s), "http://one.example:1");
	aiterd_close(s);
	cr_assert(aiterd_open(&s, "two.example") == AITERD_OK);
	cr_expect_str_eq(aiterd_url(s), "http://two.example");
	aiterd_close(s);
	setenv("AITERD_URL", "", 1);
	cr_assert(aiterd_open(&s, NULL) == AITERD_OK);
	cr_expect_str_eq(aiterd_url(s), AITERD_DEFAULT_URL);
	aiterd_close(s);
	setenv("AITERD_URL", "gopher://x", 1);
	cr_assert(aiterd_open(&s, NULL) == AITERD_BAD_ARGUMENT);
	cr_expect(strstr(aiterd_error(s), "gopher"));
	cr_expect(aiterd_get(s, "/v1/info", &(char *){NULL}) == AITERD_BAD_ARGUMENT);
	aiterd_close(s);
	unsetenv("AITERD_URL");
	setenv("AITERD_KEY", "a\nX-Evil: 1", 1);
	cr_assert(aiterd_open(&s, NULL) == AITERD_BAD_ARGUMENT, "a key with a line feed would add a header");
	aiterd_close(s);
}

Test(client, escape)
{
	char *p = aiterd_escape("a/b?c=d e\xc3\xa9-._~:");

	cr_assert_str_eq(p, "a%2Fb%3Fc%3Dd%20e%C3%A9-._~:");
	aiterd_free(p);
}

/* np.save of np.arange(6, dtype='<f4').reshape(2, 3) */
static const char numpy_f4[] =
	"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" SPACES20 SPACES20
	"                  \n\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\x00\x00\xa0@";

Test(client, npy_read)
{
	struct aiterd *s = any_server();
	struct aiterd_file *f;
	struct aiterd_tensor t;

	cr_assert(aiterd_file_open(s, with_bytes("a.npy", numpy_f4, sizeof(numpy_f4) - 1), &f) == AITERD_OK, "%s",
		  aiterd_error(s));
	cr_assert(aiterd_file_count(f) == 1 && aiterd_file_tensor(f, 0, &t) == AITERD_OK);
	cr_expect(t.dtype == AITERD_FP32 && t.rank == 2 && t.shape[0] == 2 && t.shape[1] == 3 && t.bytes == 24);
	for (int i = 0; i < 6; i++)
		cr_expect(aiterd_tensor_at(&t, i) == (double)i);
	cr_expect(aiterd_file_tensor(f, 1, &t) == AITERD_BAD_ARGUMENT);
	cr_expect(aiterd_file_tensor(f, -1, &t) == AITERD_BAD_ARGUMENT);
	aiterd_file_close(f);
	/* cut anywhere, or longer than it says */
	for (size_t n = 0; n < sizeof(numpy_f4) - 1; n++) {
		cr_assert(aiterd_file_open(s, with_bytes("cut.npy", numpy_f4, n), &f) == AITERD_BAD_FILE, "%zu bytes",
			  n);
		cr_expect(!f && strstr(aiterd_error(s), "cut.npy"), "%s", aiterd_error(s));
	}
	cr_assert(aiterd_file_open(s, with_bytes("long.npy", numpy_f4, sizeof(numpy_f4)), &f) == AITERD_BAD_FILE);
	cr_expect(strstr(aiterd_error(s), "too long"), "%s", aiterd_error(s));
	cr_assert(aiterd_file_open(s, path_of("none.npy"), &f) == AITERD_BAD_FILE);
	cr_expect(strstr(aiterd_error(s), "No such file"));
	cr_assert(aiterd_file_open(s, folder, &f) == AITERD_BAD_FILE);
	cr_expect(aiterd_file_open(NULL, path_of("none.npy"), &f) == AITERD_BAD_FILE, "works without a server too");
	aiterd_close(s);
}

/* A file with this header and so many bytes of data. */
static const char *
with_header(const char *json, size_t data)
{
	static unsigned char bytes[4096];
	size_t n = strlen(json);

	memset(bytes, 0, sizeof(bytes));
	bytes[0] = (unsigned char)(n & 0xff);
	bytes[1] = (unsigned char)(n >> 8);
	memcpy(bytes + 8, json, n);
	for (size_t i = 0; i < data; i++)
		bytes[8 + n + i] = (unsigned char)i;
	return with_bytes("x.safetensors", bytes, 8 + n + data);
}

Test(client, safetensors_read)
{
	struct aiterd *s = any_server();
	struct aiterd_file *f;
	struct aiterd_tensor t;

	/* the second one's data lie first, and at an odd place; a scalar; bf16 and an empty one */
	cr_assert(
		aiterd_file_open(
			s,
			with_header("{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[1,5]},\"__metadata__\":"
				    "{\"op\":\"rmsnorm\",\"n\":\"\\u00e9\"},\"b\":{\"dtype\":\"U8\",\"shape\":[],"
				    "\"data_offsets\":[0,1]},\"\":{\"dtype\":\"F64\",\"shape\":[0,3],"
				    "\"data_offsets\":[5,5]}}",
				    5),
			&f) == AITERD_OK,
		"%s", aiterd_error(s));
	cr_expect(aiterd_file_count(f) == 3);
	cr_assert(aiterd_file_find(f, "a", &t) == AITERD_OK && t.dtype == AITERD_BF16 && t.bytes == 4);
	/* bytes 1 2 3 4: 0x0201 and 0x0403 as the upper halves of fp32 */
	cr_expect(aiterd_tensor_at(&t, 1) == ldexp(1 + 3 / 128.0, -119));
	cr_assert(aiterd_file_find(f, "b", &t) == AITERD_OK && t.rank == 0 && aiterd_tensor_at(&t, 0) == 0);
	cr_expect_str_eq(aiterd_file_metadata(f, "op"), "rmsnorm");
	cr_expect_str_eq(aiterd_file_metadata(f, "n"), "\xc3\xa9");
	cr_expect(!aiterd_file_metadata(f, "params") && aiterd_file_find(f, "c", &t) == AITERD_BAD_ARGUMENT);
	aiterd_file_close(f);
	aiterd_close(s);
}

Test(client, safetensors_bad)
{
	static const struct {
		const char *json;
		size_t data;
		const char *says;
	} bad[] = {
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "outside the file"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "do not cover"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "do not agree"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "outside the file"},
		{"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype is unknown"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "no whole number"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,6]}}", 6, "no whole number"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,6]}}", 6, "no whole number"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[9007199254740992,9007199254740992],\"data_offsets\":[0,6]}}", 6,
		 "a"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "8 dimensions"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "missing"},
		{"{\"a\":5}", 0, "missing"},
		{"{\"a\":{},\"a\":{}}", 0, "two members"},
		{"{\"a\":{}", 0, "ends"},
		{"[]", 0, "begin"},
		{"{}x", 0, ""},
	};
	struct aiterd *s = any_server();
	struct aiterd_file *f;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert(aiterd_file_open(s, with_header(bad[i].json, bad[i].data), &f) == AITERD_BAD_FILE,
			  "%s is taken", bad[i].json);
		cr_expect(!f && strstr(aiterd_error(s), bad[i].says), "%s: %s", bad[i].json, aiterd_error(s));
	}
	/* a header that is longer than the file, or than anything */
	cr_expect(aiterd_file_open(s, with_bytes("y", "\xff\0\0\0\0\0\0\0{}", 10), &f) == AITERD_BAD_FILE);
	cr_expect(aiterd_file_open(s, with_bytes("y", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), &f) == AITERD_BAD_FILE);
	cr_expect(aiterd_file_open(s, with_bytes("y", "\2\0\0\0\0\0\0\0", 8), &f) == AITERD_BAD_FILE);
	cr_expect(aiterd_file_open(s, with_bytes("y", "", 0), &f) == AITERD_BAD_FILE);
	aiterd_close(s);
}

/* Any byte of a good file changed, any byte cut off: refused or read, never beyond the bytes there are (the sanitizers watch). */
Test(client, damaged_files)
{
	static const char json[] =
		"{\"__metadata__\":{\"op\":\"x\"},\"a\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[0,4]}}";
	unsigned char good[8 + sizeof(json) - 1 + 4] = {sizeof(json) - 1};
	int taken = 0;

	memcpy(good + 8, json, sizeof(json) - 1);
	for (size_t at = 0; at < sizeof(good); at++) {
		for (unsigned v = 0; v < 256; v += at < 8 ? 1 : 5) {
			struct lib_tensors ts = {.t = NULL};
			unsigned char *p = malloc(sizeof(good));
			double sum = 0;

			memcpy(p, good, sizeof(good));
			p[at] = (unsigned char)v;
			if (lib_safetensors_read(&ts, p, sizeof(good), NULL) == 0)
				for (int i = 0; i < ts.n; i++, taken++)
					for (uint64_t k = 0; k < ts.t[i].bytes / aiterd_dtype_size(ts.t[i].dtype); k++)
						sum += aiterd_tensor_at(&ts.t[i], (int64_t)k);
			cr_expect(sum == sum || ts.n > 0);
			lib_tensors_fini(&ts);
			free(p);
		}
		unsigned char *p = malloc(at ? at : 1);
		struct lib_tensors ts = {.t = NULL};

		memcpy(p, good, at);
		cr_expect(lib_safetensors_read(&ts, p, at, NULL) < 0, "%zu bytes", at);
		lib_tensors_fini(&ts);
		free(p);
	}
	cr_expect(taken > 0);
	for (size_t at = 0; at < sizeof(numpy_f4) - 1; at++) {
		for (unsigned v = 0; v < 256; v += 3) {
			struct lib_tensors ts = {.t = NULL};
			unsigned char *p = malloc(sizeof(numpy_f4) - 1);

			memcpy(p, numpy_f4, sizeof(numpy_f4) - 1);
			p[at] = (unsigned char)v;
			if (lib_npy_read(&ts, "x", p, sizeof(numpy_f4) - 1, NULL) == 0)
				for (uint64_t k = 0; k < ts.t[0].bytes / aiterd_dtype_size(ts.t[0].dtype); k++)
					(void)aiterd_tensor_at(&ts.t[0], (int64_t)k);
			lib_tensors_fini(&ts);
			free(p);
		}
	}
}

static void
slurp(const char *path, unsigned char *to, size_t *n, size_t room)
{
	FILE *f = fopen(path, "rb");

	cr_assert(f);
	*n = fread(to, 1, room, f);
	fclose(f);
}

Test(client, npy_written)
{
	static const float data[6] = {0, 1, 2, 3, 4, 5};
	struct aiterd_tensor t = {.name = "", .data = data};
	struct aiterd *s = any_server();
	unsigned char bytes[1024];
	struct stat st;
	size_t n;

	cr_assert(aiterd_tensor_describe(&t, AITERD_FP32, 2, (const int64_t[]){2, 3}) == AITERD_OK);
	cr_assert(aiterd_write_npy(s, path_of("f4.npy"), &t) == AITERD_OK, "%s", aiterd_error(s));
	slurp(path_of("f4.npy"), bytes, &n, sizeof(bytes));
	/* the very bytes that numpy writes */
	cr_assert(n == sizeof(numpy_f4) - 1 && memcmp(bytes, numpy_f4, n) == 0);
	cr_expect(stat(path_of("f4.npy"), &st) == 0 && (st.st_mode & 0400));
	/* through a link, which stays one */
	cr_assert(symlink("f4.npy", path_of("link.npy")) == 0 &&
		  aiterd_write_npy(s, path_of("link.npy"), &t) == AITERD_OK);
	cr_expect(lstat(path_of("link.npy"), &st) == 0 && S_ISLNK(st.st_mode));
	/* over a file that is there, which is whole at any time */
	cr_expect(aiterd_write_npy(s, path_of("f4.npy"), &t) == AITERD_OK);
	cr_expect(aiterd_write_npy(s, path_of("no/such/folder.npy"), &t) == AITERD_BAD_FILE);
	cr_expect(strstr(aiterd_error(s), "No such file"));
	cr_expect(aiterd_write_npy(s, "/dev/full", &t) == AITERD_BAD_FILE && strstr(aiterd_error(s), "No space"));
	t.bytes = 23;
	cr_expect(aiterd_write_npy(s, path_of("g.npy"), &t) == AITERD_BAD_ARGUMENT &&
		  access(path_of("g.npy"), F_OK) < 0);
	aiterd_close(s);
}

Test(client, safetensors_written)
{
	static const uint16_t one[3] = {0x3c00, 0x4000, 0x4200};
	static const uint8_t two[1] = {7};
	static const char odd[] = "odd \"name\"\n\xc3\xa9";
	struct aiterd_tensor t[2] = {{.name = "two", .data = two}, {.name = odd, .data = one}}, got;
	struct aiterd *s = any_server();
	struct aiterd_file *f;

	aiterd_tensor_describe(&t[0], AITERD_UINT8, 0, NULL);
	aiterd_tensor_describe(&t[1], AITERD_FP16, 1, (const int64_t[]){3});
	cr_assert(aiterd_write_safetensors(s, path_of("o.safetensors"), t, 2, "{\"a\":\"b\"}") == AITERD_OK);
	cr_assert(aiterd_file_open(s, path_of("o.safetensors"), &f) == AITERD_OK, "%s", aiterd_error(s));
	cr_assert(aiterd_file_find(f, odd, &got) == AITERD_OK && got.dtype == AITERD_FP16 && got.shape[0] == 3);
	cr_expect(aiterd_tensor_at(&got, 2) == 3.0);
	cr_expect_str_eq(aiterd_file_metadata(f, "a"), "b");
	aiterd_file_close(f);
	cr_assert(aiterd_write_safetensors(s, path_of("none.safetensors"), NULL, 0, NULL) == AITERD_OK);
	cr_assert(aiterd_file_open(s, path_of("none.safetensors"), &f) == AITERD_OK && aiterd_file_count(f) == 0);
	aiterd_file_close(f);
	cr_expect(aiterd_write_safetensors(s, path_of("x"), t, 2, "{\"a\":1}") == AITERD_BAD_ARGUMENT);
	cr_expect(aiterd_write_safetensors(s, path_of("x"), t, 2, "no JSON") == AITERD_BAD_ARGUMENT);
	aiterd_close(s);
}

/* hashlib.sha256(b"fp32 [2,3]\n" + numpy.arange(6, dtype="<f4").tobytes()) and b"int64 []\n" + 8 bytes */
Test(client, ids)
{
	static const float data[6] = {0, 1, 2, 3, 4, 5};
	static const int64_t seven = 7;
	struct aiterd_tensor t = {.name = "", .data = data};
	char id[AITERD_ID_SIZE];

	aiterd_tensor_describe(&t, AITERD_FP32, 2, (const int64_t[]){2, 3});
	cr_assert(aiterd_tensor_id(&t, id) == AITERD_OK);
	cr_expect_str_eq(id, "sha256:047e29bb23eccc47324c245833557d6e8b7c3b19c2954519baa86550c9abf44c");
	aiterd_tensor_describe(&t, AITERD_INT64, 0, NULL);
	t.data = &seven;
	cr_assert(aiterd_tensor_id(&t, id) == AITERD_OK);
	cr_expect_str_eq(id, "sha256:804909813f9962b552b8dee8f00a318291e0c53dcaa62bf3c6cf1681cc199dc1");
	t.bytes = 7;
	cr_expect(aiterd_tensor_id(&t, id) == AITERD_BAD_ARGUMENT);
}

/* Whatever the compressor, and whatever the size of the pieces it is read in, gzip and zstd give back the same. */
Test(client, bodies)
{
	static unsigned char big[300000], out[400000], part[70000];
	const struct lib_piece pieces[] = {{"head", 4}, {"", 0}, {big, sizeof(big)}, {"t", 1}, {"", 0}};
	static const char *const tools[] = {"cat", "gzip -dc", "zstd -dcq"};
	static const size_t steps[] = {1, 7, 16384, 70000};
	char command[200];

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * i >> 7 ^ i >> 3);
	cr_assert(lib_body_bytes(pieces, 5) == sizeof(big) + 5);
	for (int coding = LIB_PLAIN; coding <= LIB_ZSTD; coding++) {
		for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
			size_t step = steps[k], got = 1, n;
			struct lib_body b;
			FILE *f;

			snprintf(command, sizeof(command), "%s >'%s/unpacked'", tools[coding], folder);
			f = popen(command, "w");
			lib_body_begin(&b, pieces, 5, (enum lib_coding)coding);
			while (got) {
				cr_assert(lib_body_read(&b, part, step, &got) && got <= step);
				cr_assert(fwrite(part, 1, got, f) == got);
			}
			lib_body_end(&b);
			cr_assert(pclose(f) == 0, "%s", tools[coding]);
			slurp(path_of("unpacked"), out, &n, sizeof(out));
			cr_assert(n == sizeof(big) + 5 && !memcmp(out, "head", 4) &&
				  !memcmp(out + 4, big, sizeof(big)) && out[n - 1] == 't');
		}
	}
}

Test(client, calls_that_make_no_sense)
{
	static const float data[2] = {0, 1};
	struct aiterd_tensor t = {.name = "x", .data = data};
	struct aiterd *s = any_server();
	struct aiterd_call *c;
	struct aiterd_reply *r;
	char *text;

	aiterd_tensor_describe(&t, AITERD_FP32, 1, (const int64_t[]){2});
	cr_assert(aiterd_call_new(s, "rmsnorm", &c) == AITERD_OK);
	cr_expect(aiterd_call_tensor(c, &t) == AITERD_OK);
	cr_expect(aiterd_call_tensor(c, &t) == AITERD_BAD_ARGUMENT && strstr(aiterd_error(s), "twice"));
	cr_expect(aiterd_call_source(c, "x", "{\"tensor\":\"a\"}") == AITERD_BAD_ARGUMENT);
	cr_expect(aiterd_call_source(c, "y", "{\"tensor\":") == AITERD_BAD_ARGUMENT && strstr(aiterd_error(s), "'y'"));
	cr_expect(aiterd_call_source(c, "y", "[1]") == AITERD_BAD_ARGUMENT);
	cr_expect(aiterd_call_params(c, "{\"a\":1,\"inputs\":\"{\\\"z\\\":{\\\"tensor\\\":\\\"k\\\"}}\"}") == AITERD_OK);
	cr_expect(c->n_sources == 1 && !strcmp(c->sources[0].name, "z") && c->n_params == 1);
	cr_expect(aiterd_call_params(c, "{\"a\":2,\"b\":18446744073709551615}") == AITERD_OK && c->n_params == 2);
	cr_expect_str_eq(c->params[0].json, "2");
	cr_expect_str_eq(c->params[1].json, "18446744073709551615");
	cr_expect(aiterd_call_params(c, "{\"inputs\":\"7\"}") == AITERD_BAD_ARGUMENT);
	cr_expect(aiterd_submit(c, "fly", &text) == AITERD_BAD_ARGUMENT && !text);
	cr_expect(!c->keeps && aiterd_call_keep(c, "out", "h1") == AITERD_OK && c->keeps);
	cr_expect(aiterd_run(c, &r) == AITERD_UNREACHABLE && !r && strstr(aiterd_error(s), "127.0.0.1:1"));
	aiterd_call_free(c);
	cr_expect(aiterd_get(s, "v1/info", &text) == AITERD_BAD_ARGUMENT);
	cr_expect(aiterd_set_compression(s, "lzma") == AITERD_BAD_ARGUMENT);
	aiterd_close(s);
	aiterd_close(NULL);
	aiterd_reply_free(NULL);
	aiterd_call_free(NULL);
	aiterd_file_close(NULL);
}
