package tunnel

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	bootPrefix = "node-"
	bootRandom = 12 // bytes
	bootMark   = 4  // bytes
)

// NewBoot is a boot id for a host of an app: never used before, never used
// again. It ends with a mark of the app, so that any gateway can tell, without
// having heard of the host, that nobody speaks for a boot of another app.
func NewBoot(app string) string {
	var b [bootRandom]byte
	_, _ = rand.Read(b[:]) // never fails
	return bootPrefix + hex.EncodeToString(b[:]) + bootMarkOf(app)
}

// BootFits tells whether a boot id was made for the app.
func BootFits(boot, app string) bool {
	return len(boot) == len(bootPrefix)+2*(bootRandom+bootMark) &&
		strings.HasPrefix(boot, bootPrefix) && strings.HasSuffix(boot, bootMarkOf(app))
}

func bootMarkOf(app string) string {
	sum := sha256.Sum256([]byte("kar boot\x00" + app))
	return hex.EncodeToString(sum[:bootMark])
}
