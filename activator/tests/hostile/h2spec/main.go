// Command h2spec runs every test of github.com/summerwind/h2spec against a server and prints one line for each:
// PASS, FAIL or SKIP, the test's place in the specification, and what it is about. Failures tell what came instead.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

func main() {
	log.SetFlags(0)
	c := &config.Config{Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, Insecure: true}
	flag.StringVar(&c.Host, "host", "127.0.0.1", "address of the server")
	flag.IntVar(&c.Port, "port", 0, "port of the server")
	flag.BoolVar(&c.TLS, "tls", false, "speak HTTP/2 over TLS; the certificate is not verified")
	flag.Parse()
	if c.TLS {
		if err := reachable(c); err != nil {
			log.Fatal(err)
		}
	}
	// h2spec writes its own report to standard output.
	out := os.Stdout
	os.Stdout = os.Stderr
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		report(out, group)
	}
}

// reachable tells a server without TLS from one that fails tests.
func reachable(c *config.Config) error {
	connection, err := tls.Dial("tcp", c.Addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		return fmt.Errorf("no TLS on %s: %w", c.Addr(), err)
	}
	return connection.Close()
}

func report(out *os.File, group *spec.TestGroup) {
	for number, test := range group.Tests {
		verdict, detail := "PASS", ""
		switch result := test.Result; {
		case result == nil:
			verdict = "SKIP"
		case result.Failed:
			verdict = "FAIL"
			detail = strings.ReplaceAll(fmt.Sprintf(" (%v)", result.Error), "\n", " ")
		case result.Skipped:
			verdict = "SKIP"
		}
		fmt.Fprintf(out, "%s %s/%d %s%s\n", verdict, group.ID(), number+1, test.Desc, detail)
	}
	for _, inner := range group.Groups {
		report(out, inner)
	}
}
