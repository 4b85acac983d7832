// Command drydock is the controller of Drydock and its command line. Drydock puts services behind
// Envoy or Istio into maintenance, and keeps them open for the people who work on them.
package main

import "github.com/drydock-proxy/drydock/controller/cli"

func main() { cli.Main() }
