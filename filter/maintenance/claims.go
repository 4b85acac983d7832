package maintenance

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// A claim rule lets the holder of a token pass. Envoy verifies the token, and hands its claims to
// the filter as protobuf. This file reads the few fields that it needs by itself, because the
// protobuf library would double the size of the module. To compare two values it compares their
// bytes.
//
// The reader is strict. Whatever Envoy would not write grants nothing: a malformed value, and a
// claim that is there twice, of which two readers could use a different one.

// Claims are the payload of a JWT that the proxy has verified: a serialised google.protobuf.Value
// with an object, in which every claim keeps its JSON type. Without a token they are empty. If a
// payload is malformed, is not UTF-8 or nests deeper than maxClaimDepth, no claim rule applies.
type Claims string

// maxClaimDepth bounds how deep objects and lists may nest. Envoy's JSON parser stops at about 100
// levels, so no token that it verifies is deeper.
const maxClaimDepth = 128

// MetadataClaims returns the claims in the dynamic metadata of a request, which is a serialised
// envoy.config.core.v3.Metadata. The path is the namespace of a filter and at least one key below
// it. The result is empty if there is nothing at the path, or if an entry on it is there twice.
func MetadataClaims(metadata []byte, path []string) Claims {
	return Claims(valueAt(member(string(metadata), path[0]), path[1:]))
}

// ClaimRule lets the holder of a verified JWT pass. Issuer is required: the proxy puts the tokens
// of all issuers under one metadata key, so a rule without it would trust them all.
type ClaimRule struct {
	Issuer   string   `json:"issuer" doc:"The token's iss, exactly"`
	Audience string   `json:"audience,omitempty" doc:"One of the token's aud"`
	Claim    []string `json:"claim,omitempty" doc:"Path to the claim. Absent: any verified token of the issuer passes"`
	Values   []any    `json:"values,omitempty" doc:"Strings, numbers or booleans, one of which must be the claim or an element of it. Absent: the claim must only be present"`
}

// String describes the rule, such as "realm.roles in [admin] of https://idp.example.com".
func (r ClaimRule) String() string {
	claim := "any token"
	if len(r.Claim) > 0 {
		claim = strings.Join(r.Claim, ".")
		if len(r.Values) > 0 {
			claim += fmt.Sprintf(" in %v", r.Values)
		}
	}
	return claim + " of " + r.Issuer
}

// Bounds on the lists of a claim rule.
const (
	maxClaimPath   = 16
	maxClaimValues = 1000
)

// claimRule reads a ClaimRule from the JSON value v.
func (v value) claimRule() (r ClaimRule) {
	v.object(func(key string, v value) bool {
		switch key {
		case "issuer":
			r.Issuer = v.str()
		case "audience":
			r.Audience = v.str()
		case "claim":
			r.Claim = v.strs(maxClaimPath)
		case "values":
			v.array(maxClaimValues, func(v value) { r.Values = append(r.Values, v.scalar()) })
		default:
			return false
		}

		return true
	})
	return r
}

// claimRule is a compiled [ClaimRule]. Everything in it that is compared is a serialised
// google.protobuf.Value: equal values have equal bytes, and values of different types never do.
type claimRule struct {
	issuer   string
	audience string   // "" for any
	path     []string // the keys that lead to the claim; empty if the issuer is enough
	values   []string // sorted; empty if any value will do
}

// compileClaims compiles the claim rules of the app's spec, and reports what is wrong with them to
// c.
func (a *app) compileClaims(c *checker) {
	for i, r := range a.spec.Bypass.Claims {
		field := fmt.Sprintf("bypass.claims[%d]", i)
		if r.Issuer == "" {
			c.reject(field+".issuer", "is required: without it a token of any issuer that the proxy trusts would pass")
		}
		if len(r.Values) > 0 && len(r.Claim) == 0 {
			c.reject(field+".claim", "is required if there are values")
		}

		c.nonEmpty(field+".claim", r.Claim)

		rule := claimRule{issuer: scalarValue(r.Issuer), path: r.Claim}
		if r.Audience != "" {
			rule.audience = scalarValue(r.Audience)
		}

		for j, v := range r.Values {
			value := scalarValue(v)
			if value == "" {
				c.reject(fmt.Sprintf("%s.values[%d]", field, j), "%v must be a string, a boolean, or a number below 2^53, which is exact in every token", v)
			}
			rule.values = append(rule.values, value)
			if value == zeroValue { // the one number with two representations
				rule.values = append(rule.values, negativeZeroValue)
			}
		}

		slices.Sort(rule.values)
		a.claims = append(a.claims, rule)
	}
}

