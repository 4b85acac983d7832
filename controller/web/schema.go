package web

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

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
