package runtime

// A ClaimView is what a gateway that is about to claim a partition knows of the
// gateway that has claimed it last, as it stands in the log.
type ClaimView struct {
	Me, Claimer string // "" when the log does not say
	// Found is the term of that claim, Known the last one of which this gateway
	// has heard otherwise, 0 for none.
	Found, Known uint64
	// The claimer certainly is gone; or it lives: it is listed, or it answers
	// here or to a gateway that does. Told: it has said here what it owns.
	Gone, Alive, Told bool
	// Losses is how often this gateway has lost the partition to the claimer
	// without being able to speak with it.
	Losses int
	// Waited is how long this gateway has known of the claim, and Lease that of
	// gateways, in the same unit.
	Waited, Lease int64
}

// A ClaimStep is what to do about the claim of another.
type ClaimStep uint8

const (
	ClaimNow ClaimStep = iota
	// Wait for ClaimPatience: it is dialled, and others say whether they know it.
	ClaimLater
	// It lives and is the owner.
	ClaimNever
	// The log lacks a term that a gateway has had: it has lost records, or is another one.
	ClaimLost
)

// NextClaimStep: nobody claims from a living owner, and who is not in the list of
// gateways may live all the same: the list may be read by one of the two only.
func NextClaimStep(v *ClaimView) ClaimStep {
	switch {
	case v.Known > v.Found && v.Waited < v.Lease:
		return ClaimLater
	case v.Known > v.Found:
		return ClaimLost
	case v.Found == 0 || v.Claimer == v.Me || v.Gone:
	case v.Losses == 0 && v.Known >= v.Found:
		// It has been heard of, and is not alive, or has said that it owns it no more.
	case v.Losses == 0 && v.Known == 0 && v.Claimer == "":
		// Of a log of before claims were signed: nobody can be asked.
	case v.Alive && !v.Told:
		return ClaimNever
	case v.Waited < ClaimPatience(v.Losses, v.Lease):
		return ClaimLater
	}
	return ClaimNow
}

// ClaimPatience is how long the claim of a gateway that cannot be reached is
// respected. Two that take a partition from each other do so ever more seldom.
func ClaimPatience(losses int, lease int64) int64 {
	return lease << (2 * min(max(losses, 0), 4))
}

// LastClaim names the node that has claimed the partition last and the address
// at which it can be asked, "" when the log does not say.
func (c *Core) LastClaim() (node, address string) { return c.claimNode, c.claimAddress }
