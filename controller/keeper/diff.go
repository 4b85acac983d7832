package keeper

// This file compares apps, and other resources, before and after a change. The result goes into the
// audit log and into the answer of a dry run. Resources are compared as the JSON that they are in
// the API, so that what people read is in the terms of the API.

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

// noApp stands for the name of the app in a change of something that belongs to no app, such as a
// token.
const noApp = ""

// diffApps returns the changes from one set of apps to another, ordered by the names of the apps.
// An app that does not differ as JSON has no change.
func diffApps(before, after []maintenance.App) (changes []Change) {
	unmatched := make(map[string]*maintenance.App, len(before)) // apps of before that are not found in after yet
	for i := range before {
		unmatched[before[i].Name] = &before[i]
	}

	for i := range after {
		name := after[i].Name
		var from any // stays nil if the app is new; a nil *App would not be equal to nil
		if was := unmatched[name]; was != nil {
			delete(unmatched, name)
			if reflect.DeepEqual(*was, after[i]) {
				continue // the usual case, without encoding JSON
			}
			from = was
		}

		if c, differ := diffResources(name, from, &after[i]); differ {
			changes = append(changes, c)
		}
	}

	for name, deleted := range unmatched {
		if c, differ := diffResources(name, deleted, nil); differ {
			changes = append(changes, c)
		}
	}

	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.App, b.App) })
	return changes
}

// diffResources returns the change from one resource to another, and whether they differ as JSON.
// It is a change of the app of that name, or of [noApp]. A resource that does not exist is nil.
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

// diffJSON reduces two decoded JSON values to the parts that differ: removed is what is left of
// before, and added what is left of after. Each is nil if nothing is left of it.
func diffJSON(before, after any) (removed, added any, differ bool) {
	if reflect.DeepEqual(before, after) {
		return nil, nil, false
	}

	fromObject, fromOK := before.(map[string]any)
	toObject, toOK := after.(map[string]any)
	if fromOK && toOK {
		removed, added = diffObjects(fromObject, toObject)
		return removed, added, true
	}

	fromList, fromOK := toStrings(before)
	toList, toOK := toStrings(after)
	if fromOK && toOK {
		removed, added := subtract(fromList, toList), subtract(toList, fromList)
		// Lists that only have another order differ as a whole, since no element is left of them.
		if len(removed)+len(added) > 0 {
			return nilIfEmptyList(removed), nilIfEmptyList(added), true
		}
	}
	return before, after, true
}

// diffObjects reduces two decoded JSON objects to the fields that differ, as diffJSON does.
func diffObjects(before, after map[string]any) (removed, added any) {
	removedFields, addedFields := map[string]any{}, map[string]any{}
	for key := range before {
		// If after does not have the field, after[key] is nil, and all of before[key] was removed.
		removedValue, addedValue, _ := diffJSON(before[key], after[key])
		if removedValue != nil {
			removedFields[key] = removedValue
		}
		if addedValue != nil {
			addedFields[key] = addedValue
		}
	}

	for key := range after {
		if _, ok := before[key]; !ok {
			addedFields[key] = after[key]
		}
	}
	return nilIfEmptyObject(removedFields), nilIfEmptyObject(addedFields)
}

// nilIfEmptyObject returns m, or nil if m is empty. The result is of type any, since a nil map that
// is put into an any is not equal to nil.
func nilIfEmptyObject(m map[string]any) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// nilIfEmptyList returns list, or nil if it is empty.
func nilIfEmptyList(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// toStrings returns the elements of a decoded JSON array. ok is false if v is not an array, or if
// an element is not a string.
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

// equalJSON reports whether two values have the same JSON, such as a nil list and an empty one that
// are left out of it.
func equalJSON(a, b any) bool {
	return reflect.DeepEqual(a, b) || bytes.Equal(mustMarshal(a), mustMarshal(b))
}

// toJSONValue returns the value that the JSON of a resource decodes to: a map[string]any for an
// object, and so on. Numbers are [json.Number], because a float64 would round large ones.
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

// mustMarshal returns the JSON of a value that is known to have one.
func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // callers pass only types of this program and decoded JSON, which always encode
	}
	return data
}
