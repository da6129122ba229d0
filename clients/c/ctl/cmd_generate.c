/*
 * cmd_generate.c: aiterctl generate: the tensor that the server would make, made here and written to a file. No server is asked.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

int
cmd_generate(struct ctl *c)
{
	const char *path = c->o.n_outputs == 1 ? c->o.outputs[0] : NULL;
	enum aiterd_status status;
	struct aiterd_tensor t;
	char why[300], id[AITERD_ID_SIZE];
	struct source s;
	size_t n;

	if (c->o.n_args != 1 || !path)
		return fail_usage(
			"generate wants one source and one -o FILE, as in normal:2x512x8x64:fp16:seed=7 -o q.npy");
	if (strcmp(path, "-") == 0 && c->tty_out)
		return fail_usage(
			"the tensor is binary and standard output is a terminal: -o FILE, or send it to a program");
	if (source_parse(c->o.args[0], &s, why, sizeof(why)) < 0)
		return fail_usage("%s", why);
	if (s.kind != SOURCE_JSON) {
		free(s.text);
		return fail_usage(
			"'%s' is nothing to be generated; wanted KIND:SHAPE:DTYPE, as in normal:2x512x8x64:fp16",
			c->o.args[0]);
	}
	status = aiterd_generate(c->server, s.text, &t);
	free(s.text);
	if (status != AITERD_OK)
		return fail(c, status);
	t.name = "tensor";
	n = strlen(path);
	if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0)
		status = aiterd_write_safetensors(c->server, path, &t, 1, NULL);
	else
		status = aiterd_write_npy(c->server, path, &t);
	if (status != AITERD_OK) {
		fail(c, status);
	} else if (!c->o.quiet && strcmp(path, "-") != 0 && aiterd_tensor_id(&t, id) == AITERD_OK) {
		if (c->o.json)
			printf("{\"id\":\"%s\",\"bytes\":%llu}\n", id, (unsigned long long)t.bytes);
		else
			printf("%s\n", id);
	}
	aiterd_free((void *)(uintptr_t)t.data);
	return status == AITERD_OK ? 0 : EXIT_LOCAL;
}
