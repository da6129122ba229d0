#!/bin/bash
# tests/lint.sh: the house rules that a program can check (CONTRIBUTING.md says them in words). Prints one line
# for each offence and closes with "COUNTS passed failed skipped", one per rule; exits 1 if a rule is broken.
set -u
# rule() counts at the end of pipelines, in this shell.
shopt -s lastpipe
cd "$(dirname "$0")/.." || exit 1

passed=0 failed=0 skipped=0

# rule NAME: standard input holds the offences.
rule() {
	local offences
	offences=$(cat)
	if [ -n "$offences" ]; then
		printf '%s\n' "$offences" | awk -v rule="$1" '{ print $0 ": lint: " rule }'
		failed=$((failed + 1))
	else
		passed=$((passed + 1))
	fi
}

skip() {
	printf 'skipped: %s\n' "$1"
	skipped=$((skipped + 1))
}

# Files that are ours: what git would track if there is git, otherwise everything not built.
files() {
	if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		git -c core.quotePath=false ls-files --cached --others --exclude-standard | while IFS= read -r f; do
			[ ! -f "$f" ] || printf '%s\n' "$f"
		done
	else
		find . -type f -not -path './build*' -not -path './autom4te.cache/*' -not -path './.git/*' -not -name '*~' | sed 's|^\./||'
	fi
}

all=$(files)
c_files=$(grep -E '\.[ch]$' <<<"$all")
tables=$(grep -E '\.def$' <<<"$all")
text=$(grep -Ev '\.(npy|safetensors|bin|png|gz|zst|json|svg)$|^tests/data/|^tests/fuzz/corpus/|^(configure|aclocal\.m4|LICENSE)$|^(Makefile|config\.h)\.in$' <<<"$all")
scripts=$(for f in $text; do head -n 1 "$f" | grep -qE '^#!.*\b(ba)?sh$' && echo "$f"; done)
# Tests and measuring programs may use what the server may not.
server_files=$(grep -E '^(server|demo|clients)/' <<<"$c_files")

# grep_in FILES PATTERN: offences as file:line:text.
grep_in() {
	# shellcheck disable=SC2086 # lists of files without blanks
	grep -HnE "$2" $1 /dev/null | cut -c 1-160
}

# With comments and string literals blanked, for rules about code. Keeps line numbers.
code_of() {
	awk '
		FNR == 1 { inside = 0 }
		{
			line = $0
			out = ""
			while (line != "") {
				if (inside) {
					e = index(line, "*/")
					if (!e) { line = ""; break }
					line = substr(line, e + 2); inside = 0
				} else if (match(line, /\/\*|"([^"\\]|\\.)*"/)) {
					out = out substr(line, 1, RSTART - 1)
					if (substr(line, RSTART, 2) == "/*") inside = 1
					else out = out "\"\""
					line = substr(line, RSTART + RLENGTH)
				} else { out = out line; line = "" }
			}
			printf "%s:%d:%s\n", FILENAME, FNR, out
		}' "$@"
}

# shellcheck disable=SC2086
for f in $c_files $tables $scripts; do
	n=$(wc -l <"$f")
	[ "$n" -lt 600 ] || echo "$f:$n"
done | rule "a file has under 600 lines"

for f in $c_files $tables; do
	head -n 1 "$f" | grep -q '^/\*' || echo "$f:1"
done | rule "a file begins with a comment that says what it is"

# shellcheck disable=SC2086
code_of $server_files | grep -E '[^a-z_](strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|alloca|tmpnam|mktemp)\(' |
	rule "a banned function: use snprintf, text.h, strtoll with checks"

# header_in NAME PATTERN: only server files whose path matches may include that header.
header_in() {
	grep_in "$server_files" "^# *include *[<\"]([a-z]+/)?$1[>\"]" | grep -vE "^($2):" | rule "$1 stays in its files ($2)"
}
header_in 'microhttpd\.h' 'server/front/http\.c|server/front/loop\.c'
header_in 'cJSON\.h' 'server/codec/[a-z0-9_]+\.[ch]|server/front/(v1|v2)[a-z0-9_]*\.c|demo/demo\.c|clients/c/[a-z0-9_/]+\.[ch]'
header_in '(zlib|zstd|igzip_lib|isa-l)\.h' 'server/codec/[a-z0-9_]+\.[ch]|clients/c/body\.c'
header_in 'curl\.h' 'clients/c/(http|url)\.c|clients/c/lib\.h'
header_in '(cblas|openblas)\.h' 'server/ops/[a-z0-9_]+_cpu\.c|server/front/no_blas\.c'
header_in 'immintrin\.h' 'server/ops/[a-z0-9_]+\.[ch]|server/codec/[a-z0-9_]+\.[ch]'
header_in 'sd-daemon\.h' 'server/main\.c|server/front/[a-z0-9_]+\.c'
header_in 'cuda\.h' 'server/worker/hip_cuda\.h'

# Which folder may include which: base knows nobody, operators only base, codecs no sockets, a worker no front.
arrow() {
	local from=$1 pattern=$2
	grep_in "$(grep -E "^$from" <<<"$server_files")" "^# *include *\"$pattern" | rule "$from does not include $pattern"
}
arrow 'server/(arena|arena_slab|digits|err|line|log|mem|msg|options|tensor|text)\.[ch]' '(front|codec|worker)/'
arrow 'server/ops/' '(front|codec)/'
arrow 'server/codec/' '(front|worker)/'
arrow 'server/worker/' '(front|codec)/'
arrow 'clients/c/' '(front|worker|ops)/'
arrow 'clients/c/ctl/' 'lib\.h'

grep_in "$text" '\b(TODO|FIXME|XXX)\b' | grep -vE '^(tests/lint\.sh|CONTRIBUTING\.md):' | rule "no notes to oneself"
grep_in "$text" '[[:blank:]]+$' | rule "no blanks at the end of a line"
for f in $text; do
	[ ! -s "$f" ] || [ -z "$(tail -c 1 "$f")" ] || echo "$f"
done | rule "a file ends with a newline"
grep_in "$c_files" '^ {8}' | rule "indented with tabs"
grep_in "$c_files" '.{141}' | rule "no line is much longer than 120"
grep -E '\.(cc|cpp|cxx|hpp|hh)$' <<<"$all" | rule "C only, no C++"
grep_in "$server_files" '^typedef (struct|union|enum)' | rule "structs are not typedef'd"

# Every source is built, every test is run: a file no list names would be forgotten silently.
lists=$(cat Makefile.am ./*/Makefile.inc ./*/*/Makefile.inc)
for f in $c_files $tables; do
	grep -qE "(^|[[:space:]])(${f//./\\.}|${f%.c})([[:space:]]|\$)" <<<"$lists" || echo "$f"
done | rule "every C file is listed in a Makefile.inc"

if command -v clang-format-14 >/dev/null; then
	# shellcheck disable=SC2086
	clang-format-14 --dry-run $c_files 2>&1 | sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: warning: .*/\1/p' | uniq |
		awk -F: '!seen[$1]++' | rule "formatted as .clang-format says (./run format)"
else
	skip "clang-format 14 is not installed"
fi
if command -v shellcheck >/dev/null; then
	# shellcheck disable=SC2086
	shellcheck -f gcc $scripts | rule "shellcheck"
else
	skip "shellcheck is not installed"
fi

printf 'COUNTS %d %d %d\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
