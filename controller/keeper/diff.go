package keeper

import (
	"bytes"
	"cmp"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Change is how one app changed. Before and After hold only what differs: of objects the fields
// that differ, and of lists of strings the elements that were removed and added.
type Change struct {
	App    string          `json:"app,omitempty"`
	Before json.RawMessage `json:"before,omitempty" doc:"What was removed or replaced; absent if something was only added"`
	After  json.RawMessage `json:"after,omitempty" doc:"What was added or took its place; absent if something was only removed"`
}

// diffApps returns the changes from one set of apps to another, ordered by the names of the apps.
func diffApps(before, after []maintenance.App) (changes []Change) {
	removed := make(map[string]*maintenance.App, len(before))
	for i := range before {
		removed[before[i].Name] = &before[i]
	}

	for i := range after {
		name := after[i].Name
		var from any // nil, not a nil pointer, if the app is new
		if was := removed[name]; was != nil {
			delete(removed, name)
			if reflect.DeepEqual(*was, after[i]) {
				continue
			}
			from = was
		}

		if c, differ := diffResources(name, from, &after[i]); differ {
			changes = append(changes, c)
		}
	}

	for name, was := range removed {
		if c, differ := diffResources(name, was, nil); differ {
			changes = append(changes, c)
		}
	}

	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.App, b.App) })
	return changes
}

// diffResources returns the change from one resource to another, and whether they differ as JSON.
// A resource that does not exist is nil.
func diffResources(app string, from, to any) (c Change, differ bool) {
	before, after, differ := diffJSON(toJSONValue(from), toJSONValue(to))
	c.App = app
	if before != nil {
		c.Before = mustMarshal(before)
	}
	if after != nil {
		c.After = mustMarshal(after)
	}
	return c, differ
}

// diffJSON reduces two JSON values to the parts that differ. A side is nil if nothing is left of
// it.
func diffJSON(before, after any) (b, a any, differ bool) {
	if reflect.DeepEqual(before, after) {
		return nil, nil, false
	}

	if from, ok := before.(map[string]any); ok {
		if to, ok := after.(map[string]any); ok {
			b, a = diffObjects(from, to)
			return b, a, true
		}
	}
	if from, ok := toStrings(before); ok {
		if to, ok := toStrings(after); ok {
			// The same strings in another order differ as a whole.
			if removed, added := subtract(from, to), subtract(to, from); len(removed)+len(added) > 0 {
				return nilIfEmptyList(removed), nilIfEmptyList(added), true
			}
		}
	}
	return before, after, true
}

// diffObjects reduces two JSON objects to the fields that differ.
func diffObjects(from, to map[string]any) (before, after any) {
	removed, added := map[string]any{}, map[string]any{}
	for key := range from {
		b, a, _ := diffJSON(from[key], to[key])
		if b != nil {
			removed[key] = b
		}
		if a != nil {
			added[key] = a
		}
	}

	for key := range to {
		if _, ok := from[key]; !ok {
			added[key] = to[key]
		}
	}
	return nilIfEmptyObject(removed), nilIfEmptyObject(added)
}

// nilIfEmptyObject returns nil for an empty object, as an untyped nil.
func nilIfEmptyObject(m map[string]any) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// nilIfEmptyList returns nil for an empty list, as an untyped nil.
func nilIfEmptyList(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// toStrings returns the elements of a JSON array if all of them are strings.
func toStrings(v any) (list []string, ok bool) {
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

// subtract returns the elements of list that other does not have.
func subtract(list, other []string) (rest []string) {
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

// equalJSON reports whether two values have the same JSON.
func equalJSON(a, b any) bool {
	return reflect.DeepEqual(a, b) || bytes.Equal(mustMarshal(a), mustMarshal(b))
}

// toJSONValue returns a resource as the value that its JSON decodes to, with exact numbers.
func toJSONValue(resource any) (v any) {
	if resource == nil {
		return nil
	}

	dec := json.NewDecoder(bytes.NewReader(mustMarshal(resource)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic(err) // it was just encoded
	}
	return v
}

func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package and decoded JSON are passed
	}
	return data
}
