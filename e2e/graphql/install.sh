#!/bin/sh
# Installs the foreign servers and clients of this rig below .tools/ at the root of the repository
# and prints the folder. Those of Ruby are packages of Debian.
set -eu
cd "$(dirname "$0")"
. ../differential/install.sh

install() {
	for set in servers/node servers/node15 clients; do
		install_node $set "$1/$(basename $set)"
	done
	install_python servers/python/requirements.txt "$1/python"
	install_java servers/java/pom.xml "$1/java"
	ruby -e 'require "graphql"; require "webrick"; require "puma"; require "rails"; require "action_controller/railtie"' 2>/dev/null ||
		install_debian ruby ruby-graphql ruby-webrick ruby-actionpack ruby-railties puma
}

install_once ../../.tools graphql install.sh ../differential/install.sh \
	servers/node/package-lock.json servers/node15/package-lock.json clients/package-lock.json \
	servers/python/requirements.txt servers/java/pom.xml
