//go:build !darnfault

// Package fault marks the steps of an operation: they lie between two writes to
// the target or to its registry. In a program built with the tag darnfault tests
// make something happen there, to Darn or to the target.
package fault

// Point is a step.
func Point() {}
