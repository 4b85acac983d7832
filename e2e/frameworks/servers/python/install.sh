#!/bin/sh
# Installs the Python servers' packages below the folder DIR: install.sh DIR.
set -eu
cd "$(dirname "$0")"
if ! python3 -m venv --help >/dev/null 2>&1; then
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv
fi
python3 -m venv "$1/python"
"$1/python/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
