#!/bin/sh
# check.sh: every shape of our kernels in the emulator, with waves that take turns after each instruction and after
# eight: a result that changes means a missing barrier. Speaks TAP; skipped where libLLVM is missing.
cd "${AITERD_BUILDDIR:?}" || exit 1
n=0

check() { # program, quantum
	n=$((n + 1))
	if EMUHIP_QUANTUM=$2 "tests/kernels/$1" kernels/gfx942 >"tests/kernels/$1.$2.out" 2>&1; then
		echo "ok $n - $1, quantum $2: $(sed -n 's/^COUNTS \([0-9]*\) .*/\1 shapes/p' "tests/kernels/$1.$2.out")"
	else
		sed 's/^/# /' "tests/kernels/$1.$2.out"
		echo "not ok $n - $1, quantum $2"
	fi
}

if ! ldconfig -p 2>/dev/null | grep -q 'libLLVM.*19' && ! ls /usr/lib/llvm-19/lib/libLLVM*.so* >/dev/null 2>&1; then
	echo "1..0 # SKIP libLLVM 19, which the emulator needs, is not installed"
	exit 0
fi
for quantum in 1 8; do
	check run_kernels $quantum
	check run_rmsnorm $quantum
done
echo "1..$n"
