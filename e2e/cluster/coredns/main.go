// Command coredns is CoreDNS with only the plugins that the embedded cluster's Corefile names.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

// The order in which a query passes through the plugins, whatever order the Corefile has. As upstream's plugin.cfg.
func init() {
	dnsserver.Directives = []string{"reload", "ready", "health", "errors", "log", "cache", "template", "kubernetes"}
}

func main() {
	coremain.Run()
}
