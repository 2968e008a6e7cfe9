// A Function that speaks WebSocket: it echoes each message. When the pod is asked to stop, it closes with status 1001, "going
// away", so that clients know to connect again.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"pilotlight.dev/examples/internal/serve"
)

func main() {
	terminated := serve.Terminated()
	// http.Server.Shutdown doesn't wait for upgraded connections.
	var open sync.WaitGroup
	serve.Until(terminated, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Done()
		// Any origin may connect: the echo knows no user whom another site could abuse.
		connection, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{"*"}})
		if err != nil {
			return // Accept has answered already.
		}
		defer connection.CloseNow()
		go func() {
			select {
			case <-terminated.Done():
				_ = connection.Close(websocket.StatusGoingAway, "the pod is stopping; connect again")
			case <-r.Context().Done():
			}
		}()
		if err := echo(r.Context(), connection); err != nil && !closed(err) {
			log.Printf("connection: %v", err)
		}
	}))
	open.Wait()
}

// echo sends back each message until the connection ends.
func echo(ctx context.Context, connection *websocket.Conn) error {
	for {
		kind, message, err := connection.Read(ctx)
		if err != nil {
			return err
		}
		if err := connection.Write(ctx, kind, message); err != nil {
			return err
		}
	}
}

// closed tells whether err is the ordinary end of a connection.
func closed(err error) bool {
	return websocket.CloseStatus(err) != -1 || errors.Is(err, context.Canceled)
}
