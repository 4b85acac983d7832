#!/bin/sh
# Records testdata/clients.json from the pinned clients.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=$("$here/../install.sh")
NODE_PATH="$tools/clients/node_modules" exec node "$here/capture.js" "$here/../testdata/clients.json"
