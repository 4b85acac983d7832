#!/bin/sh
# Records testdata/ from the pinned clients. Arguments name groups to record (browsers http webhooks graphql apis
# tools); none means all. It takes about five minutes once everything is installed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
HONEST_TOOLS=$("$here/install.sh")
HONEST_TESTDATA=$here/../testdata
export HONEST_TOOLS HONEST_TESTDATA

# Modules are looked for beside the scripts that import them.
cp -r "$here"/*.js "$here/clients" "$HONEST_TOOLS/"
exec node "$HONEST_TOOLS/record.js" "$@"
