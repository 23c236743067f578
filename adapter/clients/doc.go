// Package clients has only tests: real debug adapter clients attach to a live
// program through "darn dap" and patch it. Its script setup installs them.
package clients
