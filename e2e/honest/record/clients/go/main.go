// Command go sends requests with clients in Go: go CLIENT PLAN|URL.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
	"strings"
)

var clients = map[string]func(arg string) (version string, err error){
	"http":  func(plan string) (string, error) { return send(plan, http.DefaultTransport, "") },
	"http2": func(plan string) (string, error) { return send(plan, h2c(), ", HTTP/2") },
}

func main() {
	version, err := clients[os.Args[1]](os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(version)
}

func h2c() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// send sends the requests of a plan with net/http.
func send(plan string, transport http.RoundTripper, suffix string) (string, error) {
	data, err := os.ReadFile(plan)
	if err != nil {
		return "", err
	}

	var requests []struct {
		Method, URL string
		Headers     map[string]string
		Body        *string
		Chunked     bool
	}
	if err := json.Unmarshal(data, &requests); err != nil {
		return "", err
	}

	client := &http.Client{Transport: transport}
	for _, r := range requests {
		var body io.Reader
		if r.Body != nil {
			if body = strings.NewReader(*r.Body); r.Chunked {
				body = io.MultiReader(body)
			}
		}

		req, err := http.NewRequest(r.Method, r.URL, body)
		if err != nil {
			return "", err
		}
		for k, v := range r.Headers {
			req.Header.Set(k, v)
		}

		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return "net/http of " + runtime.Version() + suffix, nil
}
