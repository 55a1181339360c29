#!/bin/sh
# The handler under Lambda Web Adapter: one web server, reachable by the adapter alone.
# --no-proxy-headers: the adapter is 127.0.0.1, which uvicorn would trust to name the caller in a header that any
#   caller can send; the relay takes the address from the adapter's own header.
# --no-access-log: its lines hold callers' addresses and paths.
# --timeout-keep-alive: longer than the adapter keeps idle connections (4 s), or it would write into a closed one.
set -eu
cd "${LAMBDA_TASK_ROOT:-/var/task}"
exec python -m uvicorn app:app \
  --host 127.0.0.1 --port "${AWS_LWA_PORT:-8080}" \
  --loop uvloop --http httptools --ws none \
  --no-proxy-headers --no-access-log --no-server-header --log-level warning \
  --timeout-keep-alive 65 --timeout-graceful-shutdown 1
