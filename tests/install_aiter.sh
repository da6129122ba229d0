#!/bin/bash
# install_aiter.sh: tests of kernels/install_aiter.sh (./run aiter) with a small tree made here and its own list of sums; and with
# AITER's own files where AITER_ASM_DIR says that there are any. Speaks TAP.
set -u
tool=${AITERD_SRCDIR:?}/kernels/install_aiter.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export HOME=$dir/home XDG_DATA_HOME=
n=0
below=gfx942/fmha_v3_fwd

# expect NAME STATUS WORDS COMMAND...: run it; its output must contain the words.
expect() {
	local name=$1 status=$2 words=$3 out rc=0
	shift 3
	n=$((n + 1))
	out=$("$@" 2>&1) || rc=$?
	if [ "$rc" = "$status" ] && [[ $out == *"$words"* ]]; then
		printf 'ok %d - %s\n' "$n" "$name"
	else
		printf '%s\n' "status $rc, wanted $status and '$words':" "$out" | sed 's/^/# /'
		printf 'not ok %d - %s\n' "$n" "$name"
	fi
}

# Just the files of the tree, as they are, and nothing beside them.
same() {
	diff -r "$dir/tree/hsa/gfx942" "$1/gfx942" && [ "$(ls -A "$1")" = gfx942 ]
}

mkdir -p "$dir/tree/hsa/$below/MI300"
printf 'a,b\n1,2\n' >"$dir/tree/hsa/$below/fmha_fwd.csv"
for ((i = 0; i < 3; i++)); do
	head -c 5000 /dev/urandom >"$dir/tree/hsa/$below/MI300/fwd_$i.co"
done
# What is there beside them in AITER's tree is left out.
cp -r "$dir/tree" "$dir/more"
mkdir "$dir/more/hsa/gfx942/other" "$dir/more/csrc"
echo >"$dir/more/hsa/gfx942/other/a.co"
echo >"$dir/more/hsa/$below/MI300/b.co"
git -C "$dir/more" init -q && git -C "$dir/more" add . &&
	git -C "$dir/more" -c user.name=test -c user.email=test@localhost commit -q -m test
commit=$(git -C "$dir/more" rev-parse HEAD)
git clone -q --bare "$dir/more" "$dir/bare.git"
{
	echo "C(\"$commit\")"
	(cd "$dir/tree/hsa" && find gfx942 -type f -exec sha256sum {} +) | sed 's/^\([0-9a-f]*\)  \(.*\)$/S("\2", "\1")/'
} >"$dir/sums"
export AITERD_AITER_SUMS=$dir/sums
tar -C "$dir" -czf "$dir/more.tar.gz" more
(cd "$dir" && python3 -m zipfile -c more.zip more)

for from in tree more/hsa more.tar.gz more.zip bare.git; do
	expect "from $from" 0 "installed 4 files of AITER's commit ${commit:0:12}" "$tool" --from "$dir/$from" --to "$dir/to"
	expect "from $from: these files" 0 "" same "$dir/to"
	[ "$from" = bare.git ] || rm -rf "$dir/to"
done
expect "from a URL" 0 "installed 4 files" "$tool" "--from=file://$dir/more" --to "$dir/url"
expect "from a URL: these files" 0 "" same "$dir/url"
expect "once more" 0 "nothing to do" "$tool" --from /nonexistent --to "$dir/to"
expect "a source that is not there" 1 "there is no /nonexistent" "$tool" --from /nonexistent --to "$dir/other"
expect "a URL that is not there" 1 "cannot be fetched" "$tool" --from "file://$dir/tree/hsa" --to "$dir/other"
mkdir "$dir/empty"
expect "a folder without them" 1 "holds neither" "$tool" --from "$dir/empty" --to "$dir/other"
expect "an option that is not there" 1 "no option --form" "$tool" --form "$dir/tree"

# One byte of one file: nothing is installed, and what was there stays.
cp -r "$dir/tree" "$dir/wrong"
printf x | dd of="$dir/wrong/hsa/$below/MI300/fwd_1.co" bs=1 seek=77 conv=notrunc status=none
cmp -s "$dir/tree/hsa/$below/MI300/fwd_1.co" "$dir/wrong/hsa/$below/MI300/fwd_1.co" &&
	printf y | dd of="$dir/wrong/hsa/$below/MI300/fwd_1.co" bs=1 seek=77 conv=notrunc status=none
expect "a wrong sum" 1 "$below/MI300/fwd_1.co: FAILED" "$tool" --from "$dir/wrong" --to "$dir/new"
expect "a wrong sum: nothing was installed" 0 "" test ! -e "$dir/new/gfx942"
echo >"$dir/to/$below/MI300/fwd_0.co"
cp -r "$dir/to" "$dir/before"
expect "a wrong sum over an installation" 1 "FAILED" "$tool" --from "$dir/wrong" --to "$dir/to"
expect "a wrong sum over an installation: it stays as it was" 0 "" diff -r "$dir/before" "$dir/to"
rm "$dir/wrong/hsa/$below/MI300/fwd_2.co"
expect "a missing file" 1 "has no $below/MI300/fwd_2.co" "$tool" --from "$dir/wrong" --to "$dir/new"

# A damaged installation is replaced; what somebody else put there is not.
expect "a damaged installation" 0 "installed 4 files" "$tool" --from "$dir/tree" --to "$dir/to"
expect "a damaged installation: these files" 0 "" same "$dir/to"
expect "AITER's own tree will do as it is" 0 "nothing to do" "$tool" --from "$dir/tree" --to "$dir/more/hsa"
echo >"$dir/more/hsa/$below/MI300/fwd_0.co"
expect "somebody else's folder" 1 "holds files that this does not install" "$tool" --from "$dir/tree" --to "$dir/more/hsa"
expect "somebody else's files stay" 0 "" test -e "$dir/more/hsa/gfx942/other/a.co"

unset AITERD_AITER_SUMS
if [ -n "${AITER_ASM_DIR:-}" ]; then
	expect "AITER's own files" 0 "installed 49 files" "$tool" --from "$AITER_ASM_DIR" --to "$dir/real"
else
	n=$((n + 1))
	echo "ok $n - AITER's own files # SKIP AITER_ASM_DIR is not set"
fi
echo "1..$n"
