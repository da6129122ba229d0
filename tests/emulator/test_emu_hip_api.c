/*
 * test_emu_hip_api.c: emulator/hip_api.h has the values and layouts of HIP's own header, where that is installed.
 */
#include "emulator/hip_api.h"
#include "emulator/hip_api_real.h"

#include <criterion/criterion.h>

static const struct hip_value own[] = {
#define VALUE(x) {#x, (long long)(x)},
#include "emulator/hip_api.def"
	{NULL, 0}};

Test(emu_hip_api, same_as_hips_header)
{
	if (hip_api_real[0].name == NULL)
		cr_skip_test("HIP 5's header is not installed (Debian: libamdhip64-dev)");
	for (int i = 0; own[i].name != NULL; i++) {
		cr_assert_str_eq(own[i].name, hip_api_real[i].name);
		cr_assert_eq(own[i].value, hip_api_real[i].value, "%s is %lld here, %lld in HIP", own[i].name,
			     own[i].value, hip_api_real[i].value);
	}
}
