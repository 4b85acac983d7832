#!/bin/sh
# Installs the pinned clients that record.js drives under .tools/ at the root of the repository and prints the folder,
# named by the hash of all that is pinned. Replaying the corpus needs none of them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
pins="package-lock.json requirements.txt clients/pom.xml clients/go/go.sum install.sh"
key=$(cat $pins clients/go/*.go | sha256sum | cut -c1-16)
dir=$here/../../../.tools/honest-$key
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

exec 9>"$dir.lock"
flock 9
if [ ! -f "$dir/done" ]; then
	{
		# What Debian has is not pinned: each recorded request names the version that sent it.
		missing=
		command -v mvn >/dev/null || missing="$missing maven"
		command -v javac >/dev/null || missing="$missing default-jdk-headless" # java runs a source file by its compiler
		python3 -m venv --help >/dev/null 2>&1 || missing="$missing python3-venv"
		command -v prometheus >/dev/null || missing="$missing prometheus"
		command -v prometheus-alertmanager >/dev/null || missing="$missing prometheus-alertmanager"
		command -v php >/dev/null || missing="$missing php-cli"
		command -v aria2c >/dev/null || missing="$missing aria2"
		perl -MLWP -e 1 2>/dev/null || missing="$missing libwww-perl"
		for tool in chromium firefox-esr curl wget git ruby lynx; do
			command -v $tool >/dev/null || missing="$missing $tool"
		done
		if [ -n "$missing" ]; then
			apt-get update -q
			DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends $missing
		fi
		cp package.json package-lock.json "$dir/"
		# Two of Connect's packages want different versions of a third.
		(cd "$dir" && npm ci --legacy-peer-deps --ignore-scripts --no-audit --no-fund)
		python3 -m venv "$dir/python"
		"$dir/python/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
		mvn -q -B -f clients/pom.xml dependency:copy-dependencies -DoutputDirectory="$dir/java"
		(cd clients/go && go build -o "$dir/go" .)
		touch "$dir/done"
	} >"$dir/install.log" 2>&1 || {
		echo "installing the clients failed; the last lines of $dir/install.log:" >&2
		tail -20 "$dir/install.log" >&2
		exit 1
	}
fi
echo "$dir"
