#!/bin/sh
# Installs what the PHP servers need: Debian's packages of PHP, Slim, Laravel and lighttpd, which are the pins (there is no
# lock file: a Debian release keeps one version of each). DIR, which the other languages install into, stays empty.
set -eu
missing=
for package in php-cli php-cgi php-slim php-laravel-framework lighttpd; do
	dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
	apt-get -o DPkg::Lock::Timeout=300 update -q
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $missing
fi
