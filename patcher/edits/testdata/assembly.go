package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"strings"
)

//go:noinline
func freshCode() string {
	data := bytes.Repeat([]byte("some data "), 1000)
	sum := sha256.Sum256(data)
	a, b := make([]byte, 5000), make([]byte, 5000)
	copy(a, data)
	copy(b[1:], a)
	if !bytes.Equal(a[:4999], b[1:]) || bytes.IndexByte(b, 'd') != 6 || bytes.Count(data, []byte("data")) != 1000 || strings.LastIndex(string(a), "some") != 4990 ||
		bytes.Compare(a, b) <= 0 {
		return "bytes"
	}
	clear(a)
	if slices.Max(a) != 0 || bits.TrailingZeros(8) != 3 {
		return "clear"
	}
	return hex.EncodeToString(sum[:4]) + " " + fmt.Sprintf("%x", crc32.ChecksumIEEE(data)) + " " + base64.StdEncoding.EncodeToString(sum[:3])
}
