package runtime

import "time"

// A LeaseStep is what a host does about a partition whose owner it has not heard
// for some time.
type LeaseStep uint8

const (
	// Its work goes on.
	LeaseHolds LeaseStep = iota
	// Nothing new of it is begun, and its idle actors are deactivated: what is left
	// when the lease ends stops the app for the sake of this partition.
	LeaseEases
	// Nothing of it may run, or be active.
	LeaseOver
)

// NextLeaseStep is the rule. Age is how long ago the last beat was sent that the
// owner of the partition has answered, freshest the same of the owner that was
// heard last. While nobody is heard there is no work that easing could save: the
// app is stopped when the lease ends, and goes on with its actors as they were.
//
// No owner need be told of an actor that was deactivated so. It stays placed on
// this host, which activates it again when it is called.
func NextLeaseStep(age, freshest, lease time.Duration) LeaseStep {
	switch {
	case age > lease:
		return LeaseOver
	case age > lease*2/3 && freshest <= lease/2:
		return LeaseEases
	}
	return LeaseHolds
}
