#!/bin/sh
# Runs a relay and the nginx in front of it until it is told to end:
# behind_nginx.sh DERPER DERPER.TOML NGINX.CONF
# The relay's log goes to standard error, and to relay.log beside its configuration.
set -eu
dir=$(dirname "$2")
"$1" --config "$2" 2>"$dir/relay.log" &
relay=$!
nginx -c "$3" -e stderr -g "daemon off; master_process off; pid $dir/nginx.pid;" &
nginx=$!
trap 'kill "$relay" "$nginx"' TERM INT EXIT
wait "$relay"
cat "$dir/relay.log" >&2
