#!/bin/bash
# install_aiter.sh: installs AITER's attention code objects for gfx942, which aiterd drives but does not contain. `./run aiter`
# calls it. What is installed is checked, file by file, against server/worker/aiter_sums.def before anything is replaced.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Tests have other files to install.
sums=${AITERD_AITER_SUMS:-$top/server/worker/aiter_sums.def}
below=gfx942/fmha_v3_fwd
work=
staging=

usage() {
	cat <<USAGE
Usage: ./run aiter [--from SOURCE] [--to DIR]

Installs AITER's attention kernels for gfx942 (MI300): the files of its commit
${commit:0:12} that aiterd uses, each checked by its SHA-256.

  --from SOURCE  a folder that holds hsa/gfx942 or gfx942 (a checkout of AITER, its
                 installed package), a git repository that has the commit, an archive
                 (.tar, .tar.gz, .tgz, .tar.xz, .zip, .whl), or a URL below which
                 hsa/gfx942 is; default: AITER's public repository on GitHub
  --to DIR       where to; default: $(default_to), where aiterd looks by itself
USAGE
}

say() {
	printf '%s\n' "$*"
}

die() {
	printf 'aiter: %s\n' "$*" >&2
	exit 1
}

cleanup() {
	[ -z "$work" ] || rm -rf "$work"
	[ -z "$staging" ] || rm -rf "$staging"
}

default_to() {
	if [ "$(id -u)" = 0 ]; then
		printf '/usr/local/share/aiterd/aiter\n'
	else
		printf '%s/aiterd/aiter\n' "${XDG_DATA_HOME:-$HOME/.local/share}"
	fi
}

# The files as sha256sum wants to have them.
manifest() {
	sed -n 's/^S("\([^"]*\)", "\([0-9a-f]*\)")$/\2  \1/p' "$sums"
}

# found_in DIR: the folder in it that holds gfx942/fmha_v3_fwd, however deep.
found_in() {
	local at
	at=$(find -L "$1" -maxdepth 6 -type d -path "*/$below" -print 2>/dev/null | sort | head -n 1)
	[ -n "$at" ] || return 1
	printf '%s\n' "${at%/"$below"}"
}

# fetch SOURCE: sets `have` to a folder that holds gfx942.
fetch() {
	local source=$1 path
	case $source in
	http://* | https://* | file://*)
		command -v curl >/dev/null || die "curl is needed to fetch $source"
		say "fetching $(manifest | wc -l) files from $source"
		while read -r _ path; do
			mkdir -p "$work/${path%/*}"
			curl -fsSL --retry 3 -o "$work/$path" "$source/hsa/$path" ||
				die "$source/hsa/$path cannot be fetched; without internet, --from takes a copy"
		done < <(manifest)
		have=$work
		return
		;;
	esac
	[ -e "$source" ] || die "there is no $source"
	if [ -f "$source" ]; then
		case $source in
		*.zip | *.whl)
			if command -v unzip >/dev/null; then
				unzip -q "$source" "*$below/*" -d "$work" || die "$source cannot be unpacked, or has no $below"
			else
				python3 -m zipfile -e "$source" "$work" || die "$source cannot be unpacked"
			fi
			;;
		*) tar -xf "$source" -C "$work" --wildcards "*$below/*" || die "$source cannot be unpacked, or has no $below" ;;
		esac
		have=$(found_in "$work") || die "$source has no $below"
		return
	fi
	if have=$(found_in "$source"); then
		return
	fi
	if git -C "$source" cat-file -e "$commit^{commit}" 2>/dev/null; then
		git -C "$source" archive "$commit" "hsa/$below" | tar -xf - -C "$work"
		have=$work/hsa
		return
	fi
	die "$source holds neither $below nor a git repository with the commit $commit"
}

commit=$(sed -n 's/^C("\([0-9a-f]*\)")$/\1/p' "$sums")
if [ -z "$commit" ] || [ -z "$(manifest)" ]; then
	die "$sums lists no files"
fi
from=https://raw.githubusercontent.com/ROCm/aiter/$commit
to=$(default_to)
while [ $# -gt 0 ]; do
	case $1 in
	--from=*) from=${1#*=} ;;
	--to=*) to=${1#*=} ;;
	--from | --to)
		[ $# -gt 1 ] || die "$1: its value is missing"
		printf -v "${1#--}" '%s' "$2"
		shift
		;;
	-h | --help)
		usage
		exit 0
		;;
	*) die "there is no option $1; --help lists them" ;;
	esac
	shift
done
[ -n "$to" ] || die "--to: its value is empty"

trap cleanup EXIT
if [ -d "$to/$below" ] && (cd "$to" && manifest | sha256sum --status --strict -c - 2>/dev/null); then
	say "$to already holds the $(manifest | wc -l) files of AITER's commit ${commit:0:12}: nothing to do"
	exit 0
fi
# What somebody else put there is not ours to replace.
if [ -d "$to/gfx942" ]; then
	strange=$(cd "$to" && find gfx942 ! -type d | grep -vxFf <(manifest | sed 's/^[0-9a-f]*  //') | head -n 1) || true
	[ -z "$strange" ] || die "$to holds files that this does not install, such as $strange: give another --to"
fi

work=$(mktemp -d)
have=
fetch "$from"
mkdir -p "$to"
staging=$(mktemp -d "$to/.new-XXXXXX")
while read -r _ path; do
	[ -f "$have/$path" ] || die "$from has no $path"
	mkdir -p "$staging/${path%/*}"
	cp "$have/$path" "$staging/$path"
done < <(manifest)
if ! wrong=$(cd "$staging" && manifest | LC_ALL=C sha256sum --strict --quiet -c - 2>/dev/null); then
	die "these files of $from are not those of AITER's commit ${commit:0:12}; nothing was installed:
$wrong"
fi
chmod -R u=rwX,go=rX "$staging/gfx942"
# The new files take the old ones' place in one step, or where there are old ones in two.
if [ -d "$to/gfx942" ]; then
	mkdir "$staging/old"
	mv "$to/gfx942" "$staging/old/gfx942"
	mv "$staging/gfx942" "$to/gfx942" || {
		mv "$staging/old/gfx942" "$to/gfx942"
		die "$to/gfx942 cannot be replaced"
	}
else
	mv "$staging/gfx942" "$to/gfx942"
fi
say "installed $(manifest | wc -l) files of AITER's commit ${commit:0:12} from $from in $to"
if [ "$to" != "$(default_to)" ]; then
	say "aiterd finds them with --aiter-dir $to"
fi
