#!/bin/sh
# Installs the foreign servers and clients of this rig under .tools/ at the root of the repository and prints the
# folder, named by the hash of all that is pinned: a changed pin installs afresh, an unchanged one costs nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
pins="servers/node/package-lock.json servers/node15/package-lock.json clients/package-lock.json
servers/python/requirements.txt servers/java/pom.xml install.sh"
key=$(cat $pins | sha256sum | cut -c1-16)
dir=$here/../../.tools/graphql-$key
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

exec 9>"$dir.lock"
flock 9
if [ ! -f "$dir/done" ]; then
	{
		# Java and Ruby are not on every machine; Node and Python, which Drydock's tests need anyway, are.
		missing=
		command -v mvn >/dev/null || missing="$missing maven"
		command -v javac >/dev/null || missing="$missing default-jdk-headless" # java runs a source file by its compiler
		ruby -e 'require "graphql"; require "webrick"; require "puma"; require "rails"; require "action_controller/railtie"' 2>/dev/null ||
			missing="$missing ruby ruby-graphql ruby-webrick ruby-actionpack ruby-railties puma"
		python3 -m venv --help >/dev/null 2>&1 || missing="$missing python3-venv"
		if [ -n "$missing" ]; then
			apt-get update -q
			DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
		fi
		for set in servers/node servers/node15 clients; do
			mkdir -p "$dir/$(basename $set)"
			cp $set/package.json $set/package-lock.json "$dir/$(basename $set)/"
			(cd "$dir/$(basename $set)" && npm ci --ignore-scripts --no-audit --no-fund)
		done
		python3 -m venv "$dir/python"
		"$dir/python/bin/pip" install --quiet --disable-pip-version-check -r servers/python/requirements.txt
		mvn -q -B -f servers/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$dir/java"
		touch "$dir/done"
	} >"$dir/install.log" 2>&1 || {
		echo "installing the servers failed; the last lines of $dir/install.log:" >&2
		tail -20 "$dir/install.log" >&2
		exit 1
	}
fi
echo "$dir"
