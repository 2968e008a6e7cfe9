// Command probe is the client of `helm test`: it asks a Function once it can be reached, and fails unless that request woke the
// Function from zero and was answered 200.
//
// It goes on trying only while the name doesn't resolve or the connection is refused, as both are while a Function
// is being set up; any HTTP answer is final.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"
)

// pause between two attempts to connect.
const pause = 500 * time.Millisecond

func main() {
	log.SetFlags(0)
	timeout := flag.Duration("timeout", 2*time.Minute, "how long to try in all")
	cold := flag.Bool("cold", false, "fail unless the answer says that the request woke the Function (pilotlight-cold-start: true)")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: probe [--timeout 2m] [--cold] URL")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		log.Fatalf("exactly one URL is needed, not %d", flag.NArg())
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := ask(ctx, flag.Arg(0), *cold); err != nil {
		log.Fatal(err)
	}
}

// ask requests url until something answers, and judges the answer.
func ask(ctx context.Context, url string, cold bool) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%q is no URL: %w", url, err)
	}
	for {
		began := time.Now()
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			defer response.Body.Close()
			return judge(url, response, time.Since(began), cold)
		}
		log.Printf("not reachable yet: %v", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s was not reachable in time: %w", url, err)
		case <-time.After(pause):
		}
	}
}

// judge prints an answer, and returns an error unless it is as it must be.
func judge(url string, response *http.Response, took time.Duration, cold bool) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return fmt.Errorf("%s broke off its answer: %w", url, err)
	}
	log.Printf("%s after %s: %s", response.Status, took.Round(time.Millisecond), strings.TrimSpace(string(body)))
	if timing := response.Header.Get("Server-Timing"); timing != "" {
		log.Printf("cold start by phase, in ms: %s", timing)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s (reason %q) instead of 200", url, response.Status, response.Header.Get("pilotlight-reason"))
	}
	if cold && response.Header.Get("pilotlight-cold-start") != "true" {
		return fmt.Errorf("%s was answered, but not by a Function that this request woke: the header pilotlight-cold-start is missing", url)
	}
	return nil
}
