// The smallest Function in Go: it answers every request with one line of text.
package main

import (
	"fmt"
	"net/http"

	"pilotlight.dev/examples/internal/serve"
)

func main() {
	serve.Until(serve.Terminated(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "Hello from Go! (%s)\n", serve.Revision())
	}))
}
