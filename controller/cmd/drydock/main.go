// Drydock takes services behind Envoy out of service for their users, and keeps them
// open for those who work on them. This is its controller and its command line.
package main

import "github.com/drydock-proxy/drydock/controller/cli"

func main() { cli.Main() }
