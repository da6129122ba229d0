/*
 * disasm.c: finds libLLVM with dlopen, so that building needs no LLVM and a program that never loads a code
 * object needs none either. LLVM's contexts are not for several threads at once: one lock around them.
 */
#include "emulator/disasm.h"

#include "emulator/settings.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

typedef void *(*create_f)(const char *triple, const char *cpu, void *arg, int tag, void *get_info, void *look_up);
typedef size_t (*disassemble_f)(void *context, u8 *p, u64 n, u64 pc, char *out, size_t cap);

static void *context;
static disassemble_f disassemble;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int
fail(struct emu_fault *why, const char *what, const char *detail)
{
	why->code = 3; /* hipErrorNotInitialized */
	snprintf(why->msg, sizeof why->msg, "emuhip: %s%s%s", what, detail != NULL ? ": " : "",
		 detail != NULL ? detail : "");
	return -1;
}

static int
open_llvm(struct emu_fault *why)
{
	static const char *const names[] = {"libLLVM.so.19.1", "libLLVM-19.so.1", "libLLVM-19.so", "libLLVM.so"};
	static const char *const inits[] = {"LLVMInitializeAMDGPUTargetInfo", "LLVMInitializeAMDGPUTarget",
					    "LLVMInitializeAMDGPUTargetMC", "LLVMInitializeAMDGPUDisassembler"};
	create_f create;
	void *lib = NULL;

	if (emu_settings.llvm != NULL) {
		lib = dlopen(emu_settings.llvm, RTLD_NOW | RTLD_LOCAL);
		if (lib == NULL)
			return fail(why, "cannot load the libLLVM that EMUHIP_LLVM names", dlerror());
	}
	for (size_t i = 0; lib == NULL && i < sizeof names / sizeof *names; i++)
		lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		return fail(why, "executing gfx942 code needs libLLVM 19 (Debian: libllvm19; or set EMUHIP_LLVM)",
			    dlerror());
	for (size_t i = 0; i < sizeof inits / sizeof *inits; i++) {
		void (*f)(void);

		*(void **)&f = dlsym(lib, inits[i]);
		if (f != NULL)
			f();
	}
	*(void **)&create = dlsym(lib, "LLVMCreateDisasmCPU");
	*(void **)&disassemble = dlsym(lib, "LLVMDisasmInstruction");
	if (create != NULL && disassemble != NULL)
		context = create("amdgcn-amd-amdhsa", "gfx942", NULL, 0, NULL, NULL);
	if (context == NULL)
		return fail(why, "this libLLVM has no gfx942 disassembler; version 19 is wanted", NULL);
	return 0;
}

int
emu_disasm_init(struct emu_fault *why)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	if (context == NULL)
		r = open_llvm(why);
	pthread_mutex_unlock(&lock);
	return r;
}

size_t
emu_disasm_one(const u8 *p, size_t n, char *out, size_t cap)
{
	size_t len;

	pthread_mutex_lock(&lock);
	len = disassemble(context, (u8 *)(uintptr_t)p, n, 0, out, cap);
	pthread_mutex_unlock(&lock);
	return len;
}

void
emu_disasm_at(const struct codeobj *co, u32 word, char *out, size_t cap)
{
	u64 at = 4 * (u64)word;

	out[0] = '\0';
	if (at < co->text_size)
		emu_disasm_one(co->base + co->text + at, co->text_size - at, out, cap);
	for (char *c = out; *c != '\0'; c++)
		if (*c == '\t')
			*c = ' ';
}
