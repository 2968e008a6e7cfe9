// Package serve runs an HTTP server to the container contract that the Go examples share: it listens on $PORT, and at SIGTERM
// it takes no new connection, finishes what it has begun, and returns.
package serve

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Grace is how long requests may take to finish after SIGTERM. It stays below the 30 seconds after which Kubernetes sends
// SIGKILL by default.
const Grace = 25 * time.Second

// Port is the value of $PORT, or 8080 outside a cluster.
func Port() string {
	if port := os.Getenv("PORT"); port != "" {
		return port
	}
	return "8080"
}

// Revision is the name of the revision that runs, or "my machine" outside a cluster.
func Revision() string {
	if revision := os.Getenv("K_REVISION"); revision != "" {
		return revision
	}
	return "my machine"
}

// Terminated returns a context that ends at SIGTERM or SIGINT.
func Terminated() context.Context {
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	return ctx
}

// Until serves handler until ctx ends, and then until every request is answered. A handler whose response has no end of its
// own has to look at ctx too.
func Until(ctx context.Context, handler http.Handler) {
	server := &http.Server{
		Addr:              ":" + Port(),
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.Background(), Grace)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			log.Printf("requests were cut off after %s: %v", Grace, err)
		}
	}()
	log.Printf("listening on port %s", Port())
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-done
}
