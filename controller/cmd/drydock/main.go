// Command drydock is the controller of Drydock and its command line. Drydock puts services behind
// Envoy into maintenance, and lets the people who work on them through.
package main

import "github.com/drydock-proxy/drydock/controller/cli"

func main() { cli.Main() }
