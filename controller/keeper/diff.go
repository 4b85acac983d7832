package keeper

import (
	"bytes"
	"cmp"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Change is what became of one app. Both sides hold only what differs: a list of
// strings what was taken away and what was added.
type Change struct {
	App    string          `json:"app,omitempty"`
	Before json.RawMessage `json:"before,omitempty" doc:"What was removed or replaced; absent if something was only added"`
	After  json.RawMessage `json:"after,omitempty" doc:"What was added or took its place; absent if something was only removed"`
}

// compare lists what differs between two sets of apps, in the order of the names.
func compare(before, after []maintenance.App) (changes []Change) {
	old := make(map[string]*maintenance.App, len(before))
	for i := range before {
		old[before[i].Name] = &before[i]
	}
	for i := range after {
		was := old[after[i].Name]
		delete(old, after[i].Name)
		if was != nil && reflect.DeepEqual(*was, after[i]) {
			continue
		}
		var from any
		if was != nil {
			from = was
		}
		if c, ok := difference(after[i].Name, from, &after[i]); ok {
			changes = append(changes, c)
		}
	}
	for name, was := range old {
		if c, ok := difference(name, was, nil); ok {
			changes = append(changes, c)
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.App, b.App) })
	return changes
}

// difference is the change from one resource to another; nil is one that is not there.
func difference(app string, from, to any) (Change, bool) {
	c := Change{App: app}
	before, after, differ := diff(generic(from), generic(to))
	if before != nil {
		c.Before = mustMarshal(before)
	}
	if after != nil {
		c.After = mustMarshal(after)
	}
	return c, differ
}

// diff cuts two JSON values down to where they differ.
func diff(before, after any) (b, a any, differ bool) {
	if reflect.DeepEqual(before, after) {
		return nil, nil, false
	}
	if from, ok := before.(map[string]any); ok {
		if to, ok := after.(map[string]any); ok {
			bs, as := map[string]any{}, map[string]any{}
			for key := range from {
				if b, a, differ := diff(from[key], to[key]); differ {
					if b != nil {
						bs[key] = b
					}
					if a != nil {
						as[key] = a
					}
				}
			}
			for key := range to {
				if _, ok := from[key]; !ok {
					as[key] = to[key]
				}
			}
			return orNil(bs), orNil(as), true
		}
	}
	if from, ok := stringsOf(before); ok {
		if to, ok := stringsOf(after); ok {
			if gone, added := without(from, to), without(to, from); len(gone)+len(added) > 0 {
				return orNoList(gone), orNoList(added), true
			}
		}
	}
	return before, after, true
}

func orNil(m map[string]any) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

func orNoList(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

func stringsOf(v any) (list []string, ok bool) {
	items, ok := v.([]any)
	if !ok {
		return nil, false
	}
	for _, item := range items {
		s, ok := item.(string)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

func without(list, other []string) (rest []string) {
	in := make(map[string]bool, len(other))
	for _, s := range other {
		in[s] = true
	}
	for _, s := range list {
		if !in[s] {
			rest = append(rest, s)
		}
	}
	return rest
}

// generic is a resource as its JSON reads, numbers kept exact.
func generic(resource any) (v any) {
	if resource == nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(mustMarshal(resource)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic(err) // it was just written
	}
	return v
}

// same tells whether two values are the same JSON.
func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || bytes.Equal(mustMarshal(a), mustMarshal(b))
}

func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own types and decoded JSON come here
	}
	return data
}
