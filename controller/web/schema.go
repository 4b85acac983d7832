package web

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// newRegistry returns a registry of schemas that takes the values of modes from the core's list.
func newRegistry() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	r.RegisterTypeAlias(reflect.TypeFor[maintenance.Mode](), reflect.TypeFor[closingMode]())

	// Elsewhere a mode belongs to an activation or a window, which are never off.
	for _, mayBeOff := range []reflect.Type{
		reflect.TypeFor[keeper.AppStatus](), reflect.TypeFor[PublicStatus](), reflect.TypeFor[Explanation](),
	} {
		mode := r.Schema(mayBeOff, false, "").Properties["mode"]
		mode.Enum = append([]any{string(maintenance.Off)}, mode.Enum...)
	}
	return r
}

// closingMode describes [maintenance.Mode] in place of its own type, which knows nothing of huma.
type closingMode string

func (closingMode) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}

	for _, mode := range maintenance.Modes() {
		s.Enum = append(s.Enum, string(mode))
	}
	return s
}

// rawBody is a JSON body that the core parses, because it is stricter than huma and names fields
// as the proxies do. The OpenAPI document describes it with the schema of T.
type rawBody[T any] []byte

func (b *rawBody[T]) UnmarshalJSON(data []byte) error {
	*b = append((*b)[:0], data...)
	return nil
}

func (rawBody[T]) Schema(r huma.Registry) *huma.Schema { return schemaOf[T](r) }

func schemaOf[T any](r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}
