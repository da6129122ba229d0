#!/bin/sh
# check_resources.sh: registers, LDS and scratch memory of our gfx942 kernels, from the code objects' own metadata: no spills,
# no scratch, and each fits a compute unit. Speaks TAP; skipped where llvm-readobj is missing.
cd "${AITERD_BUILDDIR:?}" || exit 1
n=0

if ! command -v "${LLVM_READOBJ:-llvm-readobj-19}" >/dev/null; then
	echo "1..0 # SKIP there is no ${LLVM_READOBJ:-llvm-readobj-19} (Debian: llvm-19)"
	exit 0
fi
for object in kernels/gfx942/*.co; do
	n=$((n + 1))
	if out=$("${AITERD_SRCDIR:?}/tests/kernels/check_resources.py" "$object" 2>&1); then
		echo "ok $n - $object: $(echo "$out" | sed -n 's/^COUNTS \([0-9]*\) .*/\1 kernels/p')"
	else
		echo "$out" | sed 's/^/# /'
		echo "not ok $n - $object"
	fi
done
echo "1..$n"
