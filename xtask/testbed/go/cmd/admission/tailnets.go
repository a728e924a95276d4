package main

import "context"

// tailnetCases stand alone.
var tailnetCases = []struct {
	name string
	ours bool
	run  func(context.Context, *lab) (detail string, err error)
}{}
