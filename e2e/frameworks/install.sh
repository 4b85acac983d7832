#!/bin/sh
# Installs the foreign servers of this rig under .tools/ at the root of the repository and prints the folder, named by
# the hash of all that is pinned: a changed pin installs afresh, an unchanged one costs nothing. Each language has its
# own servers/LANGUAGE/install.sh DIR, which installs below DIR or by apt. What it pins is in itself and in the lock
# file beside it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
pins=$(ls install.sh servers/*/install.sh servers/*/package-lock.json servers/*/requirements.txt servers/*/pom.xml 2>/dev/null || true)
key=$(cat $pins | sha256sum | cut -c1-16)
dir=$here/../../.tools/frameworks-$key
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

exec 9>"$dir.lock"
flock 9
if [ ! -f "$dir/done" ]; then
	{
		for install in servers/*/install.sh; do
			echo "== $install"
			"$install" "$dir"
		done
		touch "$dir/done"
	} >"$dir/install.log" 2>&1 || {
		echo "installing the servers failed; the last lines of $dir/install.log:" >&2
		tail -20 "$dir/install.log" >&2
		exit 1
	}
fi
echo "$dir"
