#!/bin/bash
# tests/clients/check_library.sh: libaiterd as others use it: installed into an empty folder, compiled against by pkg-config, shared
# and static, from C and C++, with the manual's own example. Exports nothing but what the header declares.
set -euo pipefail
src=${AITERD_SRCDIR:?} build=${AITERD_BUILDDIR:?}
[ -e "$build/libaiterd.a" ] || { echo "1..0 # skip this build has no client"; exit 0; }
# A program that is linked with such a library must be built with the same sanitizers: none that is installed is.
if [ "$(nm "$build/libaiterd.a" | grep -c __asan_init)" != 0 ]; then
	echo "1..0 # skip this build is one with sanitizers"
	exit 0
fi
dir=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
n=0
ok() {
	n=$((n + 1))
	echo "ok $n - $*"
}
fail() {
	n=$((n + 1))
	echo "not ok $n - $*"
	exit 1
}
echo "1..6"

# not a part of the make that runs the tests
unset MAKEFLAGS MFLAGS
make -s -C "$build" install DESTDIR="$dir/root" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "make install"; }
pc=$(find "$dir/root" -name aiterd.pc)
export PKG_CONFIG_PATH=${pc%/*}
prefix=$dir/root$(pkg-config --variable=prefix aiterd)
pkg() {
	pkg-config --define-variable=prefix="$prefix" "$@" aiterd
}
"$prefix/bin/aiterctl" --version >/dev/null || fail "aiterctl is installed and starts"
lib=$(pkg --variable=libdir)
ok "installed"

# What is visible is what the header declares, in both libraries.
grep -oE '\baiterd_[a-z_]+\(' "$prefix/include/aiterd.h" | tr -d '(' | sort -u >"$dir/declared"
comm -23 "$dir/declared" <(printf 'aiterd_line_f\naiterd_progress_f\n') >"$dir/wanted"
nm -D --defined-only "$lib/libaiterd.so" | awk '$2 == "T" { sub("@.*", "", $3); print $3 }' | sort -u >"$dir/shared"
nm -g --defined-only "$lib/libaiterd.a" | awk 'NF == 3 { print $3 }' | sort -u >"$dir/static"
diff "$dir/wanted" "$dir/shared" || fail "the shared library exports what the header declares"
diff "$dir/wanted" "$dir/static" || fail "the static library exports what the header declares"
[ "$(readlink "$lib/libaiterd.so")" = libaiterd.so.0 ] || fail "the link to develop with"
objdump -p "$lib/libaiterd.so" | grep -q 'SONAME *libaiterd.so.0$' || fail "the soname"
ok "exports and soname"

# The manual's example, with functions of its own that have names from the library's insides.
sed -n '/^\.SH EXAMPLE/,/^\.SH SEE/p' "$src/clients/c/libaiterd.3" | sed '/^\./d; s/\\\\/\\/g; s/\\e/\\/g' >"$dir/example.c"
cat >>"$dir/example.c" <<'C'
int err_set(void);
int
err_set(void)
{
	return 1;
}
C
flags="-std=gnu11 -Wall -Wextra -Wpedantic -Werror"
! nm -D "$lib/libaiterd.so" | grep -q __asan_init || flags="$flags -fsanitize=address,undefined"
# shellcheck disable=SC2046,SC2086 # lists of words
cc $flags "$dir/example.c" $(pkg --cflags --libs) -Wl,-rpath,"$lib" -o "$dir/shared_example" || fail "linked with the shared library"
# shellcheck disable=SC2046,SC2086
cc $flags "$dir/example.c" $(pkg --cflags) "$lib/libaiterd.a" $(pkg-config --libs $(pkg --print-requires-private)) -lm -pthread \
	-o "$dir/static_example" || fail "linked with the static library"
ok "compiled and linked"
if command -v c++ >/dev/null; then
	echo '#include <aiterd.h>' | c++ -x c++ -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" - || fail "the header in C++"
	ok "the header in C++"
else
	ok "the header in C++ # skip no C++ compiler"
fi

"$build/aiterd" --listen "unix:$dir/socket" --device cpu >"$dir/server" 2>&1 &
server=$!
for ((i = 0; i < 300; i++)); do
	! grep -q '^listening' "$dir/server" || break
	sleep 0.1
done
export AITERD_URL=unix:$dir/socket
for kind in shared static; do
	# 1023 over the root mean square of 0 to 1023, in float64: 1.73162...
	out=$("$dir/${kind}_example") || fail "the manual's example, $kind"
	case $out in
	"1.73163 "*'"op":"rmsnorm"'*) ok "the manual's example, $kind" ;;
	*) fail "the manual's example, $kind: $out" ;;
	esac
done
