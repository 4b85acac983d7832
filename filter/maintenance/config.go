package maintenance

import (
	"fmt"
	"slices"
	"time"
)

// Config is the plugin configuration of the filter. The operator writes it as JSON into the
// configuration of Envoy or Istio, and the filter has it before it has a state.
type Config struct {
	// Cluster is Envoy's name for the controller's proxy listener, and Authority the :authority of
	// requests to it.
	Cluster, Authority string
	// Name distinguishes the filters in one proxy that follow different controllers.
	Name string
	// BootWait is how long a request waits for the first state, at most 1 min. The default is 2 s.
	BootWait time.Duration
	// Unknown applies if no state came within BootWait.
	Unknown Unknown
	// Exempt lists requests that always pass: probes of the proxy itself, or the controller.
	Exempt []PathRule
	exempt []grantRule // compiled from Exempt
	// JWTMetadata is where the proxy puts the claims of a verified token: the namespace of the
	// dynamic metadata and the keys below it.
	JWTMetadata []string
	// AllowOnHeadersStopIteration must be the value of Envoy's option of this name. If it is set,
	// nothing of a paused request goes upstream. Otherwise headers go on, and only the body is
	// withheld.
	AllowOnHeadersStopIteration bool
	// BodyTimeout is how long a request that is paused for its body may take to send all of it, 1 s
	// to 5 min. The default is 30 s.
	BodyTimeout time.Duration
}

// Unknown is the policy for requests while the filter has no state.
type Unknown string

const (
	UnknownAllow    Unknown = "allow"
	UnknownReadOnly Unknown = "read-only"
	UnknownDeny     Unknown = "deny"
)

const (
	// maxBootWait is about as long as clients wait for an answer.
	maxBootWait = time.Minute
	// maxBodyTimeout is Envoy's default of stream_idle_timeout, after which it ends a stream.
	maxBodyTimeout = 5 * time.Minute
	// maxMetadataPath is more than any filter needs, which have one or two keys.
	maxMetadataPath = 8
)

// ParseConfig reads the plugin configuration. Absent fields, and an empty configuration, mean the
// defaults. Errors are those of [Parse].
func ParseConfig(data []byte) (*Config, error) {
	c := &Config{
		Cluster:     "drydock",
		Authority:   "drydock",
		Name:        "drydock",
		BootWait:    2 * time.Second,
		Unknown:     UnknownAllow,
		JWTMetadata: []string{"envoy.filters.http.jwt_authn", "payload"},
		BodyTimeout: 30 * time.Second,
	}
	if len(data) == 0 {
		return c, nil
	}

	err := decode(data, func(v value) {
		v.object(func(key string, v value) bool { return v.configField(key, c) })
	})
	if err == nil {
		err = c.compile()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the plugin configuration: %w", err)
	}

	return c, nil
}

// configField reads one field of the configuration, and reports whether it has a field of this
// name.
func (v value) configField(key string, c *Config) bool {
	switch key {
	case "controller":
		v.object(func(key string, v value) bool { return v.controllerField(key, c) })
	case "name":
		if c.Name = v.str(); !validName(c.Name) {
			v.fail("%q must be 1 to 63 of a-z, 0-9 and -", c.Name)
		}
	case "boot_wait":
		c.BootWait = v.seconds(0, maxBootWait)
	case "body_timeout":
		c.BodyTimeout = v.seconds(time.Second, maxBodyTimeout)
	case "unknown":
		switch c.Unknown = Unknown(v.str()); c.Unknown {
		case UnknownAllow, UnknownReadOnly, UnknownDeny:
		default:
			v.fail("%q must be allow, read-only or deny", c.Unknown)
		}
	case "exempt":
		c.Exempt = v.pathRules()
	case "jwt_metadata":
		c.JWTMetadata = v.strs(maxMetadataPath)
		if len(c.JWTMetadata) < 2 || slices.Contains(c.JWTMetadata, "") {
			v.fail("must be the namespace and at least one key, such as [\"envoy.filters.http.jwt_authn\", \"payload\"]")
		}
	case "allow_on_headers_stop_iteration":
		c.AllowOnHeadersStopIteration = v.bool()
	default:
		return false
	}

	return true
}

// controllerField reads one field of "controller", and reports whether "controller" has a field of
// this name.
func (v value) controllerField(key string, c *Config) bool {
	switch key {
	case "cluster":
		c.Cluster = v.name()
	case "authority":
		c.Authority = v.name()
	default:
		return false
	}

	return true
}

// seconds reads a number of seconds, which may have a fraction, and fails unless it is from least
// to most.
func (v value) seconds(least, most time.Duration) time.Duration {
	seconds := v.float()
	if seconds < least.Seconds() || seconds > most.Seconds() {
		v.fail("must be seconds, %d to %d", int(least.Seconds()), int(most.Seconds()))
	}
	return time.Duration(seconds * float64(time.Second))
}

// compile checks and compiles the exemptions.
func (c *Config) compile() error {
	check := checker{}
	check.grants("exempt", c.Exempt)
	check.withoutBodies("exempt", c.Exempt)
	c.exempt = compileGrants(c.Exempt)
	return check.err
}

// Exempts reports whether a request passes whatever the state is. A request that can only pass
// after its body was read does not.
func (c *Config) Exempts(r *Request) bool {
	const maxBody = 0 // no body is read
	return grantedBy(c.exempt, r, maxBody) == answerYes
}

// unknownRetryAfter is the Retry-After while the filter has no state, in seconds. It is short
// because the state usually arrives in a moment.
const unknownRetryAfter = 5

// UnknownState returns the state by which every request is decided while the filter has none. It
// has one app, in the mode that Unknown names.
func (c *Config) UnknownState() *State {
	doc := Document{Apps: []App{{Spec: Spec{Name: DefaultApp, RetryAfter: unknownRetryAfter}}}}
	active := Activation{
		ID: "unknown", Source: SourceManual,
		Since:   time.Unix(0, 0).UTC(), // Compile requires a time
		Message: "The maintenance state is not known yet. Please try again in a moment.",
	}
	switch c.Unknown {
	case UnknownReadOnly:
		active.Mode = ReadOnly
	case UnknownDeny:
		active.Mode = NoAccess
	}

	if active.Mode != "" {
		doc.Apps[0].Activations = []Activation{active}
	}

	s, err := Compile(doc)
	if err != nil {
		panic("the unknown state must compile: " + err.Error())
	}

	return s
}
