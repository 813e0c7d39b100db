#!/bin/bash
# One service through its whole life, over the socket of a daemon on a throw-away directory. `make demo` runs it.
set -euo pipefail

reeve=${REEVE_BIN:-reeve}
directory=$(mktemp -d)
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' dim=$'\033[2m' off=$'\033[0m'; else bold='' dim='' off=''; fi

cleanup() {
    [ -z "${watcher:-}" ] || kill "$watcher" 2>/dev/null || true
    [ -z "${daemon:-}" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
    rm -rf "$directory"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
run() {
    printf '%s$ reeve %s%s\n' "$bold" "$*" "$off"
    "$reeve" "$@" 2>&1 | sed "s/^/  /"
}
# The same, of a record only what this demonstration is about.
brief() {
    run "$@" | grep -E '\$ reeve| event | s  |reeve:|^  (id|name|state|minTotal|maxTotal|ipAccess|backupCount)|    - [0-9]'
}
# The first value of a key in a line of JSON.
field() { grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4; }

say "A daemon with a simulated provisioner, on $directory"
mkfifo "$directory/ready"
"$reeve" serve --dev --data "$directory/data" --http 127.0.0.1:0 --provisioner simulated:delay-ms=150..400 \
    >"$directory/out" 2> >(tee "$directory/log" | grep --line-buffered -m1 ' ready ' >"$directory/ready") &
daemon=$!
read -r ready <"$directory/ready" || { cat "$directory/log" >&2; exit 1; }
printf '  %s%s%s\n' "$dim" "$ready" "$off"
# shellcheck disable=SC1091 # written by the daemon
. "$directory/data/dev.env"

# Every event, as it happens, between what the commands print.
"$reeve" watch --from 1 > >(sed -u "s/^/  ${dim}event${off} /") 2>/dev/null &
watcher=$!

say '1. Create a service; it is durable when the answer comes, and provisioned after it'
printf '%s$ reeve service create --name orders --provider aws --region us-east-1 --tier production ... --wait%s\n' "$bold" "$off"
created=$("$reeve" service create --name orders --provider aws --region us-east-1 --tier production \
    --min-total-memory-gb 24 --max-total-memory-gb 48 --ip-access-list '10.0.0.0/8=office' --wait --json)
service=$(field id <<<"$created")
printf '  service %s runs, its password is %s\n' "$service" "$(field password <<<"$created")"

say '2. Change it while it runs'
brief service scale "$service" --max-total-memory-gb 96
brief service update "$service" --remove 10.0.0.0/8 --add '203.0.113.0/24=new office'

say '3. Back it up, restore the backup into a second service'
backup=$("$reeve" backup create "$service" --wait --json | field id)
run backup list "$service"
brief service create --name orders-copy --provider aws --region us-east-1 --tier production --backup-id "$backup" --wait

say '4. Stop it, start it, stop it, delete it'
brief service stop "$service" --wait
brief service start "$service" --wait
run service delete "$service" || true
printf '  %s(refused: it runs)%s\n' "$dim" "$off"
brief service stop "$service" --wait
run service delete "$service" --wait

say '5. What is left: the copy, and the backup until its retention ends'
run service list
run backup list "$service"
run check

if command -v curl >/dev/null; then
    say '6. The same over HTTP'
    # shellcheck disable=SC2016 # what a reader would type
    printf '%s$ curl --user $REEVE_KEY_ID:$REEVE_KEY_SECRET $REEVE_URL/v1/organizations/$REEVE_ORG_ID/services%s\n' "$bold" "$off"
    curl --silent --user "$REEVE_KEY_ID:$REEVE_KEY_SECRET" "$REEVE_URL/v1/organizations/$REEVE_ORG_ID/services" | sed 's/^/  /'
fi

cat <<END

${bold}That was a whole life.${off} Where to go next:
  build/reeve serve --dev           a daemon to play with; it prints what to paste next
  build/reeve help                  all commands
  README.md                         five minutes to a first service, embedding, Python
  docs/http.md                      the HTTP API; the daemon serves it at /docs, too
  docs/reference.md, docs/ipc.md    every state, command, field and error; the protocol
END
