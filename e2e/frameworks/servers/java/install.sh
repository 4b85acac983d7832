#!/bin/sh
# Installs what the Java servers need into DIR/java, pinned by pom.xml; Maven and a Java come from apt where they are
# missing.
set -eu
cd "$(dirname "$0")"
dir=$1/java
if [ -f "$dir/done" ] && cmp -s pom.xml "$dir/done"; then
	exit
fi
missing=
command -v mvn >/dev/null || missing="$missing maven"
command -v javac >/dev/null || missing="$missing default-jdk-headless" # java runs a source file by its compiler
if [ -n "$missing" ]; then
	apt-get -o DPkg::Lock::Timeout=300 update -q
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends $missing
fi
rm -rf "$dir"
mvn -q -B -f pom.xml dependency:copy-dependencies -DoutputDirectory="$dir"
cp pom.xml "$dir/done"
