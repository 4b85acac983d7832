#!/bin/sh
# Installs the foreign servers of this rig below .tools/ at the root of the repository and prints the
# folder. Those of Ruby and PHP are packages of Debian.
set -eu
cd "$(dirname "$0")"
. ../differential/install.sh

install() {
	install_node servers/node "$1/node"
	install_python servers/python/requirements.txt "$1/python"
	install_java servers/java/pom.xml "$1/java"
	install_debian ruby ruby-rails ruby-graphql ruby-rack ruby-webrick puma
	install_debian php-cli php-cgi php-slim php-laravel-framework lighttpd
}

install_once ../../.tools frameworks install.sh ../differential/install.sh \
	servers/node/package-lock.json servers/python/requirements.txt servers/java/pom.xml
