#!/bin/sh
# check_gpu.sh: our kernels on the GPU of this machine against the float64 references, then the server on it. For make
# check-gpu, in the build folder. Visibly skipped where there is no GPU; AITERD_GPU=cuda or hip says that there must be one.
# Closes with "COUNTS passed failed skipped", one for each program.
srcdir=${AITERD_SRCDIR:?}
passed=0 failed=0 skipped=0

run() { # program, folder of code objects: 0 passed, 1 failed, 2 there is no such device
	out=$("tests/kernels/$1" "$2" 2>&1)
	rc=$?
	[ $rc = 2 ] && return 2
	echo "$1 $2: $(echo "$out" | tail -n 1)"
	[ $rc = 0 ] || echo "$out" | sed 's/^/  /'
	[ $rc = 0 ]
}

for kind in ${AITERD_GPU:-cuda hip}; do
	case $kind in
	cuda) folders=kernels/sm_90 ;;
	*) folders="kernels/gfx942 kernels/gfx950" ;;
	esac
	for program in "run_kernels_$kind" "run_rmsnorm_$kind"; do
		[ -x "tests/kernels/$program" ] || continue
		found=no
		for folder in $folders; do
			[ -d "$folder" ] || continue
			run "$program" "$folder"
			case $? in
			0) passed=$((passed + 1)) found=yes ;;
			1) failed=$((failed + 1)) found=yes ;;
			*) reason=$(echo "$out" | tail -n 1) ;;
			esac
		done
		[ $found = yes ] || echo "$program: skipped: ${reason:-there are no kernels for it}"
		[ $found = yes ] || skipped=$((skipped + 1))
	done
done
if [ -n "$AITERD_GPU" ] && [ $skipped != 0 ]; then
	failed=$((failed + skipped)) skipped=0
fi

out=$(AITERD_BUILDDIR=$PWD "${PYTHON3:-/usr/bin/python3}" "$srcdir/tests/http/run" test_gpu)
echo "$out"
counts=$(echo "$out" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
# shellcheck disable=SC2086 # three words
set -- ${counts:-0 1 0}
passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
if [ -n "$AITERD_GPU" ] && [ "$1" = 0 ]; then
	failed=$((failed + 1))
fi
echo "COUNTS $passed $failed $skipped"
[ $failed = 0 ]
