// Command gitops says what the tools that wait for objects make of them: kstatus (kubectl's and kpt's), Flux, and Argo CD with
// a health script. It reads objects, one JSON document after the other, from standard input, and prints a verdict for each, one a line.
//
// The verdicts are the tools' own: their libraries are called, and the script runs in the interpreter that Argo CD runs it in.
//
//	kubectl get function hello -o json | gitops "$(cat health.lua)"
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kstatus "sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// verdict is what each tool says of one object.
type verdict struct {
	Kstatus string `json:"kstatus"`
	Flux    string `json:"flux"`
	Argo    string `json:"argo"`
	// Words of kstatus and of Argo CD's script.
	Message     string `json:"message"`
	ArgoMessage string `json:"argoMessage"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gitops HEALTH-SCRIPT < objects.json")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(script string, in io.Reader, out io.Writer) error {
	documents, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var document json.RawMessage
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		// It keeps whole numbers whole only when it decodes for itself.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(document); err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		said, err := judge(script, object)
		if err != nil {
			return fmt.Errorf("judging %s: %w", object.GetName(), err)
		}
		if err := answers.Encode(said); err != nil {
			return fmt.Errorf("printing a verdict: %w", err)
		}
	}
}

func judge(script string, object *unstructured.Unstructured) (*verdict, error) {
	plain, err := kstatus.Compute(object)
	if err != nil {
		return nil, fmt.Errorf("kstatus: %w", err)
	}
	fluxs, err := flux.Compute(object)
	if err != nil {
		return nil, fmt.Errorf("flux: %w", err)
	}
	argo, err := health(script, object)
	if err != nil {
		return nil, fmt.Errorf("argo: %w", err)
	}
	return &verdict{
		Kstatus:     plain.Status.String(),
		Flux:        fluxs.Status.String(),
		Argo:        argo.Status,
		Message:     plain.Message,
		ArgoMessage: argo.Message,
	}, nil
}
