//go:build !ts_debug_websockets

package target

// webSocketsBuilt says whether Go's client was compiled with WebSocket
// support, which on Linux needs a build tag.
const webSocketsBuilt = false
