/*
 * peaks.h: what a device can do at most, by its makers' documents, so that a measurement has something to be compared with.
 */
#ifndef AITERD_PEAKS_H
#define AITERD_PEAKS_H

#include "msg.h"
#include "tensor.h"

struct peaks {
	double tflops;	       /* dense, of the fastest unit that takes the dtype's operands; 0: not known */
	double gb_per_s;       /* of the device's memory; 0: not known */
	const char *tflops_of; /* "fp16 matrix cores, dense"; NULL where tflops is 0 */
	const char *source;    /* the document; NULL: neither is known */
};

/* False: nothing is known of this device (or dtype); p is all zero then. */
bool peaks_find(const struct device_info *info, enum dtype dt, struct peaks *p);

#endif
