package redis

import (
	"context"
	"encoding/json"
	"errors"
	"sort"
	"strings"
	"time"

	"github.com/karmesh/kar/runtime"
)

// mostMembers bounds what is taken from a list that anybody could fill.
const mostMembers = 10_000

// Announce sets the entry and reads all of them in one step, by Redis's clock.
func (r *Redis) Announce(ctx context.Context, m runtime.Member, ttl time.Duration) ([]runtime.Member, error) {
	entry, err := json.Marshal(m)
	if err != nil {
		return nil, runtime.Errorf(runtime.CodeInternal, "a gateway's entry cannot be written: %v", err)
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	key := []string{membersKey(r.cfg.Mesh)}
	list, err := r.scripts.announce.Run(ctx, r.client, key, m.Node, entry, ttl.Milliseconds()).StringSlice()
	if err == nil && len(list) == 0 {
		err = errAnswer
	}
	if err != nil {
		return nil, r.fault("announce this gateway", err)
	}
	if list[0] != "" {
		err = r.fault("announce this gateway", errors.New(list[0]))
	}
	return r.readMembers(list[1:]), err
}

// readMembers skips what it does not understand: an entry that another version
// or a person has spoiled must not hide all others.
func (r *Redis) readMembers(list []string) []runtime.Member {
	members := make([]runtime.Member, 0, len(list)/2)
	for i := 0; i+1 < len(list) && len(members) < mostMembers; i += 2 {
		_, text, _ := strings.Cut(list[i+1], " ")
		var m runtime.Member
		if err := json.Unmarshal([]byte(text), &m); err != nil || m.Node != list[i] || m.Node == "" {
			if field := list[i][:min(len(list[i]), 80)]; r.firstTime(field) {
				r.cfg.Logger.Warn("an entry in the list of gateways is skipped", "field", field, "error", err)
			}
			continue
		}
		members = append(members, m)
	}
	sort.Slice(members, func(i, j int) bool { return members[i].Node < members[j].Node })
	return members
}

// firstTime keeps the log short: the list is read twice a second.
func (r *Redis) firstTime(field string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.skipped[field] || len(r.skipped) >= 100 {
		return false
	}
	r.skipped[field] = true
	return true
}

func (r *Redis) Leave(ctx context.Context, node string) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	err := r.client.HDel(ctx, membersKey(r.cfg.Mesh), node).Err()
	return r.fault("leave the list of gateways", err)
}
