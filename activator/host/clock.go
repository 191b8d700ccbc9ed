package host

import (
	"time"

	"github.com/karmesh/kar/activator/tunnel"
)

// clockOff is how far the clocks of two machines may differ without a word.
const clockOff = time.Minute

// A gatewayClock is the gateway's wall clock as far as this host knows it. Owners judge
// the age of an id by it, so ids are made by it, whatever the clock of this machine says.
// The host's mutex guards it.
type gatewayClock struct {
	own   func() time.Time // this machine's, used until a gateway has told its own
	told  bool
	ahead int64 // milliseconds by which it is ahead of the boot time
}

// now is in milliseconds since 1970.
func (c *gatewayClock) now() int64 {
	if !c.told {
		return c.own().UnixMilli()
	}
	return tunnel.BootTime().Milliseconds() + c.ahead
}

// heard takes what the gateway's clock said between two boot times. What was known before
// stays where it may be right, so a slow answer makes nothing worse. The result is how far
// this machine's own clock is ahead of the gateway's, as far as that is certain.
func (c *gatewayClock) heard(wall int64, asked, got time.Duration) time.Duration {
	if wall <= 0 {
		return 0 // an older gateway, which does not say it
	}
	least, most := wall-got.Milliseconds(), wall-asked.Milliseconds()
	own := c.own().UnixMilli() - tunnel.BootTime().Milliseconds()
	if !c.told {
		c.told, c.ahead = true, own
	}
	c.ahead = min(max(c.ahead, least), most)
	return time.Duration(own-min(max(own, least), most)) * time.Millisecond
}

// hearClock takes the time of a gateway that this host attaches to; h.mu is held.
func (h *Host) hearClock(wall int64, asked time.Duration) {
	off := h.clock.heard(wall, asked, tunnel.BootTime())
	if off.Abs() > clockOff {
		h.cfg.Logger.Warn("the clock of this machine differs from that of the gateway, by which request ids are made here: set them, with NTP for instance",
			"aheadOfTheGateway", off.Round(time.Second))
	}
}
