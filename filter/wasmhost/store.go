package wasmhost

import (
	"bytes"
	"maps"
	"slices"
	"sync"
)

// This file holds shared data and shared queues with their host calls. Keys and queues belong to a
// vm_id, which is part of the configuration of a VM: VMs with the same vm_id see the same. A key
// has a number that changes with each write (cas, "compare and swap"), so that a module can write a
// value only if nobody else has changed it since it was read.

// store holds what all VMs of a process share besides clusters: shared data, queues and metrics. It
// has one mutex for all of them, as in Envoy.
type store struct {
	mu      sync.Mutex
	cas     uint32                            // of the last write to any key
	data    map[string]map[string]sharedValue // by vm_id and key
	queues  map[uint32]*queue                 // by token, the id that modules know
	tokens  map[[2]string]uint32              // by vm_id and name of the queue
	vms     map[string]int                    // the number of open VMs by vm_id
	metrics map[metricKey]*Metric             // metric.go
}

type sharedValue struct {
	value []byte
	cas   uint32
}

type queue struct {
	items [][]byte
	ready func() // makes the VM that last registered the queue call proxy_on_queue_ready
}

func newStore() store {
	return store{
		data: make(map[string]map[string]sharedValue), queues: make(map[uint32]*queue), tokens: make(map[[2]string]uint32),
		vms: make(map[string]int), metrics: make(map[metricKey]*Metric),
	}
}

// retain counts a VM of a vm_id.
func (s *store) retain(vmID string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.vms[vmID]++
}

// release uncounts a VM of a vm_id. With the last one, its shared data and queues are deleted, as
// in Envoy.
func (s *store) release(vmID string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.vms[vmID]--
	if s.vms[vmID] > 0 {
		return
	}

	delete(s.vms, vmID)
	delete(s.data, vmID)

	for key, token := range s.tokens {
		if key[0] == vmID {
			delete(s.queues, token)
			delete(s.tokens, key)
		}
	}
}

// get returns a copy of the value of a key, and its cas.
func (s *store) get(vmID, key string) (value []byte, cas uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	v, ok := s.data[vmID][key]
	return bytes.Clone(v.value), v.cas, ok
}

// set stores a copy of value. A cas other than 0 must match that of the key, unless the key is new.
func (s *store) set(vmID, key string, value []byte, cas uint32) Status {
	s.mu.Lock()
	defer s.mu.Unlock()

	m := s.data[vmID]
	if m == nil {
		m = make(map[string]sharedValue)
		s.data[vmID] = m
	}

	if v, ok := m[key]; ok && cas != 0 && cas != v.cas {
		return StatusCasMismatch
	}

	s.cas++
	if s.cas == 0 { // callers use 0 for an unconditional write
		s.cas++
	}

	m[key] = sharedValue{value: bytes.Clone(value), cas: s.cas}
	return StatusOK
}

// registerQueue returns the token of a queue, which it creates if it does not exist.
func (s *store) registerQueue(vmID, name string, ready func()) (token uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()

	key := [2]string{vmID, name}
	token, ok := s.tokens[key]
	if !ok {
		token = uint32(len(s.queues)) + 1
		for s.queues[token] != nil {
			token++
		}
		s.tokens[key] = token
		s.queues[token] = &queue{}
	}

	s.queues[token].ready = ready
	return token
}

// resolveQueue returns the token of a queue; ok reports whether it exists.
func (s *store) resolveQueue(vmID, name string) (token uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	token, ok = s.tokens[[2]string{vmID, name}]
	return token, ok
}

// enqueue appends a copy of the item to the queue and notifies its VM, without the lock, since the
// notification is not the store's code.
func (s *store) enqueue(token uint32, item []byte) Status {
	s.mu.Lock()
	q := s.queues[token]
	if q == nil {
		s.mu.Unlock()
		return StatusNotFound
	}

	q.items = append(q.items, bytes.Clone(item))
	ready := q.ready
	s.mu.Unlock()

	ready()
	return StatusOK
}

// dequeue takes the oldest item from the queue. The status is Empty if there is none.
func (s *store) dequeue(token uint32) ([]byte, Status) {
	s.mu.Lock()
	defer s.mu.Unlock()

	q := s.queues[token]
	switch {
	case q == nil:
		return nil, StatusNotFound
	case len(q.items) == 0:
		return nil, StatusEmpty
	}

	item := q.items[0]
	q.items = q.items[1:]
	return item, StatusOK
}

// SharedData returns the value of a key as a module with this vm_id reads it.
func (h *Host) SharedData(vmID, key string) (value []byte, cas uint32, ok bool) {
	return h.store.get(vmID, key)
}

// SetSharedData sets the value of a key as a module with this vm_id does. With cas 0 it overwrites;
// any other cas must match that of an existing key.
func (h *Host) SetSharedData(vmID, key string, value []byte, cas uint32) Status {
	return h.store.set(vmID, key, value, cas)
}

// SharedKeys returns the sorted keys of a vm_id.
func (h *Host) SharedKeys(vmID string) []string {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()

	return slices.Sorted(maps.Keys(h.store.data[vmID]))
}

// getSharedData is proxy_get_shared_data. Its parameters are 0 and 1 the key, 2 and 3 where to
// return the value, and 4 where to return its cas.
func (c call) getSharedData() Status {
	value, cas, ok := c.in.vm.host.store.get(c.in.vm.cfg.ID, c.str(0))
	if !ok {
		return StatusNotFound
	}
	if st := c.putBytes(2, value); st != StatusOK {
		return st
	}
	return c.put32(4, cas)
}

// setSharedData is proxy_set_shared_data. Its parameters are 0 and 1 the key, 2 and 3 the value,
// and 4 the cas.
func (c call) setSharedData() Status {
	return c.in.vm.host.store.set(c.in.vm.cfg.ID, c.str(0), c.bytes(2), c.u32(4))
}

// registerQueue is proxy_register_shared_queue. Its parameters are 0 and 1 the name, and 2 where to
// return the token.
func (c call) registerQueue() Status {
	vm, root := c.in.vm, c.in.current().root
	var token uint32
	token = vm.host.store.registerQueue(vm.cfg.ID, c.str(0), func() {
		vm.Post(func() { vm.queueReady(root.id, token) })
	})
	return c.put32(2, token)
}

// resolveQueue is proxy_resolve_shared_queue. Its parameters are 0 and 1 the vm_id, which is that
// of the module itself if it is empty, 2 and 3 the name, and 4 where to return the token.
func (c call) resolveQueue() Status {
	vmID := c.str(0)
	if vmID == "" {
		vmID = c.in.vm.cfg.ID
	}
	token, ok := c.in.vm.host.store.resolveQueue(vmID, c.str(2))
	if !ok {
		return StatusNotFound
	}
	return c.put32(4, token)
}

// dequeue is proxy_dequeue_shared_queue. Its parameters are 0 the token, and 1 and 2 where to
// return the item.
func (c call) dequeue() Status {
	item, st := c.in.vm.host.store.dequeue(c.u32(0))
	if st != StatusOK {
		return st
	}
	return c.putBytes(1, item)
}

// enqueue is proxy_enqueue_shared_queue. Its parameters are 0 the token, and 1 and 2 the item.
func (c call) enqueue() Status { return c.in.vm.host.store.enqueue(c.u32(0), c.bytes(1)) }
