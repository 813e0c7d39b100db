#!/bin/bash
# A real ClickHouse through its whole life, by curl and clickhouse-client. `make demo-clickhouse` runs it.
set -euo pipefail

reeve=${REEVE_BIN:-reeve}
plugin=$(dirname "$(readlink -f "$0")")/../provisioners/plugins/clickhouse
directory=$(mktemp -d)
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' dim=$'\033[2m' off=$'\033[0m'; else bold='' dim='' off=''; fi

cleanup() {
    [ -z "${daemon:-}" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
    for process in /proc/[0-9]*; do # servers and programs, where the demonstration was interrupted
        case $(readlink "$process/cwd") in
        "$directory"/*) kill -9 "${process#/proc/}" 2>/dev/null || true ;;
        esac
    done
    rm -rf "$directory"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
note() { printf '  %s%s%s\n' "$dim" "$*" "$off"; }
# The first value of a key in an answer.
field() { grep -oE "\"$1\":(\"[^\"]*\"|[0-9]+)" <<<"$2" | head -n 1 | sed -E 's/^"[^"]*":"?//; s/"$//'; }

# api METHOD PATH [BODY]: one request, shown as it would be typed; its answer is in $answer.
api() {
    local shown="curl -X $1 \$services$2"
    [ -z "${3:-}" ] || shown="$shown -d '$3'"
    printf '  $ %s\n' "$shown"
    answer=$(curl -sS -u "$REEVE_KEY_ID:$REEVE_KEY_SECRET" -H 'Content-Type: application/json' -H 'Prefer: wait=60' \
        -X "$1" ${3:+-d "$3"} "$services$2")
    if grep -q '"error":' <<<"$answer"; then
        printf '  %s\n' "$answer" >&2
        exit 1
    fi
}
# The native port of the service in $answer.
port() { grep -oE '"protocol":"native","host":"[^"]*","port":[0-9]+' <<<"$answer" | grep -oE '[0-9]+$'; }
# query PORT PASSWORD SQL
query() {
    printf "  \$ clickhouse-client --port %s -q \"%s\"\n" "$1" "$3"
    clickhouse-client --host 127.0.0.1 --port "$1" --password "$2" -q "$3" 2>&1 | cut -c 1-150 | sed '/./!d; s/^/    /'
}
# The same, until the server or the door says those words of refusal.
refused() {
    until query "$1" "$2" 'SELECT 1' >"$directory/tried" || true && grep -q "$3" "$directory/tried"; do sleep 0.05; done
    cat "$directory/tried"
}
# until_state /ID STATE [COMMAND]: ask until the service is in that state; meanwhile do that.
until_state() {
    while answer=$(curl -sS -u "$REEVE_KEY_ID:$REEVE_KEY_SECRET" "$services$1") && [ "$(field state "$answer")" != "$2" ]; do
        ${3:-:}
        sleep 0.05
    done
}
hours=0
put_forward() {
    hours=$((hours + 1))
    echo "+${hours}h" >"$directory/clock.part" && mv "$directory/clock.part" "$directory/clock" # whole at once
    "$reeve" org create --name later >/dev/null # the daemon looks at its clock when it has something to do
}
servers() { find /proc/[0-9]*/cwd -maxdepth 0 -lname "$directory/*/services/*" 2>/dev/null | wc -l; }
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

say "A daemon whose services are ClickHouse servers, on $directory"
faketime=$(find /usr/lib -name libfaketime.so.1 | head -n 1)
echo '+0s' >"$directory/clock"
mkfifo "$directory/ready"
note "\$ reeve serve --dev --provisioner exec:provisioners/plugins/clickhouse,env.MB_PER_GB=32 --door 127.0.0.1:28000-28099"
LD_PRELOAD=$faketime FAKETIME_TIMESTAMP_FILE=$directory/clock FAKETIME_NO_CACHE=1 \
    "$reeve" serve --dev --data "$directory/data" --http 127.0.0.1:0 --door 127.0.0.1:28000-28099 \
    --provisioner "exec:$plugin,env.MB_PER_GB=32,env.PORTS=28100-28199" \
    >"$directory/out" 2> >(tee "$directory/log" | grep --line-buffered -m1 ' ready ' >"$directory/ready") &
daemon=$!
read -r _ <"$directory/ready" || { cat "$directory/log" >&2; exit 1; }
# shellcheck disable=SC1091 # written by the daemon
. "$directory/data/dev.env"
services=$REEVE_URL/v1/organizations/$REEVE_ORG_ID/services
note "services=$services"

say '1. Create a service: the answer has its password, once'
api POST '' '{"name": "orders", "provider": "aws", "region": "us-east-1", "tier": "production", "minTotalMemoryGb": 24,
         "maxTotalMemoryGb": 48, "ipAccessList": [{"source": "127.0.0.1"}]}'
service=$(field id "$answer") password=$(field password "$answer")
until_state "/$service" running
port=$(port)
note "service $service runs; its endpoint is 127.0.0.1:$port, its password $password"
note "servers that run: $(servers)"

say '2. Write a million rows'
query "$port" "$password" 'CREATE TABLE orders (day Date, id UInt64, customer String) ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY id'
query "$port" "$password" "INSERT INTO orders SELECT toDate('2026-01-01') + number % 90, number, toString(cityHash64(number)) FROM numbers(1000000)"
sums='SELECT count(), sum(id), sum(cityHash64(customer)) FROM orders'
query "$port" "$password" "$sums" | tee "$directory/rows"

say '3. Back it up, while it runs'
api POST "/$service/backups"
backup=$(field id "$answer")
note "backup $backup is $(field status "$answer"); sha256sum -c SHA256SUMS:"
(cd "$directory/data/provisioner/backups/$backup" && sha256sum -c SHA256SUMS | sed 's/^/    /')

say '4. Nobody asks for anything: it goes idle, and its server is stopped'
note 'the clock of the daemon is put forward by hours'
until_state "/$service" idle put_forward
while [ "$(servers)" != 0 ]; do sleep 0.05; done
note "its state is $(field state "$answer"), servers that run: $(servers)"

say '5. The next query wakes it, and does not notice'
start=$(milliseconds)
query "$port" "$password" "$sums" | tee "$directory/woken"
note "in $(($(milliseconds) - start)) ms"
cmp "$directory/rows" "$directory/woken"

say '6. A new password, more memory, another access list; the server goes on'
api PATCH "/$service/password" '{}'
new=$(field password "$answer")
api PATCH "/$service/scaling" '{"maxTotalMemoryGb": 96}'
until_state "/$service" running
refused "$port" "$password" 'Wrong password'
query "$port" "$new" "SELECT value AS max_memory FROM system.settings WHERE name = 'max_memory_usage'"
api PATCH "/$service" '{"ipAccessList": {"remove": [{"source": "127.0.0.1"}], "add": [{"source": "10.0.0.0/8"}]}}'
note 'who is not on the list is not let in, here by the door:'
refused "$port" "$new" 'after eof\|reset by peer'

say '7. Restore the backup into a second service, and compare the rows'
api POST '' '{"name": "copy", "provider": "aws", "region": "us-east-1", "tier": "production", "backupId": "'"$backup"'",
         "ipAccessList": [{"source": "127.0.0.1"}]}'
copy=$(field id "$answer") copy_password=$(field password "$answer")
until_state "/$copy" running
query "$(port)" "$copy_password" "$sums" | tee "$directory/copied"
diff <(tail -n 1 "$directory/rows") <(tail -n 1 "$directory/copied") && note 'they are the same'

say '8. Stop and delete everything'
for each in "$service" "$copy"; do
    api PATCH "/$each/state" '{"command": "stop"}'
    until_state "/$each" stopped
    api DELETE "/$each"
done
while [ -n "$(ls "$directory/data/provisioner/services")" ]; do sleep 0.05; done
note "servers that run: $(servers)"
note "directories of services: $(find "$directory/data/provisioner/services" -mindepth 1 | wc -l)"
note "uids and ports in use: $(cat "$directory/data/provisioner/allocations.json")"
note "what stays until its retention ends: backup $(ls "$directory/data/provisioner/backups")"
