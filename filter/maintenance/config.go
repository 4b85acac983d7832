package maintenance

import (
	"fmt"
	"slices"
	"time"
)

// Config is the filter's own configuration, from the proxy's. It holds before any
// state does.
type Config struct {
	// Cluster and Authority reach the controller's proxy listener.
	Cluster, Authority string
	// Name tells filters in one proxy apart that follow different controllers.
	Name string
	// BootWait is how long a request waits for the first state.
	BootWait time.Duration
	// Unknown is what holds when no state came in that time.
	Unknown Unknown
	// Exempt passes always: probes of the proxy itself, the controller.
	Exempt []PathRule
	exempt []grantRule
	// JWTMetadata is where the proxy puts the claims of a verified token: the
	// namespace of the dynamic metadata and the keys below it.
	JWTMetadata []string
	// AllowOnHeadersStopIteration says that Envoy's allow_on_headers_stop_iteration is set, so that
	// nothing of a held request goes upstream. Where it is not, headers go on and the
	// body is withheld.
	AllowOnHeadersStopIteration bool
	// BodyTimeout is how long a request that is held for its body may take to send all
	// of it, 1 s to 5 min.
	BodyTimeout time.Duration
}

// Unknown is a policy for the time without any state.
type Unknown string

const (
	UnknownAllow    Unknown = "allow"
	UnknownReadOnly Unknown = "read-only"
	UnknownDeny     Unknown = "deny"
)

// maxBootWait keeps a request from waiting longer than clients do; past maxBodyTimeout
// the proxy's own idle timeout ends a stream (stream_idle_timeout, 5 min by default).
const (
	maxBootWait    = time.Minute
	maxBodyTimeout = 5 * time.Minute
)

// ParseConfig reads the plugin configuration. Nothing given means the defaults;
// errors are those of [Parse].
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
		v.object(func(key string, v value) bool {
			switch key {
			case "controller":
				v.object(func(key string, v value) bool {
					switch key {
					case "cluster":
						c.Cluster = v.name()
					case "authority":
						c.Authority = v.name()
					default:
						return false
					}
					return true
				})
			case "name":
				if c.Name = v.str(); !validName(c.Name) {
					v.fail("%q must be 1 to 63 of a-z, 0-9 and -", c.Name)
				}
			case "boot_wait":
				seconds := v.float()
				if seconds < 0 || seconds > maxBootWait.Seconds() {
					v.fail("must be seconds, 0 to %d", int(maxBootWait.Seconds()))
				}
				c.BootWait = time.Duration(seconds * float64(time.Second))
			case "body_timeout":
				seconds := v.float()
				if seconds < 1 || seconds > maxBodyTimeout.Seconds() {
					v.fail("must be seconds, 1 to %d", int(maxBodyTimeout.Seconds()))
				}
				c.BodyTimeout = time.Duration(seconds * float64(time.Second))
			case "unknown":
				switch c.Unknown = Unknown(v.str()); c.Unknown {
				case UnknownAllow, UnknownReadOnly, UnknownDeny:
				default:
					v.fail("%q must be allow, read-only or deny", c.Unknown)
				}
			case "exempt":
				c.Exempt = v.pathRules()
			case "jwt_metadata":
				if c.JWTMetadata = v.strs(8); len(c.JWTMetadata) < 2 || slices.Contains(c.JWTMetadata, "") {
					v.fail("must be the namespace and at least one key, such as [\"envoy.filters.http.jwt_authn\", \"payload\"]")
				}
			case "allow_on_headers_stop_iteration":
				c.AllowOnHeadersStopIteration = v.bool()
			default:
				return false
			}
			return true
		})
	})
	if err == nil {
		check := checker{}
		check.grants("exempt", c.Exempt)
		check.readsNoBody("exempt", c.Exempt)
		c.exempt = compileGrants(c.Exempt)
		err = check.first
	}
	if err != nil {
		return nil, fmt.Errorf("reading the plugin configuration: %w", err)
	}
	return c, nil
}

// Exempts reports whether a request passes before any state is asked. Bodies are not
// held for it: a request that would have to show its body does not pass.
func (c *Config) Exempts(r *Request) bool {
	return grantedBy(c.exempt, r, 0) == answerYes
}

// UnknownState stands in while there is no state: the policy as a state whose
// default app catches everything.
func (c *Config) UnknownState() *State {
	doc := Document{Apps: []App{{Spec: Spec{Name: DefaultApp, RetryAfter: 5}}}}
	cause := Activation{ID: "unknown", Source: SourceManual, Mode: NoAccess, Message: "The maintenance state is not known yet. Please try again in a moment.", Since: time.Unix(0, 0).UTC()}
	switch c.Unknown {
	case UnknownReadOnly:
		cause.Mode = ReadOnly
		fallthrough
	case UnknownDeny:
		doc.Apps[0].Activations = []Activation{cause}
	}
	s, err := Compile(doc)
	if err != nil {
		panic("the unknown state must compile: " + err.Error())
	}
	return s
}
