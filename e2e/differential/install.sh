# What the install scripts of the rigs share. A script sources this file in its own folder, defines
# a function install DIR, and calls install_once. Its steps are run with set -e: the first that fails
# ends the installation.

# install_once TOOLS NAME FILE... prints a folder below the folder TOOLS after install has installed
# there what the files pin. The folder is named by the hash of the files: a changed pin installs
# again, and an unchanged one costs nothing. A second caller waits for the first.
install_once() {
	tools=$1 name=$2
	shift 2
	dir=$tools/$name-$(cat "$@" | sha256sum | cut -c1-16)
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)

	exec 9>"$dir.lock"
	flock 9
	if [ ! -f "$dir/done" ]; then
		# Not "install || …": the shell would ignore set -e in there.
		set +e
		(set -e; install "$dir") >"$dir/install.log" 2>&1
		status=$?
		set -e
		if [ $status -ne 0 ]; then
			echo "installing $name failed; the last lines of $dir/install.log:" >&2
			tail -20 "$dir/install.log" >&2
			exit 1
		fi
		touch "$dir/done"
	fi
	echo "$dir"
}

# install_debian PACKAGE... installs those of Debian's packages that are missing. A release of Debian
# keeps one version of each, so they are not pinned.
install_debian() {
	missing=
	for package in "$@"; do
		dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
	done
	if [ -n "$missing" ]; then
		apt-get -o DPkg::Lock::Timeout=600 update -q
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends $missing
	fi
}

# install_node FOLDER DIR [OPTION...] installs the packages that FOLDER/package-lock.json pins into
# DIR/node_modules. The options are those of npm ci.
install_node() {
	mkdir -p "$2"
	cp "$1/package.json" "$1/package-lock.json" "$2/"
	(
		cd "$2"
		shift 2
		npm ci --ignore-scripts --no-audit --no-fund "$@"
	)
}

# install_python REQUIREMENTS DIR installs the packages that the file REQUIREMENTS pins into the
# virtual environment DIR.
install_python() {
	python3 -m venv --help >/dev/null 2>&1 || install_debian python3-venv
	python3 -m venv "$2"
	"$2/bin/pip" install --quiet --disable-pip-version-check -r "$1"
}

# install_java POM DIR installs the packages that the file POM pins into DIR.
install_java() {
	command -v mvn >/dev/null || install_debian maven
	command -v javac >/dev/null || install_debian default-jdk-headless # java runs a source file by its compiler
	mvn -q -B -f "$1" dependency:copy-dependencies -DoutputDirectory="$2"
}