// scalarValue returns a value of a rule as a serialised google.protobuf.Value, or "" if the value
// cannot be compared. A number of 2^53 or more cannot, because Envoy makes a float64 of every
// number in a token, and from 2^53 on one float64 stands for several integers (RFC 8259 section 6).
func scalarValue(v any) string {
	switch v := v.(type) {
	case string:
		b := [1 + binary.MaxVarintLen64]byte{tagString} // the tag, and then the length as a varint
		n := binary.PutUvarint(b[1:], uint64(len(v)))
		return string(b[:1+n]) + v
	case bool:
		if v {
			return trueValue
		}
		return falseValue
	case int:
		return scalarValue(float64(v))
	case float64:
		if v == 0 {
			return zeroValue // of -0 too
		}
		if math.Abs(v) < 1<<53 {
			b := [1 + 8]byte{tagNumber} // the tag, and then the float64
			binary.LittleEndian.PutUint64(b[1:], math.Float64bits(v))
			return string(b[:])
		}
	}

	return ""
}

// verifiedClaims returns the claims of the request's token as a valid serialised
// google.protobuf.Struct, or "" if the request has no valid claims. It reads them once, because
// that is a host call in the filter, and several apps may have claim rules.
func (r *Request) verifiedClaims() string {
	if !r.claimsRead {
		r.claimsRead = true
		if payload := string(r.Attributes.Claims()); isValidValue(payload, maxClaimDepth) {
			r.claims, _, _ = cutField(payload, tagObject)
		}
	}
	return r.claims
}

// grantsClaims reports whether a claim rule of the app lets the request pass.
func (a *app) grantsClaims(r *Request) bool {
	if len(a.claims) == 0 {
		return false
	}

	claims := r.verifiedClaims()
	issuer := member(claims, "iss")
	for i := range a.claims {
		if rule := &a.claims[i]; rule.issuer == issuer && rule.isSatisfiedBy(claims) {
			return true
		}
	}

	return false
}

// isSatisfiedBy reports whether claims satisfy the rule. The caller has compared the issuer.
func (c *claimRule) isSatisfiedBy(claims string) bool {
	if c.audience != "" && !namesAudience(member(claims, "aud"), c.audience) {
		return false
	}
	if len(c.path) == 0 {
		return true
	}

	claim := valueAt(claims, c.path)
	isPresent := claim != "" && claim != nullValue
	if !isPresent {
		return false
	}
	if len(c.values) == 0 || c.hasValue(claim) {
		return true
	}

	// The claim may also be a list that contains one of the values. If it is not a list, cutField
	// returns "".

	list, _, _ := cutField(claim, tagList)
	for list != "" {
		var item string
		if item, list, _ = cutField(list, tagItem); c.hasValue(item) {
			return true
		}
	}

	return false
}

// hasValue reports whether a serialised Value is one of the values of the rule.
func (c *claimRule) hasValue(value string) bool {
	_, found := slices.BinarySearch(c.values, value)
	return found
}

// namesAudience reports whether aud names the audience. It must be a string or a list of strings
// (RFC 7519 section 4.1.3).
func namesAudience(aud, audience string) bool {
	named := aud == audience
	list, _, _ := cutField(aud, tagList)
	for list != "" {
		var item string
		item, list, _ = cutField(list, tagItem)
		if item[0] != tagString { // valid values are not empty
			return false
		}

		named = named || item == audience
	}

	return named
}

