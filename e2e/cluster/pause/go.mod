// The sandbox container of every pod of the embedded cluster. See ../README.md.
module pilotlight.dev/e2e/cluster/pause

go 1.25.0
