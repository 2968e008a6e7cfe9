// A Function that streams Server-Sent Events: one each second, or each ?interval=, until ?count= of them were sent, the client
// goes, or the pod is asked to stop.
package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"pilotlight.dev/examples/internal/serve"
)

func main() {
	terminated := serve.Terminated()
	serve.Until(terminated, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		interval, count, err := parameters(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		stream(r.Context(), terminated, w, interval, count)
	}))
}

// parameters reads interval and count from the query; a count of 0 has no end.
func parameters(r *http.Request) (interval time.Duration, count int, err error) {
	interval = time.Second
	if text := r.URL.Query().Get("interval"); text != "" {
		if interval, err = time.ParseDuration(text); err != nil || interval < time.Millisecond {
			return 0, 0, fmt.Errorf("interval must be a duration of at least 1ms, such as 500ms, not %q", text)
		}
	}
	if text := r.URL.Query().Get("count"); text != "" {
		if count, err = strconv.Atoi(text); err != nil || count < 0 {
			return 0, 0, fmt.Errorf("count must be a whole number, 0 for no end, not %q", text)
		}
	}
	return interval, count, nil
}

// stream sends events, each flushed at once. At termination it ends between two events; browsers connect again by
// themselves, with the last event's id.
func stream(client, terminated context.Context, w http.ResponseWriter, interval time.Duration, count int) {
	flusher := http.NewResponseController(w)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for id := 1; ; id++ {
		if _, err := fmt.Fprintf(w, "id: %d\nevent: tick\ndata: %s\n\n", id, time.Now().UTC().Format(time.RFC3339Nano)); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil || id == count {
			return
		}
		select {
		case <-client.Done():
			return
		case <-terminated.Done():
			return
		case <-ticker.C:
		}
	}
}
