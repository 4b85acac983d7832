package main

import (
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// attributes is the maintenance.Attributes of all requests of a plugin: it reads what the proxy
// knows about the request in the effective context. Each read is a host call.
type attributes struct {
	claimsPath []string // where the dynamic metadata has the claims
}

// The names of the properties are Envoy's attributes (its documentation, "Attributes"). The
// principal is the identity of the peer in its certificate, a SPIFFE id in a mesh.

func (*attributes) SourceAddress() string { return property("source", "address") }
func (*attributes) Principal() string     { return property("connection", "uri_san_peer_certificate") }
func (*attributes) Route() string         { return property("xds", "route_name") }
func (*attributes) Cluster() string       { return property("xds", "cluster_name") }

// Claims reads the metadata as a whole, which is one call for any number of claims. Envoy returns
// it as a protobuf only then: any part of it comes without types (see RATIONALE.md).
func (a *attributes) Claims() maintenance.Claims {
	metadata, err := proxywasm.GetProperty([]string{"metadata"})
	if err != nil {
		return ""
	}

	return maintenance.MetadataClaims(metadata, a.claimsPath)
}

// property returns a property of the effective context, the request that the host calls concern
// now. It is empty if there is none.
func property(path ...string) string {
	value, err := proxywasm.GetProperty(path)
	if err != nil {
		return ""
	}
	return string(value)
}
