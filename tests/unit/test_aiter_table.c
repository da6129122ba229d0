/*
 * test_aiter_table.c: the reader of AITER's table of attention kernels: what it takes, what it passes over, what it refuses and
 * in which words; and which chips take which folder.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "ops/aiter_table.h"

#define HEAD "dtype,hdim_q,hdim_v,mask,mode,bf16_cvt,ts_qo,ts_kv,knl_name,co_name\n"
#define ROW "bf16,128,128,0,0,1,256,32,_ZN5aiter24fmha_fwd_hd128_bf16_rtnaE,fwd_hd128_bf16_rtna.co\n"

static struct aiter_table t;

Test(aiter_table, rows)
{
	static const char csv[] = HEAD ROW "bf16,192,128,2,1,2,128,32,K2,fwd_hd192x128_bf16_causal_rtz_group.co\r\n"
					   "\n"
					   "fp8bf16,128,128,0,0,1,256,64,K3,fwd_hd128_fp8.co\n"
					   "bf16,256,256,0,0,1,128,32,K4,some_other_dims.co\n"
					   "bf16,128,128,2,0,1,256,32,K5,last_without_newline.co";
	const struct aiter_row *r;
	struct err e = {0};

	cr_assert_eq(aiter_table_parse(&t, csv, strlen(csv), &e), 0, "%s", e.msg);
	cr_assert_eq(t.n, 3);
	r = aiter_table_find(&t, 128, 128, 0, false, 1);
	cr_assert_not_null(r);
	cr_expect_str_eq(r->symbol, "_ZN5aiter24fmha_fwd_hd128_bf16_rtnaE");
	cr_expect_str_eq(r->file, "fwd_hd128_bf16_rtna.co");
	cr_expect(r->tile_q == 256 && r->tile_k == 32 && !r->image);
	r = aiter_table_find(&t, 192, 128, 2, true, 2);
	cr_assert_not_null(r);
	cr_expect_str_eq(r->file, "fwd_hd192x128_bf16_causal_rtz_group.co");
	cr_expect_eq(r->tile_q, 128);
	r = aiter_table_find(&t, 128, 128, 2, false, 1);
	cr_assert_not_null(r);
	cr_expect_str_eq(r->file, "last_without_newline.co");
	cr_expect_null(aiter_table_find(&t, 128, 128, 0, true, 1));
	cr_expect_null(aiter_table_find(&t, 128, 128, 0, false, 0));
	cr_expect_null(aiter_table_find(&t, 256, 256, 0, false, 1));
}

/* The columns may stand in another order, and more may stand beside them. */
Test(aiter_table, columns_by_name)
{
	static const char csv[] = "co_name,knl_name,new,ts_kv,ts_qo,bf16_cvt,mode,mask,hdim_v,hdim_q,dtype\n"
				  "a.co,K,x,32,256,2,1,2,128,128,bf16\n";
	const struct aiter_row *r;
	struct err e = {0};

	cr_assert_eq(aiter_table_parse(&t, csv, strlen(csv), &e), 0, "%s", e.msg);
	r = aiter_table_find(&t, 128, 128, 2, true, 2);
	cr_assert_not_null(r);
	cr_expect_str_eq(r->symbol, "K");
	cr_expect_str_eq(r->file, "a.co");
}

