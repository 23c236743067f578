// Package realworld has only tests: they patch well-known programs, fetched
// through the Go module proxy and built as their users build them.
package realworld
