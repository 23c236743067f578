//go:build withcgo

package main

import _ "net" // C code comes with it
