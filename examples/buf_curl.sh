#!/usr/bin/env bash
# One streamed answer with `buf curl`, from the checkout's own protos: examples/buf_curl.sh [ROUTER]
set -euo pipefail
cd "$(dirname "$0")/.."
buf=$(command -v buf || echo .venv/bin/buf)
"$buf" curl --protocol grpc --http2-prior-knowledge --schema protos \
    --data '{"text": "def read_json(path):", "sampling": {"maxTokens": 16, "temperature": 0}}' \
    "http://${1:-127.0.0.1:7450}/baton.v1.GenerationService/Generate"
