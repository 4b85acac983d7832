package maintenance

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// claimRule is a ClaimRule with its values as properties.
type claimRule struct {
	ClaimRule
	properties []string
}

// compileClaims checks and compiles the app's claim rules.
func (a *app) compileClaims(c *checker) {
	for i, r := range a.spec.Bypass.Claims {
		field := fmt.Sprintf("bypass.claims[%d]", i)
		if r.Issuer == "" {
			c.bad(field+".issuer", "is required: without it a token of any issuer that the proxy trusts would pass")
		}
		if len(r.Values) > 0 && len(r.Claim) == 0 {
			c.bad(field+".claim", "is required where values are given")
		}
		c.present(field+".claim", r.Claim)
		compiled := claimRule{ClaimRule: r}
		for j, v := range r.Values {
			property, err := scalarProperty(v)
			if err != nil {
				c.bad(fmt.Sprintf("%s.values[%d]", field, j), "%s", err)
			}
			compiled.properties = append(compiled.properties, property)
		}
		a.claims = append(a.claims, compiled)
	}
}

// grantsClaims reports whether a claim rule of the app lets the request pass.
func (a *app) grantsClaims(r *Request) bool {
	for i := range a.claims {
		if a.claims[i].holds(r.Attributes) {
			return true
		}
	}
	return false
}

var (
	issuerPath   = []string{"iss"}
	audiencePath = []string{"aud"}
)

func (c *claimRule) holds(attrs Attributes) bool {
	if iss, ok := attrs.Claim(issuerPath); !ok || string(iss) != c.Issuer {
		return false
	}
	if c.Audience != "" {
		if aud, ok := attrs.Claim(audiencePath); !ok || !propertyHas(aud, c.Audience) {
			return false
		}
	}
	if len(c.Claim) == 0 {
		return true
	}
	claim, ok := attrs.Claim(c.Claim)
	if !ok {
		return false
	}
	return len(c.properties) == 0 || slices.ContainsFunc(c.properties, func(p string) bool { return propertyHas(claim, p) })
}

// Property is a JSON value as proxy-wasm serialises it. Lists hold scalars only.
func Property(v any) (string, error) {
	list, ok := v.([]any)
	if !ok {
		return scalarProperty(v)
	}
	pairs := make([][2]string, len(list))
	for i, item := range list {
		var err error
		if pairs[i][0], err = scalarProperty(item); err != nil {
			return "", err
		}
	}
	return string(appendPairs(nil, pairs)), nil
}

func scalarProperty(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		if v {
			return "\x01", nil
		}
		return "\x00", nil
	case int:
		return scalarProperty(float64(v))
	case float64:
		return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))), nil
	}
	return "", fmt.Errorf("%v must be a string, a number or a boolean", v)
}

// propertyHas tells whether a property is a scalar, or is a list that holds it.
func propertyHas(property []byte, scalar string) bool {
	if string(property) == scalar {
		return true
	}
	if len(property) < 4 {
		return false
	}
	n := int(binary.LittleEndian.Uint32(property))
	if n > (len(property)-4)/8 {
		return false
	}
	sizes, data := property[4:4+8*n], property[4+8*n:]
	found := false
	for ; len(sizes) > 0; sizes = sizes[8:] {
		k, v := int(binary.LittleEndian.Uint32(sizes)), int(binary.LittleEndian.Uint32(sizes[4:]))
		if k < 0 || v != 0 || k+2 > len(data) || data[k] != 0 || data[k+1] != 0 {
			return false
		}
		found = found || string(data[:k]) == scalar
		data = data[k+2:]
	}
	// All of it or nothing: a text that merely begins like a list is none.
	return found && len(data) == 0
}
