#!/bin/sh
# Runs pinwatch on ADDRESS and makes long-term pins until it ends. Every fifth round also pins memory with
# one page that a pipe holds and the kernel cannot migrate.
# Usage: load.sh PINWATCH ADDRESS

pinwatch=$1
"$pinwatch" run --web.listen-address "$2" &
daemon=$!
trap 'kill $daemon; wait $daemon; exit 0' TERM
round=0
while kill -0 $daemon 2>/dev/null; do
    round=$((round + 1))
    "$pinwatch" load --pages 256 --repeat 1 >/dev/null 2>&1
    [ $((round % 5)) -ne 0 ] || "$pinwatch" load --pages 16 --hold vmsplice:1 >/dev/null 2>&1
    sleep 1
done
wait $daemon
