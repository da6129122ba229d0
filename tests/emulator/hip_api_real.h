/*
 * hip_api_real.h: named constants, ended by a NULL name; see hip_api_real.c.
 */
#ifndef HIP_API_REAL_H
#define HIP_API_REAL_H

struct hip_value {
	const char *name;
	long long value;
};

extern const struct hip_value hip_api_real[];

#endif
