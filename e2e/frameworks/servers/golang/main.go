// Command golang has the Go servers of the rig: `golang net-http` and `golang gin`.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/handlers"
)

var counter atomic.Int64

var methods = []string{"POST", "PUT", "PATCH", "DELETE"}

// tenant is the host on which /tenant writes.
const tenant = "orders.test"

func main() {
	servers := map[string]func() http.Handler{"net-http": netHTTP, "gin": ginEngine}
	if len(os.Args) < 2 || servers[os.Args[1]] == nil {
		log.Fatal("usage: golang net-http|gin")
	}

	h := servers[os.Args[1]]()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", l.Addr())
	log.Fatal((&http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}).Serve(l))
}

// writes reports whether a request by this method to a resource, on a host, writes.
func writes(resource, method, host string) bool {
	host, _, _ = strings.Cut(host, ":")
	switch resource {
	case "orders":
		return slices.Contains(methods, method)
	case "search", "login":
		return slices.Contains(methods, method) && method != "POST"
	case "tenant":
		return slices.Contains(methods, method) && host == tenant
	case "logout":
		return method == "GET"
	}
	return false
}

func answer(resource, method, host string) string {
	if writes(resource, method, host) {
		return strconv.FormatInt(counter.Add(1), 10)
	}
	return "read"
}

// netHTTP is http.ServeMux behind gorilla/handlers: HTTPMethodOverrideHandler, which looks into the
// form and the headers of a POST, and ProxyHeaders, which also sets the host.
func netHTTP() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /__counter", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, counter.Load()) })
	for path, resource := range map[string]string{
		"/orders": "orders", "/orders/{$}": "orders", "/orders/{id}": "orders", "/search": "search", "/login": "login", "/tenant": "tenant", "/logout": "logout", "/healthz": "healthz",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer(resource, r.Method, r.Host)) })
	}

	return handlers.ProxyHeaders(handlers.HTTPMethodOverrideHandler(mux))
}

// ginEngine is gin with the lenient options of its router. The method is overridden before the
// router, because middleware of gin would come too late. It is taken from the header, the query and
// the form of any request.
func ginEngine() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectFixedPath, e.RemoveExtraSlash, e.UseRawPath, e.UnescapePathValues = true, true, true, true

	e.GET("/__counter", func(c *gin.Context) { c.String(http.StatusOK, "%d", counter.Load()) })
	for path, resource := range map[string]string{
		"/orders": "orders", "/orders/:id": "orders", "/search": "search", "/login": "login", "/tenant": "tenant", "/logout": "logout", "/healthz": "healthz",
	} {
		e.Any(path, func(c *gin.Context) { c.String(http.StatusOK, answer(resource, c.Request.Method, c.Request.Host)) })
	}

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Header.Get("X-HTTP-Method-Override")
		if method == "" {
			method = r.FormValue("_method")
		}
		if method != "" {
			r.Method = strings.ToUpper(method)
		}
		e.ServeHTTP(w, r)
	})
}
