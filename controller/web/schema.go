package web

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// Huma makes a JSON schema of every Go type in the input or output of an operation, for the OpenAPI
// document and to check inputs. This file has the types whose schema is not what huma would make.

// newRegistry returns a registry of schemas. In these, a mode is one of those that the core,
// package maintenance, has in its list of modes, so that a new mode is in the document at once.
func newRegistry() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	r.RegisterTypeAlias(reflect.TypeFor[maintenance.Mode](), reflect.TypeFor[modeSchema]())

	// In these types the mode is that of an app, which may be off. In all others it is the mode of
	// an activation or of a window, which cannot be off.
	for _, mayBeOff := range []reflect.Type{
		reflect.TypeFor[keeper.AppStatus](), reflect.TypeFor[PublicStatus](), reflect.TypeFor[Explanation](),
	} {
		const byReference, hint = false, "" // the schema itself, to change it
		mode := r.Schema(mayBeOff, byReference, hint).Properties["mode"]
		mode.Enum = append([]any{string(maintenance.Off)}, mode.Enum...)
	}
	return r
}

// modeSchema has the schema of [maintenance.Mode], which cannot have one itself, because the core
// does not import huma.
type modeSchema string

// Schema implements [huma.SchemaProvider]. It lists the modes in which an app is on.
func (modeSchema) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}

	for _, mode := range maintenance.Modes() {
		s.Enum = append(s.Enum, string(mode))
	}
	return s
}

// rawBody is a JSON body that an operation receives as bytes and passes to the core: the core's
// parser is stricter than huma, and its errors name fields as those of the proxies do. The OpenAPI
// document describes the body by the schema of T.
type rawBody[T any] []byte

// UnmarshalJSON implements json.Unmarshaler: it keeps the JSON as it is.
func (b *rawBody[T]) UnmarshalJSON(data []byte) error {
	*b = append((*b)[:0], data...)
	return nil
}

// Schema implements [huma.SchemaProvider].
func (rawBody[T]) Schema(r huma.Registry) *huma.Schema { return schemaOf[T](r) }

// schemaOf returns a reference to the schema of T, which it adds to the registry if necessary.
func schemaOf[T any](r huma.Registry) *huma.Schema {
	const byReference, hint = true, "" // the hint names types without a name
	return r.Schema(reflect.TypeFor[T](), byReference, hint)
}
