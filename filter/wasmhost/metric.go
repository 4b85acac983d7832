package wasmhost

import (
	"cmp"
	"slices"
)

// This file holds the metrics of modules and their host calls. Metrics belong to the process: every
// module that defines a metric of the same name and type changes the same one. In an instance of a
// module, a metric has an id.

// MetricType is a proxy-wasm metric type.
type MetricType uint32

// The metric types of the ABI.
const (
	Counter MetricType = iota
	Gauge
	Histogram
)

// String returns the name of the type.
func (t MetricType) String() string { return enum(t, "counter", "gauge", "histogram") }

// Metric is a statistic that modules have defined. All VMs of the host share it, and Envoy exposes
// it as wasmcustom.<Name>.
type Metric struct {
	Name  string
	Type  MetricType
	Value uint64 // of a counter or gauge; for a histogram, the sum of the recorded values
	Count uint64 // of a histogram: the number of recorded values
	Max   uint64 // of a histogram: the largest recorded value
}

type metricKey struct {
	name string
	typ  MetricType
}

// metric returns a metric, which it creates if it does not exist.
func (s *store) metric(typ MetricType, name string) *Metric {
	s.mu.Lock()
	defer s.mu.Unlock()

	key := metricKey{name, typ}
	m := s.metrics[key]
	if m == nil {
		m = &Metric{Name: name, Type: typ}
		s.metrics[key] = m
	}

	return m
}

// Metric returns a metric by its name and reports whether a module has defined it.
func (h *Host) Metric(name string) (Metric, bool) {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()

	for _, typ := range []MetricType{Counter, Gauge, Histogram} {
		if m := h.store.metrics[metricKey{name, typ}]; m != nil {
			return *m, true
		}
	}

	return Metric{}, false
}

// Metrics returns all metrics, sorted by name.
func (h *Host) Metrics() []Metric {
	h.store.mu.Lock()
	defer h.store.mu.Unlock()

	all := make([]Metric, 0, len(h.store.metrics))
	for _, m := range h.store.metrics {
		all = append(all, *m)
	}

	slices.SortFunc(all, func(a, b Metric) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})

	return all
}

// metricTypeBits are the low bits of the id of a metric, which are its type. The others are a
// counter for each type.
const metricTypeBits = 0b11

// defineMetric is proxy_define_metric. Its parameters are 0 the type, 1 and 2 the name, and 3 where
// to return the id. A second definition in the same instance gets another id of the same metric.
func (c call) defineMetric() Status {
	t := c.u32(0)
	if t > uint32(Histogram) {
		return StatusBadArgument
	}

	c.in.nextMetric[t] += metricTypeBits + 1
	id := c.in.nextMetric[t] | t
	c.in.metrics[id] = c.in.vm.host.store.metric(MetricType(t), c.str(1))
	return c.put32(3, id)
}

// withMetric calls fn with the metric of that id, under the lock of all metrics. An id whose type
// does not exist is BadArgument, and an id that was not returned to the module is NotFound.
func (c call) withMetric(id uint32, fn func(m *Metric) Status) Status {
	if id&metricTypeBits > uint32(Histogram) {
		return StatusBadArgument
	}

	m := c.in.metrics[id]
	if m == nil {
		return StatusNotFound
	}

	s := &c.in.vm.host.store
	s.mu.Lock()
	defer s.mu.Unlock()

	return fn(m)
}

// incrementMetric is proxy_increment_metric. Its parameters are 0 the id and 1 the offset, which
// must be positive for a counter. A histogram cannot be incremented.
func (c call) incrementMetric() Status {
	offset := int64(c.stack[1])
	return c.withMetric(c.u32(0), func(m *Metric) Status {
		if m.Type == Histogram || m.Type == Counter && offset <= 0 {
			return StatusBadArgument
		}

		m.Value += uint64(offset)
		return StatusOK
	})
}

// recordMetric is proxy_record_metric. Its parameters are 0 the id and 1 the value: the new one of
// a gauge, one more observation of a histogram, and, as in Envoy, an amount to add to a counter.
func (c call) recordMetric() Status {
	value := c.stack[1]
	return c.withMetric(c.u32(0), func(m *Metric) Status {
		switch m.Type {
		case Counter:
			m.Value += value
		case Gauge:
			m.Value = value
		case Histogram:
			m.Value, m.Count, m.Max = m.Value+value, m.Count+1, max(m.Max, value)
		}
		return StatusOK
	})
}

// getMetric is proxy_get_metric. Its parameters are 0 the id and 1 where to return the value. A
// histogram has none.
func (c call) getMetric() Status {
	var value uint64
	st := c.withMetric(c.u32(0), func(m *Metric) Status {
		if m.Type == Histogram {
			return StatusBadArgument
		}

		value = m.Value
		return StatusOK
	})
	if st != StatusOK {
		return st
	}

	return c.put64(1, value)
}