// A protobuf message is a sequence of fields. Each begins with a tag, which is eight times the
// number of the field plus its wire type, and always one byte here. The wire type says what
// follows: a varint, 8 bytes, or a length and as many bytes. A varint has seven bits in each byte,
// the lowest first, and the high bit of a byte says that another byte follows.
//
// A google.protobuf.Value has one of the fields from tagNull to tagList (struct.proto). A ListValue
// is a sequence of items. A Struct and a Metadata are maps: sequences of items, of which each has a
// key and a value.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2

	tagNull   = 1*8 + wireVarint
	tagNumber = 2*8 + wireFixed64
	tagString = 3*8 + wireBytes
	tagBool   = 4*8 + wireVarint
	tagObject = 5*8 + wireBytes
	tagList   = 6*8 + wireBytes

	tagItem  = 1*8 + wireBytes
	tagKey   = 1*8 + wireBytes
	tagValue = 2*8 + wireBytes
)

// Serialised Values: the tag and the data. The two zeros are float64s, lowest byte first.
const (
	nullValue         = "\x08\x00"
	falseValue        = "\x20\x00"
	trueValue         = "\x20\x01"
	zeroValue         = "\x11\x00\x00\x00\x00\x00\x00\x00\x00"
	negativeZeroValue = "\x11\x00\x00\x00\x00\x00\x00\x00\x80"
)

// cutField returns the data of the field that b begins with, and the rest of b after the field. It
// returns ok if the field has this tag, of the wire type wireBytes, and a length of at most four
// bytes, so less than 256 MiB.
func cutField(b string, tag byte) (data, rest string, ok bool) {
	if b == "" || b[0] != tag {
		return "", "", false
	}

	size := 0
	for i := 1; i < len(b) && i <= 4; i++ { // b[0] is the tag
		size |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 { // the last byte of the length
			if b = b[i+1:]; size > len(b) {
				break
			}
			return b[:size], b[size:], true
		}
	}

	return "", "", false
}

// splitEntry splits an item of a map into its key and its value, which serialisers write in this
// order. It returns ok if the item has nothing else.
func splitEntry(item string) (key, value string, ok bool) {
	key, item, _ = cutField(item, tagKey)
	value, rest, ok := cutField(item, tagValue)
	return key, value, ok && rest == ""
}

// member returns the value of a key in a message that is a map, or "" if the message is malformed,
// or does not have the key exactly once. It skips further fields of the message: Metadata has such
// fields, and a valid Struct does not.
func member(message, key string) (value string) {
	found := false
	for message != "" {
		tag := message[0]
		item, rest, ok := cutField(message, tag)
		message = rest
		isOtherField := tag != tagItem && tag < 0x80 && tag%8 == wireBytes // 0x80: a longer tag
		if ok && isOtherField {
			continue
		}

		k, v, isEntry := splitEntry(item)
		if tag != tagItem || !isEntry || found && k == key {
			return ""
		}
		if k == key {
			value, found = v, true
		}
	}

	return value
}

// valueAt returns the serialised Value at a path of names in a Struct, or "" if there is none. All
// names but the last must be those of objects.
func valueAt(object string, path []string) (value string) {
	for i, name := range path {
		if i > 0 {
			object, _, _ = cutField(value, tagObject)
		}
		value = member(object, name)
	}
	return value
}

// isValidValue reports whether a Value and all that it contains are well formed, and nest no deeper
// than depth.
func isValidValue(value string, depth int) bool {
	if len(value) < 2 {
		return false
	}

	tag := value[0]
	switch tag {
	case tagNull:
		return value == nullValue
	case tagBool:
		return value == falseValue || value == trueValue
	case tagNumber:
		return len(value) == len(zeroValue)
	case tagString, tagObject, tagList:
	default:
		return false
	}

	// What follows is for the kinds that have a length.
	data, rest, ok := cutField(value, tag)
	if !ok || rest != "" || depth == 0 {
		return false
	}
	if tag == tagString {
		return utf8.ValidString(data)
	}

	for data != "" {
		value, data, ok = cutField(data, tagItem)
		if tag == tagObject && ok {
			var name string
			name, value, ok = splitEntry(value)
			ok = ok && utf8.ValidString(name)
		}

		if !ok || !isValidValue(value, depth-1) {
			return false
		}
	}

	return true
}
