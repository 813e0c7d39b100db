#!/bin/sh
# Requests per second of GET of one service over keep-alive connections, beside nginx with one worker that answers with
# the very same body, in turn. Usage: http-get.sh [ROUNDS] [SECONDS]; REEVE_BIN names the daemon, HTTP_GET_JSON a file
# for the figures.
set -eu

rounds=${1:-3}
seconds=${2:-5}
here=$(cd "$(dirname "$0")/.." && pwd)
reeve=${REEVE_BIN:-$here/build/reeve}
for tool in nginx wrk curl; do
    command -v "$tool" >/dev/null || { echo "http-get: skipped, there is no $tool"; exit 0; }
done

directory=$(mktemp -d)
daemon='' nginx=''
cleanup() {
    for pid in $daemon $nginx; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$directory"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Until the command given succeeds, ten seconds at the most.
wait_for() {
    for _ in $(seq 200); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "http-get: gave up waiting for: $*" >&2
    exit 1
}

free_port() {
    port=$(($(od -An -N2 -tu2 /dev/urandom) % 20000 + 10000))
    while curl -s -m 2 -o "$directory/found" "http://127.0.0.1:$port/"; do port=$((port + 1)); done
    echo "$port"
}

# ---- The daemon, with one service ----

port=$(free_port)
"$reeve" serve --data "$directory/data" --dev --http "127.0.0.1:$port" --provisioner simulated:delay-ms=0..0 \
    --log-level warning >"$directory/out" &
daemon=$!
wait_for test -s "$directory/data/dev.env"
# shellcheck disable=SC1091 # written by the daemon
. "$directory/data/dev.env"
url=http://127.0.0.1:$port
wait_for curl -s -m 2 "$url/healthz"
services=$url/v1/organizations/$REEVE_ORG_ID/services
created=$(curl -sS --fail-with-body -u "$REEVE_KEY_ID:$REEVE_KEY_SECRET" -H 'Prefer: wait=30' \
    -H 'Content-Type: application/json' \
    -d '{"name":"bench","provider":"aws","region":"us-east-1","tier":"development"}' "$services") ||
    { echo "http-get: no service: $created" >&2; exit 1; }
id=$(echo "$created" | grep -o '"id":"[^"]*"' | head -n 1 | cut -d '"' -f 4)
body=$(curl -sS --fail-with-body -u "$REEVE_KEY_ID:$REEVE_KEY_SECRET" "$services/$id")

# ---- nginx, with the same answer ----

constant_port=$(free_port)
# As text between single quotes.
quoted=$(printf '%s' "$body" | sed -e 's/\\/\\\\/g' -e "s/'/\\\\'/g")
cat >"$directory/nginx.conf" <<END
worker_processes 1;
daemon off;
pid $directory/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    tcp_nodelay on;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    server {
        listen 127.0.0.1:$constant_port;
        default_type application/json;
        location / { return 200 '$quoted'; }
    }
}
END
nginx -p "$directory" -c "$directory/nginx.conf" -e stderr &
nginx=$!
constant=http://127.0.0.1:$constant_port/v1/organizations/$REEVE_ORG_ID/services/$id
wait_for curl -s -m 2 "$constant"
sizes="$(printf '%s' "$body" | wc -c) $(curl -s "$constant" | wc -c)"
[ "${sizes% *}" = "${sizes#* }" ] || { echo "http-get: the two bodies differ in size: $sizes" >&2; exit 1; }

# ---- In turn ----

authorization="Authorization: Basic $(printf %s "$REEVE_KEY_ID:$REEVE_KEY_SECRET" | base64 | tr -d '\n')"

measure() { # url, file that gets the rate
    wrk -t1 -c64 "-d${seconds}s" --latency -H "$authorization" "$1" >"$directory/wrk"
    if grep -E 'Non-2xx|Socket errors' "$directory/wrk" >&2; then exit 1; fi
    awk '/^Requests\/sec/ { rate = $2 } $1 == "50%" { p50 = $2 } $1 == "99%" { p99 = $2 } END { print rate, p50, p99 }' \
        "$directory/wrk" >>"$2"
}
median() { sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"; }

measure "$services/$id" "$directory/warm"
round=0
while [ "$round" -lt "$rounds" ]; do
    measure "$services/$id" "$directory/reeve"
    measure "$constant" "$directory/constant"
    round=$((round + 1))
done

echo "GET of one service, 64 keep-alive connections, body of ${sizes% *} bytes; $rounds round(s) of $seconds s, medians"
echo
printf '%-16s  %10s  %9s  %9s\n' '' 'requests/s' p50 p99
{
    echo "reeve $(median "$directory/reeve")"
    echo "nginx $(median "$directory/constant")"
} | awk '{ printf "%-16s  %10.0f  %9s  %9s\n", $1, $2, $3, $4; rates[$1] = $2 }
    END { printf "\nreeve / nginx: %.2f\n", rates["reeve"] / rates["nginx"] }'

# ---- For the report ----

values() { sort -n "$1" | awk '{ printf "%s%s", separator, $1; separator = ", " }'; }
row() { # subject, kind, file, ratio
    first=$(sort -n "$3" | head -n 1) last=$(sort -n "$3" | tail -n 1) middle=$(median "$3")
    cat <<END
 {"scenario": "http-get", "title": "GET of one service over 64 keep-alive connections, the key checked; nginx: a constant",
  "unit": "requests", "isTime": false, "subject": "$1", "kind": "$2", "outstanding": 64, "existing": 1,
  "median": ${middle%% *}, "min": ${first%% *}, "max": ${last%% *}, "rounds": [$(values "$3")]$4, "latencyUs": []}
END
}
if [ -n "${HTTP_GET_JSON:-}" ]; then
    ratio=$(echo "$(median "$directory/reeve") $(median "$directory/constant")" | awk '{ printf "%.3f", $1 / $4 }')
    {
        echo '{"rows": ['
        row http engine "$directory/reeve" ", \"ofFloor\": $ratio"
        echo ,
        row nginx floor "$directory/constant" ''
        echo ']}'
    } >"$HTTP_GET_JSON"
fi
