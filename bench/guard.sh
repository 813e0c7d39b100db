#!/bin/sh
# Instructions per lifecycle, counted by callgrind on a fixed input, beside the figures in bench/guard.txt: a regression
# shows without a clock. Usage: guard.sh [--update]; REEVE_BIN names the daemon, GUARD_BIN the program that drives it.
# What callgrind wrote stays in build/guard: callgrind_annotate tells where the instructions go.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
reeve=${REEVE_BIN:-$here/build/reeve}
guard=${GUARD_BIN:-$here/build/bench/guard}
figures=$here/bench/guard.txt
command -v valgrind >/dev/null || { echo 'bench-guard: skipped, there is no valgrind'; exit 0; }

update=''
[ "${1:-}" != --update ] || update=yes

out=$here/build/guard
rm -rf "$out"
mkdir -p "$out"
# In place of the daemon: the same one, counted.
cat >"$out/daemon" <<END
#!/bin/sh
exec valgrind --quiet --tool=callgrind --callgrind-out-file="\$GUARD_OUT" "$reeve" "\$@" --busy-poll-us 1
END
chmod +x "$out/daemon"

count() { # mode, lifecycles
    GUARD_OUT=$out/$1.$2
    export GUARD_OUT
    if [ "$1" = embedded ]; then
        valgrind --quiet --tool=callgrind --callgrind-out-file="$GUARD_OUT" "$guard" "$1" "$2" >&2
    else
        REEVE_BIN=$out/daemon "$guard" "$1" "$2" >&2
    fi
    awk '/^(totals|summary):/ { total = $2 } END { print total }' "$GUARD_OUT"
}

# What opening and closing take is in both, and falls out.
measure() { # mode, few, many
    few=$(count "$1" "$2")
    many=$(count "$1" "$3")
    echo $(((many - few) / ($3 - $2)))
}

status=0
# Mode, few and many lifecycles, and how much more is too much, in a hundred: what comes to a daemon at once, and so how
# many batches there are, is the machine's to say.
for line in 'embedded 640 1920 5' 'ipc 50 150 15' 'http 50 150 15'; do
    # shellcheck disable=SC2086 # the words of a line
    set -- $line
    now=$(measure "$1" "$2" "$3")
    echo "$1 $now" >>"$out/figures"
    before=$(awk -v mode="$1" '$1 == mode { print $2 }' "$figures" 2>/dev/null || true)
    if [ -z "$before" ]; then
        printf '%-9s %10d instructions per lifecycle\n' "$1" "$now"
        continue
    fi
    change=$(awk -v a="$before" -v b="$now" 'BEGIN { printf "%+.1f", (b / a - 1) * 100 }')
    printf '%-9s %10d instructions per lifecycle, %s %% of %d\n' "$1" "$now" "$change" "$before"
    awk -v c="$change" -v t="$4" 'BEGIN { exit !(c > t) }' && status=1
done

if [ -n "$update" ]; then
    {
        echo '# Instructions per lifecycle (six transitions), by callgrind; make bench-guard UPDATE=1 writes this file.'
        cat "$out/figures"
    } >"$figures"
    echo 'bench/guard.txt is up to date'
elif [ $status -ne 0 ]; then
    echo "bench-guard: too much above bench/guard.txt; callgrind_annotate build/guard/MODE.N tells where" >&2
    exit 1
fi
