package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// healthStatus is what Argo CD's health scripts return.
type healthStatus struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// Words that Argo CD knows; any other becomes Unknown there.
var known = []string{"Healthy", "Progressing", "Degraded", "Suspended", "Missing"}

// How long Argo CD lets a script run.
const patience = time.Second

// health runs an Argo CD health script as Argo CD does: the object is the global obj, few libraries are open, and what
// the script returns is a table.
func health(script string, object *unstructured.Unstructured) (*healthStatus, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return nil, fmt.Errorf("opening %s: %w", name, err)
		}
	}
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	state.SetContext(limited)
	state.SetGlobal("obj", luajson.DecodeValue(state, plain(object.DeepCopy().Object)))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	returned, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returned %s, not a table", state.Get(-1).Type())
	}
	text, err := luajson.Encode(returned)
	if err != nil {
		return nil, err
	}
	var said healthStatus
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, err
	}
	if !slices.Contains(known, said.Status) {
		return nil, fmt.Errorf("the script returned status %q, which Argo CD does not know", said.Status)
	}
	return &said, nil
}

// plain turns whole numbers, which gopher-json does not know, into Lua's only kind.
func plain(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			value[key] = plain(below)
		}
	case []any:
		for at, below := range value {
			value[at] = plain(below)
		}
	case int64:
		return float64(value)
	}
	return value
}
