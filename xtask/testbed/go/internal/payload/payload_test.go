package payload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"testing"
	"testing/iotest"
)

// The sum must not depend on the sizes in which somebody happens to read.
func TestTheStreamIsTheSameHoweverItIsRead(t *testing.T) {
	want := Bytes(1, 10_000)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "in halves": iotest.HalfReader,
	} {
		got, err := io.ReadAll(wrap(Reader(1, 10_000)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes differ, error %v", name, len(got), err)
		}
	}
	sum := sha256.Sum256(want)
	if got := Sum(1, 10_000); got != hex.EncodeToString(sum[:]) {
		t.Errorf("sum is %s", got)
	}
	if bytes.Equal(Bytes(2, 100), want[:100]) {
		t.Error("two seeds give the same stream")
	}
}
