package main

import (
	"errors"
	"time"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Shared data is how the VMs of a process share the state: a table of the host, with byte strings
// as keys and values. Under headKey is the head: the version and when the controller last answered,
// which each VM reads at each tick. Under stateKey is a head with its document, which a VM reads
// when the head names a newer version. Neither is ever replaced by an older one.
//
// Each value has a number, its cas (compare and swap), which changes with each write. A write with
// the cas that was read fails with ErrorStatusCasMismatch if the value was written meanwhile.
//
// The follower (follow.go) is the part of a plugin that follows the controller. Its methods here
// write and read the shared state.

// createIfAbsent is a cas that matches no value: a write with it succeeds only if the key is absent
// (proxy-wasm-cpp-host, SharedData::set).
const createIfAbsent = 0xFFFFFFFF

// overwrite is a cas that matches every value: a write with it always succeeds.
const overwrite = 0

// sharedKey returns a key for shared data. It contains the controller and the plugin, because
// shared data has a namespace for each vm_id of Envoy's configuration, and Istio leaves that empty
// for all plugins.
func sharedKey(c *maintenance.Config, name string) string {
	return "drydock/" + c.Cluster + "/" + c.Authority + "/" + c.Name + "/" + name
}

// processID returns the random id of the process, which the first VM that needs it creates.
func processID() string {
	const key = "drydock/process"
	id := randomID()

	if err := proxywasm.SetSharedData(key, []byte(id), createIfAbsent); err != nil {
		// Another VM was first.
		if first, _, err := proxywasm.GetSharedData(key); err == nil && len(first) > 0 {
			return string(first)
		}
	}
	return id
}

// publish writes a state that is newer than the one in force, and its document, to shared data and
// puts it in force. It reports whether that succeeded. The other VMs notice the state when
// writeHead has written the head.
func (f *follower) publish(state *maintenance.State, body []byte, now time.Time) bool {
	head := maintenance.Head{Version: state.Version(), Contact: now.UnixMilli()}
	value := append(head.Append(make([]byte, 0, maintenance.HeadSize+len(body))), body...)

	if err := setUnlessNewer(f.stateKey, value, head.Version); err != nil {
		f.contactErrors.reportf("writing the state to shared data: %v", err)
		return false
	}

	f.plugin.adopt(state, now)
	f.ack(now)
	f.plugin.resumePaused(now)
	f.plugin.pages.setWanted(state.PageHashes())
	return true
}

// writeHead tells the other VMs which version is in force here, and that the controller has
// answered.
func (f *follower) writeHead(now time.Time) {
	if f.plugin.state == nil {
		return
	}

	f.lastContact = now
	head := maintenance.Head{Version: f.plugin.version(), Contact: now.UnixMilli()}
	if err := setUnlessNewer(f.headKey, head.Append(nil), head.Version); err != nil {
		f.plugin.errors.reportf("writing the head to shared data: %v", err)
	}
}

// setUnlessNewer sets a value that begins with a head of this version, unless the value that is
// there has a newer version.
func setUnlessNewer(key string, value []byte, version maintenance.Version) error {
	for {
		old, cas, err := proxywasm.GetSharedData(key)
		if err != nil {
			cas = createIfAbsent
		} else if maintenance.SharedIsNewer(old, version) {
			return nil
		}

		err = proxywasm.SetSharedData(key, value, cas)
		if !errors.Is(err, types.ErrorStatusCasMismatch) {
			return err
		}
		// Another VM has written the value meanwhile, which may be newer.
	}
}

// adoptShared puts in force what another VM has published. It is called at each tick, and reads the
// document only if the head names a newer version.
func (f *follower) adoptShared(now time.Time) {
	raw, _, err := proxywasm.GetSharedData(f.headKey)
	if err != nil {
		return
	}
	head, ok := maintenance.ParseHead(raw)
	if !ok {
		// Something else has overwritten the head. The leader writes it again with its next poll,
		// for which a VM that has a state can wait.
		f.standalone = f.plugin.state == nil
		return
	}

	f.lastContact = time.UnixMilli(head.Contact)
	if head.Compare(f.plugin.version()) <= 0 {
		f.standalone = false
		return
	}
	if head.Version == f.unusable {
		return // It was tried already.
	}

	state, err := f.readShared(head.Version)
	if err != nil {
		f.unusable, f.standalone = head.Version, true
		f.plugin.errors.reportf("the state in shared data is refused and the last good one stays in force: %v", err)
		return
	}
	f.plugin.adopt(state, now)
}

// readShared returns the state in shared data. Its version is at least the one that the head names,
// since the document is written before the head.
func (f *follower) readShared(version maintenance.Version) (*maintenance.State, error) {
	value, _, err := proxywasm.GetSharedData(f.stateKey)
	if err != nil {
		return nil, err
	}

	state, err := maintenance.ParseShared(value)
	if err != nil {
		return nil, err
	}
	if state == nil || state.Version().Compare(version) < 0 {
		return nil, errors.New("it is older than its head")
	}
	return state, nil
}
