// A Function that needs a while until it can answer, as one does that loads a model or warms a cache. Meanwhile it listens
// already, and answers 503, so that only its readiness probe tells when it is ready.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"pilotlight.dev/examples/internal/serve"
)

func main() {
	setting := os.Getenv("START_DURATION")
	if setting == "" {
		setting = "5s"
	}
	duration, err := time.ParseDuration(setting)
	if err != nil {
		log.Fatalf("START_DURATION must be a duration such as 5s or 1m30s, not %q", setting)
	}
	var ready atomic.Bool
	time.AfterFunc(duration, func() {
		ready.Store(true)
		log.Printf("ready after %s", duration)
	})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "still starting", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			http.Error(w, "asked before it was ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "Ready after %s. (%s)\n", duration, serve.Revision())
	})
	serve.Until(serve.Terminated(), mux)
}
