#!/bin/sh
# Installs the clients that record.js drives below .tools/ at the root of the repository and prints
# the folder. Clients that are packages of Debian are not pinned: each recorded request names the
# version that sent it. Replaying the corpus needs none of them.
set -eu
cd "$(dirname "$0")"
. ../../differential/install.sh

install() {
	for tool in chromium firefox-esr curl wget git ruby lynx prometheus prometheus-alertmanager; do
		command -v $tool >/dev/null || install_debian $tool
	done
	command -v php >/dev/null || install_debian php-cli
	command -v aria2c >/dev/null || install_debian aria2
	perl -MLWP -e 1 2>/dev/null || install_debian libwww-perl

	install_node . "$1" --legacy-peer-deps # two packages of Connect want different versions of a third
	install_python requirements.txt "$1/python"
	install_java clients/pom.xml "$1/java"
	(cd clients/go && go build -o "$1/go" .)
}

install_once ../../../.tools honest install.sh ../../differential/install.sh package-lock.json \
	requirements.txt clients/pom.xml clients/go/go.sum clients/go/*.go
