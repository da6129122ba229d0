/*
 * tensor_id.h: a tensor's content as a name: "sha256:" and 64 digits, of its dtype, shape and data. Pure; takes as long
 * as hashing the data does, so large ones belong on a helper thread.
 */
#ifndef AITERD_TENSOR_ID_H
#define AITERD_TENSOR_ID_H

#include <stdbool.h>
#include <stddef.h>

#include "tensor.h"

#define TENSOR_ID_PREFIX "sha256:"
#define TENSOR_ID_SIZE (sizeof(TENSOR_ID_PREFIX) + 64) /* with the NUL */

/* SHA-256 of the text "fp16 [2,512,8,64]\n" and the data behind it. */
void tensor_id(const struct tensor *t, char id[TENSOR_ID_SIZE]);

/* Does it begin as an id does? No name may. */
bool tensor_id_begins(const char *s, size_t len);
/* Is it one, digits in lower case? */
bool tensor_id_is(const char *s, size_t len);

#endif
