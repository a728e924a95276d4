// Package payload makes and checks test data that needs no file: a stream that
// is determined by its seed, looks random, and so does not compress or repeat.
package payload

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"math/rand/v2"
)

// Reader returns a reader of n bytes determined by seed.
func Reader(seed byte, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{0: seed}), n)
}

// Bytes returns the first n bytes of the stream of seed.
func Bytes(seed byte, n int) []byte {
	b := make([]byte, n)
	// A ChaCha8 reader never fails and always fills its buffer.
	_, _ = rand.NewChaCha8([32]byte{0: seed}).Read(b)
	return b
}

// Sum is the SHA-256 of n bytes of the stream of seed, in hex.
func Sum(seed byte, n int64) string {
	h := sha256.New()
	// Neither side of this copy can fail.
	_, _ = io.Copy(h, Reader(seed, n))
	return Hex(h)
}

// Hex is the digest of h in hex.
func Hex(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