Test(aiter_table, refused)
{
	static const struct {
		const char *csv, *words;
	} cases[] = {
		{"", "empty"},
		{"\n\r\n", "empty"},
		{"\x7f"
		 "ELF\x02\x01",
		 "no column dtype"},
		{",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,\n", "no column dtype"},
		{"dtype,hdim_q,hdim_v,mask,mode,bf16_cvt,ts_qo,knl_name,co_name\n", "no column ts_kv"},
		{HEAD, "no row for bf16"},
		{HEAD "fp8bf16,128,128,0,0,1,256,64,K,a.co\n", "no row for bf16"},
		{HEAD "bf16,128,128\n", "line 2 has not as many fields as the first, 10"},
		{HEAD ROW "\nbf16,128,128,0,0,1,256,32,K,a.co,more\n", "line 4 has not as many"},
		{HEAD ROW ROW, "line 3: a second row"},
		{HEAD "bf16,x,128,0,0,1,256,32,K,a.co\n", "line 2: hdim_q is 'x', wanted a number"},
		{HEAD "bf16,-128,128,0,0,1,256,32,K,a.co\n", "hdim_q is '-128'"},
		{HEAD "bf16,99999999999999999999,128,0,0,1,256,32,K,a.co\n", "hdim_q is '99999999999999999999'"},
		{HEAD "bf16,,128,0,0,1,256,32,K,a.co\n", "hdim_q is ''"},
		{HEAD "bf16,128,128,1,0,1,256,32,K,a.co\n", "mask is '1', wanted 0 or 2"},
		{HEAD "bf16,128,128,3,0,1,256,32,K,a.co\n", "mask is '3'"},
		{HEAD "bf16,128,128,0,2,1,256,32,K,a.co\n", "mode is '2'"},
		{HEAD "bf16,128,128,0,0,3,256,32,K,a.co\n", "bf16_cvt is '3'"},
		{HEAD "bf16,128,128,0,0,1,128,32,K,a.co\n", "line 2: tiles of 128 x 32 for head dimensions 128 and 128"},
		{HEAD "bf16,192,128,0,0,1,256,32,K,a.co\n", "wanted 128 x 32"},
		{HEAD "bf16,128,128,0,0,1,256,32,,a.co\n", "knl_name is ''"},
		{HEAD "bf16,128,128,0,0,1,256,32,K;x,a.co\n", "knl_name is 'K;x', wanted a plain name"},
		{HEAD "bf16,128,128,0,0,1,256,32,"
		      "KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK,a.co\n",
		 "knl_name is 'KKK"},
		{HEAD "bf16,128,128,0,0,1,256,32,K,../../a.co\n", "co_name is '../../a.co', wanted a plain name"},
		{HEAD "bf16,128,128,0,0,1,256,32,K,.co\n", "co_name is '.co'"},
		{HEAD "bf16,128,128,0,0,1,256,32,K,..co\n", "co_name is '..co'"},
		{HEAD "bf16,128,128,0,0,1,256,32,K,a.so\n", "co_name is 'a.so', wanted the name of a .co file"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t len = strlen(cases[i].csv);
		char *csv = strndup(cases[i].csv, len); /* of exactly that length, for the sanitizers */
		struct err e = {0};

		t.n = 7;
		cr_expect_eq(aiter_table_parse(&t, csv, len, &e), -1, "case %zu was taken", i);
		cr_expect_eq(t.n, 0);
		cr_expect(strstr(e.msg, cases[i].words), "case %zu: '%s' does not say '%s'", i, e.msg, cases[i].words);
		free(csv);
	}
}

/* However a good table is cut short, it is taken or refused, without reading past its end. */
Test(aiter_table, cut_short)
{
	static const char csv[] = HEAD ROW "bf16,192,128,2,1,2,128,32,K2,b.co\n";

	for (size_t len = 0; len < sizeof csv; len++) {
		char *part = malloc(len ? len : 1);
		struct err e = {0};

		memcpy(part, csv, len);
		if (aiter_table_parse(&t, part, len, &e) == -1)
			cr_expect_eq(t.n, 0);
		else
			cr_expect(t.n == 1 || t.n == 2);
		free(part);
	}
}

Test(aiter_table, folders)
{
	cr_expect_str_eq(aiter_folder(0x74a1, 304), "MI300"); /* MI300X */
	cr_expect_str_eq(aiter_folder(0x74a0, 228), "MI300"); /* MI300A */
	cr_expect_str_eq(aiter_folder(0x74a5, 304), "MI300"); /* MI325X */
	cr_expect_str_eq(aiter_folder(0x74a2, 80), "MI308");
	cr_expect_str_eq(aiter_folder(0x74a8, 80), "MI308");
	cr_expect_str_eq(aiter_folder(0x74b6, 80), "MI308");
	cr_expect_str_eq(aiter_folder(0x74bc, 20), "MI308"); /* partitioned: the id decides */
	cr_expect_str_eq(aiter_folder(0x74a1, 80), "MI300");
	cr_expect_str_eq(aiter_folder(0, 80), "MI308");
	cr_expect_str_eq(aiter_folder(0, 304), "MI300");
}
