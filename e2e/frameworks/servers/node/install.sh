#!/bin/sh
# Installs the Node servers' packages below the folder DIR: install.sh DIR.
set -eu
cd "$(dirname "$0")"
mkdir -p "$1/node"
cp package.json package-lock.json "$1/node/"
cd "$1/node"
npm ci --ignore-scripts --no-audit --no-fund
